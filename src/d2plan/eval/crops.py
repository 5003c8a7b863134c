"""Cut an instance out of a picture, as encoders of whole pictures like it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from d2plan.errors import InputError

Picture = NDArray[np.uint8]
Box = tuple[float, float, float, float]
WHITE = 255


def cut_square(image: Picture, box: Box) -> Picture:
    """Cut a box out and put it into the middle of a white square, so that no encoder stretches or trims it.

    Source: MuDI's Detect-and-Compare, ``crop_and_pad_image`` (Jang et al., 2024). What stands beside the box stays
    out, so a neighbour cannot be taken for the instance.

    Args:
        image: ``[h w 3]``, 0..255.
        box: x0, y0, x1, y1 in pixels; what lies outside of the picture is left off.

    Returns:
        ``[s s 3]``; s is the longer side of the box.

    Raises:
        InputError: no pixel of the picture lies in the box.
    """
    height, width = image.shape[:2]
    if not all(map(math.isfinite, box)):
        raise InputError(f"box: {list(box)} is no place in a picture.")
    left, top = max(0, math.floor(box[0])), max(0, math.floor(box[1]))
    right, bottom = min(width, math.ceil(box[2])), min(height, math.ceil(box[3]))
    if right <= left or bottom <= top:
        raise InputError(f"box: {list(box)} holds no pixel of a picture of {width} x {height}.")
    part = image[top:bottom, left:right]
    side = max(part.shape[:2])
    square = np.full((side, side, 3), WHITE, np.uint8)
    row, column = (side - part.shape[0]) // 2, (side - part.shape[1]) // 2
    square[row : row + part.shape[0], column : column + part.shape[1]] = part
    return square


def box_around(mask: NDArray[np.floating] | NDArray[np.bool_]) -> Box | None:
    """Put a box around a mask.

    Args:
        mask: ``[h w]``; more than one half is inside.

    Returns:
        x0, y0, x1, y1 in pixels; None for an empty mask.
    """
    rows, columns = np.where(np.asarray(mask) > 0.5)
    if not len(rows):
        return None
    return float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1)
