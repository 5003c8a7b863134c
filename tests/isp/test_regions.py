"""Regions: pieces, thresholds and clusters of maps whose answer is known."""

import pytest
import torch

from d2plan.isp.regions import cluster_area, grow_areas, label_pieces, normalise_map, smooth_map, split_by_otsu


def _area(text: str) -> torch.Tensor:
    return torch.tensor([[cell == "#" for cell in line] for line in text.split()])


def test_pieces_are_what_touches_also_at_a_corner() -> None:
    pieces = label_pieces(_area("#...# .#..# ....# ##..."))
    assert sorted(int(piece.sum()) for piece in pieces) == [2, 2, 3]
    assert torch.stack(pieces).sum(dim=0).max() == 1


def test_a_winding_area_is_one_piece() -> None:
    assert len(label_pieces(_area("##### ....# ##### #.... #####"))) == 1


def test_an_empty_area_has_no_pieces() -> None:
    assert label_pieces(torch.zeros(3, 3, dtype=torch.bool)) == []


def test_otsu_parts_two_levels_between_them_and_is_sure() -> None:
    values = torch.tensor([[0.1] * 8 + [0.9] * 4])
    cut, sureness = split_by_otsu(values)
    assert 0.1 < cut <= 0.9 and sureness == pytest.approx(1)


def test_otsu_finds_nothing_in_a_flat_map() -> None:
    cut, sureness = split_by_otsu(torch.zeros(4, 4))
    assert cut == 1 and sureness == 0


def test_a_flat_or_broken_map_normalises_to_zeros() -> None:
    assert not normalise_map(torch.full((3, 3), 0.7)).any()
    assert not normalise_map(torch.full((3, 3), float("nan"))).any()
    assert normalise_map(torch.tensor([[1.0, 3.0]])).tolist() == [[0, 1]]


def test_smoothing_keeps_a_partition_a_partition() -> None:
    hard = torch.nn.functional.one_hot(torch.randint(3, (6, 5), generator=torch.Generator().manual_seed(0)), 3)
    assert torch.allclose(smooth_map(hard.permute(2, 0, 1).float()).sum(dim=0), torch.ones(6, 5))


@pytest.mark.parametrize("across", [True, False])
def test_clusters_part_a_long_area_in_the_middle(across: bool) -> None:
    area = torch.ones(2, 10, dtype=torch.bool)
    weights = torch.ones(2, 10)
    pieces, sureness = cluster_area(area if across else area.T, (weights if across else weights.T), 2)
    wanted = _area("#####..... #####.....")
    wanted = wanted if across else wanted.T
    assert any(torch.equal(piece, wanted) for piece in pieces)
    assert 0.5 < sureness < 1


def test_too_few_pixels_leave_some_clusters_empty() -> None:
    pieces, sureness = cluster_area(_area("#.. ..."), torch.ones(2, 3), 2)
    assert [int(piece.sum()) for piece in pieces] == [1, 0] and sureness == 0


def test_grown_areas_stay_disjoint_and_take_only_free_pixels() -> None:
    areas = torch.stack([_area("#.... #...."), _area("...## ...##")])
    grown = grow_areas(areas, torch.zeros(2, 2, 5), 3)
    assert (grown.sum(dim=0) == 1).all() and (grown & areas == areas).all()
