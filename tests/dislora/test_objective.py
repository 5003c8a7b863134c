from dataclasses import replace

import torch
from diffusers import EulerDiscreteScheduler

from d2plan.adapter.attach import attach_adapter
from d2plan.backbone.attention import ColumnRead, TapPlan, coarsest_level, tap_columns
from d2plan.backbone.load import Backbone
from d2plan.backbone.sdxl import encode_prompts, null_states, predict, time_ids
from d2plan.dislora.diffusion import diffuse_latents, make_target
from d2plan.dislora.draw import Batch, BatchDraw, split_batch
from d2plan.dislora.lessons import Lessons
from d2plan.dislora.losses import attention_loss, normalise_map
from d2plan.dislora.maps import read_class_maps
from d2plan.dislora.objective import Losses, compute_losses, compute_plain_loss, compute_prior_loss
from tests.dislora.concept import SETTINGS, make_lessons


def _losses(backbone: Backbone, lessons: Lessons, batch: Batch, **changes: object) -> Losses:
    with compute_losses(backbone, lessons, batch, replace(SETTINGS, **changes), null_states(backbone, 1)) as losses:
        return losses


def test_a_short_pass_gives_the_maps_of_a_whole_one(tiny: Backbone) -> None:
    lessons = make_lessons(tiny)
    latents = torch.stack([lessons.latents[0][0], lessons.latents[1][0]])
    level = coarsest_level(tiny.unet, tuple(latents.shape[-2:]))
    timesteps, numbers = torch.tensor([10, 700]), lessons.rows[:2, 0].tolist()
    text = lessons.frozen[numbers]
    spans = [lessons.spans[number] for number in numbers]
    short = read_class_maps(tiny, latents, timesteps, text, spans, level)
    plan = TapPlan(reads=tuple(ColumnRead(row, span) for row, span in enumerate(spans)))
    with torch.no_grad(), tap_columns(tiny.unet, plan) as tap:
        predict(tiny, latents, timesteps, text, time_ids(tiny, 2, (64, 64)))
    assert torch.equal(short, tap.maps(level))
    assert len(tiny.unet.up_blocks[0]._forward_hooks) == 0


def test_the_attention_loss_compares_the_bare_class_map_with_the_identifier_map(tiny: Backbone) -> None:
    lessons = make_lessons(tiny)
    batch = BatchDraw(lessons, 3, 0.5, 0.0, 1000, 5).draw()
    batch = replace(batch, dropped=torch.tensor([False, True, False]))
    with attach_adapter(tiny, 2) as attached:
        with torch.no_grad():
            for parameter in attached.unet:
                parameter.add_(0.05)
        losses = _losses(tiny, lessons, batch)
        shown = [0, 2]
        kept = tiny.scheduler.alphas_cumprod[batch.timesteps]
        noisy = diffuse_latents(batch.latents, batch.noise, kept)
        level = coarsest_level(tiny.unet, tuple(noisy.shape[-2:]))
        maps = []
        for row in shown:
            number = int(batch.own[row])
            with torch.no_grad(), tap_columns(tiny.unet, TapPlan((), (ColumnRead(0, lessons.spans[number]),))) as tap:
                text = encode_prompts(tiny, [lessons.prompts[number]])
                predict(tiny, noisy[[row]], batch.timesteps[[row]], text, time_ids(tiny, 1, (64, 64)))
            maps.append(tap.maps(level))
    plain = batch.plain[shown].tolist()
    bare = read_class_maps(
        tiny, noisy[shown], batch.timesteps[shown], lessons.frozen[plain], [lessons.spans[n] for n in plain], level
    )
    expected = attention_loss(normalise_map(bare), normalise_map(torch.cat(maps)))
    torch.testing.assert_close(losses.attention.detach(), expected, atol=1e-4, rtol=1e-3)
    assert float(expected) > 1e-3


def test_the_attention_loss_alone_teaches_the_unet(tiny: Backbone) -> None:
    lessons = make_lessons(tiny)
    batch = BatchDraw(lessons, 2, 0.5, 0.0, 1000, 5).draw()
    with attach_adapter(tiny, 2) as attached:
        with compute_losses(tiny, lessons, batch, SETTINGS, null_states(tiny, 1)) as losses:
            losses.attention.backward()
        ups = [parameter.grad for parameter in attached.unet[1::2] if parameter.grad is not None]
    assert any(grad.abs().sum() > 0 for grad in ups)


def test_without_its_weight_the_attention_loss_costs_no_pass(tiny: Backbone) -> None:
    lessons = make_lessons(tiny)
    draw = BatchDraw(lessons, 2, 0.5, 0.0, 1000, 5)
    calls = []
    handle = tiny.unet.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        _losses(tiny, lessons, draw.draw())
        assert len(calls) == 2
        _losses(tiny, lessons, draw.draw(), attention_weight=0.0)
        assert len(calls) == 3
        hidden = replace(draw.draw(), dropped=torch.tensor([True, True]))
        assert _losses(tiny, lessons, hidden).attention == 0
        assert len(calls) == 4
    finally:
        handle.remove()


def test_a_dropped_row_is_trained_on_the_null_prompt(tiny: Backbone) -> None:
    lessons = make_lessons(tiny, masked=False)
    batch = replace(BatchDraw(lessons, 1, 0.5, 0.0, 1000, 5).draw(), dropped=torch.tensor([True]))
    nulls = null_states(tiny, 1)
    with torch.no_grad():
        loss = _losses(tiny, lessons, batch).ldm
        kept = tiny.scheduler.alphas_cumprod[batch.timesteps]
        noisy = diffuse_latents(batch.latents, batch.noise, kept)
        prediction = predict(tiny, noisy, batch.timesteps, nulls, time_ids(tiny, 1, (64, 64)))
    torch.testing.assert_close(loss, (prediction - batch.noise).square().mean())


def test_a_velocity_base_is_trained_on_velocity(tiny: Backbone) -> None:
    scheduler = EulerDiscreteScheduler.from_config(
        tiny.scheduler.config, prediction_type="v_prediction", rescale_betas_zero_snr=True
    )
    velocity = replace(tiny, scheduler=scheduler)
    lessons = make_lessons(velocity, masked=False)
    batch = replace(BatchDraw(lessons, 1, 0.5, 0.0, 1000, 5).draw(), dropped=torch.tensor([True]))
    nulls = null_states(tiny, 1)
    with torch.no_grad():
        loss = _losses(velocity, lessons, batch).ldm
        kept = scheduler.alphas_cumprod[batch.timesteps]
        noisy = diffuse_latents(batch.latents, batch.noise, kept)
        prediction = predict(tiny, noisy, batch.timesteps, nulls, time_ids(tiny, 1, (64, 64)))
    target = make_target("v_prediction", batch.latents, batch.noise, kept)
    torch.testing.assert_close(loss, (prediction - target).square().mean())


def test_the_prior_loss_is_the_error_on_class_images_with_the_class_prompt(tiny: Backbone) -> None:
    lessons = make_lessons(tiny, prior_images=2)
    prior = BatchDraw(lessons, 2, 0.5, 0.0, 1000, 5).draw().prior
    assert prior is not None
    with torch.no_grad():
        loss = compute_prior_loss(tiny, lessons, prior, SETTINGS)
        noisy = diffuse_latents(prior.latents, prior.noise, tiny.scheduler.alphas_cumprod[prior.timesteps])
        text = lessons.frozen[prior.prompts.tolist()]
        prediction = predict(tiny, noisy, prior.timesteps, text, time_ids(tiny, 2, (128, 128)))
    torch.testing.assert_close(loss, (prediction - prior.noise).square().mean())


def test_the_means_of_a_batchs_parts_are_the_losses_of_the_whole(tiny: Backbone) -> None:
    lessons = make_lessons(tiny)
    batch = replace(BatchDraw(lessons, 4, 0.5, 0.0, 1000, 5).draw(), dropped=torch.tensor([True, False, False, False]))
    with attach_adapter(tiny, 2) as attached, torch.no_grad():
        for parameter in (*attached.unet, *attached.text):
            parameter.add_(0.02)
        whole = _losses(tiny, lessons, batch)
        parts = [_losses(tiny, lessons, part) for part in split_batch(batch, 2)]
    for name in ("ldm", "token", "attention"):
        mean = torch.stack([getattr(part, name) for part in parts]).mean()
        torch.testing.assert_close(mean, getattr(whole, name), atol=1e-5, rtol=1e-4)


def test_the_product_form_of_the_overlap_can_be_chosen(tiny: Backbone) -> None:
    lessons = make_lessons(tiny)
    batch = BatchDraw(lessons, 2, 0.5, 0.0, 1000, 5).draw()
    with torch.no_grad():
        apart = _losses(tiny, lessons, batch, attention_overlap="product").attention
        assert apart > _losses(tiny, lessons, batch).attention > 0


def test_the_plain_loss_is_how_far_the_answer_to_the_class_prompt_has_moved(tiny: Backbone) -> None:
    lessons = make_lessons(tiny)
    batch = BatchDraw(lessons, 2, 0.5, 0.0, 1000, 5).draw()
    noisy = diffuse_latents(batch.latents, batch.noise, tiny.scheduler.alphas_cumprod[batch.timesteps])
    plain = batch.plain.tolist()
    ids = time_ids(tiny, 2, (64, 64))
    with torch.no_grad():
        before = predict(tiny, noisy, batch.timesteps, lessons.frozen[plain], ids)
    with attach_adapter(tiny, 2) as attached:
        assert compute_plain_loss(tiny, lessons, batch, SETTINGS) < 1e-10  # rounding alone
        with torch.no_grad():
            for up in (*attached.unet[1::2], *attached.text[1::2]):
                up.normal_(generator=torch.Generator().manual_seed(0))
        loss = compute_plain_loss(tiny, lessons, batch, SETTINGS)
        loss.backward()
        with torch.no_grad():
            tuned = encode_prompts(tiny, [lessons.prompts[number] for number in plain])
            after = predict(tiny, noisy, batch.timesteps, tuned, ids)
        grads = [up.grad for up in (*attached.unet[1::2], *attached.text[1::2])]
    torch.testing.assert_close(loss.detach(), (after - before).square().mean())
    assert loss > 1e-3
    assert all(grad is not None and grad.abs().sum() > 0 for grad in grads[:4])
