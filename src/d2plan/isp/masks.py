"""Masks M_0..M_m of eq. (9): from boxes that were given, else from the attention of the class words."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from d2plan.documents import Position
from d2plan.isp.regions import (
    cluster_area,
    find_centre,
    grow_areas,
    label_pieces,
    normalise_map,
    smooth_map,
    split_by_otsu,
)
from d2plan.shapes import check_shape

Box = tuple[float, float, float, float]

_SMALLEST = 0.004  # an area below this part of the picture is a speck
_SIDE_PIECE = 0.35  # a second piece of one instance weighs at least this part of its heaviest one
_OWN_PIECE = 0.2  # a piece that is an instance of its own weighs at least this part of the heaviest
_LEVELS = 8  # cuts that are tried to part a class's area into its instances
_DILATION = 1 / 32  # of the latent's shorter side
_PLACES: dict[Position, float] = {"left": 1 / 6, "middle": 1 / 2, "right": 5 / 6}


@dataclass(frozen=True)
class Partition:
    """Masks that share out every pixel; made by ``make_partition`` alone.

    Attributes:
        masks: M_0 (the background), then M_1..M_m, ``[m+1, h, w]``, 0..1, their sum is 1 everywhere.
    """

    masks: Tensor

    @property
    def areas(self) -> tuple[float, ...]:
        """The part of the picture that each instance has, 0..1."""
        return tuple(self.masks[1:].mean(dim=(1, 2)).tolist())


@dataclass(frozen=True)
class Region:
    """What masks need to know of an instance: its class, and where it was put by hand."""

    class_word: str
    position: Position | None = None
    box: Box | None = None


@dataclass(frozen=True)
class MaskResult:
    """Masks and how they were found.

    Attributes:
        partition: the masks.
        routes: per instance: "box", "attention" (its class's own area), "pieces" (one connected piece of an area
            that several of a class share), "clusters" (a part of such an area, cut by place), "position" (nothing
            was attended to: the third of the picture that its position names), or "empty".
        confidences: per instance, how sure its route is, 0..1.
        notes: sentences for the reader of the result.
    """

    partition: Partition
    routes: tuple[str, ...]
    confidences: tuple[float, ...]
    notes: tuple[str, ...]

    @property
    def empty(self) -> tuple[int, ...]:
        """The instances without an area, by index."""
        return tuple(index for index, route in enumerate(self.routes) if route == "empty")

    @property
    def route(self) -> str:
        """All routes that were used, each once, joined by "+"; "none" without instances."""
        return "+".join(dict.fromkeys(self.routes)) or "none"

    @property
    def confidence(self) -> float:
        """That of the least sure instance; 1 without instances."""
        return min(self.confidences, default=1.0)


@dataclass
class _Draft:
    """Areas in the making, bool ``[h, w]`` each."""

    areas: list[Tensor]
    routes: list[str]
    confidences: list[float]


def make_partition(areas: Tensor) -> Partition:
    """Turn any areas into masks that share out every pixel: disjoint where they were, sharing where they overlap.

    Paper: M_0 = 1 - sum_i M_i of eq. (9), with M_0 >= 0 held by construction.

    Args:
        areas: how much of each pixel each instance claims, ``[m, h, w]``; what is not a number counts as 0.

    Returns:
        The partition, ``[m+1, h, w]``.
    """
    check_shape(areas, "m h w", "areas")
    claims = torch.nan_to_num(areas.double(), nan=0.0, posinf=1.0, neginf=0.0).clamp(0, 1)
    claims = claims / claims.sum(dim=0, keepdim=True).clamp(min=1)
    background = (1 - claims.sum(dim=0, keepdim=True)).clamp(min=0)
    return Partition(torch.cat([background, claims]).float())


def find_masks(class_maps: Tensor | None, regions: Sequence[Region], size: tuple[int, int]) -> MaskResult:
    """Find each instance's mask, from its box if it has one, else from the attention of its class word.

    The maps of one class are taken together and their area is cut among its instances: into its connected pieces
    where there are enough, else by place. Pieces go to the instances from left to right in the order of mention, or by
    the position that an instance names. Areas of different classes compete for each pixel.

    Args:
        class_maps: how much each pixel of the global row attends to the class word of each instance,
            ``[m, a, b]``, 0 or more, any resolution; not needed where every instance has a box.
        regions: the instances, m of them.
        size: height and width of the masks, latent cells.

    Returns:
        Masks ``[m+1, height, width]``, and how they were found.

    Raises:
        ShapeError: another number of maps than instances.
    """
    draft = _Draft(
        [torch.zeros(size, dtype=torch.bool) for _ in regions], ["empty"] * len(regions), [0.0] * len(regions)
    )
    scores = torch.zeros(len(regions), *size)
    if class_maps is not None:
        check_shape(class_maps, f"{len(regions)} a b", "class_maps")
        scores = _draft_from_attention(draft, class_maps.float().cpu(), regions, size)
    _fall_back_on_positions(draft, regions)
    hard = _stack(draft.areas, size)
    hard = grow_areas(hard, scores, max(1, round(min(size) * _DILATION))) if hard.any() else hard
    boxes = _draw_boxes(regions, size)
    soft = hard.float() * (1 - boxes.sum(dim=0, keepdim=True).clamp(max=1)) + boxes
    for index, region in enumerate(regions):
        if region.box is not None:
            draft.routes[index], draft.confidences[index] = "box", 1.0
    partition = make_partition(smooth_map(soft) if len(regions) else soft)
    return MaskResult(partition, tuple(draft.routes), tuple(draft.confidences), _write_notes(draft, regions))


def _draft_from_attention(
    draft: _Draft, class_maps: Tensor, regions: Sequence[Region], size: tuple[int, int]
) -> Tensor:
    """Fill the draft where attention finds something; return each instance's score map, ``[m, h, w]``, 0..1."""
    groups: dict[str, list[int]] = {}
    for index, region in enumerate(regions):
        if region.box is None:
            groups.setdefault(region.class_word.casefold(), []).append(index)
    names = list(groups)
    scores = torch.zeros(len(regions), *size)
    if not names:
        return scores
    shared = torch.stack([_score_map(class_maps[groups[name]].mean(dim=0), size) for name in names])
    parts = [split_by_otsu(score) for score in shared]
    wanted = torch.stack([score >= cut for score, (cut, _) in zip(shared, parts, strict=True)])
    # Two maps often peak in one cell, where both are 1: their surroundings decide, not their order.
    strength = shared + 1e-3 * smooth_map(shared, 2)
    owner = torch.where(wanted, strength, torch.full_like(strength, -1.0)).argmax(dim=0)
    for place, name in enumerate(names):
        won = wanted[place] & (owner == place)
        kept = float(won.sum() / wanted[place].sum().clamp(min=1))
        members = groups[name]
        scores[members] = shared[place]
        _share_among(draft, members, [regions[index] for index in members], won, shared[place])
        for index in members:
            draft.confidences[index] *= parts[place][1] * kept
    return scores


def _score_map(values: Tensor, size: tuple[int, int]) -> Tensor:
    large = functional.interpolate(values[None, None], size=size, mode="bilinear", align_corners=False)[0]
    return normalise_map(smooth_map(torch.nan_to_num(large))[0])


def _share_among(draft: _Draft, members: list[int], regions: list[Region], area: Tensor, score: Tensor) -> None:
    """Give a class's area to its instances."""
    pieces = [piece for piece in label_pieces(area) if piece.float().mean() >= _SMALLEST]
    pieces.sort(key=lambda piece: -float(score[piece].sum()))
    if not pieces:
        return
    weights = [float(score[piece].sum()) for piece in pieces]
    if len(members) == 1:
        chosen = _choose_for_one(pieces, weights, regions[0].position)
        _settle(draft, members[0], chosen, "attention", 1.0)
        return
    own, route, sureness = _part(torch.stack(pieces).any(dim=0), score, len(members))
    own = sorted(own, key=lambda piece: find_centre(piece)[1])
    for member, slot in zip(members, _assign_slots(regions), strict=True):
        _settle(draft, member, own[slot], route, sureness)


def _part(area: Tensor, score: Tensor, count: int) -> tuple[list[Tensor], str, float]:
    """Part an area into pieces for ``count`` instances; return them with the route and how sure it is, 0..1.

    Two that stand close are joined at the foot of their peaks, so the cut is raised until enough pieces stand apart;
    these then take the rest of the area back, each what lies nearest to it.
    """
    foot = float(score[area].min())
    for level in torch.linspace(foot, 1.0, _LEVELS + 1)[:-1].tolist():
        pieces = [piece for piece in label_pieces(area & (score >= level)) if piece.float().mean() >= _SMALLEST]
        weights = [float(score[piece].sum()) for piece in pieces]
        heaviest = sorted(zip(weights, range(len(pieces)), strict=True), reverse=True)[:count]
        if len(heaviest) == count and heaviest[-1][0] >= _OWN_PIECE * heaviest[0][0]:
            seeds = torch.stack([pieces[place] for _, place in heaviest])
            grown = grow_areas(seeds, score.expand(count, -1, -1), sum(area.shape), within=area)
            return list(grown), "pieces", 1 - (level - foot) / max(1 - foot, 1e-6)
    clusters, sureness = cluster_area(area, score, count)
    return clusters, "clusters", sureness


def _choose_for_one(pieces: list[Tensor], weights: list[float], position: Position | None) -> Tensor:
    if position is not None:
        place = _PLACES[position] * pieces[0].shape[1]
        strong = [piece for piece, weight in zip(pieces, weights, strict=True) if weight >= _OWN_PIECE * weights[0]]
        return min(strong, key=lambda piece: abs(find_centre(piece)[1] + 0.5 - place))
    strong = [piece for piece, weight in zip(pieces, weights, strict=True) if weight >= _SIDE_PIECE * weights[0]]
    return torch.stack(strong).any(dim=0)


def _assign_slots(regions: list[Region]) -> list[int]:
    """Bind instances of one class to slots 0 (leftmost) .. n-1: by position where one is named, else by mention."""
    free = list(range(len(regions)))
    taken: dict[int, int] = {}
    for index, region in enumerate(regions):
        if region.position == "left":
            taken[index] = free.pop(0)
    for index, region in reversed(list(enumerate(regions))):
        if region.position == "right":
            taken[index] = free.pop()
    middle = (len(regions) - 1) / 2
    for index, region in enumerate(regions):
        if region.position == "middle":
            taken[index] = free.pop(free.index(min(free, key=lambda slot: abs(slot - middle))))
    return [taken[index] if index in taken else free.pop(0) for index in range(len(regions))]


def _settle(draft: _Draft, index: int, area: Tensor, route: str, sureness: float) -> None:
    if area.float().mean() >= _SMALLEST:
        draft.areas[index], draft.routes[index], draft.confidences[index] = area, route, sureness


def _fall_back_on_positions(draft: _Draft, regions: Sequence[Region]) -> None:
    """Give an instance that nothing attends to the third of the picture that its position names."""
    taken = torch.stack(draft.areas).any(dim=0) if draft.areas else None
    for index, region in enumerate(regions):
        if draft.routes[index] != "empty" or region.box is not None or region.position is None or taken is None:
            continue
        third = torch.zeros_like(taken)
        width = taken.shape[1]
        middle = _PLACES[region.position] * width
        third[:, round(middle - width / 6) : round(middle + width / 6)] = True
        _settle(draft, index, third & ~taken, "position", 0.0)
        taken = taken | draft.areas[index]


def _draw_boxes(regions: Sequence[Region], size: tuple[int, int]) -> Tensor:
    """Draw each box by how much of each cell it covers; where boxes overlap the smaller one is in front."""
    covers = torch.zeros(len(regions), *size)
    for index, region in enumerate(regions):
        if region.box is not None:
            x0, y0, x1, y1 = region.box
            covers[index] = _cover(y0, y1, size[0])[:, None] * _cover(x0, x1, size[1])[None, :]
    sizes = [_box_area(region.box) for region in regions]
    for index, region in enumerate(regions):
        if region.box is not None:
            smaller = [other for other in range(len(regions)) if 0 < sizes[other] < sizes[index]]
            covers[index] *= (1 - covers[smaller].amax(dim=0)) if smaller else 1
    return covers / covers.sum(dim=0, keepdim=True).clamp(min=1)


def _cover(start: float, end: float, cells: int) -> Tensor:
    edges = torch.arange(cells, dtype=torch.float32)
    return (torch.clamp(edges + 1, max=end * cells) - torch.clamp(edges, min=start * cells)).clamp(0, 1)


def _box_area(box: Box | None) -> float:
    return 0.0 if box is None else (box[2] - box[0]) * (box[3] - box[1])


def _stack(areas: list[Tensor], size: tuple[int, int]) -> Tensor:
    return torch.stack(areas) if areas else torch.zeros(0, *size, dtype=torch.bool)


def _write_notes(draft: _Draft, regions: Sequence[Region]) -> tuple[str, ...]:
    notes = []
    for index, (route, region) in enumerate(zip(draft.routes, regions, strict=True)):
        name = f'instances[{index}] ("{region.class_word}")'
        if route == "empty":
            notes.append(f"{name} got no area: nothing in the picture attends to its class word; give it a box.")
        elif route == "position":
            notes.append(f"{name}: nothing attends to its class word; its mask is the {region.position} third.")
        elif route == "clusters":
            notes.append(f"{name}: its class stands in one piece, which was cut by place; give it a box if it is off.")
    return tuple(notes)
