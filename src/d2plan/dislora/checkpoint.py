"""A training's folder: the lock that keeps others out, and checkpoints of which the last complete one always loads.

A checkpoint is one safetensors file. It is written under another name, forced to the disk, renamed, and only then named
in ``manifest.json``, which is replaced in the same way; older files go when the new manifest is on the disk. Whatever
is not in the manifest does not count, so a stop at any moment leaves the checkpoint before.
"""

import contextlib
import hashlib
import json
import os
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from d2plan.errors import FileError, InputError

try:
    import fcntl
except ImportError:  # pragma: no cover  (a system without it makes do with a file that is there or not)
    fcntl = None  # type: ignore[assignment]

MANIFEST, LOCK, PART = "manifest.json", "lock", ".part"
KEPT = 2
_MOST_MANIFEST = 1_000_000


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A training as it was after a step.

    Attributes:
        step: how many were done.
        tensors: its state.
        notes: sentences for the person, such as that a newer checkpoint was damaged.
    """

    step: int
    tensors: Mapping[str, Tensor]
    notes: tuple[str, ...] = ()


@contextmanager
def lock_folder(folder: Path) -> Iterator[Path]:
    """Make a training's folder and keep every other training out of it while the block runs.

    The system lets go of the lock when the process ends, however it ends, so a crash leaves none behind.

    Args:
        folder: of the training; made if it is missing.

    Yields:
        The folder, without what an interrupted write left in it.

    Raises:
        FileError: another training holds it, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = _take_lock(folder / LOCK)
    except OSError as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"{folder}: cannot be written here ({error.strerror or error}); choose another.") from error
    try:
        for path in filter(is_leftover, folder.iterdir()):
            path.unlink(missing_ok=True)
        yield folder
    finally:
        if fcntl is None:
            (folder / LOCK).unlink(missing_ok=True)
        os.close(handle)


def is_leftover(path: Path) -> bool:
    """Tell whether a file is what an interrupted write left behind.

    Args:
        path: in a training's folder.

    Returns:
        True of ours, and of the one that safetensors writes beside a file before it renames it.
    """
    ours = path.name.startswith(".") and path.name.endswith(PART)
    return path.is_file() and (ours or path.name.startswith(".tmp"))


def save_checkpoint(folder: Path, step: int, tensors: Mapping[str, Tensor], words: Mapping[str, str]) -> None:
    """Write a checkpoint; when this returns it is on the disk, and before that the one before still is.

    Args:
        folder: of the training, locked.
        step: how many were done.
        tensors: the state, on the CPU, none sharing memory.
        words: what it is a training of.

    Raises:
        FileError: the disk is full or the folder may not be written; nothing was lost.
    """
    name = f"step-{step:07}.safetensors"

    def write(path: Path) -> str:
        save_file(dict(tensors), path, {"words": json.dumps(dict(words), sort_keys=True), "step": str(step)})
        return _hash_file(path)

    try:
        digest = _write_durably(folder / name, write)
        others = [entry for entry in _read_manifest(folder) if entry["file"] != name]
        kept = [{"file": name, "step": step, "sha256": digest}, *others][:KEPT]
        content = json.dumps({"format": 1, "checkpoints": kept}, indent=1).encode()
        _write_durably(folder / MANIFEST, lambda path: path.write_bytes(content))
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FileError(
            f"{folder}: a checkpoint cannot be written ({reason}); make room, then go on with --resume."
        ) from error
    names = {entry["file"] for entry in kept}
    for path in folder.glob("step-*.safetensors"):
        if path.name not in names:
            # One that stays costs room only.
            with contextlib.suppress(OSError):
                path.unlink()


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """Read the last complete checkpoint.

    Args:
        folder: of the training.

    Returns:
        The checkpoint, the one before where the last is damaged; None where none was ever made.

    Raises:
        FileError: there were checkpoints and none can be read.
    """
    notes: list[str] = []
    for entry in _read_manifest(folder):
        path = folder / str(entry["file"])
        try:
            if _hash_file(path) != entry["sha256"]:
                raise ValueError("its content has changed")
            # What is mapped from its file would change with it, and end the program when it is cut.
            tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
            return Checkpoint(int(str(entry["step"])), tensors, tuple(notes))
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            notes.append(f"{path} is damaged ({error}), so the checkpoint before it is used")
    if notes:
        raise FileError(f"{folder}: no checkpoint in it can be read; begin anew with --overwrite.")
    return None


def read_words(folder: Path) -> dict[str, str]:
    """Read what a stopped training is a training of, without its state.

    Args:
        folder: of the training.

    Returns:
        What to value, of the last checkpoint that can be read; empty where there is none.

    Raises:
        FileError: the manifest is damaged.
    """
    for entry in _read_manifest(folder):
        with contextlib.suppress(OSError, SafetensorError, ValueError, KeyError):
            return _read_words(folder / str(entry["file"]))
    return {}


def last_step(folder: Path) -> int:
    """Tell how far a training came, without reading its state.

    Args:
        folder: of the training.

    Returns:
        Steps; 0 where there is no checkpoint.
    """
    return max((int(str(entry["step"])) for entry in _read_manifest(folder)), default=0)


def remove_checkpoints(folder: Path) -> None:
    """Forget all checkpoints, the manifest first, so that none is named that is not there.

    Args:
        folder: of the training, locked.

    Raises:
        FileError: a file cannot be removed.
    """
    try:
        for path in (folder / MANIFEST, *folder.glob("step-*.safetensors")):
            path.unlink(missing_ok=True)
    except OSError as error:
        raise FileError(f"{folder}: cannot be emptied ({error.strerror or error}); remove it yourself.") from error


def compare_words(saved: Mapping[str, str], present: Mapping[str, str], folder: Path) -> None:
    """Refuse to go on with something else than what was stopped.

    Args:
        saved: the checkpoint's words.
        present: those of the training that shall go on.
        folder: for the message.

    Raises:
        InputError: they differ; the first few differences are named.
    """
    differing = [name for name in sorted(saved.keys() | present.keys()) if saved.get(name) != present.get(name)]
    if differing:
        hashed = ("base", "pictures")
        told = ", ".join(
            f"the {name} differ{'s' if name == 'base' else ''}"
            if name in hashed
            else f"{name} was {saved.get(name)}, is {present.get(name)}"
            for name in differing[:3]
        )
        raise InputError(
            f"{folder} holds a training that differs ({told}); give the same again, go on all the same with "
            "--resume-changed, or begin anew with --overwrite."
        )


def _take_lock(path: Path) -> int:
    while True:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | (os.O_EXCL if fcntl is None else 0)
        handle = -1
        try:
            handle = os.open(path, flags, 0o644)
            if fcntl is not None:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, FileExistsError) as error:
            if handle >= 0:
                os.close(handle)
            raise FileError(f"{path.parent}: another training uses it ({_read_owner(path)}); wait for it.") from error
        # Between opening and locking, the training that held it may have ended and removed the file.
        if path.exists() and os.path.samestat(os.fstat(handle), os.stat(path)):
            os.ftruncate(handle, 0)
            os.write(handle, f"process {os.getpid()} on {socket.gethostname()}".encode())
            return handle
        os.close(handle)


def _read_owner(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")[:200] or "just begun"
    except OSError:
        return "just begun"


def _read_manifest(folder: Path) -> list[dict[str, object]]:
    path = folder / MANIFEST
    try:
        # A pipe would wait for a writer for ever.
        if not path.exists():
            return []
        if not stat.S_ISREG(path.stat().st_mode) or path.stat().st_size > _MOST_MANIFEST:
            raise ValueError("it is no small file")
        content = json.loads(path.read_text(encoding="utf-8"))
        entries = content["checkpoints"]
        for entry in entries:
            if {"file", "step", "sha256"} - entry.keys() or Path(str(entry["file"])).name != entry["file"]:
                raise ValueError("an entry lacks a field")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FileError(f"{path} is damaged ({error}); begin anew with --overwrite.") from error
    return list(entries)


def _read_words(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return dict(json.loads((file.metadata() or {})["words"]))


def _write_durably(target: Path, write: Callable[[Path], object]) -> str:
    """Write beside, force to the disk, rename, force the folder to the disk; gives what ``write`` gave."""
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=PART)
    os.close(descriptor)
    try:
        given = write(Path(name))
        force(Path(name))
        os.replace(name, target)
        force(target.parent)
    finally:
        Path(name).unlink(missing_ok=True)
    return str(given)


def force(path: Path) -> None:
    """Wait until a file's content, or the names in a folder, are on the disk.

    Args:
        path: the file or folder.

    Raises:
        OSError: it cannot be done.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
