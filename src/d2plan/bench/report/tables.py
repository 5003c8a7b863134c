"""Tables of a benchmark's report as data, written as Markdown here and as HTML by the report.

A cell holds what a reader sees: a number, below it the interval, and whether it stands out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Literal

from d2plan.eval.metrics import Estimate

DIGITS = 3
NOTHING = "–"
MINUS, GLUE = "\N{MINUS SIGN}", "\N{NO-BREAK SPACE}"
_DENSE = 10  # columns from which on a grouped table is taken apart where it cannot be made narrow

Tone = Literal["", "good", "bad", "soft"]


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: the number or word.
        below: a second, smaller line, such as an interval.
        strong: it stands out, as the best of its column.
        tone: "good", "bad" or "soft" (does not count); what it means stands in the text as well.
    """

    text: str
    below: str = ""
    strong: bool = False
    tone: Tone = ""


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        title: its heading.
        group: a heading above several columns; "" for none.
        words: it holds words, not numbers.
    """

    title: str
    group: str = ""
    words: bool = False


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        key: its anchor, unique in a report.
        title: what it shows.
        note: how to read it.
        columns: its headings.
        rows: cells, one for each column.
    """

    key: str
    title: str
    note: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


def write_number(value: float, digits: int = DIGITS, signed: bool = False) -> str:
    """Write a number with fixed digits and a true minus sign; nothing is ever "-0.000".

    >>> write_number(-0.0712), write_number(0.0304, signed=True), write_number(-0.00001)
    ('−0.071', '+0.030', '0.000')

    Args:
        value: the number.
        digits: behind the point.
        signed: write a plus sign too.

    Returns:
        The text.
    """
    rounded = round_number(value, digits)
    text = f"{abs(rounded):.{digits}f}"
    if rounded < 0:
        return MINUS + text
    return f"+{text}" if signed and rounded > 0 else text


def round_number(value: float, digits: int = DIGITS) -> Decimal:
    """Round to what is printed, so that a printed difference can be the difference of printed numbers."""
    return Decimal(repr(value)).quantize(Decimal(1).scaleb(-digits), rounding=ROUND_HALF_EVEN)


def write_interval(estimate: Estimate, digits: int = DIGITS, signed: bool = False) -> str:
    """Write a 95 % interval.

    >>> write_interval(Estimate(0.7, 0.65, 0.7512, 9)).replace(GLUE, " ")
    '0.650 … 0.751'

    Args:
        estimate: the mean.
        digits: behind the point.
        signed: write plus signs too.

    Returns:
        Both ends on one line, which is never broken.
    """
    low, high = (write_number(end, digits, signed) for end in (estimate.low, estimate.high))
    return f"{low}{GLUE}…{GLUE}{high}"


def write_estimate(estimate: Estimate | None, strong: bool = False, signed: bool = False, absence: str = "") -> Cell:
    """Write a mean with its interval below; where there is none, why, or a dash.

    Args:
        estimate: the mean.
        strong: it is the best of its column.
        signed: it is a difference.
        absence: why there is none, where that is known.

    Returns:
        The cell.
    """
    if estimate is None:
        return Cell(absence or NOTHING, tone="soft")
    return Cell(write_number(estimate.mean, signed=signed), write_interval(estimate, signed=signed), strong)


def write_markdown(table: Table, level: int = 3) -> str:
    """Write a table as Markdown.

    Args:
        table: what to write.
        level: of its heading; 0 writes none.

    Returns:
        Heading, table and note; every row has as many cells as there are columns. A wide table in groups comes twice:
        whole without intervals, and with them group by group.
    """
    if table.rows and len(table.columns) > _DENSE and _has_intervals(table):
        parts = [_strip_intervals(table), *_split_groups(table)]
        return "\n".join(_write_whole(part, level + (number > 0)) for number, part in enumerate(parts))
    return _write_whole(table, level)


def _write_whole(table: Table, level: int) -> str:
    lines = [f"{'#' * level} {escape_markdown(table.title)}", ""] if level else []
    if not table.rows:
        return "\n".join([*lines, "Nothing to show.", ""])
    titles = [f"{column.group}: {column.title}" if column.group else column.title for column in table.columns]
    lines.append(_write_row([escape_markdown(title) for title in titles]))
    lines.append(_write_row([":--" if column.words else "--:" for column in table.columns]))
    lines += [_write_row([_write_cell(cell) for cell in row]) for row in table.rows]
    if table.note:
        lines += ["", escape_markdown(table.note)]
    return "\n".join([*lines, ""])


def escape_markdown(text: str) -> str:
    """Keep what a user wrote from being read as Markdown or HTML.

    >>> escape_markdown("a & <v1>")
    'a &amp; &lt;v1&gt;'

    Args:
        text: on one line or several.

    Returns:
        One line.
    """
    flat = re.sub(r"[ \t\r\n]+", " ", text).strip().replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{letter}" if letter in "|*_`[]" else letter for letter in flat)


def list_groups(table: Table) -> Iterator[tuple[str, int]]:
    """Give the headings above columns and how many columns each spans, in order."""
    titles = [column.group for column in table.columns]
    start = 0
    for place in range(1, len(titles) + 1):
        if place == len(titles) or titles[place] != titles[start]:
            yield titles[start], place - start
            start = place


def _write_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _write_cell(cell: Cell) -> str:
    text = escape_markdown(cell.text)
    if cell.strong:
        text = f"**{text}**"
    return f"{text}<br><sub>{escape_markdown(cell.below)}</sub>" if cell.below else text


def _has_intervals(table: Table) -> bool:
    """Say whether a table has groups of columns with intervals in them."""
    return any(column.group for column in table.columns) and any(cell.below for row in table.rows for cell in row)


def _strip_intervals(table: Table) -> Table:
    return replace(table, rows=tuple(tuple(replace(cell, below="") for cell in row) for row in table.rows))


def _split_groups(table: Table) -> Iterator[Table]:
    """Give a table for each group of columns, with what stands before the groups in each."""
    start, shared = 0, [place for place, column in enumerate(table.columns) if not column.group]
    for title, span in list_groups(table):
        places = [*shared, *range(start, start + span)]
        start += span
        if not title:
            continue
        yield Table(
            f"{table.key}-{start}",
            f"{title}, with intervals",
            "",
            tuple(replace(table.columns[place], group="") for place in places),
            tuple(tuple(row[place] for place in places) for row in table.rows),
        )
