"""The closed-form fusion against numpy's own answer to the same problem."""

import numpy as np
import pytest
import torch

from d2plan.bench.methods.custom_diffusion_fusion import find_different, find_directions, fuse_constrained
from d2plan.errors import ShapeError


def _draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def _fuse(weight, context, inputs, outputs, ridge=0.0):
    return fuse_constrained(weight, find_directions(context, inputs, ridge), inputs, outputs)


WEIGHT, CONTEXT = _draw(5, 8, seed=1), _draw(40, 8, seed=2)
INPUTS, OUTPUTS = _draw(3, 8, seed=3), _draw(3, 5, seed=4)


def test_each_concepts_words_get_what_its_own_layer_said():
    fused = _fuse(WEIGHT, CONTEXT, INPUTS, OUTPUTS)
    assert torch.allclose(INPUTS @ fused.T, OUTPUTS, rtol=0, atol=1e-12)


def test_the_rest_changes_as_little_as_numpy_finds_possible():
    fused = _fuse(WEIGHT, CONTEXT, INPUTS, OUTPUTS).numpy()
    context, inputs = CONTEXT.numpy(), INPUTS.numpy()
    # The change is a solution of the constraint plus anything in the null space of the inputs: ordinary least squares.
    particular = np.linalg.pinv(inputs) @ (OUTPUTS.numpy() - inputs @ WEIGHT.numpy().T)
    free = np.linalg.svd(inputs)[2][len(inputs) :].T
    coordinates = np.linalg.lstsq(context @ free, -context @ particular, rcond=None)[0]
    expected = WEIGHT.numpy().T + particular + free @ coordinates
    assert np.allclose(fused.T, expected, rtol=0, atol=1e-10)


def test_a_concept_that_was_not_tuned_leaves_the_weights_alone():
    fused = _fuse(WEIGHT, CONTEXT, INPUTS, INPUTS @ WEIGHT.T)
    assert torch.allclose(fused, WEIGHT, rtol=0, atol=1e-12)


def test_captions_that_do_not_fill_all_directions_need_a_ridge_and_then_the_constraint_holds():
    flat = CONTEXT[:, :3] @ _draw(3, 8, seed=5)
    fused = _fuse(WEIGHT, flat, INPUTS, OUTPUTS, ridge=1e-6)
    assert torch.allclose(INPUTS @ fused.T, OUTPUTS, rtol=0, atol=1e-7)
    plain = torch.linalg.pinv(INPUTS) @ (OUTPUTS - INPUTS @ WEIGHT.T)
    assert (flat @ (fused - WEIGHT).T).norm() < 0.5 * (flat @ plain).norm()


def test_the_number_format_of_the_weights_is_kept():
    fused = _fuse(WEIGHT.float(), CONTEXT.float(), INPUTS.float(), OUTPUTS.float())
    assert fused.dtype == torch.float32
    assert torch.allclose(INPUTS.float() @ fused.T, OUTPUTS.float(), atol=1e-4)


def test_inputs_that_stand_twice_count_once():
    assert find_different(INPUTS[[0, 1, 0, 2, 1]]) == [0, 1, 3]


def test_shapes_that_do_not_belong_together_are_refused():
    with pytest.raises(ShapeError, match="outputs"):
        _fuse(WEIGHT, CONTEXT, INPUTS, OUTPUTS[:2])
