"""Lay scores out for people: tables of pictures, means with intervals, and differences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.markup import escape
from rich.table import Column, Table

from d2plan.cli.tell import spell_out
from d2plan.documents import InstanceScore, Score
from d2plan.eval.measure import Values
from d2plan.eval.metrics import Estimate
from d2plan.eval.names import MEASURES
from d2plan.workflows.scoring.folders import ScoredSet
from d2plan.workflows.scoring.report import compare_sets, summarise_set

YES, NO, UNSAID = "yes", "NO", "-"
MOST_ROWS = 60
_OF_PICTURE = ("text", "image", "dino")
_LEGEND = "cosines, as in the file of scores; text_scaled, 2.5 times text, is among the means"
_FAULTS = "the first four are faults, of who takes part in the frames between two keyframes: the fewer the better"
_OF_FRAMES = (
    "subject_missing",
    "visual_confusion",
    "attribute_misbinding",
    "action_misbinding",
    "identity",
)
_OF_INSTANCE = ("text_instance", "image_instance", "dino_instance", "identity")


def judged_table(scores: Sequence[Score], title: str = "What the judge sees") -> Table:
    """Lay out what the judge says, one line an instance.

    Args:
        scores: of pictures.
        title: of the table.

    Returns:
        The table.
    """
    columns = ("picture", "place", "count", "instance", "present", "attributes", "swapped", "similar", "rank of 20")
    table = Table(*columns, title=_plain(title))
    for score in scores[:MOST_ROWS]:
        first = (_plain(score.picture), _say(score.place), f"{score.seen_count} of {score.expected_count or UNSAID}")
        if not score.instances:
            table.add_row(*first, *[UNSAID] * 6)
        for one in score.instances:
            table.add_row(*first, *_write_instance(one))
            first = ("", "", "")
    _say_more(table, len(scores))
    return table


def alignment_table(scored: ScoredSet) -> Table:
    """Lay out what the encoders say, one line an instance.

    Args:
        scored: a set of pictures.

    Returns:
        The table; its columns have the names that the file of scores and docs/metrics.md have.
    """
    table = Table("picture", *_OF_PICTURE, "instance", *_OF_INSTANCE, title=_plain(scored.title), caption=_LEGEND)
    for item, measured in list(zip(scored.items, scored.measured, strict=True))[:MOST_ROWS]:
        first = (_plain(item.name), *_write_values(measured.values, _OF_PICTURE))
        if not item.expected.instances:
            table.add_row(*first, *[UNSAID] * 5)
        for want, found, values in zip(item.expected.instances, measured.found, measured.instances, strict=True):
            name = _plain(want.concept or want.class_word) + (" (not found)" if found is False else "")
            table.add_row(*first, name, *_write_values(values, _OF_INSTANCE))
            first = ("", "", "", "")
    _say_more(table, len(scored.items))
    return table


def film_table(scored: ScoredSet) -> Table:
    """Lay out the frames between keyframes, one line a segment: means over its frames and who is in them.

    Args:
        scored: frames of films, and the films as its series.

    Returns:
        The table; its columns have the names that the file of scores and docs/metrics.md have.
    """
    segments = Column("segment", overflow="fold")
    table = Table(segments, "frames", *_OF_FRAMES, title=_plain(scored.title), caption=_FAULTS)
    pairs = list(zip(scored.items, scored.measured, strict=True))
    for segment in dict.fromkeys(item.prompt for item in scored.items):
        own = [values for item, measured in pairs if item.prompt == segment for values in measured.instances]
        count = sum(item.prompt == segment for item in scored.items)
        table.add_row(_plain(segment), str(count), *_write_values(_average(own), _OF_FRAMES))
    return table


def _average(rows: Sequence[Values]) -> Values:
    means: Values = {}
    for name in _OF_FRAMES:
        known = [value for row in rows if (value := row.get(name)) is not None]
        means[name] = sum(known) / len(known) if known else None
    return means


def summary_table(sets: Sequence[ScoredSet], seed: int = 0) -> Table:
    """Lay out the means, and the differences where there are two sets.

    Args:
        sets: one or two.
        seed: of the intervals.

    Returns:
        The table; its first column holds the names that the file of scores has too.
    """
    summaries = [summarise_set(one, seed) for one in sets]
    heads = [column for one in sets for column in (_plain(one.title), "95 % interval", "values")]
    differences: Mapping[str, Estimate] = compare_sets(sets[0], sets[1], seed) if len(sets) == 2 else {}
    heads += ["difference", "95 % interval"] if len(sets) == 2 else []
    table = Table("name", "what", *heads, title="Means")
    for name, measure in MEASURES.items():
        if not any(name in summary for summary in summaries):
            continue
        cells = [cell for summary in summaries for cell in _write_estimate(summary.get(name))]
        if len(sets) == 2:
            cells += _write_difference(differences.get(name))
        table.add_row(name, measure.title + (" (less is better)" if measure.better < 0 else ""), *cells)
    for kind, cells in _distance_rows(sets):
        table.add_row(kind, MEASURES[kind].title + " (less is better)", *cells)
    return table


def _distance_rows(sets: Sequence[ScoredSet]) -> Iterator[tuple[str, list[str]]]:
    for kind in dict.fromkeys(kind for one in sets for kind in one.distances):
        for name in ("fid", "kid"):
            cells = []
            for one in sets:
                found = one.distances.get(kind)
                value = UNSAID if found is None else f"{getattr(found, name):.3g}"
                cells += [value, UNSAID, UNSAID if found is None else str(found.count)]
            yield f"{name}_{kind}", cells + ([UNSAID, UNSAID] if len(sets) == 2 else [])


def _write_estimate(value: Estimate | None) -> list[str]:
    if value is None:
        return [UNSAID, UNSAID, "0"]
    # One value alone says nothing of how sure it is.
    interval = UNSAID if value.count < 2 else f"{value.low:.3f} .. {value.high:.3f}"
    return [f"{value.mean:.3f}", interval, str(value.count)]


def _write_difference(value: Estimate | None) -> list[str]:
    if value is None:
        return [UNSAID, UNSAID]
    sure = value.count > 1 and (value.low > 0 or value.high < 0)
    interval = UNSAID if value.count < 2 else f"{value.low:+.3f} .. {value.high:+.3f}{' *' if sure else ''}"
    return [f"{value.mean:+.3f}", interval]


def _write_values(values: Values, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(UNSAID if (value := values.get(name)) is None else f"{value:.3f}" for name in names)


def _write_instance(one: InstanceScore) -> tuple[str, ...]:
    similar = UNSAID if one.similarity is None else f"{one.similarity:.2f}"
    name = _plain(f"{one.concept} ({one.class_word})" if one.concept else one.class_word)
    rank = UNSAID if one.rank is None else str(one.rank)
    return name, _say(one.present), _say(one.attributes), _say(one.swapped), similar, rank


def _say_more(table: Table, count: int) -> None:
    if count > MOST_ROWS:
        more = f"{count - MOST_ROWS} more pictures are in the file of scores"
        table.caption = f"{table.caption}\n{more}" if table.caption else more


def _say(value: bool | None) -> str:
    return UNSAID if value is None else YES if value else NO


def _plain(text: str) -> str:
    """Keep a terminal from taking what stands in a name for a command of its own."""
    return escape(spell_out(text))
