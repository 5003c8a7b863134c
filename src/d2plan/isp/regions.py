"""Regions of a map: threshold, connected pieces, clusters, dilation. Pure, in torch alone."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from d2plan.shapes import check_shape

_BINS = 64
_ROUNDS = 20
_UPRIGHT = 0.3  # a cell up or down counts less: things stand beside each other more often than above each other


def normalise_map(values: Tensor) -> Tensor:
    """Stretch a map to 0..1 by its own least and largest value; a flat map becomes zeros.

    Args:
        values: ``[h, w]``.

    Returns:
        The map in 0..1, ``[h, w]``.
    """
    low, high = values.min(), values.max()
    if not torch.isfinite(high - low) or high - low <= 1e-12:
        return torch.zeros_like(values)
    return (values - low) / (high - low)


def smooth_map(values: Tensor, rounds: int = 1) -> Tensor:
    """Blur maps by the 3x3 binomial kernel, edges repeated; sums over the leading axis stay what they are.

    Args:
        values: ``[n, h, w]``.
        rounds: how often.

    Returns:
        The blurred maps, ``[n, h, w]``.
    """
    line = torch.tensor([0.25, 0.5, 0.25], dtype=values.dtype, device=values.device)
    kernel = (line[:, None] * line[None, :]).view(1, 1, 3, 3)
    blurred = values.unsqueeze(1)
    for _ in range(rounds):
        blurred = functional.conv2d(functional.pad(blurred, (1, 1, 1, 1), mode="replicate"), kernel)
    return blurred.squeeze(1)


def split_by_otsu(values: Tensor) -> tuple[float, float]:
    """Find the threshold that parts a map's values best into area and background (Otsu 1979).

    Args:
        values: 0..1, ``[h, w]``.

    Returns:
        The threshold, and how well it parts: the share of the variance that lies between the two sides, 0..1.
    """
    flat = values.flatten().double().cpu()
    counts = torch.histc(flat, bins=_BINS, min=0.0, max=1.0)
    centres = (torch.arange(_BINS, dtype=torch.float64) + 0.5) / _BINS
    share = counts / counts.sum().clamp(min=1)
    below = share.cumsum(0)
    mean_below = (share * centres).cumsum(0)
    mean = mean_below[-1]
    inner = below * (1 - below)
    between = torch.where(inner > 1e-12, (mean * below - mean_below) ** 2 / inner.clamp(min=1e-12), torch.zeros(()))
    variance = (share * (centres - mean) ** 2).sum()
    if variance <= 1e-12:
        return 1.0, 0.0
    best = int(between.argmax())
    return (best + 1) / _BINS, float((between[best] / variance).clamp(0, 1))


def label_pieces(area: Tensor) -> list[Tensor]:
    """Part an area into its connected pieces, pixels that touch at a corner being connected.

    Args:
        area: bool, ``[h, w]``.

    Returns:
        One bool mask ``[h, w]`` a piece, in the order of their last pixels.
    """
    check_shape(area, "h w", "area")
    inside = area.float()
    labels = torch.arange(1, area.numel() + 1, device=area.device).view_as(area).double() * area
    while True:
        spread = functional.max_pool2d(labels[None], 3, stride=1, padding=1)[0] * inside
        if torch.equal(spread, labels):
            return [labels == label for label in labels.unique().tolist() if label > 0]
        labels = spread


def cluster_area(
    area: Tensor, weights: Tensor, count: int, anchors: Sequence[tuple[float, float]] = (), rows: Tensor | None = None
) -> tuple[list[Tensor], float]:
    """Part one area into compact upright pieces by k-means over its pixels' places and what else describes them.

    It starts from the area's longest direction, cut into parts of equal weight, or from the anchors and what lies
    farthest from them, and holds no chance.

    Args:
        area: bool, ``[h, w]``.
        weights: how much each pixel counts, 0 or more, ``[h, w]``.
        count: pieces wanted.
        anchors: places (y, x) that the first pieces stay centred at, at most ``count``.
        rows: describes each pixel of the map further, ``[h * w, d]``, and counts as much as its place does; not used
            with anchors.

    Returns:
        ``count`` bool masks ``[h, w]`` (empty ones where there are too few pixels), those of the anchors first, and
        the share of the spread that lies between the pieces, 0..1.
    """
    places = area.nonzero().double()
    if len(places) < count:
        return [_mark(area, places[i : i + 1]) for i in range(count)], 0.0
    scale = places.new_tensor([_UPRIGHT, 1.0])
    points = places * scale
    if rows is not None and not anchors:
        points = torch.cat([points, _balance(rows[area.flatten()].double(), points)], dim=1)
    mass = weights[area].double().clamp(min=1e-6)
    fixed = places.new_tensor(list(anchors)).view(-1, 2) * scale
    owner = _spread_from(points, fixed, count) if len(fixed) else _cut_along_axis(places * scale, mass, count)
    for _ in range(_ROUNDS):
        moved = torch.cdist(points, _find_centres(points, mass, owner, count, fixed)).argmin(dim=1)
        if torch.equal(moved, owner):
            break
        owner = moved
    middle = _centre(points, mass)
    total = (mass * ((points - middle) ** 2).sum(dim=1)).sum()
    centres = _find_centres(points, mass, owner, count)
    within = (mass * ((points - centres[owner]) ** 2).sum(dim=1)).sum()
    pieces = [_mark(area, places[owner == i]) for i in range(count)]
    return pieces, float((1 - within / total.clamp(min=1e-12)).clamp(0, 1))


def measure_gap(area: Tensor, place: tuple[float, float]) -> float:
    """Measure how far a place lies from an area.

    Args:
        area: bool, ``[h, w]``.
        place: y and x, cells.

    Returns:
        To the nearest cell's centre, cells, 0 within a cell; infinite for an empty area.
    """
    points = area.nonzero().double()
    if not len(points):
        return math.inf
    gap = float((points - points.new_tensor(place)).norm(dim=1).min())
    return 0.0 if gap <= 0.5**0.5 else gap


def find_centre(area: Tensor) -> tuple[float, float]:
    """Give an area's centre as (y, x), pixels; an empty area's is (0, 0).

    Args:
        area: bool, ``[h, w]``.

    Returns:
        The mean place of its pixels.
    """
    points = area.nonzero().double()
    if not len(points):
        return 0.0, 0.0
    y, x = points.mean(dim=0).tolist()
    return y, x


def grow_areas(areas: Tensor, weights: Tensor, radius: int, within: Tensor | None = None) -> Tensor:
    """Widen disjoint areas into the free pixels around them; where two meet, the one around it more gets the pixel.

    Args:
        areas: bool, disjoint, ``[n, h, w]``.
        weights: 0..1, settles a pixel that two areas surround alike, ``[n, h, w]``.
        radius: pixels.
        within: where they may grow, bool, ``[h, w]``; None is everywhere.

    Returns:
        The wider areas, bool and disjoint, ``[n, h, w]``.
    """
    # A tie goes to the area whose first pixel comes first, so that the order of the areas changes nothing.
    order = areas.flatten(1).float().argmax(dim=1).argsort(stable=True) if len(areas) else torch.zeros(0).long()
    grown, weights = areas[order].float(), weights[order]
    allowed = torch.ones_like(grown[0]) if within is None else within.float()
    for _ in range(radius if len(areas) else 0):
        free = allowed * (1 - grown.sum(dim=0, keepdim=True).clamp(max=1))
        if not free.any():
            break
        claims = smooth_map(grown) * free
        winner = (claims + 1e-3 * weights * (claims > 0)).argmax(dim=0)
        owned = functional.one_hot(winner, len(areas)).permute(2, 0, 1)
        grown = grown + owned * (claims > 0).float()
    return grown[order.argsort()] > 0.5


def _cut_along_axis(points: Tensor, mass: Tensor, count: int) -> Tensor:
    offsets = points - _centre(points, mass)
    spread = (offsets * mass.unsqueeze(1)).T @ offsets
    axis = torch.linalg.eigh(spread).eigenvectors[:, -1]
    along = offsets @ axis
    order = along.argsort(stable=True)
    part = mass[order].cumsum(0) / mass.sum() * count
    owner = torch.empty(len(points), dtype=torch.long, device=points.device)
    owner[order] = part.ceil().long().clamp(1, count) - 1
    return owner


def _balance(rows: Tensor, points: Tensor) -> Tensor:
    """Scale descriptions ``[n, d]`` to spread as far as places ``[n, 2]`` do."""
    spreads = [(values - values.mean(dim=0)).pow(2).sum().sqrt() for values in (rows, points)]
    return rows * (spreads[1] / spreads[0] if spreads[0] > 1e-9 else 0.0)


def _spread_from(points: Tensor, fixed: Tensor, count: int) -> Tensor:
    """Give each point to the nearest of the anchors and, in turn, of the points farthest from all centres so far."""
    centres = fixed[:count]
    while len(centres) < count:
        farthest = torch.cdist(points, centres).amin(dim=1).argmax()
        centres = torch.cat([centres, points[farthest : farthest + 1]])
    return torch.cdist(points, centres).argmin(dim=1)


def _find_centres(points: Tensor, mass: Tensor, owner: Tensor, count: int, fixed: Tensor | None = None) -> Tensor:
    centres = [_centre(points, mass * (owner == i)) for i in range(count)]
    return torch.stack([*([] if fixed is None else fixed), *centres[0 if fixed is None else len(fixed) :]])


def _centre(points: Tensor, mass: Tensor) -> Tensor:
    return (points * mass.unsqueeze(1)).sum(dim=0) / mass.sum().clamp(min=1e-12)


def _mark(area: Tensor, points: Tensor) -> Tensor:
    mask = torch.zeros_like(area)
    rows = points.long()
    mask[rows[:, 0], rows[:, 1]] = True
    return mask
