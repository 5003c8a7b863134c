"""A concept's pictures with the captions, masks and words that lie beside them, ready to be learnt from."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from d2plan.dislora.data_bars import Box, find_content
from d2plan.dislora.data_buckets import Size, choose_bucket, draw_rows
from d2plan.dislora.data_folder import FolderFiles, list_folder
from d2plan.dislora.data_report import DataReport, LeftOut, UsedPicture, remark_on, show_name
from d2plan.dislora.data_words import (
    DEFAULT_TEMPLATE,
    TABLE_FILE,
    WORDS_FILE,
    ConceptWords,
    check_template,
    plain_name,
    read_caption,
    read_table,
    read_words,
)
from d2plan.errors import FileError, InputError
from d2plan.media.decode import DecodedPicture, Picture, decode_picture, turn_upright
from d2plan.media.images import MIDDLE, fit_image, fit_mask, read_mask

__all__ = [
    "DEFAULT_TEMPLATE",
    "ConceptData",
    "ConceptWords",
    "check_template",
    "read_concept_folder",
    "read_concept_words",
]

MAX_BYTES = 4 * 2**30
MOST_LONG = 4.0
SMALLEST_MASK = 1e-3
SAME_SHAPE = 0.01
OWN_TRANSPARENCY = "its own transparency"

Mask = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ConceptData:
    """What a concept is learnt from; n pictures, of one size or of several.

    Attributes:
        names: the pictures' file names, in the order of the pictures.
        images: each ``[h w 3]``, 0..255; h and w are those of its bucket.
        captions: one for each picture, or None.
        masks: where the subject is, ``[h w]``, 0..1, one for each picture, or None.
        words: what the folder says about itself.
        report: what was used, what was left out and why.
    """

    names: tuple[str, ...]
    images: Sequence[Picture]
    captions: tuple[str | None, ...]
    masks: tuple[Mask | None, ...]
    words: ConceptWords = field(default_factory=ConceptWords)
    report: DataReport = field(default_factory=DataReport)

    def __post_init__(self) -> None:
        """Refuse parts that do not belong together."""
        counts = {len(self.names), len(self.images), len(self.captions), len(self.masks)}
        if len(counts) != 1 or not self.names:
            raise InputError(f"data: names, images, captions and masks must be as many, at least one: {counts}.")
        for name, picture, mask in zip(self.names, self.images, self.masks, strict=True):
            if mask is not None and mask.shape != picture.shape[:2]:
                raise InputError(f"data: the mask of {name} is {mask.shape}, its picture {picture.shape[:2]}.")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def sizes(self) -> tuple[Size, ...]:
        """Give each picture's height and width, pixels."""
        return tuple((picture.shape[0], picture.shape[1]) for picture in self.images)

    @property
    def notes(self) -> tuple[str, ...]:
        """Give what a person should know, a sentence each."""
        return self.report.notes

    @property
    def summary(self) -> str:
        """How many pictures, captions and masks there are, in one line."""
        captions = sum(caption is not None for caption in self.captions)
        masks = sum(mask is not None for mask in self.masks)
        return f"{len(self.names)} pictures, {captions} captions, {masks} masks"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that decides what is learnt: names, pixels, captions and masks, in their order."""
        digest = hashlib.sha256()
        for name, picture, caption, mask in zip(self.names, self.images, self.captions, self.masks, strict=True):
            about = (name, picture.shape, caption, mask is not None)
            digest.update(repr(about).encode())
            digest.update(picture.tobytes())
            digest.update(b"" if mask is None else mask.tobytes())
        return digest.hexdigest()

    def batch_rows(self, seed: int, step: int, count: int) -> list[int]:
        """Draw the pictures of one batch, all of one size; the same ones whenever it is asked again.

        See ``data_buckets.draw_rows`` for the order.

        Args:
            seed: of the order.
            step: number of the batch, from 0.
            count: pictures of a batch.

        Returns:
            Their rows.

        Raises:
            InputError: a number is out of range.
        """
        return draw_rows(self.sizes, seed, step, count)


def read_concept_folder(
    folder: str | Path,
    height: int,
    width: int,
    buckets: Sequence[Size] | None = None,
    on_picture: Callable[[int, int], None] | None = None,
) -> ConceptData:
    """Read all that a concept's folder holds.

    Pictures are PNG, JPEG or WebP files in the folder itself, taken in the order of their names; how they are
    converted is told at ``media.decode.decode_picture``. Beside ``rex.png`` may lie ``rex.txt`` (its caption; a line
    of ``metadata.jsonl`` does too) and ``rex.mask.png`` or ``masks/rex.png`` (white where the subject is). Without
    such a mask, a picture with transparent parts is its own mask. ``concept.yaml`` may give the class word,
    identifier, template and name. What cannot be used is left out, and the report says why.

    Args:
        folder: where the pictures lie.
        height: what pictures are cut and scaled to where there are no buckets, pixels.
        width: the same, pixels.
        buckets: heights and widths to choose from for each picture (see ``data_buckets.plan_buckets``).
        on_picture: is told after each file how many are done and how many there are.

    Returns:
        The pictures with what belongs to them.

    Raises:
        FileError: the folder is missing, unreadable, or no picture in it can be used.
        InputError: a caption file, ``metadata.jsonl`` or ``concept.yaml`` cannot be used, or there are too many
            pictures.
    """
    root = Path(folder)
    files = list_folder(root)
    sizes = tuple(buckets) if buckets else ((height, width),)
    _check_room(root, len(files.pictures), sizes)
    table = read_table(root / TABLE_FILE)
    words, word_notes = read_words(root / WORDS_FILE)
    reading = _Reading(files, table, sizes)
    for number, path in enumerate(files.pictures, start=1):
        reading.take(path)
        if on_picture is not None:
            on_picture(number, len(files.pictures))
    there = {plain_name(path.name) for path in files.pictures}
    gone = [f"{TABLE_FILE} names {show_name(name)}, which is not there" for name in sorted(set(table) - there)]
    report = replace(reading.report(), remarks=(*reading.remarks, *word_notes, *gone))
    if not reading.images:
        raise FileError(f"{root}: holds no picture that can be used: {'; '.join(report.notes[:3])}")
    return ConceptData(
        tuple(picture.name for picture in reading.used),
        tuple(reading.images),
        tuple(reading.captions),
        tuple(reading.masks),
        words,
        report,
    )


def read_concept_words(folder: str | Path) -> ConceptWords:
    """Read only what a concept's folder says about itself, so that mistakes show before any work is done.

    Args:
        folder: where the pictures lie.

    Returns:
        The words of ``concept.yaml``, all None without one.

    Raises:
        FileError: the folder is missing or unreadable, or holds no file that could be a picture.
        InputError: ``concept.yaml`` or ``metadata.jsonl`` cannot be used, or there are too many pictures.
    """
    root = Path(folder)
    list_folder(root)
    read_table(root / TABLE_FILE)
    return read_words(root / WORDS_FILE)[0]


class _Reading:
    """What has been read so far of a folder.

    Args:
        files: what lies in it.
        table: the captions of ``metadata.jsonl``.
        sizes: the buckets.
    """

    def __init__(self, files: FolderFiles, table: dict[str, str], sizes: tuple[Size, ...]) -> None:
        self.files = files
        self.table = table
        self.sizes = sizes
        self.used: list[UsedPicture] = []
        self.images: list[Picture] = []
        self.captions: list[str | None] = []
        self.masks: list[Mask | None] = []
        self.left_out = list(files.left_out)
        self.remarks: list[str] = []
        self._seen: dict[str, str] = {}

    def report(self) -> DataReport:
        """Give the report so far, the files left out in the order of their names."""
        return DataReport(tuple(self.used), tuple(sorted(self.left_out, key=lambda item: item.name)))

    def take(self, path: Path) -> None:
        """Read one picture with all that lies beside it, or note why it is left out."""
        try:
            whole = decode_picture(path)
        except FileError as error:
            self._leave(path, _reason(error, path))
            return
        height, width = whole.pixels.shape[:2]
        if whole.opacity is not None and whole.opacity.mean() < SMALLEST_MASK:
            self._leave(path, "is transparent all over")
            return
        mask, source = self._find_mask(path, whole)
        # What is transparent shows one colour without being a bar.
        content = find_content(whole.pixels) if whole.opacity is None else (0, height, 0, width)
        top, bottom, left, right = content
        if not 1 / MOST_LONG <= (bottom - top) / (right - left) <= MOST_LONG:
            self._leave(path, f"is {width} x {height} pixels, too long for a picture; cut the subject out of it")
            return
        bucket = choose_bucket(bottom - top, right - left, self.sizes)
        mask = None if mask is None else _cut_mask(mask, content, (height, width))
        centre = MIDDLE if mask is None else _centre_on(mask, bucket)
        picture = fit_image(whole.pixels[top:bottom, left:right], *bucket, centre)
        if not self._is_first(path, whole, picture):
            return
        fitted = None if mask is None else fit_mask(mask, *bucket, centre)
        if fitted is not None and fitted.mean() < SMALLEST_MASK:
            self._leave_mask(source, "nearly nothing in it is white")
            fitted, source = None, None
        caption, where = self._find_caption(path)
        used = UsedPicture(path.name, height, width, content, bucket, where, source)
        self.used.append(used)
        self.images.append(picture)
        self.captions.append(caption)
        self.masks.append(fitted)
        self.remarks += remark_on(used, whole.animated, bool((picture == picture[0, 0]).all()))

    def _leave(self, path: Path, reason: str) -> None:
        self.left_out.append(LeftOut(path.name, reason))

    def _leave_mask(self, source: str | None, reason: str) -> None:
        if source is not None and source != OWN_TRANSPARENCY:
            self.left_out.append(LeftOut(source, f"{reason}, so the whole picture counts"))

    def _is_first(self, path: Path, whole: DecodedPicture, picture: Picture) -> bool:
        """Tell whether neither the same file nor the same pixels came before."""
        pixels = hashlib.sha256(repr(picture.shape).encode() + picture.tobytes()).hexdigest()
        first = self._seen.get(whole.digest) or self._seen.get(pixels)
        if first is not None:
            self._leave(path, f"shows the same as {show_name(first)}")
            return False
        self._seen[whole.digest] = self._seen[pixels] = path.name
        return True

    def _find_caption(self, path: Path) -> tuple[str | None, str | None]:
        beside = self.files.captions.get(path.stem)
        if beside is None:
            caption = self.table.get(plain_name(path.name))
            return caption, TABLE_FILE if caption is not None else None
        caption = read_caption(beside)
        if caption is None:
            self.remarks.append(f"{show_name(beside.name)} is empty, so the template is used")
            return None, None
        return caption, beside.name

    def _find_mask(self, path: Path, whole: DecodedPicture) -> tuple[Mask | None, str | None]:
        beside = self.files.masks.get(path.stem)
        if beside is None:
            return (None, None) if whole.opacity is None else (whole.opacity, OWN_TRANSPARENCY)
        source = beside.relative_to(path.parent).as_posix()
        try:
            mask = read_mask(beside)
        except FileError as error:
            self._leave_mask(source, _reason(error, beside).rstrip("."))
            return None, None
        shown = whole.pixels.shape[:2]
        if not _same_shape(mask.shape, shown) and mask.shape == whole.stored:
            # Drawn by a tool that passes over EXIF's turn.
            mask = turn_upright(mask, whole.orientation)
        if not _same_shape(mask.shape, shown):
            sizes = f"it is {mask.shape[1]} x {mask.shape[0]} pixels, its picture {shown[1]} x {shown[0]}"
            self._leave_mask(source, sizes)
            return None, None
        return mask, source


def _check_room(root: Path, count: int, sizes: tuple[Size, ...]) -> None:
    needed = count * 3 * max(height * width for height, width in sizes)
    if needed > MAX_BYTES:
        raise InputError(
            f"{root}: {count} pictures of this size need {needed / 2**30:.1f} GiB of memory; the limit is "
            f"{MAX_BYTES // 2**30} GiB. A concept needs about 16 pictures."
        )


def _reason(error: FileError, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ").rstrip(".")


def _same_shape(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return abs(one[0] * other[1] / (one[1] * other[0]) - 1) <= SAME_SHAPE


def _cut_mask(mask: Mask, content: Box, shown: Size) -> Mask:
    """Cut a mask as its picture was cut; it may have been drawn at another resolution."""
    rows, columns = mask.shape[0] / shown[0], mask.shape[1] / shown[1]
    top, bottom, left, right = content
    return mask[round(top * rows) : round(bottom * rows), round(left * columns) : round(right * columns)]


def _centre_on(mask: Mask, bucket: Size) -> tuple[float, float]:
    """Choose the cut that has the subject in its middle, as far as the picture's borders allow."""
    inside = mask > 0.5
    if not inside.any():
        return MIDDLE
    scale = max(bucket[0] / mask.shape[0], bucket[1] / mask.shape[1])
    centre = []
    for axis in (0, 1):
        places = np.flatnonzero(inside.any(axis=1 - axis))
        middle = (places[0] + places[-1] + 1) / 2 / mask.shape[axis]
        kept = min(1.0, bucket[axis] / (scale * mask.shape[axis]))
        free = 1 - kept
        centre.append(float(np.clip((middle - kept / 2) / free, 0, 1)) if free > 1e-6 else 0.5)
    return centre[0], centre[1]
