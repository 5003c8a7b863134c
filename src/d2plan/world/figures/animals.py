"""Dogs, cats and birds: side views with the head turned a little towards the viewer."""

from __future__ import annotations

from d2plan.errors import InputError
from d2plan.world.figures.birds import draw_bird
from d2plan.world.figures.parts import Drawn
from d2plan.world.figures.quadrupeds import draw_quadruped
from d2plan.world.identity import Factor, Identity
from d2plan.world.pen import Pen

_QUADRUPED = (
    Factor("coat_colour", "colour", weight=1.5),
    Factor("second_colour", "colour", weight=1.0),
    Factor("pattern", "choice", ("plain", "spots", "stripes", "patch", "saddle"), weight=1.0),
    Factor("pattern_colour", "colour", weight=1.0),
    Factor("leg_length", "range", weight=0.7),
    Factor("body_length", "range", weight=0.7),
    Factor("fluff", "range", weight=0.5),
    Factor("eye_colour", "colour", weight=0.5),
)

FACTORS: dict[str, tuple[Factor, ...]] = {
    "dog": (
        *_QUADRUPED,
        Factor("ears", "choice", ("floppy", "long", "upright", "folded"), weight=1.0),
        Factor("tail", "choice", ("flag", "ring", "bushy", "short"), weight=0.7),
    ),
    "cat": (
        *_QUADRUPED,
        Factor("ears", "choice", ("tall", "wide", "tufted", "tilted"), weight=0.7),
        Factor("tail", "choice", ("hook", "wave", "tipped", "ringed"), weight=0.7),
    ),
    "bird": (
        Factor("body_colour", "colour", weight=1.5),
        Factor("wing_colour", "colour", weight=1.2),
        Factor("belly_colour", "colour", weight=1.0),
        Factor("beak_colour", "colour", weight=0.7),
        Factor("beak", "choice", ("cone", "long", "hooked", "flat"), weight=0.7),
        Factor("crest", "choice", ("none", "tuft", "spikes", "curl"), weight=0.7),
        Factor("tail", "choice", ("fan", "long", "forked", "short"), weight=0.7),
        Factor("pattern", "choice", ("plain", "spots", "stripes", "bars", "cheek"), weight=0.8),
        Factor("pattern_colour", "colour", weight=0.8),
        Factor("roundness", "range", weight=0.7),
    ),
}

ACTIONS: dict[str, tuple[str, ...]] = {
    "dog": ("standing", "running", "sitting", "jumping", "sleeping"),
    "cat": ("standing", "running", "sitting", "jumping", "sleeping"),
    "bird": ("standing", "flying", "singing", "sleeping"),
}


def draw(pen: Pen, identity: Identity, action: str) -> Drawn:
    """Draw an animal.

    Args:
        pen: the figure's pen.
        identity: a dog, a cat or a bird.
        action: one of ``ACTIONS[identity.class_word]``.

    Returns:
        Skeleton and anchors.

    Raises:
        InputError: the class has no such action.
    """
    if action not in ACTIONS[identity.class_word]:
        known = ", ".join(ACTIONS[identity.class_word])
        raise InputError(f"a {identity.class_word} cannot be drawn {action}; choose one of: {known}")
    return draw_bird(pen, identity, action) if identity.class_word == "bird" else draw_quadruped(pen, identity, action)
