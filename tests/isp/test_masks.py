"""Masks: always a partition, and the right one for maps whose answer is known."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from d2plan.isp.masks import Region, find_masks, make_partition

SIZE = (16, 16)


def _blob(*centres: tuple[float, float], size: tuple[int, int] = SIZE, radius: float = 2.5) -> torch.Tensor:
    ys, xs = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in size), indexing="ij")
    return sum((torch.exp(-((ys - y) ** 2 + (xs - x) ** 2) / (2 * radius**2)) for y, x in centres), torch.zeros(size))


def _assert_is_a_partition(masks: torch.Tensor) -> None:
    assert torch.isfinite(masks).all()
    assert masks.min() >= 0 and masks.max() <= 1
    assert torch.allclose(masks.sum(dim=0), torch.ones(masks.shape[1:]), atol=1e-6)


def _centre_x(mask: torch.Tensor) -> float:
    xs = torch.arange(mask.shape[1], dtype=torch.float32)
    return float((mask.sum(dim=0) * xs).sum() / mask.sum())


@settings(max_examples=20, deadline=None)
@given(arrays("float32", (3, 5, 4), elements=st.floats(width=32, allow_nan=True, allow_infinity=True)))
def test_any_areas_become_a_partition(areas: object) -> None:
    _assert_is_a_partition(make_partition(torch.as_tensor(areas)).masks)


@settings(max_examples=15, deadline=None)
@given(
    arrays("float32", (3, 6, 5), elements=st.floats(0, 1, width=32)),
    st.lists(st.sampled_from(["dog", "man"]), min_size=3, max_size=3),
    st.lists(st.sampled_from([None, "left", "middle", "right"]), min_size=3, max_size=3),
    st.sampled_from([None, (0.1, 0.2, 0.6, 0.9)]),
)
def test_any_maps_become_a_partition(maps: object, words: list[str], positions: list, box: tuple | None) -> None:
    regions = [Region(words[i], positions[i], box if i == 0 else None) for i in range(3)]
    result = find_masks(torch.as_tensor(maps), regions, (8, 8))
    _assert_is_a_partition(result.partition.masks)
    assert result.partition.masks.shape == (4, 8, 8)
    for index in result.empty:
        assert result.partition.areas[index] == 0
        assert any(f"instances[{index}]" in note for note in result.notes)


def test_two_classes_get_the_areas_that_attend_to_them() -> None:
    maps = torch.stack([_blob((8, 4)), _blob((8, 12))])
    result = find_masks(maps, [Region("dog"), Region("man")], (32, 32))
    masks = result.partition.masks
    assert masks[1, 16, 8] == 1 and masks[2, 16, 24] == 1 and masks[0, 0, 16] == 1
    assert result.route == "attention" and result.confidence > 0.6 and result.notes == ()


def test_the_order_of_different_classes_changes_nothing() -> None:
    maps = torch.rand(2, 16, 16, generator=torch.Generator().manual_seed(0)) + torch.stack(
        [_blob((8, 4)), _blob((9, 9))]
    )
    one = find_masks(maps, [Region("dog"), Region("man")], SIZE).partition.masks
    other = find_masks(maps.flip(0), [Region("man"), Region("dog")], SIZE).partition.masks
    assert torch.equal(one, other[[0, 2, 1]])


def test_two_of_one_class_are_its_pieces_from_left_to_right() -> None:
    union = _blob((8, 3), (8, 12))
    result = find_masks(torch.stack([union, union]), [Region("man"), Region("man")], SIZE)
    assert result.routes == ("pieces", "pieces")
    assert _centre_x(result.partition.masks[1]) == pytest.approx(3, abs=0.7)
    assert _centre_x(result.partition.masks[2]) == pytest.approx(12, abs=0.7)


def test_a_position_binds_instances_of_one_class_the_other_way() -> None:
    union = _blob((8, 3), (8, 12))
    result = find_masks(torch.stack([union, union]), [Region("man", "right"), Region("man")], SIZE)
    assert _centre_x(result.partition.masks[1]) > 10 and _centre_x(result.partition.masks[2]) < 5


def test_three_of_one_class_with_the_last_two_named_fill_the_slots() -> None:
    union = _blob((8, 2), (8, 8), (8, 13), radius=1.5)
    regions = [Region("man"), Region("man", "left"), Region("man", "middle")]
    masks = find_masks(union.expand(3, -1, -1), regions, SIZE).partition.masks
    assert [round(_centre_x(mask)) for mask in masks[1:]] == [13, 2, 8]


def test_two_of_one_class_in_one_piece_are_cut_by_place() -> None:
    union = _blob((8, 6), (8, 10), radius=3)
    result = find_masks(torch.stack([union, union]), [Region("man"), Region("man")], SIZE)
    assert result.routes == ("clusters", "clusters") and len(result.notes) == 2
    left, right = (_centre_x(mask) for mask in result.partition.masks[1:])
    assert left < 8 < right
    assert result.partition.areas[0] == pytest.approx(result.partition.areas[1], rel=0.25)
    assert result.confidence < 0.8


def test_a_class_that_nothing_attends_to_is_empty_and_said_so() -> None:
    result = find_masks(torch.stack([_blob((8, 4)), torch.full(SIZE, 0.1)]), [Region("dog"), Region("man")], SIZE)
    assert result.empty == (1,) and result.confidence == 0
    assert result.partition.areas[1] == 0 and result.partition.areas[0] > 0.02
    assert len(result.notes) == 1 and 'instances[1] ("man")' in result.notes[0]


def test_a_position_is_the_way_out_where_nothing_attends() -> None:
    result = find_masks(torch.zeros(1, *SIZE), [Region("dog", "right")], SIZE)
    assert result.routes == ("position",) and _centre_x(result.partition.masks[1]) > 12
    assert result.confidence == 0 and len(result.notes) == 1


def test_a_box_overrides_attention_and_needs_no_map() -> None:
    box = (0.5, 0.25, 1.0, 0.75)
    result = find_masks(None, [Region("dog", box=box)], SIZE)
    assert result.partition.areas[0] == pytest.approx(0.25, abs=0.01)
    assert result.partition.masks[1, 8, 12] == 1 and result.partition.masks[1, 8, 2] == 0
    assert result.routes == ("box",) and result.confidence == 1
    with_map = find_masks(_blob((8, 3))[None], [Region("dog", box=box)], SIZE)
    assert torch.equal(with_map.partition.masks, result.partition.masks)


def test_of_two_boxes_the_smaller_one_is_in_front() -> None:
    regions = [Region("dog", box=(0, 0, 1, 1)), Region("man", box=(0.25, 0.25, 0.75, 0.75))]
    masks = find_masks(None, regions, SIZE).partition.masks
    assert masks[2, 8, 8] == 1 and masks[1, 8, 8] == 0 and masks[1, 1, 1] == 1


def test_the_larger_of_two_pieces_stands_for_one_instance_unless_a_position_says_otherwise() -> None:
    maps = (_blob((8, 4)) + 0.9 * _blob((8, 13), radius=1.5))[None]
    assert _centre_x(find_masks(maps, [Region("dog")], SIZE).partition.masks[1]) == pytest.approx(4, abs=1)
    assert _centre_x(find_masks(maps, [Region("dog", "right")], SIZE).partition.masks[1]) == pytest.approx(13, abs=1)


def test_no_instances_leave_everything_to_the_background() -> None:
    result = find_masks(None, [], (4, 6))
    assert torch.equal(result.partition.masks, torch.ones(1, 4, 6)) and result.route == "none"
