"""Mixing keyframes: the path of the latents, and what is denoised again."""

import math

import numpy as np
import pytest
import torch

from d2plan.backbone.sdxl import decode_latents, encode_images
from d2plan.errors import InputError, ShapeError
from d2plan.etp.blend import Blend, mix_latents
from d2plan.etp.interpolate import InterpolatorOptions, Segment, interpolate, interpolate_steps, open_interpolator
from tests.tiny import tiny_backbone


@pytest.fixture(scope="module")
def base():
    return tiny_backbone()


def make_segment(frames=3, seed=0):
    first = np.full((32, 32, 3), 60, np.uint8)
    return Segment(first, np.full_like(first, 200), frames, "a dog on the beach", seed)


def test_mixing_follows_the_arc_and_mixes_the_length_by_itself():
    first, last = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 4.0]])
    middle = mix_latents(first, last, 0.5)
    assert torch.allclose(middle, 3 * torch.tensor([[math.sqrt(0.5), math.sqrt(0.5)]]), atol=1e-6)
    third = mix_latents(first, last, 1 / 3)[0]
    assert math.degrees(math.atan2(third[1], third[0])) == pytest.approx(30, abs=1e-4)


def test_mixing_parallel_and_opposite_latents_gives_numbers():
    one = torch.ones(1, 4, 2, 2)
    assert torch.allclose(mix_latents(one, 3 * one, 0.5), 2 * one)
    assert torch.isfinite(mix_latents(one, -one, 0.5)).all()
    with pytest.raises(ShapeError):
        mix_latents(one, torch.ones(2, 4, 2, 2), 0.5)


def test_without_redoing_the_frames_are_the_decoded_mixes(base):
    segment = make_segment()
    frames = interpolate(Blend(base, InterpolatorOptions(), redone=0.0), segment)
    ends = encode_images(base, np.stack([segment.first, segment.last]))
    mixes = torch.cat([mix_latents(ends[:1], ends[1:], share) for share in (0, 0.5, 1)])
    assert np.array_equal(frames, decode_latents(base, mixes))


def test_redoing_changes_what_is_between_and_keeps_the_ends(base):
    plain = interpolate(Blend(base, InterpolatorOptions(steps=4), redone=0.0), make_segment())
    redone = interpolate(Blend(base, InterpolatorOptions(steps=4), redone=0.5), make_segment())
    other = interpolate(Blend(base, InterpolatorOptions(steps=4), redone=0.5), make_segment(seed=1))
    assert np.array_equal(plain[[0, 2]], redone[[0, 2]])
    assert not np.array_equal(plain[1], redone[1]) and not np.array_equal(other[1], redone[1])


def test_redoing_runs_the_last_steps_only(base):
    counted = []
    handle = base.unet.register_forward_hook(lambda *_: counted.append(1))
    try:
        interpolate(Blend(base, InterpolatorOptions(steps=10), redone=0.3), make_segment(frames=4))
    finally:
        handle.remove()
    assert len(counted) == 2 * 3


def test_guidance_is_off_unless_asked_for(base):
    plain, asked, guided = (
        interpolate(Blend(base, InterpolatorOptions(steps=4, guidance_scale=scale), redone=0.5), make_segment())
        for scale in (None, 1.0, 5.0)
    )
    assert np.array_equal(plain, asked) and not np.array_equal(plain, guided)


def test_it_is_opened_by_name_and_tells_each_frame(base):
    blend = open_interpolator("blend", InterpolatorOptions(base=base, steps=2))
    steps = list(interpolate_steps(blend, make_segment()))
    assert [(step.index, step.total) for step in steps] == [(0, 3), (1, 3), (2, 3)]
    assert blend.record["interpolator"] == "blend" and blend.record["base"] == base.fingerprint


def test_a_share_that_cannot_be_and_a_missing_base_are_refused(base):
    with pytest.raises(InputError, match="redone"):
        Blend(base, InterpolatorOptions(), redone=1.5)
    with pytest.raises(InputError, match="base is missing"):
        open_interpolator("blend", InterpolatorOptions())
