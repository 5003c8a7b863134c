"""The people of the world: drawn in every action, recognisably themselves."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from d2plan.world.figures import people
from d2plan.world.figures.parts import Drawn
from d2plan.world.identity import Identity
from d2plan.world.pen import Pen

CASES = [(word, action) for word, actions in people.ACTIONS.items() for action in actions]
NAMES = {"head", "neck"} | {
    f"{part}_{side}" for part in ("shoulder", "elbow", "hand", "hip", "knee", "foot") for side in "lr"
}


def _sample(word: str, seed: int) -> Identity:
    rng = np.random.default_rng(seed)
    return Identity(word, {factor.name: factor.sample(rng) for factor in people.FACTORS[word]})


def _paint(identity: Identity, action: str, facing: int = 1) -> tuple[np.ndarray, np.ndarray, Drawn]:
    picture, owners = Image.new("RGB", (384, 384), (190, 214, 200)), Image.new("L", (384, 384), 0)
    matrix = np.array([[240.0 * facing, 0, 191.5], [0, -240.0, 340.0]])
    drawn = people.draw(Pen(ImageDraw.Draw(picture), ImageDraw.Draw(owners), 3, matrix), identity, action)
    return np.asarray(picture), np.asarray(owners), drawn


def _differing(first: np.ndarray, second: np.ndarray) -> int:
    return int((first != second).any(-1).sum())


@pytest.mark.parametrize(("word", "action"), CASES)
def test_every_action_draws_a_figure_of_sensible_size_that_stays_above_ground(word: str, action: str) -> None:
    _, owners, _ = _paint(_sample(word, 1), action)
    assert set(np.unique(owners)) == {0, 3}
    rows, columns = np.nonzero(owners)
    assert 3000 < len(rows) < 40000
    assert rows.max() <= 340 + 18
    assert np.ptp(rows) <= 240 * 1.2
    assert np.ptp(columns) <= 240 * 1.2


@pytest.mark.parametrize(("word", "action"), CASES)
def test_the_skeleton_is_complete_and_lies_on_the_figure(word: str, action: str) -> None:
    _, owners, drawn = _paint(_sample(word, 2), action)
    assert set(drawn.skeleton) == NAMES
    rows, columns = np.nonzero(owners)
    for name, (x, y) in drawn.skeleton.items():
        assert np.hypot(columns - x, rows - y).min() < 6, name


@pytest.mark.parametrize(("word", "action"), CASES)
def test_facing_left_is_the_mirror_image(word: str, action: str) -> None:
    right, _, there = _paint(_sample(word, 3), action)
    left, _, here = _paint(_sample(word, 3), action, facing=-1)
    # rasterising is not exactly symmetric along edges
    assert _differing(right, left[:, ::-1]) < 0.02 * right.shape[0] * right.shape[1]
    for name, (x, y) in there.skeleton.items():
        assert here.skeleton[name] == pytest.approx((383 - x, y))


@pytest.mark.parametrize("word", people.FACTORS)
def test_every_factor_shows_in_every_action(word: str) -> None:
    identity = _sample(word, 4)
    plain = Identity(word, {**identity.values, "pattern": "stripes"})
    rng = np.random.default_rng(0)
    others = {
        factor.name: Identity(word, {**plain.values, factor.name: factor.change(plain.values[factor.name], rng)})
        for factor in people.FACTORS[word]
    }
    for action in people.ACTIONS[word]:
        before = _paint(plain, action)[0]
        for name, other in others.items():
            assert _differing(before, _paint(other, action)[0]) > 20, (name, action)


@pytest.mark.parametrize("word", people.FACTORS)
def test_hairstyles_and_clothes_all_draw(word: str) -> None:
    identity = _sample(word, 5)
    for factor in people.FACTORS[word]:
        pictures = {
            _paint(Identity(word, {**identity.values, factor.name: option}), "standing")[0].tobytes()
            for option in factor.options
        }
        assert len(pictures) == len(factor.options), factor.name


@pytest.mark.parametrize("word", people.FACTORS)
def test_a_smile_is_a_wide_white_mouth_and_sleep_closes_the_eyes(word: str) -> None:
    identity = Identity(word, {**_sample(word, 6).values, "hair_colour": 0.66})

    def white(action: str, low: float, high: float) -> int:
        picture, _, drawn = _paint(identity, action)
        column, row = drawn.head.matrix @ np.array([*drawn.eyes, 1.0])
        half = round(drawn.eye_span * 120)
        area = picture[round(row + low * half) : round(row + high * half), round(column) - half : round(column) + half]
        return int((area > 246).all(-1).sum())

    assert white("smiling", 0.35, 1.2) > 60
    assert white("standing", 0.45, 1.2) == 0
    assert white("standing", -0.4, 0.4) > 60
    assert white("sleeping", -0.4, 0.4) == 0


def test_children_have_larger_heads_than_adults() -> None:
    heads = {word: _paint(_sample(word, 7), "standing")[2].head_width for word in people.FACTORS}
    assert min(heads["boy"], heads["girl"]) > 1.3 * max(heads["man"], heads["woman"])
