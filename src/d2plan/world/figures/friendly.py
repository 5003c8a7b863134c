"""What all things share: a friendly face, patterns on wide areas, pale lines of air."""

from __future__ import annotations

from d2plan.world.figures.parts import draw_pattern
from d2plan.world.identity import Identity
from d2plan.world.pen import RGB, Pen, Point

PALE: RGB = (240, 244, 248)
PALE_EDGE: RGB = (148, 160, 178)


def draw_face(pen: Pen, middle: Point, gap: float, ground: RGB, mouth: str) -> None:
    """Draw two big eyes and a mouth.

    Args:
        pen: the pen of the head.
        middle: the point between the eyes.
        gap: distance of the eyes' centres.
        ground: the colour that the face lies on, so that the mouth reads on it.
        mouth: ``smile``, ``open`` or ``grille``.
    """
    x, y = middle
    for side in (-1, 1):
        pen.ellipse(x + side * gap / 2, y, 0.078, 0.085, (60, 58, 66))
        pen.ellipse(x + side * gap / 2, y, 0.064, 0.071, (255, 255, 255))
        pen.ellipse(x + side * gap / 2 + 0.014, y - 0.006, 0.043, 0.05, (28, 26, 34))
    ink = (44, 34, 40) if sum(ground) > 250 else (246, 238, 230)
    low = y - 0.115
    if mouth == "grille":
        pen.box(x - 0.12, low - 0.035, x + 0.12, low + 0.03, ink, 0.02)
        for share in (-0.06, 0.0, 0.06):
            pen.box(x + share - 0.012, low - 0.02, x + share + 0.012, low + 0.015, ground)
    elif mouth == "open":
        pen.polygon(
            [(x - 0.075, low + 0.02), (x + 0.075, low + 0.02), (x + 0.04, low - 0.05), (x - 0.04, low - 0.05)],
            (96, 26, 36),
        )
        pen.ellipse(x, low - 0.035, 0.035, 0.018, (240, 112, 112))
    else:
        pen.curve([(x - 0.08, low + 0.02), (x, low - 0.03), (x + 0.08, low + 0.02)], 0.034, ink)


def draw_wide_pattern(pen: Pen, identity: Identity, area: tuple[float, float, float, float]) -> None:
    """Draw the pattern in an area that is wider than high, where the shared dots would be too small to see.

    Args:
        pen: the figure's pen.
        identity: has the factors pattern and pattern_colour.
        area: x0, y0, x1, y1 in the pen's coordinates.
    """
    pattern, colour = identity.choice("pattern"), identity.colour("pattern_colour")
    if pattern != "dots":
        draw_pattern(pen, pattern, area, colour)
        return
    x0, y0, x1, y1 = area
    radius = (y1 - y0) * 0.22
    for share, level in ((0.04, 0.7), (0.27, 0.3), (0.5, 0.72), (0.73, 0.3), (0.96, 0.7)):
        pen.ellipse(x0 + (x1 - x0) * share, y0 + (y1 - y0) * level, radius, radius, colour)


def point_in(inner: Pen, outer: Pen, spot: Point) -> Point:
    """Turn a point of a moved or turned pen into the coordinates of the pen that it was made from.

    Args:
        inner: the pen in whose coordinates the point is given.
        outer: the pen in whose coordinates it is wanted.
        spot: the point.

    Returns:
        The same place on the picture, in the outer pen's coordinates.
    """
    column, row = inner.place(*spot)
    (a, b, e), (c, d, f) = outer.matrix
    x, y, size = column - e, row - f, a * d - b * c
    return (d * x - b * y) / size, (a * y - c * x) / size
