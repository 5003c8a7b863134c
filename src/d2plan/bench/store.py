"""The results' folder: every result is a file of its own, whole or not there, and says by a key what made it.

::

    OUT/bench.json                       what is asked of every method
        concepts/NAME/                   pictures that the world drew
        learned/FAMILY/NAME.KEY.*        what a method learnt of a concept (.safetensors), and its cost (.json)
        methods/METHOD/method.json       the setting and the code
                       joined/           states of groups
                       runs/SHOT/        image.png, run.json, and picture.json with the cost and the scores
                       series/           scores of series
                       failures/         what did not work
        tuning/METHOD/N/                 the same again, of one setting on the development concepts
        results.json                     all of it in one file
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from d2plan.bench.protocol import State
from d2plan.bench.records import FORMAT, Results
from d2plan.errors import FileError, InputError
from d2plan.fields import Document
from d2plan.media.images import write_file

PLAN, METHOD, PICTURE, IMAGE, RUN = "bench.json", "method.json", "picture.json", "image.png", "run.json"
RESULTS = "results.json"
_RecordT = TypeVar("_RecordT", bound=Document)


def make_key(*parts: object) -> str:
    """Make a key of what decides a result.

    >>> make_key("a", 1) == make_key("a", 1), make_key("a", 1) == make_key("a", 2)
    (True, False)

    Args:
        *parts: plain data.

    Returns:
        16 hexadecimal digits.
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


class Store:
    """A results' folder.

    Args:
        root: the folder.
        learned: where learnt states lie; None is the folder's own place, a tuning shares that of its benchmark.
    """

    def __init__(self, root: Path, learned: Path | None = None) -> None:
        self.root = root
        self.learned = learned or root / "learned"

    def concept(self, name: str) -> Path:
        """Name the folder of a concept's pictures."""
        return self.root / "concepts" / name

    def state(self, family: str, concept: str, key: str) -> Path:
        """Name the file of a learnt state."""
        return self.learned / family / f"{concept}.{key}.safetensors"

    def method(self, name: str) -> Path:
        """Name a method's folder."""
        return self.root / "methods" / name

    def joined(self, method: str, cast: str) -> Path:
        """Name the file of a group's joined state."""
        return self.method(method) / "joined" / f"{cast}.safetensors"

    def run(self, method: str, shot: str) -> Path:
        """Name a picture's folder."""
        return self.method(method) / "runs" / shot

    def series(self, method: str, name: str) -> Path:
        """Name the file of a series' scores."""
        return self.method(method) / "series" / f"{name}.json"

    def failure(self, method: str, unit: str) -> Path:
        """Name the file of a failure."""
        return self.method(method) / "failures" / f"{unit}.json"

    def tuning(self, method: str, number: int) -> Store:
        """Give the folder of one setting on the development concepts."""
        return Store(self.root / "tuning" / method / str(number), self.root / "tuning" / "learned")

    def write_results(self, results: Results) -> Path:
        """Write the whole.

        Args:
            results: of all methods.

        Returns:
            The file.
        """
        return write_record(self.root / RESULTS, results)


def read_results(path: str | Path) -> Results:
    """Read the results of a benchmark.

    Args:
        path: ``results.json`` or the folder that holds it.

    Returns:
        The results.

    Raises:
        FileError: it cannot be read.
        InputError: it is no such file, or one of another version.
    """
    file = Path(path)
    file = file / RESULTS if file.is_dir() else file
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(
            f"{file}: cannot be read ({error.strerror or error}); give a folder that `d2plan bench` wrote."
        ) from error
    except ValueError as error:
        raise InputError(f"{file}: is not JSON; make it again with `d2plan bench`.") from error
    found = content.get("format") if isinstance(content, dict) else None
    if found is None:
        raise InputError(f"{file}: is not what `d2plan bench` wrote; give one of its folders.")
    if found != FORMAT:
        raise InputError(
            f"{file}: its format is {found}, but this d2plan reads {FORMAT}; run `d2plan bench` again into another "
            "folder."
        )
    try:
        return Results.model_validate(content)
    except ValueError as error:
        raise InputError(f"{file}: is damaged; the same `d2plan bench` writes it anew.") from error


def write_record(path: Path, record: Document, key: str = "") -> Path:
    """Write a record with its key.

    Args:
        path: the file; its folder is made.
        record: what it holds.
        key: of what decides it.

    Returns:
        The file.

    Raises:
        FileError: it cannot be written.
    """
    make_parent(path)
    content = record.model_dump(mode="json")
    write_file(path, (json.dumps({"key": key, "record": content} if key else content, indent=1) + "\n").encode())
    return path


def read_record(path: Path, kind: type[_RecordT], key: str) -> _RecordT | None:
    """Read a record back.

    Args:
        path: the file.
        kind: of record.
        key: that it must have.

    Returns:
        The record; None where it is not there, is damaged, or came from something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return kind.model_validate(content["record"]) if content["key"] == key else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, ValidationError):
        return None


def write_state(path: Path, state: State) -> int:
    """Write a state as safetensors, whole or not at all.

    Args:
        path: the file; its folder is made.
        state: name to tensor, on the CPU, none sharing memory.

    Returns:
        Its bytes.

    Raises:
        FileError: it cannot be written.
    """
    make_parent(path)
    content = save(dict(state))
    write_file(path, content)
    return len(content)


def read_state(path: Path) -> State | None:
    """Read a state back; None where it is not there or damaged."""
    try:
        return load_file(path)
    except (OSError, SafetensorError, ValueError):
        return None


def holds_state(path: Path) -> bool:
    """Say whether a state can be read back; its head says how long it must be, so that no large file is read for it."""
    try:
        with safe_open(path, "pt"):
            return True
    except (OSError, SafetensorError, ValueError):
        return False


def make_parent(path: Path) -> None:
    """Make a file's folder.

    Args:
        path: of the file.

    Raises:
        FileError: it cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{path.parent}: cannot be made ({error.strerror or error}); choose another --out.") from error


def remove_tree(path: Path) -> None:
    """Take a folder away, where it is there.

    Args:
        path: the folder.

    Raises:
        FileError: it cannot be taken away.
    """
    try:
        with suppress(FileNotFoundError):
            shutil.rmtree(path)
    except OSError as error:
        raise FileError(f"{path}: cannot be removed ({error.strerror or error}).") from error


def read_plan(path: Path, remedy: str = "name another --out") -> Mapping[str, object] | None:
    """Read a folder's ``bench.json``, or another file of its kind.

    Args:
        path: the file.
        remedy: what to do where it is damaged.

    Returns:
        What it holds; None where there is none.

    Raises:
        FileError: it cannot be read.
        InputError: it is damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error.strerror or error}); name another --out.") from error
    except ValueError as error:
        raise InputError(f"{path}: is damaged; {remedy}.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: is damaged; {remedy}.")
    return content


def relative_to(path: Path, root: Path) -> str:
    """Write a path from a folder on, where both are on one disk."""
    try:
        return Path(os.path.relpath(path, root)).as_posix()
    except ValueError:
        return path.as_posix()
