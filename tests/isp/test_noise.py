"""Eq. (2), (8) and (9) against numpy and against each other."""

import numpy as np
import pytest
import torch

from d2plan.backbone.sdxl import guide
from d2plan.errors import ShapeError
from d2plan.isp.masks import make_partition
from d2plan.isp.noise import compose_noise, gather_predictions


def _case(instances: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    predictions = torch.randn(instances + 1, 4, 5, 6, generator=rng)
    uncond = torch.randn(4, 5, 6, generator=rng)
    return uncond, predictions, make_partition(torch.rand(instances, 5, 6, generator=rng)).masks


@pytest.mark.parametrize("instances", [0, 1, 3])
def test_composition_is_the_printed_equation(instances: int) -> None:
    uncond, predictions, masks = _case(instances)
    w = 7.5
    eps, m = predictions.double().numpy(), masks.double().numpy()
    wanted = (1 - w) * uncond.double().numpy() + w * m[0] * eps[0]
    for i in range(1, instances + 1):
        wanted = wanted + w * m[i] * eps[i]
    assert np.allclose(compose_noise(uncond, predictions, masks, w).numpy(), wanted, atol=1e-4)


def test_without_instances_it_is_plain_guidance_bit_for_bit() -> None:
    uncond, predictions, masks = _case(0)
    assert torch.equal(compose_noise(uncond, predictions, masks, 7.5), guide(uncond, predictions[0], 7.5))


def test_empty_masks_give_plain_guidance() -> None:
    uncond, predictions, _ = _case(2)
    masks = make_partition(torch.zeros(2, 5, 6)).masks
    assert torch.equal(compose_noise(uncond, predictions, masks, 7.5), guide(uncond, predictions[0], 7.5))


def test_equal_predictions_make_the_masks_meaningless() -> None:
    uncond, predictions, masks = _case(3)
    same = predictions[:1].expand(4, -1, -1, -1)
    assert torch.allclose(compose_noise(uncond, same, masks, 5.0), guide(uncond, predictions[0], 5.0), atol=1e-5)


def test_each_cell_listens_only_to_its_owner() -> None:
    uncond, predictions, _ = _case(2)
    left = torch.zeros(2, 5, 6)
    left[0, :, :2], left[1, :, 4:] = 1, 1
    gathered = gather_predictions(predictions, make_partition(left).masks)
    assert torch.equal(gathered[..., :2], predictions[1][..., :2])
    assert torch.equal(gathered[..., 2:4], predictions[0][..., 2:4])
    assert torch.equal(gathered[..., 4:], predictions[2][..., 4:])


def test_a_scale_of_one_is_the_conditional_prediction() -> None:
    uncond, predictions, _ = _case(0)
    assert torch.allclose(guide(uncond, predictions[0], 1.0), predictions[0], atol=1e-6)
    assert torch.equal(guide(uncond, predictions[0], 0.0), uncond)


def test_masks_that_do_not_fit_are_an_error() -> None:
    uncond, predictions, masks = _case(2)
    with pytest.raises(ShapeError, match="masks"):
        compose_noise(uncond, predictions, masks[:2], 7.5)
