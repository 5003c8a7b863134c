"""Who lives in the world, and how characters of a class differ."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2plan.errors import InputError
from d2plan.world.cast import (
    ACCESSORIES,
    ACTIONS,
    CLASSES,
    COLOURS,
    SPECIES,
    identity_distance,
    identity_from_seed,
    near_identity,
    sample_identity,
    species_of,
)

words = st.sampled_from(CLASSES)
seeds = st.integers(0, 99_999)


def test_the_world_is_as_large_as_it_says() -> None:
    assert len(CLASSES) >= 10
    assert {"man", "woman", "boy", "girl", "dog", "cat", "bird", "robot", "teapot", "car", "backpack"} <= set(CLASSES)
    assert len(COLOURS) >= 6
    assert {"sunglasses", "hat", "scarf"} <= set(ACCESSORIES)
    assert all(len(species.factors) >= 6 for species in SPECIES.values())
    assert all(len(set(actions)) == len(actions) >= 3 for actions in ACTIONS.values())


@given(words, seeds)
def test_a_seed_means_one_character(word: str, seed: int) -> None:
    identity = identity_from_seed(word, seed)
    assert identity == identity_from_seed(word, seed)
    assert identity != identity_from_seed(word, seed + 1)
    assert set(identity.values) == {factor.name for factor in species_of(word).factors}


@given(words, seeds, st.sampled_from([1, 2]))
def test_a_look_alike_differs_in_as_many_visible_factors_as_asked(word: str, seed: int, changes: int) -> None:
    identity = identity_from_seed(word, seed)
    other = near_identity(identity, np.random.default_rng(seed), changes)
    differing = [f for f in SPECIES[word].factors if identity.values[f.name] != other.values[f.name]]
    assert len(differing) == changes
    assert all(factor.weight >= 1 for factor in differing)
    assert all(f.distance(identity.values[f.name], other.values[f.name]) >= 0.3 for f in differing)
    assert identity.values.get("pattern") != "plain" or "pattern_colour" not in {f.name for f in differing}


@given(words, seeds)
def test_a_characters_main_colours_are_neighbours_thirds_or_opposites_on_the_circle(word: str, seed: int) -> None:
    factors = sorted((f for f in SPECIES[word].factors if f.kind == "colour"), key=lambda factor: -factor.weight)
    values = identity_from_seed(word, seed).values
    first, second = (colorsys.rgb_to_hsv(*values[factor.name]) for factor in factors[:2])
    gap = abs(first[0] - second[0])
    greyish = min(first[1] * first[2], second[1] * second[2]) < 40
    assert greyish or min(abs(min(gap, 1 - gap) - apart) for apart in (0.1, 0.33, 0.5)) < 0.03


@given(words, seeds, seeds, seeds)
def test_the_distance_of_identities_is_a_metric(word: str, first: int, second: int, third: int) -> None:
    a, b, c = (identity_from_seed(word, seed) for seed in (first, second, third))
    assert identity_distance(a, a) == 0
    assert identity_distance(a, b) == pytest.approx(identity_distance(b, a))
    assert (identity_distance(a, b) > 0) == (a != b)
    assert identity_distance(a, b) <= 1
    assert identity_distance(a, c) <= identity_distance(a, b) + identity_distance(b, c) + 1e-9


def test_other_classes_are_farthest_and_look_alikes_nearest() -> None:
    rng = np.random.default_rng(0)
    for word in CLASSES:
        me = sample_identity(word, rng)
        strangers = [identity_distance(me, sample_identity(word, rng)) for _ in range(40)]
        alike = [identity_distance(me, near_identity(me, rng)) for _ in range(40)]
        assert np.mean(alike) < np.mean(strangers) * 0.6
        assert identity_distance(me, sample_identity("man" if word != "man" else "cat", rng)) == 1


@pytest.mark.parametrize(("wrong", "hint"), [("dgo", "'dog'"), ("wooman", "'woman'"), ("xyz", "man, woman")])
def test_an_unknown_class_is_an_error_that_names_the_nearest(wrong: str, hint: str) -> None:
    with pytest.raises(InputError, match=f"'{wrong}'.*{hint}"):
        identity_from_seed(wrong, 1)
