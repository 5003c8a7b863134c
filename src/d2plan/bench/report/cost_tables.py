"""The tables beside the scores: what it cost, what failed, which settings ran, and what made each number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from d2plan.bench.records import METRICS, Cost, LearnRecord, MethodRecord, Part, Results, TunedSetting
from d2plan.bench.report.comparison import PARTS, count_missing, tell_absence
from d2plan.bench.report.score_tables import PART_TITLES, name_method, name_metric
from d2plan.bench.report.tables import NOTHING, Cell, Column, Table, write_number

_MIB, _UNTOLD = 2**20, "where nobody noted it"
_STAGES = {"learn": "learning", "join": "joining", "draw": "drawing", "score": "scoring"}


def make_drawing_costs(results: Results) -> Table:
    """Make the table of what a picture costs: U-Net rows, seconds, memory."""
    columns = [Column("Method", words=True)]
    rows = [[name_method(results, method)] for method in results.methods]
    parts = [part for part in PARTS if any(shot.part == part for shot in results.suite.shots)]
    for part in parts:
        columns += [Column(title, f"A picture with {PART_TITLES[part]}") for title in ("U-Net rows", "seconds")]
        for row, method in zip(rows, results.methods, strict=True):
            costs, absence = list_costs(results, method, part), tell_absence(results, method, (part,))
            row += [
                _write_mean((cost.unet_rows for cost in costs), 0, absence),
                _write_mean((cost.seconds for cost in costs), 2, absence),
            ]
    columns.append(Column("MiB", "Peak memory"))
    for row, method in zip(rows, results.methods, strict=True):
        row.append(_write_peak((one.cost for one in method.pictures), tell_absence(results, method)))
    drawing = results.drawing
    note = (
        f"{drawing.steps} steps, guidance {drawing.guidance_scale:g}, {drawing.height} x {drawing.width} px, "
        f"{drawing.precision}. A U-Net row is one sample through the U-Net once; plain guidance takes two a step. "
        "Seconds are those of the call divided by its pictures. Peak memory is that of the whole process, or of the "
        "accelerator. "
        + _tell_machines(results, {method.title: [one.cost for one in method.pictures] for method in results.methods})
    )
    return Table("cost", "What a picture costs", note, tuple(columns), tuple(tuple(row) for row in rows))


def make_learning_costs(results: Results) -> Table:
    """Make the table of what a concept costs: training and, where a method needs it, joining."""
    columns = (
        Column("Method", words=True),
        *(Column(title, "Learning a concept") for title in ("seconds", "U-Net rows", "peak MiB", "MiB of file")),
        *(Column(title, "Joining a group") for title in ("seconds", "U-Net rows", "MiB of file")),
    )
    rows = []
    for method in results.methods:
        learned, joined = method.learned, method.joined
        no_state, no_join = tell_absence(results, method), tell_absence(results, method, ("multi",))
        rows.append(
            (
                name_method(results, method),
                _write_mean((one.cost.seconds for one in learned), 1, no_state),
                _write_mean((one.cost.unet_rows for one in learned), 0, no_state),
                _write_peak((one.cost for one in learned), no_state),
                _write_mean((one.state_bytes / _MIB for one in learned), 2, no_state),
                _write_mean((one.cost.seconds for one in joined), 1, no_join),
                _write_mean((one.cost.unet_rows for one in joined), 0, no_join),
                _write_mean((one.state_bytes / _MIB for one in joined), 2, no_join),
            )
        )
    costs = {method.title: [one.cost for one in (*method.learned, *method.joined)] for method in results.methods}
    note = "Means over concepts and groups; a dash: the method needs none. "
    note += f"{_tell_machines(results, costs)} {_tell_sharing(results)}".strip()
    return Table("learning", "What a concept costs", note, columns, tuple(rows))


def list_costs(results: Results, method: MethodRecord, part: Part) -> list[Cost]:
    """List what a method's pictures of a part cost."""
    names = {shot.name for shot in results.suite.shots if shot.part == part}
    return [one.cost for one in method.pictures if one.shot in names]


def mean_seconds(records: Sequence[LearnRecord]) -> float | None:
    """Give the mean time of learning or joining; None without any."""
    return fmean(one.cost.seconds for one in records) if records else None


def make_failures(results: Results) -> Table:
    """Make the table of what went wrong; it has no rows where nothing did."""
    rows = [
        (
            Cell(method.title),
            Cell(_STAGES[failure.stage]),
            Cell(" + ".join(failure.concepts) or NOTHING),
            Cell(str(len(failure.shots))),
            Cell(failure.message),
        )
        for method in results.methods
        for failure in method.failures
    ]
    columns = (
        Column("Method", words=True),
        Column("at", words=True),
        Column("concepts", words=True),
        Column("pictures lost"),
        Column("why", words=True),
    )
    return Table("failures", "What failed", "The rest went on; means are over what is there.", columns, tuple(rows))


def make_unmeasured(results: Results) -> Table:
    """Make the table of what was drawn but could not be measured, such as instances that were not found."""
    rows = []
    for method in results.methods:
        instances = [one for picture in method.pictures for one in picture.instances]
        looked = [one.values["present"] for one in instances if one.values.get("present") is not None]
        known = [one.values["identity_found"] for one in instances if "identity_found" in one.values]
        unscored = sum(not picture.values for picture in method.pictures)
        missing = count_missing(results, method)
        rows.append(
            (
                name_method(results, method),
                Cell(f"{len(method.pictures)} of {len(results.suite.shots)}"),
                Cell(str(missing.failed)),
                Cell(str(missing.waiting)),
                Cell(str(unscored)),
                Cell(f"{looked.count(0)} of {len(looked)}" if looked else NOTHING),
                Cell(f"{known.count(None)} of {len(known)}" if known else NOTHING),
            )
        )
    columns = (
        Column("Method", words=True),
        Column("pictures drawn"),
        Column("failed"),
        Column("not run yet"),
        Column("drawn without scores"),
        Column("instances without their class"),
        Column("instances whose identity was not found"),
    )
    note = "An instance that is not found counts 0 in Identity alignment and is left out of Identity where found."
    return Table("unmeasured", "What could not be measured", note, columns, tuple(rows))


def make_settings(results: Results) -> Table:
    """Make the table of settings: what ran, how it was chosen, and what else was tried."""
    rows = [
        (
            name_method(results, method),
            Cell(write_setting(method.setting)),
            Cell(method.chosen),
            Cell("; ".join(_write_trial(trial) for trial in method.tuning) or NOTHING),
        )
        for method in results.methods
    ]
    columns = tuple(
        Column(title, words=True) for title in ("Method", "setting", "chosen", "tried on development concepts")
    )
    note = (
        "What was compared in tuning: the mean of identity alignment and text alignment (x2.5), single and multi alike."
    )
    return Table("settings", "Settings", note, columns, tuple(rows))


def _tell_maker(results: Results, name: str) -> str:
    """Say who made a number: an encoder, and where a detector found what it looked at, that too."""
    metric, finder = METRICS[name], results.encoders.get("finder")
    source = results.encoders.get(metric.encoder)
    if finder is None:
        return source or "none: not measured"
    if name == "present":
        return finder
    # Without a judge it is "confused" alone.
    source = results.encoders.get(METRICS["confused"].encoder) if name == "swapped" else source
    if source is None:
        return "none: not measured"
    cut = (metric.of == "instance" and metric.encoder in ("clip", "dino")) or source.startswith("crops in ")
    return f"{source}, found by {finder}" if cut else source


def make_encoders(results: Results) -> Table:
    """Make the table of metrics: what each is, and which encoder made its numbers."""
    rows = [
        (
            Cell(name_metric(name)),
            Cell({"picture": "picture", "instance": "instance", "series": "series"}[metric.of]),
            Cell(_tell_maker(results, name)),
            Cell(metric.meaning),
        )
        for name, metric in METRICS.items()
    ]
    columns = tuple(Column(title, words=True) for title in ("Metric", "of a", "made by", "what it is"))
    return Table("encoders", "What made each number", "", columns, tuple(rows))


def make_sources(results: Results) -> Table:
    """Make the table of what each method follows."""
    rows = [(name_method(results, method), Cell(method.source), Cell(method.code)) for method in results.methods]
    columns = tuple(Column(title, words=True) for title in ("Method", "follows", "digest of its code"))
    return Table("sources", "What each method follows", "", columns, tuple(rows))


def write_setting(setting: dict[str, float]) -> str:
    """Write a setting on one line.

    >>> write_setting({"rate": 0.5, "steps": 200.0})
    'rate 0.5, steps 200'
    """
    return ", ".join(f"{name} {value:g}" for name, value in setting.items()) or NOTHING


def _write_trial(trial: TunedSetting) -> str:
    found = trial.trouble or (NOTHING if trial.value is None else write_number(trial.value))
    return f"{write_setting(trial.ran or trial.setting)}: {found}"


def _tell_machines(results: Results, costs: Mapping[str, Iterable[Cost]]) -> str:
    """Say where each method's costs were measured; seconds of two places are no comparison."""
    users: dict[str, list[str]] = {}
    for title, own in costs.items():
        for place in dict.fromkeys(cost.machine or _UNTOLD for cost in own):
            users.setdefault(place, []).append(title)
    if len(users) > 1:
        told = "; ".join(f"{place}: {', '.join(titles)}" for place, titles in users.items())
        return f"Seconds and memory compare only within one of the places where they were measured ({told})."
    place = next(iter(users), _UNTOLD)
    return f"Measured on {results.machine.place if place == _UNTOLD else place}."


def _tell_sharing(results: Results) -> str:
    shared: dict[str, list[str]] = {}
    for method in results.methods:
        for source in sorted({one.shared_from for one in method.learned if one.shared_from}):
            shared.setdefault(source, []).append(method.title)
    titles = {method.name: method.title for method in results.methods}
    return " ".join(
        f"{', '.join(users)} took what {titles.get(source, source)} had learnt; its cost is repeated."
        for source, users in shared.items()
    )


def _write_mean(values: Iterable[float], digits: int, absence: str) -> Cell:
    found = list(values)
    return Cell(write_number(fmean(found), digits)) if found else Cell(absence or NOTHING, tone="soft")


def _write_peak(costs: Iterable[Cost], absence: str) -> Cell:
    found = [cost.peak_mib for cost in costs if cost.peak_mib is not None]
    return Cell(write_number(max(found), 0)) if found else Cell(absence or NOTHING, tone="soft")
