"""The instances of one class: part what was found of the class into pieces, and bind each piece to its instance."""

from collections.abc import Mapping, Sequence
from itertools import combinations, permutations
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from d2plan.documents import Position, Scene
from d2plan.isp.overrides import Region
from d2plan.isp.regions import cluster_area, find_centre, grow_areas, label_pieces, measure_gap

Place = tuple[float, float]

SMALLEST = 0.004  # an area below this part of the picture is a speck
PLACES: dict[Position, float] = {"left": 1 / 6, "middle": 1 / 2, "right": 5 / 6}

_SIDE_PIECE = 0.35  # a second piece of one instance weighs at least this part of its heaviest one
_OWN_PIECE = 0.2  # a piece that is an instance of its own weighs at least this part of the heaviest
_COMMON = 0.5  # part of the larger of two classes' areas in the other one's, above which they are one area
_COMMON_FIGURE = 0.25  # part of the areas of each of two classes in one figure, from which they share it
_BESIDE = 0.2  # of a figure's width: what lies farther from each other stands side by side in it
_GAP = 3 / 32  # of the shorter side: what lies above each other with twice that between is one figure
_MOST_DEALT = 6  # instances of which every way to deal out figures is tried
_LEVELS = 8  # cuts that are tried to part a class's area into its instances
_REACH = 1 / 6  # of the shorter side: a point this far from a piece still means it


class Piece(NamedTuple):
    """The area of one instance.

    Attributes:
        area: bool ``[h, w]``.
        route: how it was found.
        confidence: how sure that is, 0..1.
        owner: the member of its class whose point it holds; None leaves it to ``bind_pieces``.
    """

    area: Tensor
    route: str
    confidence: float
    owner: int | None = None


def pick_detected(
    areas: Sequence[Tensor], scores: Sequence[float], points: Mapping[int, Place], count: int, position: Position | None
) -> list[Piece]:
    """Choose those detections of a class that stand for its instances.

    Args:
        areas: of the detections, bool ``[h, w]`` each.
        scores: of each, 0..1.
        points: y and x by member, for the members that have a point.
        count: the class's instances, those with points included.
        position: of the one instance of a class, where it states one.

    Returns:
        At most ``count`` pieces: to each point the detection at it, then the most prominent ones.
    """
    prominence = [score * float(area.float().mean()) ** 0.5 for area, score in zip(areas, scores, strict=True)]
    if position is not None and areas:
        middle, least = PLACES[position] * areas[0].shape[1], _OWN_PIECE * max(prominence)
        gaps = [abs(find_centre(area)[1] + 0.5 - middle) for area in areas]
        prominence = [-gap if own >= least else -torch.inf for gap, own in zip(gaps, prominence, strict=True)]
    chosen = _choose(areas, prominence, points, count)
    return [Piece(areas[place], "detect", scores[place], owner) for place, owner in chosen]


def part_attended(
    area: Tensor,
    score: Tensor,
    points: Mapping[int, Place],
    count: int,
    position: Position | None,
    rows: Tensor | None = None,
) -> list[Piece]:
    """Part the area that attends to a class into its instances.

    Args:
        area: bool, ``[h, w]``.
        score: how much each cell attends, 0..1, ``[h, w]``.
        points: y and x by member, for the members that have a point; one far from the area gets nothing here.
        count: instances wanted, those with points included.
        position: of the one instance of a class, where it states one.
        rows: self-attention of each cell, ``[h * w, d]``, for instances that stand in one piece.

    Returns:
        At most ``count`` pieces.
    """
    pieces = _find_pieces(area)
    if not pieces:
        return []
    attended = torch.stack(pieces).any(dim=0)
    near = {member: place for member, place in points.items() if measure_gap(attended, place) <= _reach(area)}
    count -= len(points) - len(near)
    weights = [float(score[piece].sum()) for piece in pieces]
    if count <= 0:
        return []
    if count == 1 and near:
        ((place, owner),) = _choose(pieces, weights, near, 1)
        return [Piece(pieces[place], "attention", 1.0, owner)]
    if count == 1:
        return [Piece(_choose_for_one(pieces, weights, position), "attention", 1.0)]
    return _part(attended, score, near, count, rows)


def part_jointly(
    scores: Tensor,
    areas: Tensor,
    counts: Sequence[int],
    wishes: Sequence[float | None],
    rows: Tensor | None = None,
) -> dict[int, list[Piece]]:
    """Part what attends to classes that share their figures, and deal the figures out.

    Words for things that look alike ("boy" and "girl", "cat" and "dog") attend to each other's figures, one to the
    heads and the other to the clothes. Then each figure is cut out of all their areas together, and goes to the class
    that it is more of than the others are.

    Args:
        scores: how much each cell attends to each class, 0..1, ``[n, h, w]``.
        areas: what belongs to each by itself, bool, ``[n, h, w]``.
        counts: instances wanted of each.
        wishes: how far to the right the one instance of a class shall stand, cells; None where nobody said.
        rows: self-attention of each cell, ``[h * w, d]``, for figures that touch.

    Returns:
        The pieces of each class that shares figures with another; of none where too few figures are found.
    """
    kin = _find_kin(areas, _find_pieces(_close_upwards(areas.any(dim=0))), sum(counts))
    owners = [owner for owner in kin for _ in range(counts[owner])]
    if not kin or len(owners) > _MOST_DEALT:
        return {}
    pieces = _part(_close_upwards(areas[kin].any(dim=0)), scores[kin].amax(dim=0), {}, len(owners), rows)
    if len(pieces) < len(owners):
        return {}
    means = torch.stack([scores[kin][:, piece.area].mean(dim=1) for piece in pieces], dim=1)
    fits = dict(zip(kin, means / means.sum(dim=0).clamp(min=1e-12), strict=True))
    for owner in kin:
        if (wish := wishes[owner]) is not None:
            # What was said by hand goes before what the maps say.
            gaps = torch.tensor([abs(find_centre(piece.area)[1] + 0.5 - wish) for piece in pieces])
            fits[owner] = fits[owner] - len(owners) * gaps

    def weigh(order: tuple[int, ...]) -> float:
        return sum(float(fits[owner][place]) for owner, place in zip(owners, order, strict=True))

    dealt = max(permutations(range(len(owners))), key=weigh)
    return {owner: [pieces[p] for o, p in zip(owners, dealt, strict=True) if o == owner] for owner in kin}


def _close_upwards(area: Tensor) -> Tensor:
    """Join what lies above each other with a small gap, such as a head and clothes; bool ``[h, w]``."""
    reach = round(min(area.shape) * _GAP)
    wide = functional.max_pool2d(area.float()[None], (2 * reach + 1, 1), stride=1, padding=(reach, 0))
    return -functional.max_pool2d(-wide, (2 * reach + 1, 1), stride=1, padding=(reach, 0))[0] > 0


def _find_kin(areas: Tensor, figures: Sequence[Tensor], total: int) -> list[int]:
    """List the classes that share figures: most of their areas, or a good part of both, one above the other."""
    sizes = areas.flatten(1).sum(dim=1).clamp(min=1)
    kin: set[int] = set()
    for a, b in combinations(range(len(areas)), 2):
        common = int((areas[a] & areas[b]).sum()) > _COMMON * int(max(sizes[a], sizes[b]))
        shared = len(figures) >= total and any(_share(areas[a], areas[b], figure) for figure in figures)
        kin |= {a, b} if common or shared else set()
    return sorted(kin)


def _share(one: Tensor, other: Tensor, figure: Tensor) -> bool:
    """Say whether a good part of two areas lies in a figure, and not side by side there."""
    parts = [one & figure, other & figure]
    if any(
        float(part.sum()) < _COMMON_FIGURE * max(1, int(area.sum()))
        for part, area in zip(parts, (one, other), strict=True)
    ):
        return False
    middles = [find_centre(part)[1] for part in parts]
    return abs(middles[0] - middles[1]) <= _BESIDE * int(figure.any(dim=0).sum())


def bind_pieces(pieces: Sequence[Piece], regions: Sequence[Region]) -> dict[int, Piece]:
    """Bind the pieces of a class to its instances: by points, then positions, then mention from left to right.

    Args:
        pieces: at most one an instance.
        regions: the class's instances, in the order of mention.

    Returns:
        The piece of each member that gets one.
    """
    bound = {piece.owner: piece for piece in pieces if piece.owner is not None}
    free = sorted((piece for piece in pieces if piece.owner is None), key=lambda piece: find_centre(piece.area)[1])
    waiting = [member for member, region in enumerate(regions) if member not in bound and region.point is None]
    # With fewer pieces than instances those that say where they stand come first.
    served = sorted(sorted(waiting, key=lambda member: regions[member].position is None)[: len(free)])
    for member, slot in zip(served, assign_slots([regions[member].position for member in served]), strict=True):
        bound[member] = free[slot]
    return bound


def _reach(area: Tensor) -> float:
    return max(1.0, _REACH * min(area.shape))


def _find_pieces(area: Tensor) -> list[Tensor]:
    return [piece for piece in label_pieces(area) if piece.float().mean() >= SMALLEST]


def _choose(
    areas: Sequence[Tensor], weights: Sequence[float], points: Mapping[int, Place], count: int
) -> list[tuple[int, int | None]]:
    """Choose areas for points and, by weight, for the rest; pairs of the area's place and the point's owner."""
    gaps = [
        (gap, -weights[place], owner, place)
        for owner, point in points.items()
        for place, area in enumerate(areas)
        if (gap := measure_gap(area, point)) <= _reach(area)
    ]
    taken: dict[int, int] = {}
    for _, _, owner, place in sorted(gaps):
        if owner not in taken.values() and place not in taken:
            taken[place] = owner
    rest = sorted((place for place in range(len(areas)) if place not in taken), key=lambda place: -weights[place])
    return [*taken.items(), *((place, None) for place in rest[: max(0, count - len(points))])]


def _part(
    area: Tensor, score: Tensor, points: Mapping[int, Place], count: int, rows: Tensor | None = None
) -> list[Piece]:
    """Part an area into pieces for several instances.

    Two that stand close are joined at the foot of their peaks, so the cut is raised until enough pieces stand apart;
    these then take the rest of the area back, each what lies nearest to it.
    """
    foot = float(score[area].min())
    for level in torch.linspace(foot, 1.0, _LEVELS + 1)[:-1].tolist():
        pieces = _find_pieces(area & (score >= level))
        weights = [float(score[piece].sum()) for piece in pieces]
        chosen = _choose(pieces, weights, points, count)
        chosen = [pair for pair in chosen if pair[1] is not None or weights[pair[0]] >= _OWN_PIECE * max(weights)]
        if len(chosen) == count:
            seeds = torch.stack([pieces[place] for place, _ in chosen])
            grown = grow_areas(seeds, score.expand(count, -1, -1), sum(area.shape), within=area)
            sureness = 1 - (level - foot) / max(1 - foot, 1e-6)
            return [Piece(part, "pieces", sureness, owner) for part, (_, owner) in zip(grown, chosen, strict=True)]
    clusters, sureness = cluster_area(area, score, count, list(points.values()), rows)
    owners = [*points, *[None] * (count - len(points))]
    parts = [Piece(part, "clusters", sureness, owner) for part, owner in zip(clusters, owners, strict=True)]
    return [part for part in parts if part.area.float().mean() >= SMALLEST]


def _choose_for_one(pieces: list[Tensor], weights: list[float], position: Position | None) -> Tensor:
    if position is not None:
        place = PLACES[position] * pieces[0].shape[1]
        strong = _take_strong(pieces, weights, _OWN_PIECE)
        return min(strong, key=lambda piece: abs(find_centre(piece)[1] + 0.5 - place))
    return torch.stack(_take_strong(pieces, weights, _SIDE_PIECE)).any(dim=0)


def _take_strong(pieces: list[Tensor], weights: list[float], share: float) -> list[Tensor]:
    return [piece for piece, weight in zip(pieces, weights, strict=True) if weight >= share * max(weights)]


def assign_slots(positions: Sequence[Position | None]) -> list[int]:
    """Deal out slots 0 (leftmost) .. n-1: by position where one is named, else in the given order.

    >>> assign_slots([None, "left", "middle"])
    [2, 0, 1]

    Args:
        positions: one for each instance.

    Returns:
        The slot of each.
    """
    free = list(range(len(positions)))
    taken: dict[int, int] = {}
    for index, position in enumerate(positions):
        if position == "left":
            taken[index] = free.pop(0)
    for index, position in reversed(list(enumerate(positions))):
        if position == "right":
            taken[index] = free.pop()
    middle = (len(positions) - 1) / 2
    for index, position in enumerate(positions):
        if position == "middle":
            # Of two that are as near, that of its own turn: an even number has no middle one.
            taken[index] = min(free, key=lambda slot: (abs(slot - middle), abs(slot - index)))
            free.remove(taken[index])
    return [taken[index] if index in taken else free.pop(0) for index in range(len(positions))]


def tell_positions(scene: Scene) -> list[str]:
    """Tell of instances of one class that name the same position, where nothing else says who is who.

    Args:
        scene: with its class words filled in.

    Returns:
        Sentences for the reader of the result.
    """
    places: dict[tuple[str, str], list[str]] = {}
    for index, item in enumerate(scene.instances):
        if item.position is not None and item.box is None and item.point is None and item.mask is None:
            places.setdefault(((item.class_word or "").casefold(), item.position), []).append(f"instances[{index}]")
    return [
        f'{" and ".join(found)} are all "{word}" at the position {position}; the order in which they are listed parts '
        "them, from left to right, so give each its own position, or a point or a box."
        for (word, position), found in places.items()
        if len(found) > 1
    ]
