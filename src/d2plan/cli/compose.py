"""``d2plan compose``: the picture that a scene file asks for."""

from pathlib import Path
from typing import Annotated

import typer

from d2plan.cli.progress import show_progress
from d2plan.cli.tell import tell
from d2plan.documents import load_run
from d2plan.workflows.compose import compose
from d2plan.workflows.run_folder import IMAGE, MASKS, RECORD


def command(
    scene: Annotated[Path, typer.Argument(help="The scene, a YAML file.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the run; new or empty.")],
    base: Annotated[str | None, typer.Option("--base", help="Base model, in the place of the scene's.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed, in the place of the scene's.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Allow a folder that is not empty.")] = False,
) -> None:
    """Make the picture that a scene file asks for, with its concepts in it."""
    with show_progress() as report:
        folder = compose(scene, out, base, seed, overwrite, report)
    record = load_run(folder / RECORD)
    for note in record.masks.notes:
        tell(f"Note: {note}", err=True)
    tell(f"Picture: {folder / IMAGE}")
    if record.adapters:
        tell(f"Masks:   {folder / MASKS} (found by {record.masks.route}, sureness {record.masks.confidence:.2f})")
    tell(f"Record:  {folder / RECORD}")
