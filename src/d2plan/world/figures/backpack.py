"""The backpack."""

from __future__ import annotations

from d2plan.world.figures.friendly import draw_face, draw_wide_pattern
from d2plan.world.figures.parts import PATTERNS, Drawn
from d2plan.world.identity import Factor, Identity
from d2plan.world.pen import RGB, Pen, shade

BACKPACK_FACTORS = (
    Factor("body_colour", "colour", weight=1.5),
    Factor("flap_colour", "colour", weight=1.5),
    Factor("pocket_colour", "colour"),
    Factor("strap_colour", "colour", weight=0.75),
    Factor("pattern", "choice", PATTERNS),
    Factor("pattern_colour", "colour"),
    Factor("body_shape", "choice", ("round", "square", "bell")),
    Factor("pocket", "choice", ("wide", "round", "two")),
    Factor("charm", "choice", ("none", "ball", "tag", "bottle"), 0.75),
    Factor("mouth", "choice", ("smile", "open"), 0.5),
    Factor("width", "range", weight=0.5),
)
BACKPACK_ACTIONS = ("standing", "opening", "jumping")


def draw_backpack(pen: Pen, identity: Identity, action: str) -> Drawn:
    """Draw a backpack, from the front.

    Args:
        pen: figure coordinates, the ground at y = 0.
        identity: a backpack's.
        action: one of BACKPACK_ACTIONS.

    Returns:
        The skeleton and the places of accessories.
    """
    half = 0.33 + 0.08 * identity.number("width")
    opening = action == "opening"
    if action == "jumping":
        pen = pen.turned(-9, (0, 0.4))
    body, strap = identity.colour("body_colour"), identity.colour("strap_colour")
    _draw_straps(pen, half, strap, action)
    _draw_charm(pen, identity.choice("charm"), half, strap)
    if opening:
        _draw_open_flap(pen, identity, half)
    else:
        pen.curve([(-0.11, 0.92), (-0.08, 1.0), (0.08, 1.0), (0.11, 0.92)], 0.06, strap)
    top = 0.74 if opening else 0.94
    _draw_sack(pen, identity.choice("body_shape"), (half, top), shade(body, 0.76))
    _draw_sack(pen.moved(0.022, 0.03), identity.choice("body_shape"), (half - 0.022, top - 0.03), body)
    if opening:
        pen.box(-half * 0.86, 0.7, half * 0.86, 0.77, shade(body, 0.45), 0.03)
    else:
        _draw_closed_flap(pen, identity, half)
    _draw_pocket(pen, identity, half)
    draw_face(pen, (0.02, 0.53), 0.26, body, identity.choice("mouth"))
    skeleton = {
        "centre": pen.place(0, 0.5),
        "flap": pen.place(0, 1.06 if opening else 0.84),
        "pocket": pen.place(0, 0.16),
        "side_l": pen.place(-half * 0.9, 0.4),
        "side_r": pen.place(half * 0.9, 0.4),
    }
    return Drawn(skeleton, pen, (0.0, 1.22 if opening else 0.95), 0.52, (0.03, 0.54), 0.52, (0.0, 0.33), half * 1.9)


def _draw_sack(pen: Pen, shape: str, size: tuple[float, float], colour: RGB) -> None:
    """Draw the backpack's body; size is half its width and its height."""
    half, top = size
    if shape == "bell":
        corners = [(half * 1.06, 0.1), (half * 0.98, 0.0), (-half * 0.98, 0.0), (-half * 1.06, 0.1)]
        pen.polygon([(-half * 0.78, top), (half * 0.78, top), *corners], colour)
    else:
        pen.box(-half, 0, half, top, colour, 0.17 if shape == "round" else 0.05)


def _draw_straps(pen: Pen, half: float, colour: RGB, action: str) -> None:
    """Draw the straps behind the backpack; they fly up in a jump."""
    dark = shade(colour, 0.8)
    for side in (-1, 1):
        if action == "jumping":
            path = [(side * half * 0.7, 0.7), (side * (half + 0.2), 0.8), (side * (half + 0.26), 1.02)]
        else:
            path = [
                (side * half * 0.8, 0.76),
                (side * (half + 0.11), 0.6),
                (side * (half + 0.11), 0.28),
                (side * half * 0.8, 0.08),
            ]
        pen.curve(path, 0.09, dark)


def _draw_charm(pen: Pen, kind: str, half: float, colour: RGB) -> None:
    """Draw what hangs at the backpack's side."""
    x = half + 0.1
    if kind == "ball":
        pen.limb([(half, 0.5), (x, 0.36)], 0.04, (70, 66, 66))
        pen.ellipse(x + 0.02, 0.28, 0.1, 0.1, shade(colour, 1.3))
        pen.ellipse(x + 0.02, 0.28, 0.05, 0.05, shade(colour, 0.6))
    elif kind == "tag":
        pen.limb([(half, 0.5), (x, 0.42)], 0.04, (70, 66, 66))
        pen.polygon([(x, 0.46), (x + 0.1, 0.36), (x + 0.1, 0.16), (x - 0.06, 0.16), (x - 0.06, 0.36)], (246, 240, 220))
        pen.box(x - 0.02, 0.2, x + 0.06, 0.32, (214, 70, 60))
    elif kind == "bottle":
        pen.box(x - 0.08, 0.04, x + 0.1, 0.44, (120, 206, 222), 0.05)
        pen.box(x - 0.04, 0.42, x + 0.06, 0.54, (60, 96, 130), 0.02)


def _draw_closed_flap(pen: Pen, identity: Identity, half: float) -> None:
    """Draw the flap over the upper part, with its pattern and buckle."""
    flap = identity.colour("flap_colour")
    wide = half * (0.86 if identity.choice("body_shape") == "bell" else 1.04)
    pen.box(-wide, 0.68, wide, 0.97, shade(flap, 0.62), 0.12)
    pen.box(-wide, 0.7, wide, 0.97, flap, 0.12)
    draw_wide_pattern(pen, identity, (-wide * 0.82, 0.735, wide * 0.82, 0.94))
    pen.box(-0.05, 0.63, 0.05, 0.77, identity.colour("strap_colour"), 0.02)


def _draw_open_flap(pen: Pen, identity: Identity, half: float) -> None:
    """Draw the flap thrown back and what peeps out in front of it."""
    flap = identity.colour("flap_colour")
    wide = half * 1.04
    pen.box(-wide, 0.66, wide, 1.25, flap, 0.13)
    pen.box(-wide * 0.84, 0.66, wide * 0.84, 1.17, shade(flap, 0.55), 0.09)
    draw_wide_pattern(pen, identity, (-wide * 0.7, 0.95, wide * 0.7, 1.15))
    pen.box(-half * 0.66, 0.66, -half * 0.1, 0.94, (222, 78, 70), 0.02)
    pen.box(-half * 0.58, 0.84, -half * 0.18, 0.89, (250, 240, 220))
    pen.polygon(
        [(half * 0.04, 0.66), (half * 0.04, 0.98), (half * 0.16, 1.08), (half * 0.28, 0.98), (half * 0.28, 0.66)],
        (248, 206, 62),
    )
    pen.polygon([(half * 0.1, 1.03), (half * 0.16, 1.08), (half * 0.22, 1.03)], (70, 60, 50))
    pen.ellipse(half * 0.56, 0.8, half * 0.24, half * 0.24, (104, 190, 92))


def _draw_pocket(pen: Pen, identity: Identity, half: float) -> None:
    """Draw the pocket or pockets below the face."""
    colour, kind = identity.colour("pocket_colour"), identity.choice("pocket")
    if kind == "two":
        areas = [(-half * 0.82, -half * 0.06), (half * 0.06, half * 0.82)]
    else:
        areas = [(-half * 0.78, half * 0.78)] if kind == "wide" else [(-0.22, 0.22)]
    radius = 0.14 if kind == "round" else 0.04
    for left, right in areas:
        pen.box(left, 0.05, right, 0.31, colour, radius)
        pen.box(left + 0.02, 0.21, right - 0.02, 0.26, shade(colour, 0.6), 0.02)
