"""Scenes are data: sampled from seeds, mirrored, and kept as JSON."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2plan.world.cast import ACCESSORIES, ACTIONS, CLASSES, COLOURS, identity_from_seed
from d2plan.world.scene import (
    WorldScene,
    figure_width,
    mirror_scene,
    sample_light,
    sample_scene,
    scene_from_json,
    scene_to_json,
)
from d2plan.world.scenery import ALLOWED_LIGHTS, PLACES
from d2plan.world.seeds import stream_rng
from d2plan.world.truth import render

seeds = st.integers(0, 2**31)


def sample(seed: int) -> WorldScene:
    return sample_scene(stream_rng("heldout", seed))


@given(seeds)
def test_a_sampled_scene_is_one_that_the_world_knows(seed: int) -> None:
    scene = sample(seed)
    assert scene == sample(seed)
    assert scene.light in ALLOWED_LIGHTS[scene.place]
    assert 1 <= len(scene.figures) <= 4
    for figure in scene.figures:
        assert figure.action in ACTIONS[figure.class_word]
        assert (figure.accessory is None) == (figure.accessory_colour is None)
        assert figure.accessory in (None, *ACCESSORIES)
        assert figure.accessory_colour in (None, *COLOURS)
        assert figure.facing in (-1, 1)
        assert 0 < figure.height < 1
        assert 0.8 < figure.ground < 1


@given(seeds)
def test_json_gives_back_the_same_scene(seed: int) -> None:
    scene = sample(seed)
    assert scene_from_json(json.loads(json.dumps(scene_to_json(scene)))) == scene


@given(seeds)
def test_figures_stand_side_by_side_within_the_picture(seed: int) -> None:
    scene = sample(seed)
    figures = sorted(scene.figures, key=lambda figure: figure.x)
    overhang = max(0.0, sum(map(figure_width, figures)) - 1)
    assert figures[0].x - figure_width(figures[0]) / 2 >= -overhang - 1e-9
    assert figures[-1].x + figure_width(figures[-1]) / 2 <= 1 + overhang + 1e-9
    for left, right in zip(figures, figures[1:], strict=False):
        assert right.x - left.x >= (figure_width(left) + figure_width(right)) / 2 - overhang - 1e-9


def test_every_class_place_light_and_count_turns_up() -> None:
    scenes = [sample(seed) for seed in range(800)]
    assert {scene.place for scene in scenes} == set(PLACES)
    assert {figure.class_word for scene in scenes for figure in scene.figures} == set(CLASSES)
    counts = Counter(len(scene.figures) for scene in scenes)
    assert counts[1] > 200 < counts[2]
    assert counts[3] > 40 < counts[4] * 2
    twins = [scene for scene in scenes if len({f.class_word for f in scene.figures}) < len(scene.figures)]
    assert 0.1 < len(twins) / len(scenes) < 0.4


def test_given_identities_take_part_in_their_order() -> None:
    identities = [identity_from_seed("dog", 1), identity_from_seed("man", 2), identity_from_seed("dog", 3)]
    scene = sample_scene(np.random.default_rng(0), identities)
    assert [figure.identity for figure in scene.figures] == identities


def test_light_is_mostly_day_and_never_rain_on_the_moon() -> None:
    rng = np.random.default_rng(0)
    beach, moon = (Counter(sample_light(place, rng) for _ in range(500)) for place in ("beach", "moon"))
    assert beach["day"] == max(beach.values())
    assert set(beach) == {"day", "sunset", "night", "rain"}
    assert "rain" not in moon


def test_a_mirrored_scene_has_the_figures_on_the_other_side() -> None:
    scene = sample(4)
    mirrored = mirror_scene(scene)
    assert [f.x for f in mirror_scene(mirrored).figures] == pytest.approx([f.x for f in scene.figures])
    assert [f.facing for f in mirrored.figures] == [-f.facing for f in scene.figures]
    plain, turned = render(scene).masks, render(mirrored).masks
    # Pillow rounds the two sides of an edge differently.
    assert np.abs(plain[:, :, ::-1] - turned).mean() < 0.01
