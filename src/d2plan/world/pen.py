"""Filled shapes in figure coordinates, drawn on the picture and on its map of owners at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import ImageDraw

RGB = tuple[int, int, int]
Point = tuple[float, float]
Row = tuple[float, float, float]

_TURN = np.linspace(0, 2 * np.pi, 28, endpoint=False)
_CIRCLE: tuple[Point, ...] = tuple(zip(np.cos(_TURN).tolist(), np.sin(_TURN).tolist(), strict=True))
# The quarters of the circle that round a box's corners: top right, top left, bottom left, bottom right.
_QUARTERS = (_CIRCLE[:8], _CIRCLE[7:15], _CIRCLE[14:22], (*_CIRCLE[21:], _CIRCLE[0]))
# Catmull-Rom: what each of four neighbouring points adds to the line between the middle two, at five places.
_SPLINE = tuple(
    (-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -(t**2) + t**3)
    for t in (0.0, 0.2, 0.4, 0.6, 0.8)
)


def shade(colour: RGB, factor: float) -> RGB:
    """Make a colour darker (factor below 1) or lighter (above 1, 2 is white).

    Args:
        colour: 0..255 each.
        factor: 0 is black, 1 the colour itself, 2 white.

    Returns:
        The shaded colour.
    """
    if factor <= 1:
        red, green, blue = (round(value * factor) for value in colour)
    else:
        red, green, blue = (round(value + (255 - value) * min(factor - 1, 1)) for value in colour)
    return red, green, blue


def blend(first: RGB, second: RGB, share: float) -> RGB:
    """Mix two colours.

    Args:
        first: the colour at share 0.
        second: the colour at share 1.
        share: 0..1.

    Returns:
        The mixture, channel by channel.
    """
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


@dataclass(frozen=True)
class Pen:
    """Draws in figure coordinates: x grows in the facing direction, y upwards, feet at (0, 0), figure height about 1.

    It computes with plain numbers: the shapes are so small that numpy would cost more than it saves.

    Attributes:
        picture: draws on the RGB picture.
        owners: draws on the map of owners (mode L), where each pixel holds the number of the figure on top.
        owner: this figure's number, 1-based; 0 is the background.
        matrix: ``[2, 3]``, figure coordinates to picture pixels.
    """

    picture: ImageDraw.ImageDraw
    owners: ImageDraw.ImageDraw
    owner: int
    matrix: Sequence[Sequence[float]] | np.ndarray

    def __post_init__(self) -> None:
        """Keep the matrix as plain numbers."""
        if isinstance(self.matrix, np.ndarray):
            object.__setattr__(self, "matrix", tuple(map(tuple, self.matrix.tolist())))

    def place(self, x: float, y: float) -> Point:
        """Turn figure coordinates into picture pixels (x, y)."""
        (a, b, c), (d, e, f) = self.matrix
        return float(a * x + b * y + c), float(d * x + e * y + f)

    def turned(self, degrees: float, about: Point = (0.0, 0.0)) -> Pen:
        """Give a pen whose drawings are turned counter-clockwise (for a figure facing right) about a point."""
        angle = math.radians(degrees)
        cos, sin = math.cos(angle), math.sin(angle)
        x, y = about
        return self._chained((cos, -sin, x - cos * x + sin * y), (sin, cos, y - sin * x - cos * y))

    def moved(self, x: float, y: float, scale: float = 1.0) -> Pen:
        """Give a pen whose origin is at (x, y) and whose unit is ``scale``."""
        return self._chained((scale, 0.0, x), (0.0, scale, y))

    def _chained(self, upper: Row, lower: Row) -> Pen:
        return Pen(self.picture, self.owners, self.owner, self._chain(upper, lower))

    def _chain(self, upper: Row, lower: Row) -> tuple[Row, Row]:
        """Multiply the matrix by another one, given by its two rows."""
        (p, q, r), (s, t, u) = upper, lower
        (a, b, c), (d, e, f) = self.matrix
        return (
            (a * p + b * s, a * q + b * t, a * r + b * u + c),
            (d * p + e * s, d * q + e * t, d * r + e * u + f),
        )

    def polygon(self, points: Sequence[Point] | np.ndarray, colour: RGB) -> None:
        """Fill a polygon."""
        (a, b, c), (d, e, f) = self.matrix
        spots = points.tolist() if isinstance(points, np.ndarray) else points
        self._fill([value for x, y in spots for value in (a * x + b * y + c, d * x + e * y + f)], colour)

    def _fill(self, flat: list[float], colour: RGB) -> None:
        self.picture.polygon(flat, fill=colour)
        self.owners.polygon(flat, fill=self.owner)

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: RGB, degrees: float = 0.0) -> None:
        """Fill an ellipse with centre (x, y) and half axes rx, ry, turned by degrees."""
        angle = math.radians(degrees)
        cos, sin = math.cos(angle), math.sin(angle)
        (a, b, c), (d, e, f) = self._chain((rx * cos, -ry * sin, x), (rx * sin, ry * cos, y))
        self._fill([value for u, v in _CIRCLE for value in (a * u + b * v + c, d * u + e * v + f)], colour)

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: RGB, radius: float = 0.0) -> None:
        """Fill a rectangle with rounded corners."""
        if radius <= 0:
            self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour)
            return
        radius = min(radius, (x1 - x0) / 2, (y1 - y0) / 2)
        left, right, low, high = x0 + radius, x1 - radius, y0 + radius, y1 - radius
        corners = ((right, high), (left, high), (left, low), (right, low))
        outline = [
            (u * radius + x, v * radius + y)
            for quarter, (x, y) in zip(_QUARTERS, corners, strict=True)
            for u, v in quarter
        ]
        self.polygon(outline, colour)

    def limb(self, points: Sequence[Point], width: float, colour: RGB) -> None:
        """Draw a thick line with round joints and ends; width in figure units."""
        for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False):
            dx, dy = x1 - x0, y1 - y0
            length = math.hypot(dx, dy)
            if length > 0:
                across_x, across_y = -dy / length * width / 2, dx / length * width / 2
                near, far = (x0 + across_x, y0 + across_y), (x1 + across_x, y1 + across_y)
                self.polygon([near, far, (x1 - across_x, y1 - across_y), (x0 - across_x, y0 - across_y)], colour)
        for x, y in points:
            self.ellipse(x, y, width / 2, width / 2, colour)

    def curve(self, points: Sequence[Point], width: float, colour: RGB) -> None:
        """Draw a smooth thick line through all points (Catmull-Rom)."""
        spots = [points[0], *points, points[-1]]
        line = [
            (0.5 * (k * a[0] + m * b[0] + n * c[0] + o * d[0]), 0.5 * (k * a[1] + m * b[1] + n * c[1] + o * d[1]))
            for a, b, c, d in zip(spots, spots[1:], spots[2:], spots[3:], strict=False)
            for k, m, n, o in _SPLINE
        ]
        line.append(points[-1])
        left, right, last = [], [], len(line) - 1
        for index, (x, y) in enumerate(line):
            (x0, y0), (x1, y1) = line[max(index - 1, 0)], line[min(index + 1, last)]
            dx, dy = x1 - x0, y1 - y0
            share = width / 2 / max(math.hypot(dx, dy), 1e-9)
            left.append((x - dy * share, y + dx * share))
            right.append((x + dy * share, y - dx * share))
        self.polygon([*left, *right[::-1]], colour)
        for x, y in (line[0], line[-1]):
            self.ellipse(x, y, width / 2, width / 2, colour)
