"""The car."""

from __future__ import annotations

from types import MappingProxyType

from d2plan.world.figures.friendly import PALE, PALE_EDGE, draw_face, draw_wide_pattern
from d2plan.world.figures.parts import PATTERNS, Drawn
from d2plan.world.identity import Factor, Identity
from d2plan.world.pen import RGB, Pen, shade

CAR_FACTORS = (
    Factor("body_colour", "colour", weight=1.5),
    Factor("roof_colour", "colour", weight=1.5),
    Factor("hub_colour", "colour", weight=0.75),
    Factor("glass", "choice", ("pale", "blue", "rose"), 0.5),
    Factor("cabin", "choice", ("dome", "box", "sloped", "long")),
    Factor("nose", "choice", ("round", "boxy", "wedge")),
    Factor("rear", "choice", ("plain", "spoiler", "fin", "spare")),
    Factor("pattern", "choice", PATTERNS),
    Factor("pattern_colour", "colour"),
    Factor("mouth", "choice", ("smile", "open"), 0.5),
    Factor("wheel_size", "range", weight=0.5),
)
CAR_ACTIONS = ("parked", "driving", "jumping")
_GLASS = MappingProxyType({"pale": (226, 240, 246), "blue": (146, 202, 240), "rose": (246, 204, 214)})


def draw_car(pen: Pen, identity: Identity, action: str) -> Drawn:
    """Draw a car, short, from the side, its face looking out of the cabin.

    Args:
        pen: figure coordinates, the ground at y = 0.
        identity: a car's.
        action: one of CAR_ACTIONS.

    Returns:
        The skeleton and the places of accessories.
    """
    radius = 0.165 + 0.05 * identity.number("wheel_size")
    if action == "driving":
        pen = pen.moved(0.18, 0)
        for x0, x1, y in ((-1.16, -0.86, 0.66), (-1.26, -0.9, 0.48), (-1.08, -0.86, 0.32)):
            pen.limb([(x0, y), (x1, y)], 0.075, PALE_EDGE)
            pen.limb([(x0, y), (x1, y)], 0.042, PALE)
        for x, y, size in ((-1.18, 0.16, 0.13), (-0.99, 0.11, 0.11), (-0.86, 0.1, 0.08)):
            pen.ellipse(x, y, size, size, PALE_EDGE)
            pen.ellipse(x, y + 0.015, size - 0.03, size - 0.03, (206, 210, 218))
        pen = pen.turned(8, (-0.43, 0))
    elif action == "jumping":
        pen = pen.turned(-9, (0, 0.4))
    body = identity.colour("body_colour")
    top, width, middle = _draw_cabin(pen, identity)
    _draw_rear(pen, identity.choice("rear"), body, identity.colour("roof_colour"))
    nose = identity.choice("nose")
    if nose == "wedge":
        pen.polygon([(-0.74, 0.17), (0.76, 0.17), (0.76, 0.34), (0.34, 0.57), (-0.66, 0.57), (-0.74, 0.48)], body)
    else:
        pen.box(-0.75, 0.15, 0.75, 0.57, body, 0.19 if nose == "round" else 0.06)
    draw_wide_pattern(pen, identity, (-0.62, 0.24, 0.5, 0.53))
    pen.box(-0.72, 0.14, 0.78, 0.22, shade(body, 0.55), 0.03)
    pen.ellipse(0.67, 0.36, 0.065, 0.075, (90, 84, 60))
    pen.ellipse(0.675, 0.36, 0.045, 0.055, (255, 240, 150))
    for x in (-0.43, 0.43):
        pen.ellipse(x, radius, radius, radius, (42, 42, 48))
        pen.ellipse(x, radius, radius * 0.58, radius * 0.58, identity.colour("hub_colour"))
        pen.ellipse(x, radius, radius * 0.2, radius * 0.2, shade(identity.colour("hub_colour"), 0.5))
    draw_face(pen, (middle + 0.05, 0.765), 0.25, _GLASS[identity.choice("glass")], identity.choice("mouth"))
    skeleton = {
        "centre": pen.place(0, 0.42),
        "roof": pen.place(middle, 0.95),
        "wheel_back": pen.place(-0.43, radius),
        "wheel_front": pen.place(0.43, radius),
        "nose": pen.place(0.7, 0.32),
    }
    return Drawn(skeleton, pen, (middle, top), width, (middle + 0.06, 0.775), 0.5, (middle, 0.545), 0.84)


def _draw_cabin(pen: Pen, identity: Identity) -> tuple[float, float, float]:
    """Draw roof and glass; give the height of the top, the width there and the middle's x."""
    roof, glass = identity.colour("roof_colour"), _GLASS[identity.choice("glass")]
    kind = identity.choice("cabin")
    if kind == "dome":
        pen.ellipse(-0.08, 0.56, 0.5, 0.44, roof)
        pen.ellipse(-0.03, 0.6, 0.345, 0.28, glass)
        return 0.98, 0.5, -0.08
    if kind == "sloped":
        pen.polygon([(-0.62, 0.5), (-0.36, 0.99), (0.18, 0.99), (0.48, 0.5)], roof)
        pen.polygon([(-0.4, 0.56), (-0.24, 0.87), (0.13, 0.87), (0.34, 0.56)], glass)
        return 0.98, 0.54, -0.08
    left = -0.5 if kind == "box" else -0.7
    pen.box(left, 0.5, 0.4, 0.99, roof, 0.09)
    pen.box(-0.31, 0.56, 0.29, 0.87, glass, 0.06)
    if kind == "long":
        pen.box(left + 0.08, 0.62, -0.41, 0.87, glass, 0.04)
    return 0.98, 0.54, -0.04


def _draw_rear(pen: Pen, kind: str, body: RGB, roof: RGB) -> None:
    """Draw what the car carries behind."""
    if kind == "spoiler":
        pen.limb([(-0.62, 0.52), (-0.68, 0.7)], 0.07, shade(body, 0.6))
        pen.box(-0.86, 0.66, -0.54, 0.75, shade(roof, 0.8), 0.03)
    elif kind == "fin":
        pen.polygon([(-0.86, 0.82), (-0.42, 0.5), (-0.74, 0.44)], shade(body, 0.75))
    elif kind == "spare":
        pen.box(-0.88, 0.26, -0.7, 0.66, (52, 52, 58), 0.08)
        pen.box(-0.92, 0.38, -0.84, 0.54, (176, 180, 188), 0.03)
