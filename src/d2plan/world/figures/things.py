"""The things of the world, all with a friendly face: robot, teapot, car and backpack."""

from __future__ import annotations

from types import MappingProxyType

from d2plan.world.figures.backpack import BACKPACK_ACTIONS, BACKPACK_FACTORS, draw_backpack
from d2plan.world.figures.car import CAR_ACTIONS, CAR_FACTORS, draw_car
from d2plan.world.figures.friendly import PALE, PALE_EDGE
from d2plan.world.figures.parts import Drawn
from d2plan.world.figures.robot import ROBOT_ACTIONS, ROBOT_FACTORS, draw_robot
from d2plan.world.figures.teapot import TEAPOT_ACTIONS, TEAPOT_FACTORS, draw_teapot
from d2plan.world.identity import Identity
from d2plan.world.pen import Pen

FACTORS = MappingProxyType(
    {
        "robot": ROBOT_FACTORS,
        "teapot": TEAPOT_FACTORS,
        "car": CAR_FACTORS,
        "backpack": BACKPACK_FACTORS,
    }
)
ACTIONS = MappingProxyType(
    {
        "robot": ROBOT_ACTIONS,
        "teapot": TEAPOT_ACTIONS,
        "car": CAR_ACTIONS,
        "backpack": BACKPACK_ACTIONS,
    }
)


def draw(pen: Pen, identity: Identity, action: str) -> Drawn:
    """Draw a thing.

    Args:
        pen: figure coordinates, feet at the origin.
        identity: whose class is one of FACTORS.
        action: one of ACTIONS of that class.

    Returns:
        The skeleton and the places of accessories.
    """
    if action == "jumping":
        pen = pen.moved(0, 0.14)
        if identity.class_word != "robot":
            _draw_bounce(pen, {"car": 0.6, "teapot": 0.36, "backpack": 0.34}[identity.class_word])
    if identity.class_word == "robot":
        return draw_robot(pen, identity, action)
    if identity.class_word == "teapot":
        return draw_teapot(pen, identity, action)
    if identity.class_word == "car":
        return draw_car(pen, identity, action)
    return draw_backpack(pen, identity, action)


def _draw_bounce(pen: Pen, half: float) -> None:
    """Draw two small arcs on the ground below a thing in the air."""
    for side in (-1, 1):
        arc = [(side * half * 0.55, -0.11), (side * half * 0.95, -0.09), (side * half * 1.2, -0.02)]
        pen.curve(arc, 0.075, PALE_EDGE)
        pen.curve(arc, 0.042, PALE)
