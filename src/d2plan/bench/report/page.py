"""The report of a benchmark: one HTML file that needs nothing else, and Markdown with its figures beside it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from d2plan.bench.report.grids import Grid, GridBlock, draw_sheet, read_thumbnail
from d2plan.bench.report.join import join_results
from d2plan.bench.report.parts import Content, Section, gather_content
from d2plan.bench.report.tables import Cell, Column, Table, escape_markdown, list_groups, write_markdown
from d2plan.bench.store import PLAN, RESULTS, read_results, write_record
from d2plan.errors import InputError
from d2plan.media.images import make_folder, write_file

PAGE, TEXT, FIGURES = "report.html", "report.md", "figures"
_TEMPLATE = files("d2plan.bench.report") / "templates" / "report.html"
_THUMBNAIL, _REFERENCES = 192, 4
_WIDE, _DENSE = 6, 10  # columns of numbers from which on a table takes more than the text's width
_GRID_NOTE = "references"


@dataclass(frozen=True)
class Report:
    """The files of a report.

    Attributes:
        page: HTML with everything inside.
        text: Markdown, which names the figures relative to itself.
        figures: that the Markdown shows.
    """

    page: Path
    text: Path
    figures: tuple[Path, ...]


def write_report(folder: str | Path, out: str | Path | None = None, others: Sequence[str | Path] = ()) -> Report:
    """Write the report of a results' folder; it may be written at any time, also while the benchmark runs.

    Args:
        folder: that ``d2plan bench`` wrote.
        out: where the report goes; None is the same folder.
        others: more folders, with other methods on the same suite; ``out`` then gets the joined ``results.json``, too.

    Returns:
        Its files. Without matplotlib it has no plots, and says so.

    Raises:
        FileError: the results or a picture cannot be read, or the report cannot be written.
        InputError: the results are of another version; or several folders do not belong together, or have no ``out``
            that is nobody's.
    """
    source = _find_folder(folder)
    target = Path(out) if out is not None else source
    results = read_results(source)
    if others:
        if out is None or (target / PLAN).exists():
            raise InputError("--out: several results need a folder that no benchmark works in; name one.")
        results = join_results([source, *(_find_folder(one) for one in others)], target)
        write_record(target / RESULTS, results)
        source = target
    content = gather_content(results, source)
    make_folder(target / FIGURES)
    figures = _write_figures(content, target / FIGURES)
    page, text = target / PAGE, target / TEXT
    write_file(page, write_html(content).encode())
    write_file(text, write_text(content).encode())
    return Report(page, text, tuple(figures))


def _find_folder(named: str | Path) -> Path:
    path = Path(named)
    return path if path.is_dir() else path.parent


def write_html(content: Content) -> str:
    """Write a report as one page with all pictures and plots inside it.

    Args:
        content: of the report.

    Returns:
        The page.

    Raises:
        FileError: a picture cannot be read.
    """
    lead = "".join(f"<li>{escape(sentence)}</li>" for sentence in content.lead)
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=escape(content.title),
        heading=escape(content.title),
        facts=escape(" · ".join(content.facts)),
        warning="\n".join(f'<p class="warn">{escape(sentence)}</p>' for sentence in content.warnings),
        lead=f'<ul class="lead">{lead}</ul>' if lead else "",
        links="".join(f'<a href="#{section.key}">{escape(section.title)}</a>' for section in content.sections),
        sections="\n".join(_write_section(section) for section in content.sections),
        footer="<p>Made by <code>d2plan bench</code> from <code>results.json</code>, which holds every number.</p>",
    )


def write_text(content: Content) -> str:
    """Write a report as Markdown that shows the files of ``figures``.

    Args:
        content: of the report.

    Returns:
        The text.
    """
    lines = [f"# {escape_markdown(content.title)}", "", escape_markdown(" · ".join(content.facts)), ""]
    for sentence in content.warnings:
        lines += [f"> {escape_markdown(sentence)}", ""]
    lines += [f"- {escape_markdown(sentence)}" for sentence in content.lead]
    for section in content.sections:
        lines += ["", f"## {escape_markdown(section.title)}", ""]
        if section.intro:
            lines += [escape_markdown(section.intro), ""]
        for plot in section.plots:
            lines += [f"![{escape_markdown(plot.title)}]({FIGURES}/{plot.key}.svg)"]
        for grid in section.grids:
            lines += [
                "",
                f"### {escape_markdown(grid.title)}",
                "",
                f"![{escape_markdown(grid.title)}]({_name_sheet(grid)})",
                "",
                escape_markdown(grid.note),
            ]
        for table in section.tables:
            lines += ["", write_markdown(table)]
        if section.folded:
            lines += ["", f"<details><summary>{_name_folded(section)}</summary>", ""]
            lines += [write_markdown(table) for table in section.folded]
            lines += ["</details>"]
    return "\n".join(lines).rstrip() + "\n"


def _write_figures(content: Content, folder: Path) -> list[Path]:
    written = []
    for section in content.sections:
        for plot in section.plots:
            written.append(folder / f"{plot.key}.svg")
            write_file(written[-1], plot.svg.encode())
        for grid in section.grids:
            written.append(folder.parent / _name_sheet(grid))
            write_file(written[-1], draw_sheet(grid))
    return written


def _name_sheet(grid: Grid) -> str:
    return f"{FIGURES}/{grid.key}.webp"


def _write_section(section: Section) -> str:
    parts = [f'<section id="{section.key}"><h2>{escape(section.title)}</h2>']
    if section.intro:
        parts.append(f'<p class="note">{escape(section.intro)}</p>')
    if section.plots:
        plots = "".join(f'<div class="card">{plot.inline}</div>' for plot in section.plots)
        parts.append(f'<div class="plots">{plots}</div>')
    parts += [_write_grid(grid) for grid in section.grids]
    parts += [_write_table(table) for table in section.tables]
    if section.folded:
        inside = "".join(_write_table(table) for table in section.folded)
        parts.append(f"<details><summary>{_name_folded(section)}</summary>{inside}</details>")
    return "\n".join([*parts, "</section>"])


def _name_folded(section: Section) -> str:
    return escape(f"More: {' · '.join(table.title for table in section.folded)}")


def _write_table(table: Table) -> str:
    edges = _find_edges(table)
    head = "".join(
        f'<th class="{_list_classes(column, number in edges)}">{escape(column.title)}</th>'
        for number, column in enumerate(table.columns)
    )
    groups = ""
    if any(column.group for column in table.columns):
        groups = "".join(
            f'<th class="group" colspan="{span}">{escape(title)}</th>' if title else f'<th colspan="{span}"></th>'
            for title, span in list_groups(table)
        )
        groups = f"<tr>{groups}</tr>"
    rows = "".join(
        "<tr>"
        + "".join(
            _write_cell(cell, column, number == 0, number in edges)
            for number, (cell, column) in enumerate(zip(row, table.columns, strict=True))
        )
        + "</tr>"
        for row in table.rows
    )
    numbers = sum(not column.words for column in table.columns)
    wide = (" wide" if numbers >= _WIDE else "") + (" dense" if numbers >= _DENSE else "")
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return (
        f'<h3 id="t-{table.key}">{escape(table.title)}</h3><div class="tablebox{wide}" tabindex="0" role="region" '
        f'aria-label="{escape(table.title)}"><table><thead>{groups}<tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
        f"</div>{note}"
    )


def _write_cell(cell: Cell, column: Column, first: bool, edge: bool) -> str:
    classes = _list_classes(column, edge)
    classes += " strong" if cell.strong else ""
    classes += {"": "", "soft": " tone-soft"}.get(cell.tone, f" {cell.tone}")
    below = f"<small>{escape(cell.below)}</small>" if cell.below else ""
    tag = "th" if first else "td"
    scope = ' scope="row"' if first else ""
    return f'<{tag} class="{classes}"{scope}>{escape(cell.text)}{below}</{tag}>'


def _list_classes(column: Column, edge: bool) -> str:
    return ("words" if column.words else "number") + (" edge" if edge else "")


def _find_edges(table: Table) -> set[int]:
    """Give the columns that a group begins with."""
    edges, start = set(), 0
    for title, span in list_groups(table):
        if title:
            edges.add(start)
        start += span
    return edges


def _write_grid(grid: Grid) -> str:
    head = "".join(f"<th>{escape(title)}</th>" for title in (_GRID_NOTE, *grid.methods))
    blocks = "".join(_write_block(block, head, grid.methods) for block in grid.blocks)
    return f'<h3 id="{grid.key}">{escape(grid.title)}</h3><p class="note">{escape(grid.note)}</p>{blocks}'


def _write_block(block: GridBlock, head: str, methods: tuple[str, ...]) -> str:
    rows, name = [], escape(block.title)
    for number, row in enumerate(block.rows):
        pictures = "".join(
            f"<td>{_write_picture(path, f'{title}: {row.prompt}')}</td>"
            for path, title in zip(row.pictures, methods, strict=True)
        )
        rows.append(
            f"<tr><th>{_write_references(block, number)}</th>{pictures}</tr>"
            f'<tr class="says"><th>{"" if number else name}</th><td colspan="{len(methods)}">'
            f"<span>{escape(row.prompt)}; seed {row.seed}</span></td></tr>"
        )
    return (
        f'<div class="tablebox wide" tabindex="0" role="region" aria-label="{name}"><table class="grid">'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _write_references(block: GridBlock, row: int) -> str:
    """Write the reference cell of a row: one picture of a concept, or some of each of several in a small mosaic."""
    if len(block.references) == 1:
        own = block.references[0]
        return _write_picture(own[row % len(own)], f"{block.concepts[0]}, reference") if own else ""
    shown = [
        _write_picture(own[(row * 2 + place) % len(own)], f"{name}, reference")
        for place in range(2)
        for name, own in zip(block.concepts, block.references, strict=True)
        if own
    ]
    return f'<div class="pair">{"".join(shown[:_REFERENCES])}</div>'


def _write_picture(path: Path | str, name: str) -> str:
    if isinstance(path, str):
        return f'<div class="absent">{escape(path)}</div>'
    content = base64.b64encode(read_thumbnail(path, _THUMBNAIL)).decode()
    return f'<img src="data:image/webp;base64,{content}" alt="{escape(name)}" width="112" height="112" loading="lazy">'
