"""The tables of scores: the paper's Table 2 with our numbers, every metric, paired differences, and the ablation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from d2plan.bench.records import METRICS, TABLE_METRICS, MethodRecord, Part, Results, ShotRecord
from d2plan.bench.report.comparison import (
    ABLATED,
    AIMED,
    OURS,
    PARTS,
    Difference,
    compare_changes,
    compare_methods,
    count_missing,
    estimate_part,
    find_best,
    find_method,
    has_numbers,
    list_rivals,
    measure_change,
    tell_absence,
)
from d2plan.bench.report.tables import (
    DIGITS,
    NOTHING,
    Cell,
    Column,
    Table,
    Tone,
    round_number,
    write_estimate,
    write_number,
)
from d2plan.eval.metrics import Estimate

UNSURE, UNCHECKED, GAPS, WAITING = " °", " ?", " †", " …"
PART_TITLES: dict[Part, str] = {"single": "one concept", "multi": "several concepts"}
_INTERVALS = (
    "Intervals are 95 %, by bootstrap over concepts (or groups of them) first, then over prompts; each concept weighs "
    "the same."
)
_TONES: dict[str, Tone] = {"ahead": "good", "behind": "bad"}


def name_method(results: Results, method: MethodRecord) -> Cell:
    """Write a method's title with the marks that tables use."""
    marks = "" if results.kind == "ablation" else {True: "", False: UNSURE, None: UNCHECKED}[method.validated]
    missing = count_missing(results, method)
    marks += (GAPS if missing.failed else "") + (WAITING if missing.waiting else "")
    return Cell(method.title + marks, tone="soft" if method.validated is False else "")


def name_metric(metric: str) -> str:
    """Write a metric's title with an arrow that says which way is better."""
    return f"{METRICS[metric].title} {'↑' if METRICS[metric].higher_is_better else '↓'}"


def _name_plain(results: Results) -> str:
    """Say what methods are held against to be validated."""
    bar = find_method(results, results.plain) if results.plain is not None else None
    if bar is None:
        return "plain LoRA's single-concept identity"
    strength = bar.setting.get("strength")
    drawn = "which draws one concept by ISP" if strength is None else f"one LoRA at strength {strength:g}"
    return f"plain LoRA's single-concept identity (that of {bar.title}, {drawn})"


def explain_marks(results: Results) -> str:
    """Explain the marks that this report uses; empty where it uses none."""
    told = []
    if any(method.validated is False for method in results.methods):
        told.append(
            f"{UNSURE.strip()} not validated: after tuning it stays below 80 % of {_name_plain(results)}, so it was "
            "perhaps built or tuned badly here; it is never counted as beaten, and never best."
        )
    if any(UNCHECKED in name_method(results, method).text for method in results.methods):
        told.append(
            f"{UNCHECKED.strip()} not checked: no plain LoRA ran beside it (lora-merge, lora-switch or "
            "lora-composite, else isp-lora), or nothing was scored."
        )
    missing = {one.title: count_missing(results, one) for one in results.methods}
    for mark, what, counts in (
        (GAPS, "pictures that failed", {title: one.failed for title, one in missing.items() if one.failed}),
        (WAITING, "pictures not drawn yet", {title: one.waiting for title, one in missing.items() if one.waiting}),
    ):
        if counts:
            listed = ", ".join(f"{title} {count}" for title, count in counts.items())
            told.append(f"{mark.strip()} {what}, of {len(results.suite.shots)}: {listed}.")
    return " ".join(told)


def make_overview(results: Results) -> Table:
    """Make the paper's Table 2 with our numbers: Single, Multi and their difference under four metrics."""
    columns = [Column("Method", words=True)]
    sides: list[list[Cell]] = [[name_method(results, method)] for method in results.methods]
    for metric in TABLE_METRICS:
        columns += [Column(title, name_metric(metric)) for title in ("Single", "Multi", "Difference")]
        for row, cells in zip(sides, _compute_triples(results, metric), strict=True):
            row.extend(cells)
    note = (
        f"Bold: the best of its column, among methods that drew everything. {_INTERVALS} The difference is that of the "
        "printed numbers."
    )
    return Table(
        "overview",
        "Table 2: one concept and several",
        f"{note} {explain_marks(results)}".strip(),
        tuple(columns),
        tuple(tuple(row) for row in sides),
    )


def make_metric_tables(results: Results) -> list[Table]:
    """Make one table a part with every metric that has a number, for those who want all of it."""
    tables = []
    for part in PARTS:
        rows = [
            (Cell(name_metric(metric)), *_write_metric(results, metric, part))
            for metric in METRICS
            if has_numbers(results, metric, part)
        ]
        if rows:
            tables.append(
                Table(
                    f"all-{part}",
                    f"Every metric, {PART_TITLES[part]}",
                    f"{_INTERVALS} n: how many pictures (or series) have the number, where not all have it. "
                    f"{explain_marks(results)}".strip(),
                    (
                        Column("Metric", words=True),
                        *(Column(name_method(results, one).text) for one in results.methods),
                    ),
                    tuple(rows),
                )
            )
    return tables


def make_differences(results: Results) -> list[Table]:
    """Make the tables of paired differences of ISP + DisLoRA against each rival; none where either is missing."""
    ours = find_method(results, OURS)
    rivals = list_rivals(results)
    if ours is None or not rivals:
        return []
    metrics = (*AIMED, "text_scaled")
    compared = [
        [write_difference(compare_methods(results, ours, rival, metric, "multi")) for metric in metrics]
        for rival in rivals
    ]
    changed = [
        [write_difference(compare_changes(results, ours, rival, metric)) for metric in metrics] for rival in rivals
    ]
    note = (
        'Paired picture by picture, so both drew the same prompts from the same noise. "ahead" and "behind" mean that '
        "the whole 95 % interval lies on that side of 0. ISP + LoRA and ISP as in the paper are our own ablations, no "
        "rivals."
    )
    told = [
        ("differences-multi", "Several concepts: ours minus the rival", "Above 0: ours is better.", compared),
        (
            "differences-change",
            "Change from one to several: ours minus the rival's",
            "Above 0: ours loses less.",
            changed,
        ),
    ]
    return [
        Table(
            key,
            title,
            f"{meaning} {note} {explain_marks(results)}".strip(),
            (Column("Rival", words=True), *(Column(METRICS[metric].title) for metric in metrics)),
            tuple((name_method(results, rival), *row) for rival, row in zip(rivals, rows, strict=True)),
        )
        for key, title, meaning, rows in told
    ]


def write_difference(difference: Difference) -> Cell:
    """Write a paired difference with its interval and verdict."""
    cell = write_estimate(difference.estimate, signed=True)
    if difference.estimate is None:
        return cell if difference.verdict == "no number" else Cell(difference.verdict, tone="soft")
    tone = _TONES.get(difference.verdict, "soft")
    return Cell(f"{cell.text} {difference.verdict}", cell.below, tone=tone)


def summarise_aim(results: Results) -> list[str]:
    """Say in sentences how far the aim is reached: differences with several concepts, and the loss on the way there."""
    ours = find_method(results, OURS)
    rivals = [rival for rival in list_rivals(results) if rival.name not in ABLATED]
    if ours is None or not rivals:
        return []
    valid = [rival for rival in rivals if rival.validated]
    sentences = []
    for metric in AIMED:
        found = {
            f"{rival.title} (not validated)" if rival.validated is False else rival.title: compare_methods(
                results, ours, rival, metric, "multi"
            ).verdict
            for rival in rivals
        }
        sentences.append(_tell_verdicts(f"{METRICS[metric].title}, several concepts", found, len(valid)))
    for metric in AIMED:
        sentences.append(_tell_losses(results, [ours, *valid], metric))
    unsure = [rival.title for rival in rivals if rival.validated is False]
    if unsure:
        sentences.append(f"Not validated, so not counted as beaten: {', '.join(unsure)}.")
    if results.plain is not None:
        sentences.append(f"Validated: reaches 80 % of {_name_plain(results)}.")
    return [sentence for sentence in sentences if sentence]


def make_ablation(results: Results) -> list[Table]:
    """Make Figure 8a's ablation as numbers, a table a part: every variant with its difference to the full method."""
    if not results.methods:
        return []
    full = find_method(results, OURS) or results.methods[0]
    tables = []
    for part in PARTS:
        columns = [Column("Variant", words=True)]
        rows = [[name_method(results, method)] for method in results.methods]
        metrics = [metric for metric in (*AIMED, "text_scaled", "swapped") if has_numbers(results, metric, part)]
        for metric in metrics:
            columns += [Column(title, name_metric(metric)) for title in ("mean", "to full")]
            for row, method in zip(rows, results.methods, strict=True):
                row.append(_write_part(results, method, metric, part))
                row.append(_write_drop(results, full, method, metric, part))
        note = (
            f'"to full": how far the variant is from {full.title}, paired picture by picture; below 0 it is worse. '
            f"{_INTERVALS} {explain_marks(results)}"
        )
        title = f"Figure 8a: what each part of ISP does, {PART_TITLES[part]}"
        if metrics:
            tables.append(
                Table(f"ablation-{part}", title, note.strip(), tuple(columns), tuple(tuple(row) for row in rows))
            )
    return tables


def make_counts(results: Results) -> Table | None:
    """Make the table by number of instances N; None where all pictures with several have as many."""
    sizes = sorted({len(shot.concepts) for shot in results.suite.shots})
    if len(sizes) < 3:
        return None
    metrics = [metric for metric in (*AIMED, "present") if has_numbers(results, metric, "multi")]
    columns = [Column("Method", words=True)]
    rows = [[name_method(results, method)] for method in results.methods]
    for metric in metrics:
        for size in sizes:
            columns.append(Column(f"N = {size}", name_metric(metric)))
            part: Part = "single" if size == 1 else "multi"
            for row, method in zip(rows, results.methods, strict=True):
                row.append(_write_part(results, method, metric, part, _with_size(size)))
    return Table("counts", "By number of instances", _INTERVALS, tuple(columns), tuple(tuple(row) for row in rows))


def make_kinds(results: Results) -> Table | None:
    """Make the table of single-concept identity by kind of concept; None where there are not two kinds."""
    kinds = sorted({concept.kind for concept in results.suite.concepts if concept.kind})
    if len(kinds) < 2 or not has_numbers(results, "identity", "single"):
        return None
    members = {kind: {one.name for one in results.suite.concepts if one.kind == kind} for kind in kinds}
    rows = [[name_method(results, method)] for method in results.methods]
    for kind in kinds:
        for row, method in zip(rows, results.methods, strict=True):
            row.append(_write_part(results, method, "identity", "single", _with_concepts(members[kind])))
    return Table(
        "kinds",
        "Identity by kind of concept, one concept",
        _INTERVALS,
        (Column("Method", words=True), *(Column(f"{kind} ({len(members[kind])})") for kind in kinds)),
        tuple(tuple(row) for row in rows),
    )


def _with_size(size: int) -> Callable[[ShotRecord], bool]:
    return lambda shot: len(shot.concepts) == size


def _with_concepts(names: set[str]) -> Callable[[ShotRecord], bool]:
    return lambda shot: shot.concepts[0] in names


def _write_part(
    results: Results, method: MethodRecord, metric: str, part: Part, keep: Callable[[ShotRecord], bool] | None = None
) -> Cell:
    found = estimate_part(results, method, metric, part, keep)
    return write_estimate(found, absence=tell_absence(results, method, (part,), metric, keep))


def _compute_triples(results: Results, metric: str) -> list[list[Cell]]:
    """Write Single, Multi and difference of each method under a metric; the best that may be best are strong."""
    higher = METRICS[metric].higher_is_better
    sides = [[estimate_part(results, method, metric, part) for part in PARTS] for method in results.methods]
    columns = [
        [single for single, _ in sides],
        [multi for _, multi in sides],
        [_round_change(single, multi) for single, multi in sides],
    ]
    written = []
    for number, column in enumerate(columns):
        best = find_best(column, _may_be_best(results, (*PARTS, None)[number]), higher, DIGITS)
        parts = PARTS[number : number + 1] or PARTS
        absent = [tell_absence(results, method, parts, metric) for method in results.methods]
        written.append(
            [write_estimate(one, place in best, number == 2, absent[place]) for place, one in enumerate(column)]
        )
    return [list(cells) for cells in zip(*written, strict=True)]


def _round_change(single: Estimate | None, multi: Estimate | None) -> Estimate | None:
    change = measure_change(single, multi)
    if change is None or single is None or multi is None:
        return None
    return replace(change, mean=float(round_number(multi.mean) - round_number(single.mean)))


def _write_drop(results: Results, full: MethodRecord, method: MethodRecord, metric: str, part: Part) -> Cell:
    if method.name == full.name:
        return Cell(NOTHING, tone="soft")
    difference = compare_methods(results, method, full, metric, part)
    found = difference.estimate
    if found is None:
        return write_difference(difference)
    tone: Tone = "soft" if found.low <= 0 <= found.high else "good" if found.low > 0 else "bad"
    return replace(write_estimate(found, signed=True), tone=tone)


def _write_metric(results: Results, metric: str, part: Part) -> list[Cell]:
    estimates = [estimate_part(results, method, metric, part) for method in results.methods]
    best = find_best(estimates, _may_be_best(results, part), METRICS[metric].higher_is_better, DIGITS)
    absent = [tell_absence(results, method, (part,), metric) for method in results.methods]
    return [
        _with_count(results, write_estimate(found, place in best, absence=absence), found, metric, part)
        for place, (found, absence) in enumerate(zip(estimates, absent, strict=True))
    ]


def _may_be_best(results: Results, part: Part | None) -> list[bool]:
    """Say which methods compete for the best: those that lack a picture had perhaps the easier ones."""
    return [
        method.validated is not False and not any(count_missing(results, method, part)) for method in results.methods
    ]


def _with_count(results: Results, cell: Cell, found: Estimate | None, metric: str, part: Part) -> Cell:
    shots = [shot for shot in results.suite.shots if shot.part == part]
    asked = len({shot.series for shot in shots} - {None}) if METRICS[metric].of == "series" else len(shots)
    if found is None or found.count == asked:
        return cell
    return replace(cell, below=f"{cell.below} · n {found.count}/{asked}")


def _tell_verdicts(what: str, found: Mapping[str, str], valid: int) -> str:
    ahead = sum(verdict == "ahead" for verdict in found.values())
    told = f"{what}: ahead of {ahead} of {valid} validated rivals"
    for verdict in ("behind", "not told apart", "not checked", "not run yet", "failed", "no number"):
        names = [title for title, one in found.items() if one == verdict]
        if names:
            told += f"; {verdict}{'' if verdict == 'behind' else ':'} {', '.join(names)}"
    return f"{told}."


def _tell_losses(results: Results, methods: Sequence[MethodRecord], metric: str) -> str:
    changes = {}
    for method in methods:
        change = _round_change(*(estimate_part(results, method, metric, part) for part in PARTS))
        if change is not None:
            changes[method.title] = change.mean
    if len(changes) < 2 or methods[0].title not in changes:
        return ""
    if len(set(changes.values())) == 1:
        return f"{METRICS[metric].title}, change from one to several: the same for all {len(changes)} methods."
    place = sorted(changes.values(), reverse=True).index(changes[methods[0].title]) + 1
    best = max(changes, key=lambda title: changes[title])
    told = (
        f"{METRICS[metric].title}, change from one to several: {write_number(changes[methods[0].title], signed=True)}, "
    )
    if place == 1:
        return f"{told}the smallest loss of {len(changes)} methods (ours and the validated rivals)."
    return f"{told}place {place} of {len(changes)}; {best} changes by {write_number(changes[best], signed=True)}."
