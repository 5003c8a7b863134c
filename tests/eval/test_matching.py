import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2plan.eval.matching import match_exactly, match_greedily


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 10**6))
def test_the_match_is_as_good_as_the_best_of_all_assignments(expected, seen, seed):
    gains = np.random.default_rng(seed).normal(size=(expected, seen))
    matches = match_exactly(gains)
    pairs = [(row, column) for row, column in enumerate(matches) if column is not None]
    assert len(pairs) == min(expected, seen)
    assert len({column for _, column in pairs}) == len(pairs)
    table, count = (gains, seen) if expected <= seen else (gains.T, expected)
    best = max(
        sum(table[row, column] for row, column in enumerate(order))
        for order in itertools.permutations(range(count), len(table))
    )
    assert sum(gains[pair] for pair in pairs) == pytest.approx(best)


def test_a_pair_that_may_not_be_is_never_matched():
    assert match_exactly([[-math.inf, 1.0], [-math.inf, 2.0]]) == (None, 0 + 1)
    assert match_exactly([[-math.inf]]) == (None,)


def test_more_pairs_are_worth_more_than_a_larger_gain():
    assert match_exactly([[10.0, 1.0], [9.0, -math.inf]]) == (1, 0)


def test_many_instances_are_matched_too():
    gains = np.eye(12)[np.random.default_rng(0).permutation(12)]
    assert [gains[row, column] for row, column in enumerate(match_exactly(gains))] == [1.0] * 12


def test_nothing_expected_or_nothing_seen_matches_nothing():
    assert match_exactly(np.zeros((0, 2))) == ()
    assert match_exactly(np.zeros((2, 0))) == (None, None)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 10**6), st.floats(0.0, 0.9))
def test_as_many_pairs_are_made_as_may_be_and_then_the_best(expected, seen, seed, forbidden):
    rng = np.random.default_rng(seed)
    gains = np.where(rng.random((expected, seen)) < forbidden, -np.inf, rng.normal(size=(expected, seen)))
    matches = match_exactly(gains)
    pairs = [(row, column) for row, column in enumerate(matches) if column is not None]
    assert len({column for _, column in pairs}) == len(pairs)
    best = max(
        (len(kept), sum(gains[pair] for pair in kept))
        for order in itertools.permutations(range(seen + expected), expected)
        for kept in [[(row, c) for row, c in enumerate(order) if c < seen and np.isfinite(gains[row, c])]]
    )
    assert (len(pairs), sum(gains[pair] for pair in pairs)) == (best[0], pytest.approx(best[1]))


def test_greed_takes_the_largest_first_even_where_that_costs_more_later():
    gains = [[0.9, 0.8], [0.7, 0.1]]
    assert match_greedily(gains) == (0, 1)
    assert match_exactly(gains) == (1, 0)


def test_greed_never_matches_a_pair_that_may_not_be():
    assert match_greedily([[-math.inf, 1.0], [-math.inf, 2.0]]) == (None, 1)
    assert match_greedily(np.zeros((2, 0))) == (None, None)
    assert match_greedily(np.zeros((0, 2))) == ()


def test_greed_leaves_what_it_was_given_as_it_was():
    gains = np.array([[1.0, 2.0], [3.0, 4.0]])
    match_greedily(gains)
    assert gains.tolist() == [[1.0, 2.0], [3.0, 4.0]]
