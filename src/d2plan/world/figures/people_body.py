"""Bodies of people: proportions, poses and where each joint goes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from d2plan.world.pen import RGB, Pen, Point

_SOLE = 0.03


@dataclass(frozen=True)
class Body:
    """Proportions of a class in figure units (a standing figure is about 1 high).

    Attributes:
        thigh: hip to knee.
        shin: knee to foot.
        torso: hip to shoulder.
        shoulder: half the distance between the shoulders.
        waist: half the waist's width.
        hip: half the hips' width.
        upper_arm: shoulder to elbow.
        forearm: elbow to hand.
        arm_width: thickness of an arm.
        leg_width: thickness of a leg.
        head: half the head's height.
        head_ratio: the head's width over its height.
        jaw: 2 is a round head, more is squarer.
    """

    thigh: float
    shin: float
    torso: float
    shoulder: float
    waist: float
    hip: float
    upper_arm: float
    forearm: float
    arm_width: float
    leg_width: float
    head: float
    head_ratio: float
    jaw: float


BODIES = {
    "man": Body(0.198, 0.2, 0.265, 0.15, 0.13, 0.115, 0.15, 0.145, 0.076, 0.1, 0.143, 0.9, 2.7),
    "woman": Body(0.203, 0.2, 0.25, 0.094, 0.066, 0.1, 0.14, 0.135, 0.052, 0.064, 0.145, 0.9, 2.15),
    "boy": Body(0.135, 0.135, 0.215, 0.1, 0.108, 0.108, 0.115, 0.11, 0.066, 0.076, 0.205, 0.98, 2.15),
    "girl": Body(0.135, 0.135, 0.205, 0.084, 0.074, 0.09, 0.112, 0.108, 0.056, 0.062, 0.205, 0.98, 2.05),
}

Bend = tuple[float, float]


@dataclass(frozen=True)
class Pose:
    """An action's angles in degrees: limbs from hanging straight down, positive towards the facing side.

    Attributes:
        arm_l: upper arm and forearm on the far side (facing direction).
        arm_r: the same on the near side.
        leg_l: thigh and shin on the far side.
        leg_r: the same on the near side.
        lean: turn of the trunk, positive backwards.
        tilt: turn of the head against the trunk.
        skirt: turn of a skirt.
        flare: how wide a skirt falls.
        mood: of the face.
    """

    arm_l: Bend = (20, 10)
    arm_r: Bend = (-20, -10)
    leg_l: Bend = (5, 2)
    leg_r: Bend = (-5, -2)
    lean: float = 0.0
    tilt: float = 0.0
    skirt: float = 0.0
    flare: float = 1.0
    mood: str = "neutral"


POSES = {
    "standing": Pose(),
    "smiling": Pose(arm_l=(48, -42), arm_r=(-48, 42), tilt=-4, mood="smile"),
    "waving": Pose(arm_l=(118, 156)),
    "running": Pose((52, 128), (-52, 38), (68, -8), (-32, -98), lean=-12, skirt=14, flare=1.15),
    "sitting": Pose((36, 66), (-34, -8), (113, 50), (100, 52), lean=8, tilt=-6, skirt=88, flare=0.6),
    "jumping": Pose((132, 156), (-132, -156), (46, 8), (-46, -8), flare=1.2),
    "sleeping": Pose((14, 16), (-6, 2), (6, 4), (-2, -1), flare=0.8, mood="asleep"),
}


@dataclass(frozen=True)
class Joints:
    """Where the joints are: legs in the base pen's coordinates, arms in the trunk pen's (origin between the hips).

    Attributes:
        base: pen of the ground.
        trunk: pen that leans with the trunk.
        leg_l: hip, knee, foot on the far side.
        leg_r: the same on the near side.
        arm_l: shoulder, elbow, hand on the far side.
        arm_r: the same on the near side.
    """

    base: Pen
    trunk: Pen
    leg_l: tuple[Point, Point, Point]
    leg_r: tuple[Point, Point, Point]
    arm_l: tuple[Point, Point, Point]
    arm_r: tuple[Point, Point, Point]


def _chain(start: Point, lengths: tuple[float, float], bend: Bend) -> tuple[Point, Point, Point]:
    spots = [start]
    for length, degrees in zip(lengths, bend, strict=True):
        x, y = spots[-1]
        angle = math.radians(degrees)
        spots.append((x + length * math.sin(angle), y - length * math.cos(angle)))
    return spots[0], spots[1], spots[2]


def _shift(leg: tuple[Point, Point, Point], x: float, y: float) -> tuple[Point, Point, Point]:
    hip, knee, foot = leg
    return (hip[0] + x, hip[1] + y), (knee[0] + x, knee[1] + y), (foot[0] + x, foot[1] + y)


def _place_arm(body: Body, shoulder: float, bend: Bend) -> tuple[Point, Point, Point]:
    lengths = body.upper_arm, body.forearm
    if body.head > 0.17 and abs(bend[0]) > 90:
        # short arms beside a big head: stretched and lowered when raised, or the hands would be lost before the face
        lengths = body.upper_arm * 1.35, body.forearm * 1.35
        bend = bend[0] * 0.85, bend[1] * 0.88
    return _chain((shoulder, body.torso - body.arm_width * 0.45), lengths, bend)


def draw_limb(pen: Pen, joints: Sequence[Point], width: float, colour: RGB, rounded: bool = False) -> None:
    """Draw a limb of one or two straight pieces as a single polygon (its end lies under a hand or a shoe).

    Args:
        pen: the pen that the joints belong to.
        joints: two or three points.
        width: its thickness.
        colour: of the limb.
        rounded: whether its start is seen and needs a round end.
    """
    # Plain numbers: on lines this short numpy costs more than it saves.
    half, sides = width / 2, []
    for (x0, y0), (x1, y1) in zip(joints, joints[1:], strict=False):
        length = max(math.hypot(x1 - x0, y1 - y0), 1e-9)
        sides.append((-(y1 - y0) / length * half, (x1 - x0) / length * half))
    (x, y), (dx, dy) = joints[0], sides[0]
    left, right = [(x + dx, y + dy)], [(x - dx, y - dy)]
    for (x, y), (ax, ay), (bx, by) in zip(joints[1:-1], sides, sides[1:], strict=False):
        # the outer side of a bend gets both corners, which rounds it; the inner side meets in one point
        dx, dy = (ax + bx) / 2, (ay + by) / 2
        share = half**2 / max(dx * dx + dy * dy, half**2 * 0.3)
        turned_left = ax * by - ay * bx > 0
        outer, inner, sign = (right, left, -1.0) if turned_left else (left, right, 1.0)
        outer.extend(
            (x + sign * u, y + sign * v) for u, v in ((ax, ay), ((ax + bx) * 0.54, (ay + by) * 0.54), (bx, by))
        )
        inner.append((x - sign * dx * share, y - sign * dy * share))
    (x, y), (dx, dy) = joints[-1], sides[-1]
    pen.polygon([*left, (x + dx, y + dy), (x - dx, y - dy), *right[::-1]], colour)
    if rounded:
        pen.ellipse(*joints[0], half, half, colour)


def place_joints(pen: Pen, body: Body, action: str, breadth: float) -> Joints:
    """Put a body into the pose of an action, standing on the ground.

    Args:
        pen: the figure's pen.
        body: its proportions.
        action: a key of POSES.
        breadth: factor on the widths of the trunk, about 1.

    Returns:
        The joints and the pens that they belong to.
    """
    pose = POSES[action]
    if action == "jumping":
        pen = pen.moved(0.0, 0.12)
    elif action == "sleeping":
        # a big head lies higher than the feet, so that both touch the ground
        pen = pen.moved(0.48, 0.125 + 0.5 * (body.head - 0.143)).turned(90 - 110 * (body.head - 0.1))
    side = body.hip * 0.52 * breadth
    legs = [_chain((x, 0.0), (body.thigh, body.shin), bend) for x, bend in ((side, pose.leg_l), (-side, pose.leg_r))]
    rise = _SOLE - min(leg[2][1] for leg in legs)
    shift = -0.2 if action == "sitting" else 0.0
    leg_l, leg_r = (_shift(leg, shift, rise) for leg in legs)
    trunk = pen.moved(shift, rise).turned(pose.lean)
    reach = body.shoulder * breadth - body.arm_width * 0.3
    arm_l, arm_r = _place_arm(body, reach, pose.arm_l), _place_arm(body, -reach, pose.arm_r)
    return Joints(pen, trunk, leg_l, leg_r, arm_l, arm_r)
