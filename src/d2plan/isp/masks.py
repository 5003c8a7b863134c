"""Masks M_0..M_m of eq. (9): drawn by the user, found by a detector, or taken from the attention of the class words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from d2plan.errors import InputError
from d2plan.isp.attended import Attention
from d2plan.isp.overrides import Region as Region
from d2plan.isp.overrides import draw_discs, draw_overrides, place_of
from d2plan.isp.partition import MaskResult as MaskResult
from d2plan.isp.partition import Partition as Partition
from d2plan.isp.partition import make_partition as make_partition
from d2plan.isp.partition import name_instances
from d2plan.isp.regions import find_centre, grow_areas, smooth_map, split_by_otsu
from d2plan.isp.segment import Detection, drop_doubles, scale_detections
from d2plan.isp.sharing import PLACES, SMALLEST, Piece, bind_pieces, part_attended, part_jointly, pick_detected
from d2plan.shapes import check_shape

Missing = Literal["error", "mark"]

_FEATHER = 1 / 45  # standard deviation of the blur, of the shorter side; on 32 cells one round of the 3x3 kernel
_DISC = 1 / 6  # radius of what stands for an instance at whose point nothing was found, of the shorter side
_RIM = 1 / 16  # around an instance that has its place: attention there is not another one's, of the shorter side
_LEAST_CELLS = 0.5  # an instance that has less than that has none


@dataclass
class _Draft:
    """Masks in the making: what was drawn ``[m, h, w]``, and the areas found for the other instances."""

    regions: Sequence[Region]
    drawn: Tensor
    pieces: dict[int, Piece]

    def cells_of(self, indices: Sequence[int]) -> Tensor:
        """Mark the cells that some instances have so far, bool ``[h, w]``."""
        cells = self.drawn[list(indices)].sum(dim=0) >= 0.5
        for index in indices:
            cells = cells | self.pieces[index].area if index in self.pieces else cells
        return cells

    @property
    def taken(self) -> Tensor:
        """The cells that somebody has, bool ``[h, w]``."""
        return self.cells_of(range(len(self.regions)))


@dataclass
class _Group:
    """The instances of one class that nobody drew, and the pieces found for them so far."""

    members: list[int]
    regions: list[Region]
    pieces: list[Piece]

    @property
    def lacking(self) -> int:
        return len(self.members) - len(self.pieces)

    @property
    def position(self) -> Literal["left", "middle", "right"] | None:
        return self.regions[0].position if len(self.regions) == 1 else None

    @property
    def may_be_dealt_to(self) -> bool:
        """Whether it may share figures with classes that look alike: nothing of it was found or put by hand.

        Of a single instance a position is heeded in the dealing.
        """
        by_hand = any(
            region.point is not None or (region.position is not None and len(self.regions) > 1)
            for region in self.regions
        )
        return not self.pieces and not by_hand

    def points(self, size: tuple[int, int]) -> dict[int, tuple[float, float]]:
        """Give y and x, by member, of the points that nothing was found for yet."""
        served = {piece.owner for piece in self.pieces}
        points = {number: region.point for number, region in enumerate(self.regions) if number not in served}
        return {number: place_of(point, size) for number, point in points.items() if point is not None}


def find_masks(
    class_maps: Tensor | None,
    regions: Sequence[Region],
    size: tuple[int, int],
    *,
    detections: Sequence[Detection] | None = None,
    missing: Missing = "error",
    affinity: Tensor | None = None,
    power: int = 1,
    margin: float = 1 / 32,
) -> MaskResult:
    """Find each instance's mask: as drawn, else as a detector saw it, else from the attention of its class word.

    What was found of one class is taken together and shared among its instances: a point takes what lies there, the
    others follow from left to right in the order of mention, or by the position that they name. An area that several
    share is cut into its connected pieces where there are enough, else by k-means. What is drawn lies in front of what
    was detected, and that in front of what was attended to, where different classes compete for each cell. Masks are
    widened a little into the free cells, and feathered against seams.

    Args:
        class_maps: how much each pixel of the global row attends to the class word of each instance,
            ``[m, a, b]``, 0 or more, any resolution; None where nothing is to be taken from attention.
        regions: the instances, m of them.
        size: height and width of the masks, latent cells.
        detections: from ``detect_regions``; None where no detector was asked.
        missing: whether an instance without an area is an error, or marked in the result.
        affinity: how much each pixel of the global row attends to each other one, ``[a * b, a * b]``, rows of sum 1;
            parts instances of one class that touch where they differ; None parts them by place alone.
        power: how often the class maps are spread over ``affinity`` before, 0 or more, so that they cover more of each
            thing; small maps are flooded soon.
        margin: how far what was found is widened, part of the shorter side; one cell at least.

    Returns:
        Masks ``[m+1, height, width]``, and how they were found.

    Raises:
        InputError: an instance has no area, and ``missing`` is "error"; the sentence names it.
        ShapeError: the maps differ in number from the instances, or from ``affinity`` in their pixels.
    """
    draft = _Draft(regions, draw_overrides(regions, size), {})
    groups = _group_regions(regions)
    _add_detected(draft, groups, detections or (), size)
    scores = torch.zeros(len(regions), *size)
    if class_maps is not None:
        check_shape(class_maps, f"{len(regions)} a b", "class_maps")
        _add_attended(draft, groups, Attention(class_maps, affinity, size, power), scores)
    for group in groups:
        for number, piece in bind_pieces(group.pieces, group.regions).items():
            draft.pieces[group.members[number]] = piece
    _fall_back_on_places(draft, size)
    partition = _compose(draft, scores, margin)
    return _report(draft, partition, missing, detections)


def _group_regions(regions: Sequence[Region]) -> list[_Group]:
    groups: dict[str, _Group] = {}
    for index, region in enumerate(regions):
        if not region.drawn:
            group = groups.setdefault(region.class_word.casefold(), _Group([], [], []))
            group.members.append(index)
            group.regions.append(region)
    return list(groups.values())


def _find_kin(draft: _Draft, group: _Group) -> Tensor:
    """Mark the cells, with a rim, of those of a group's class that have their place already."""
    word = group.regions[0].class_word.casefold()
    drawn = [
        index for index, region in enumerate(draft.regions) if region.drawn and region.class_word.casefold() == word
    ]
    cells = draft.cells_of(drawn)
    for piece in group.pieces:
        cells = cells | piece.area
    rim = max(1, round(min(cells.shape) * _RIM))
    return functional.max_pool2d(cells.float()[None], 2 * rim + 1, stride=1, padding=rim)[0] > 0


def _add_detected(
    draft: _Draft, groups: Sequence[_Group], detections: Sequence[Detection], size: tuple[int, int]
) -> None:
    ordered = sorted(detections, key=lambda detection: -detection.score)
    areas = scale_detections(ordered, size)
    for group in groups:
        word, hidden = group.regions[0].class_word.casefold(), draft.taken
        mine = [
            place
            for place, area in enumerate(areas)
            if ordered[place].class_word.casefold() == word
            and float((area & ~hidden).float().mean()) >= max(SMALLEST, 0.5 * float(area.float().mean()))
        ]
        mine = [mine[place] for place in drop_doubles([areas[place] for place in mine])]
        own = [areas[place] & ~hidden for place in mine]
        scores = [ordered[place].score for place in mine]
        group.pieces += pick_detected(own, scores, group.points(size), len(group.members), group.position)
    _part_overlaps([group.pieces for group in groups])


def _part_overlaps(lists: Sequence[list[Piece]]) -> None:
    """Let of two detections that share cells the smaller one keep them: it stands in front."""
    places = [(number, place) for number, pieces in enumerate(lists) for place in range(len(pieces))]

    def depth(where: tuple[int, int]) -> tuple[float, ...]:
        piece = lists[where[0]][where[1]]
        return float(piece.area.sum()), -piece.confidence, *find_centre(piece.area)[::-1]

    taken: Tensor | None = None
    for number, place in sorted(places, key=depth):
        piece = lists[number][place]
        area = piece.area if taken is None else piece.area & ~taken
        taken = piece.area if taken is None else taken | piece.area
        lists[number][place] = piece._replace(area=area)


def _add_attended(draft: _Draft, groups: Sequence[_Group], attention: Attention, scores: Tensor) -> None:
    """Find in the attention what the groups lack, and fill in the instances' scores ``[m, h, w]``."""
    lacking = [group for group in groups if group.lacking]
    if not lacking:
        return
    taken = draft.taken
    for group in groups:
        for piece in group.pieces:
            taken = taken | piece.area
    shared = torch.stack([attention.score(group.members, ~(taken | _find_kin(draft, group))) for group in lacking])
    parts = [split_by_otsu(score) for score in shared]
    wanted = torch.stack([score >= cut for score, (cut, _) in zip(shared, parts, strict=True)])
    alike = [place for place, group in enumerate(lacking) if group.may_be_dealt_to]
    wishes = [PLACES[where] * wanted.shape[2] if (where := lacking[place].position) else None for place in alike]
    counts = [lacking[place].lacking for place in alike]
    dealt = part_jointly(shared[alike], wanted[alike] & ~taken, counts, wishes, attention.rows)
    for number, pieces in dealt.items():
        # A figure's gaps may hold what somebody has already.
        lacking[alike[number]].pieces += [piece._replace(area=piece.area & ~taken) for piece in pieces]
    for group in lacking:
        for piece in group.pieces:
            taken = taken | piece.area
    # Two maps often peak in one cell, where both are 1: their surroundings decide, not their order.
    strength = shared + 1e-3 * smooth_map(shared, 2)
    owner = torch.where(wanted, strength, torch.full_like(strength, -1.0)).argmax(dim=0)
    for place, group in enumerate(lacking):
        scores[group.members] = shared[place]
        if not group.lacking:
            continue
        won = wanted[place] & (owner == place) & ~taken
        kept = float(won.sum() / wanted[place].sum().clamp(min=1)) * parts[place][1]
        points = group.points((won.shape[0], won.shape[1]))
        found = part_attended(won, shared[place], points, group.lacking, group.position, attention.rows)
        group.pieces += [piece._replace(confidence=piece.confidence * kept) for piece in found]


def _fall_back_on_places(draft: _Draft, size: tuple[int, int]) -> None:
    """Give an instance that nothing was found for a disc at its point, or the third that its position names."""
    waiting = [index for index, region in enumerate(draft.regions) if not region.drawn and index not in draft.pieces]
    pointed = {index: point for index in waiting if (point := draft.regions[index].point) is not None}
    if pointed:
        discs = draw_discs(list(pointed.values()), size, _DISC) & (draft.drawn.sum(dim=0) < 0.5)
        # A point is named by hand, so what stands there is in front of what was found.
        for index, piece in draft.pieces.items():
            draft.pieces[index] = piece._replace(area=piece.area & ~discs.any(dim=0))
        for index, disc in zip(pointed, discs, strict=True):
            draft.pieces[index] = Piece(disc, "point", 0.0)
    for index in waiting:
        position = draft.regions[index].position
        if position is not None and index not in pointed:
            third = torch.zeros(size, dtype=torch.bool)
            middle = PLACES[position] * size[1]
            third[:, round(middle - size[1] / 6) : round(middle + size[1] / 6)] = True
            draft.pieces[index] = Piece(third & ~draft.taken, "position", 0.0)


def _compose(draft: _Draft, scores: Tensor, margin: float) -> Partition:
    """Lay what was drawn over what was found, widen and feather."""
    size = (draft.drawn.shape[1], draft.drawn.shape[2])
    hard = torch.zeros(len(draft.regions), *size, dtype=torch.bool)
    for index, piece in draft.pieces.items():
        hard[index] = piece.area
    if hard.any():
        hard = grow_areas(hard, scores, max(1, round(min(size) * margin)))
    soft = hard.float() * (1 - draft.drawn.sum(dim=0, keepdim=True).clamp(max=1)) + draft.drawn
    # The 3x3 binomial kernel has a variance of half a cell, and variances of rounds add up.
    rounds = max(1, round(2 * (_FEATHER * min(size)) ** 2))
    soft = smooth_map(soft, rounds) if len(draft.regions) else soft
    return make_partition(soft * (soft.sum(dim=(1, 2), keepdim=True) >= _LEAST_CELLS))


def _report(
    draft: _Draft, partition: Partition, missing: Missing, detections: Sequence[Detection] | None
) -> MaskResult:
    cells = partition.masks[1:].sum(dim=(1, 2)).tolist()
    routes, confidences = [], []
    notes: list[str] = []
    for index, region in enumerate(draft.regions):
        route, confidence = _tell_route(region, draft.pieces.get(index))
        if cells[index] == 0:
            reason, remedy = _explain_absence(draft, index)
            what = f"{_call(draft, index)} got no area: {reason}"
            if missing == "error":
                raise InputError(f"{what}. {remedy}, or write `missing: mark` to keep a picture that lacks it.")
            notes.append(f"{what}; {remedy[0].lower()}{remedy[1:]}.")
            route, confidence = "empty", 0.0
        elif note := _explain_route(region, route, detections is not None):
            notes.append(f"{_call(draft, index)}: {note}")
        routes.append(route)
        confidences.append(max(0.0, min(1.0, confidence)))
    sources = tuple(dict.fromkeys(item.source for item in detections or () if item.source))
    if "detect" in routes and sources:
        notes.append(f'The masks of the route "detect" come from {" and ".join(sources)}.')
    names = name_instances([region.class_word for region in draft.regions])
    return MaskResult(partition, tuple(routes), tuple(confidences), tuple(notes), names)


def _call(draft: _Draft, index: int) -> str:
    return f'instances[{index}] ("{draft.regions[index].class_word}")'


def _tell_route(region: Region, piece: Piece | None) -> tuple[str, float]:
    if region.drawn:
        return ("mask" if region.mask is not None else "column" if region.dealt else "box"), 1.0
    return (piece.route, piece.confidence) if piece else ("empty", 0.0)


def _explain_absence(draft: _Draft, index: int) -> tuple[str, str]:
    """Say why an instance has no area, and what to do about it."""
    region = draft.regions[index]
    remedy = "Give it a box, a point or a mask of its own"
    if region.mask is not None and not region.mask.any():
        return "its mask image is black", "Draw it in white"
    size = (draft.drawn.shape[1], draft.drawn.shape[2])
    if region.drawn and float(draw_overrides([region], size).sum()) < _LEAST_CELLS:
        return f"its {_tell_route(region, None)[0]} is too small", "Make it larger"
    if covering := _find_covering(draft, index, size):
        leave = "leaves" if len(covering) == 1 else "leave"
        smaller = "Make what covers it smaller, or give it a smaller box or a mask of its own"
        return f"{_call_drawn(draft, covering)} {leave} it no room", smaller
    if region.drawn or index in draft.pieces:
        return "what others have covers all of it", remedy
    drawn = [other for other, it in enumerate(draft.regions) if it.drawn]
    outside = f" outside {_call_drawn(draft, drawn)}" if drawn else ""
    return f"nothing in the picture was found for its class word{outside}", remedy


def _call_drawn(draft: _Draft, indices: Sequence[int]) -> str:
    return " and ".join(
        f"the {_tell_route(draft.regions[index], None)[0]} of {_call(draft, index)}" for index in indices
    )


def _find_covering(draft: _Draft, index: int, size: tuple[int, int]) -> list[int]:
    """Find the boxes and masks of others that cover an instance's own place; without one that is the whole picture."""
    own = draw_overrides([draft.regions[index]], size)[0] > 0
    place = own if own.any() else torch.ones_like(own)
    others = [other for other, region in enumerate(draft.regions) if other != index and region.drawn]
    least = SMALLEST * float(place.sum())
    if float((place & ~draft.cells_of(others)).sum()) >= least:
        return []
    return [other for other in others if float((place & draft.cells_of([other])).sum()) >= least]


def _explain_route(region: Region, route: str, asked: bool) -> str:
    """Say what a reader must know of how a mask was found; ``asked`` is whether a detector looked for it."""
    if route == "position":
        return f"nothing was found for its class word; its mask is the {region.position} third."
    if route == "point":
        return "nothing was found for its class word near its point; its mask is a disc around it."
    notes = []
    if asked and not region.drawn and route != "detect":
        notes.append("the detector did not find it, so its mask was taken from attention")
    if route == "clusters":
        notes.append("its class stands in one piece, which was cut by place; give it a box or a point if it is off")
    return "; ".join(notes) + "." if notes else ""
