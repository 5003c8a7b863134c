"""The verbs of a base, with the stock SDXL pipeline as the oracle."""

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from d2plan.backbone.sdxl import (
    decode_latents,
    draw_noise,
    encode_each,
    encode_images,
    encode_prompts,
    guide,
    join_states,
    latent_size,
    null_states,
    predict,
    sample_steps,
    time_ids,
)
from d2plan.errors import InputError, ShapeError

PROMPT = "a photo of a man and a dog on the beach"


@pytest.fixture(scope="module")
def pipeline(tiny_folder):
    stock = StableDiffusionXLPipeline.from_pretrained(tiny_folder, add_watermarker=False)
    stock.set_progress_bar_config(disable=True)
    return stock


def run_stock(pipeline, **changes):
    settings = {"num_inference_steps": 4, "guidance_scale": 5.0, "height": 128, "width": 128}
    settings |= {"generator": torch.Generator("cpu").manual_seed(7), "prompt": PROMPT}
    return pipeline(**(settings | changes))


@pytest.mark.parametrize("negative", [None, "", "snow at night"])
def test_plain_guidance_is_the_stock_pipeline_bit_for_bit(tiny, pipeline, negative):
    steps = list(sample_steps(tiny, PROMPT, seed=7, negative_prompt=negative))
    expected = run_stock(pipeline, negative_prompt=negative, output_type="latent").images
    assert [(step.index, step.total) for step in steps] == [(0, 4), (1, 4), (2, 4), (3, 4)]
    assert torch.equal(steps[-1].latents, expected)


def test_the_final_picture_is_the_stock_pipelines(tiny, pipeline):
    *_, last = sample_steps(tiny, PROMPT, seed=7)
    picture = decode_latents(tiny, last.latents)
    assert picture.dtype == np.uint8
    assert picture.shape == (1, 128, 128, 3)
    assert np.array_equal(picture[0], np.asarray(run_stock(pipeline).images[0]))


def test_a_scale_of_one_runs_only_the_prompt_as_the_stock_pipeline_does(tiny, pipeline):
    rows = []
    tiny.unet.register_forward_pre_hook(lambda module, inputs: rows.append(inputs[0].shape[0]))
    *_, last = sample_steps(tiny, PROMPT, seed=7, guidance_scale=1.0, steps=2)
    expected = run_stock(pipeline, guidance_scale=1.0, num_inference_steps=2, output_type="latent").images
    assert torch.equal(last.latents, expected)
    assert rows == [1, 1]


def test_another_size_is_the_stock_pipelines_too(tiny, pipeline):
    *_, last = sample_steps(tiny, PROMPT, seed=7, size=(96, 160), steps=2)
    expected = run_stock(pipeline, height=96, width=160, num_inference_steps=2, output_type="latent").images
    assert torch.equal(last.latents, expected)


def test_a_base_that_predicts_velocity_is_sampled_alike(tiny, pipeline):
    velocity = {"prediction_type": "v_prediction", "timestep_spacing": "trailing", "rescale_betas_zero_snr": True}
    scheduler = type(tiny.scheduler).from_config(dict(tiny.scheduler.config) | velocity)
    other = type(tiny)(**(vars(tiny) | {"scheduler": scheduler}))
    stock = StableDiffusionXLPipeline(**(pipeline.components | {"scheduler": scheduler}), add_watermarker=False)
    stock.set_progress_bar_config(disable=True)
    *_, last = sample_steps(other, PROMPT, seed=7)
    assert torch.equal(last.latents, run_stock(stock, output_type="latent").images)


def test_loops_that_run_at_once_do_not_disturb_each_other(tiny):
    alone = [step.latents for step in sample_steps(tiny, PROMPT, seed=1, steps=3)]
    first, second = (sample_steps(tiny, PROMPT, seed=seed, steps=3) for seed in (1, 2))
    together = [a.latents for a, _ in zip(first, second, strict=True)]
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_the_callers_gradient_mode_is_left_alone_between_steps(tiny):
    for _ in sample_steps(tiny, PROMPT, steps=2):
        assert torch.is_grad_enabled()


def test_text_states_are_the_stock_pipelines(tiny, pipeline):
    text = encode_prompts(tiny, [PROMPT])
    states, null, pooled, null_pooled = pipeline.encode_prompt(PROMPT)
    assert torch.equal(text.states, states)
    assert torch.equal(text.pooled, pooled)
    empty = null_states(tiny, 3)
    assert torch.equal(empty.states, null.expand(3, -1, -1))
    assert torch.equal(empty.pooled, null_pooled.expand(3, -1))
    assert text.states.shape == (1, tiny.tokenizers[0].model_max_length, 80)


def test_a_base_without_zero_nulls_reads_the_empty_prompt(tiny):
    other = type(tiny)(**(vars(tiny) | {"zero_null": False}))
    expected = encode_prompts(tiny, [""])
    null = null_states(other, 2)
    assert torch.equal(null.states[1:], expected.states)
    assert not torch.equal(null.states, null_states(tiny, 2).states)


def test_each_encoders_states_stand_side_by_side(tiny):
    parts = encode_each(tiny, [PROMPT, "a dog"])
    assert [part.shape[-1] for part in parts] == [32, 48]
    assert torch.equal(torch.cat(parts, dim=-1), encode_prompts(tiny, [PROMPT, "a dog"]).states)


def test_rows_of_text_are_picked_and_joined(tiny):
    text = encode_prompts(tiny, ["a dog", "a cat"])
    swapped = join_states([text[[1]], text[:1]])
    assert len(swapped) == 2
    assert torch.equal(swapped.states, text.states.flip(0))
    assert torch.equal(swapped.pooled, text[[1, 0]].pooled)


def test_predict_refuses_rows_that_do_not_agree(tiny):
    latents, text = draw_noise(tiny, 0), encode_prompts(tiny, ["a dog", "a cat"])
    with pytest.raises(ShapeError, match="text.states"):
        predict(tiny, latents, 1.0, text, time_ids(tiny, 1))
    with pytest.raises(ShapeError, match="ids"):
        predict(tiny, latents, 1.0, text[:1], time_ids(tiny, 2))


def test_time_ids_say_the_size_twice(tiny):
    assert time_ids(tiny, 2, (96, 160)).tolist() == [[96, 160, 0, 0, 96, 160]] * 2
    assert time_ids(tiny, 1).tolist() == [[128, 128, 0, 0, 128, 128]]


def test_noise_depends_on_the_seed_alone(tiny):
    torch.manual_seed(0)
    first = draw_noise(tiny, 5)
    state = torch.get_rng_state()
    assert torch.equal(first, draw_noise(tiny, 5))
    assert not torch.equal(first, draw_noise(tiny, 6))
    assert torch.equal(state, torch.get_rng_state())
    assert first.shape == (1, 4, 32, 32)


@pytest.mark.parametrize("size", [(130, 128), (128, 0), (-4, 128)])
def test_a_size_that_the_base_cannot_draw_is_refused(tiny, size):
    with pytest.raises(InputError, match="multiple of 4"):
        latent_size(tiny, size)


def test_seeds_and_steps_out_of_range_are_refused(tiny):
    with pytest.raises(InputError, match="seed"):
        draw_noise(tiny, -1)
    with pytest.raises(InputError, match="steps"):
        next(sample_steps(tiny, PROMPT, steps=0))


def test_guidance_of_one_gives_the_conditional_prediction():
    unconditional, conditional = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(guide(unconditional, conditional, 0.0), unconditional)
    assert torch.allclose(guide(unconditional, conditional, 1.0), conditional, atol=1e-6)
    assert torch.allclose(guide(unconditional, conditional, 3.0), -2 * unconditional + 3 * conditional, atol=1e-5)


def test_encoding_undoes_the_scale_that_decoding_applies(tiny):
    images = np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3), dtype=np.uint8)
    latents = encode_images(tiny, images)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1
    expected = tiny.vae.encode(pixels).latent_dist.mode() * 0.7
    assert latents.shape == (2, 4, 32, 32)
    assert torch.allclose(latents, expected, atol=1e-6)
    decoded = tiny.vae.decode(expected / 0.7).sample
    shown = ((decoded / 2 + 0.5).clamp(0, 1) * 255).round().permute(0, 2, 3, 1).numpy()
    assert np.abs(decode_latents(tiny, latents).astype(int) - shown.astype(int)).max() <= 1


def test_a_picture_does_not_depend_on_the_others_of_its_batch(tiny):
    latents = torch.cat([draw_noise(tiny, seed) for seed in range(3)])
    together = decode_latents(tiny, latents)
    assert all(np.array_equal(together[i], decode_latents(tiny, latents[i : i + 1])[0]) for i in range(3))


def test_latent_statistics_of_a_base_are_undone_by_the_way_back(tiny):
    tiny.vae.register_to_config(latents_mean=[0.1, 0.2, 0.3, 0.4], latents_std=[1.0, 2.0, 3.0, 4.0])
    images = np.random.default_rng(0).integers(0, 256, (1, 128, 128, 3), dtype=np.uint8)
    latents = encode_images(tiny, images)
    raw = tiny.vae.encode(torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1).latent_dist.mode()
    mean, std = torch.tensor([0.1, 0.2, 0.3, 0.4]).view(1, 4, 1, 1), torch.tensor([1.0, 2, 3, 4]).view(1, 4, 1, 1)
    assert torch.allclose(latents, (raw - mean) * 0.7 / std, atol=1e-5)
    shown = ((tiny.vae.decode(raw).sample / 2 + 0.5).clamp(0, 1) * 255).round().permute(0, 2, 3, 1).numpy()
    assert np.abs(decode_latents(tiny, latents).astype(int) - shown.astype(int)).max() <= 1


def test_a_draw_from_the_vae_follows_its_generator(tiny):
    images = np.zeros((1, 128, 128, 3), dtype=np.uint8)
    draws = [encode_images(tiny, images, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_a_picture_of_no_numbers_is_never_a_success(tiny):
    with pytest.raises(InputError, match="no numbers"):
        decode_latents(tiny, torch.full((1, 4, 32, 32), float("nan")))
