"""From scored pictures to means with intervals, paired differences, and the file that keeps them."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from d2plan.errors import FileError, InputError
from d2plan.eval.metrics import Estimate
from d2plan.eval.names import MEASURES
from d2plan.eval.statistics import collect_cells, estimate_cells, paired_difference
from d2plan.media.images import check_output, write_file
from d2plan.workflows.scoring.folders import Scored, ScoredSet
from d2plan.workflows.scoring.sources import ScoreRequest

FORMAT = "d2plan-scores-2"
Row = tuple[str, str, str, float | None]
JSON, CSV = ".json", ".csv"
COLUMNS = ("set", "of", "item", "concept", "prompt", "name", "encoder", "value", "low", "high", "count")


def list_rows(scored: ScoredSet, name: str) -> list[Row]:
    """List the numbers of one name.

    Args:
        scored: a set of pictures.
        name: a key of ``eval.names.MEASURES``.

    Returns:
        What the number belongs to (the same in two sets), its concept or concepts, its prompt, and the number.
    """
    kind = MEASURES[name].of
    if kind == "series":
        return [(one.name, one.concepts, one.name, one.values.get(name)) for one in scored.series if name in one.values]
    rows: list[Row] = []
    for item, measured in zip(scored.items, scored.measured, strict=True):
        if kind == "picture" and name in measured.values:
            rows.append((item.key, item.concepts, item.prompt, measured.values[name]))
        if kind == "instance":
            rows += [
                (f"{item.key} {place}", want.concept or want.class_word, item.prompt, values[name])
                for place, (want, values) in enumerate(zip(item.expected.instances, measured.instances, strict=True))
                if name in values
            ]
    return rows


def summarise_set(scored: ScoredSet, seed: int = 0) -> dict[str, Estimate]:
    """Average each number over a set.

    Args:
        scored: a set of pictures.
        seed: of the intervals.

    Returns:
        Name to mean with its 95 % interval, drawn over concepts first, then prompts; in the order of MEASURES. Names
        without a number are left out.
    """
    table = {name: estimate_cells(collect_cells(row[1:] for row in list_rows(scored, name)), seed) for name in MEASURES}
    return {name: value for name, value in table.items() if value is not None}


def compare_sets(first: ScoredSet, second: ScoredSet, seed: int = 0) -> dict[str, Estimate]:
    """Compare two methods on the pictures that both have.

    Args:
        first: the one.
        second: the other.
        seed: of the intervals.

    Returns:
        Name to first minus second, paired picture by picture, with its 95 % interval.
    """
    found: dict[str, Estimate] = {}
    for name in MEASURES:
        sides = [{row[0]: row for row in list_rows(one, name) if row[3] is not None} for one in (first, second)]
        both = [key for key in sides[0] if key in sides[1]]
        # The concept and prompt of the first side name the pair: the second may word its prompt in its own way.
        cells = [collect_cells((sides[0][key][1], sides[0][key][2], side[key][3]) for key in both) for side in sides]
        difference = paired_difference(cells[0], cells[1], seed) if both else None
        if difference is not None:
            found[name] = difference
    return found


def describe_request(request: ScoreRequest) -> dict[str, object]:
    """Say in plain values what was asked, so that the same question can be known again."""
    content = asdict(request)
    content["references"] = {name: str(folder) for name, folder in sorted(request.references.items())}
    for name in ("paths", "against"):
        content[name] = [str(path) for path in getattr(request, name)]
    for name in ("real", "judge", "prompts"):
        content[name] = None if content[name] is None else str(content[name])
    return content


def check_scores(out: Path, request: ScoreRequest, overwrite: bool = False) -> None:
    """Refuse the name of the file for scores before any work is done for it.

    Scores of the same question may be replaced: nothing is lost that is not made again.

    Args:
        out: the file.
        request: what is asked now.
        overwrite: allow any file.

    Raises:
        InputError: the name ends in something else than .json or .csv.
        FileError: something else is there, or the folder is missing.
    """
    if out.suffix.lower() not in (JSON, CSV):
        raise InputError(
            f"--out {out}: ends in neither {JSON} (all that is known) nor {CSV} (a line a number); name such a file."
        )
    if not out.parent.is_dir():
        raise FileError(f"{out}: its folder does not exist; make it or give another --out.")
    check_output(out, overwrite=True)
    if not overwrite and os.path.lexists(out) and not _is_same_question(out, request):
        raise FileError(
            f"{out}: is there already and holds no scores of this question; name another file with --out, or replace "
            "it with --overwrite."
        )


def _is_same_question(out: Path, request: ScoreRequest) -> bool:
    if not out.is_file():
        return False
    try:
        content = json.loads(out.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    asked = json.loads(json.dumps(describe_request(request)))
    return isinstance(content, dict) and content.get("format") == FORMAT and content.get("asked") == asked


def write_scores(out: Path, request: ScoreRequest, scored: Scored) -> None:
    """Write all numbers, as JSON or, where the file's name ends in .csv, as a table with a line a number.

    Args:
        out: the file; replaced when it is there.
        request: what was asked.
        scored: what was found.

    Raises:
        FileError: the file cannot be written.
    """
    if out.suffix.lower() == CSV:
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows([COLUMNS, *_list_lines(scored, request.seed)])
        write_file(out, stream.getvalue().encode())
        return
    sets = [_describe_set(one, request.seed) for one in scored.sets]
    content: dict[str, object] = {
        "format": FORMAT,
        "asked": describe_request(request),
        "encoders": dict(scored.encoders),
        "notes": list(scored.notes),
        "sets": sets,
    }
    if len(scored.sets) == 2:
        content["differences"] = _plain(compare_sets(scored.sets[0], scored.sets[1], request.seed))
    if scored.films:
        content["films"] = [_describe_set(one, request.seed) for one in scored.films]
    if len(scored.films) == 2:
        content["film_differences"] = _plain(compare_sets(scored.films[0], scored.films[1], request.seed))
    write_file(out, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def _list_lines(scored: Scored, seed: int) -> Iterator[tuple[object, ...]]:
    """Give the lines of the table: means and differences first, then each number of each picture."""

    def encoder_of(name: str) -> str:
        if MEASURES[name].encoder == "pixels":
            return ""
        return scored.encoders.get(MEASURES[name].encoder) or scored.encoders.get("finder", "")

    for title, of, estimates in _list_averages(scored, seed):
        for name, mean in estimates.items():
            yield (title, of, "", "", "", name, encoder_of(name), mean.mean, mean.low, mean.high, mean.count)
    for one in (*scored.sets, *scored.films):
        for kind, distance in one.distances.items():
            for part in ("fid", "kid"):
                name = f"{part}_{kind}"
                value = getattr(distance, part)
                yield (one.title, "set", "", "", "", name, encoder_of(name), value, "", "", distance.count)
        for name, measure in MEASURES.items():
            for item, concept, prompt, number in list_rows(one, name):
                yield (one.title, measure.of, item, concept, prompt, name, encoder_of(name), number, "", "", "")


def _list_averages(scored: Scored, seed: int) -> Iterator[tuple[str, str, Mapping[str, Estimate]]]:
    for one in (*scored.sets, *scored.films):
        yield one.title, "mean", summarise_set(one, seed)
    for pair in (scored.sets, scored.films):
        if len(pair) == 2:
            yield f"{pair[0].title} - {pair[1].title}", "difference", compare_sets(pair[0], pair[1], seed)


def _describe_set(scored: ScoredSet, seed: int) -> dict[str, object]:
    return {
        "title": scored.title,
        "summary": _plain(summarise_set(scored, seed)),
        "distances": {kind: asdict(one) for kind, one in scored.distances.items()},
        "pictures": [
            {
                "picture": item.name,
                "prompt": item.text,
                "values": measured.values,
                "instances": [
                    {"concept": want.concept, "class_word": want.class_word, "found": found, "values": values}
                    for want, found, values in zip(
                        item.expected.instances, measured.found, measured.instances, strict=True
                    )
                ],
            }
            for item, measured in zip(scored.items, scored.measured, strict=True)
        ],
        "series": [asdict(one) for one in scored.series],
        "scores": [score.model_dump() for score in scored.judged],
    }


def _plain(estimates: Mapping[str, Estimate]) -> dict[str, dict[str, float]]:
    return {name: asdict(value) for name, value in estimates.items()}
