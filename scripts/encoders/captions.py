"""What a caption of the world claims, as a row of yes or no; captions that are false of a scene; batches of both."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from d2plan.eval.networks import HEADS, NONE, WHOLE_HEADS
from d2plan.world.caption import Caption, write_caption
from d2plan.world.cast import ACCESSORIES, ACTIONS, CLASSES, COLOURS
from d2plan.world.identity import Identity
from d2plan.world.scene import Figure, WorldScene

PLACES = WHOLE_HEADS["place"]
KINDS = ("accessory", "accessory_colour", "action")
# A row: place, light, classes that are there, and for each class what it wears, in which colour, and what it does.
_SIZES = {"accessory": len(HEADS["accessory"]), "accessory_colour": len(COLOURS), "action": len(HEADS["action"])}
_PER_CLASS = sum(_SIZES.values())
_LIGHT = len(PLACES)
_CLASS = _LIGHT + len(WHOLE_HEADS["light"])
_BOUND = _CLASS + len(CLASSES)
CLAIMS = _BOUND + len(CLASSES) * _PER_CLASS
_BEGIN = dict(zip(KINDS, (0, _SIZES["accessory"], _SIZES["accessory"] + _SIZES["accessory_colour"]), strict=True))
_TRIES = 6


@dataclass(frozen=True, eq=False)
class Claims:
    """What is said.

    Attributes:
        yes: ``[CLAIMS]`` bool, what the text claims.
        open: ``[CLAIMS]`` bool, what it leaves open; all else it excludes.
    """

    yes: np.ndarray
    open: np.ndarray


def _value(figure: Figure, kind: str) -> int | None:
    """Give the number of what a figure wears or does, None for the colour of nothing."""
    if kind == "accessory":
        return HEADS["accessory"].index(figure.accessory or NONE)
    if kind == "accessory_colour":
        return HEADS["accessory_colour"].index(figure.accessory_colour) if figure.accessory_colour else None
    return HEADS["action"].index(figure.action)


def _place_of(class_word: str, kind: str) -> int:
    return _BOUND + CLASSES.index(class_word) * _PER_CLASS + _BEGIN[kind]


def scene_truth(scene: WorldScene) -> np.ndarray:
    """Say what is true of a scene, ``[CLAIMS]`` bool."""
    row = np.zeros(CLAIMS, bool)
    row[PLACES.index(scene.place)] = True
    row[_LIGHT + WHOLE_HEADS["light"].index(scene.light)] = True
    for figure in scene.figures:
        row[_CLASS + CLASSES.index(figure.class_word)] = True
        for kind in KINDS:
            value = _value(figure, kind)
            if value is not None:
                row[_place_of(figure.class_word, kind) + value] = True
    return row


def caption_claims(scene: WorldScene, caption: Caption) -> Claims:
    """Say what the caption of a scene claims; the light is left open."""
    yes, unsaid = np.zeros(CLAIMS, bool), np.zeros(CLAIMS, bool)
    unsaid[_LIGHT:_CLASS] = True
    if caption.place_said:
        yes[PLACES.index(scene.place)] = True
    else:
        unsaid[:_LIGHT] = True
    for figure, said in zip(scene.figures, caption.said, strict=True):
        yes[_CLASS + CLASSES.index(figure.class_word)] = True
        for kind in KINDS:
            begin, value = _place_of(figure.class_word, kind), _value(figure, kind)
            if kind in said and value is not None:
                yes[begin + value] = True
            else:
                unsaid[begin : begin + _SIZES[kind]] = True
    return Claims(yes, unsaid & ~yes)


def swap_attributes(scene: WorldScene, rng: np.random.Generator) -> WorldScene | None:
    """Exchange what two figures of different classes wear, its colours, or what they do; None where nothing changes."""
    pairs = [
        (a, b)
        for a in range(len(scene.figures))
        for b in range(a)
        if scene.figures[a].class_word != scene.figures[b].class_word
    ]
    for _ in range(_TRIES if pairs else 0):
        a, b = pairs[int(rng.integers(len(pairs)))]
        one, two = scene.figures[a], scene.figures[b]
        kind = ("worn", "colour", "action")[int(rng.integers(3))]
        if kind == "worn" and (one.accessory, one.accessory_colour) != (two.accessory, two.accessory_colour):
            swapped = (
                replace(one, accessory=two.accessory, accessory_colour=two.accessory_colour),
                replace(two, accessory=one.accessory, accessory_colour=one.accessory_colour),
            )
        elif kind == "colour" and one.accessory and two.accessory and one.accessory_colour != two.accessory_colour:
            swapped = (
                replace(one, accessory_colour=two.accessory_colour),
                replace(two, accessory_colour=one.accessory_colour),
            )
        elif kind == "action" and one.action != two.action and _can(one, two.action) and _can(two, one.action):
            swapped = replace(one, action=two.action), replace(two, action=one.action)
        else:
            continue
        figures = list(scene.figures)
        figures[a], figures[b] = swapped
        return replace(scene, figures=tuple(figures))
    return None


def _can(figure: Figure, action: str) -> bool:
    return action in HEADS["action"] and action in _ACTIONS_OF[figure.class_word]


def change_attribute(scene: WorldScene, rng: np.random.Generator) -> WorldScene:
    """Give one figure another class, accessory, colour or action, or the scene another place."""
    number = int(rng.integers(len(scene.figures)))
    figure = scene.figures[number]
    kinds = ["action", "action", "accessory", "place", "class"] + (["colour"] * 3 if figure.accessory else [])
    kind = kinds[int(rng.integers(len(kinds)))]
    if kind == "place":
        return replace(scene, place=_other(PLACES, scene.place, rng))
    if kind == "action":
        changed = replace(figure, action=_other(_ACTIONS_OF[figure.class_word], figure.action, rng))
    elif kind == "colour":
        changed = replace(figure, accessory_colour=_other(tuple(COLOURS), figure.accessory_colour, rng))
    elif kind == "accessory":
        colour = figure.accessory_colour or tuple(COLOURS)[int(rng.integers(len(COLOURS)))]
        accessory = _other(ACCESSORIES, figure.accessory, rng)
        changed = replace(figure, accessory=accessory, accessory_colour=colour)
    else:
        word = _other(CLASSES, figure.class_word, rng)
        action = figure.action if figure.action in _ACTIONS_OF[word] else _ACTIONS_OF[word][0]
        changed = replace(figure, identity=Identity(word, {}), action=action)
    return replace(scene, figures=(*scene.figures[:number], changed, *scene.figures[number + 1 :]))


def _other(options: Sequence[str], value: str | None, rng: np.random.Generator) -> str:
    left = [option for option in options if option != value]
    return left[int(rng.integers(len(left)))]


def read_scene(data: dict) -> WorldScene:
    """Read what captions need of a stored scene; identities stay away."""
    figures = [
        Figure(Identity(entry["identity"]["class_word"], {}), **{k: v for k, v in entry.items() if k != "identity"})
        for entry in data["figures"]
    ]
    return WorldScene(data["place"], data["light"], tuple(figures), int(data["seed"]))


def read_scenes(path: Path) -> list[WorldScene]:
    """Read the scenes of a shard of renders."""
    return [read_scene(json.loads(line)["scene"]) for line in path.read_text().splitlines()]


def write_beside(scene: WorldScene, seed: int, rng: np.random.Generator) -> list[tuple[str, Claims, bool]]:
    """Write a true caption and two that should be false, in the same form.

    Args:
        scene: what is seen.
        seed: of the caption's form.
        rng: chooses what is changed.

    Returns:
        Text, what it claims, and whether it is false of the scene, for the true one first.
    """
    truth = scene_truth(scene)
    scenes = [scene, swap_attributes(scene, rng) or change_attribute(scene, rng), change_attribute(scene, rng)]
    written = []
    for one in scenes:
        caption = write_caption(one, np.random.default_rng(seed))
        claims = caption_claims(one, caption)
        written.append((caption.text, claims, bool((claims.yes & ~truth).any())))
    return written


_ACTIONS_OF = {
    word: tuple(action for action in actions if action in HEADS["action"]) for word, actions in ACTIONS.items()
}
