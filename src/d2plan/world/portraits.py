"""Portraits: one character alone, whole and large, in many surroundings; what a concept is learnt from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from d2plan.world.cast import ACCESSORIES, ACTIONS, COLOURS, SPECIES
from d2plan.world.identity import Identity
from d2plan.world.scene import Figure, WorldScene, sample_light
from d2plan.world.scenery import PLACES
from d2plan.world.truth import draw_figure

_MARGIN = 0.03
# Against an adult's height. The base's own scenes go up to 0.84; small classes would fill too little of a picture.
_TALLEST = 1.0
_SHEET = 384


def sample_portraits(identity: Identity, rng: np.random.Generator, count: int) -> tuple[WorldScene, ...]:
    """Put one character into different surroundings.

    Args:
        identity: the character.
        rng: source of randomness; the same state gives the same scenes.
        count: of scenes.

    Returns:
        Scenes with the character alone. They go through all actions, places and accessories as evenly as the count
        allows; half of them have an accessory.
    """
    actions, places = _deal(ACTIONS[identity.class_word], count, rng), _deal(tuple(PLACES), count, rng)
    accessories, colours = _deal(ACCESSORIES, count, rng), _deal(tuple(COLOURS), count, rng)
    dressed = rng.permutation(np.arange(count) % 2 == 1).tolist()
    scenes = []
    for number in range(count):
        figure = Figure(
            identity=identity,
            action=actions[number],
            accessory=accessories[number] if dressed[number] else None,
            accessory_colour=colours[number] if dressed[number] else None,
            x=0.5,
            ground=float(rng.uniform(0.87, 0.95)),
            height=0.5,
            facing=1 if rng.random() < 0.5 else -1,
        )
        figure = fill_picture(figure, rng)
        scenes.append(
            WorldScene(places[number], sample_light(places[number], rng), (figure,), int(rng.integers(2**31)))
        )
    return tuple(scenes)


def fill_picture(figure: Figure, rng: np.random.Generator) -> Figure:
    """Make a figure as large as fits, or a little smaller, and place it so that all of it is seen.

    Args:
        figure: who does what, and where the ground is.
        rng: source of randomness.

    Returns:
        The figure with its height and x.
    """
    left, right, up, down = measure_reach(figure)
    fits = min(
        (1 - 2 * _MARGIN) / (left + right),
        (figure.ground - _MARGIN) / up,
        (1 - figure.ground) / max(down, 1e-6),
        _TALLEST * SPECIES[figure.class_word].size,
    )
    height = fits * float(rng.uniform(0.85, 1.0))
    low, high = _MARGIN + left * height, 1 - _MARGIN - right * height
    return replace(figure, height=height, x=float(rng.uniform(low, max(low, high))))


def measure_reach(figure: Figure) -> tuple[float, float, float, float]:
    """Tell how far a figure, with what it wears, reaches from the point between its feet.

    Args:
        figure: who does what; its size and place do not matter.

    Returns:
        Reach to the left, right, top and bottom in units of its height; negative where it ends before that point.
    """
    height = 0.25
    owners = Image.new("L", (_SHEET, _SHEET), 0)
    sample = replace(figure, x=0.5, ground=0.75, height=height)
    draw_figure(Image.new("RGB", owners.size), owners, sample, 1)
    x0, y0, x1, y1 = owners.getbbox() or (0, 0, _SHEET, _SHEET)
    unit = height * _SHEET
    return (
        (0.5 * _SHEET - x0) / unit,
        (x1 - 0.5 * _SHEET) / unit,
        (0.75 * _SHEET - y0) / unit,
        (y1 - 0.75 * _SHEET) / unit,
    )


def _deal(options: Sequence[str], count: int, rng: np.random.Generator) -> list[str]:
    """Give each option about equally often, in a random order."""
    dealt: list[str] = []
    while len(dealt) < count:
        dealt += [options[int(place)] for place in rng.permutation(len(options))]
    return dealt[:count]
