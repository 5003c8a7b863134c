"""The painted places."""

import numpy as np
import pytest
from PIL import Image

from d2plan.errors import InputError
from d2plan.world.scenery import ALLOWED_LIGHTS, DEPTH_ROWS, LIGHTS, PLACES, Backdrop, paint_place

PAIRS = [(place, light) for place in PLACES for light in ALLOWED_LIGHTS[place]]


def paint(place: str, light: str, seed: int = 0, size: tuple[int, int] = (96, 96)) -> Backdrop:
    """Paint a small place from a seed."""
    return paint_place(place, light, size, np.random.default_rng(seed))


def pixels(backdrop: Backdrop) -> np.ndarray:
    """Give the picture as float32."""
    return np.asarray(backdrop.picture, dtype=np.float32)


@pytest.mark.parametrize(("place", "light"), PAIRS)
def test_every_place_has_a_horizon_in_the_middle_and_depth_falls_below_it(place: str, light: str) -> None:
    backdrop = paint(place, light)
    assert backdrop.picture.mode == "RGB"
    assert 0.5 <= backdrop.horizon <= 0.66
    rows = (np.arange(DEPTH_ROWS) + 0.5) / DEPTH_ROWS
    assert backdrop.depth.shape == (DEPTH_ROWS,)
    assert backdrop.depth.dtype == np.float32
    assert (backdrop.depth[rows <= backdrop.horizon] == 1).all()
    assert (np.diff(backdrop.depth[rows > backdrop.horizon]) < 0).all()
    assert 0 <= backdrop.depth[-1] < 0.05


@pytest.mark.parametrize(("place", "light"), PAIRS)
def test_the_same_seed_paints_the_same_picture_and_another_seed_another_one(place: str, light: str) -> None:
    first = pixels(paint(place, light, 3))
    assert np.array_equal(first, pixels(paint(place, light, 3)))
    assert np.abs(first - pixels(paint(place, light, 4))).mean() > 2


@pytest.mark.parametrize("place", PLACES)
def test_each_light_changes_the_whole_place(place: str) -> None:
    views = [pixels(paint(place, light)) for light in ALLOWED_LIGHTS[place]]
    for i, first in enumerate(views):
        for second in views[i + 1 :]:
            assert np.abs(first[:48] - second[:48]).mean() > 12
            assert np.abs(first[60:] - second[60:]).mean() > 8


@pytest.mark.parametrize("light", LIGHTS)
def test_any_two_places_differ_in_one_light(light: str) -> None:
    views = [pixels(paint(place, light)) for place in PLACES if light in ALLOWED_LIGHTS[place]]
    for i, first in enumerate(views):
        for second in views[i + 1 :]:
            assert np.abs(first - second).mean() > 8


@pytest.mark.parametrize("place", PLACES)
def test_the_ground_is_calmer_than_a_figure(place: str) -> None:
    ground = pixels(paint(place, "day", size=(384, 384)))[int(0.68 * 384) :]
    assert np.median(ground.reshape(-1, 3).std(0)) < 32


def test_night_is_darker_than_day_everywhere() -> None:
    for place in PLACES:
        assert pixels(paint(place, "night")).mean() < 0.8 * pixels(paint(place, "day")).mean()


def test_the_size_changes_the_pixels_and_not_the_scene() -> None:
    for place in PLACES:
        large, small = paint(place, "night", 7, (384, 384)), paint(place, "night", 7, (192, 192))
        assert large.horizon == small.horizon
        shrunk = np.asarray(large.picture.resize((48, 48), Image.Resampling.BOX), dtype=np.float32)
        other = np.asarray(small.picture.resize((48, 48), Image.Resampling.BOX), dtype=np.float32)
        assert np.abs(shrunk - other).mean() < 4


def test_a_wide_picture_is_filled_to_its_right_edge() -> None:
    for place in PLACES:
        backdrop = paint(place, "day", size=(96, 160))
        assert backdrop.picture.size == (160, 96)
        assert pixels(backdrop)[:, 150:].sum(2).min() > 0


def test_each_place_and_light_has_words_of_its_own() -> None:
    assert len(PLACES) == 12
    phrases = [phrase for group in (*PLACES.values(), *map(set, LIGHTS.values())) for phrase in group]
    assert len(phrases) == len(set(phrases))
    assert "rain" not in ALLOWED_LIGHTS["moon"]


@pytest.mark.parametrize(("place", "light"), [("kitchen", "day"), ("beach", "fog"), ("moon", "rain")])
def test_an_unknown_place_or_light_is_an_input_error(place: str, light: str) -> None:
    with pytest.raises(InputError, match="choose one of"):
        paint(place, light)
