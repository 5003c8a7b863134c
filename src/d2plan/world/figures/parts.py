"""What every figure's drawing function gives back, and the patterns that several figures share."""

from __future__ import annotations

from dataclasses import dataclass

from d2plan.world.pen import RGB, Pen, Point

PATTERNS = ("plain", "stripes", "dots", "band", "checks")


@dataclass(frozen=True)
class Drawn:
    """A drawn figure: its skeleton and where accessories sit.

    Attributes:
        skeleton: key point name to picture pixels (x, y).
        head: a pen that moves and turns with the head; the anchors below are in its coordinates.
        top: where a hat stands (middle of the top of the head).
        head_width: width of the head at the hat.
        eyes: the middle between the eyes, where sunglasses sit.
        eye_span: width that sunglasses must cover.
        neck: the middle of the neck, where a scarf is wound.
        neck_width: width of the neck there.
    """

    skeleton: dict[str, Point]
    head: Pen
    top: Point
    head_width: float
    eyes: Point
    eye_span: float
    neck: Point
    neck_width: float


def draw_pattern(pen: Pen, pattern: str, area: tuple[float, float, float, float], colour: RGB) -> None:
    """Draw a pattern that stays inside an upright rectangle of a garment, a coat or a body.

    Args:
        pen: the figure's pen.
        pattern: one of PATTERNS.
        area: x0, y0, x1, y1 in the pen's coordinates.
        colour: of the pattern.
    """
    x0, y0, x1, y1 = area
    width, height = x1 - x0, y1 - y0
    if pattern == "stripes":
        for share in (0.08, 0.42, 0.76):
            pen.polygon(
                [
                    (x0, y0 + height * share),
                    (x1, y0 + height * share),
                    (x1, y0 + height * (share + 0.17)),
                    (x0, y0 + height * (share + 0.17)),
                ],
                colour,
            )
    elif pattern == "band":
        pen.polygon(
            [(x0, y0 + height * 0.32), (x1, y0 + height * 0.32), (x1, y0 + height * 0.68), (x0, y0 + height * 0.68)],
            colour,
        )
    elif pattern == "dots":
        radius = min(width, height) * 0.12
        for share_x, share_y in (
            (0.2, 0.8),
            (0.55, 0.65),
            (0.85, 0.85),
            (0.3, 0.35),
            (0.75, 0.3),
            (0.1, 0.1),
            (0.5, 0.06),
        ):
            pen.ellipse(x0 + width * share_x, y0 + height * share_y, radius, radius, colour)
    elif pattern == "checks":
        for row in range(3):
            for column in range(3):
                if (row + column) % 2 == 0:
                    left, low = x0 + width * column / 3, y0 + height * row / 3
                    pen.polygon(
                        [
                            (left, low),
                            (left + width / 3, low),
                            (left + width / 3, low + height / 3),
                            (left, low + height / 3),
                        ],
                        colour,
                    )
