"""The teapot."""

from __future__ import annotations

from d2plan.world.figures.friendly import PALE, PALE_EDGE, draw_face, point_in
from d2plan.world.figures.parts import PATTERNS, Drawn, draw_pattern
from d2plan.world.identity import Factor, Identity
from d2plan.world.pen import RGB, Pen, Point, shade

TEAPOT_FACTORS = (
    Factor("body_colour", "colour", weight=1.5),
    Factor("lid_colour", "colour", weight=1.5),
    Factor("accent_colour", "colour"),
    Factor("pattern", "choice", PATTERNS),
    Factor("pattern_colour", "colour"),
    Factor("body_shape", "choice", ("round", "barrel", "pear")),
    Factor("spout", "choice", ("curved", "straight", "wide"), 0.75),
    Factor("handle", "choice", ("loop", "square", "pointed"), 0.75),
    Factor("knob", "choice", ("ball", "flat", "spike"), 0.5),
    Factor("base", "choice", ("ring", "legs", "saucer"), 0.5),
    Factor("mouth", "choice", ("smile", "open"), 0.5),
    Factor("belly", "range", weight=0.5),
)
TEAPOT_ACTIONS = ("standing", "steaming", "pouring", "jumping")
_TEA: RGB = (168, 88, 34)


def _draw_vapour(pen: Pen, points: list[Point], width: float) -> None:
    """Draw a curl of steam."""
    pen.curve(points, width + 0.035, PALE_EDGE)
    pen.curve(points, width, PALE)


def draw_teapot(pen: Pen, identity: Identity, action: str) -> Drawn:
    """Draw a teapot, its spout on the facing side.

    Args:
        pen: figure coordinates, the ground at y = 0.
        identity: a teapot's.
        action: one of TEAPOT_ACTIONS.

    Returns:
        The skeleton and the places of accessories.
    """
    base = pen
    if action == "pouring":
        pen = pen.moved(-0.12, 0.25).turned(-36, (0, 0.4))
        _draw_jet(base, point_in(pen.moved(0.72, 0.73), base, (0.0, 0.0)))
    elif action == "jumping":
        pen = pen.turned(9, (0, 0.3))
    elif action == "steaming":
        for x in (0.66, 0.84):
            _draw_vapour(pen, [(x, 0.8), (x - 0.07, 0.92), (x + 0.06, 1.05), (x, 1.2)], 0.07)
        _draw_vapour(pen, [(-0.36, 0.86), (-0.43, 0.97), (-0.3, 1.08), (-0.36, 1.22)], 0.07)
    body, accent = identity.colour("body_colour"), identity.colour("accent_colour")
    half = 0.38 + 0.06 * identity.number("belly")
    _draw_handle(pen, identity.choice("handle"), accent)
    _draw_spout(pen, identity.choice("spout"), accent)
    _draw_base(pen, identity.choice("base"), accent)
    _draw_pot(pen, identity.choice("body_shape"), half, shade(body, 0.78))
    _draw_pot(pen.moved(0.02, 0.025, 0.95), identity.choice("body_shape"), half, body)
    area = (-half * 0.72, 0.18, half * 0.72, 0.68)
    draw_pattern(pen, identity.choice("pattern"), area, identity.colour("pattern_colour"))
    if identity.choice("pattern") != "plain":
        pen.ellipse(0.04, 0.43, 0.125, 0.07, body)
    _draw_lid(pen, identity, lift=0.07 if action in ("jumping", "steaming") else 0.0)
    draw_face(pen, (0.04, 0.53), 0.25, body, identity.choice("mouth"))
    skeleton = {
        "centre": pen.place(0, 0.42),
        "lid": pen.place(0, 0.86),
        "spout": pen.place(0.66, 0.68),
        "handle": pen.place(-0.58, 0.48),
        "base": pen.place(0, 0.05),
    }
    lift = 0.07 if action in ("jumping", "steaming") else 0.0
    return Drawn(skeleton, pen, (0.0, 0.93 + lift), 0.46, (0.05, 0.54), 0.5, (0.0, 0.27), half * 1.7)


def _draw_pot(pen: Pen, shape: str, half: float, colour: RGB) -> None:
    """Draw the teapot's body; half is half its width."""
    if shape == "round":
        pen.ellipse(0, 0.42, half, 0.37, colour)
    elif shape == "barrel":
        pen.box(-half * 0.95, 0.05, half * 0.95, 0.79, colour, 0.14)
    else:
        pen.ellipse(0, 0.33, half * 1.06, 0.28, colour)
        pen.ellipse(0, 0.54, half * 0.78, 0.25, colour)


def _draw_jet(pen: Pen, tip: Point) -> None:
    """Draw tea falling from the spout's tip to the ground."""
    x, y = tip
    pen.ellipse(x + 0.13, 0.03, 0.2, 0.045, shade(_TEA, 0.7))
    path = [(x - 0.03, y), (x + 0.07, y - 0.1), (x + 0.12, y / 2), (x + 0.13, 0.04)]
    pen.curve(path, 0.115, shade(_TEA, 0.7))
    pen.curve(path, 0.075, shade(_TEA, 1.25))


def _draw_handle(pen: Pen, kind: str, colour: RGB) -> None:
    """Draw the teapot's handle."""
    dark = shade(colour, 0.8)
    if kind == "loop":
        pen.curve([(-0.28, 0.68), (-0.54, 0.7), (-0.63, 0.46), (-0.5, 0.24), (-0.28, 0.2)], 0.1, dark)
    elif kind == "square":
        pen.limb([(-0.28, 0.66), (-0.6, 0.66), (-0.6, 0.24), (-0.28, 0.24)], 0.1, dark)
    else:
        pen.limb([(-0.28, 0.62), (-0.66, 0.74), (-0.5, 0.44), (-0.28, 0.22)], 0.1, dark)


def _draw_spout(pen: Pen, kind: str, colour: RGB) -> None:
    """Draw the teapot's spout."""
    if kind == "curved":
        pen.curve([(0.26, 0.24), (0.48, 0.32), (0.54, 0.56), (0.7, 0.7)], 0.14, colour)
        pen.ellipse(0.71, 0.72, 0.1, 0.05, shade(colour, 0.7), 25)
    elif kind == "straight":
        pen.polygon([(0.26, 0.18), (0.3, 0.5), (0.62, 0.78), (0.74, 0.68)], colour)
        pen.ellipse(0.68, 0.73, 0.085, 0.05, shade(colour, 0.7), -40)
    else:
        pen.polygon([(0.26, 0.2), (0.24, 0.56), (0.54, 0.8), (0.8, 0.72), (0.6, 0.56), (0.5, 0.3)], colour)
        pen.ellipse(0.67, 0.76, 0.14, 0.05, shade(colour, 0.7), -16)


def _draw_base(pen: Pen, kind: str, colour: RGB) -> None:
    """Draw what the teapot stands on."""
    if kind == "ring":
        pen.box(-0.24, 0, 0.24, 0.12, shade(colour, 0.7), 0.03)
    elif kind == "legs":
        for x in (-0.22, 0.0, 0.22):
            pen.ellipse(x, 0.07, 0.07, 0.07, shade(colour, 0.7))
    else:
        pen.ellipse(0, 0.05, 0.42, 0.05, shade(colour, 0.7))
        pen.ellipse(0, 0.07, 0.42, 0.045, colour)


def _draw_lid(pen: Pen, identity: Identity, lift: float) -> None:
    """Draw the teapot's lid and knob."""
    lid, accent = identity.colour("lid_colour"), identity.colour("accent_colour")
    pen = pen.moved(0, lift)
    pen.ellipse(0, 0.76, 0.27, 0.125, lid)
    pen.box(-0.29, 0.7, 0.29, 0.765, shade(lid, 0.75), 0.03)
    knob = identity.choice("knob")
    if knob == "ball":
        pen.ellipse(0, 0.93, 0.075, 0.07, accent)
    elif knob == "flat":
        pen.box(-0.04, 0.86, 0.04, 0.94, shade(accent, 0.75))
        pen.box(-0.13, 0.92, 0.13, 0.99, accent, 0.03)
    else:
        pen.polygon([(-0.09, 0.86), (0.09, 0.86), (0, 1.02)], accent)
