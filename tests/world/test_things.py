"""The things draw themselves, each identity its own way."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from d2plan.world.figures import things
from d2plan.world.figures.parts import Drawn
from d2plan.world.identity import Identity
from d2plan.world.pen import Pen

EVERY = [(word, action) for word in things.FACTORS for action in things.ACTIONS[word]]


def make_identity(class_word: str, seed: int) -> Identity:
    rng = np.random.default_rng(seed)
    return Identity(class_word, {factor.name: factor.sample(rng) for factor in things.FACTORS[class_word]})


def paint(identity: Identity, action: str, facing: int = 1) -> tuple[np.ndarray, np.ndarray, Drawn]:
    picture, owners = Image.new("RGB", (384, 384), (120, 130, 140)), Image.new("L", (384, 384))
    matrix = np.array([[120.0 * facing, 0, 192], [0, -120.0, 260]])
    drawn = things.draw(Pen(ImageDraw.Draw(picture), ImageDraw.Draw(owners), 3, matrix), identity, action)
    return np.asarray(picture), np.asarray(owners), drawn


@pytest.mark.parametrize(("class_word", "action"), EVERY)
def test_each_action_draws_inside_the_figure_box_with_its_key_points_on_it(class_word: str, action: str) -> None:
    for seed in range(3):
        _, owners, drawn = paint(make_identity(class_word, seed), action)
        rows, columns = np.nonzero(owners == 3)
        assert set(np.unique(owners)) == {0, 3}
        assert 120 * 0.7 <= rows.max() - rows.min() <= 120 * 1.45
        assert rows.max() <= 260 + 120 * 0.03
        assert columns.max() - columns.min() <= 120 * 2.2
        for x, y in drawn.skeleton.values():
            assert columns.min() <= x <= columns.max()
            assert rows.min() <= y <= rows.max()


@pytest.mark.parametrize(("class_word", "action"), EVERY)
def test_facing_left_is_the_mirror_of_facing_right(class_word: str, action: str) -> None:
    identity = make_identity(class_word, 5)
    right, left = (paint(identity, action, facing)[1] / 3 for facing in (1, -1))
    # Means over blocks, because the two rasters may differ by a pixel along every edge.
    blocks = [mask.reshape(64, 6, 64, 6).mean(axis=(1, 3)) for mask in (right, np.roll(left[:, ::-1], 1, axis=1))]
    assert np.abs(blocks[0] - blocks[1]).max() <= 0.5


@pytest.mark.parametrize(("class_word", "action"), EVERY)
def test_every_factor_shows_in_every_action(class_word: str, action: str) -> None:
    values = dict(make_identity(class_word, 3).values) | {"pattern": "dots"}
    bare = paint(Identity(class_word, values), action)[0]
    for factor in things.FACTORS[class_word]:
        other = factor.change(values[factor.name], np.random.default_rng(90))
        changed = (bare != paint(Identity(class_word, values | {factor.name: other}), action)[0]).any(axis=2)
        assert changed.sum() >= 20, factor.name


@pytest.mark.parametrize("class_word", list(things.FACTORS))
def test_actions_of_one_class_have_different_outlines(class_word: str) -> None:
    identity = make_identity(class_word, 8)
    outlines = [paint(identity, action)[1] == 3 for action in things.ACTIONS[class_word]]
    for index, first in enumerate(outlines):
        for second in outlines[index + 1 :]:
            assert (first & second).sum() / (first | second).sum() < 0.93


def test_the_same_identity_draws_the_same_bytes() -> None:
    first, second = (paint(make_identity("car", 3), "driving")[0] for _ in range(2))
    assert (first == second).all()
