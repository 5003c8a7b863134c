"""The script that teaches a ControlNet on the world: what it sees, what it learns, and that it goes on bit for bit."""

import numpy as np
import pytest
import torch

from d2plan.backbone.spatial import load_control
from d2plan.world.scene import sample_scene
from d2plan.world.seeds import stream_rng
from d2plan.world.truth import render
from tests.scripts.loading import load_scripts
from tests.tiny import tiny_backbone

(train,) = load_scripts("control", "train")


@pytest.fixture(scope="module")
def base():
    return tiny_backbone()


def test_a_drawing_is_the_scenes_depth_and_near_is_bright():
    pictures, drawings, captions = train.draw_scenes("heldout", 4, 2, 64)
    rng = stream_rng("heldout", train.KEY, 5)
    truth = render(sample_scene(rng), 64)
    assert np.array_equal(pictures[1], truth.image) and len(captions) == 2
    assert np.allclose(drawings[1, :, :, 0] / 255, 1 - truth.depth, atol=0.003)
    assert drawings.shape == (2, 64, 64, 3)


def test_a_stopped_training_goes_on_as_if_it_had_never_stopped_and_the_base_stays(base, tmp_path):
    before = {name: one.clone() for name, one in base.unet.state_dict().items()}
    whole = train.start(base, 1e-3)
    losses = [train.train_step(whole, 1, 1e-3) for _ in range(2)]
    first = train.start(base, 1e-3)
    early = train.train_step(first, 1, 1e-3)
    train.save_state(first, tmp_path / "train.pt")
    second = train.start(base, 1e-3)
    train.load_state(second, tmp_path / "train.pt")
    assert [early, train.train_step(second, 1, 1e-3)] == losses
    for name, one in whole.network.state_dict().items():
        assert torch.equal(one, second.network.state_dict()[name]), name
        assert torch.equal(whole.average[name], second.average[name]), name
    assert all(torch.equal(one, before[name]) for name, one in base.unet.state_dict().items())


def test_what_is_exported_opens_as_a_scenes_control(base, tmp_path):
    state = train.start(base, 1e-2)
    for _ in range(2):
        train.train_step(state, 1, 1e-2)
    control = load_control(train.export(state, tmp_path / "depth"), base)
    zero = control.controlnet_mid_block.weight
    assert zero.abs().max() > 0
    assert torch.allclose(zero, state.average["controlnet_mid_block.weight"], atol=1e-3)
