"""The paper's own numbers beside ours, marked as another base model, and its wrong differences computed again."""

from __future__ import annotations

from decimal import Decimal

from d2plan.bench.records import METRICS, TABLE_METRICS, MethodRecord, Results
from d2plan.bench.report.comparison import PARTS, estimate_part, tell_absence
from d2plan.bench.report.paper import PAPER_BASE, PAPER_ROW_OF, PAPER_TITLES, TABLE_2, TABLE_3
from d2plan.bench.report.score_tables import name_method
from d2plan.bench.report.tables import MINUS, NOTHING, Cell, Column, Table, round_number, write_number

CORRECTED = " ‡"


def make_beside(results: Results) -> Table:
    """Make the table with the paper's row under each of ours; rows of the paper that nobody ran stand at the end."""
    columns = [Column("Method", words=True), Column("on", words=True)]
    for metric in TABLE_2.metrics.values():
        columns += [Column(title, f"{metric} ↑") for title in ("Single", "Multi", "Difference")]
    rows = []
    shown = set()
    for method in results.methods:
        rows.append((name_method(results, method), Cell(results.base.name), *_write_ours(results, method)))
        name = PAPER_ROW_OF.get(method.name)
        if name is not None:
            shown.add(name)
            rows.append(_write_paper_row(name))
    rows += [_write_paper_row(name) for name in TABLE_2.rows if name not in shown]
    ours = ", ".join(METRICS[metric].title for metric in TABLE_METRICS)
    note = (
        f"The paper's rows (Table 2) stand on another base model ({PAPER_BASE}), other pictures and other encoders: "
        "compare methods within one base, never a number of ours with one of theirs. Our columns are "
        f"{ours}. {CORRECTED.strip()} the paper prints another difference; this is what its own two numbers give. "
        "It does not say which of Custom Diffusion's two ways it ran."
    )
    return Table("beside", "The paper's numbers beside ours", note, tuple(columns), tuple(rows))


def make_corrections() -> Table:
    """Make the table of the paper's differences that its own numbers contradict."""
    rows = [
        (
            Cell(str(table.number)),
            Cell(PAPER_TITLES[method]),
            Cell(table.metrics[metric]),
            Cell(cell.single),
            Cell(cell.multi),
            Cell(_print_signed(cell.printed)),
            Cell(write_difference(cell.difference), strong=True),
        )
        for table in (TABLE_2, TABLE_3)
        for method, metric, cell in table.list_errors()
    ]
    columns = (
        Column("Table"),
        Column("Method", words=True),
        Column("Metric", words=True),
        Column("Single"),
        Column("Multi"),
        Column("printed"),
        Column("right"),
    )
    note = (
        "All other differences of the paper's Tables 2 and 3 agree with their numbers. The last of Table 2 turns a "
        "claim around: by its own numbers the paper's method loses more identity from one concept to several than "
        "DreamBooth, Textual Inversion, P+ and Mix-of-Show do, though it keeps the highest."
    )
    return Table("corrections", "Differences of the paper that its own numbers contradict", note, columns, tuple(rows))


def write_difference(value: Decimal) -> str:
    """Write a difference of the paper with three digits.

    >>> write_difference(Decimal("-0.071"))
    '−0.071'
    """
    return write_number(float(value), signed=True)


def _write_paper_row(name: str) -> tuple[Cell, ...]:
    cells = [Cell(f"{PAPER_TITLES[name]}, paper", tone="soft"), Cell("SDXL", tone="soft")]
    for cell in TABLE_2.rows[name].values():
        mark = CORRECTED if cell.is_wrong else ""
        written = (cell.single, cell.multi, write_difference(cell.difference) + mark)
        cells += [Cell(text, tone="soft") for text in written]
    return tuple(cells)


def _write_ours(results: Results, method: MethodRecord) -> list[Cell]:
    cells = []
    for metric in TABLE_METRICS:
        found = [estimate_part(results, method, metric, part) for part in PARTS]
        numbers = [None if one is None else round_number(one.mean) for one in found]
        asked = (PARTS[:1], PARTS[1:], PARTS)
        absent = [tell_absence(results, method, parts, metric) or NOTHING for parts in asked]
        single, multi = numbers
        change = None if single is None or multi is None else write_difference(multi - single)
        written = [*(None if number is None else write_number(float(number)) for number in numbers), change]
        cells += [Cell(text or absence) for text, absence in zip(written, absent, strict=True)]
    return cells


def _print_signed(text: str) -> str:
    return text.replace("-", MINUS)
