"""A concept's pictures show one character, whole, large, and in many surroundings."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from d2plan.world.cast import ACCESSORIES, ACTIONS, CLASSES, identity_from_seed
from d2plan.world.portraits import measure_reach, sample_portraits
from d2plan.world.scene import Figure, WorldScene
from d2plan.world.scenery import ALLOWED_LIGHTS, PLACES
from d2plan.world.seeds import stream_rng
from d2plan.world.truth import render


@pytest.mark.parametrize("word", CLASSES)
def test_sixteen_portraits_cover_actions_places_and_accessories(word: str) -> None:
    identity = identity_from_seed(word, 7)
    scenes = sample_portraits(identity, stream_rng("context", 1), 16)
    assert scenes == sample_portraits(identity, stream_rng("context", 1), 16)
    figures = [scene.figures[0] for scene in scenes]
    assert all(len(scene.figures) == 1 and scene.figures[0].identity == identity for scene in scenes)
    actions = Counter(figure.action for figure in figures)
    assert set(actions) == set(ACTIONS[word])
    assert max(actions.values()) - min(actions.values()) <= 1
    assert {scene.place for scene in scenes} == set(PLACES)
    assert all(scene.light in ALLOWED_LIGHTS[scene.place] for scene in scenes)
    dressed = [figure for figure in figures if figure.accessory]
    assert len(dressed) == 8
    assert len({figure.accessory for figure in dressed}) >= len(ACCESSORIES) - 2
    assert len({figure.accessory_colour for figure in dressed}) >= 4
    assert len(scenes) == len(set(scene.seed for scene in scenes))


@pytest.mark.parametrize("word", CLASSES)
def test_portraits_show_all_of_a_large_figure(word: str) -> None:
    extents = []
    for scene in sample_portraits(identity_from_seed(word, 3), stream_rng("context", 2), 16):
        mask = render(scene, 64).masks[0]
        border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
        assert border.max() == 0
        rows, columns = (np.flatnonzero((mask > 0.5).any(axis)) for axis in (1, 0))
        extents.append((max(np.ptp(rows), np.ptp(columns)) + 1) / 64)
    assert min(extents) > 0.4
    assert np.mean(extents) > 0.5


def test_the_reach_is_what_is_drawn() -> None:
    for word in ("man", "dog", "car"):
        figure = Figure(identity_from_seed(word, 5), ACTIONS[word][1], "hat", "red", 0.5, 0.7, 0.4, -1)
        left, right, up, down = measure_reach(figure)
        truth = render(WorldScene("snow", "day", (figure,), 0), 200)
        x0, y0, x1, y1 = truth.boxes[0] / 200
        reach = [(0.5 - x0) / 0.4, (x1 - 0.5) / 0.4, (0.7 - y0) / 0.4, (y1 - 0.7) / 0.4]
        assert [left, right, up, down] == pytest.approx(reach, abs=0.03)


@pytest.mark.parametrize("count", [0, 1, 3, 40])
def test_any_count_is_dealt(count: int) -> None:
    scenes = sample_portraits(identity_from_seed("cat", 1), stream_rng("context", 4), count)
    assert len(scenes) == count
    assert sum(scene.figures[0].accessory is not None for scene in scenes) == count // 2
