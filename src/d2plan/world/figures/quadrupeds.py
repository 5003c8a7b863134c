"""Dogs and cats: poses, body, legs and tail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from d2plan.world.figures.heads import draw_cat_head, draw_dog_head
from d2plan.world.figures.parts import Drawn
from d2plan.world.figures.strokes import ROUND, SIDE, draw_dot, draw_tube, furry, smooth
from d2plan.world.identity import Identity
from d2plan.world.pen import RGB, Pen, Point, shade


@dataclass(frozen=True)
class _Pose:
    """Where the joints of a four-legged animal are.

    ``legs`` holds near front, near hind, far front, far hind; each is shoulder or hip, knee, paw.
    """

    hip: Point
    shoulder: Point
    head: Point
    legs: tuple[tuple[Point, ...], ...]
    head_turn: float = 0.0
    tail_turn: float = 0.0
    folded: bool = False
    asleep: bool = False


def _leg(joint: Point, reach: float, *steps: Point) -> tuple[Point, ...]:
    """Give a leg's points: the joint, then offsets from it in units of reach."""
    return (joint, *((joint[0] + x * reach, joint[1] + y * reach) for x, y in steps))


def _stand(leg: float, half: float) -> _Pose:
    height = leg + 0.14
    hip, shoulder = (-half - 0.08, height), (half - 0.08, height + 0.02)
    front, hind = shoulder[0] + 0.06, hip[0] - 0.05
    legs = tuple(
        ((x, height), (x + bend, height / 2), (x, 0.045))
        for x, bend in ((front, 0.01), (hind, -0.02), (front + 0.13, 0.01), (hind + 0.14, -0.02))
    )
    return _Pose(hip, shoulder, (shoulder[0] + 0.15, shoulder[1] + 0.29), legs)


def _run(leg: float, half: float) -> _Pose:
    height, reach = leg + 0.19, leg + 0.13
    hip, shoulder = (-half - 0.03, height), (half - 0.07, height + 0.05)
    legs = (
        _leg((shoulder[0] + 0.03, height), reach, (0.55, -0.2), (0.98, -0.42)),
        _leg((hip[0] - 0.03, height), reach, (-0.4, -0.4), (-0.92, -0.55)),
        _leg((shoulder[0] + 0.06, height), reach, (0.35, -0.5), (0.62, -0.9)),
        _leg((hip[0] + 0.05, height), reach, (-0.15, -0.5), (-0.5, -0.92)),
    )
    return _Pose(hip, shoulder, (shoulder[0] + 0.2, shoulder[1] + 0.23), legs, head_turn=-6, tail_turn=18)


def _sit(leg: float, half: float) -> _Pose:
    rise = 0.16 + 0.5 * half + 0.35 * leg
    hip, shoulder = (-0.2, 0.19), (0.02 + 0.25 * half, 0.19 + rise)
    foot = shoulder[0] + 0.1
    legs = (
        ((shoulder[0] + 0.04, shoulder[1] - 0.04), (foot - 0.02, shoulder[1] / 2), (foot, 0.045)),
        ((hip[0] + 0.02, 0.14), (hip[0] + 0.12, 0.07), (hip[0] + 0.22, 0.045)),
        ((shoulder[0] + 0.08, shoulder[1] - 0.04), (foot + 0.09, shoulder[1] / 2), (foot + 0.12, 0.045)),
        ((hip[0] + 0.05, 0.1), (hip[0] + 0.15, 0.07), (hip[0] + 0.25, 0.05)),
    )
    return _Pose(hip, shoulder, (shoulder[0] + 0.1, shoulder[1] + 0.28), legs, tail_turn=42, folded=True)


def _jump(leg: float, half: float) -> _Pose:
    reach = leg + 0.15
    hip, shoulder = (-0.88 * half, reach * 0.85), (0.88 * half, reach * 0.85 + half)
    legs = (
        _leg((shoulder[0] + 0.02, shoulder[1] - 0.05), reach, (0.45, -0.35), (0.95, -0.1)),
        _leg((hip[0] - 0.02, hip[1]), reach, (-0.25, -0.45), (-0.72, -0.72)),
        _leg((shoulder[0] + 0.06, shoulder[1] - 0.05), reach, (0.35, -0.5), (0.75, -0.55)),
        _leg((hip[0] + 0.06, hip[1]), reach, (-0.1, -0.5), (-0.38, -0.9)),
    )
    return _Pose(hip, shoulder, (shoulder[0] + 0.17, shoulder[1] + 0.25), legs, head_turn=8, tail_turn=30)


def _sleep(leg: float, half: float) -> _Pose:
    hip, shoulder = (-half - 0.1, 0.175), (half - 0.12, 0.18)
    front, hind = shoulder[0] + 0.05, hip[0]
    tip = front + 0.18 + 0.6 * leg
    legs = (
        ((front, 0.09), (front + 0.1, 0.05), (tip, 0.045)),
        ((hind, 0.1), (hind + 0.1, 0.06), (hind + 0.1 + 0.5 * leg, 0.045)),
        ((front, 0.1), (front + 0.12, 0.06), (tip + 0.06, 0.055)),
        ((hind, 0.1), (hind + 0.12, 0.06), (hind + 0.15 + 0.5 * leg, 0.05)),
    )
    return _Pose(hip, shoulder, (shoulder[0] + 0.23, 0.25), legs, head_turn=-9, tail_turn=48, folded=True, asleep=True)


_POSES: dict[str, Callable[[float, float], _Pose]] = {
    "standing": _stand,
    "running": _run,
    "sitting": _sit,
    "jumping": _jump,
    "sleeping": _sleep,
}


def draw_quadruped(pen: Pen, identity: Identity, action: str) -> Drawn:
    """Draw a dog or a cat, the far side first."""
    is_dog = identity.class_word == "dog"
    pose = _POSES[action](0.13 + 0.2 * identity.number("leg_length"), 0.18 + 0.12 * identity.number("body_length"))
    if action == "jumping":
        pen = pen.moved(0, 0.12)
    coat, second = identity.colour("coat_colour"), identity.colour("second_colour")
    width = (0.115 if is_dog else 0.095) + 0.02 * identity.number("fluff")
    tip = _draw_tail(
        pen.moved(pose.hip[0] - 0.11, pose.hip[1] + 0.04).turned(pose.tail_turn), identity, lying=pose.asleep
    )
    for points in pose.legs[2:]:
        _draw_leg(pen, points, width, shade(coat, 0.72), shade(second, 0.8))
    draw_tube(pen, [pose.shoulder, pose.head], (0.27, 0.22), shade(coat, 0.86))
    back = _draw_torso(pen, identity, pose)
    if pose.folded:
        pen.ellipse(pose.hip[0] + 0.03, pose.hip[1] - 0.03, 0.17, 0.14, shade(coat, 0.9))
    for points in (pose.legs[1], pose.legs[0]):
        _draw_leg(pen, points, width, shade(coat, 0.93), second)
    head = pen.moved(*pose.head).turned(pose.head_turn)
    (draw_dog_head if is_dog else draw_cat_head)(head, identity, pose.asleep)
    neck = (pose.shoulder[0] * 0.62 + pose.head[0] * 0.38, pose.shoulder[1] * 0.62 + pose.head[1] * 0.38)
    # Undo the head's turn, because accessories measure the neck in the head's coordinates.
    angle = np.deg2rad(-pose.head_turn)
    x, y = neck[0] - pose.head[0], neck[1] - pose.head[1]
    anchor = (float(np.cos(angle) * x - np.sin(angle) * y), float(np.sin(angle) * x + np.cos(angle) * y))
    skeleton = {"head": pen.place(*pose.head), "neck": pen.place(*neck), "back": back, "tail": tip}
    skeleton |= {f"paw_{number}": pen.place(*points[-1]) for number, points in enumerate(pose.legs, 1)}
    return Drawn(
        skeleton, head, (0.02, 0.17), 0.34, (0.07 if is_dog else 0.06, 0.045 if is_dog else 0.01), 0.36, anchor, 0.29
    )


def _draw_leg(pen: Pen, points: Sequence[Point], width: float, colour: RGB, paw: RGB) -> None:
    """Draw a leg that gets thinner downwards, and its paw."""
    draw_tube(pen, points, (width * 1.5, width * 1.1, width * 0.85), colour)
    x, y = points[-1]
    draw_dot(pen, x + 0.025, y + 0.005, width * 0.72, 0.05, paw)


def _draw_torso(pen: Pen, identity: Identity, pose: _Pose) -> Point:
    """Draw the body with its belly and pattern; gives the middle of the back in picture pixels."""
    x, y = pose.shoulder[0] - pose.hip[0], pose.shoulder[1] - pose.hip[1]
    half = float(np.hypot(x, y)) / 2
    body = pen.moved((pose.shoulder[0] + pose.hip[0]) / 2, (pose.shoulder[1] + pose.hip[1]) / 2).turned(
        float(np.rad2deg(np.arctan2(y, x)))
    )
    coat = identity.colour("coat_colour")
    rough = max(0.0, identity.number("fluff") - 0.25) * 0.22
    deep = 0.175 if identity.class_word == "dog" else 0.155
    outline = furry(ROUND * (0.16, deep), rough) + SIDE * half
    body.polygon(outline, shade(coat, 0.82))
    body.polygon(outline * (0.97, 0.88) + (0, 0.018), coat)
    body.ellipse(0.04, -0.1, half + 0.03, 0.05, identity.colour("second_colour"))
    _draw_coat_pattern(body, identity, half)
    return body.place(0, 0.13)


def _draw_coat_pattern(body: Pen, identity: Identity, half: float) -> None:
    """Draw the body's part of the pattern; everything stays inside the torso."""
    pattern, colour = identity.choice("pattern"), identity.colour("pattern_colour")
    if pattern == "spots":
        for share, y, radius in (
            (-1.2, 0.03, 0.05),
            (-0.55, 0.08, 0.045),
            (-0.25, -0.03, 0.055),
            (0.3, 0.075, 0.055),
            (0.8, 0.0, 0.045),
            (-0.8, -0.06, 0.035),
        ):
            draw_dot(body, share * half, y, radius, radius, colour)
    elif pattern == "stripes":
        for share in (-1.15, -0.6, -0.05, 0.5):
            x = share * half
            body.polygon(
                [(x - 0.045, 0.13), (x + 0.045, 0.13), (x + 0.035, 0.02), (x - 0.005, -0.07), (x - 0.025, 0.02)], colour
            )
    elif pattern == "patch":
        body.ellipse(-half * 0.75, 0.035, 0.15, 0.105, colour)
    elif pattern == "saddle":
        body.polygon(ROUND[:19] * (0.14, 0.15) + SIDE[:19] * half * 0.75 - (0, 0.015), colour)


def _draw_tail(pen: Pen, identity: Identity, *, lying: bool) -> Point:
    """Draw the tail from its root at the origin, backwards and up; gives its tip in picture pixels."""
    points, widths, tip_colour = _TAILS[identity.choice("tail")]
    coat, form = identity.colour("coat_colour"), identity.choice("tail")
    line = np.array(points) * (1, 0.55 if lying else 1)
    grow = 1 + 0.35 * identity.number("fluff")
    line, thick = (
        smooth(line),
        np.interp(np.linspace(0, 1, 3 * (len(points) - 1) + 1), np.linspace(0, 1, len(widths)), widths) * grow,
    )
    draw_tube(pen, line, thick, shade(coat, 0.9))
    if tip_colour:
        colour = identity.colour(tip_colour)
        count = len(line)
        parts = (
            ((count // 3, count // 3 + 2), (count // 3 + 3, count // 3 + 5), (count - 2, count))
            if form == "ringed"
            else ((count - 4, count),)
        )
        for start, stop in parts:
            draw_tube(pen, line[start:stop], thick[start:stop], colour)
    return pen.place(*line[-1])


_TAILS: dict[str, tuple[tuple[Point, ...], tuple[float, ...], str]] = {
    "flag": (((0.06, -0.02), (-0.06, 0.06), (-0.13, 0.19), (-0.13, 0.33)), (0.13, 0.11, 0.09), ""),
    "ring": (
        ((0.06, -0.02), (-0.08, 0.06), (-0.12, 0.2), (-0.02, 0.28), (0.06, 0.2), (0.01, 0.14)),
        (0.13, 0.12, 0.1),
        "",
    ),
    "bushy": (((0.06, -0.02), (-0.08, 0.0), (-0.2, 0.06), (-0.3, 0.18)), (0.09, 0.22, 0.2, 0.06), "second_colour"),
    "short": (((0.06, -0.02), (-0.04, 0.06), (-0.09, 0.13)), (0.13, 0.12, 0.11), ""),
    "hook": (
        ((0.06, -0.02), (-0.1, 0.04), (-0.18, 0.2), (-0.17, 0.38), (-0.06, 0.45), (0.0, 0.38)),
        (0.07, 0.06, 0.055),
        "",
    ),
    "wave": (
        ((0.06, -0.02), (-0.1, 0.0), (-0.19, 0.12), (-0.14, 0.28), (-0.2, 0.42), (-0.3, 0.46)),
        (0.07, 0.06, 0.055),
        "",
    ),
    "tipped": (
        ((0.06, -0.02), (-0.12, 0.04), (-0.2, 0.2), (-0.2, 0.36), (-0.15, 0.5)),
        (0.07, 0.06, 0.075),
        "second_colour",
    ),
    "ringed": (
        ((0.06, -0.02), (-0.12, 0.03), (-0.22, 0.18), (-0.22, 0.34), (-0.12, 0.46)),
        (0.07, 0.075, 0.075),
        "pattern_colour",
    ),
}
