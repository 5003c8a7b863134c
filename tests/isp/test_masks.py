"""Masks: always a partition, and the right one for maps whose answer is known."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from d2plan.errors import InputError, ShapeError
from d2plan.isp.attended import refine_maps
from d2plan.isp.masks import Region, find_masks, make_partition
from d2plan.isp.segment import Detection
from tests.isp.blobs import SIZE, assert_is_a_partition, blob, centre_x


def _detection(word: str, box: tuple[int, int, int, int], score: float = 0.9, source: str = "a test") -> Detection:
    """A find in a picture of 40 x 48 pixels; the box is x0, y0, x1, y1."""
    mask = np.zeros((40, 48), dtype=np.float32)
    mask[box[1] : box[3], box[0] : box[2]] = 1
    return Detection(word, score, mask, source)


@settings(max_examples=20, deadline=None)
@given(arrays("float32", (3, 5, 4), elements=st.floats(width=32, allow_nan=True, allow_infinity=True)))
def test_any_areas_become_a_partition(areas: object) -> None:
    assert_is_a_partition(make_partition(torch.as_tensor(areas)).masks)


@settings(max_examples=15, deadline=None)
@given(
    arrays("float32", (3, 6, 5), elements=st.floats(0, 1, width=32)),
    st.lists(st.sampled_from(["dog", "man"]), min_size=3, max_size=3),
    st.lists(st.sampled_from([None, "left", "middle", "right"]), min_size=3, max_size=3),
    st.sampled_from([None, (0.1, 0.2, 0.6, 0.9)]),
    st.sampled_from([None, (0.0, 0.0), (0.7, 0.4), (1.0, 1.0)]),
    st.sampled_from([None, (4, 4, 30, 20), (0, 0, 40, 48)]),
)
def test_any_maps_become_a_partition(
    maps: object, words: list[str], positions: list, box: tuple | None, point: tuple | None, seen: tuple | None
) -> None:
    regions = [Region(words[0], positions[0], box), Region(words[1], positions[1], None, point), Region(words[2])]
    found = None if seen is None else [_detection(words[2], seen)]
    result = find_masks(torch.as_tensor(maps), regions, (8, 8), detections=found, missing="mark")
    assert_is_a_partition(result.partition.masks)
    assert result.partition.masks.shape == (4, 8, 8)
    for index in result.empty:
        assert result.partition.areas[index] == 0
        assert any(f"instances[{index}]" in note for note in result.notes)


def test_two_classes_get_the_areas_that_attend_to_them() -> None:
    maps = torch.stack([blob((8, 4)), blob((8, 12))])
    result = find_masks(maps, [Region("dog"), Region("man")], (32, 32))
    masks = result.partition.masks
    assert masks[1, 16, 8] == 1 and masks[2, 16, 24] == 1 and masks[0, 0, 16] == 1
    assert result.route == "attention" and result.confidence > 0.6 and result.notes == ()


def test_the_order_of_different_classes_changes_nothing() -> None:
    maps = torch.rand(2, 16, 16, generator=torch.Generator().manual_seed(0)) + torch.stack([blob((8, 4)), blob((9, 9))])
    one = find_masks(maps, [Region("dog"), Region("man")], SIZE).partition.masks
    other = find_masks(maps.flip(0), [Region("man"), Region("dog")], SIZE).partition.masks
    assert torch.equal(one, other[[0, 2, 1]])


def test_two_of_one_class_are_its_pieces_from_left_to_right() -> None:
    union = blob((8, 3), (8, 12))
    result = find_masks(torch.stack([union, union]), [Region("man"), Region("man")], SIZE)
    assert result.routes == ("pieces", "pieces")
    assert centre_x(result.partition.masks[1]) == pytest.approx(3, abs=0.7)
    assert centre_x(result.partition.masks[2]) == pytest.approx(12, abs=0.7)


def test_a_position_binds_instances_of_one_class_the_other_way() -> None:
    union = blob((8, 3), (8, 12))
    result = find_masks(torch.stack([union, union]), [Region("man", "right"), Region("man")], SIZE)
    assert centre_x(result.partition.masks[1]) > 10 and centre_x(result.partition.masks[2]) < 5


def test_three_of_one_class_with_the_last_two_named_fill_the_slots() -> None:
    union = blob((8, 2), (8, 8), (8, 13), radius=1.5)
    regions = [Region("man"), Region("man", "left"), Region("man", "middle")]
    masks = find_masks(union.expand(3, -1, -1), regions, SIZE).partition.masks
    assert [round(centre_x(mask)) for mask in masks[1:]] == [13, 2, 8]


def test_two_of_one_class_in_one_piece_are_cut_by_place() -> None:
    union = blob((8, 6), (8, 10), radius=3)
    result = find_masks(torch.stack([union, union]), [Region("man"), Region("man")], SIZE)
    assert result.routes == ("clusters", "clusters") and len(result.notes) == 2
    left, right = (centre_x(mask) for mask in result.partition.masks[1:])
    assert left < 8 < right
    assert result.partition.areas[0] == pytest.approx(result.partition.areas[1], rel=0.25)
    assert result.confidence < 0.8


def test_a_class_that_nothing_attends_to_is_empty_and_said_so() -> None:
    result = find_masks(
        torch.stack([blob((8, 4)), torch.full(SIZE, 0.1)]), [Region("dog"), Region("man")], SIZE, missing="mark"
    )
    assert result.empty == (1,) and result.confidence == 0
    assert result.partition.areas[1] == 0 and result.partition.areas[0] > 0.02
    assert len(result.notes) == 1 and 'instances[1] ("man")' in result.notes[0]


def test_a_position_is_the_way_out_where_nothing_attends() -> None:
    result = find_masks(torch.zeros(1, *SIZE), [Region("dog", "right")], SIZE)
    assert result.routes == ("position",) and centre_x(result.partition.masks[1]) > 12
    assert result.confidence == 0 and len(result.notes) == 1


def test_a_box_overrides_attention_and_needs_no_map() -> None:
    box = (0.5, 0.25, 1.0, 0.75)
    result = find_masks(None, [Region("dog", box=box)], SIZE)
    assert result.partition.areas[0] == pytest.approx(0.25, abs=0.01)
    assert result.partition.masks[1, 8, 12] == 1 and result.partition.masks[1, 8, 2] == 0
    assert result.routes == ("box",) and result.confidence == 1
    with_map = find_masks(blob((8, 3))[None], [Region("dog", box=box)], SIZE)
    assert torch.equal(with_map.partition.masks, result.partition.masks)


def test_of_two_boxes_the_smaller_one_is_in_front() -> None:
    regions = [Region("dog", box=(0, 0, 1, 1)), Region("man", box=(0.25, 0.25, 0.75, 0.75))]
    masks = find_masks(None, regions, SIZE).partition.masks
    assert masks[2, 8, 8] == 1 and masks[1, 8, 8] == 0 and masks[1, 1, 1] == 1


def test_the_larger_of_two_pieces_stands_for_one_instance_unless_a_position_says_otherwise() -> None:
    maps = (blob((8, 4)) + 0.9 * blob((8, 13), radius=1.5))[None]
    assert centre_x(find_masks(maps, [Region("dog")], SIZE).partition.masks[1]) == pytest.approx(4, abs=1)
    assert centre_x(find_masks(maps, [Region("dog", "right")], SIZE).partition.masks[1]) == pytest.approx(13, abs=1)


def test_no_instances_leave_everything_to_the_background() -> None:
    result = find_masks(None, [], (4, 6))
    assert torch.equal(result.partition.masks, torch.ones(1, 4, 6)) and result.route == "none"


def test_a_detection_goes_before_attention_and_the_unseen_class_still_has_its_own() -> None:
    maps = torch.stack([blob((8, 4)), blob((8, 12))])
    seen = [_detection("dog", (30, 0, 48, 12), 0.7)]
    result = find_masks(maps, [Region("dog"), Region("man")], SIZE, detections=seen)
    assert result.routes == ("detect", "attention") and result.confidences[0] == pytest.approx(0.7)
    masks = result.partition.masks
    assert masks[1, 2, 13] > 0.9 and masks[1, 8, 4] == 0 and masks[2, 10, 12] > 0.9
    assert result.notes[0].startswith('instances[1] ("man"): the detector did not find it')
    assert result.notes[1:] == ('The masks of the route "detect" come from a test.',)


def test_detections_of_one_class_go_to_its_instances_from_left_to_right_whatever_their_order() -> None:
    seen = [_detection("man", (32, 4, 46, 40), 0.9), _detection("man", (2, 4, 16, 40), 0.6)]
    for found in (seen, seen[::-1]):
        result = find_masks(None, [Region("man"), Region("man")], SIZE, detections=found)
        assert centre_x(result.partition.masks[1]) < 5 and centre_x(result.partition.masks[2]) > 10
        assert result.confidences == pytest.approx((0.6, 0.9))


def test_one_thing_found_twice_is_one_thing() -> None:
    seen = [_detection("man", (2, 4, 16, 40), 0.9), _detection("man", (2, 5, 16, 40), 0.8)]
    result = find_masks(None, [Region("man"), Region("man")], SIZE, detections=seen, missing="mark")
    assert result.routes == ("detect", "empty")


def test_what_the_detector_misses_of_a_class_is_taken_from_attention_beside_what_it_found() -> None:
    union = blob((8, 3), (8, 12))
    seen = [_detection("man", (30, 12, 44, 36))]
    result = find_masks(union.expand(2, -1, -1), [Region("man"), Region("man")], SIZE, detections=seen)
    assert result.routes == ("attention", "detect")
    assert centre_x(result.partition.masks[1]) < 5 and centre_x(result.partition.masks[2]) > 10


def test_a_drawn_instance_leaves_the_rest_of_its_class_to_the_others() -> None:
    union = blob((8, 3), (8, 12))
    regions = [Region("man", box=(0.0, 0.2, 0.4, 0.8)), Region("man")]
    result = find_masks(union.expand(2, -1, -1), regions, SIZE)
    assert result.routes == ("box", "attention") and centre_x(result.partition.masks[2]) > 10


def test_nobody_is_found_in_what_the_only_one_of_a_class_leaves() -> None:
    maps = (blob((8, 3)) + 0.01 * torch.rand(16, 16, generator=torch.Generator().manual_seed(0))).expand(2, -1, -1)
    regions = [Region("man", box=(0.0, 0.2, 0.4, 0.8)), Region("man")]
    assert find_masks(maps, regions, SIZE, missing="mark").routes == ("box", "empty")


def test_points_bind_the_instances_of_a_class_and_choose_among_its_pieces() -> None:
    union = blob((8, 2), (8, 7), (8, 13), radius=1)
    regions = [Region("man", point=(0.85, 0.5)), Region("man", point=(0.12, 0.5))]
    result = find_masks(union.expand(2, -1, -1), regions, SIZE)
    assert result.routes == ("pieces", "pieces")
    assert [round(centre_x(mask)) for mask in result.partition.masks[1:]] == [13, 2]
    mixed = find_masks(union.expand(2, -1, -1), [Region("man"), Region("man", point=(0.12, 0.5))], SIZE)
    assert centre_x(mixed.partition.masks[2]) < 4 and centre_x(mixed.partition.masks[1]) > 6


def test_points_part_an_area_that_is_one_piece_where_they_say() -> None:
    union = blob((8, 5), (8, 8), (8, 11), radius=3)
    regions = [Region("man", point=(0.9, 0.5)), Region("man", point=(0.35, 0.5))]
    result = find_masks(union.expand(2, -1, -1), regions, SIZE)
    assert result.routes == ("clusters", "clusters")
    assert centre_x(result.partition.masks[1]) > 11 and centre_x(result.partition.masks[2]) < 9


def test_a_point_chooses_among_detections() -> None:
    seen = [_detection("man", (32, 4, 46, 40), 0.9), _detection("man", (2, 4, 16, 40), 0.3)]
    result = find_masks(None, [Region("man", point=(0.2, 0.5))], SIZE, detections=seen)
    assert centre_x(result.partition.masks[1]) < 5 and result.confidences == pytest.approx((0.3,))


def test_a_point_at_which_nothing_was_found_is_a_disc_that_says_so() -> None:
    result = find_masks(blob((3, 3))[None], [Region("dog", point=(0.8, 0.8))], SIZE)
    assert result.routes == ("point",) and result.confidence == 0 and "disc around it" in result.notes[0]
    assert result.partition.masks[1, 12, 12] == 1 and result.partition.masks[1, 3, 3] == 0


def test_a_mask_image_overrides_everything_else() -> None:
    drawn = torch.zeros(64, 64)
    drawn[32:, :32] = 1
    seen = [_detection("man", (0, 0, 48, 40))]
    regions = [Region("dog", mask=drawn), Region("man")]
    result = find_masks(torch.rand(2, 8, 8), regions, SIZE, detections=seen)
    assert result.routes == ("mask", "detect") and result.confidences[0] == 1
    masks = result.partition.masks
    assert masks[1, 12, 3] == 1 and masks[1, 3, 3] == 0 and masks[2, 12, 3] == 0 and masks[2, 3, 12] == 1


@pytest.mark.parametrize("value", [0.0, 1.0, float("nan")])
def test_a_mask_image_of_one_value_is_nothing_or_all(value: float) -> None:
    result = find_masks(None, [Region("dog", mask=torch.full((5, 9), value))], SIZE, missing="mark")
    assert_is_a_partition(result.partition.masks)
    assert result.partition.areas == ((1.0,) if value == 1 else (0.0,))
    assert result.routes == (("mask",) if value == 1 else ("empty",))


def test_a_mask_that_is_no_picture_is_refused() -> None:
    with pytest.raises(ShapeError):
        find_masks(None, [Region("dog", mask=torch.zeros(3, 4, 4))], SIZE)


@pytest.mark.parametrize(
    ("region", "why"),
    [
        (Region("dog"), "nothing in the picture was found"),
        (Region("dog", mask=torch.zeros(4, 4)), "its mask image is black"),
        (Region("dog", box=(0.5, 0.5, 0.501, 0.501)), "too small"),
    ],
)
def test_an_instance_without_an_area_is_an_error_or_marked_by_choice(region: Region, why: str) -> None:
    with pytest.raises(InputError, match=rf'instances\[0\] \("dog"\) got no area: .*{why}.*missing: mark'):
        find_masks(torch.zeros(1, 4, 4), [region], SIZE)
    result = find_masks(torch.zeros(1, 4, 4), [region], SIZE, missing="mark")
    assert result.empty == (0,) and why in result.notes[0]
    assert torch.equal(result.partition.masks, torch.stack([torch.ones(SIZE), torch.zeros(SIZE)]))


@pytest.mark.parametrize("region", [Region("dog"), Region("dog", point=(0.5, 0.5)), Region("dog", "left")])
def test_an_instance_that_a_drawn_one_hides_has_no_area_and_the_drawn_one_is_named(region: Region) -> None:
    regions, maps = [Region("man", box=(0, 0, 1, 1)), region], torch.stack([blob((8, 8))] * 2)
    result = find_masks(maps, regions, SIZE, missing="mark")
    assert result.routes == ("box", "empty")
    assert result.notes[0].startswith(
        'instances[1] ("dog") got no area: the box of instances[0] ("man") leaves it no room; make what covers'
    )
    with pytest.raises(InputError, match=r'the box of instances\[0\] \("man"\) leaves it no room'):
        find_masks(maps, regions, SIZE)


def test_several_that_cover_everything_together_are_all_named_and_others_are_not() -> None:
    half = torch.zeros(4, 4)
    half[:, :2] = 1
    boxes = [Region("man", box=(0.5, 0, 1, 1)), Region("cat", mask=half), Region("car", box=(0, 0, 0.01, 0.01))]
    small, note = find_masks(None, [*boxes, Region("dog")], SIZE, missing="mark").notes
    assert 'instances[2] ("car") got no area: its box is too small; make it larger' in small
    assert 'the box of instances[0] ("man") and the mask of instances[1] ("cat") leave it no room' in note
    assert "instances[2]" not in note


def test_what_is_not_found_beside_a_box_is_said_to_be_missing_outside_of_it() -> None:
    regions = [Region("man", box=(0.5, 0, 1, 1)), Region("dog")]
    (note,) = find_masks(torch.zeros(2, 4, 4), regions, SIZE, missing="mark").notes
    assert 'nothing in the picture was found for its class word outside the box of instances[0] ("man"); give' in note


def test_whom_the_detector_missed_gets_a_note_and_attention() -> None:
    maps = torch.stack([blob((8, 3)), blob((8, 12))])
    regions = [Region("dog"), Region("man")]
    seen = find_masks(maps, regions, SIZE, detections=[_detection("dog", (0, 5, 16, 35))])
    assert seen.routes == ("detect", "attention")
    assert seen.notes[0] == 'instances[1] ("man"): the detector did not find it, so its mask was taken from attention.'
    nobody = find_masks(maps, regions, SIZE, detections=[])
    assert nobody.routes == ("attention", "attention") and len(nobody.notes) == 2
    assert find_masks(maps, regions, SIZE).notes == ()


def test_four_instances_by_four_routes_stand_side_by_side() -> None:
    drawn = torch.zeros(8, 8)
    drawn[:, :2] = 1
    regions = [
        Region("dog", mask=drawn),
        Region("man", box=(0.3, 0, 0.5, 1)),
        Region("cat"),
        Region("robot"),
    ]
    maps = torch.stack([torch.zeros(SIZE), torch.zeros(SIZE), blob((8, 10), radius=1.5), torch.zeros(SIZE)])
    result = find_masks(maps, regions, SIZE, detections=[_detection("robot", (40, 10, 48, 30))])
    assert result.routes == ("mask", "box", "attention", "detect") and result.empty == ()
    centres = [centre_x(mask) for mask in result.partition.masks[1:]]
    assert centres == sorted(centres)


def test_the_order_of_instances_changes_nothing_where_each_says_where_it_is() -> None:
    union = blob((8, 2), (8, 8), (8, 13), radius=1.5)
    regions = [Region("man", "left"), Region("man", point=(0.53, 0.5)), Region("man", "right")]
    wanted = find_masks(union.expand(3, -1, -1), regions, SIZE).partition.masks
    assert [round(centre_x(mask)) for mask in wanted[1:]] == [2, 8, 13]
    for order in itertools.permutations(range(3)):
        masks = find_masks(union.expand(3, -1, -1), [regions[i] for i in order], SIZE).partition.masks
        assert torch.equal(masks[1:], wanted[1:][list(order)])


def test_a_margin_gives_room_around_what_was_found_but_never_takes_another_ones() -> None:
    maps = torch.stack([blob((8, 4)), blob((8, 12))])
    regions = [Region("dog"), Region("man")]
    narrow, wide = (find_masks(maps, regions, SIZE, margin=margin).partition.masks for margin in (0.0, 0.25))
    assert (wide[1:].sum(dim=(1, 2)) > 1.5 * narrow[1:].sum(dim=(1, 2))).all()
    assert wide[1, 8, 4] == 1 and wide[2, 8, 12] == 1
    assert_is_a_partition(wide)


def test_feathering_widens_with_the_latents() -> None:
    region = Region("dog", box=(0.25, 0.0, 0.75, 1.0))
    edges = {}
    for side in (32, 128):
        line = find_masks(None, [region], (side, side)).partition.masks[1, 0]
        edges[side] = int(((line > 0.01) & (line < 0.99)).sum())
        assert line[side // 4 - 1] == pytest.approx(1 - float(line[side // 4]))
    assert 2 <= edges[32] <= 6 and 4 <= edges[128] / edges[32] <= 8


def test_affinity_spreads_a_map_over_what_belongs_together() -> None:
    # Two halves that attend each to itself; the class word is attended to in one corner of the left half, faintly
    # in the rest of it, and as faintly in the right half.
    left = (torch.arange(64) % 8 < 4).float()
    affinity = left[:, None] * left[None] / 32 + (1 - left)[:, None] * (1 - left)[None] / 32
    maps = torch.full((1, 8, 8), 0.15)
    maps[0, :3, :3] = 1
    plain = find_masks(maps, [Region("dog")], (8, 8)).partition
    assert torch.equal(
        find_masks(maps, [Region("dog")], (8, 8), affinity=affinity, power=0).partition.masks, plain.masks
    )
    assert plain.areas[0] < 0.4 and plain.masks[1, 7, 1] == 0
    refined = refine_maps(maps, affinity)[0]
    assert refined[7, 0] > 1.5 * refined[7, 7] and refined[0, 0] == refined.max() == 1


def test_affinity_alone_makes_no_trace_of_a_class() -> None:
    maps = torch.zeros(2, 2, 2)
    maps[0, 0, 0] = 1
    refined = refine_maps(maps, torch.full((4, 4), 0.25), power=3)
    assert refined[0].flatten().tolist() == [1, 0, 0, 0] and not refined[1].any()


def test_affinity_of_other_pixels_is_refused() -> None:
    with pytest.raises(ShapeError, match="affinity"):
        find_masks(torch.zeros(1, 4, 4), [Region("dog")], SIZE, affinity=torch.eye(9))


def test_affinity_parts_two_that_touch_where_they_differ() -> None:
    # One bar of even attention, whose left quarter is one thing and the rest another.
    cells = torch.arange(64)
    things = (cells % 8 < 2) + 2 * ((cells >= 16) & (cells < 48))
    same = (things[:, None] == things[None]).float()
    affinity = same / same.sum(dim=1, keepdim=True)
    maps = torch.zeros(2, 8, 8)
    maps[:, 2:6] = 1
    cut = find_masks(maps, [Region("man"), Region("man")], (8, 8), affinity=affinity, power=0)
    assert cut.routes == ("clusters", "clusters")
    assert cut.partition.masks[1, 3, 0] > 0.9 and cut.partition.masks[2, 3, 3] > 0.9
    by_place = find_masks(maps, [Region("man"), Region("man")], (8, 8)).partition.masks
    assert by_place[1, 3, 3] > by_place[2, 3, 3]
