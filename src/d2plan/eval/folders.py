"""Folders of models in transformers' format: where they are, which weights they hold, and what is wrong with them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from transformers.utils import logging

from d2plan.errors import FileError

_SAMPLES = 4096


def fingerprint(folder: Path) -> str:
    """Tell the weights of one folder from another's.

    Args:
        folder: holds weight files, at any depth.

    Returns:
        12 hexadecimal digits of a SHA-256 over each file's name and size, its first bytes, and samples spread over it.

    Raises:
        FileError: there is no weight file.
    """
    weights = [path for path in sorted(folder.rglob("*")) if path.suffix in (".safetensors", ".bin", ".onnx")]
    if not weights:
        raise FileError(f"{folder}: holds no weights (safetensors); name a folder in transformers' format.")
    digest = hashlib.sha256()
    for path in weights:
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder).as_posix()} {size}".encode())
        with path.open("rb") as file:
            for place in range(0, size, max(_SAMPLES, size // 256)):
                file.seek(place)
                digest.update(file.read(_SAMPLES))
    return digest.hexdigest()[:12]


def find_folder(source: str, name: str) -> Path:
    """Give the folder of a path or of a model of the hub that is already on this machine.

    Args:
        source: the path or the hub's id.
        name: the encoder's, for messages.

    Returns:
        The folder.

    Raises:
        FileError: it is neither here nor downloaded.
    """
    if Path(source).is_dir():
        return Path(source)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", source) or Path(source).exists():
        raise FileError(f"encoder {name}: {source} is not a folder; name one in transformers' format or a hub id.")
    try:
        return Path(snapshot_download(source, local_files_only=True))
    except (OSError, ValueError) as error:
        raise FileError(
            f"encoder {name}: {source} is neither a folder nor downloaded; get it with `hf download {source}`."
        ) from error


def read_type(folder: Path) -> str:
    """Give the type of model that a folder's ``config.json`` names.

    Args:
        folder: in transformers' format.

    Returns:
        Such as "clip".

    Raises:
        FileError: the file cannot be read.
    """
    path = folder / "config.json"
    try:
        return str(json.loads(path.read_text(encoding="utf-8")).get("model_type", "unknown"))
    except (OSError, ValueError, AttributeError) as error:
        raise FileError(f"{path}: cannot be read; name a folder in transformers' format.") from error


@contextmanager
def opening(name: str, folder: Path) -> Iterator[None]:
    """Turn what transformers raises on a damaged folder into one clear sentence, and show no bars.

    Args:
        name: the encoder's, for the message.
        folder: what is opened within.

    Yields:
        Nothing.

    Raises:
        FileError: something in it cannot be opened.
    """
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise FileError(f"encoder {name}: {folder} cannot be opened ({first}); download it again.") from error
    finally:
        if shown:
            logging.enable_progress_bar()
