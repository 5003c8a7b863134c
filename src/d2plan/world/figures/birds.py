"""Birds: body, wings, legs and head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from d2plan.world.figures.parts import Drawn
from d2plan.world.figures.strokes import DARK, ROUND, draw_dot, draw_eye, draw_tube, smooth
from d2plan.world.identity import Identity
from d2plan.world.pen import RGB, Pen, Point, shade


@dataclass(frozen=True)
class _Perch:
    """How a bird holds itself: middle of the body and its turn, the head and its turn."""

    body: Point
    body_turn: float
    head: Point
    head_turn: float


_PERCHES = {
    "standing": _Perch((-0.02, 0.39), 14, (0.1, 0.7), 0),
    "singing": _Perch((-0.04, 0.4), 26, (0.08, 0.71), 24),
    "flying": _Perch((-0.04, 0.36), -6, (0.27, 0.5), -4),
    "sleeping": _Perch((-0.02, 0.25), 2, (0.13, 0.46), -16),
}


def draw_bird(pen: Pen, identity: Identity, action: str) -> Drawn:
    """Draw a bird, the far side first."""
    perch = _PERCHES[action]
    flying = action == "flying"
    if flying:
        pen = pen.moved(0, 0.12)
    rx, ry = 0.25 + 0.09 * identity.number("roundness"), 0.215 + 0.07 * identity.number("roundness")
    main, wing = identity.colour("body_colour"), identity.colour("wing_colour")
    body = pen.moved(*perch.body).turned(perch.body_turn)
    tail = _draw_bird_tail(body.moved(-rx * 0.85, 0.02), identity)
    if flying:
        _draw_wing(body.moved(0.1, 0.1, 1.15).turned(-24), identity, shade(wing, 0.75), spread=True)
    feet = _draw_bird_legs(pen, identity.colour("beak_colour"), action)
    draw_tube(pen, [perch.body, perch.head], (0.34, 0.3), main)
    body.polygon(ROUND * (rx, ry), shade(main, 0.82))
    body.polygon(ROUND * (rx * 0.97, ry * 0.93) + (0, 0.015), main)
    body.ellipse(rx * 0.28, -ry * 0.3, rx * 0.68, ry * 0.6, identity.colour("belly_colour"))
    _draw_belly_pattern(body, identity, (rx, ry))
    if flying:
        tip = _draw_wing(body.moved(-0.06, 0.04, 1.25).turned(14), identity, wing, spread=True)
    else:
        tip = _draw_wing(
            body.moved(-0.03, 0.07).turned(-18 if action == "singing" else 0), identity, wing, spread=False
        )
    head = pen.moved(*perch.head).turned(perch.head_turn)
    _draw_bird_head(head, identity, action)
    if action == "singing":
        for x, y in ((0.47, 0.45), (0.67, 0.68)):
            _draw_note(pen.moved(x, y))
    skeleton = {
        "head": pen.place(*perch.head),
        "neck": head.place(-0.02, -0.17),
        "wing": tip,
        "tail": tail,
        "foot_l": feet[0],
        "foot_r": feet[1],
    }
    return Drawn(skeleton, head, (0.0, 0.16), 0.3, (0.07, 0.035), 0.32, (-0.02, -0.17), 0.33)


def _draw_bird_legs(pen: Pen, colour: RGB, action: str) -> tuple[Point, Point]:
    """Draw both legs, hidden under the body of a sleeping bird; gives the feet in picture pixels."""
    if action == "sleeping":
        return pen.place(-0.06, 0.05), pen.place(0.06, 0.05)
    feet = []
    for x, factor in ((0.09, 0.75), (-0.05, 0.95)):
        tone = shade(colour, factor)
        if action == "flying":
            draw_tube(pen, [(x - 0.08, 0.22), (x - 0.19, 0.11)], (0.05, 0.05), tone)
            pen.polygon([(x - 0.15, 0.14), (x - 0.32, 0.11), (x - 0.3, 0.05), (x - 0.18, 0.07)], tone)
            feet.append(pen.place(x - 0.22, 0.095))
            continue
        pen.polygon([(x - 0.025, 0.25), (x + 0.025, 0.25), (x + 0.025, 0.03), (x - 0.025, 0.03)], tone)
        pen.polygon([(x - 0.06, 0.0), (x - 0.02, 0.06), (x + 0.04, 0.06), (x + 0.12, 0.0)], tone)
        feet.append(pen.place(x + 0.01, 0.025))
    return feet[0], feet[1]


_BIRD_TAILS: dict[str, tuple[Point, ...]] = {
    "fan": ((0.1, 0.1), (-0.16, 0.24), (-0.24, 0.12), (-0.25, 0.0), (-0.2, -0.11), (0.1, -0.08)),
    "long": ((0.1, 0.08), (-0.4, 0.05), (-0.45, 0.0), (-0.41, -0.05), (0.1, -0.09)),
    "forked": ((0.1, 0.08), (-0.32, 0.17), (-0.2, 0.0), (-0.34, -0.13), (0.1, -0.08)),
    "short": ((0.1, 0.09), (-0.14, 0.1), (-0.16, 0.02), (0.1, -0.08)),
}


def _draw_bird_tail(pen: Pen, identity: Identity) -> Point:
    """Draw tail feathers whose root is the origin; gives the tip in picture pixels."""
    points = np.array(_BIRD_TAILS[identity.choice("tail")])
    pen.polygon(points, shade(identity.colour("wing_colour"), 0.8))
    # Shown with every pattern, the plain one too, so that no two pattern colours look alike.
    pen.polygon(points * (0.98, 0.5) + (0.0, 0.015), identity.colour("pattern_colour"))
    return pen.place(float(points[:, 0].min()) * 0.6, 0.03)


def _draw_wing(pen: Pen, identity: Identity, colour: RGB, *, spread: bool) -> Point:
    """Draw a wing whose shoulder is the origin: folded backwards or spread upwards; gives its tip in picture pixels."""
    if spread:
        outline = np.array(
            [
                (0.12, -0.06),
                (0.1, 0.1),
                (0.0, 0.3),
                (-0.14, 0.46),
                (-0.22, 0.42),
                (-0.24, 0.33),
                (-0.29, 0.28),
                (-0.27, 0.19),
                (-0.29, 0.12),
                (-0.22, 0.05),
                (-0.16, -0.08),
                (0.0, -0.12),
            ]
        )
        middle, tip = (-0.08, 0.1), (-0.16, 0.4)
    else:
        outline = np.array(
            [
                (0.13, 0.0),
                (0.1, 0.08),
                (0.0, 0.1),
                (-0.14, 0.08),
                (-0.33, 0.01),
                (-0.25, -0.03),
                (-0.22, -0.09),
                (-0.13, -0.09),
                (-0.1, -0.15),
                (0.02, -0.14),
                (0.1, -0.09),
            ]
        )
        middle, tip = (-0.05, 0.0), (-0.28, 0.0)
    pen.polygon(outline, shade(colour, 0.84))
    pen.polygon((outline - middle) * 0.78 + (middle[0] + 0.03, middle[1] + 0.015), colour)
    if identity.choice("pattern") == "bars":
        bar = identity.colour("pattern_colour")
        for low, high in ((0.1, 0.16), (0.26, 0.31)) if spread else ((-0.01, 0.05), (-0.12, -0.06)):
            if spread:
                pen.polygon([(0.07, low), (-0.24, low + 0.02), (-0.24, high + 0.02), (0.05, high)], bar)
            else:
                pen.polygon([(low - 0.02, -0.12), (high - 0.02, -0.12), (high, 0.085), (low, 0.085)], bar)
    return pen.place(*tip)


def _draw_belly_pattern(body: Pen, identity: Identity, axes: tuple[float, float]) -> None:
    """Draw the belly's part of the pattern."""
    pattern, colour = identity.choice("pattern"), identity.colour("pattern_colour")
    rx, ry = axes
    if pattern == "spots":
        for x, y in ((0.82, 0.15), (0.75, -0.3), (0.45, -0.62), (0.1, -0.8), (0.48, -0.15)):
            draw_dot(body, rx * x, ry * y, 0.04, 0.04, colour)
    elif pattern == "stripes":
        for x, high, low in ((0.72, 0.3, -0.6), (0.38, 0.1, -0.84), (0.04, -0.2, -0.92)):
            body.polygon(
                [
                    (rx * x - 0.03, ry * high),
                    (rx * x + 0.03, ry * high),
                    (rx * x + 0.02, ry * low),
                    (rx * x - 0.04, ry * low),
                ],
                colour,
            )


def _draw_bird_head(head: Pen, identity: Identity, action: str) -> None:
    """Draw the head with crest, cheek, eyes and beak."""
    main = identity.colour("body_colour")
    _draw_crest(head, identity.choice("crest"), shade(identity.colour("wing_colour"), 0.95))
    head.polygon(ROUND * (0.19, 0.185), main)
    if identity.choice("pattern") == "cheek":
        head.ellipse(-0.05, -0.06, 0.08, 0.07, identity.colour("pattern_colour"))
    asleep = action == "sleeping"
    draw_eye(head, (0.125, 0.045), 0.05, None, asleep=asleep)
    draw_eye(head, (0.0, 0.04), 0.056, None, asleep=asleep)
    _draw_beak(
        head.moved(0.14, -0.035), identity.choice("beak"), identity.colour("beak_colour"), is_open=action == "singing"
    )


_BEAKS: dict[str, tuple[tuple[Point, ...], tuple[Point, ...]]] = {
    "cone": (
        ((-0.06, 0.06), (0.07, 0.04), (0.17, -0.02), (-0.06, -0.03)),
        ((-0.06, -0.0), (0.14, -0.02), (0.05, -0.07), (-0.05, -0.08)),
    ),
    "long": (
        ((-0.06, 0.045), (0.1, 0.03), (0.31, -0.01), (-0.06, -0.03)),
        ((-0.06, 0.0), (0.28, -0.01), (0.08, -0.05), (-0.05, -0.06)),
    ),
    "hooked": (
        ((-0.06, 0.07), (0.07, 0.075), (0.16, 0.02), (0.17, -0.1), (0.1, -0.03), (-0.06, -0.03)),
        ((-0.06, 0.0), (0.1, -0.02), (0.05, -0.09), (-0.05, -0.09)),
    ),
    "flat": (
        ((-0.06, 0.05), (0.06, 0.02), (0.19, 0.03), (0.26, 0.0), (0.23, -0.035), (-0.06, -0.03)),
        ((-0.06, 0.0), (0.2, -0.025), (0.2, -0.065), (0.04, -0.075), (-0.05, -0.07)),
    ),
}


def _draw_beak(pen: Pen, form: str, colour: RGB, *, is_open: bool) -> None:
    """Draw a beak whose root is the origin."""
    upper, lower = _BEAKS[form]
    pen.turned(-34 if is_open else 0).polygon(lower, shade(colour, 0.72))
    if is_open:
        pen.polygon([(-0.06, 0.02), (0.11, 0.03), (0.07, -0.07), (-0.05, -0.07)], (150, 40, 50))
    pen.turned(14 if is_open else 0).polygon(upper, colour)


def _draw_crest(head: Pen, form: str, colour: RGB) -> None:
    """Draw feathers on the back of the head, where a hat leaves them visible."""
    if form == "tuft":
        head.polygon([(0.06, 0.15), (-0.06, 0.24), (-0.24, 0.31), (-0.21, 0.2), (-0.29, 0.15), (-0.17, 0.02)], colour)
    elif form == "spikes":
        head.polygon(
            [
                (0.12, 0.12),
                (0.1, 0.27),
                (0.01, 0.19),
                (-0.06, 0.3),
                (-0.11, 0.18),
                (-0.23, 0.24),
                (-0.19, 0.1),
                (-0.3, 0.08),
                (-0.18, -0.04),
            ],
            colour,
        )
    elif form == "curl":
        draw_tube(
            head,
            smooth(np.array([(-0.03, 0.14), (-0.06, 0.27), (-0.17, 0.32), (-0.25, 0.25), (-0.2, 0.18)])),
            np.full(13, 0.055),
            colour,
        )


def _draw_note(pen: Pen) -> None:
    """Draw a note of music."""
    pen.ellipse(0.0, 0.0, 0.05, 0.04, DARK, 20)
    pen.polygon(
        [(0.018, 0.0), (0.05, 0.0), (0.05, 0.14), (0.13, 0.09), (0.13, 0.14), (0.05, 0.19), (0.018, 0.19)], DARK
    )
