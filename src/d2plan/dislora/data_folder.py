"""What lies in a concept's folder: pictures, and which caption and mask belongs to which of them."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from d2plan.dislora.data_report import LeftOut, show_name
from d2plan.dislora.data_words import TABLE_FILE, WORDS_FILE
from d2plan.errors import FileError, InputError

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".webp")
OTHER_PICTURE_SUFFIXES = (
    ".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jp2", ".jxl", ".svg", ".psd", ".dng"
)  # fmt: skip
CAPTION_SUFFIXES = (".txt", ".caption")
MASK_MARK = ".mask"
MASK_FOLDER = "masks"
MAX_PICTURES = 1000
MAX_FILES = 20_000
# Files that lie there for good reasons: the world's truth and its sheet to look at, and what systems leave behind.
SILENT_NAMES = ("world.json", "preview", "Thumbs.db", "desktop.ini", TABLE_FILE, WORDS_FILE, MASK_FOLDER)
_NEAR_NAMES = {"metadata.csv": TABLE_FILE, "metadata.json": TABLE_FILE, "concept.yml": WORDS_FILE}


@dataclass(frozen=True)
class FolderFiles:
    """The files of a concept's folder.

    Attributes:
        pictures: files that say they are pictures, in the order of their names.
        captions: a picture's name without its ending, to its caption file.
        masks: the same to its mask file.
        left_out: files that belong to nothing.
    """

    pictures: tuple[Path, ...]
    captions: dict[str, Path]
    masks: dict[str, Path]
    left_out: tuple[LeftOut, ...]


def list_folder(root: Path) -> FolderFiles:
    """List a concept's folder; nothing but names is read.

    Args:
        root: the folder.

    Returns:
        Its files, sorted out by their names.

    Raises:
        FileError: it is missing, unreadable, or no name in it is a picture's.
        InputError: it holds far more than a concept's pictures.
    """
    names = _read_names(root)
    shown = [name for name in names if not name.startswith(".")]
    pictures = [name for name in shown if _is_picture(name) and not _is_mask(name)]
    if not pictures:
        raise FileError(f"{root}: holds no PNG, JPEG or WebP picture{_look_further(root, shown)}.")
    if len(pictures) > MAX_PICTURES:
        raise InputError(f"{root}: holds {len(pictures)} pictures; a concept needs about 16, at most {MAX_PICTURES}.")
    captions = {Path(name).stem: root / name for name in reversed(shown) if _ending(name) in CAPTION_SUFFIXES}
    beside = {
        Path(Path(name).stem).stem: root / name for name in reversed(shown) if _is_picture(name) and _is_mask(name)
    }
    masks = {**_list_masks(root), **beside}
    stems = {Path(name).stem for name in pictures}
    left_out = list(_sort_out(root, names, stems))
    left_out += [
        LeftOut(path.relative_to(root).as_posix(), "is the mask of no picture")
        for stem, path in masks.items()
        if stem not in stems
    ]
    return FolderFiles(tuple(root / name for name in pictures), captions, masks, tuple(left_out))


def _read_names(root: Path) -> list[str]:
    try:
        with os.scandir(root) as entries:
            names = [entry.name for entry in islice(entries, MAX_FILES + 1)]
    except FileNotFoundError as error:
        raise FileError(f"{root}: there is no such folder; give the one that holds the pictures.") from error
    except NotADirectoryError as error:
        raise FileError(f"{root}: is a file; give the folder that holds the pictures.") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FileError(f"{root}: cannot be read ({reason}); give a folder that you may read.") from error
    if len(names) > MAX_FILES:
        raise InputError(f"{root}: holds more than {MAX_FILES} files; give a folder of one concept's pictures alone.")
    return sorted(names)


def _list_masks(root: Path) -> dict[str, Path]:
    folder = root / MASK_FOLDER
    if not os.path.lexists(folder):
        return {}
    names = [name for name in _read_names(folder) if _is_picture(name) and not name.startswith(".")]
    return {Path(name).stem: folder / name for name in reversed(names)}


def _sort_out(root: Path, names: list[str], stems: set[str]) -> Iterator[LeftOut]:
    for name in names:
        if name in SILENT_NAMES or (_is_picture(name) and not name.startswith(".")):
            continue
        reason = _why_not(root, name, stems)
        if reason is not None:
            yield LeftOut(name, reason)


def _why_not(root: Path, name: str, stems: set[str]) -> str | None:
    ending = _ending(name)
    if name.startswith("."):
        # A Mac leaves a hidden shadow of every file on foreign disks.
        return "is a hidden file" if _is_picture(name) and not name.startswith("._") else None
    if name in _NEAR_NAMES:
        return f"is not read; write {_NEAR_NAMES[name]}"
    if ending in OTHER_PICTURE_SUFFIXES:
        return "save it as PNG, JPEG or WebP"
    if ending in CAPTION_SUFFIXES:
        return None if Path(name).stem in stems else "is the caption of no picture"
    if (root / name).is_dir():
        return "is a folder; pictures in it are not read"
    return "is no picture, caption or mask"


def _look_further(root: Path, shown: list[str]) -> str:
    for name in shown[:100]:
        inner = root / name
        if name != MASK_FOLDER and inner.is_dir() and os.access(inner, os.R_OK | os.X_OK):
            with os.scandir(inner) as entries:
                if any(_is_picture(entry.name) for entry in islice(entries, MAX_FILES)):
                    return f"; the folder {show_name(name)} in it does, give that one"
    if any(_is_picture(name) for name in shown):
        return " but masks; give the folder that holds the pictures, too"
    return f"; it holds {', '.join(show_name(name) for name in shown[:3])}" if shown else "; it is empty"


def _ending(name: str) -> str:
    return Path(name).suffix.lower()


def _is_picture(name: str) -> bool:
    return _ending(name) in PICTURE_SUFFIXES


def _is_mask(name: str) -> bool:
    return Path(Path(name).stem).suffix.lower() == MASK_MARK
