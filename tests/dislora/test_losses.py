import hypothesis
import pytest
import torch
from hypothesis import strategies

from d2plan.dislora.losses import (
    attention_loss,
    denoising_loss,
    dislora_loss,
    normalise_map,
    soft_iou,
    token_loss,
)
from d2plan.errors import ShapeError


def test_the_sum_weighs_token_and_attention_losses() -> None:
    parts = torch.tensor(1.5), torch.tensor(20.0), torch.tensor(0.25)
    assert dislora_loss(*parts, 1e-3, 1e-2).item() == pytest.approx(1.5 + 0.02 + 0.0025)


def test_denoising_loss_is_the_mean_squared_error() -> None:
    prediction, target = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    target[0, 0, 0, 0] = 6.0
    assert denoising_loss(prediction, target).item() == pytest.approx(36 / 96)


def test_a_weight_counts_by_its_shape_and_not_by_its_size() -> None:
    generator = torch.Generator().manual_seed(0)
    prediction, target = (torch.randn(2, 3, 4, 4, generator=generator) for _ in range(2))
    weight = torch.rand(2, 1, 4, 4, generator=generator)
    loss = denoising_loss(prediction, target, weight)
    assert torch.allclose(loss, denoising_loss(prediction, target, weight * 7))
    even = denoising_loss(prediction, target, torch.full_like(weight, 0.3))
    assert torch.allclose(even, denoising_loss(prediction, target))


def test_a_masked_loss_sees_only_what_is_inside() -> None:
    prediction, target = torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, 2)
    target[0, :, 0, 0] = 2.0
    target[0, :, 1, 1] = 100.0
    weight = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]])
    assert denoising_loss(prediction, target, weight).item() == pytest.approx((4 + 0) / 2)


def test_token_loss_counts_the_positions_before_the_identifier_alone() -> None:
    frozen = torch.zeros(2, 5, 3)
    tuned = torch.ones(2, 5, 3)
    ends = torch.tensor([2, 4])
    assert token_loss(tuned, frozen, ends).item() == pytest.approx((2 * 3 + 4 * 3) / 2)
    assert token_loss(tuned, frozen, ends, "mean").item() == pytest.approx((2 + 4) / 2)
    moved = frozen.clone()
    moved[0, 2:] = 9.0
    moved[1, 4:] = 9.0
    assert token_loss(moved, frozen, ends).item() == 0.0


def test_token_loss_over_two_encoders_side_by_side_is_the_sum_of_both() -> None:
    generator = torch.Generator().manual_seed(1)
    first, second = torch.randn(1, 4, 3, generator=generator), torch.randn(1, 4, 5, generator=generator)
    ends = torch.tensor([3])
    both = token_loss(torch.cat([first, second], -1), torch.zeros(1, 4, 8), ends)
    alone = token_loss(first, torch.zeros_like(first), ends) + token_loss(second, torch.zeros_like(second), ends)
    assert torch.allclose(both, alone)


def test_soft_iou_is_one_only_when_the_areas_agree() -> None:
    area = torch.tensor([[0.0, 0.5, 1.0]])
    assert soft_iou(area, area).item() == 1.0
    assert soft_iou(area, torch.tensor([[0.0, 0.5, 0.5]])).item() == pytest.approx(1 / 1.5)
    assert soft_iou(area, torch.tensor([[1.0, 0.0, 0.0]])).item() == 0.0
    assert soft_iou(torch.zeros(1, 3), torch.zeros(1, 3)).item() == 1.0


@hypothesis.given(strategies.lists(strategies.floats(0, 1, width=32), min_size=8, max_size=8))
@hypothesis.settings(deadline=None)
def test_attention_loss_lies_between_nothing_and_one(values: list[float]) -> None:
    first, second = torch.tensor(values[:4])[None], torch.tensor(values[4:])[None]
    loss = attention_loss(first, second).item()
    assert -1e-6 <= loss <= 1 + 1e-6
    assert attention_loss(second, first).item() == pytest.approx(loss, abs=1e-6)
    assert attention_loss(first, first).item() == pytest.approx(0, abs=1e-6)


def test_no_gradient_reaches_the_class_map() -> None:
    class_map = torch.tensor([[0.0, 0.4, 1.0]], requires_grad=True)
    identifier_map = torch.tensor([[1.0, 0.3, 0.0]], requires_grad=True)
    attention_loss(class_map, identifier_map).backward()
    assert class_map.grad is None
    # Lowering what lies outside the class map and raising what lies inside both lower the loss.
    assert identifier_map.grad is not None
    assert identifier_map.grad[0, 0] > 0 > identifier_map.grad[0, 1]


def test_following_the_gradient_brings_the_maps_together() -> None:
    generator = torch.Generator().manual_seed(2)
    class_map = normalise_map(torch.rand(2, 64, generator=generator))
    raw = torch.rand(2, 64, generator=generator).requires_grad_()
    optimiser = torch.optim.Adam([raw], lr=0.05)
    for _ in range(200):
        optimiser.zero_grad()
        loss = attention_loss(class_map, normalise_map(raw))
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.1


def test_attention_loss_of_no_rows_is_nothing_and_has_a_gradient() -> None:
    maps = torch.zeros(0, 4, requires_grad=True)
    loss = attention_loss(torch.zeros(0, 4), maps)
    loss.backward()
    assert loss.item() == 0.0


def test_normalised_maps_run_from_nothing_to_one() -> None:
    maps = normalise_map(torch.tensor([[2.0, 6.0, 3.0], [5.0, 5.0, 5.0]], requires_grad=True))
    assert maps.tolist() == [[0.0, 1.0, 0.25], [0.0, 0.0, 0.0]]
    flat = torch.full((1, 4), 0.5, requires_grad=True)
    normalise_map(flat).sum().backward()
    assert flat.grad is not None and torch.isfinite(flat.grad).all()


@pytest.mark.parametrize(
    "call",
    [
        lambda: denoising_loss(torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 3, 4)),
        lambda: denoising_loss(torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 3, 3)),
        lambda: token_loss(torch.zeros(1, 4, 2), torch.zeros(1, 5, 2), torch.tensor([1])),
        lambda: token_loss(torch.zeros(1, 4, 2), torch.zeros(1, 4, 2), torch.tensor([1, 2])),
        lambda: attention_loss(torch.zeros(1, 4), torch.zeros(2, 4)),
        lambda: soft_iou(torch.zeros(1, 4), torch.zeros(1, 5)),
    ],
)
def test_a_wrong_shape_is_refused(call: object) -> None:
    with pytest.raises(ShapeError):
        call()  # type: ignore[operator]


def test_the_product_form_is_that_of_probabilities_and_equals_the_other_on_hard_areas() -> None:
    first, second = torch.tensor([1.0, 0.0, 0.5]), torch.tensor([0.5, 0.0, 1.0])
    assert soft_iou(first, second, "product").item() == pytest.approx(1.0 / 2.0)
    generator = torch.Generator().manual_seed(0)
    hard = (torch.rand(2, 64, generator=generator) > 0.5).float()
    torch.testing.assert_close(soft_iou(hard[0], hard[1], "product"), soft_iou(hard[0], hard[1]))
    assert soft_iou(torch.zeros(3), torch.zeros(3), "product") == 1


def test_a_loss_whose_weight_is_nothing_gives_no_gradient() -> None:
    parts = [torch.tensor(1.0, requires_grad=True) for _ in range(3)]
    dislora_loss(*parts, 0.0, 0.5).backward()
    assert parts[1].grad is None and parts[2].grad == 0.5
