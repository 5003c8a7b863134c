"""``d2plan compose``: the picture that a scene file asks for."""

from pathlib import Path
from typing import Annotated

import typer

from d2plan.cli.options import Device, OtherBase, Precision
from d2plan.cli.progress import show_progress
from d2plan.cli.score import parse_references
from d2plan.cli.tell import tell
from d2plan.documents import RunRecord, Scene, load_run
from d2plan.errors import InputError
from d2plan.workflows.composing.choose import CandidateReport, ChoiceRequest, compose_best
from d2plan.workflows.composing.compose import RunOptions, choose_memory, compose
from d2plan.workflows.composing.requests import read_request
from d2plan.workflows.runs.folder import CANDIDATE_SHEET, IMAGE, MASKS, RECORD


def command(  # noqa: PLR0913  (a command's options are its parameters)
    scene: Annotated[Path, typer.Argument(help="The scene, a YAML file.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the run; new or empty.")],
    base: Annotated[str | None, typer.Option("--base", help="Base model, in the place of the scene's.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed, in the place of the scene's.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run that the folder holds.")] = False,
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
    candidates: Annotated[
        int, typer.Option("--candidates", min=1, help="Make so many pictures, keep the one most like its concepts.")
    ] = 1,
    references: Annotated[
        list[str] | None,
        typer.Option("--references", "-r", help="CONCEPT=FOLDER: its own pictures, for --candidates."),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option("--encoder", help="What compares them: judge, clip:…, face:…, or your own; docs/composing.md."),
    ] = None,
) -> None:
    """Make the picture that a scene file asks for, with its concepts in it."""
    memory = choose_memory(low_memory, merged)
    if candidates == 1 and (references or encoder):
        raise InputError("--references and --encoder belong to --candidates; give how many there shall be.")
    asked = read_request(Scene, scene, base, seed, other_base)
    options: RunOptions = {"device": device, "precision": precision, "memory": memory}
    with show_progress() as report:
        if candidates == 1:
            choice = None
            folder = compose(asked, out, overwrite=overwrite, on_progress=report, **options)
        else:
            wanted = ChoiceRequest(candidates, parse_references(references or []), encoder)
            folder, choice = compose_best(asked, out, wanted, overwrite=overwrite, on_progress=report, **options)
    if choice is not None:
        _tell_choice(choice, folder)
    _tell_run(load_run(folder / RECORD), folder)


def _tell_choice(choice: CandidateReport, folder: Path) -> None:
    for one in choice.candidates:
        seen = ", ".join(
            f"{name} {'not found' if value is None else f'{value:.2f}'}"
            for name, value in zip(choice.instances, one.likeness, strict=False)
        )
        tell(f"{'* ' if one.chosen else '  '}seed {one.seed}: {one.problem or seen}")
    if not choice.complete:
        tell(f"Note: {choice.encoder} finds every instance in none of them; more candidates may help.", err=True)
    tell(f"Chosen by {choice.encoder}, which therefore may not score it; all: {folder / CANDIDATE_SHEET}")


def _tell_run(record: RunRecord, folder: Path) -> None:
    for note in record.masks.notes:
        tell(f"Note: {note}", err=True)
    tell(f"Picture: {folder / IMAGE}")
    if record.adapters:
        tell(f"Masks:   {folder / MASKS} (by {record.masks.route}, sureness {record.masks.confidence:.2f})")
    tell(f"Record:  {folder / RECORD}")
