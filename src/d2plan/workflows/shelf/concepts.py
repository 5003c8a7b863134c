"""List the adapters of a folder, and show them on one sheet."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from d2plan.adapter.file import SUFFIX, check_header
from d2plan.errors import D2PlanError, FileError
from d2plan.media.images import Picture, contact_sheet, fit_image, read_image, write_png

THUMBNAIL_SUFFIX = ".png"
_SIDE = 160
_BLANK = 235
_COLUMNS = 5


@dataclass(frozen=True)
class ConceptRow:
    """What an adapter's file says about itself.

    Attributes:
        path: of the file.
        name: how people call the concept.
        class_word: what kind of thing it is; empty when the file does not say.
        identifier: the word that names it; empty when the file does not say.
        base: the name of the base and its fingerprint; empty when the file does not say.
        steps: of its training; empty when the file does not say.
        trouble: why the file cannot be used, as far as its header tells; empty when it can.
    """

    path: Path
    name: str
    class_word: str = ""
    identifier: str = ""
    base: str = ""
    steps: str = ""
    trouble: str = ""


def list_concepts(folder: str | Path) -> list[ConceptRow]:
    """Read the headers of all adapters in a folder; the weights are not read.

    Args:
        folder: where the files lie; folders below it are not looked into.

    Returns:
        One row for each ".safetensors" file, by file name, also for those that cannot be used.

    Raises:
        FileError: the folder is missing or cannot be read.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileError(f"{root}: is not a folder; give the one that holds adapters.")
    try:
        paths = sorted(path for path in root.iterdir() if path.suffix == SUFFIX and not path.name.startswith("."))
    except OSError as error:
        raise FileError(f"{root}: cannot be read ({error.strerror or error}); give one that you may read.") from error
    return [_read_row(path) for path in paths]


def write_sheet(path: str | Path, rows: list[ConceptRow]) -> None:
    """Write a sheet with a thumbnail of each concept that can be used.

    Args:
        path: the PNG file; replaced when it is there.
        rows: from ``list_concepts``.

    Raises:
        FileError: there is nothing to show, or the file cannot be written.
    """
    usable = [row for row in rows if not row.trouble]
    if not usable:
        raise FileError(f"{path}: there is no adapter to show; train one with `d2plan train`.")
    pictures = [_find_thumbnail(row.path) for row in usable]
    labels = [f"{row.name}: {row.identifier} {row.class_word}".rstrip(": ") for row in usable]
    write_png(path, contact_sheet(pictures, _COLUMNS, labels))


def _read_row(path: Path) -> ConceptRow:
    try:
        known = check_header(path)[0].words
    except D2PlanError as error:
        return ConceptRow(path, path.stem, trouble=str(error))
    settings = _read_settings(known.get("d2plan.settings", "{}"))
    base = " ".join(part for part in (settings.get("base", ""), known.get("d2plan.base_fingerprint", "")) if part)
    return ConceptRow(
        path,
        known.get("d2plan.name") or path.stem,
        known.get("d2plan.class_word", ""),
        known.get("d2plan.identifier", ""),
        base,
        settings.get("steps", ""),
    )


def _read_settings(text: str) -> dict[str, str]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return {str(key): str(value) for key, value in content.items()} if isinstance(content, dict) else {}


def _find_thumbnail(path: Path) -> Picture:
    try:
        return fit_image(read_image(path.with_suffix(THUMBNAIL_SUFFIX)), _SIDE, _SIDE)
    except FileError:
        return np.full((_SIDE, _SIDE, 3), _BLANK, dtype=np.uint8)
