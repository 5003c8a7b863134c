"""Every method on a base in half precision, as a graphics card opens it: it learns in float32, and draws."""

from pathlib import Path

import numpy as np
import pytest
import torch

from d2plan.backbone.load import load_backbone
from d2plan.bench.registry import METHODS, open_method
from tests.bench.small import ALONE, DRAWING, digest_base, finish, halve, learn, small_concept
from tests.tiny import write_tiny


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    folder = tmp_path_factory.mktemp("half")
    write_tiny(folder / "base")
    return halve(load_backbone(folder / "base", dtype=torch.bfloat16))


@pytest.mark.parametrize("name", METHODS)
def test_it_learns_and_draws_and_leaves_the_base_bit_for_bit(half, tmp_path, name):
    method, before = open_method(name), digest_base(half)
    # The first setting is the published one, class images with it.
    setting = {**method.settings[0], "steps": 0.01}
    learnt = learn(method, half, small_concept(tmp_path), Path(tmp_path), setting)
    assert all(torch.isfinite(value.float()).all() for value in learnt.state.values())
    _, joined = finish(method.join(half, [learnt], setting, 0))
    (image,) = method.draw(half, [learnt], joined, [ALONE], DRAWING)
    assert image.shape == (64, 64, 3) and image.dtype == np.uint8 and image.std() > 0
    assert digest_base(half) == before
