"""Accessories are big, in their own colour, and where they belong."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from d2plan.errors import InputError
from d2plan.world.figures import accessories, animals, people, things
from d2plan.world.figures.parts import Drawn
from d2plan.world.identity import Identity
from d2plan.world.pen import Pen

MODULES = {word: module for module in (people, animals, things) for word in module.FACTORS}


def dress(class_word: str, accessory: str | None, colour: str = "red", seed: int = 1) -> tuple[np.ndarray, Drawn]:
    rng = np.random.default_rng(seed)
    module = MODULES[class_word]
    identity = Identity(class_word, {factor.name: factor.sample(rng) for factor in module.FACTORS[class_word]})
    picture, owners = Image.new("RGB", (384, 384), (120, 130, 140)), Image.new("L", (384, 384))
    pen = Pen(ImageDraw.Draw(picture), ImageDraw.Draw(owners), 1, np.array([[200.0, 0, 192], [0, -200.0, 320]]))
    drawn = module.draw(pen, identity, module.ACTIONS[class_word][0])
    if accessory:
        accessories.draw(drawn, accessory, accessories.COLOURS[colour])
    return np.asarray(picture), drawn


@pytest.mark.parametrize("class_word", list(MODULES))
@pytest.mark.parametrize("accessory", accessories.ACCESSORIES)
def test_each_accessory_is_large_in_its_colour_on_every_class(class_word: str, accessory: str) -> None:
    bare, worn = dress(class_word, None)[0], dress(class_word, accessory, "purple")[0]
    changed = (bare != worn).any(axis=2)
    coloured = (worn == accessories.COLOURS["purple"]).all(axis=2)
    # 9 pixels of this picture make one of the 128-pixel picture.
    assert changed.sum() / 9 >= 60
    assert (changed & coloured).sum() / 9 >= 20


@pytest.mark.parametrize("class_word", list(MODULES))
def test_hats_sit_above_the_eyes_and_scarves_below(class_word: str) -> None:
    bare, drawn = dress(class_word, None)
    eye_row = drawn.head.place(*drawn.eyes)[1]
    middles = {}
    for accessory in accessories.ACCESSORIES:
        rows = np.nonzero((bare != dress(class_word, accessory)[0]).any(axis=2))[0]
        middles[accessory] = rows.mean()
    assert middles["hat"] < eye_row < middles["scarf"]
    assert middles["crown"] < eye_row < middles["bow"]
    assert abs(middles["sunglasses"] - eye_row) < 12


def test_the_colours_are_far_apart() -> None:
    for first, second in combinations(accessories.COLOURS.values(), 2):
        assert np.hypot.reduce(np.subtract(first, second)) >= 90


@pytest.mark.parametrize("name", list(accessories.COLOURS))
def test_outlines_set_a_colour_off(name: str) -> None:
    colour = accessories.COLOURS[name]
    gap = np.mean(colour) - np.mean(accessories.outline_tone(colour))
    assert gap < -80 if name == "black" else gap > 40


def test_an_unknown_accessory_is_named_in_the_error() -> None:
    drawn = dress("robot", None)[1]
    with pytest.raises(InputError, match="monocle.*sunglasses"):
        accessories.draw(drawn, "monocle", (1, 2, 3))
