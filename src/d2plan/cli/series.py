"""``d2plan series``: pictures that differ only in what their variants say."""

from pathlib import Path
from typing import Annotated

import typer

from d2plan.cli.options import Device, OtherBase, Precision
from d2plan.cli.progress import show_progress
from d2plan.cli.tell import tell
from d2plan.documents import Series
from d2plan.workflows.composing.compose import choose_memory
from d2plan.workflows.composing.requests import read_request
from d2plan.workflows.composing.series import compose_series


def command(  # noqa: PLR0913  (a command's options are its parameters)
    series: Annotated[Path, typer.Argument(help="The series, a YAML file.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the series; new, empty, or its own.")],
    base: Annotated[str | None, typer.Option("--base", help="Base model, in the place of the series'.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed, in the place of the series'.")] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Make this variant alone; may be given several times.")
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Make again what --only names or fits no longer; take another series."),
    ] = False,
    other_base: OtherBase = False,
    device: Device = "cpu",
    precision: Precision = None,
    low_memory: Annotated[bool, typer.Option("--low-memory", help="One row after the other; slower.")] = False,
    merged: Annotated[
        bool,
        typer.Option(
            "--merged",
            help="Merge a copy of the weights for each concept: more memory, the same picture but for rounding.",
        ),
    ] = False,
) -> None:
    """Make pictures that share noise, layout and beginning, and differ only in what their variants say."""
    memory = choose_memory(low_memory, merged)
    asked = read_request(Series, series, base, seed, other_base)
    with show_progress() as report:
        result = compose_series(
            asked,
            out,
            only=only or (),
            overwrite=overwrite,
            on_progress=report,
            device=device,
            precision=precision,
            memory=memory,
        )
    for note in result.notes:
        tell(f"Note: {note}", err=True)
    for label, names in (("Made", result.made), ("Kept", result.kept), ("Not made yet", result.waiting)):
        if names:
            tell(f"{label}: {', '.join(names)}")
    tell(f"Sheet: {result.sheet}")
