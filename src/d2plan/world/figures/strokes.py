"""Strokes, dots, outlines and eyes that all animals are drawn with."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from d2plan.world.pen import RGB, Pen, Point, blend

DARK: RGB = (36, 30, 36)
WHITE: RGB = (252, 252, 250)
PINK: RGB = (240, 130, 140)
_ANGLES = np.linspace(0, 2 * np.pi, 36, endpoint=False)
ROUND = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], 1)
_TEETH = np.where(np.arange(36) % 2 == 0, 1.0, 0.0)[:, None]
# Moves the two ends of a body apart without a corner where they meet.
SIDE = np.clip(ROUND[:, :1] * 1.7, -1, 1) * (1.0, 0.0)
_COARSE = ROUND[::3]


def draw_tube(
    pen: Pen, points: Sequence[Point] | np.ndarray, widths: Sequence[float] | np.ndarray, colour: RGB
) -> None:
    """Draw a thick line whose width changes from point to point; its start is square, its end round."""
    # Plain numbers: on lines this short numpy costs more than it saves.
    left, right, last = [], [], len(points) - 1
    along_x = along_y = 0.0
    for index, (x, y) in enumerate(points):
        before, after = points[max(index - 1, 0)], points[min(index + 1, last)]
        along_x, along_y = after[0] - before[0], after[1] - before[1]
        length = widths[index] / 2 / max(math.hypot(along_x, along_y), 1e-9)
        along_x, along_y = along_x * length, along_y * length
        left.append((x - along_y, y + along_x))
        right.append((x + along_y, y - along_x))
    x, y = points[last]
    cap = [(x + 0.7 * (along_x - side * along_y), y + 0.7 * (along_y + side * along_x)) for side in (1, -1)]
    pen.polygon([*left, cap[0], (x + along_x, y + along_y), cap[1], *right[::-1]], colour)


def draw_dot(pen: Pen, x: float, y: float, rx: float, ry: float, colour: RGB) -> None:
    """Fill a small ellipse with fewer corners than the pen's own."""
    pen.polygon(_COARSE * (rx, ry) + (x, y), colour)


def smooth(points: np.ndarray) -> np.ndarray:
    """Put two points between each pair (Catmull-Rom)."""
    spots = np.concatenate([points[:1], points, points[-1:]])
    a, b, c, d = (spots[i : len(spots) - 3 + i, None] for i in range(4))
    t = np.array([0, 1 / 3, 2 / 3])[None, :, None]
    line = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    return np.concatenate([line.reshape(-1, 2), points[-1:]])


def furry(outline: np.ndarray, amount: float) -> np.ndarray:
    """Push every second point of a 36-point outline outwards."""
    return outline * (1 + _TEETH * amount)


def draw_eye(pen: Pen, at: Point, radius: float, iris: RGB | None, *, asleep: bool, slit: bool = False) -> None:
    """Draw an open eye (white, iris, pupil, glint) or a closed one (a short dark arc)."""
    x, y = at
    if asleep:
        draw_tube(
            pen,
            [
                (x - radius * 0.75, y + 0.012),
                (x - radius * 0.45, y - 0.025),
                (x + radius * 0.45, y - 0.025),
                (x + radius * 0.7, y + 0.008),
            ],
            (0.034,) * 4,
            DARK,
        )
        return
    draw_dot(pen, x, y, radius * 0.95, radius * 1.1, WHITE)
    if iris:
        draw_dot(pen, x + 0.008, y - 0.004, radius * 0.78, radius * 0.92, blend(iris, (90, 80, 60), 0.15))
    draw_dot(pen, x + 0.01, y - 0.004, radius * (0.34 if slit else 0.5), radius * (0.85 if slit else 0.6), DARK)
    draw_dot(pen, x + 0.025, y + 0.025, 0.016, 0.016, WHITE)
