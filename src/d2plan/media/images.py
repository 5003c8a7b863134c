"""Pictures in and out: read what people give, write what they get, and lay several on one sheet."""

import io
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps, PngImagePlugin

from d2plan.errors import FileError, InputError
from d2plan.media.decode import BLACK, Picture, decode_picture

MIDDLE = (0.5, 0.5)
_Font = ImageFont.ImageFont | ImageFont.FreeTypeFont


def read_image(path: str | Path) -> Picture:
    """Read a picture as people would see it.

    The rules are those of ``media.decode.decode_picture``; transparent parts show white.

    Args:
        path: a PNG, JPEG or WebP file.

    Returns:
        ``[h w 3]``, 0..255.

    Raises:
        FileError: missing, not a regular file, another format, larger than 32 million pixels, or damaged.
    """
    return decode_picture(path).pixels


def is_whole(path: Path) -> bool:
    """Say whether a PNG is there and undamaged, by its checksums, which takes much less than to decode it.

    Args:
        path: of the file.

    Returns:
        False too where it cannot be read.
    """
    try:
        with Image.open(path) as image:
            image.verify()
        return True
    # Pillow tells a wrong checksum as a SyntaxError.
    except (OSError, SyntaxError, ValueError):
        return False


def read_mask(path: str | Path) -> NDArray[np.float32]:
    """Read a mask: white is inside, black and transparent are outside.

    Args:
        path: a PNG, JPEG or WebP file.

    Returns:
        ``[h w]``, 0..1.

    Raises:
        FileError: as for `read_image`.
    """
    grey = Image.fromarray(decode_picture(path, BLACK).pixels).convert("L")
    return np.asarray(grey, dtype=np.float32) / np.float32(255)


def write_png(path: str | Path, array: Picture, texts: Mapping[str, str] | None = None) -> None:
    """Write a picture as PNG, whole or not at all.

    Args:
        path: the file's final name; replaced when it is there.
        array: ``[h w 3]`` or ``[h w]``, 0..255.
        texts: keyword to text, kept inside the file.

    Raises:
        InputError: the array is no picture.
        FileError: the file cannot be written.
    """
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        raise InputError(f"{path}: a picture is uint8 [h w 3] or [h w], this is {array.dtype} {list(array.shape)}.")
    info = PngImagePlugin.PngInfo()
    for key, text in (texts or {}).items():
        info.add_itxt(key, text)
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(buffer, format="PNG", pnginfo=info)
    write_file(path, buffer.getvalue())


def write_file(path: str | Path, content: bytes) -> None:
    """Write a file, whole or not at all: beside it first, then renamed.

    Args:
        path: the file's final name; replaced when it is there.
        content: its bytes.

    Raises:
        FileError: the folder is missing, full, or may not be written.
    """
    target = Path(path)
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:100]}.", suffix=".part")
    except OSError as error:
        raise FileError(f"{target}: cannot be written here ({error.strerror or error}).") from error
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o644)
        os.replace(name, target)
    except OSError as error:
        raise FileError(f"{target}: cannot be written ({error.strerror or error}).") from error
    finally:
        Path(name).unlink(missing_ok=True)


def check_output(path: str | Path, overwrite: bool = False) -> None:
    """Refuse the name of an output file before any work is done for it.

    Args:
        path: the file's final name.
        overwrite: allow it to be there already.

    Raises:
        FileError: it is there, is a folder, or can be no name of a file.
    """
    target = Path(path)
    try:
        if target.is_dir():
            raise FileError(f"{target}: is a folder; name a file.")
        if not overwrite and os.path.lexists(target):
            raise FileError(f"{target}: is there already; choose another name, or replace it with --overwrite.")
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{target}: cannot be written ({error.strerror or error}); choose another name.") from error


def make_folder(folder: Path) -> None:
    """Make an output folder, and find out before minutes of work, not after, that nothing can be written into it.

    Args:
        folder: made with its parents where it is missing.

    Raises:
        FileError: it cannot be made, or not be written into.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise FileError(f"{folder}: cannot be written ({error.strerror or error}); choose another folder.") from error


def fit_image(array: Picture, height: int, width: int, centre: tuple[float, float] = MIDDLE) -> Picture:
    """Cut the largest piece of the wanted shape out of a picture and scale it.

    Args:
        array: ``[h w 3]``, 0..255.
        height: of the result, pixels.
        width: of the result, pixels.
        centre: which piece where one side is cut: 0 keeps the top (or left), 1 the bottom (or right).

    Returns:
        ``[height width 3]``, 0..255; the same array when it fits already.
    """
    if array.shape[:2] == (height, width):
        return array
    return np.asarray(ImageOps.fit(Image.fromarray(array), (width, height), Image.Resampling.LANCZOS, 0, centre[::-1]))


def fit_mask(
    mask: NDArray[np.float32], height: int, width: int, centre: tuple[float, float] = MIDDLE
) -> NDArray[np.float32]:
    """Cut and scale a mask as `fit_image` does its picture.

    Args:
        mask: ``[h w]``, 0..1.
        height: of the result, pixels.
        width: of the result, pixels.
        centre: as for the picture.

    Returns:
        ``[height width]``, 0..1.
    """
    if mask.shape == (height, width):
        return mask
    fitted = ImageOps.fit(Image.fromarray(mask), (width, height), Image.Resampling.BILINEAR, 0, centre[::-1])
    return np.clip(np.asarray(fitted, dtype=np.float32), 0, 1)


def contact_sheet(
    images: Sequence[Picture],
    columns: int = 4,
    labels: Sequence[str] | None = None,
    text_size: int = 14,
    lines: int = 1,
) -> Picture:
    """Lay pictures on one white sheet, with text below each.

    Args:
        images: each ``[h w 3]``, 0..255; smaller ones stand in the middle of their cell.
        columns: how many stand side by side.
        labels: one for each picture; a text too long for its cell ends in dots; its own ends of lines count.
        text_size: height of the letters, pixels.
        lines: that a label may take; the sheet has room for as many as the longest one needs.

    Returns:
        ``[h w 3]``, 0..255.

    Raises:
        InputError: no pictures, no columns, or another number of labels than pictures.
    """
    if not images or columns < 1:
        raise InputError("a contact sheet needs at least one picture and one column.")
    if labels is not None and len(labels) != len(images):
        raise InputError(f"a contact sheet of {len(images)} pictures needs {len(images)} labels, not {len(labels)}.")
    gap = 8
    cell_height, cell_width = max(image.shape[0] for image in images), max(image.shape[1] for image in images)
    font = ImageFont.load_default(text_size)
    wrapped = [_wrap(label, font, cell_width, lines) for label in labels or ()]
    pitch = text_size + 4
    line = 4 + pitch * max(map(len, wrapped)) if wrapped else 0
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    size = (gap + columns * (cell_width + gap), gap + rows * (cell_height + line + gap))
    sheet = Image.new("RGB", size, (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        left, top = gap + column * (cell_width + gap), gap + row * (cell_height + line + gap)
        inset = ((cell_width - image.shape[1]) // 2, (cell_height - image.shape[0]) // 2)
        sheet.paste(Image.fromarray(image), (left + inset[0], top + inset[1]))
        for number, text in enumerate(wrapped[index] if wrapped else ()):
            place = (left + cell_width / 2, top + cell_height + 4 + number * pitch)
            draw.text(place, text, (40, 40, 40), font, anchor="ma")
    return np.asarray(sheet)


def _wrap(text: str, font: _Font, width: int, most: int) -> list[str]:
    """Break a text into lines between words; the last line that is allowed takes the rest, cut."""
    if most == 1:
        return [_shorten(text, font, width)]
    lines: list[str] = []
    for part in text.splitlines():
        words = part.split()
        while words and len(lines) < most:
            count = 1
            while count < len(words) and font.getlength(" ".join(words[: count + 1])) <= width:
                count += 1
            rest = words[count:] if len(lines) == most - 1 else []
            lines.append(_shorten(" ".join(words[:count] + rest), font, width))
            words = words[count:]
    return lines or [""]


def _shorten(text: str, font: _Font, width: int) -> str:
    # No letter is narrower than a pixel; measuring a very long text again and again would take minutes.
    text = " ".join(text.split())[: width + 1]
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text.rstrip() + "..."
