import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler

from d2plan.adapter.attach import attach_adapter
from d2plan.adapter.file import Adapter
from d2plan.backbone.attention import ColumnRead, TapPlan, coarsest_level, tap_columns
from d2plan.backbone.load import Backbone
from d2plan.backbone.sdxl import encode_prompts, null_states, predict, time_ids
from d2plan.config import DisLoRASettings
from d2plan.dislora.data import ConceptData
from d2plan.dislora.diffusion import diffuse_latents, make_target
from d2plan.dislora.lessons import BatchDraw, LessonChoices, Lessons, prepare_lessons
from d2plan.dislora.losses import attention_loss, normalise_map
from d2plan.dislora.maps import read_class_maps
from d2plan.dislora.train import (
    TrainRequest,
    compute_losses,
    describe_request,
    finish_training,
    reserved_identifiers,
    train_steps,
)
from d2plan.errors import InputError

CAPTIONS = ("a photo of a dog running on the beach", None, "a red dog on the left", "a car in the snow")
CHOICES = LessonChoices("dog", "<v1>")
SETTINGS = DisLoRASettings(rank=2, unet_rate=1e-2, text_rate=1e-2, steps=2, batch_size=2)


def _data(size: int = 64, captions: tuple[str | None, ...] = CAPTIONS) -> ConceptData:
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (len(captions), 8, 8, 3), dtype=np.uint8)
    images = blocks.repeat(size // 8, 1).repeat(size // 8, 2)
    mask = np.zeros((size, size), dtype=np.float32)
    mask[:, : size // 4] = 1
    names = tuple(f"{number}.png" for number in range(len(captions)))
    return ConceptData(names, images, captions, (mask, *[None] * (len(captions) - 1)))


def _request(seed: int = 0, **changes: object) -> TrainRequest:
    return TrainRequest("rex", CHOICES, replace(SETTINGS, **changes), seed)


def _digest(backbone: Backbone) -> str:
    digest = hashlib.sha256()
    for model in (backbone.unet, *backbone.text_encoders, backbone.vae):
        for name, tensor in model.state_dict().items():
            digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def _same(first: Adapter, second: Adapter) -> bool:
    return all(
        torch.equal(first.deltas[path].down, second.deltas[path].down)
        and torch.equal(first.deltas[path].up, second.deltas[path].up)
        for path in first.deltas
    )


def _lessons(backbone: Backbone, **changes: object) -> Lessons:
    return prepare_lessons(backbone, _data(), replace(CHOICES, **changes))


def test_the_same_request_gives_the_same_adapter_and_another_seed_another(tiny: Backbone) -> None:
    torch.manual_seed(1)
    first = finish_training(train_steps(tiny, _data(), _request()))
    torch.manual_seed(2)
    again = finish_training(train_steps(tiny, _data(), _request()))
    other = finish_training(train_steps(tiny, _data(), _request(seed=1)))
    assert _same(first, again)
    assert not _same(first, other)


def test_every_attention_layer_learns_and_the_base_is_left_as_it_was(tiny: Backbone) -> None:
    before = _digest(tiny)
    steps = train_steps(tiny, _data(), _request())
    reports = [next(steps) for _ in range(2)]
    adapter = finish_training(steps)
    assert _digest(tiny) == before
    assert (adapter.class_word, adapter.identifier, adapter.name) == ("dog", "<v1>", "rex")
    assert adapter.base_fingerprint == tiny.fingerprint
    parts = {path.split(".")[0] for path in adapter.deltas}
    assert parts == {"unet", "text_encoder", "text_encoder_2"}
    # The last layer of each text encoder lies behind the states that the U-Net reads.
    idle = [path for path, delta in adapter.deltas.items() if not delta.up.any()]
    assert all(path.startswith("text_encoder.") and ".layers.2." in path for path in idle)
    assert [report.step for report in reports] == [1, 2]
    for report in reports:
        weighted = report.ldm + 1e-3 * report.token + 1e-2 * report.attention
        assert report.loss == pytest.approx(weighted, rel=1e-5)
        assert report.images_per_second > 0 and 0 <= report.attention <= 1
    assert reports[0].token == pytest.approx(0, abs=1e-6)
    assert reports[1].token > 1e-6


def test_a_training_that_is_stopped_leaves_the_base_as_it_was(tiny: Backbone) -> None:
    before = _digest(tiny)
    grads = [parameter.requires_grad for parameter in tiny.unet.parameters()]
    steps = train_steps(tiny, _data(), _request())
    next(steps)
    steps.close()
    assert _digest(tiny) == before
    assert [parameter.requires_grad for parameter in tiny.unet.parameters()] == grads


def test_training_lowers_the_loss_on_the_concept(tiny: Backbone) -> None:
    data = _data(size=64, captions=(None,))
    lessons = prepare_lessons(tiny, data, replace(CHOICES, masked=False))
    batch = BatchDraw(lessons, 4, 0.5, 0.0, 1000, 99).draw()
    nulls = null_states(tiny, 1)

    def measure() -> float:
        with torch.no_grad():
            return float(compute_losses(tiny, lessons, batch, plain, nulls).ldm)

    plain = replace(SETTINGS, attention_weight=0.0, steps=10)
    before = measure()
    for report in train_steps(tiny, data, replace(_request(), settings=plain)):
        if report.step == plain.steps:
            after = measure()
    assert after < 0.99 * before


def test_tuned_context_states_on_the_class_prompt_equal_those_on_the_identifier_prompt(tiny: Backbone) -> None:
    lessons = _lessons(tiny)
    with attach_adapter(tiny, 2) as attached, torch.no_grad():
        for parameter in attached.text:
            parameter.add_(0.1)
        tuned = encode_prompts(tiny, lessons.prompts).states
    assert not torch.allclose(tuned, lessons.frozen.states, atol=1e-2)
    for row in lessons.rows.tolist():
        end = int(lessons.ends[row[0]])
        assert end >= 2
        for other in row[1:]:
            torch.testing.assert_close(tuned[row[0], :end], tuned[other, :end], atol=1e-5, rtol=1e-5)


def test_the_identifier_stands_where_the_class_word_stood(tiny: Backbone) -> None:
    lessons = _lessons(tiny)
    spans = [[lessons.spans[number] for number in row] for row in lessons.rows.tolist()]
    assert spans[0] == [(5,), (5,), (5,)]
    assert spans[2] == [(3,), (3,), (3,)]
    assert lessons.prompts[lessons.rows[0, 2]] == "a photo of a <v1> dog running on the beach"
    assert lessons.prompts[lessons.rows[1, 1]] == "a photo of a <v1>"
    assert lessons.rows[3].tolist() == lessons.rows[1].tolist(), "a caption without the class word: the template"
    assert len(lessons.notes) == 1 and "3.png" in lessons.notes[0]


def test_the_second_of_two_alike_words_is_found_when_it_is_the_one_meant(tiny: Backbone) -> None:
    data = _data(captions=("a dog and a <v1> dog",))
    lessons = prepare_lessons(tiny, data, CHOICES)
    assert [lessons.spans[number] for number in lessons.rows[0].tolist()] == [(5,), (5,), (5,)]


def test_mirrored_latents_are_those_of_the_mirrored_picture_with_its_mask(tiny: Backbone) -> None:
    lessons = _lessons(tiny)
    flipped = replace(_data(), images=_data().images[:, :, ::-1])
    again = prepare_lessons(tiny, flipped, CHOICES)
    torch.testing.assert_close(lessons.latents[:, 1], again.latents[:, 0], atol=1e-5, rtol=1e-5)
    assert lessons.mirrors.tolist() == [True, True, False, True]
    assert not _lessons(tiny, flip=False).mirrors.any()
    assert lessons.weights is not None
    assert lessons.weights[0, 0, 0, 0, 0] == 1 and lessons.weights[0, 0, 0, 0, -1] == pytest.approx(0.1)
    assert lessons.weights[0, 1, 0, 0, -1] == 1 and (lessons.weights[1] == 1).all()
    assert _lessons(tiny, masked=False).weights is None


def test_every_picture_comes_once_before_any_comes_again(tiny: Backbone) -> None:
    lessons = _lessons(tiny)
    draw = BatchDraw(lessons, 4, 0.5, 0.25, 1000, 3)
    rows = [draw.draw() for _ in range(60)]
    for batch in rows:
        assert sorted(batch.plain.tolist()) == sorted(lessons.rows[:, 0].tolist())
    joint = torch.cat([torch.isin(batch.own, lessons.rows[:, 2]) for batch in rows]).float().mean()
    dropped = torch.cat([batch.dropped for batch in rows]).float().mean()
    assert 0.4 < joint < 0.6 and 0.15 < dropped < 0.35
    times = torch.cat([batch.timesteps for batch in rows])
    assert times.min() < 50 and times.max() > 950


def test_a_short_pass_gives_the_maps_of_a_whole_one(tiny: Backbone) -> None:
    lessons = _lessons(tiny)
    latents = lessons.latents[:2, 0]
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
    lessons = _lessons(tiny)
    batch = BatchDraw(lessons, 3, 0.5, 0.0, 1000, 5).draw()
    batch = replace(batch, dropped=torch.tensor([False, True, False]))
    nulls = null_states(tiny, 1)
    with attach_adapter(tiny, 2) as attached:
        with torch.no_grad():
            for parameter in attached.unet:
                parameter.add_(0.05)
        losses = compute_losses(tiny, lessons, batch, SETTINGS, nulls)
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
    lessons = _lessons(tiny)
    batch = BatchDraw(lessons, 2, 0.5, 0.0, 1000, 5).draw()
    with attach_adapter(tiny, 2) as attached:
        compute_losses(tiny, lessons, batch, SETTINGS, null_states(tiny, 1)).attention.backward()
        ups = [parameter.grad for parameter in attached.unet[1::2] if parameter.grad is not None]
    assert any(grad.abs().sum() > 0 for grad in ups)


def test_without_its_weight_the_attention_loss_costs_no_pass(tiny: Backbone) -> None:
    lessons = _lessons(tiny)
    draw = BatchDraw(lessons, 2, 0.5, 0.0, 1000, 5)
    calls = []
    handle = tiny.unet.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        compute_losses(tiny, lessons, draw.draw(), SETTINGS, null_states(tiny, 1))
        assert len(calls) == 2
        compute_losses(tiny, lessons, draw.draw(), replace(SETTINGS, attention_weight=0.0), null_states(tiny, 1))
        assert len(calls) == 3
        hidden = replace(draw.draw(), dropped=torch.tensor([True, True]))
        assert compute_losses(tiny, lessons, hidden, SETTINGS, null_states(tiny, 1)).attention == 0
        assert len(calls) == 4
    finally:
        handle.remove()


def test_a_dropped_row_is_trained_on_the_null_prompt(tiny: Backbone) -> None:
    lessons = _lessons(tiny, masked=False)
    batch = replace(BatchDraw(lessons, 1, 0.5, 0.0, 1000, 5).draw(), dropped=torch.tensor([True]))
    nulls = null_states(tiny, 1)
    with torch.no_grad():
        loss = compute_losses(tiny, lessons, batch, SETTINGS, nulls).ldm
        kept = tiny.scheduler.alphas_cumprod[batch.timesteps]
        noisy = diffuse_latents(batch.latents, batch.noise, kept)
        prediction = predict(tiny, noisy, batch.timesteps, nulls, time_ids(tiny, 1, (64, 64)))
    torch.testing.assert_close(loss, (prediction - batch.noise).square().mean())


def test_a_velocity_base_is_trained_on_velocity(tiny: Backbone) -> None:
    scheduler = EulerDiscreteScheduler.from_config(
        tiny.scheduler.config, prediction_type="v_prediction", rescale_betas_zero_snr=True
    )
    velocity = replace(tiny, scheduler=scheduler)
    lessons = _lessons(velocity, masked=False)
    batch = replace(BatchDraw(lessons, 1, 0.5, 0.0, 1000, 5).draw(), dropped=torch.tensor([True]))
    nulls = null_states(tiny, 1)
    with torch.no_grad():
        loss = compute_losses(velocity, lessons, batch, SETTINGS, nulls).ldm
        kept = scheduler.alphas_cumprod[batch.timesteps]
        noisy = diffuse_latents(batch.latents, batch.noise, kept)
        prediction = predict(tiny, noisy, batch.timesteps, nulls, time_ids(tiny, 1, (64, 64)))
    target = make_target("v_prediction", batch.latents, batch.noise, kept)
    torch.testing.assert_close(loss, (prediction - target).square().mean())


def test_words_that_the_base_cannot_use_are_refused_before_any_work(tiny: Backbone) -> None:
    assert reserved_identifiers(tiny.defaults)[0] == "<v1>"
    free = replace(tiny, defaults=replace(tiny.defaults, identifiers=("sks", "ohwx")))
    assert reserved_identifiers(free.defaults) == ()
    with pytest.raises(InputError, match="reserved"):
        next(train_steps(tiny, _data(), replace(_request(), choices=LessonChoices("dog", "sks"))))
    with pytest.raises(InputError, match="both 0"):
        next(train_steps(tiny, _data(), _request(unet_rate=0.0, text_rate=0.0)))


def test_a_loss_that_is_no_number_stops_the_training(tiny: Backbone) -> None:
    with torch.no_grad():
        tiny.unet.conv_out.weight.fill_(float("nan"))
    with pytest.raises(InputError, match="step 1"):
        next(train_steps(tiny, _data(), _request()))


def test_encoders_whose_rate_is_nothing_stay_as_they_are(tiny: Backbone) -> None:
    adapter = finish_training(train_steps(tiny, _data(), _request(text_rate=0.0, steps=1)))
    texts = [delta.up for path, delta in adapter.deltas.items() if path.startswith("text_encoder")]
    assert texts and not any(up.any() for up in texts)


def test_a_request_is_written_down_for_the_header() -> None:
    written = describe_request(_request(seed=5))
    assert written["seed"] == "5" and written["rank"] == "2" and written["class_word"] == "dog"
    assert "template" not in written
