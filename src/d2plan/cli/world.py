"""``d2plan world``: draw scenes, concept folders and clips of the small world, with their truth."""

from pathlib import Path
from typing import Annotated

import typer

from d2plan.errors import FileError
from d2plan.media.images import contact_sheet, read_image, write_png
from d2plan.world.folders import write_clip, write_concept, write_scenes

SHEET = "sheet.png"
MOST_ON_SHEET = 64

app = typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)

Out = Annotated[Path, typer.Argument(metavar="OUT", help="The folder to make.")]
Seed = Annotated[int, typer.Option("--seed", help="The same seed gives the same files.")]
Size = Annotated[int, typer.Option("--size", help="Height and width of the pictures, pixels.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a folder written by this command.")]


@app.command()
def scenes(
    out: Out,
    count: Annotated[int, typer.Option("--count", "-n", help="How many scenes.")] = 16,
    seed: Seed = 0,
    size: Size = 128,
    overwrite: Overwrite = False,
) -> None:
    """Draw sampled scenes: pictures, captions, a mask for each instance, and all that is true of them."""
    folder = write_scenes(out, count, seed, size, overwrite)
    _write_sheet(folder, folder / SHEET)
    typer.echo(f"{count} scenes in {folder}")


@app.command()
def concept(
    out: Out,
    class_word: Annotated[str, typer.Option("--class", help="What it is, such as dog.")],
    seed: Annotated[int, typer.Option("--seed", help="Which one; 0 to 49999, the seeds above are for tests.")] = 0,
    count: Annotated[int, typer.Option("--count", "-n", help="How many pictures.")] = 16,
    size: Size = 128,
    overwrite: Overwrite = False,
) -> None:
    """Draw one character in many surroundings: a folder that `d2plan train` learns from."""
    folder = write_concept(out, class_word, seed, count, size, overwrite)
    # One folder lower: every picture in the folder itself would be trained on.
    preview = folder / "preview"
    try:
        preview.mkdir()
    except OSError as error:
        raise FileError(f"{preview}: cannot be made ({error.strerror or error}).") from error
    _write_sheet(folder, preview / SHEET)
    typer.echo(f"{count} pictures of a {class_word} in {folder}")


@app.command()
def clip(
    out: Out,
    seed: Seed = 0,
    frames: Annotated[int, typer.Option("--frames", help="How many frames.")] = 24,
    size: Size = 128,
    overwrite: Overwrite = False,
) -> None:
    """Draw two states of one scene and the frames in between, as pictures and as a moving GIF and WebP."""
    folder = write_clip(out, seed, frames, size, overwrite)
    _write_sheet(folder, folder / SHEET, 8)
    typer.echo(f"{frames} frames in {folder}")


def _write_sheet(folder: Path, path: Path, columns: int = 4) -> None:
    """Lay a folder's pictures on one sheet, with their captions where there are any."""
    pictures = sorted(entry for entry in folder.glob("*.png") if entry.stem.isdigit())[:MOST_ON_SHEET]
    captions = [picture.with_suffix(".txt") for picture in pictures]
    labels = [text.read_text(encoding="utf-8") if text.exists() else text.stem for text in captions]
    write_png(path, contact_sheet([read_image(picture) for picture in pictures], columns, labels, 10))
