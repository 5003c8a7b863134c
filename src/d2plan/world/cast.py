"""Who and what lives in the world: classes, their actions and sizes, accessories, and their identities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np

from d2plan.errors import InputError
from d2plan.world.figures import animals, people, things
from d2plan.world.figures.accessories import ACCESSORIES as ACCESSORIES
from d2plan.world.figures.accessories import COLOURS as COLOURS
from d2plan.world.figures.parts import Drawn
from d2plan.world.identity import Factor, Identity, matching_colours
from d2plan.world.pen import Pen
from d2plan.world.seeds import stream_rng


@dataclass(frozen=True)
class Species:
    """A class of the world.

    Attributes:
        factors: what makes an identity.
        actions: the first is the resting pose that a caption may leave out.
        draw: draws one of them.
        size: its height against an adult's.
        breadth: about how wide it is against its height.
    """

    factors: tuple[Factor, ...]
    actions: tuple[str, ...]
    draw: Callable[[Pen, Identity, str], Drawn]
    size: float
    breadth: float


# Height against an adult's, and breadth against the own height when standing.
_SIZES = {
    "man": (1.0, 0.5),
    "woman": (0.97, 0.5),
    "boy": (0.82, 0.55),
    "girl": (0.82, 0.55),
    "dog": (0.76, 1.2),
    "cat": (0.72, 1.1),
    "bird": (0.66, 1.0),
    "robot": (0.9, 0.65),
    "teapot": (0.62, 1.25),
    "car": (0.6, 1.4),
    "backpack": (0.7, 0.9),
}
SPECIES: dict[str, Species] = {
    name: Species(room.FACTORS[name], room.ACTIONS[name], room.draw, *_SIZES[name])
    for room in (people, animals, things)
    for name in room.FACTORS
}
CLASSES: tuple[str, ...] = tuple(SPECIES)
ACTIONS: dict[str, tuple[str, ...]] = {name: species.actions for name, species in SPECIES.items()}


def species_of(class_word: str) -> Species:
    """Give a class by its word.

    Args:
        class_word: one of CLASSES.

    Returns:
        Its factors, actions and measures.

    Raises:
        InputError: the world has no such class; the nearest one is named.
    """
    if class_word not in SPECIES:
        near = get_close_matches(class_word, CLASSES, 1)
        hint = f"did you mean '{near[0]}'?" if near else f"choose one of {', '.join(CLASSES)}"
        raise InputError(f"class: the world has no '{class_word}'; {hint}")
    return SPECIES[class_word]


def sample_identity(class_word: str, rng: np.random.Generator) -> Identity:
    """Draw a new character of a class."""
    factors = species_of(class_word).factors
    values = {factor.name: factor.sample(rng) for factor in factors}
    coloured = sorted((factor for factor in factors if factor.kind == "colour"), key=lambda factor: -factor.weight)
    chosen = matching_colours(len(coloured), rng)
    return Identity(class_word, values | {factor.name: colour for factor, colour in zip(coloured, chosen, strict=True)})


def identity_from_seed(class_word: str, seed: int) -> Identity:
    """Give the character that a seed means; seeds below 50,000 are for development, 50,000-99,999 for tests."""
    species_of(class_word)
    return sample_identity(class_word, stream_rng("concept", CLASSES.index(class_word), seed))


def near_identity(identity: Identity, rng: np.random.Generator, changes: int = 1) -> Identity:
    """Draw a look-alike: the same character but for one or two factors.

    Args:
        identity: the character to resemble.
        rng: source of randomness.
        changes: how many of the clearly visible factors (weight at least 1) differ.

    Returns:
        Another identity of the class.
    """
    values = dict(identity.values)
    # Where there is no pattern, its colour is not seen.
    hidden = "pattern_colour" if values.get("pattern") == "plain" else ""
    factors = [f for f in species_of(identity.class_word).factors if f.weight >= 1 and f.name != hidden]
    for place in rng.choice(len(factors), size=min(changes, len(factors)), replace=False):
        factor = factors[int(place)]
        values[factor.name] = factor.change(values[factor.name], rng)
    return Identity(identity.class_word, values)


def identity_distance(first: Identity, second: Identity) -> float:
    """Tell how different two characters are: the weighted mean of their factors' distances, 0..1; 1 across classes."""
    if first.class_word != second.class_word:
        return 1.0
    factors = species_of(first.class_word).factors
    total = sum(factor.weight for factor in factors)
    return sum(f.weight * f.distance(first.values[f.name], second.values[f.name]) for f in factors) / total
