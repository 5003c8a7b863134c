"""``d2plan reproduce``: make a picture again from what stands inside it."""

from pathlib import Path
from typing import Annotated

import typer

from d2plan.cli.options import Device
from d2plan.cli.progress import show_progress
from d2plan.cli.tell import tell
from d2plan.workflows.composing.reproduce import Reproduction, check_sources, find_picture, find_sources, reproduce
from d2plan.workflows.runs.folder import IMAGE, RECORD

OTHER_PICTURE = 1


def command(  # noqa: PLR0913  (a command's options are its parameters)
    image: Annotated[Path, typer.Argument(help="A PNG that d2plan made, or its run folder.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for the new run; NAME-again beside it without this.")
    ] = None,
    base: Annotated[str | None, typer.Option("--base", help="Where the base is, if it was moved.")] = None,
    search: Annotated[
        list[Path] | None, typer.Option("--search", "-s", help="A folder to look for adapters, masks and drawings in.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Make the same scene with another seed: another picture of it.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only say whether everything is there.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run that the folder holds.")] = False,
    device: Device = "cpu",
) -> None:
    """Make a picture again: the same bytes, or what is missing or differs."""
    path = find_picture(image)
    if check:
        sources = find_sources(path, base, search or ())
        check_sources(path, sources)
        if sources.by_name:
            names = ", ".join(sources.by_name)
            tell(f"Not looked for, because the picture knows the name alone: {names}. All else is there.")
        else:
            tell(f"Everything is there to make {path} again.")
        return
    # Beside the run and not inside it, where `score` would count a second picture.
    named = path.parent if image.is_dir() or (path.parent / RECORD).is_file() else path.with_suffix("")
    folder = out or named.with_name(f"{named.name}-again")
    with show_progress() as report:
        result = reproduce(path, folder, base, search or (), overwrite, report, seed, device=device)
    if seed is not None:
        tell(f"The scene with the seed {seed}: {result.folder / IMAGE}")
        return
    _tell_result(result)
    if not result.same_bytes:
        raise typer.Exit(0 if result.same_pixels else OTHER_PICTURE)


def _tell_result(result: Reproduction) -> None:
    if result.same_bytes:
        tell(f"The same, byte for byte: {result.folder / IMAGE}")
        return
    if result.same_pixels:
        tell(f"The same picture; what stands inside the file differs: {result.folder / IMAGE}")
    else:
        share = f"{result.changed:.1%} of the pixels differ, by {result.largest} of 255 at most"
        tell(f"NOT the same picture ({share}): {result.folder / IMAGE}")
    for difference in result.differences:
        tell(f"Different: {difference}")
    if not result.differences:
        tell("Nothing that the picture records differs; d2plan's code since then, or the machine's arithmetic, may.")
