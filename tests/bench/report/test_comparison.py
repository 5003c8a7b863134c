import functools

import numpy as np
import pytest

from d2plan.bench.records import Failure, Results
from d2plan.bench.report.comparison import (
    PARTS,
    compare_changes,
    compare_methods,
    count_missing,
    estimate_part,
    find_best,
    find_method,
    judge_difference,
    list_values,
    measure_change,
    tell_absence,
)
from d2plan.eval.metrics import Estimate
from tests.bench.report.synthetic import make_results


@functools.cache
def spatial() -> Results:
    return make_results()


def method(name: str):
    return find_method(spatial(), name)


def test_a_mean_weighs_each_concept_the_same_and_lies_in_its_interval():
    found = estimate_part(spatial(), method("isp-dislora"), "identity", "single")
    values = list_values(spatial(), method("isp-dislora"), "identity", "single")
    concepts = {one.concepts for one in values}
    means = [np.mean([one.number for one in values if one.concepts == concept]) for concept in concepts]
    assert found.mean == pytest.approx(np.mean(means), abs=1e-12)
    assert found.low < found.mean < found.high
    assert found.count == len(values) == 36


def test_series_metrics_count_series_and_keep_their_prompt():
    values = list_values(spatial(), method("isp-dislora"), "consistency_all", "multi")
    assert len(values) == 9
    assert all(one.prompt.endswith("plain") and "+" in one.concepts for one in values)


def test_shots_can_be_chosen():
    alone = estimate_part(
        spatial(), method("isp-dislora"), "identity", "single", lambda shot: shot.concepts == ("dog-3",)
    )
    assert alone.count == 9


def test_a_change_is_multi_minus_single_with_the_interval_of_independent_means():
    found = measure_change(Estimate(0.7, 0.6, 0.9, 5), Estimate(0.6, 0.57, 0.64, 4))
    assert found.mean == pytest.approx(-0.1)
    assert found.low == pytest.approx(-0.1 - np.hypot(0.03, 0.2))
    assert found.high == pytest.approx(-0.1 + np.hypot(0.04, 0.1))
    assert measure_change(None, Estimate(0, 0, 0, 1)) is None


def test_pairs_are_taken_from_what_both_drew():
    pair = compare_methods(spatial(), method("isp-dislora"), method("mix-of-show"), "identity", "multi")
    whole = compare_methods(spatial(), method("isp-dislora"), method("lora-merge"), "identity", "multi")
    assert (pair.estimate.count, whole.estimate.count) == (18, 27)
    ours = {one.key: one.number for one in list_values(spatial(), method("isp-dislora"), "identity", "multi")}
    theirs = {one.key: one.number for one in list_values(spatial(), method("mix-of-show"), "identity", "multi")}
    assert pair.estimate.mean == pytest.approx(np.mean([ours[key] - theirs[key] for key in theirs]), abs=1e-12)


def test_the_order_of_the_pictures_changes_no_pair():
    rival = method("lora-merge")
    turned = rival.model_copy(update={"pictures": rival.pictures[::-1]})
    one, other = (compare_methods(spatial(), method("isp-dislora"), r, "identity", "multi") for r in (rival, turned))
    assert one == other


def test_a_rate_of_faults_is_turned_so_that_above_zero_is_better():
    found = compare_methods(spatial(), method("isp-dislora"), method("lora-merge"), "swapped", "multi").estimate
    ours = estimate_part(spatial(), method("isp-dislora"), "swapped", "multi").mean
    theirs = estimate_part(spatial(), method("lora-merge"), "swapped", "multi").mean
    assert theirs > ours
    assert found.mean == pytest.approx(theirs - ours)
    assert found.low <= found.mean <= found.high


def test_what_is_not_validated_is_never_beaten_but_may_win():
    above, below = Estimate(0.1, 0.05, 0.2, 9), Estimate(-0.1, -0.2, -0.05, 9)
    assert judge_difference(above, True) == "ahead"
    assert judge_difference(above, False) == "not validated"
    assert judge_difference(above, None) == "not checked"
    assert {judge_difference(below, known) for known in (True, False, None)} == {"behind"}
    assert judge_difference(Estimate(0.1, -0.1, 0.2, 9), True) == "not told apart"
    assert judge_difference(None, True) == "no number"


def test_nothing_is_ahead_by_less_than_is_printed():
    assert judge_difference(Estimate(0.1, 0.0004, 0.2, 9), True) == "not told apart"
    assert judge_difference(Estimate(0.1, 0.0006, 0.2, 9), True) == "ahead"


def test_changes_compare_what_both_lose():
    found = compare_changes(spatial(), method("isp-dislora"), method("dreambooth"), "identity")
    assert found.verdict == "ahead"
    assert found.estimate.mean == pytest.approx(0.2, abs=0.06)


def test_missing_pictures_are_counted_by_part_and_those_that_failed_apart_from_those_to_come():
    mix = method("mix-of-show")
    assert [count_missing(spatial(), mix, part) for part in ("single", "multi", None)] == [(0, 0), (9, 0), (9, 0)]
    cut = mix.model_copy(update={"pictures": mix.pictures[:40]})
    assert [count_missing(spatial(), cut, part) for part in ("single", "multi", None)] == [(0, 0), (9, 14), (9, 14)]


def fail(record, *shots):
    return record.model_copy(
        update={"failures": (Failure(stage="draw", concepts=(), shots=shots, message="it broke"),)}
    )


def test_why_a_number_is_missing_is_told():
    results, merge = spatial(), method("lora-merge")
    several = [shot.name for shot in results.suite.shots if shot.part == "multi"]
    alone = merge.model_copy(update={"pictures": merge.pictures[:36], "series": merge.series[:12]})
    assert [tell_absence(results, alone, (part,)) for part in PARTS] == ["", "not run yet"]
    assert [tell_absence(results, fail(alone, *several), (part,)) for part in PARTS] == ["", "failed"]
    assert tell_absence(results, fail(alone, *several[1:])) == "not run yet"
    assert tell_absence(results, merge) == ""
    # A picture of each series is no series.
    cut = merge.model_copy(update={"pictures": merge.pictures[1::3]})
    assert [tell_absence(results, cut, metric=name) for name in ("identity", "consistency_all")] == ["", "not run yet"]
    lost = fail(cut, *(shot.name for shot in results.suite.shots[::3]))
    assert tell_absence(results, lost, metric="consistency_all") == "failed"


def test_a_method_without_values_has_no_estimate_and_no_pair():
    empty = method("lora-merge").model_copy(update={"pictures": (), "series": ()})
    assert estimate_part(spatial(), empty, "identity", "multi") is None
    assert compare_methods(spatial(), method("isp-dislora"), empty, "identity", "multi").verdict == "not run yet"
    lost = fail(empty, *(shot.name for shot in spatial().suite.shots))
    assert compare_methods(spatial(), method("isp-dislora"), lost, "identity", "multi").verdict == "failed"
    assert compare_changes(spatial(), lost, method("isp-dislora"), "identity").verdict == "failed"
    unscored = method("lora-merge").model_copy(
        update={"pictures": tuple(one.model_copy(update={"values": {}}) for one in method("lora-merge").pictures)}
    )
    assert compare_methods(spatial(), method("isp-dislora"), unscored, "identity", "multi").verdict == "no number"


def test_the_best_are_those_that_are_equal_in_print():
    values = [Estimate(value, 0, 1, 1) for value in (0.7004, 0.6996, 0.9, 0.5)]
    assert find_best(values, [True, True, False, True], True, 3) == {0, 1}
    assert find_best([*values, None], [True, True, True, True, True], False, 3) == {3}
    assert find_best([values[0], None], [True, True], True, 3) == set()


def test_a_method_with_the_same_numbers_is_not_told_apart():
    twin = method("isp-dislora").model_copy(update={"name": "twin"})
    found = compare_methods(spatial(), method("isp-dislora"), twin, "identity", "multi")
    assert (found.verdict, found.estimate.mean) == ("not told apart", 0)
