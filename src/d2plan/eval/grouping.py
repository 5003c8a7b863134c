"""From the segmenter's dense output to instances: pixels join the centre that they point to."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from d2plan.eval.networks import CELL, OFFSET_UNIT, SEGMENT_LABELS

_CLASSES = len(SEGMENT_LABELS)
_WINDOW = 5
_PEAK = 0.25
_LEAST_CELLS = 10


@dataclass(frozen=True, eq=False)
class Found:
    """An instance that the segmenter found, in the pixels of the judge's size.

    Attributes:
        mask: ``[h w]`` 0..1.
        box: x0, y0, x1, y1.
        class_scores: ``[11]`` log-probabilities of the classes, without "none".
    """

    mask: Tensor
    box: tuple[float, float, float, float]
    class_scores: Tensor


def find_centres(heat: Tensor) -> Tensor:
    """Find the peaks of a map of centres.

    Args:
        heat: ``[h w]``, about 1 at a centre and 0 far from one.

    Returns:
        ``[n 2]`` rows and columns, strongest first.
    """
    smooth = functional.avg_pool2d(functional.pad(heat[None, None], (1, 1, 1, 1), mode="replicate"), 3, 1)[0, 0]
    highest = functional.max_pool2d(smooth[None, None], _WINDOW, 1, _WINDOW // 2)[0, 0]
    peaks = ((smooth == highest) & (smooth > _PEAK)).nonzero()
    order = smooth[peaks[:, 0], peaks[:, 1]].argsort(descending=True)
    return peaks[order]


def group_instances(dense: Tensor) -> list[Found]:
    """Group the pixels of a picture into instances.

    Source: Panoptic-DeepLab (Cheng et al. 2020), section 3.3: each pixel of a thing joins the nearest centre to
    where its offset points; the class is voted by its pixels.

    Args:
        dense: ``[15 h w]``, the segmenter's output for one picture.

    Returns:
        The instances; those smaller than 10 cells are left out.
    """
    probabilities = dense[:_CLASSES].softmax(0)
    thing = probabilities[0] < 0.5
    centres = find_centres(dense[_CLASSES] * (1 - probabilities[0]))
    if not len(centres) or not bool(thing.any()):
        return []
    rows, columns = thing.nonzero(as_tuple=True)
    offsets = dense[_CLASSES + 1 :, rows, columns] * OFFSET_UNIT
    pointed = torch.stack([rows, columns], 1) + offsets.T
    owner = torch.cdist(pointed, centres.float()).argmin(1)
    found = []
    for number in range(len(centres)):
        mine = owner == number
        if int(mine.sum()) < _LEAST_CELLS:
            continue
        share = torch.zeros_like(dense[0])
        share[rows[mine], columns[mine]] = 1.0
        scores = dense[1:_CLASSES, rows[mine], columns[mine]].mean(1).log_softmax(0)
        found.append(make_found(share, scores))
    return found


def make_found(share: Tensor, scores: Tensor) -> Found:
    """Bring a mask of cells to pixels and put a box around it.

    Args:
        share: ``[h w]``, 1 in the instance's cells.
        scores: ``[11]`` log-probabilities of the classes.

    Returns:
        The instance.
    """
    mask = functional.interpolate(share[None, None], scale_factor=CELL, mode="bilinear")[0, 0]
    inside = share > 0.5
    rows, columns = inside.any(1).nonzero()[:, 0], inside.any(0).nonzero()[:, 0]
    x0, x1 = int(columns[0]) * CELL, int(columns[-1] + 1) * CELL
    y0, y1 = int(rows[0]) * CELL, int(rows[-1] + 1) * CELL
    return Found(mask, (float(x0), float(y0), float(x1), float(y1)), scores)
