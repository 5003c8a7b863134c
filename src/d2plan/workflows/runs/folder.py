"""A run's folder: image.png, masks.png, masks/ and run.json, and what else a choice leaves; all there or none."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from d2plan.documents import RunRecord
from d2plan.errors import FileError, InputError
from d2plan.isp.colours import colours_of
from d2plan.isp.loop import Composition
from d2plan.media.images import Picture, fit_image, write_file, write_png
from d2plan.media.png_text import write_texts

IMAGE, MASKS, MASK_FOLDER, RECORD = "image.png", "masks.png", "masks", "run.json"
# Only where a picture was chosen among several.
CANDIDATES, CANDIDATE_SHEET, CANDIDATE_REPORT = "candidates", "candidates.png", "candidates.json"
_FILES = (RECORD, IMAGE, MASKS, CANDIDATE_SHEET, CANDIDATE_REPORT)
_FOLDERS = (MASK_FOLDER, CANDIDATES)
# Training would take pictures that land beside these for its own.
_OF_PICTURES = ("concept.yaml", "world.json")
_SHORTER_SIDE = 384
_SHEET_SIDES = (256, 512)


@contextmanager
def open_run(out: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """Give an empty folder to write a run into; it takes its final name when the block ends well, else it is removed.

    Args:
        out: the final folder; its parents are made.
        overwrite: allow a folder that holds a run: the files of the new one replace those of the same names, the
            record last; other files stay.

    Yields:
        The folder to write into, beside the final one, or inside it where it is there already.

    Raises:
        InputError: the final folder is not empty and ``overwrite`` is off, or it holds something else than a run.
        FileError: it is a file, or cannot be written.
    """
    target = Path(os.path.expanduser(out))
    _refuse_other_things(target)
    check_out(target, overwrite)
    for name in _FOLDERS:
        if (target / name).exists() and not (target / RECORD).exists():
            raise InputError(f"{target}: its {name} belong to no run and would be lost; name another folder.")
    try:
        # A folder that is there stays what it is: the current one, a link, the root of another disk.
        place = target if target.is_dir() else target.parent
        place.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name[:100]}.", suffix=".part", dir=place))
    except OSError as error:
        raise FileError(
            f"{target}: cannot be written here ({error.strerror or error}); choose another folder."
        ) from error
    try:
        yield staging
        _refuse_other_things(target)
        check_out(target, overwrite, staging)
        try:
            _publish(staging, target)
        except OSError as error:
            raise FileError(f"{target}: cannot be written ({error.strerror or error}); choose another.") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def check_out(out: Path, overwrite: bool, own: Path | None = None) -> None:
    """Refuse an output folder that holds something.

    Args:
        out: the folder.
        overwrite: allow it to hold something.
        own: what may lie in it.

    Raises:
        InputError: it is not empty and ``overwrite`` is off, or it is a folder of training pictures.
        FileError: it is a file or a link to nothing, or cannot be looked into.
    """
    try:
        if not out.exists():
            if out.is_symlink():
                raise FileError(f"{out}: is a link to nothing; remove it, or name another folder.")
            return
        if not out.is_dir():
            raise FileError(f"{out}: is a file; name a folder that is new or empty.")
        mark = next((name for name in _OF_PICTURES if (out / name).exists()), None)
        if mark is not None:
            raise InputError(f"{out}: holds training pictures ({mark}), which would be mixed up; name another folder.")
        if not overwrite and any(path != own for path in out.iterdir()):
            raise InputError(f"{out}: is not empty; name another folder, or allow it with --overwrite.")
    except OSError as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"{out}: cannot be looked into ({error.strerror or error}); choose another.") from error


def _refuse_other_things(out: Path) -> None:
    """Refuse a folder whose content belongs to no run: a picture would land among a person's own."""
    try:
        if not out.is_dir() or (out / RECORD).exists():
            return
        # One that was cut off while it was replaced has no record, and holds nothing but a run's files.
        strange = [path.name for path in out.iterdir() if path.name[0] != "." and path.name not in _FILES + _FOLDERS]
    except OSError as error:
        raise FileError(f"{out}: cannot be looked into ({error.strerror or error}); choose another.") from error
    if strange:
        raise InputError(f"{out}: is not empty and holds no run (but {min(strange)}); name another folder.")


def write_run(folder: Path, composition: Composition, record: RunRecord, inside: RunRecord | None = None) -> None:
    """Write a run's files; the record comes last, so that a folder with a record is whole.

    Args:
        folder: an empty one, from ``open_run``.
        composition: the result.
        record: from ``record_run``.
        inside: what the picture says of itself; None is the record.

    Raises:
        FileError: a file cannot be written.
    """
    write_png(folder / IMAGE, composition.image, write_texts(inside or record))
    if record.adapters:
        names = [(use.name, use.class_word) for use in record.adapters]
        masks = composition.partition.masks[1:].numpy()
        write_png(folder / MASKS, draw_masks(composition.image, masks, names))
        (folder / MASK_FOLDER).mkdir()
        for index, mask in enumerate(masks):
            # White is the instance's own area; numbered as in the scene, from 0.
            write_png(folder / MASK_FOLDER / f"{index:02d}.png", _scale_mask(mask, composition.image.shape[:2]))
    write_file(folder / RECORD, (record.model_dump_json(indent=2) + "\n").encode())


def draw_masks(image: Picture, masks: NDArray[np.float32], names: Sequence[tuple[str, str]]) -> Picture:
    """Lay each instance's mask over the picture in a colour of its own, with a legend below.

    Args:
        image: ``[h, w, 3]``, 0..255.
        masks: M_1..M_m, ``[m, a, b]``, 0..1, any resolution.
        names: each one's concept, which decides its colour in every picture, and class word.

    Returns:
        ``[h', w', 3]``, 0..255, at least 384 pixels wide and high.
    """
    scale = max(1, -(-_SHORTER_SIDE // min(image.shape[:2])))
    size = (image.shape[1] * scale, image.shape[0] * scale)
    grey = Image.fromarray(image).convert("L").convert("RGB").resize(size, Image.Resampling.BICUBIC)
    shown = np.asarray(grey, dtype=np.float32) * 0.75 + 40
    colours = colours_of([concept for concept, _ in names])
    for colour, mask in zip(colours, masks, strict=True):
        soft = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.BILINEAR)).clip(0, 1)[..., None]
        shown = shown * (1 - 0.55 * soft) + np.array(colour.rgb, dtype=np.float32) * 0.55 * soft
    line = 26
    sheet = Image.new("RGB", (size[0], size[1] + line * len(names) + 8 * bool(names)), (255, 255, 255))
    sheet.paste(Image.fromarray(shown.clip(0, 255).astype(np.uint8)), (0, 0))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for index, ((name, class_word), colour, mask) in enumerate(zip(names, colours, masks, strict=True)):
        top = size[1] + 8 + index * line
        draw.rectangle((8, top, 24, top + 16), fill=colour.rgb)
        area = f"{float(mask.mean()):.0%} of the picture" if mask.any() else "NO AREA"
        draw.text((34, top), f"{name} ({class_word}): {colour.name}, {area}", (30, 30, 30), font)
    return np.asarray(sheet)


def size_for_sheet(image: Picture) -> Picture:
    """Bring a picture to a size that a sheet of several shows well.

    Args:
        image: ``[h, w, 3]``, 0..255.

    Returns:
        The same picture; its longer side is 256 to 512 pixels.
    """
    longer = max(image.shape[:2])
    # Small pictures grow by whole numbers, so that each of their pixels stays as wide as the next.
    growth = max(1, -(-_SHEET_SIDES[0] // longer))
    scale = min(growth, _SHEET_SIDES[1] / longer)
    return fit_image(image, *(round(side * scale) for side in image.shape[:2]))


def _scale_mask(mask: NDArray[np.float32], size: tuple[int, ...]) -> NDArray[np.uint8]:
    scaled = Image.fromarray(mask).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return (np.asarray(scaled).clip(0, 1) * 255).round().astype(np.uint8)


def _publish(staging: Path, target: Path) -> None:
    if not target.exists():
        staging.chmod(0o755)
        os.replace(staging, target)
        return
    # A folder without a record is no run, so the record goes first and comes last.
    for name in _FILES:
        (target / name).unlink(missing_ok=True)
    for name in _FOLDERS:
        shutil.rmtree(target / name, ignore_errors=True)
    for path in sorted(staging.iterdir(), key=lambda path: path.name == RECORD):
        os.replace(path, target / path.name)
