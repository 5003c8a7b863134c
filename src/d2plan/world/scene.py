"""A scene as data: a place, a light, and who stands where, wearing and doing what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from d2plan.world.cast import ACCESSORIES, ACTIONS, CLASSES, COLOURS, SPECIES, sample_identity
from d2plan.world.identity import Identity, Value
from d2plan.world.scenery import ALLOWED_LIGHTS, PLACES

Json = dict[str, object]
_COUNTS = (0.42, 0.43, 0.1, 0.05)
_HEIGHTS = ((0.76, 0.92), (0.7, 0.84), (0.56, 0.66), (0.44, 0.52))
_UPRIGHT = frozenset({"man", "woman", "boy", "girl", "robot"})
_SPREAD = {"sleeping": 1.1, "sitting": 0.85, "running": 0.8, "jumping": 0.7, "waving": 0.65}
_LIGHT_SHARES = {"day": 0.6, "sunset": 0.15, "night": 0.15, "rain": 0.1}


@dataclass(frozen=True)
class Figure:
    """One instance in a scene.

    Attributes:
        identity: who it is.
        action: one of its class's actions.
        accessory: what it wears, or None.
        accessory_colour: the name of that colour, or None.
        x: middle of the figure, 0..1 of the picture's width.
        ground: where the feet are, 0..1 of the picture's height from the top.
        height: of the figure, as a share of the picture's height.
        facing: 1 looks right, -1 left.
    """

    identity: Identity
    action: str
    accessory: str | None
    accessory_colour: str | None
    x: float
    ground: float
    height: float
    facing: int

    @property
    def class_word(self) -> str:
        """Its class."""
        return self.identity.class_word


@dataclass(frozen=True)
class WorldScene:
    """A whole scene; figures are drawn in the order of their ground, the nearest last.

    Attributes:
        place: one of PLACES.
        light: one of the place's lights.
        figures: 0 to 4 instances.
        seed: decides the details of the backdrop.
    """

    place: str
    light: str
    figures: tuple[Figure, ...]
    seed: int


def sample_figure(identity: Identity, rng: np.random.Generator, count: int) -> Figure:
    """Draw what a character does and wears and how tall it stands among ``count`` figures; it has no place yet."""
    actions = ACTIONS[identity.class_word]
    action = actions[0] if rng.random() < 0.3 else actions[int(rng.integers(len(actions)))]
    accessory = ACCESSORIES[int(rng.integers(len(ACCESSORIES)))] if rng.random() < 0.5 else None
    colours = list(COLOURS)
    low, high = _HEIGHTS[count - 1]
    return Figure(
        identity=identity,
        action=action,
        accessory=accessory,
        accessory_colour=colours[int(rng.integers(len(colours)))] if accessory else None,
        x=0.5,
        ground=float(rng.uniform(0.87, 0.95)),
        height=float(rng.uniform(low, high)) * SPECIES[identity.class_word].size,
        facing=1 if rng.random() < 0.5 else -1,
    )


def figure_width(figure: Figure) -> float:
    """Estimate how wide a figure is, as a share of the picture's width."""
    breadth = SPECIES[figure.class_word].breadth
    return figure.height * max(breadth, _SPREAD.get(figure.action, 0) if figure.class_word in _UPRIGHT else 0)


def arrange(figures: Sequence[Figure], rng: np.random.Generator) -> tuple[Figure, ...]:
    """Put figures side by side in a random order: they fit into the picture and hide little of each other."""
    total = sum(figure_width(figure) for figure in figures)
    shrink = min(1.0, max(0.7, 1.02 / total)) if figures else 1.0
    widths = [figure_width(figure) * shrink for figure in figures]
    slack = 1.0 - sum(widths)
    gaps = rng.dirichlet(np.full(len(figures) + 1, 2.0)) * slack
    placed = list(figures)
    left = float(gaps[0])
    for turn, number in enumerate(rng.permutation(len(figures))):
        width = widths[int(number)]
        placed[int(number)] = replace(
            figures[number], x=float(left + width / 2), height=figures[number].height * shrink
        )
        left += width + float(gaps[turn + 1])
    return tuple(placed)


def sample_scene(rng: np.random.Generator, identities: Sequence[Identity] | None = None) -> WorldScene:
    """Draw a scene.

    Args:
        rng: source of randomness; the same state gives the same scene.
        identities: who takes part; without it 1 to 4 new characters, now and then several of one class.

    Returns:
        The scene.
    """
    if identities is None:
        count = int(rng.choice(4, p=_COUNTS)) + 1
        words = [CLASSES[int(rng.integers(len(CLASSES)))] for _ in range(count)]
        if count > 1 and rng.random() < 0.2:
            words[1] = words[0]
        identities = [sample_identity(word, rng) for word in words]
    figures = arrange([sample_figure(identity, rng, len(identities)) for identity in identities], rng)
    places = list(PLACES)
    place = places[int(rng.integers(len(places)))]
    light = sample_light(place, rng)
    return WorldScene(place, light, figures, int(rng.integers(2**31)))


def sample_light(place: str, rng: np.random.Generator) -> str:
    """Draw one of a place's lights, day the most often."""
    lights = ALLOWED_LIGHTS[place]
    shares = np.array([_LIGHT_SHARES[light] for light in lights])
    return lights[int(rng.choice(len(lights), p=shares / shares.sum()))]


def mirror_scene(scene: WorldScene) -> WorldScene:
    """Give the scene with left and right of its figures exchanged (the backdrop stays)."""
    return replace(scene, figures=tuple(replace(f, x=1 - f.x, facing=-f.facing) for f in scene.figures))


def scene_to_json(scene: WorldScene) -> Json:
    """Turn a scene into plain JSON values."""
    figures = [
        {**vars(figure), "identity": {"class_word": figure.class_word, "values": dict(figure.identity.values)}}
        for figure in scene.figures
    ]
    return {"place": scene.place, "light": scene.light, "seed": scene.seed, "figures": figures}


def scene_from_json(data: Json) -> WorldScene:
    """Read what ``scene_to_json`` wrote; equal to the scene that was written."""
    figures = []
    for entry in cast(list[Json], data["figures"]):
        identity = cast(Json, entry["identity"])
        values = cast(dict[str, Value], identity["values"])
        plain = {
            name: cast(Value, tuple(value)) if isinstance(value, list) else value for name, value in values.items()
        }
        rest = {name: value for name, value in entry.items() if name != "identity"}
        figures.append(Figure(Identity(str(identity["class_word"]), plain), **rest))  # type: ignore[arg-type]
    return WorldScene(str(data["place"]), str(data["light"]), tuple(figures), int(cast(int, data["seed"])))
