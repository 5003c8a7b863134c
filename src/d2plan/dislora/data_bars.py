"""Find the plain bars that a photo was padded with; learnt along, they would come back in every picture."""

import numpy as np

from d2plan.media.decode import Picture

Box = tuple[int, int, int, int]

EVEN = 12
APART = 24
SHARP = 0.5
THINNEST = 0.02
LEAST_KEPT = 0.25
_EDGE = 3


def find_content(picture: Picture) -> Box:
    """Find the part of a picture between its bars.

    Bars lie on two opposite sides, or on all four, in one even colour, each at least 2 % of the side, and end at a
    straight edge: most of what lies behind it has another colour. A subject before an even background has no such
    edge and is left alone.

    Args:
        picture: ``[h w 3]``, 0..255.

    Returns:
        First and last row, first and last column of the content, the last ones excluded; the whole picture where
        there are no bars.
    """
    height, width = picture.shape[:2]
    top, bottom = _find_pair(picture)
    # Rows are cut before columns are looked at, so that a frame around all four sides is found whole.
    left, right = _find_pair(picture[top : height - bottom].swapaxes(0, 1))
    kept = (height - top - bottom) * (width - left - right)
    if kept < LEAST_KEPT * height * width:
        return 0, height, 0, width
    return top, height - bottom, left, width - right


def _find_pair(lines: Picture) -> tuple[int, int]:
    # A picture of flat colours may have an even sky above and even ground below, but padding has one colour.
    if _distance(np.median(lines[:1], axis=1), np.median(lines[-1:], axis=1)).max() > EVEN:
        return 0, 0
    first, last = _measure_bar(lines), _measure_bar(lines[::-1])
    return (first, last) if first and last and first + last < len(lines) else (0, 0)


def _measure_bar(lines: Picture) -> int:
    """Count the lines of one colour from the first on; 0 when they end at no edge, or are too few."""
    colour = np.median(lines[0], axis=0)
    count = next((index for index, line in enumerate(lines) if _distance(line, colour).max() > EVEN), len(lines))
    # Scaling leaves a few soft lines between bar and content.
    behind = lines[count + _EDGE : count + _EDGE + 1]
    if count < THINNEST * len(lines) or not len(behind):
        return 0
    sharp = (_distance(behind[0], colour) > APART).mean() >= SHARP
    return count + _EDGE if sharp else 0


def _distance(line: Picture, colour: np.ndarray) -> np.ndarray:
    return np.abs(line.astype(np.float32) - colour).max(axis=1)
