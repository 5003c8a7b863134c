"""The header of a safetensors file, checked before one tensor is read. No other format is ever parsed."""

import json
import math
import os
import re
import stat
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from d2plan.errors import AdapterError, FileError

SUFFIX = ".safetensors"
MOST_HEADER = 8 * 2**20
# More than the largest LoRA has: 1052 layers of a LoHa in 5 tensors each are about 5300.
MOST_TENSORS = 16_384
MOST_AXES = 5
MOST_LENGTH = 2**31
MOST_NAME = 400
MOST_WORD = 200
_BITS = {"BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16}
_BITS |= {"BF16": 16, "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64}
_DISGUISES = (
    (re.compile(rb"PK\x03\x04"), "a zip archive or a PyTorch pickle"),
    # The first bytes of a real file are a length, and these two could be; the zeros behind them tell them apart.
    (re.compile(rb"\x80[\x02-\x05](?!..\0\0\0\0)", re.DOTALL), "a Python pickle"),
    (re.compile(rb"\s*<(?:!doctype|html|\?xml|!--)", re.IGNORECASE), "a web page"),
    (re.compile(rb"GGUF"), "a GGUF model"),
    (re.compile(rb"\x1f\x8b"), "a gzip archive"),
    (re.compile(rb"7z\xbc\xaf|Rar!"), "an archive"),
)


class Entry(NamedTuple):
    """Where a tensor lies in the file, and its form.

    Attributes:
        dtype: as safetensors names it, such as "F16".
        shape: its lengths.
        start: first byte, counted from the end of the header.
        end: the byte after its last.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Header:
    """What a file says of itself.

    Attributes:
        words: name to text, of ``__metadata__``.
        entries: tensor name to place and form.
        size: of the whole file, bytes.
    """

    words: Mapping[str, str]
    entries: Mapping[str, Entry]
    size: int


def read_header(path: Path) -> Header:
    """Read and check a file's header alone.

    Args:
        path: a safetensors file.

    Returns:
        Its words and tensors.

    Raises:
        FileError: the file cannot be read.
        AdapterError: it is no safetensors file, or damaged.
    """
    with _open_regular(path) as file:
        return _read_header(path, file)


def read_content(path: Path, header: Header) -> bytes:
    """Read a whole file whose header is known; a copy, so that what happens to the file later changes nothing.

    Args:
        path: the same file.
        header: from ``read_header``.

    Returns:
        All its bytes.

    Raises:
        FileError: the file cannot be read.
        AdapterError: the file changed after its header was read.
    """
    with _open_regular(path) as file:
        if _read_header(path, file) != header:
            raise AdapterError(f"{path} changed while it was read; try again.")
        file.seek(0)
        try:
            content = file.read(header.size)
        except OSError as error:
            raise _unreadable(path, error) from error
    if len(content) != header.size:
        raise AdapterError(f"{path} is no complete safetensors file; it was cut while it was read, so copy it anew.")
    return content


def _open_regular(path: Path) -> BinaryIO:
    if path.suffix != SUFFIX:
        whole = path.with_name(path.name + SUFFIX) if path.name else path
        if whole.is_file():
            raise AdapterError(f"{path} lacks its ending; did you mean {whole}?")
        raise AdapterError(f"{path} is no {SUFFIX} file; other formats can run programs and are never opened.")
    try:
        # Opening a pipe would otherwise wait for a writer for ever.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise FileError(f"{path} is not a regular file; check the path.")
    return os.fdopen(handle, "rb")


def _read_header(path: Path, file: BinaryIO) -> Header:
    try:
        size = os.fstat(file.fileno()).st_size
        first = file.read(8)
        # Room is made for all that is asked for, so ask for no more than the file holds.
        rest = file.read(min(max(int.from_bytes(first, "little"), 64), size, MOST_HEADER))
    except OSError as error:
        raise _unreadable(path, error) from error
    length = int.from_bytes(first, "little")
    if len(first) < 8 or not 2 <= length <= size - 8 or rest[:1] != b"{":
        raise _not_one(path, first + rest)
    if length > MOST_HEADER:
        raise AdapterError(f"{path} has a header of {length} bytes, more than 8 MB; it is no adapter.")
    try:
        content = json.loads(rest[:length].decode("utf-8"), object_pairs_hook=_refuse_doubles)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(content, dict):
        raise _damaged(path, "it is no table")
    words = _check_words(path, content.pop("__metadata__", {}))
    if len(content) > MOST_TENSORS:
        raise AdapterError(f"{path} holds {len(content)} tensors, more than {MOST_TENSORS}; it is no adapter.")
    entries = {name: _check_entry(path, name, entry) for name, entry in content.items()}
    _check_cover(path, entries, size - 8 - length)
    return Header(words, entries, size)


def _refuse_doubles(pairs: list[tuple[str, object]]) -> dict[str, object]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a name stands twice")
    return content


def _check_words(path: Path, words: object) -> dict[str, str]:
    if not isinstance(words, dict) or not all(isinstance(text, str) for text in words.values()):
        raise _damaged(path, "__metadata__ is no table of texts")
    for name in ("name", "class_word", "identifier"):
        text = words.get(f"d2plan.{name}", "")
        if len(text) > MOST_WORD or any(unicodedata.category(letter) == "Cc" for letter in text):
            raise AdapterError(f"{path}: its {name} is no short plain text; train it again with another.")
    return words


def _check_entry(path: Path, name: str, content: object) -> Entry:
    label = f"the tensor {name[:80]!r}"
    if len(name) > MOST_NAME:
        raise _damaged(path, f"{label} has a name of {len(name)} characters")
    if not isinstance(content, dict) or content.keys() != {"dtype", "shape", "data_offsets"}:
        raise _damaged(path, f"{label} is not described by dtype, shape and data_offsets")
    dtype, shape, place = content["dtype"], content["shape"], content["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise _damaged(path, f"{label} has the unknown number format {str(dtype)[:20]}")
    if not (_are_counts(shape) and len(shape) <= MOST_AXES and all(length < MOST_LENGTH for length in shape)):
        raise _damaged(path, f"{label} has no usable shape")
    if not (_are_counts(place) and len(place) == 2 and place[0] <= place[1]):
        raise _damaged(path, f"{label} has no usable place")
    if (place[1] - place[0]) * 8 != math.prod(shape) * _BITS[dtype]:
        raise _damaged(path, f"{label} has another size than its shape {shape} says")
    return Entry(dtype, tuple(shape), place[0], place[1])


def _are_counts(values: object) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _check_cover(path: Path, entries: Mapping[str, Entry], payload: int) -> None:
    """Every byte belongs to exactly one tensor: no hole, no overlap, nothing behind the last."""
    reached = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start != reached:
            raise _damaged(path, f"a hole or an overlap before the tensor {name[:80]!r}")
        reached = entry.end
    if reached != payload:
        raise AdapterError(
            f"{path} is no complete safetensors file: its tensors need {reached} bytes, and {payload} are there; "
            "copy it anew, or train it again."
        )


def _not_one(path: Path, start: bytes) -> AdapterError:
    if start.startswith(b"version https://git-lfs"):
        return AdapterError(f"{path} is a git-lfs pointer, not the file itself; fetch it with `git lfs pull`.")
    kind = next((kind for mark, kind in _DISGUISES if mark.match(start)), None)
    if kind is not None:
        return AdapterError(
            f"{path} is no complete safetensors file but {kind} under another name; it was not opened. "
            "Get the safetensors file."
        )
    return AdapterError(f"{path} is no complete safetensors file; copy it anew, or train it again.")


def _damaged(path: Path, reason: str) -> AdapterError:
    return AdapterError(f"{path} has a damaged header ({reason}); copy it anew, or train it again.")


def _unreadable(path: Path, error: Exception) -> FileError:
    return FileError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}; check the path.")
