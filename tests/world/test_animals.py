"""Facts about the drawn animals."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from d2plan.errors import InputError
from d2plan.world.figures.animals import ACTIONS, FACTORS, draw
from d2plan.world.figures.parts import Drawn
from d2plan.world.identity import Identity
from d2plan.world.pen import Pen

SIZE, SCALE, FEET = 384, 180, 330
POSES = [(class_word, action) for class_word, actions in ACTIONS.items() for action in actions]


def sample(class_word: str, seed: int) -> Identity:
    rng = np.random.default_rng(seed)
    return Identity(class_word, {factor.name: factor.sample(rng) for factor in FACTORS[class_word]})


def paint(identity: Identity, action: str, facing: int = 1) -> tuple[np.ndarray, np.ndarray, Drawn]:
    picture, owners = Image.new("RGB", (SIZE, SIZE), (200, 220, 210)), Image.new("L", (SIZE, SIZE))
    matrix = np.array([[SCALE * facing, 0, SIZE / 2], [0, -SCALE, FEET]])
    drawn = draw(Pen(ImageDraw.Draw(picture), ImageDraw.Draw(owners), 3, matrix), identity, action)
    return np.asarray(picture), np.asarray(owners), drawn


@pytest.mark.parametrize(("class_word", "action"), POSES)
def test_every_pose_fills_a_plausible_area_on_the_ground(class_word: str, action: str) -> None:
    for seed in range(3):
        _, owners, _ = paint(sample(class_word, seed), action)
        rows, columns = np.nonzero(owners)
        assert set(np.unique(owners)) == {0, 3}
        assert 0.1 < len(rows) / SCALE**2 < 1.2
        assert np.ptp(columns) / SCALE < 1.8
        assert (FEET - rows.min()) / SCALE < 1.5
        lift = (FEET - rows.max()) / SCALE
        assert (0.02 < lift < 0.4) if action in ("jumping", "flying") else (-0.04 < lift < 0.1)


@pytest.mark.parametrize(("class_word", "action"), POSES)
def test_a_figure_facing_left_is_the_mirror_image(class_word: str, action: str) -> None:
    identity = sample(class_word, 3)
    _, right, drawn_right = paint(identity, action)
    _, left, drawn_left = paint(identity, action, facing=-1)
    # Pillow rounds the two sides of an edge differently, by at most a pixel of the supersampled picture.
    mirrored = np.roll(left[:, ::-1], 1, axis=1)
    assert np.mean(mirrored != right) < 0.02
    for name, (x, y) in drawn_right.skeleton.items():
        assert drawn_left.skeleton[name] == pytest.approx((SIZE - x, y))


@pytest.mark.parametrize(("class_word", "action"), POSES)
def test_the_skeleton_and_the_anchors_lie_on_the_figure(class_word: str, action: str) -> None:
    for seed in range(3):
        _, owners, drawn = paint(sample(class_word, seed), action)
        spots = [*drawn.skeleton.values(), *(drawn.head.place(*spot) for spot in (drawn.top, drawn.eyes, drawn.neck))]
        for x, y in spots:
            near = owners[max(0, round(y) - 8) : round(y) + 9, max(0, round(x) - 8) : round(x) + 9]
            assert near.any()


@pytest.mark.parametrize("class_word", list(FACTORS))
def test_every_factor_shows_in_every_waking_action(class_word: str) -> None:
    rng = np.random.default_rng(0)
    for seed in range(2):
        identity = sample(class_word, seed)
        before = {action: paint(identity, action)[0] for action in ACTIONS[class_word]}
        for factor in FACTORS[class_word]:
            values = {**identity.values, factor.name: factor.change(identity.values[factor.name], rng)}
            for action in ACTIONS[class_word]:
                if action == "sleeping" and factor.name == "eye_colour":
                    continue
                after = paint(Identity(class_word, values), action)[0]
                assert (before[action] != after).any(axis=2).sum() >= 60, (factor.name, action)


@pytest.mark.parametrize("class_word", list(FACTORS))
def test_actions_have_different_silhouettes(class_word: str) -> None:
    identity = sample(class_word, 1)
    shapes = [paint(identity, action)[1] > 0 for action in ACTIONS[class_word]]
    for index, first in enumerate(shapes):
        for second in shapes[index + 1 :]:
            assert (first & second).sum() / (first | second).sum() < 0.9


def test_an_unknown_action_names_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"standing, flying"):
        draw(paint(sample("bird", 0), "standing")[2].head, sample("bird", 0), "swimming")
