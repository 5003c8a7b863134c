"""Captions: what a scene shows in plain words, and which words name which instance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from d2plan.world.cast import ACTIONS
from d2plan.world.scene import Figure, WorldScene
from d2plan.world.scenery import LIGHTS, PLACES

Span = tuple[int, int]
_OPENINGS = ("a photo of ", "a picture of ", "")
_OPENING_SHARES = (0.7, 0.15, 0.15)
_MOST_WORDS = 38


@dataclass(frozen=True)
class Caption:
    """A caption and its spans.

    Attributes:
        text: the caption.
        phrases: per figure of the scene, the characters (start, end) of all that is said of it; (0, 0) if nothing is.
        class_words: per figure, the characters of its class word.
        said: per figure, which of ``action``, ``accessory``, ``accessory_colour`` the text says.
        place_said: whether the place is named.
    """

    text: str
    phrases: tuple[Span, ...]
    class_words: tuple[Span, ...]
    said: tuple[frozenset[str], ...]
    place_said: bool


def article(word: str) -> str:
    """Put "a" or "an" before a word."""
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def accessory_phrase(accessory: str, colour: str | None) -> str:
    """Name an accessory, such as "a red scarf" or "black sunglasses"."""
    words = f"{colour} {accessory}" if colour else accessory
    return words if accessory.endswith("s") else article(words)


def _side(figure: Figure, scene: WorldScene) -> str:
    order = sorted(scene.figures, key=lambda other: other.x)
    if order[0] is figure:
        return "on the left"
    return "on the right" if order[-1] is figure else "in the middle"


def _phrase(figure: Figure, side: str, rng: np.random.Generator, fullness: float) -> tuple[str, str, frozenset[str]]:
    """Write what is said of one figure: the words before its class word, those after it, and what they say."""
    said: set[str] = set()
    before, after = "", []
    if figure.action != ACTIONS[figure.class_word][0] and rng.random() < 0.93 * fullness:
        said.add("action")
        if rng.random() < 0.1:
            before = figure.action
        else:
            after.append(figure.action)
    elif figure.action == ACTIONS[figure.class_word][0] and rng.random() < 0.1:
        said.add("action")
        after.append(figure.action)
    if figure.accessory and rng.random() < 0.93 * fullness:
        said.add("accessory")
        colour = figure.accessory_colour if rng.random() < 0.85 else None
        if colour:
            said.add("accessory_colour")
        verb = "with" if rng.random() < 0.15 else "wearing"
        after.append(f"{verb} {accessory_phrase(figure.accessory, colour)}")
    if len(after) == 2 and rng.random() < 0.5:
        after.reverse()
        if after[1] == figure.action and rng.random() < 0.3:
            after.insert(1, "and")
    if side:
        after.insert(0, side)
    head = f"{article(before)} " if before else f"{article(figure.class_word).split()[0]} "
    return head, " ".join(["", *after]), frozenset(said)


def write_caption(scene: WorldScene, rng: np.random.Generator, fullness: float = 1.0) -> Caption:
    """Describe a scene; form and what is left out vary.

    Args:
        scene: what to describe.
        rng: source of randomness.
        fullness: 0..1, how much of what figures do and wear is said.

    Returns:
        The caption with its spans; identities are never described.
    """
    place_said = bool(rng.random() < 0.95)
    places, lights = PLACES[scene.place], LIGHTS[scene.light]
    place = places[0 if rng.random() < 0.6 else int(rng.integers(len(places)))] if place_said else ""
    light = lights[int(rng.integers(len(lights)))] if rng.random() < 0.9 else ""
    setting = " ".join(part for part in (place, light) if part)
    opening = _OPENINGS[int(rng.choice(len(_OPENINGS), p=_OPENING_SHARES))]
    setting_first = bool(setting) and rng.random() < 0.08
    text = f"{setting}, {opening}" if setting_first else opening
    sided = len(scene.figures) > 1 and rng.random() < 0.25
    phrases, words, said = {}, {}, {}
    order = [int(place) for place in rng.permutation(len(scene.figures))]
    for place_in_row, number in enumerate(order):
        figure = scene.figures[number]
        if place_in_row:
            text += " and " if place_in_row == len(order) - 1 else ", "
        before, after, said[number] = _phrase(figure, _side(figure, scene) if sided else "", rng, fullness)
        start = len(text)
        words[number] = (start + len(before), start + len(before) + len(figure.class_word))
        text += before + figure.class_word + after
        phrases[number] = (start, len(text))
    if setting and not setting_first:
        text += f" {setting}" if scene.figures else setting
    if len(text.replace(",", " ,").split()) > _MOST_WORDS:
        return write_caption(scene, rng, fullness * 0.7)
    numbers = range(len(scene.figures))
    return Caption(
        text,
        tuple(phrases[n] for n in numbers),
        tuple(words[n] for n in numbers),
        tuple(said[n] for n in numbers),
        place_said,
    )
