"""The robot."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from d2plan.world.figures.friendly import draw_face, point_in
from d2plan.world.figures.parts import PATTERNS, Drawn, draw_pattern
from d2plan.world.identity import Factor, Identity
from d2plan.world.pen import RGB, Pen, Point, shade

ROBOT_FACTORS = (
    Factor("head_colour", "colour", weight=1.5),
    Factor("body_colour", "colour", weight=1.5),
    Factor("limb_colour", "colour"),
    Factor("head_shape", "choice", ("box", "round", "bucket", "dome")),
    Factor("ears", "choice", ("balls", "bolts", "dishes", "spikes"), 0.75),
    Factor("ear_colour", "colour", weight=0.5),
    Factor("pattern", "choice", PATTERNS),
    Factor("pattern_colour", "colour", weight=0.75),
    Factor("screen_colour", "colour", weight=0.75),
    Factor("mouth", "choice", ("smile", "open", "grille"), 0.5),
    Factor("body_width", "range", weight=0.5),
    Factor("limb_width", "range", weight=0.5),
)
ROBOT_ACTIONS = ("standing", "waving", "running", "sitting", "jumping")


@dataclass(frozen=True)
class _Pose:
    """Where the joints are: arms and legs as (elbow, hand) and (knee, foot); l is the side away from the facing one."""

    arm_l: tuple[Point, Point]
    arm_r: tuple[Point, Point]
    leg_l: tuple[Point, Point]
    leg_r: tuple[Point, Point]
    drop: float = 0.0
    lean: float = 0.0


_STAND_LEGS = (((-0.11, 0.18), (-0.11, 0.05)), ((0.11, 0.18), (0.11, 0.05)))
_POSES = MappingProxyType(
    {
        "standing": _Pose(((-0.3, 0.42), (-0.32, 0.27)), ((0.3, 0.42), (0.32, 0.27)), *_STAND_LEGS),
        "waving": _Pose(((-0.3, 0.42), (-0.32, 0.27)), ((0.4, 0.58), (0.44, 0.84)), *_STAND_LEGS),
        "running": _Pose(
            ((-0.32, 0.36), (-0.44, 0.5)),
            ((0.34, 0.38), (0.46, 0.54)),
            ((-0.2, 0.17), (-0.42, 0.2)),
            ((0.26, 0.26), (0.34, 0.07)),
            0.0,
            -9,
        ),
        "sitting": _Pose(
            ((-0.34, 0.28), (-0.36, 0.08)),
            ((0.34, 0.3), (0.3, 0.16)),
            ((0.16, 0.14), (0.4, 0.07)),
            ((0.28, 0.13), (0.54, 0.06)),
            0.2,
        ),
        "jumping": _Pose(
            ((-0.38, 0.6), (-0.42, 0.84)),
            ((0.38, 0.6), (0.42, 0.84)),
            ((-0.24, 0.2), (-0.18, 0.05)),
            ((0.24, 0.2), (0.18, 0.05)),
        ),
    }
)


def draw_robot(pen: Pen, identity: Identity, action: str) -> Drawn:
    """Draw a robot.

    Args:
        pen: figure coordinates, feet at the origin.
        identity: a robot's.
        action: one of ROBOT_ACTIONS.

    Returns:
        The skeleton and the places of accessories.
    """
    pose = _POSES[action]
    trunk = pen.moved(0, -pose.drop).turned(pose.lean, (0, 0.32))
    half = 0.165 + 0.05 * identity.number("body_width")
    width = 0.07 + 0.035 * identity.number("limb_width")
    limb, body = identity.colour("limb_colour"), identity.colour("body_colour")
    hips = {side: (sign * 0.1, 0.3 - pose.drop) for side, sign in (("l", -1), ("r", 1))}
    shoulders = {side: point_in(trunk, pen, (sign * (half + 0.02), 0.53)) for side, sign in (("l", -1), ("r", 1))}
    _draw_leg(pen, [hips["l"], *pose.leg_l], width, shade(limb, 0.72))
    _draw_arm(pen, [shoulders["l"], *pose.arm_l], width, shade(limb, 0.72))
    if action != "sitting":
        _draw_leg(pen, [hips["r"], *pose.leg_r], width, limb)
    trunk.box(-0.08, 0.56, 0.08, 0.7, shade(body, 0.55))
    trunk.box(-half, 0.27, half, 0.6, shade(body, 0.72), 0.06)
    trunk.box(-half + 0.02, 0.28, half, 0.6, body, 0.06)
    draw_pattern(
        trunk, identity.choice("pattern"), (-half + 0.05, 0.31, half - 0.03, 0.57), identity.colour("pattern_colour")
    )
    if action == "sitting":
        _draw_leg(pen, [hips["r"], *pose.leg_r], width, limb)
    _draw_head(trunk, identity)
    _draw_arm(pen, [shoulders["r"], *pose.arm_r], width, limb)
    skeleton = {"centre": trunk.place(0, 0.44), "head": trunk.place(0, 0.82), "neck": trunk.place(0, 0.62)}
    for side, arm, leg in (("l", pose.arm_l, pose.leg_l), ("r", pose.arm_r, pose.leg_r)):
        joints = {
            "shoulder": shoulders[side],
            "elbow": arm[0],
            "hand": arm[1],
            "hip": hips[side],
            "knee": leg[0],
            "foot": leg[1],
        }
        skeleton |= {f"{name}_{side}": pen.place(*spot) for name, spot in joints.items()}
    return Drawn(skeleton, trunk, (0.0, 0.98), 0.42, (0.01, 0.85), 0.46, (0.0, 0.61), 0.24)


def _draw_leg(pen: Pen, points: list[Point], width: float, colour: RGB) -> None:
    """Draw a leg and its foot."""
    pen.limb(points, width, colour)
    x, y = points[-1]
    pen.box(x - 0.07, y - 0.05, x + 0.11, y + 0.035, shade(colour, 0.62), 0.035)


def _draw_arm(pen: Pen, points: list[Point], width: float, colour: RGB) -> None:
    """Draw an arm and its round hand."""
    pen.limb(points, width, colour)
    pen.ellipse(*points[-1], 0.068, 0.068, shade(colour, 0.62))


def _draw_head(pen: Pen, identity: Identity) -> None:
    """Draw the head with ears at its sides, so that the top stays free for a hat."""
    colour, ear = identity.colour("head_colour"), identity.colour("ear_colour")
    _draw_ears(pen, identity.choice("ears"), ear)
    shape = identity.choice("head_shape")
    if shape == "box":
        pen.box(-0.24, 0.66, 0.24, 1.0, shade(colour, 0.72), 0.05)
        pen.box(-0.22, 0.68, 0.24, 1.0, colour, 0.05)
    elif shape == "round":
        pen.ellipse(0, 0.83, 0.26, 0.175, shade(colour, 0.72))
        pen.ellipse(0.01, 0.84, 0.245, 0.16, colour)
    elif shape == "bucket":
        pen.polygon([(-0.27, 0.66), (0.27, 0.66), (0.19, 1.0), (-0.19, 1.0)], shade(colour, 0.72))
        pen.polygon([(-0.24, 0.68), (0.27, 0.68), (0.19, 1.0), (-0.17, 1.0)], colour)
    else:
        pen.box(-0.25, 0.66, 0.25, 1.0, shade(colour, 0.72), 0.17)
        pen.box(-0.25, 0.66, 0.25, 0.8, shade(colour, 0.72), 0.02)
        pen.box(-0.23, 0.68, 0.25, 1.0, colour, 0.16)
    screen = identity.colour("screen_colour")
    pen.box(-0.185, 0.685, 0.2, 0.945, screen, 0.07)
    draw_face(pen, (0.01, 0.85), 0.19, screen, identity.choice("mouth"))


def _draw_ears(pen: Pen, kind: str, colour: RGB) -> None:
    """Draw what sits at both sides of the head."""
    for side in (-1, 1):
        if kind == "balls":
            pen.limb([(side * 0.2, 0.84), (side * 0.33, 0.96)], 0.035, shade(colour, 0.6))
            pen.ellipse(side * 0.34, 0.97, 0.055, 0.055, colour)
        elif kind == "bolts":
            pen.box(side * 0.27 - 0.05, 0.79, side * 0.27 + 0.05, 0.87, shade(colour, 0.6))
            pen.box(side * 0.325 - 0.025, 0.75, side * 0.325 + 0.025, 0.91, colour)
        elif kind == "dishes":
            pen.ellipse(side * 0.26, 0.83, 0.075, 0.12, shade(colour, 0.6))
            pen.ellipse(side * 0.28, 0.83, 0.055, 0.095, colour)
        else:
            pen.polygon([(side * 0.2, 0.92), (side * 0.2, 0.74), (side * 0.37, 0.9)], colour)
