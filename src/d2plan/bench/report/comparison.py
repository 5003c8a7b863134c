"""From results to what tables say: means with intervals, changes from one concept to several, paired differences."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from d2plan.bench.records import METRICS, MethodRecord, Part, Results, ShotRecord
from d2plan.bench.report.tables import round_number
from d2plan.eval.metrics import Estimate
from d2plan.eval.statistics import collect_cells, estimate_cells, paired_difference

OURS = "isp-dislora"
ABLATED = ("isp-paper", "isp-lora")  # our own with less; no rivals
PARTS: tuple[Part, Part] = ("single", "multi")
# What the aim names: differences count here.
AIMED = ("identity", "image", "consistency_all")

Absence = Literal["", "not run yet", "failed"]
Verdict = Literal[
    "ahead", "behind", "not told apart", "not validated", "not checked", "not run yet", "failed", "no number"
]


class Missing(NamedTuple):
    """How many of the suite's pictures a method has not drawn.

    Attributes:
        failed: it could not.
        waiting: it has not come to them yet.
    """

    failed: int
    waiting: int


@dataclass(frozen=True)
class Value:
    """A number of one picture or series.

    Attributes:
        key: name of the shot or series.
        concepts: in it, joined.
        prompt: of the shot; prompts of several seeds are one.
        number: the value; None where it could not be measured.
    """

    key: str
    concepts: str
    prompt: str
    number: float | None


@dataclass(frozen=True)
class Difference:
    """How far ours is above a rival on the pictures that both drew.

    Attributes:
        estimate: ours minus the rival, turned so that above 0 is better; None where there is no pair.
        verdict: what may be said of it.
    """

    estimate: Estimate | None
    verdict: Verdict


def find_method(results: Results, name: str) -> MethodRecord | None:
    """Give a method's record, None where it did not compete."""
    return next((method for method in results.methods if method.name == name), None)


def list_values(
    results: Results, method: MethodRecord, metric: str, part: Part, keep: Callable[[ShotRecord], bool] | None = None
) -> list[Value]:
    """List what a method's pictures or series scored.

    Args:
        results: of the benchmark.
        method: one of its methods.
        metric: a key of METRICS.
        part: one concept or several.
        keep: shots that count; None counts all. A series counts where one of its shots does.

    Returns:
        One for each picture or series that is there.
    """
    shots = {shot.name: shot for shot in results.suite.shots if shot.part == part and (keep is None or keep(shot))}
    if METRICS[metric].of == "series":
        first = {shot.series: shot for shot in reversed(shots.values()) if shot.series is not None}
        return [
            Value(one.series, "+".join(one.concepts), first[one.series].prompt, one.values.get(metric))
            for one in method.series
            if one.series in first
        ]
    return [
        Value(one.shot, "+".join(shots[one.shot].concepts), shots[one.shot].prompt, one.values.get(metric))
        for one in method.pictures
        if one.shot in shots
    ]


def estimate_part(
    results: Results, method: MethodRecord, metric: str, part: Part, keep: Callable[[ShotRecord], bool] | None = None
) -> Estimate | None:
    """Estimate a method's mean under a metric.

    Args:
        results: of the benchmark.
        method: one of its methods.
        metric: a key of METRICS.
        part: one concept or several.
        keep: shots that count; None counts all.

    Returns:
        The mean with its 95 % interval, drawn over concepts (or groups) first, then prompts; None without a value.
    """
    values = list_values(results, method, metric, part, keep)
    return estimate_cells(collect_cells((one.concepts, one.prompt, one.number) for one in values))


def measure_change(single: Estimate | None, multi: Estimate | None) -> Estimate | None:
    """Estimate what several concepts in a picture change.

    The two parts share no picture, so the interval is put together from theirs as for independent means.

    Source: the square-and-add method (Newcombe 1998; Zou and Donner 2008).

    >>> measure_change(Estimate(0.7, 0.6, 0.8, 9), Estimate(0.5, 0.4, 0.6, 9)).mean
    -0.2

    Args:
        single: mean with one concept.
        multi: mean with several.

    Returns:
        Multi minus single; None where one is missing.
    """
    if single is None or multi is None:
        return None
    change = round(multi.mean - single.mean, 12)
    low = change - math.hypot(multi.mean - multi.low, single.high - single.mean)
    high = change + math.hypot(multi.high - multi.mean, single.mean - single.low)
    return Estimate(change, low, high, min(single.count, multi.count))


def compare_methods(results: Results, ours: MethodRecord, rival: MethodRecord, metric: str, part: Part) -> Difference:
    """Compare two methods on the pictures that both have.

    Args:
        results: of the benchmark.
        ours: the one.
        rival: the other.
        metric: a key of METRICS.
        part: one concept or several.

    Returns:
        The paired difference.
    """
    estimate = _pair(results, ours, rival, metric, part)
    return _judge(results, ours, rival, estimate, metric, (part,))


def compare_changes(results: Results, ours: MethodRecord, rival: MethodRecord, metric: str) -> Difference:
    """Compare what two methods lose from one concept to several.

    Args:
        results: of the benchmark.
        ours: the one.
        rival: the other.
        metric: a key of METRICS.

    Returns:
        Our change minus the rival's: above 0, ours loses less.
    """
    single, multi = (_pair(results, ours, rival, metric, part) for part in PARTS)
    return _judge(results, ours, rival, measure_change(single, multi), metric, PARTS)


def judge_difference(estimate: Estimate | None, validated: bool | None) -> Verdict:
    """Say what a difference allows to say.

    A rival that was perhaps built badly is never counted as beaten, but it may win. The interval counts as it is
    printed, so that nothing is ahead by less than can be read.

    Args:
        estimate: ours minus the rival's, above 0 is better.
        validated: whether the rival's single-concept identity reaches what is asked of it; None where nobody knows.

    Returns:
        The verdict.
    """
    if estimate is None:
        return "no number"
    if estimate.low == estimate.high:
        return "not told apart"  # one draw alone has no interval
    if round_number(estimate.high) < 0:
        return "behind"
    if round_number(estimate.low) <= 0:
        return "not told apart"
    if validated is None:
        return "not checked"
    return "ahead" if validated else "not validated"


def list_rivals(results: Results) -> list[MethodRecord]:
    """List the methods that ours is compared with, in the order of the results; ours with less among them."""
    return [method for method in results.methods if method.name != OURS]


def has_numbers(results: Results, metric: str, part: Part) -> bool:
    """Say whether any method has a number under a metric."""
    return any(
        one.number is not None for method in results.methods for one in list_values(results, method, metric, part)
    )


def list_failed(method: MethodRecord) -> set[str]:
    """List the shots that a method could not draw, or that could not be scored."""
    return {name for failure in method.failures for name in failure.shots} - list_whole(method)


def list_whole(method: MethodRecord) -> set[str]:
    """List the shots that a method drew, without those whose scoring failed."""
    unscored = {name for failure in method.failures if failure.stage == "score" for name in failure.shots}
    return {one.shot for one in method.pictures} - unscored


def count_missing(results: Results, method: MethodRecord, part: Part | None = None) -> Missing:
    """Count the suite's pictures that a method did not draw or that could not be scored, in one part or both."""
    drawn, lost = list_whole(method), list_failed(method)
    missing = [shot.name for shot in results.suite.shots if part in (None, shot.part) and shot.name not in drawn]
    failed = sum(name in lost for name in missing)
    return Missing(failed, len(missing) - failed)


def tell_absence(
    results: Results,
    method: MethodRecord,
    parts: Sequence[Part] = PARTS,
    metric: str | None = None,
    keep: Callable[[ShotRecord], bool] | None = None,
) -> Absence:
    """Say why a method has no number where it should have one.

    Args:
        results: of the benchmark.
        method: one of its methods.
        parts: that the number is of.
        metric: a key of METRICS; one of series needs whole series, any other single pictures.
        keep: shots that count; None counts all.

    Returns:
        That it has not run yet in one of these parts, or failed on all that it was asked for there; "" where it drew
        something, or where nothing was asked for, so that the number is missing for another reason.
    """
    drawn, lost = list_whole(method), list_failed(method)
    in_series = metric is not None and METRICS[metric].of == "series"
    for part in parts:
        asked: dict[str | None, set[str]] = {}
        for shot in results.suite.shots:
            if shot.part == part and (keep is None or keep(shot)):
                asked.setdefault(shot.series if in_series else shot.name, set()).add(shot.name)
        asked.pop(None, None)
        if asked and not any(names <= drawn for names in asked.values()):
            return "failed" if all(names & lost for names in asked.values()) else "not run yet"
    return ""


def find_best(estimates: Sequence[Estimate | None], allowed: Sequence[bool], higher: bool, digits: int) -> set[int]:
    """Find the places of the best means, as they will be printed.

    Args:
        estimates: one a method.
        allowed: which may be best.
        higher: whether more is better.
        digits: that are printed; equal in print is equally good.

    Returns:
        Places; empty where nothing is comparable.
    """
    shown = {
        place: round(one.mean, digits)
        for place, (one, may) in enumerate(zip(estimates, allowed, strict=True))
        if one is not None and may
    }
    if len(shown) < 2:
        return set()
    best = (max if higher else min)(shown.values())
    return {place for place, value in shown.items() if value == best}


def _judge(
    results: Results,
    ours: MethodRecord,
    rival: MethodRecord,
    estimate: Estimate | None,
    metric: str,
    parts: Sequence[Part],
) -> Difference:
    if estimate is not None:
        return Difference(estimate, judge_difference(estimate, rival.validated))
    absence = tell_absence(results, rival, parts, metric) or tell_absence(results, ours, parts, metric)
    return Difference(None, absence or "no number")


def _pair(results: Results, ours: MethodRecord, rival: MethodRecord, metric: str, part: Part) -> Estimate | None:
    first = {one.key: one for one in list_values(results, ours, metric, part) if one.number is not None}
    second = {one.key: one for one in list_values(results, rival, metric, part) if one.number is not None}
    both = [key for key in first if key in second]
    ours_cells, rival_cells = (
        collect_cells((one[key].concepts, one[key].prompt, one[key].number) for key in both) for one in (first, second)
    )
    found = paired_difference(ours_cells, rival_cells) if both else None
    if found is None or METRICS[metric].higher_is_better:
        return found
    return Estimate(-found.mean, -found.high, -found.low, found.count)
