"""``d2plan concepts``: list the adapters of a folder."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from d2plan.cli.tell import spell_out, tell

if TYPE_CHECKING:
    from d2plan.workflows.shelf.concepts import ConceptRow

_PLAIN_WIDTH = 120


def command(
    folder: Annotated[Path, typer.Argument(help="Where the adapters lie.")] = Path(),
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Also write a sheet of thumbnails here.")] = None,
    base: Annotated[str, typer.Option("--base", help="Only those of this base (name or fingerprint).")] = "",
    seed: Annotated[int, typer.Option("--seed", help="Taken by every command; nothing here is random.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a sheet that is there.")] = False,
) -> None:
    """List the adapters of a folder with class, identifier, base and steps."""
    del seed
    from d2plan.errors import InputError
    from d2plan.media.images import check_output, make_folder
    from d2plan.workflows.shelf.concepts import list_concepts, write_sheet

    if out is not None:
        if out.suffix.lower() != ".png":
            raise InputError(f"--out {out} is no name for a PNG file; end it in .png.")
        check_output(out, overwrite)
    rows = list_concepts(folder)
    usable = [row for row in rows if not row.trouble and (not base or base in row.base.split())]
    if not usable:
        tell(f"No adapters{f' of {base}' if base else ''} in {folder}; train one with `d2plan train`.")
    else:
        console = Console(width=None if Console().is_terminal else _PLAIN_WIDTH)
        console.print(make_table(usable))
    for row in rows:
        if row.trouble:
            tell(f"Cannot be used: {row.trouble}", err=True)
    if out is not None:
        make_folder(out.parent)
        write_sheet(out, usable)
        tell(f"Sheet: {out}")


def make_table(rows: "list[ConceptRow]") -> Table:
    """Lay the adapters out as a table.

    Args:
        rows: one for each file that can be used.

    Returns:
        The table.
    """
    # Folded, not cut: a file's name is there to be copied.
    table = Table(*(Column(name, overflow="fold") for name in ("name", "class", "identifier", "base", "steps", "file")))
    for row in rows:
        texts = (row.name, row.class_word, row.identifier, row.base, row.steps, row.path.name)
        # As plain text: a name may hold square brackets, which rich would take for its own marks.
        table.add_row(*(Text(spell_out(text) or "-") for text in texts))
    return table
