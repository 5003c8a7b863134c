"""Tensors that take long to make, kept in a file beside what they are made from."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save_file
from torch import Tensor


def keep_tensors(path: Path, key: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Give tensors from a file, or make them and keep them there.

    A file is believed only when it was made for the same key and holds what was written; anything else, such as one
    that was cut off, is made anew. A file that cannot be written costs time, not the result.

    Args:
        path: ends in ".safetensors".
        key: a digest of all that the tensors depend on, never a path or a date.
        make: makes them, on the CPU.

    Returns:
        Name to tensor.
    """
    kept = _read(path, key)
    if kept is not None:
        return kept
    made = {name: tensor.contiguous() for name, tensor in make().items()}
    _write(path, made, {"key": key, "content": _digest(made)})
    return made


def _read(path: Path, key: str) -> dict[str, Tensor] | None:
    try:
        with safe_open(path, framework="pt") as file:
            words = file.metadata() or {}
        if words.get("key") != key:
            return None
        tensors = load(path.read_bytes())
    except (OSError, SafetensorError, ValueError):
        return None
    return tensors if _digest(tensors) == words.get("content") else None


def _write(path: Path, tensors: Mapping[str, Tensor], words: dict[str, str]) -> None:
    name = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        os.close(handle)
        save_file(dict(tensors), name, words)
        os.replace(name, path)
    except (OSError, SafetensorError):
        return
    finally:
        if name is not None:
            Path(name).unlink(missing_ok=True)


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tuple(tensors[name].shape)} {tensors[name].dtype}".encode())
        digest.update(tensors[name].detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()
