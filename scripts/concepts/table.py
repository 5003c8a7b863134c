"""What was measured, and with what: records, their table, settings, machine, the log of test runs. No torch here."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TypeVar

from concepts.plan import BASE, COMPOSED, MERGED, METHODS, ONE, TRUTH, TWO, digest

from d2plan.config import DisLoRASettings, IspSettings
from d2plan.documents import Score
from d2plan.errors import InputError
from d2plan.eval.metrics import Estimate, estimate
from d2plan.media.images import write_file

SettingsT = TypeVar("SettingsT", DisLoRASettings, IspSettings)
Record = dict[str, object]
Table = dict[tuple[str, str], dict[str, Estimate]]

FIRST, ATTRIBUTE, SWAPS = "right one first of 20", "attribute on the right one", "swaps"
COLUMNS: dict[str, Callable[[Score], Sequence[float | None]]] = {
    FIRST: lambda score: [None if one.rank is None else one.rank == 1 for one in score.instances],
    "first among near": lambda score: [
        None if one.rank_near is None else one.rank_near == 1 for one in score.instances
    ],
    "first among far": lambda score: [None if one.rank_far is None else one.rank_far == 1 for one in score.instances],
    "present": lambda score: [one.present for one in score.instances],
    ATTRIBUTE: lambda score: [one.attributes for one in score.instances],
    SWAPS: lambda score: [one.swapped for one in score.instances],
    "place": lambda score: [score.place],
}
TITLES = {
    (ONE, COMPOSED): "one concept: d2plan",
    (ONE, BASE): "one concept: base without adapter",
    (ONE, MERGED): "one concept: its LoRA, one prompt",
    (ONE, TRUTH): "one concept: the world's own pictures",
    (TWO, COMPOSED): "two concepts: d2plan",
    (TWO, BASE): "two concepts: base without adapters",
    (TWO, MERGED): "two concepts: both LoRAs merged, one prompt",
    (TWO, TRUTH): "two concepts: the world's own pictures",
}
# Part, column, bound, and whether it is the least (else the most), for d2plan's own rows.
GOALS = ((ONE, FIRST, 0.85, True), (TWO, FIRST, 0.75, True), (TWO, ATTRIBUTE, 0.75, True), (TWO, SWAPS, 0.05, False))
ROOT = Path(__file__).resolve().parents[2]
LOG_HEADING = "## Runs on test seeds"


def read_records(path: Path) -> list[Record]:
    """Read the records that are whole; a line that was cut short by a stop is passed over."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and "kind" in record and "key" in record:
            records.append(record)
    return records


def add_record(path: Path, record: Record) -> None:
    """Append a record; after a line that was cut short it begins a new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write((json.dumps(record) + "\n").encode())


def find_open(keys: Iterable[str], records: Iterable[Record], kind: str) -> list[str]:
    """List the keys that no record of a kind has, in their order."""
    done = {record["key"] for record in records if record["kind"] == kind}
    return [key for key in keys if key not in done]


def make_table(records: Iterable[Record], keys: Collection[str]) -> Table:
    """Average scores by part and method.

    Args:
        records: of all kinds and runs.
        keys: of the scores that count.

    Returns:
        By part and method, column to estimate; what has no value is left out.
    """
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        if record["kind"] == "scored" and record["key"] in keys:
            groups.setdefault((str(record["part"]), str(record["method"])), []).append(record)
    table = {place: make_row(own, keys)[1] for place, own in groups.items()}
    return {place: table[place] for part in (ONE, TWO) for method in METHODS if (place := (part, method)) in table}


def make_row(records: Iterable[Record], keys: Collection[str]) -> tuple[int, dict[str, Estimate]]:
    """Average scores, with 95 % intervals drawn over concepts or pairs, whose pictures are not independent.

    Args:
        records: of all kinds and runs.
        keys: of the scores that count.

    Returns:
        How many pictures there are, and column to estimate; a column without a value is left out.
    """
    chosen = {str(record["key"]): record for record in records if record["kind"] == "scored" and record["key"] in keys}
    groups: dict[str, list[Score]] = {}
    for record in chosen.values():
        groups.setdefault(str(record["group"]), []).append(Score.model_validate(record["score"]))
    found = {title: estimate([_known(read, group) for group in groups.values()]) for title, read in COLUMNS.items()}
    return len(chosen), {title: value for title, value in found.items() if value is not None}


def _known(read: Callable[[Score], Sequence[float | None]], scores: Sequence[Score]) -> list[float]:
    return [float(value) for score in scores for value in read(score) if value is not None]


def write_markdown(table: Table, images: Mapping[tuple[str, str], int]) -> str:
    """Write the table.

    Args:
        table: from ``make_table``.
        images: how many pictures each row has.

    Returns:
        Markdown: means, with 95 % intervals in brackets; a line for each goal follows.
    """
    rows = write_rows("", {TITLES[place]: (images.get(place, 0), row) for place, row in table.items()})
    lines = [rows, "| goal (d2plan) | measured | holds |", "|---|---|---|"]
    for goal in check_goals(table):
        lines.append(f"| {goal['goal']} | {goal['measured']} | {goal['holds']} |")
    return "\n".join(lines) + "\n"


def write_estimates(rows: Mapping[str, Mapping[str, Estimate]], columns: Mapping[str, str]) -> str:
    """Write a Markdown table of estimates in percent, by the rows' titles; ``columns`` gives the columns' titles."""
    lines = [f"| | {' | '.join(columns.values())} |", f"|---|{'---|' * len(columns)}"]
    for title, row in rows.items():
        lines.append(f"| {title} | {' | '.join(_show(row[name]) if name in row else '-' for name in columns)} |")
    return "\n".join(lines) + "\n"


def write_rows(corner: str, rows: Mapping[str, tuple[int, Mapping[str, Estimate]]]) -> str:
    """Write a Markdown table of rows made by ``make_row``, by their titles."""
    lines = [f"| {corner} | images | {' | '.join(COLUMNS)} |", f"|---|---|{'---|' * len(COLUMNS)}"]
    for name, (count, row) in rows.items():
        cells = [_show(row[title]) if title in row else "-" for title in COLUMNS]
        lines.append(f"| {name} | {count} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _show(value: Estimate) -> str:
    return f"{100 * value.mean:.1f} % ({100 * value.low:.1f}-{100 * value.high:.1f})"


def average_seconds(records: Iterable[Record], keys: Collection[str]) -> dict[str, float]:
    """Tell how long a training and a picture of each kind took on average, as far as they have one of the keys."""
    spent: dict[str, list[float]] = {}
    for record in records:
        if record["key"] in keys and record["kind"] in ("trained", "drawn"):
            drawn = record["kind"] == "drawn"
            title = f"a picture, {record['part']}, {record['method']}" if drawn else "a training"
            spent.setdefault(title, []).append(float(str(record["seconds"])))
    return {title: round(sum(values) / len(values), 2) for title, values in spent.items()}


def check_goals(table: Table) -> list[dict[str, str]]:
    """Compare the means with what must hold."""
    lines = []
    for part, column, bound, least in GOALS:
        found = table.get((part, COMPOSED), {}).get(column)
        holds = None if found is None else (found.mean >= bound if least else found.mean <= bound)
        lines.append(
            {
                "goal": f"{part}: {column} {'>=' if least else '<='} {100 * bound:.0f} %",
                "measured": "-" if found is None else _show(found),
                "holds": "not measured" if holds is None else "yes" if holds else "no",
            }
        )
    return lines


def begin_run(script: str, facts: Mapping[str, object], settings: Mapping[str, object], said: str) -> dict[str, object]:
    """Say what a run is made with; one on test seeds is logged in the notebook.

    Args:
        script: its file's name.
        facts: what its numbers depend on: the base's fingerprint, and those of the code.
        settings: of the run, ``seeds`` among them.
        said: the settings in words.

    Returns:
        All of it, with machine, commit and the run's key; machine and commit are not part of the key.
    """
    key, commit = digest({**facts, **settings}), read_commit()
    if settings["seeds"] == "test":
        where = f"base {facts['base']}, commit {commit}, run {key}"
        line = f"- {datetime.date.today()}: `scripts/{script} --seeds test`, {said}, {where}."
        log_test_run(ROOT / "docs" / "lab-notebook.md", line, key)
    return {"machine": describe_machine(), "commit": commit, **facts, **settings, "run": key}


def log_test_run(notebook: Path, line: str, key: str) -> bool:
    """Write a run on test seeds into the notebook's log, once.

    Args:
        notebook: the file.
        line: what to say of the run; holds the key.
        key: of the run.

    Returns:
        Whether it was not there yet.
    """
    text = notebook.read_text(encoding="utf-8") if notebook.is_file() else "# Lab notebook\n"
    if key in text:
        return False
    if f"{LOG_HEADING}\n" not in text:
        text = f"{text.rstrip()}\n\n{LOG_HEADING}\n"
    before, after = text.split(f"{LOG_HEADING}\n", 1)
    own, heading, rest = after.partition("\n## ")
    own = f"{own.strip()}\n{line}".strip()
    write_file(notebook, f"{before}{LOG_HEADING}\n\n{own}\n{heading}{rest}".encode())
    return True


def change_settings(settings: SettingsT, changes: Sequence[str], allowed: Sequence[str] = ()) -> SettingsT:
    """Change settings by texts such as "steps=100".

    Args:
        settings: what to start from.
        changes: name and value.
        allowed: the names that may be changed; all without it.

    Returns:
        The changed settings.

    Raises:
        InputError: a name is unknown or a value cannot be used.
    """
    known = [one.name for one in fields(settings) if not allowed or one.name in allowed]
    values: dict[str, object] = {}
    for change in changes:
        name, _, text = change.partition("=")
        if name not in known:
            raise InputError(f"{change}: {name} is no setting here; use {', '.join(known)}.")
        value = getattr(settings, name)
        kind = float if value is None else type(value)
        try:
            values[name] = text if kind is str else kind(json.loads(text))
        except (ValueError, TypeError) as error:
            raise InputError(f"{change}: write a {kind.__name__} behind the sign.") from error
    return replace(settings, **values)  # type: ignore[arg-type]  # each value has its field's kind


def describe_machine() -> str:
    """Name processor and cores."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").is_file() else ""
    model = next((line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name")), "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model or platform.machine()}, {cores} cores"


def read_commit() -> str:
    """Name the commit, and say so if files differ from it."""
    commands = (["git", "rev-parse", "--short=12", "HEAD"], ["git", "status", "--porcelain", "--untracked-files=no"])
    try:
        found = [subprocess.run(c, cwd=ROOT, capture_output=True, text=True, check=True).stdout for c in commands]
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found[0].strip() + ("+changes" if found[1].strip() else "")
