"""``d2plan world``: draw scenes, concept folders and clips of the small world, with their truth."""

from pathlib import Path
from typing import Annotated

import typer

from d2plan.cli.tell import tell
from d2plan.config import load_defaults
from d2plan.errors import FileError, InputError
from d2plan.media.images import contact_sheet, read_image, write_png
from d2plan.world.folders import write_clip, write_concept, write_scenes

SHEET = "sheet.png"
MOST_ON_SHEET = 64
SIZE = 128

app = typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)

Place = Annotated[Path | None, typer.Argument(metavar="OUT", help="The folder to make.", show_default=False)]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="The same, as the other commands take it.")]
Seed = Annotated[int, typer.Option("--seed", help="The same seed gives the same files.")]
Base = Annotated[str | None, typer.Option("--base", help="Take this base's picture size where --size is not given.")]
Size = Annotated[
    int | None, typer.Option("--size", help=f"Height and width of the pictures, pixels; {SIZE} without this.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a folder written by this command.")]


@app.command()
def scenes(
    place: Place = None,
    out: Out = None,
    count: Annotated[int, typer.Option("--count", "-n", help="How many scenes.")] = 16,
    seed: Seed = 0,
    size: Size = None,
    base: Base = None,
    overwrite: Overwrite = False,
) -> None:
    """Draw sampled scenes: pictures, captions, a mask for each instance, and all that is true of them."""
    folder = write_scenes(choose_out(place, out), count, seed, choose_size(size, base), overwrite)
    _write_sheet(folder, folder / SHEET)
    tell(f"{count} scenes in {folder}")


@app.command()
def concept(
    class_word: Annotated[str, typer.Option("--class", help="What it is, such as dog.")],
    place: Place = None,
    out: Out = None,
    seed: Annotated[int, typer.Option("--seed", help="Which one; 0 to 49999, the seeds above are for tests.")] = 0,
    count: Annotated[int, typer.Option("--count", "-n", help="How many pictures.")] = 16,
    size: Size = None,
    base: Base = None,
    overwrite: Overwrite = False,
) -> None:
    """Draw one character in many surroundings: a folder that `d2plan train` learns from."""
    folder = write_concept(choose_out(place, out), class_word, seed, count, choose_size(size, base), overwrite)
    # One folder lower: every picture in the folder itself would be trained on.
    preview = folder / "preview"
    try:
        preview.mkdir()
    except OSError as error:
        raise FileError(f"{preview}: cannot be made ({error.strerror or error}).") from error
    _write_sheet(folder, preview / SHEET)
    tell(f"{count} pictures of a {class_word} in {folder}")


@app.command()
def clip(
    place: Place = None,
    out: Out = None,
    seed: Seed = 0,
    frames: Annotated[int, typer.Option("--frames", help="How many frames.")] = 24,
    size: Size = None,
    base: Base = None,
    overwrite: Overwrite = False,
) -> None:
    """Draw two states of one scene and the frames in between, as pictures and as a moving GIF and WebP."""
    folder = write_clip(choose_out(place, out), seed, frames, choose_size(size, base), overwrite)
    _write_sheet(folder, folder / SHEET, 8)
    tell(f"{frames} frames in {folder}")


def choose_out(place: Path | None, out: Path | None) -> Path:
    """Take the folder from wherever it was given, as OUT or behind --out.

    Args:
        place: OUT.
        out: behind --out.

    Returns:
        The folder.

    Raises:
        InputError: it was given twice or not at all.
    """
    if (place is None) == (out is None):
        raise InputError("out: name the folder to make once, as OUT or behind --out.")
    return place or out or Path()


def choose_size(size: int | None, base: str | None) -> int:
    """Say how large the pictures shall be.

    Args:
        size: as asked for, pixels.
        base: the one that they are for.

    Returns:
        The size as asked for, else the base's, else 128 pixels.

    Raises:
        InputError: there is no such base.
    """
    if size is not None or base is None:
        return SIZE if size is None else size
    from d2plan.backbone.load import find_base

    defaults = load_defaults(find_base(base))
    return min(defaults.height, defaults.width)


def _write_sheet(folder: Path, path: Path, columns: int = 4) -> None:
    """Lay a folder's pictures on one sheet, with their captions where there are any."""
    pictures = sorted(entry for entry in folder.glob("*.png") if entry.stem.isdigit())[:MOST_ON_SHEET]
    captions = [picture.with_suffix(".txt") for picture in pictures]
    labels = [text.read_text(encoding="utf-8") if text.exists() else text.stem for text in captions]
    write_png(path, contact_sheet([read_image(picture) for picture in pictures], columns, labels, 10))
