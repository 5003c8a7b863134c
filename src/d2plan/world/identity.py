"""What makes one character itself: the factors that a caption never says."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import cast

import numpy as np

from d2plan.errors import InputError
from d2plan.world.pen import RGB, shade

Value = str | float | RGB


@dataclass(frozen=True)
class Factor:
    """One way in which two characters of a class can differ.

    Attributes:
        name: the factor's name, such as ``hair_colour``.
        kind: ``choice`` (one of options), ``range`` (a number 0..1), ``colour`` (any vivid colour) or ``skin`` (a
            skin tone).
        options: the choices of a ``choice``.
        weight: its share in the distance between two identities.
    """

    name: str
    kind: str
    options: tuple[str, ...] = ()
    weight: float = 1.0

    def sample(self, rng: np.random.Generator) -> Value:
        """Draw a value."""
        if self.kind == "choice":
            return self.options[int(rng.integers(len(self.options)))]
        if self.kind == "range":
            return float(rng.random())
        if self.kind == "skin":
            return skin_tone(float(rng.random()))
        return vivid_colour(rng)

    def distance(self, first: Value, second: Value) -> float:
        """Tell how far two values are apart, 0..1."""
        if self.kind == "choice":
            return float(first != second)
        if self.kind == "range":
            return abs(float(first) - float(second))  # type: ignore[arg-type]
        gap = np.subtract(np.asarray(first, dtype=float), np.asarray(second, dtype=float))
        return float(min(1.0, np.sqrt((gap**2).mean()) / 128))

    def change(self, value: Value, rng: np.random.Generator) -> Value:
        """Draw a value that is clearly another one (distance at least 0.3)."""
        for _ in range(64):
            other = self.sample(rng)
            if self.distance(value, other) >= 0.3:
                return other
        raise InputError(f"factor {self.name}: no clearly different value exists; give it more options")


@dataclass(frozen=True)
class Identity:
    """One character: a class and a value for each of its factors.

    Attributes:
        class_word: one of the world's classes.
        values: factor name to value.
    """

    class_word: str
    values: Mapping[str, Value]

    def __post_init__(self) -> None:
        """Freeze the values."""
        object.__setattr__(self, "values", MappingProxyType(dict(self.values)))

    def colour(self, name: str) -> RGB:
        """Give a colour factor's value."""
        red, green, blue = cast(RGB, self.values[name])
        return int(red), int(green), int(blue)

    def number(self, name: str) -> float:
        """Give a range factor's value, 0..1."""
        return float(self.values[name])  # type: ignore[arg-type]

    def choice(self, name: str) -> str:
        """Give a choice factor's value."""
        return str(self.values[name])


def skin_tone(share: float) -> RGB:
    """Give a skin tone from light (0) to dark (1)."""
    stops = np.array([(255, 224, 196), (238, 190, 150), (200, 145, 100), (150, 98, 62), (92, 58, 40)], dtype=float)
    place = share * (len(stops) - 1)
    low = min(int(place), len(stops) - 2)
    red, green, blue = (stops[low] + (stops[low + 1] - stops[low]) * (place - low)).round().astype(int).tolist()
    return red, green, blue


def vivid_colour(rng: np.random.Generator, hue: float | None = None) -> RGB:
    """Draw a colour, of any hue or the one given: mostly saturated, sometimes pale, dark or nearly grey."""
    hue = rng.random() if hue is None else hue
    saturation, value = rng.choice([0.15, 0.55, 0.8], p=[0.15, 0.4, 0.45]), rng.uniform(0.35, 0.98)
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, min(1.0, saturation + rng.uniform(-0.12, 0.15)), value)
    return round(red * 255), round(green * 255), round(blue * 255)


def matching_colours(count: int, rng: np.random.Generator) -> list[RGB]:
    """Draw colours that go together, as a designer of characters would choose them.

    The first is any; the second stands beside it, at a third or across the circle of hues; each other one is a shade
    of one of these two, or nearly white or black.
    """
    hue = rng.random()
    pair = [vivid_colour(rng, hue), vivid_colour(rng, hue + float(rng.choice([0.1, -0.1, 0.33, -0.33, 0.5])))]
    ends: list[RGB] = [(238, 234, 226), (52, 50, 58)]
    colours = list(pair)
    while len(colours) < count:
        turn = int(rng.integers(6))
        colours.append(ends[turn] if turn < 2 else shade(pair[turn % 2], (0.62, 1.45)[turn // 2 - 1]))
    return colours[:count]
