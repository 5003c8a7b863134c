"""Eq. (7): the written-out form against numbers, and the cheap form against the written-out one."""

import pytest
import torch

from d2plan.backbone.attention import ColumnSwap, TapPlan, attend_with_columns
from d2plan.errors import ShapeError
from d2plan.isp.calibration import calibrate_map


def _random_maps(seed: int, queries: int = 9, tokens: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    maps = torch.randn(2, 3, queries, tokens, generator=rng).softmax(-1)
    return maps[0], maps[1]


def test_only_the_class_column_changes_and_becomes_the_identifiers() -> None:
    a_g, a_s = _random_maps(0)
    a_r = calibrate_map(a_g, a_s, [2], [5])
    assert torch.equal(a_r[..., 2], a_s[..., 5])
    others = [0, 1, 3, 4, 5, 6]
    assert torch.equal(a_r[..., others], a_g[..., others])


def test_several_identifier_tokens_are_summed_and_shared_among_class_tokens() -> None:
    a_g, a_s = _random_maps(1)
    a_r = calibrate_map(a_g, a_s, [1, 3], [2, 4, 5])
    total = a_s[..., 2] + a_s[..., 4] + a_s[..., 5]
    assert torch.allclose(a_r[..., 1], total / 2)
    assert torch.allclose(a_r[..., 3], total / 2)


def test_nothing_is_normalised_anew() -> None:
    a_g, a_s = torch.full((1, 4), 0.25), torch.tensor([[0.0, 0.0, 0.0, 1.0]])
    assert calibrate_map(a_g, a_s, [0], [3]).sum().item() == pytest.approx(1.75)


@pytest.mark.parametrize("class_positions", [(2,), (2, 3)])
@pytest.mark.parametrize("identifier_positions", [(1,), (4, 5)])
def test_the_cheap_form_equals_the_written_out_form(
    class_positions: tuple[int, ...], identifier_positions: tuple[int, ...]
) -> None:
    rng = torch.Generator().manual_seed(3)
    query, key, value = (torch.randn(3, 4, n, 8, generator=rng) for n in (16, 7, 7))
    maps = (query @ key.transpose(-1, -2) / 8**0.5).softmax(-1)
    wanted = maps @ value
    wanted[1] = calibrate_map(maps[1], maps[2], class_positions, identifier_positions) @ value[1]
    plan = TapPlan(swaps=(ColumnSwap(1, class_positions, 2, identifier_positions),))
    found, _ = attend_with_columns(query, key, value, plan)
    assert torch.allclose(found, wanted, atol=1e-5)


def test_two_instances_in_one_row_do_not_touch_each_other() -> None:
    a_g, a_s = _random_maps(4)
    other = _random_maps(5)[1]
    one_way = calibrate_map(calibrate_map(a_g, a_s, [1], [2]), other, [4], [3])
    other_way = calibrate_map(calibrate_map(a_g, other, [4], [3]), a_s, [1], [2])
    assert torch.equal(one_way, other_way)


@pytest.mark.parametrize("positions", [[], [7], [-1]])
def test_a_position_outside_of_the_map_is_an_error(positions: list[int]) -> None:
    a_g, a_s = _random_maps(6)
    with pytest.raises(ShapeError, match="class_positions"):
        calibrate_map(a_g, a_s, positions, [1])


def test_maps_of_different_shapes_are_an_error() -> None:
    with pytest.raises(ShapeError, match="sub_map"):
        calibrate_map(torch.zeros(4, 7), torch.zeros(4, 6), [1], [1])
