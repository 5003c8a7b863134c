import numpy as np
import pytest
import torch

from d2plan.adapter.rows import Weighted
from d2plan.backbone.sdxl import decode_latents, encode_prompts, null_states, sample_steps
from d2plan.bench.shared.drawing import (
    call_unet,
    denoise_shots,
    draw_shots,
    encode_loaded,
    encode_null,
    group_places,
    guide_plainly,
    on_unet,
)
from d2plan.errors import InputError
from tests.bench.shots import DRAWING, counted_rows, fingerprint, make_shot, same_base
from tests.tiny import tiny_adapter


def plain_latents(base, prompt, seed, scale=DRAWING.guidance_scale):
    size = (DRAWING.height, DRAWING.width)
    return list(sample_steps(base, prompt, seed, DRAWING.steps, scale, size))[-1].latents


@pytest.mark.parametrize("scale", [4.0, 1.0])
def test_one_plain_shot_is_the_stock_loop_bit_for_bit(tiny, scale):
    shot = make_shot(seed=7)
    drawing = DRAWING.__class__(**{**vars(DRAWING), "guidance_scale": scale})

    latents = denoise_shots(tiny, [shot], drawing)
    (image,) = draw_shots(tiny, [shot], drawing)

    expected = plain_latents(tiny, shot.joint_prompt, 7, scale)
    assert torch.equal(latents, expected)
    assert (image == decode_latents(tiny, expected)[0]).all()
    assert image.shape == (64, 64, 3)


def test_shots_of_one_batch_are_the_shots_one_by_one(tiny):
    shots = [make_shot(seed) for seed in (3, 1, 2)]
    together = denoise_shots(tiny, shots, DRAWING)
    alone = torch.cat([denoise_shots(tiny, [shot], DRAWING) for shot in shots])
    assert torch.allclose(together, alone, atol=1e-4)


def test_batches_hold_as_many_rows_as_they_may(tiny):
    drawing = DRAWING.__class__(**{**vars(DRAWING), "most_rows": 4})
    with counted_rows(tiny) as rows:
        draw_shots(tiny, [make_shot(seed) for seed in range(3)], drawing)
    assert rows == [4] * 3 + [2] * 3
    assert group_places(3, 1, 2) == [(0,), (1,), (2,)]


def test_no_shot_gives_no_picture(tiny):
    assert draw_shots(tiny, [], DRAWING) == []


def test_own_text_is_read_in_the_shots_order(tiny):
    shots = [make_shot(1), make_shot(2)]
    with torch.no_grad():
        text = encode_prompts(tiny, ["a photo of a cat", "a photo of a car"])
    latents = denoise_shots(tiny, shots, DRAWING, text)
    assert torch.allclose(latents[1:], plain_latents(tiny, "a photo of a car", 2), atol=1e-4)
    with pytest.raises(InputError, match="text has 1 rows, but there are 2 shots"):
        draw_shots(tiny, shots, DRAWING, text[:1])


def test_a_load_is_on_all_rows_and_on_the_encoders_and_off_afterwards(tiny):
    before, load = fingerprint(tiny), [Weighted(tiny_adapter(tiny), 0.5)]
    shot = make_shot()
    latents = denoise_shots(tiny, [shot], DRAWING, load=load)

    with torch.no_grad(), on_unet(tiny, [load] * 2):
        text = encode_loaded(tiny, [shot.joint_prompt], [load])
        expected = denoise_shots(tiny, [shot], DRAWING, predict=guide_plainly(tiny, text, null_states(tiny, 1)))
    assert torch.allclose(latents, expected, atol=1e-4)
    assert not torch.allclose(latents, denoise_shots(tiny, [shot], DRAWING), atol=1e-2)
    assert same_base(before, fingerprint(tiny))


def test_the_null_of_a_base_that_reads_it_is_read_with_the_load_on(tiny):
    base = tiny.__class__(**{**vars(tiny), "zero_null": False})
    adapter = tiny_adapter(base)
    assert torch.equal(encode_null(base, adapter).states, encode_loaded(base, [""], [adapter]).states)
    assert not encode_null(tiny, adapter).states.any()


def test_an_own_prediction_sees_every_step_of_its_shots(tiny):
    shots, seen, told = [make_shot(seed) for seed in range(3)], [], []
    with torch.no_grad():
        text = encode_prompts(tiny, [shot.joint_prompt for shot in shots])
    plain = guide_plainly(tiny, text, null_states(tiny, 1))

    def predict(moment):
        seen.append((moment.index, moment.share, moment.places, tuple(moment.latents.shape)))
        return plain(moment)

    drawing = DRAWING.__class__(**{**vars(DRAWING), "most_rows": 4})
    own = denoise_shots(tiny, shots, drawing, predict=predict, before=lambda moment: told.append(moment.places))
    assert torch.equal(own, denoise_shots(tiny, shots, drawing))
    assert seen[:3] == [(step, step / 3, (0, 1), (2, 4, 16, 16)) for step in range(3)]
    assert seen[3:] == [(step, step / 3, (2,), (1, 4, 16, 16)) for step in range(3)]
    assert told == [(0, 1)] * 3 + [(2,)] * 3


def test_kinds_of_rows_come_one_after_the_other(tiny):
    shots = [make_shot(1), make_shot(2)]
    with torch.no_grad():
        one, two = (encode_prompts(tiny, [prompt] * 2) for prompt in ("a photo of a cat", "a photo of a car"))
    found = {}

    def predict(moment):
        first, second = call_unet(tiny, moment, [one, two])
        found.setdefault("both", (first, second))
        found.setdefault("second", call_unet(tiny, moment, [two])[0])
        return first

    with torch.no_grad():
        denoise_shots(tiny, shots, DRAWING, predict=predict)
    assert torch.allclose(found["both"][1], found["second"], atol=1e-5)
    assert not torch.allclose(found["both"][0], found["second"], atol=1e-3)


def test_seeds_and_sizes_that_cannot_be_used_are_refused(tiny):
    with pytest.raises(InputError, match="seed is -1"):
        draw_shots(tiny, [make_shot(-1)], DRAWING)
    with pytest.raises(InputError, match="multiple of"):
        draw_shots(tiny, [make_shot()], DRAWING.__class__(3, 4.0, 63, 64))


def test_pictures_are_uint8(tiny):
    assert all(image.dtype == np.uint8 for image in draw_shots(tiny, [make_shot(0), make_shot(1)], DRAWING))
