"""A concept's folder: its pictures, and the captions, masks and words that lie beside them."""

import json
import os
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from d2plan.documents import read_yaml
from d2plan.errors import D2PlanError, FileError, InputError
from d2plan.media.images import Picture, fit_image, fit_mask, read_image, read_mask

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
OTHER_PICTURE_SUFFIXES = (".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jp2", ".svg")
MASK_MARK = ".mask"
MASK_FOLDER = "masks"
TABLE_FILE = "metadata.jsonl"
WORDS_FILE = "concept.yaml"
DEFAULT_TEMPLATE = "a photo of a {}"
MAX_PICTURES = 1000
MAX_TEXT_BYTES = 4 * 2**20
MAX_CAPTION = 2000
SMALLEST_MASK = 1e-3


@dataclass(frozen=True)
class ConceptWords:
    """What a concept's folder says about itself; None where it says nothing.

    Attributes:
        class_word: what kind of thing it is.
        identifier: the word that shall name it.
        template: a prompt with ``{}`` where the class word or the identifier goes.
        name: what people call it.
    """

    class_word: str | None = None
    identifier: str | None = None
    template: str | None = None
    name: str | None = None


@dataclass(frozen=True)
class ConceptData:
    """What a concept is learnt from.

    Attributes:
        names: the pictures' file names, in the order of the pictures.
        images: ``[n h w 3]``, 0..255.
        captions: one for each picture, or None.
        masks: where the subject is, ``[h w]``, 0..1, one for each picture, or None.
        words: what the folder says about itself.
        notes: what was left out and why, a sentence each.
    """

    names: tuple[str, ...]
    images: Picture
    captions: tuple[str | None, ...]
    masks: tuple[NDArray[np.float32] | None, ...]
    words: ConceptWords = field(default_factory=ConceptWords)
    notes: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """How many pictures, captions and masks there are, in one line."""
        captions = sum(caption is not None for caption in self.captions)
        masks = sum(mask is not None for mask in self.masks)
        return f"{len(self.names)} pictures, {captions} captions, {masks} masks"


def read_concept_folder(folder: str | Path, height: int, width: int) -> ConceptData:
    """Read all that a concept's folder holds.

    Pictures are PNG, JPEG or WebP files in the folder itself, taken in the order of their names. Beside ``rex.png``
    may lie ``rex.txt`` (its caption; a line of ``metadata.jsonl`` does too) and ``rex.mask.png`` or
    ``masks/rex.png`` (white where the subject is). ``concept.yaml`` may give the class word, identifier, template
    and name. A picture or mask that cannot be used is left out, and a note says why.

    Args:
        folder: where the pictures lie.
        height: what pictures are cut and scaled to, pixels.
        width: the same, pixels.

    Returns:
        The pictures with what belongs to them.

    Raises:
        FileError: the folder is missing, unreadable, or no picture in it can be used.
        InputError: a caption file, ``metadata.jsonl`` or ``concept.yaml`` cannot be used.
    """
    root = Path(folder)
    paths, notes = _list_pictures(root)
    table = _read_table(root / TABLE_FILE)
    words, word_notes = _read_words(root / WORDS_FILE)
    notes += word_notes
    names, images, captions, masks = [], [], [], []
    for path in paths:
        try:
            whole = read_image(path)
        except FileError as error:
            notes.append(f"left out {error}")
            continue
        names.append(path.name)
        images.append(fit_image(whole, height, width))
        captions.append(_read_caption(path, table))
        masks.append(_read_subject(path, whole.shape[:2], (height, width), notes))
    notes += [f"{TABLE_FILE} names {name}, which is not there" for name in sorted(set(table) - {p.name for p in paths})]
    if not images:
        raise FileError(f"{root}: holds no picture that can be used: {'; '.join(notes[:3])}")
    return ConceptData(tuple(names), np.stack(images), tuple(captions), tuple(masks), words, tuple(notes))


def read_concept_words(folder: str | Path) -> ConceptWords:
    """Read only what a concept's folder says about itself, so that mistakes show before any work is done.

    Args:
        folder: where the pictures lie.

    Returns:
        The words of ``concept.yaml``, all None without one.

    Raises:
        FileError: the folder is missing or unreadable, or holds no file that could be a picture.
        InputError: ``concept.yaml`` cannot be used.
    """
    _list_pictures(Path(folder))
    return _read_words(Path(folder) / WORDS_FILE)[0]


def _list_pictures(root: Path) -> tuple[list[Path], list[str]]:
    try:
        entries = sorted(root.iterdir(), key=lambda path: path.name)
    except FileNotFoundError as error:
        raise FileError(f"{root}: there is no such folder; give the one that holds the pictures.") from error
    except NotADirectoryError as error:
        raise FileError(f"{root}: is a file; give the folder that holds the pictures.") from error
    except OSError as error:
        raise FileError(f"{root}: cannot be read ({error.strerror or error}).") from error
    shown = [path for path in entries if not path.name.startswith(".")]
    pictures = [path for path in shown if path.suffix.lower() in PICTURE_SUFFIXES and not _is_mask(path)]
    others = [path for path in shown if path.suffix.lower() in OTHER_PICTURE_SUFFIXES]
    notes = [f"left out {path.name}: save it as PNG, JPEG or WebP" for path in others]
    if not pictures:
        seen = f"; it holds {', '.join(path.name for path in shown[:3])}" if shown else "; it is empty"
        raise FileError(f"{root}: holds no PNG, JPEG or WebP picture{seen}.")
    if len(pictures) > MAX_PICTURES:
        raise InputError(f"{root}: holds {len(pictures)} pictures; a concept needs about 16, at most {MAX_PICTURES}.")
    return pictures, notes


def _is_mask(path: Path) -> bool:
    return Path(path.stem).suffix == MASK_MARK


def _read_text(path: Path) -> str | None:
    """Read a small UTF-8 file; None when there is none."""
    try:
        if not path.exists():
            return None
        if not path.is_file() or path.stat().st_size > MAX_TEXT_BYTES:
            raise FileError(f"{path}: is not a text file of at most {MAX_TEXT_BYTES // 2**20} MiB.")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError(f"{path}: is not UTF-8 text; save it as such.") from error
    except D2PlanError:
        raise
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error.strerror or error}).") from error


def _check_caption(text: str, where: str) -> str | None:
    caption = " ".join(text.split())
    if len(caption) > MAX_CAPTION or "\0" in caption:
        raise InputError(f"{where}: a caption is a line of at most {MAX_CAPTION} characters.")
    return caption or None


def _read_caption(path: Path, table: dict[str, str]) -> str | None:
    beside = path.with_suffix(".txt")
    text = _read_text(beside)
    return _check_caption(text, str(beside)) if text is not None else table.get(path.name)


def _read_table(path: Path) -> dict[str, str]:
    captions: dict[str, str] = {}
    for number, line in enumerate((_read_text(path) or "").splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where}: is not JSON; write one object a line.") from error
        name = row.get("file_name") if isinstance(row, dict) else None
        text = row.get("text", row.get("caption")) if isinstance(row, dict) else None
        if not isinstance(name, str) or not isinstance(text, str):
            raise InputError(f'{where}: needs "file_name" and "text".')
        caption = _check_caption(text, where)
        if caption is not None:
            captions[name] = caption
    return captions


def _read_words(path: Path) -> tuple[ConceptWords, list[str]]:
    content = read_yaml(path) if os.path.lexists(path) else None
    if content is None:
        return ConceptWords(), []
    if not isinstance(content, dict):
        raise InputError(f"{path}: needs lines such as 'class_word: dog'.")
    known = tuple(ConceptWords.__dataclass_fields__)
    values: dict[str, str] = {}
    notes: list[str] = []
    for key, value in content.items():
        if key not in known:
            near = get_close_matches(str(key), known, 1)
            notes.append(f"{WORDS_FILE}: {key} is not used" + (f"; did you mean {near[0]}?" if near else ""))
        elif value is not None:
            if not isinstance(value, str) or not value.strip():
                raise InputError(f"{path}: {key} must be text, not {value!r}.")
            values[key] = value.strip()
    if "template" in values:
        check_template(values["template"], f"{path}: template")
    return ConceptWords(**values), notes


def check_template(template: str, where: str = "template") -> None:
    """Refuse a template without exactly one place for the class word.

    Args:
        template: a prompt such as ``a photo of a {}``.
        where: how the error calls it.

    Raises:
        InputError: it has none or several.
    """
    if template.count("{}") != 1:
        raise InputError(f'{where} is "{template}"; write {{}} once, where the class word goes, last if possible.')


def _read_subject(
    path: Path, whole: tuple[int, ...], size: tuple[int, int], notes: list[str]
) -> NDArray[np.float32] | None:
    beside = (path.with_name(path.stem + MASK_MARK + ".png"), path.parent / MASK_FOLDER / (path.stem + ".png"))
    mask_path = next((candidate for candidate in beside if candidate.exists()), None)
    if mask_path is None:
        return None
    try:
        mask = read_mask(mask_path)
    except FileError as error:
        notes.append(f"left out the mask {error}")
        return None
    if mask.shape != whole:
        notes.append(
            f"left out the mask {mask_path.name}: it is {mask.shape[1]} x {mask.shape[0]} pixels, "
            f"its picture {whole[1]} x {whole[0]}"
        )
        return None
    fitted = fit_mask(mask, *size)
    if fitted.mean() < SMALLEST_MASK:
        notes.append(f"left out the mask {mask_path.name}: nearly nothing in it is white")
        return None
    return fitted
