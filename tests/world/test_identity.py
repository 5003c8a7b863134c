"""Factors draw, compare and change their values."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2plan.errors import InputError
from d2plan.world.cast import SPECIES
from d2plan.world.identity import Factor, Identity, skin_tone

FACTORS = [factor for species in SPECIES.values() for factor in species.factors]
seeds = st.integers(0, 2**32 - 1)


@given(st.sampled_from(FACTORS), seeds)
def test_a_distance_is_zero_to_itself_symmetric_and_at_most_one(factor: Factor, seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second, third = (factor.sample(rng) for _ in range(3))
    assert factor.distance(first, first) == 0
    assert factor.distance(first, second) == factor.distance(second, first)
    assert 0 <= factor.distance(first, second) <= 1
    assert factor.distance(first, third) <= factor.distance(first, second) + factor.distance(second, third) + 1e-9


@given(st.sampled_from(FACTORS), seeds)
def test_a_change_is_clearly_another_value(factor: Factor, seed: int) -> None:
    rng = np.random.default_rng(seed)
    value = factor.sample(rng)
    assert factor.distance(value, factor.change(value, rng)) >= 0.3


def test_a_choice_without_alternatives_says_so() -> None:
    with pytest.raises(InputError, match="factor tail.*more options"):
        Factor("tail", "choice", ("long",)).change("long", np.random.default_rng(0))


def test_colours_reach_from_the_same_to_the_opposite() -> None:
    factor = Factor("coat", "colour")
    assert factor.distance((0, 0, 0), (255, 255, 255)) == 1
    assert factor.distance((100, 100, 100), (164, 164, 164)) == pytest.approx(0.5)


def test_vivid_colours_cover_the_circle_of_hues() -> None:
    rng = np.random.default_rng(0)
    colours = [Factor("coat", "colour").sample(rng) for _ in range(600)]
    hues = [colorsys.rgb_to_hsv(*colour)[0] for colour in colours]
    assert np.histogram(hues, 12, (0, 1))[0].min() > 20
    assert all(0 <= value <= 255 for colour in colours for value in colour)


def test_skin_goes_evenly_from_light_to_dark() -> None:
    tones = np.array([skin_tone(share) for share in np.linspace(0, 1, 21)])
    assert (np.diff(tones.sum(1)) < 0).all()
    assert tones[0].tolist() == [255, 224, 196]
    assert tones[-1].tolist() == [92, 58, 40]


def test_an_identity_cannot_be_changed() -> None:
    values: dict[str, object] = {"build": 0.4, "coat": (1, 2, 3), "ears": "long"}
    identity = Identity("dog", values)
    values["build"] = 0.9
    assert (identity.number("build"), identity.colour("coat"), identity.choice("ears")) == (0.4, (1, 2, 3), "long")
    with pytest.raises(TypeError):
        identity.values["build"] = 0.5
