"""Heads of dogs and cats."""

from __future__ import annotations

from d2plan.world.figures.strokes import DARK, PINK, ROUND, WHITE, draw_dot, draw_eye, draw_tube, furry
from d2plan.world.identity import Identity
from d2plan.world.pen import RGB, Pen, blend, shade

# Sum of a coat's channels from which dark whiskers stand out better than white ones.
_LIGHT_COAT = 380


def _draw_face_pattern(head: Pen, identity: Identity) -> None:
    """Draw the head's part of the pattern."""
    pattern, colour = identity.choice("pattern"), identity.colour("pattern_colour")
    if pattern == "patch":
        head.ellipse(-0.035, 0.045, 0.09, 0.11, colour)
    elif pattern == "spots":
        head.ellipse(-0.13, -0.06, 0.035, 0.035, colour)
        head.ellipse(0.05, 0.145, 0.035, 0.03, colour)
        head.ellipse(-0.1, 0.1, 0.03, 0.03, colour)
    elif pattern == "stripes":
        for x in (-0.035, 0.05, 0.135):
            head.polygon([(x - 0.025, 0.18 - x * x * 2), (x + 0.025, 0.18 - x * x * 2), (x + 0.005, 0.09)], colour)
    elif pattern == "saddle":
        head.polygon(ROUND[2:17] * (0.205, 0.19), colour)


def draw_dog_head(head: Pen, identity: Identity, asleep: bool) -> None:
    """Draw a dog's head: a long muzzle with a big nose, and its ears."""
    coat, second, form = identity.colour("coat_colour"), identity.colour("second_colour"), identity.choice("ears")
    ear = shade(coat, 0.72) if identity.choice("pattern") in ("spots", "stripes") else identity.colour("pattern_colour")
    rough = max(0.0, identity.number("fluff") - 0.25) * 0.22
    _draw_dog_ear(head.moved(0.13, 0.13), form, shade(ear, 0.85), far=True)
    head.polygon(furry(ROUND * (0.2, 0.195), rough), coat)
    _draw_face_pattern(head, identity)
    head.ellipse(0.185, -0.08, 0.155, 0.085, second)
    draw_tube(head, [(0.12, -0.145), (0.2, -0.15), (0.27, -0.125)], (0.03, 0.034, 0.03), shade(second, 0.5))
    if not asleep:
        draw_dot(head, 0.19, -0.185, 0.042, 0.055, PINK)
    draw_dot(head, 0.325, -0.035, 0.055, 0.047, DARK)
    iris = identity.colour("eye_colour")
    draw_eye(head, (-0.035, 0.045), 0.06, iris, asleep=asleep)
    draw_eye(head, (0.13, 0.05), 0.056, iris, asleep=asleep)
    _draw_dog_ear(head.moved(-0.13, 0.11), form, ear, far=False)


def _draw_dog_ear(pen: Pen, form: str, colour: RGB, *, far: bool) -> None:
    """Draw an ear whose root is the origin; far: the one behind the head."""
    if form == "floppy":
        pen.ellipse(*((0.05, 0.01, 0.075, 0.11, colour, 30) if far else (-0.05, -0.07, 0.075, 0.145, colour, -14)))
    elif form == "long":
        draw_tube(
            pen,
            [(0.0, 0.03), (0.08, -0.06), (0.11, -0.17)] if far else [(0.02, 0.05), (-0.07, -0.1), (-0.08, -0.3)],
            (0.08, 0.12, 0.13),
            colour,
        )
    elif form == "upright":
        pen.polygon(
            [(-0.08, 0.0), (-0.07, 0.13), (-0.035, 0.2), (0.0, 0.2), (0.04, 0.13), (0.09, 0.0), (0.0, -0.05)], colour
        )
        if not far:
            pen.polygon([(-0.035, 0.01), (-0.03, 0.11), (-0.01, 0.15), (0.02, 0.1), (0.045, 0.01)], shade(colour, 1.35))
    else:
        pen.polygon([(-0.08, -0.02), (-0.06, 0.13), (0.03, 0.16), (0.1, 0.0)], shade(colour, 0.8))
        lean = 1 if far else -1
        pen.polygon([(-0.06, 0.13), (0.03, 0.16), (lean * 0.1, 0.13), (lean * 0.16, -0.0), (lean * 0.07, 0.02)], colour)


def draw_cat_head(head: Pen, identity: Identity, asleep: bool) -> None:
    """Draw a cat's head: triangular ears, a flat face with whiskers."""
    coat, second, form = identity.colour("coat_colour"), identity.colour("second_colour"), identity.choice("ears")
    ear = coat if identity.choice("pattern") in ("spots", "stripes") else identity.colour("pattern_colour")
    rough = max(0.0, identity.number("fluff") - 0.25) * 0.2
    _draw_cat_ear(head.moved(0.15, 0.1).turned(-16), form, shade(ear, 0.86), second)
    _draw_cat_ear(head.moved(-0.11, 0.1).turned(14), form, ear, second)
    head.polygon(furry(ROUND * (0.225, 0.18), rough), coat)
    for side in (-1, 1):
        head.polygon(
            [(side * 0.16 + 0.01, 0.0), (side * (0.245 + rough * 0.6) + 0.01, -0.1), (side * 0.12 + 0.01, -0.15)], coat
        )
    _draw_face_pattern(head, identity)
    head.ellipse(0.07, -0.085, 0.105, 0.07, second)
    line = WHITE if sum(coat) < _LIGHT_COAT else DARK
    for y, rise in ((-0.06, 0.03), (-0.105, -0.025)):
        head.polygon(
            [(-0.06, y - 0.012), (-0.31, y + rise - 0.014), (-0.31, y + rise + 0.014), (-0.06, y + 0.012)], line
        )
        head.polygon([(0.18, y - 0.012), (0.36, y + rise - 0.014), (0.36, y + rise + 0.014), (0.18, y + 0.012)], line)
    iris = identity.colour("eye_colour")
    draw_eye(head, (-0.045, 0.015), 0.064, iris, asleep=asleep, slit=True)
    draw_eye(head, (0.145, 0.015), 0.06, iris, asleep=asleep, slit=True)
    head.polygon([(0.035, -0.045), (0.105, -0.045), (0.07, -0.09)], PINK)
    draw_tube(head, [(0.025, -0.105), (0.055, -0.125), (0.09, -0.125), (0.115, -0.105)], (0.028,) * 4, DARK)


def _draw_cat_ear(pen: Pen, form: str, colour: RGB, inner: RGB) -> None:
    """Draw a triangular ear whose root is the origin."""
    wide, high, lean = {
        "tall": (0.09, 0.24, 0.0),
        "wide": (0.125, 0.17, 0.0),
        "tufted": (0.095, 0.19, 0.0),
        "tilted": (0.1, 0.16, -0.07),
    }[form]
    pen.polygon([(-wide, -0.04), (lean, high), (wide, -0.04)], colour)
    pen.polygon([(-wide * 0.5, 0.0), (lean * 0.7, high * 0.72), (wide * 0.5, 0.0)], blend(inner, PINK, 0.6))
    if form == "tufted":
        pen.polygon([(-0.045, high * 0.62), (-0.01, high + 0.08), (0.01, high + 0.08), (0.045, high * 0.62)], DARK)
