"""The adapter file: the one link from training to composition, readable by every SDXL program.

safetensors with Kohya's names, the real alphas, and in the header what the common programs look for (``ss_*``,
``modelspec.*``) beside ``d2plan.*``. Reading checks before it believes, and never opens another format.
"""

import hashlib
import json
import math
import os
import tempfile
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as write_tensors
from torch import Tensor, nn

from d2plan.adapter.names import COMPONENTS, find_layer, read_name, write_name
from d2plan.errors import AdapterError, FileError

SUFFIX = ".safetensors"
_MOST_HEADER = 8 * 2**20
_MOST_TENSORS = 16_384
_MOST_RANK = 1024
_MOST_WORD = 200
_MOST_SCALE = 1e4


class Delta(NamedTuple):
    """The low-rank update of one linear layer: W x becomes W x + (alpha / rank) up (down x).

    Attributes:
        down: ``[rank, in]``.
        up: ``[out, rank]``.
        alpha: its strength times the rank, more than 0.
    """

    down: Tensor
    up: Tensor
    alpha: float

    @property
    def scale(self) -> float:
        """What the product is multiplied by, alpha / rank."""
        return self.alpha / self.down.shape[0]


@dataclass(frozen=True, eq=False)
class Adapter:
    """A learnt concept, as it is in memory and in its file.

    Attributes:
        name: how to call it.
        class_word: what kind of thing it is; empty in a file that d2plan did not write.
        identifier: the word that calls it in a sub-prompt; empty in such a file.
        base_fingerprint: of the base that it was trained on; empty in such a file.
        rank: the largest of its updates.
        alpha: of that update.
        deltas: module path to update; paths begin with "unet.", "text_encoder." or "text_encoder_2.", and the
            encoders' go on with "text_model.encoder.layers".
        settings: of its training, for people to read.
        path: of its file.
        sha256: of its file, hexadecimal.
    """

    name: str
    class_word: str
    identifier: str
    base_fingerprint: str
    rank: int
    alpha: float
    deltas: Mapping[str, Delta]
    settings: Mapping[str, str] = field(default_factory=dict)
    path: Path | None = None
    sha256: str = ""


class Models(Protocol):
    """What an adapter needs to know of a base; ``Backbone`` has it."""

    @property
    def unet(self) -> nn.Module:
        """The denoiser."""
        ...

    @property
    def text_encoders(self) -> Sequence[nn.Module]:
        """Both encoders."""
        ...

    @property
    def fingerprint(self) -> str:
        """Which weights these are."""
        ...


def save_adapter(path: str | Path, adapter: Adapter) -> Adapter:
    """Write an adapter's file; it appears under its name only when it is complete.

    Args:
        path: ends in ".safetensors"; a file that is there is replaced.
        adapter: what to write; tensors keep their number format.

    Returns:
        The adapter with the path and the SHA-256 of its file.

    Raises:
        AdapterError: the path ends otherwise, or the adapter holds no updates, or values that are no numbers.
        FileError: the file cannot be written.
    """
    target = Path(path)
    if target.suffix != SUFFIX:
        raise AdapterError(f"{target} is no name for an adapter; end it in {SUFFIX}.")
    if not adapter.deltas:
        raise AdapterError(f"{target}: the adapter holds no updates; train it first.")
    tensors: dict[str, Tensor] = {}
    for module, delta in sorted(adapter.deltas.items()):
        name = write_name(module)
        _check_delta(delta.down, delta.up, delta.alpha, f"{target}: {module}")
        tensors[f"{name}.lora_down.weight"] = delta.down.detach().cpu().contiguous()
        tensors[f"{name}.lora_up.weight"] = delta.up.detach().cpu().contiguous()
        tensors[f"{name}.alpha"] = torch.tensor(float(delta.alpha))
    content = _join_header(write_tensors(tensors), _write_header(adapter))
    _write_whole(target, content)
    return replace(adapter, path=target, sha256=hashlib.sha256(content).hexdigest())


def load_adapter(path: str | Path) -> Adapter:
    """Read an adapter's file, once and into memory, after checking it.

    Args:
        path: a safetensors file in Kohya's naming.

    Returns:
        The adapter; what a file of another program does not say is an empty string, its name the file's stem.

    Raises:
        FileError: the file cannot be read.
        AdapterError: it is no such file, or damaged, or its tensors do not belong together.
    """
    source = Path(path)
    content = _read_whole(source)
    header = _parse_header(source, content[:8], content[8:], len(content))
    try:
        tensors = parse_tensors(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise AdapterError(f"{source} is damaged ({error}); copy it anew, or train it again.") from error
    deltas = _collect(source, tensors)
    known = _metadata(source, header)
    widest = max(deltas.values(), key=lambda delta: delta.down.shape[0])
    return Adapter(
        name=known.get("d2plan.name") or source.stem,
        class_word=known.get("d2plan.class_word", ""),
        identifier=known.get("d2plan.identifier", ""),
        base_fingerprint=known.get("d2plan.base_fingerprint", ""),
        rank=int(widest.down.shape[0]),
        alpha=widest.alpha,
        deltas=deltas,
        settings=_parse_settings(source, known.get("d2plan.settings", "{}")),
        path=source,
        sha256=hashlib.sha256(content).hexdigest(),
    )


def read_metadata(path: str | Path) -> dict[str, str]:
    """Read only what an adapter's header says in words, without its tensors.

    Args:
        path: a safetensors file.

    Returns:
        Names and texts, such as ``d2plan.class_word``; empty when it says nothing.

    Raises:
        FileError: the file cannot be read.
        AdapterError: it is no safetensors file.
    """
    source = Path(path)
    _check_suffix(source)
    try:
        size = source.stat().st_size
        with source.open("rb") as file:
            first = file.read(8)
            rest = file.read(min(int.from_bytes(first, "little"), _MOST_HEADER))
    except OSError as error:
        raise _unreadable(source, error) from error
    return _metadata(source, _parse_header(source, first, rest, size))


def check_base(adapter: Adapter, models: Models) -> None:
    """Make sure that an adapter belongs to a base.

    Args:
        adapter: one with an empty fingerprint is judged by its shapes alone.
        models: the base.

    Raises:
        AdapterError: it was trained on other weights, or its updates do not fit the base's layers.
    """
    label = adapter.path or adapter.name
    if adapter.base_fingerprint and adapter.base_fingerprint != models.fingerprint:
        raise AdapterError(
            f"{label} was trained on the base {adapter.base_fingerprint}, not on {models.fingerprint}; "
            "use that base, or train the concept again on this one."
        )
    parts = dict(zip(COMPONENTS, (models.unet, *models.text_encoders), strict=True))
    fitting = sum(_fits(parts, path, delta) for path, delta in adapter.deltas.items())
    if fitting < len(adapter.deltas):
        raise AdapterError(
            f"{label} fits only {fitting} of its {len(adapter.deltas)} layers to this base; "
            "it was made for another kind of model, so train the concept on this one."
        )


def _fits(parts: Mapping[str, nn.Module], path: str, delta: Delta) -> bool:
    component, _, rest = path.partition(".")
    layer = find_layer(parts[component], rest) if component in parts else None
    return (
        layer is not None
        and getattr(layer, "in_features", None) == delta.down.shape[1]
        and getattr(layer, "out_features", None) == delta.up.shape[0]
    )


def _write_header(adapter: Adapter) -> dict[str, str]:
    return {
        "ss_base_model_version": "sdxl_base_v1-0",
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(adapter.rank),
        "ss_network_alpha": str(adapter.alpha),
        "ss_output_name": adapter.name,
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": "stable-diffusion-xl-v1-base/lora",
        "modelspec.implementation": "https://github.com/huggingface/diffusers",
        "modelspec.title": adapter.name,
        "modelspec.trigger_phrase": f"{adapter.identifier} {adapter.class_word}".strip(),
        "d2plan.name": adapter.name,
        "d2plan.class_word": adapter.class_word,
        "d2plan.identifier": adapter.identifier,
        "d2plan.base_fingerprint": adapter.base_fingerprint,
        "d2plan.settings": json.dumps(dict(adapter.settings), sort_keys=True),
    }


def _join_header(content: bytes, words: Mapping[str, str]) -> bytes:
    # safetensors writes the words in no fixed order; sorted, the same adapter always gives the same bytes.
    end = 8 + int.from_bytes(content[:8], "little")
    header = {"__metadata__": dict(sorted(words.items())), **json.loads(content[8:end])}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[end:]


def _write_whole(target: Path, content: bytes) -> None:
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
            temporary = Path(file.name)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(target)
    except OSError as error:
        raise FileError(f"{target} cannot be written: {error.strerror or error}; choose another folder.") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _read_whole(source: Path) -> bytes:
    _check_suffix(source)
    try:
        return source.read_bytes()
    except OSError as error:
        raise _unreadable(source, error) from error


def _check_suffix(source: Path) -> None:
    if source.suffix != SUFFIX:
        raise AdapterError(f"{source} is no {SUFFIX} file; other formats can run programs and are never opened.")
    # Opening a pipe would wait for a writer for ever.
    if os.path.exists(source) and not os.path.isfile(source):
        raise FileError(f"{source} is not a regular file; check the path.")


def _unreadable(source: Path, error: OSError) -> FileError:
    return FileError(f"{source} cannot be read: {error.strerror or error}; check the path.")


def _parse_header(source: Path, first: bytes, rest: bytes, size: int) -> dict[str, object]:
    if (first + rest).startswith(b"version https://git-lfs"):
        raise AdapterError(f"{source} is a git-lfs pointer, not the file itself; fetch it with `git lfs pull`.")
    length = int.from_bytes(first, "little")
    if len(first) < 8 or length < 2 or length > size - 8 or rest[:1] != b"{":
        raise AdapterError(f"{source} is no complete safetensors file; copy it anew, or train it again.")
    if length > _MOST_HEADER:
        raise AdapterError(f"{source} has a header of {length} bytes, more than 8 MB; it is no adapter.")
    try:
        header = json.loads(rest[:length].decode("utf-8"), object_pairs_hook=_refuse_doubles)
    except (ValueError, RecursionError) as error:
        raise AdapterError(f"{source} has a damaged header ({error}); copy it anew, or train it again.") from error
    if not isinstance(header, dict) or len(header) > _MOST_TENSORS:
        raise AdapterError(f"{source} holds more than {_MOST_TENSORS} tensors or none; it is no adapter.")
    return header


def _refuse_doubles(pairs: list[tuple[str, object]]) -> dict[str, object]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a name stands twice")
    return content


def _metadata(source: Path, header: Mapping[str, object]) -> dict[str, str]:
    content = header.get("__metadata__", {})
    if not isinstance(content, dict) or not all(isinstance(value, str) for value in content.values()):
        raise AdapterError(f"{source} has a damaged header (__metadata__ is no table of texts); copy it anew.")
    for name in ("name", "class_word", "identifier"):
        text = content.get(f"d2plan.{name}", "")
        if len(text) > _MOST_WORD or any(unicodedata.category(letter) == "Cc" for letter in text):
            raise AdapterError(f"{source}: its {name} is no short plain text; train it again with another.")
    return content


def _parse_settings(source: Path, text: str) -> dict[str, str]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AdapterError(f"{source}: d2plan.settings is not readable ({error}); train it again.") from error
    if not isinstance(content, dict):
        raise AdapterError(f"{source}: d2plan.settings is no table; train it again.")
    return {str(name): str(value) for name, value in content.items()}


def _collect(source: Path, tensors: Mapping[str, Tensor]) -> dict[str, Delta]:
    parts: dict[str, dict[str, Tensor]] = {}
    strange = []
    for name, tensor in tensors.items():
        stem, _, kind = name.partition(".")
        module = read_name(stem)
        if module is None or kind not in ("lora_down.weight", "lora_up.weight", "alpha"):
            strange.append(name)
        else:
            parts.setdefault(module, {})[kind] = tensor
    if strange or not parts:
        example = f", such as {strange[0][:80]!r}" if strange else ""
        raise AdapterError(
            f"{source} is no SDXL LoRA of attention layers in Kohya's naming: {len(strange)} of {len(tensors)} tensors "
            f"have other names{example}; convert it, or train the concept with d2plan."
        )
    broken = [module for module, found in parts.items() if not {"lora_down.weight", "lora_up.weight"} <= found.keys()]
    if broken:
        raise AdapterError(
            f"{source} is incomplete: {len(broken)} of {len(parts)} layers lack one of their two tensors, "
            f"such as {broken[0]}; copy it anew, or train it again."
        )
    deltas = {}
    for module in sorted(parts):
        found = parts[module]
        down, up = found["lora_down.weight"], found["lora_up.weight"]
        alpha = found.get("alpha")
        if alpha is not None and alpha.numel() != 1:
            raise AdapterError(f"{source}: {module}: alpha has {alpha.numel()} values instead of 1; train it again.")
        strength = float(down.shape[0] if down.ndim else 0) if alpha is None else float(alpha)
        _check_delta(down, up, strength, f"{source}: {module}")
        deltas[module] = Delta(down, up, strength)
    return deltas


def _check_delta(down: Tensor, up: Tensor, alpha: float, where: str) -> None:
    if down.ndim != 2 or up.ndim != 2 or down.shape[0] != up.shape[1]:
        raise AdapterError(
            f"{where}: the shapes {list(down.shape)} and {list(up.shape)} are no [rank, in] and [out, rank]; "
            "train it again."
        )
    if not 1 <= down.shape[0] <= _MOST_RANK:
        raise AdapterError(f"{where}: the rank is {down.shape[0]}, but must be 1..{_MOST_RANK}; train it again.")
    if not down.is_floating_point() or not up.is_floating_point():
        raise AdapterError(f"{where}: the numbers are {down.dtype}, not floating point; train it again.")
    if not math.isfinite(alpha) or not 0 < alpha / down.shape[0] <= _MOST_SCALE:
        raise AdapterError(f"{where}: alpha is {alpha}, which gives no usable strength; train it again.")
    if not (torch.isfinite(down).all() and torch.isfinite(up).all()):
        raise AdapterError(f"{where}: there are values that are no numbers; train it again with a lower rate.")
