"""What a report consists of, in order, before anybody decides how it looks: sections of tables, plots and grids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from d2plan.bench.records import Results
from d2plan.bench.report.comparison import OURS, PARTS, count_missing, find_method
from d2plan.bench.report.cost_tables import (
    make_drawing_costs,
    make_encoders,
    make_failures,
    make_learning_costs,
    make_settings,
    make_sources,
    make_unmeasured,
)
from d2plan.bench.report.grids import Grid, choose_grid
from d2plan.bench.report.paper_tables import make_beside, make_corrections
from d2plan.bench.report.plots import Plot, draw_costs, draw_differences, draw_scores
from d2plan.bench.report.score_tables import (
    make_ablation,
    make_counts,
    make_differences,
    make_kinds,
    make_metric_tables,
    make_overview,
    summarise_aim,
)
from d2plan.bench.report.tables import Table
from d2plan.errors import MissingExtraError


@dataclass(frozen=True)
class Section:
    """A part of a report under one heading.

    Attributes:
        key: its anchor.
        title: its heading.
        intro: a sentence before all else; "" for none.
        plots: shown first.
        grids: shown next.
        tables: shown then.
        folded: tables that only some want to see.
    """

    key: str
    title: str
    intro: str = ""
    plots: tuple[Plot, ...] = ()
    grids: tuple[Grid, ...] = ()
    tables: tuple[Table, ...] = ()
    folded: tuple[Table, ...] = ()


@dataclass(frozen=True)
class Content:
    """All that a report says.

    Attributes:
        title: of the page.
        facts: suite, base, machine and so on, one phrase each.
        warnings: sentences that a reader must not miss.
        lead: the outcome in sentences.
        sections: the rest.
    """

    title: str
    facts: tuple[str, ...]
    warnings: tuple[str, ...]
    lead: tuple[str, ...]
    sections: tuple[Section, ...]


def gather_content(results: Results, folder: Path) -> Content:
    """Make everything that a report shows.

    Args:
        results: of the benchmark.
        folder: that its pictures lie in.

    Returns:
        The content; without matplotlib it has no plots, and says so.
    """
    warnings = list(_list_warnings(results))
    plots: dict[str, list[Plot]] = {"scores": [], "differences": [], "cost": []}
    drawers: dict[str, Callable[[Results], list[Plot]]] = {
        "scores": draw_scores,
        "differences": draw_differences,
        "cost": draw_costs,
    }
    try:
        plots = {key: draw(results) for key, draw in drawers.items()}
    except MissingExtraError as error:
        warnings.append(str(error))
    ablation = results.kind == "ablation"
    sections = _list_ablation(results, plots["scores"]) if ablation else _list_spatial(results, plots)
    sections += [_make_pictures(results, folder), *_list_rest(results, plots["cost"])]
    return Content(
        title=_name_report(results),
        facts=_list_facts(results),
        warnings=tuple(warnings),
        lead=() if ablation else tuple(summarise_aim(results)),
        sections=tuple(one for one in sections if one.plots or one.grids or one.tables or one.folded),
    )


def _list_spatial(results: Results, plots: dict[str, list[Plot]]) -> list[Section]:
    ours = find_method(results, OURS)
    return [
        Section(
            "table-2",
            "One concept and several",
            plots=tuple(plots["scores"]),
            tables=(make_overview(results),),
            folded=(*_keep(make_kinds(results), make_counts(results)), *make_metric_tables(results)),
        ),
        Section(
            "differences",
            f"{ours.title if ours else OURS} against each rival",
            plots=tuple(plots["differences"]),
            tables=tuple(make_differences(results)),
        ),
    ]


def _list_ablation(results: Results, plots: Sequence[Plot]) -> list[Section]:
    return [
        Section(
            "ablation",
            "What each part of ISP does",
            "A variant is ours without the part that it names. CAC: cross-attention calibration, eq. (7). CNC: "
            "centralized noise composition, eq. (9). L_token and L_atten: the losses of DisLoRA, eq. (3) and (4).",
            plots=tuple(plots),
            tables=(*make_ablation(results), *_keep(make_counts(results))),
            folded=(make_overview(results), *make_metric_tables(results)),
        )
    ]


def _make_pictures(results: Results, folder: Path) -> Section:
    grids = [choose_grid(results, folder, part) for part in PARTS]
    return Section(
        "pictures",
        "Side by side",
        "References first; in a row all methods have the same prompt and the same noise. Concepts, prompts and seeds "
        "are chosen by their place in the suite, not by their looks.",
        grids=tuple(one for one in grids if one is not None),
    )


def _list_rest(results: Results, costs: Sequence[Plot]) -> list[Section]:
    failures = make_failures(results)
    rest = [
        Section("cost", "Cost", plots=tuple(costs), tables=(make_drawing_costs(results), make_learning_costs(results))),
        Section("failures", "Failures", tables=(*((failures,) if failures.rows else ()), make_unmeasured(results))),
    ]
    if results.kind == "spatial":
        rest.append(Section("paper", "The paper's own numbers", tables=(make_beside(results), make_corrections())))
    return [
        *rest,
        Section("made-by", "What made each number", tables=(make_encoders(results),)),
        Section("methods", "Methods and settings", tables=(make_settings(results), make_sources(results))),
    ]


def _name_report(results: Results) -> str:
    count = len(results.methods)
    methods = f"{count} methods side by side" if count > 1 else "One method"
    what = "Ablation of ISP" if results.kind == "ablation" else methods
    return f"{what}, suite {results.suite.name}"


def _list_facts(results: Results) -> tuple[str, ...]:
    suite, machine = results.suite, results.machine
    return (
        f"{len(suite.concepts)} concepts, {len(suite.shots)} pictures a method",
        f"base {results.base.name} ({results.base.fingerprint})",
        f"{results.drawing.steps} steps, guidance {results.drawing.guidance_scale:g}, "
        f"{results.drawing.height} x {results.drawing.width} px, {results.drawing.precision}",
        machine.place,
        f"commit {results.commit or 'unknown'}",
        f"suite {suite.digest}",
        *(f"{name} {version}" for name, version in machine.packages.items()),
    )


def _list_warnings(results: Results) -> tuple[str, ...]:
    told = []
    if not results.finished:
        drawn = sum(len(method.pictures) for method in results.methods)
        missing = [count_missing(results, method) for method in results.methods]
        failed, waiting = sum(one.failed for one in missing), sum(one.waiting for one in missing)
        told.append(
            f"Written on the way: {drawn} of {len(results.methods) * len(results.suite.shots)} pictures are there, "
            f"{failed} failed, {waiting} are not drawn yet. Run the same command again to go on."
        )
    elif any(any(count_missing(results, method)) for method in results.methods):
        told.append("Some methods failed on some pictures; the failures are listed, and means are over what is there.")
    return (*told, *results.notes)


def _keep(*tables: Table | None) -> tuple[Table, ...]:
    return tuple(table for table in tables if table is not None)
