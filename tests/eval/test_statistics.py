import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2plan.errors import InputError
from d2plan.eval import statistics
from d2plan.eval.metrics import Estimate
from d2plan.eval.statistics import (
    collect_cells,
    common_cells,
    estimate_cells,
    mean_of_cells,
    paired_difference,
)


def make_cells(concepts, prompts, images, seed=0, between=1.0, within=1.0, noise=0.0):
    rng = np.random.default_rng(seed)
    cells = {}
    for concept in range(concepts):
        level = between * rng.normal()
        cells[f"c{concept}"] = {
            f"p{prompt}": list(level + within * rng.normal() + noise * rng.normal(size=images))
            for prompt in range(prompts)
        }
    return cells


def slow_bootstrap(cells, seed, repeats):
    """The same by its definition, draw by draw."""
    rng, means = np.random.default_rng(seed), []
    names = list(cells)
    for _ in range(repeats):
        drawn = []
        for name in rng.choice(names, size=len(names)):
            prompts = list(cells[name].values())
            drawn.append(np.mean([np.mean(prompts[place]) for place in rng.integers(len(prompts), size=len(prompts))]))
        means.append(np.mean(drawn))
    return np.percentile(means, [2.5, 97.5])


def test_the_interval_is_that_of_drawing_concepts_and_then_prompts():
    cells = make_cells(6, 5, 2, noise=0.5)
    cells["c1"] = {"p0": cells["c1"]["p0"], "p1": cells["c1"]["p1"]}
    found = estimate_cells(cells, repeats=20_000)
    width = found.high - found.low
    assert (found.low, found.high) == pytest.approx(slow_bootstrap(cells, 5, 1000), abs=0.08 * width)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.integers(0, 1000))
def test_the_mean_is_the_plain_one_where_all_is_even(concepts, prompts, images, seed):
    cells = make_cells(concepts, prompts, images, seed, noise=1.0)
    plain = np.mean([value for prompts in cells.values() for values in prompts.values() for value in values])
    found = estimate_cells(cells, repeats=50)
    assert found.mean == pytest.approx(plain, abs=1e-9)
    assert found.count == concepts * prompts * images
    assert found.low - 1e-9 <= found.high


def test_each_concept_weighs_the_same_where_numbers_are_uneven():
    cells = {"a": {"p": [1.0] * 9}, "b": {"p": [0.0]}}
    assert mean_of_cells(cells) == 0.5


def test_more_prompts_of_the_same_concepts_do_not_hide_how_few_concepts_there_are():
    few, many = (estimate_cells(make_cells(5, prompts, 1, between=1, within=0.1)) for prompts in (4, 64))
    assert many.high - many.low > 0.7 * (few.high - few.low)


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says():
    inside = 0
    for seed in range(150):
        found = estimate_cells(make_cells(20, 3, 1, seed, within=0.5), repeats=200)
        inside += found.low <= 0 <= found.high
    assert 0.87 <= inside / 150 <= 0.99


def test_one_prompt_of_one_concept_is_drawn_by_its_pictures():
    found = estimate_cells({"a": {"p": [1.0] * 50 + [0.0] * 50}})
    assert (found.low, found.high) == pytest.approx((0.5 - 0.098, 0.5 + 0.098), abs=0.02)
    assert estimate_cells({"a": {"p": [0.25]}}) == Estimate(0.25, 0.25, 0.25, 1)


def test_no_value_gives_no_estimate():
    assert estimate_cells({}) is None
    assert estimate_cells({"a": {"p": []}}) is None
    assert paired_difference({"a": {"p": []}}, {}) is None
    with pytest.raises(InputError, match="no value"):
        mean_of_cells({})


def test_the_same_seed_gives_the_same_interval():
    cells = make_cells(4, 3, 1)
    assert estimate_cells(cells, seed=3) == estimate_cells(cells, seed=3)
    assert estimate_cells(cells, seed=3).low != estimate_cells(cells, seed=4).low


def test_what_is_hard_for_both_does_not_hide_a_difference():
    base = make_cells(8, 4, 1, between=5, within=2)
    better = {c: {p: [value + 0.1 for value in values] for p, values in ps.items()} for c, ps in base.items()}
    found = paired_difference(better, base)
    assert (found.mean, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))
    assert found.count == 32
    apart = [estimate_cells(one) for one in (better, base)]
    assert apart[0].low < apart[1].high


def test_a_difference_turns_round_with_its_sides():
    one, other = make_cells(6, 3, 2, 1, noise=1), make_cells(6, 3, 2, 2, noise=1)
    there, back = paired_difference(one, other), paired_difference(other, one)
    assert (back.mean, back.low, back.high) == pytest.approx((-there.mean, -there.high, -there.low), abs=1e-9)


def test_what_only_one_side_has_is_told():
    with pytest.raises(InputError, match='"a" / "q" was measured for one of the two methods only'):
        paired_difference({"a": {"p": [1.0], "q": [1.0]}}, {"a": {"p": [0.0]}})


def test_common_cells_say_what_they_leave_out_and_what_is_uneven():
    one = {"a": {"p": [1.0, 1.0], "q": [1.0]}, "b": {"p": [1.0]}}
    other = {"a": {"p": [0.0]}, "c": {"p": [1.0]}}
    first, second, notes = common_cells(one, other)
    assert (first, second) == ({"a": {"p": [1.0, 1.0]}}, {"a": {"p": [0.0]}})
    assert notes == (
        '"a" / "q" is there for the first only',
        '"b" / "p" is there for the first only',
        '"c" / "p" is there for the second only',
        '"a" / "p" has 2 values in the first and 1 in the second',
    )
    assert paired_difference(first, second).mean == 1.0


def test_missing_values_are_left_out_of_the_cells():
    rows = [("a", "p", 1.0), ("a", "p", None), ("b", "q", None), ("a", "q", 2.0)]
    assert collect_cells(rows) == {"a": {"p": [1.0], "q": [2.0]}}


def test_drawing_in_parts_changes_nothing(monkeypatch):
    cells = make_cells(5, 7, 1)
    whole = estimate_cells(cells)
    monkeypatch.setattr(statistics, "_AT_ONCE", 1000)
    assert estimate_cells(cells) == whole
