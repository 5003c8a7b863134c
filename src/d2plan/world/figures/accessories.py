"""What a figure wears: the one thing about its looks that a caption does say."""

from __future__ import annotations

import math
from types import MappingProxyType

from d2plan.errors import InputError
from d2plan.world.figures.parts import Drawn
from d2plan.world.pen import RGB, Pen, Point, shade

ACCESSORIES = ("sunglasses", "hat", "scarf", "crown", "bow")
COLOURS = MappingProxyType(
    {
        "red": (212, 26, 38),
        "blue": (36, 88, 216),
        "green": (36, 156, 66),
        "yellow": (255, 224, 40),
        "purple": (136, 54, 182),
        "black": (34, 34, 40),
        "white": (250, 250, 250),
        "orange": (248, 122, 16),
    }
)


def outline_tone(colour: RGB) -> RGB:
    """Give the tone of an accessory's thin outline: darker than the colour, but pale round black.

    Args:
        colour: the accessory's colour.

    Returns:
        A tone that sets the colour off from any background.
    """
    if max(colour) < 64:
        return 168, 168, 178
    return shade(colour, 0.42)


def draw(drawn: Drawn, accessory: str, colour: RGB) -> None:
    """Draw an accessory on a figure that has just been drawn.

    Args:
        drawn: the figure, with its head pen and anchors.
        accessory: one of ACCESSORIES.
        colour: any; captions know those of COLOURS.

    Raises:
        InputError: the accessory is unknown.
    """
    if accessory == "sunglasses":
        _draw_sunglasses(drawn, colour)
    elif accessory == "hat":
        _draw_hat(drawn, colour)
    elif accessory == "scarf":
        _draw_scarf(drawn, colour)
    elif accessory == "crown":
        _draw_crown(drawn, colour)
    elif accessory == "bow":
        _draw_bow(drawn, colour)
    else:
        raise InputError(f"accessory {accessory!r} is unknown; choose one of {', '.join(ACCESSORIES)}")


def _outlined(pen: Pen, points: list[Point], colour: RGB, line: float) -> None:
    """Fill a polygon and its outline, which lies outside it."""
    edge = outline_tone(colour)
    for (x0, y0), (x1, y1) in zip(points, [*points[1:], points[0]], strict=True):
        share = line / max(math.hypot(x1 - x0, y1 - y0), 1e-9)
        along_x, along_y = (x1 - x0) * share, (y1 - y0) * share
        # Ends reach past the corners, so that the strips of two sides meet there.
        left, low, right, high = x0 - 0.7 * along_x, y0 - 0.7 * along_y, x1 + 0.7 * along_x, y1 + 0.7 * along_y
        strip = [
            (left - along_y, low + along_x),
            (right - along_y, high + along_x),
            (right + along_y, high - along_x),
            (left + along_y, low - along_x),
        ]
        pen.polygon(strip, edge)
    pen.polygon(points, colour)


def _draw_sunglasses(drawn: Drawn, colour: RGB) -> None:
    """Draw two large tinted lenses in a thick frame."""
    pen, (x, y), span = drawn.head, drawn.eyes, drawn.eye_span
    edge, lens = outline_tone(colour), shade(colour, 0.68)
    wide, high, line = span * 0.27, span * 0.225, span * 0.035
    middles = (x - span * 0.29, x + span * 0.29)
    top = y + high
    pen.box(x - span * 0.62 - line, top - high * 0.55 - line, x + span * 0.62 + line, top + line, edge)
    for middle in middles:
        pen.box(middle - wide - line, y - high - line, middle + wide + line, top + line, edge, high * 0.8)
    pen.box(x - span * 0.62, top - high * 0.55, x + span * 0.62, top, colour)
    for middle in middles:
        pen.box(middle - wide, y - high, middle + wide, top, colour, high * 0.75)
        pen.box(middle - wide * 0.72, y - high * 0.68, middle + wide * 0.72, y + high * 0.62, lens, high * 0.5)
        glint = [(-0.42, 0.42), (-0.05, 0.42), (-0.25, -0.1), (-0.5, -0.1)]
        pen.polygon([(middle + wide * u, y + high * v) for u, v in glint], shade(lens, 1.55))


def _draw_hat(drawn: Drawn, colour: RGB) -> None:
    """Draw a round hat with a wide brim and a darker band."""
    pen, (x, y), width = drawn.head, drawn.top, drawn.head_width
    line, edge = width * 0.045, outline_tone(colour)
    low, half = y - width * 0.13, width * 0.4
    high = low + width * 0.56
    band = shade(colour, 0.6) if max(colour) >= 64 else (110, 110, 122)
    pen.ellipse(x, low + width * 0.03, width * 0.72 + line, width * 0.115 + line, edge)
    pen.box(x - half - line, low, x + half + line, high + line, edge, width * 0.22)
    pen.ellipse(x, low + width * 0.03, width * 0.72, width * 0.115, colour)
    pen.box(x - half, low + width * 0.02, x + half, high, colour, width * 0.2)
    pen.box(x - half, low + width * 0.07, x + half, low + width * 0.21, band)


def _draw_crown(drawn: Drawn, colour: RGB) -> None:
    """Draw a crown with three tall spikes and balls on them."""
    pen, (x, y), width = drawn.head, drawn.top, drawn.head_width
    line, low, half = width * 0.035, y - width * 0.12, width * 0.44
    rim, tip, dip = low + width * 0.16, low + width * 0.56, low + width * 0.26
    points = [
        (x - half, low), (x + half, low), (x + half * 1.15, tip * 0.96 + low * 0.04), (x + half * 0.5, dip),
        (x, tip + width * 0.04), (x - half * 0.5, dip), (x - half * 1.15, tip * 0.96 + low * 0.04),
    ]  # fmt: skip
    _outlined(pen, points, colour, line)
    for side, height in ((-1.15, tip), (0.0, tip + width * 0.05), (1.15, tip)):
        pen.ellipse(x + half * side, height, width * 0.075 + line, width * 0.075 + line, outline_tone(colour))
        pen.ellipse(x + half * side, height, width * 0.075, width * 0.075, colour)
    gem = shade(colour, 0.6) if max(colour) >= 64 else (120, 120, 132)
    for side in (-0.6, 0.0, 0.6):
        pen.ellipse(x + half * side, (low + rim) / 2, width * 0.05, width * 0.05, gem)


def _draw_scarf(drawn: Drawn, colour: RGB) -> None:
    """Draw a thick scarf wound round the neck, one end of it hanging down."""
    pen, (x, y) = drawn.head, drawn.neck
    width = max(drawn.neck_width * 1.16, drawn.head_width * 0.72)
    thick = min(width * 0.36, drawn.head_width * 0.26)
    # A little low, so that the mouth above stays visible.
    y -= thick * 0.3
    line, edge = thick * 0.15, outline_tone(colour)
    fold = shade(colour, 0.74) if max(colour) >= 64 else (84, 84, 94)
    end, half, drop = x + width * 0.22, thick * 0.58, thick * 2.1
    _outlined(
        pen, [(end - half, y), (end + half, y), (end + half * 1.35, y - drop), (end - half, y - drop)], colour, line
    )
    stripe = [(-0.98, 0.7), (1.24, 0.7), (1.3, 0.87), (-0.98, 0.87)]
    pen.polygon([(end + half * u, y - drop * v) for u, v in stripe], fold)
    pen.box(x - width / 2 - line, y - thick / 2 - line, x + width / 2 + line, y + thick / 2 + line, edge, thick * 0.6)
    pen.box(x - width / 2, y - thick / 2, x + width / 2, y + thick / 2, colour, thick * 0.5)
    pen.box(x - width * 0.42, y - thick * 0.22, x + width * 0.42, y - thick * 0.02, fold)


def _draw_bow(drawn: Drawn, colour: RGB) -> None:
    """Draw a bow tie: two triangles and a knot."""
    pen, (x, y) = drawn.head, drawn.neck
    half = min(max(drawn.neck_width * 0.75, drawn.head_width * 0.5), drawn.head_width * 0.58)
    high, line = half * 0.52, half * 0.07
    y -= high * 0.45
    for side in (-1, 1):
        wing = [(x, y + high * 0.16), (x + side * half, y + high), (x + side * half, y - high), (x, y - high * 0.16)]
        _outlined(pen, wing, colour, line)
    knot = shade(colour, 0.66) if max(colour) >= 64 else (92, 92, 102)
    pen.ellipse(x, y, half * 0.22 + line, half * 0.24 + line, outline_tone(colour))
    pen.ellipse(x, y, half * 0.22, half * 0.24, knot)
