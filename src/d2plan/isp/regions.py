"""Regions of a map: threshold, connected pieces, clusters, dilation. Pure, in torch alone."""

import torch
from torch import Tensor
from torch.nn import functional

from d2plan.shapes import check_shape

_BINS = 64
_ROUNDS = 20


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


def cluster_area(area: Tensor, weights: Tensor, count: int) -> tuple[list[Tensor], float]:
    """Part one area into compact pieces by k-means over its pixels' places.

    It starts from the area's longest direction, cut into parts of equal weight, and holds no chance.

    Args:
        area: bool, ``[h, w]``.
        weights: how much each pixel counts, 0 or more, ``[h, w]``.
        count: pieces wanted.

    Returns:
        ``count`` bool masks ``[h, w]`` (empty ones where there are too few pixels), and the share of the spread that
        lies between the pieces, 0..1.
    """
    points = area.nonzero().double()
    if len(points) < count:
        return [_mark(area, points[i : i + 1]) for i in range(count)], 0.0
    mass = weights[area].double().clamp(min=1e-6)
    owner = _cut_along_axis(points, mass, count)
    for _ in range(_ROUNDS):
        centres = torch.stack([_centre(points, mass * (owner == i)) for i in range(count)])
        moved = torch.cdist(points, centres).argmin(dim=1)
        if torch.equal(moved, owner):
            break
        owner = moved
    pieces = [_mark(area, points[owner == i]) for i in range(count)]
    middle = _centre(points, mass)
    total = (mass * ((points - middle) ** 2).sum(dim=1)).sum()
    centres = torch.stack([_centre(points, mass * (owner == i)) for i in range(count)])
    within = (mass * ((points - centres[owner]) ** 2).sum(dim=1)).sum()
    return pieces, float((1 - within / total.clamp(min=1e-12)).clamp(0, 1))


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
    grown = areas.float()
    allowed = torch.ones_like(grown[0]) if within is None else within.float()
    for _ in range(radius if len(areas) else 0):
        free = allowed * (1 - grown.sum(dim=0, keepdim=True).clamp(max=1))
        if not free.any():
            break
        claims = smooth_map(grown) * free
        winner = (claims + 1e-3 * weights * (claims > 0)).argmax(dim=0)
        owned = functional.one_hot(winner, len(areas)).permute(2, 0, 1)
        grown = grown + owned * (claims > 0).float()
    return grown > 0.5


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


def _centre(points: Tensor, mass: Tensor) -> Tensor:
    return (points * mass.unsqueeze(1)).sum(dim=0) / mass.sum().clamp(min=1e-12)


def _mark(area: Tensor, points: Tensor) -> Tensor:
    mask = torch.zeros_like(area)
    rows = points.long()
    mask[rows[:, 0], rows[:, 1]] = True
    return mask
