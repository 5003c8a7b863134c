"""What a concept's folder says in words: captions beside the pictures, a table of captions, concept.yaml."""

import json
import os
import unicodedata
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from d2plan.errors import FileError, InputError
from d2plan.media.decode import read_bytes
from d2plan.yaml_file import read_yaml

TABLE_FILE = "metadata.jsonl"
WORDS_FILE = "concept.yaml"
DEFAULT_TEMPLATE = "a photo of a {}"
MAX_TEXT_BYTES = 4 * 2**20
MAX_CAPTION = 2000
CAPTION_COLUMNS = ("text", "caption", "prompt")


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


def read_words(path: Path) -> tuple[ConceptWords, list[str]]:
    """Read ``concept.yaml``.

    Args:
        path: the file; it may be missing.

    Returns:
        What it says, and a note on each key that means nothing.

    Raises:
        FileError: it cannot be read.
        InputError: it is not YAML, not a list of keys, or a value is not text.
    """
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
                raise InputError(f"{path}: {key} must be text, not {value!r}; put it between quotes.")
            values[key] = _check_line(value, f"{path}: {key}") or ""
    if "template" in values:
        check_template(values["template"], f"{path}: template")
    return ConceptWords(**values), notes


def read_caption(path: Path) -> str | None:
    """Read the caption in a text file; its lines become one.

    Args:
        path: the file, UTF-8.

    Returns:
        The caption; None when the file holds none.

    Raises:
        FileError: it cannot be read, or is not UTF-8.
        InputError: it is too long.
    """
    return _check_line(_read_text(path), str(path))


def read_table(path: Path) -> dict[str, str]:
    """Read ``metadata.jsonl``: an object a line, with ``file_name`` and ``text`` (or ``caption``, or ``prompt``).

    Args:
        path: the file; it may be missing.

    Returns:
        The picture's name (see `plain_name`) to its caption.

    Raises:
        FileError: it cannot be read, or is not UTF-8.
        InputError: a line cannot be used, or a picture is named twice.
    """
    captions: dict[str, str] = {}
    seen: set[str] = set()
    for number, line in enumerate((_read_text(path) if os.path.lexists(path) else "").splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        name, text = _read_row(line, where)
        if name in seen:
            raise InputError(f"{where}: names {name} a second time; keep one line a picture.")
        seen.add(name)
        caption = _check_line(text, where)
        if caption is not None:
            captions[name] = caption
    return captions


def plain_name(name: str) -> str:
    """Write a file's name in the one form in which names are compared: systems spell the same letters differently.

    >>> plain_name("./a.png")
    'a.png'

    Args:
        name: as a system or a table gives it.

    Returns:
        The name in Unicode's composed form, without a leading ``./``.
    """
    return unicodedata.normalize("NFC", name.removeprefix("./"))


def _read_row(line: str, where: str) -> tuple[str, str]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: is not JSON; write one object a line.") from error
    fields = row if isinstance(row, dict) else {}
    name = fields.get("file_name")
    text = next((fields[column] for column in CAPTION_COLUMNS if column in fields), None)
    if not isinstance(name, str) or not isinstance(text, str):
        raise InputError(f'{where}: needs "file_name" and "text".')
    return plain_name(name), text


def _read_text(path: Path) -> str:
    try:
        return read_bytes(path, MAX_TEXT_BYTES, "a UTF-8 text").decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError(f"{path}: is not UTF-8 text; save it as such.") from error


def _check_line(text: str, where: str) -> str | None:
    line = " ".join(text.split())
    if len(line) > MAX_CAPTION or any(unicodedata.category(letter) in ("Cc", "Cs") for letter in line):
        raise InputError(f"{where}: must be one plain line of at most {MAX_CAPTION} characters.")
    return line or None
