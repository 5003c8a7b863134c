"""``d2plan generate``: pictures of the plain base model."""

from pathlib import Path
from typing import Annotated

import typer

from d2plan.cli.progress import show_progress
from d2plan.workflows.generate import generate


def command(
    prompt: Annotated[str, typer.Argument(help="What to draw.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The PNG file.")],
    base: Annotated[str, typer.Option("--base", help="Base model: mini, or a folder.")] = "mini",
    seed: Annotated[int, typer.Option("--seed", help="Seed of the first picture.")] = 0,
    steps: Annotated[int | None, typer.Option("--steps", help="Denoising steps; the base's own without it.")] = None,
    guidance_scale: Annotated[
        float | None, typer.Option("--guidance-scale", help="How strongly the prompt leads; the base's own without it.")
    ] = None,
    count: Annotated[int, typer.Option("--count", help="How many pictures, each with the next seed.")] = 1,
) -> None:
    """Make a picture from a prompt with the base model alone."""
    with show_progress() as report:
        paths = generate(prompt, out, base, seed, steps, guidance_scale, count, report)
    for path in paths:
        typer.echo(f"Picture: {path}")
