"""``d2plan generate``: pictures of the plain base model."""

from pathlib import Path
from typing import Annotated

import typer

from d2plan.cli.options import Device, Precision
from d2plan.cli.progress import show_progress
from d2plan.cli.tell import tell
from d2plan.workflows.composing.generate import generate


def command(  # noqa: PLR0913  (a command's options are its parameters)
    prompt: Annotated[str, typer.Argument(help="What to draw.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The PNG file.")],
    base: Annotated[str, typer.Option("--base", help="Base model: mini, or a folder.")] = "mini",
    seed: Annotated[int, typer.Option("--seed", help="Seed of the first picture.")] = 0,
    steps: Annotated[int | None, typer.Option("--steps", help="Denoising steps; the base's own without it.")] = None,
    guidance_scale: Annotated[
        float | None, typer.Option("--guidance-scale", help="How strongly the prompt leads; the base's own without it.")
    ] = None,
    count: Annotated[int, typer.Option("--count", help="How many pictures, each with the next seed.")] = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
    device: Device = "cpu",
    precision: Precision = None,
) -> None:
    """Make a picture from a prompt with the base model alone."""
    notes: list[str] = []
    with show_progress() as report:
        paths = generate(
            prompt, out, base, seed, count, overwrite, report,
            steps=steps, guidance_scale=guidance_scale, device=device, precision=precision, on_note=notes.append,
        )  # fmt: skip
    for note in notes:
        tell(f"Note: {note}", err=True)
    for path in paths:
        tell(f"Picture: {path}")
