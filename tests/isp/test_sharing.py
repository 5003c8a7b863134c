"""One class, several instances: pieces go to points, then positions, then mention."""

import itertools

import torch

from d2plan.isp.masks import Region
from d2plan.isp.sharing import Piece, bind_pieces, part_attended, pick_detected


def _bar(start: int, stop: int, width: int = 16) -> torch.Tensor:
    area = torch.zeros(8, width, dtype=torch.bool)
    area[2:6, start:stop] = True
    return area


def test_pieces_are_bound_from_left_to_right_in_any_order() -> None:
    pieces = [Piece(_bar(start, start + 3), "pieces", 1.0) for start in (0, 6, 12)]
    for shuffled in itertools.permutations(pieces):
        bound = bind_pieces(shuffled, [Region("man")] * 3)
        assert [bound[member] for member in range(3)] == pieces


def test_with_too_few_pieces_those_with_a_position_come_first() -> None:
    bound = bind_pieces([Piece(_bar(0, 3), "pieces", 1.0)], [Region("man"), Region("man", "right")])
    assert list(bound) == [1]


def test_a_point_keeps_its_piece_and_the_rest_follow() -> None:
    pieces = [Piece(_bar(0, 3), "detect", 0.5, owner=1), Piece(_bar(6, 9), "detect", 0.5)]
    bound = bind_pieces(pieces, [Region("man"), Region("man", point=(0.1, 0.5))])
    assert bound == {1: pieces[0], 0: pieces[1]}


def test_of_many_detections_the_prominent_ones_stand_for_the_instances() -> None:
    areas = [_bar(0, 1), _bar(3, 7), _bar(9, 14)]
    picked = pick_detected(areas, [0.6, 0.6, 0.6], {}, 2, None)
    assert {int(piece.area.sum()) for piece in picked} == {16, 20}


def test_a_position_chooses_among_detections_but_not_a_faint_one() -> None:
    areas = [_bar(0, 5), _bar(9, 13), _bar(15, 16)]
    (picked,) = pick_detected(areas, [0.9, 0.5, 0.06], {}, 1, "right")
    assert torch.equal(picked.area, areas[1])


def test_two_points_at_one_detection_take_it_once() -> None:
    picked = pick_detected([_bar(4, 12)], [0.9], {0: (4.0, 5.0), 1: (4.0, 9.0)}, 2, None)
    assert [piece.owner for piece in picked] == [0]


def test_an_upright_area_is_parted_side_by_side() -> None:
    area = torch.zeros(16, 16, dtype=torch.bool)
    area[1:15, 5:11] = True
    pieces = part_attended(area, area.float(), {}, 2, None)
    assert {piece.route for piece in pieces} == {"clusters"}
    assert all(piece.area.any(dim=1).sum() == 14 for piece in pieces)


def test_nothing_attended_has_no_pieces() -> None:
    nothing = torch.zeros(8, 8, dtype=torch.bool)
    assert part_attended(nothing, nothing.float(), {}, 2, None) == []
