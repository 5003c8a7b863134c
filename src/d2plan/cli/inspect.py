"""``d2plan inspect``: see what a base or an adapter does inside."""

from pathlib import Path
from typing import Annotated

import typer

from d2plan.cli.options import Device, OtherBase
from d2plan.cli.progress import show_progress
from d2plan.cli.tell import tell

app = typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)


@app.callback()
def inspect() -> None:
    """See what a base or an adapter does inside."""


@app.command()
def attention(  # noqa: PLR0913  (a command's options are its parameters)
    prompt: Annotated[str, typer.Argument(help="What to draw; with an adapter it names it.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The PNG file.")],
    word: Annotated[
        list[str] | None, typer.Option("--word", "-w", help="Whose map to show; may be given again.")
    ] = None,
    base: Annotated[str, typer.Option("--base", help="mini, or a folder in the diffusers SDXL layout.")] = "mini",
    concept: Annotated[Path | None, typer.Option("--concept", help="An adapter, shown below the base.")] = None,
    class_word: Annotated[
        str | None, typer.Option("--class", help="What the concept is, such as dog; the file's own word without this.")
    ] = None,
    identifier: Annotated[
        str | None, typer.Option("--identifier", help="The word that names it; the file's own without this.")
    ] = None,
    other_base: OtherBase = False,
    seed: Annotated[int, typer.Option("--seed", help="Of the noise.")] = 0,
    steps: Annotated[int | None, typer.Option("--steps", help="Denoising steps; the base's own without this.")] = None,
    clusters: Annotated[int, typer.Option("--clusters", help="Groups of pixels, 1 to 7.")] = 5,
    device: Device = "cpu",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a picture that is there.")] = False,
) -> None:
    """Draw where the words of a prompt look, averaged over the steps, and group the pixels by it."""
    from d2plan.workflows.shelf.inspect import InspectOptions, inspect_attention

    options: InspectOptions = {"seed": seed, "clusters": clusters, "device": device, "overwrite": overwrite}
    options |= {"class_word": class_word or "", "identifier": identifier or "", "other_base": other_base}
    if steps is not None:
        options["steps"] = steps
    with show_progress() as report:
        options["on_progress"] = report
        looks = inspect_attention(prompt, out, word or (), base, concept, **options)
    for look in looks:
        for first, second in zip(look.words, look.words[1:], strict=False):
            tell(f"{look.label}: {first} and {second} overlap by {look.overlap(first, second):.2f}")
    tell(f"Picture: {out}")
