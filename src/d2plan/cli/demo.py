"""``d2plan demo``: two characters are learnt live and shown in a gallery."""

from pathlib import Path
from typing import Annotated

import typer

from d2plan.cli.progress import show_progress
from d2plan.cli.tell import tell


def command(  # noqa: PLR0913  (a command's options are its parameters)
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A folder for the results; runs/demo-<time> without this.")
    ] = None,
    character: Annotated[
        list[str] | None,
        typer.Option("--character", "-c", help="CLASS or CLASS:SEED, twice, such as -c man:31 -c dog:38."),
    ] = None,
    base: Annotated[str, typer.Option("--base", help="mini, or a folder in the diffusers SDXL layout.")] = "mini",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the training and the noise.")] = 0,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Training steps of each character; the base's own without.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write into a folder that is not empty.")] = False,
) -> None:
    """Learn two characters that the base has never seen, compose a gallery of them, and write a page to look at."""
    from d2plan.workflows.demo.demo import DemoRequest, check_request, make_demo_folder, run_demo
    from d2plan.workflows.demo.scenes import CHARACTERS

    request = DemoRequest(tuple(character or CHARACTERS), base, seed, steps, overwrite)
    check_request(request)
    folder = make_demo_folder(out, overwrite)
    tell(f"Writing to: {folder}", err=True)
    try:
        with show_progress() as report:
            page = run_demo(request, folder, report)
    except KeyboardInterrupt:
        tell(f"What is finished lies in {folder}.", err=True)
        raise
    tell(f"Look at: {page}")
