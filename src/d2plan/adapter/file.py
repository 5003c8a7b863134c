"""The adapter file: the one link from training to composition, readable by every SDXL program.

safetensors with Kohya's names, the real alphas, and in the header what the common programs look for (``ss_*``,
``modelspec.*``) beside ``d2plan.*``. Reading takes every common naming, checks before it believes, and never opens
another format.
"""

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as write_tensors
from torch import Tensor

from d2plan.adapter.adapter import Adapter as Adapter
from d2plan.adapter.adapter import Delta as Delta
from d2plan.adapter.adapter import Models as Models
from d2plan.adapter.adapter import find_widest
from d2plan.adapter.header import SUFFIX as SUFFIX
from d2plan.adapter.header import Header, read_content, read_header
from d2plan.adapter.inventory import Inventory, check_inventory, take_inventory
from d2plan.adapter.names import COMPONENTS, Naming, find_layer, write_keys
from d2plan.adapter.sdxl import has_sdxl_blocks, is_sdxl
from d2plan.adapter.words import keep_foreign, read_alphas, read_settings, write_words
from d2plan.errors import AdapterError, FileError

MOST_RANK = 1024
MOST_SCALE = 1000.0
MOST_VALUE = 1e4


def save_adapter(path: str | Path, adapter: Adapter, naming: Naming = "kohya") -> Adapter:
    """Write an adapter's file; it appears under its name only when it is complete.

    Args:
        path: ends in ".safetensors"; a file that is there is replaced.
        adapter: what to write; tensors keep their number format.
        naming: "kohya", which counts the blocks as sd-scripts does where the adapter is of full-size SDXL and as
            diffusers does elsewhere; "sgm", the former or nothing; "diffusers" or "peft".

    Returns:
        The adapter with the path and the SHA-256 of its file.

    Raises:
        AdapterError: the path ends otherwise, or the adapter holds no updates, or values that are no numbers, or layers
            that the naming cannot name.
        FileError: the file cannot be written.
    """
    target = Path(path)
    if target.suffix != SUFFIX:
        raise AdapterError(f"{target} is no name for an adapter; end it in {SUFFIX}.")
    if not adapter.deltas:
        raise AdapterError(f"{target}: the adapter holds no updates; train it first.")
    check_naming(adapter, naming, target)
    spelling: Naming = "sgm" if naming == "kohya" and is_sdxl(adapter.deltas) else naming
    tensors: dict[str, Tensor] = {}
    for module, delta in sorted(adapter.deltas.items()):
        down, up, alpha = write_keys(module, spelling)
        check_delta(delta, f"{target}: {module}")
        tensors[down] = delta.down.detach().cpu().contiguous()
        tensors[up] = delta.up.detach().cpu().contiguous()
        if alpha:
            tensors[alpha] = _as_tensor(float(delta.alpha))
    content = write_tensors(tensors)
    payload = memoryview(content)[8 + int.from_bytes(content[:8], "little") :]
    content = _join_header(content, write_words(adapter, naming, payload))
    write_whole(target, content)
    return replace(adapter, path=target, sha256=hashlib.sha256(content).hexdigest())


def load_adapter(path: str | Path, linear_only: bool = False) -> Adapter:
    """Read an adapter's file, once and into memory, after checking it.

    Args:
        path: a safetensors file in the naming of Kohya's sd-scripts, diffusers, PEFT, OneTrainer or ai-toolkit.
        linear_only: leave out the convolutions, embeddings and learnt words of a LoCon instead of refusing it.

    Returns:
        The adapter; what a file of another program does not say is an empty string, its name the file's stem. An
        alpha that is missing is the rank, which makes the scale 1.

    Raises:
        FileError: the file cannot be read.
        AdapterError: it is no such file, or damaged, or its tensors do not belong together; with counts.
    """
    source = Path(path)
    header, held = check_header(source, linear_only)
    content = read_content(source, header)
    # The hash takes as long as all the rest, and a second core can do it.
    with ThreadPoolExecutor(1) as beside:
        digest = beside.submit(hashlib.sha256, content)
        try:
            tensors = parse_tensors(content)
        except (SafetensorError, ValueError, KeyError) as error:
            raise AdapterError(f"{source} is damaged ({error}); copy it anew, or train it again.") from error
        deltas = _collect(source, header, held, tensors)
    words = header.words
    widest = find_widest(deltas)
    adapter = Adapter(
        name=words.get("d2plan.name") or source.stem,
        class_word=words.get("d2plan.class_word", ""),
        identifier=words.get("d2plan.identifier", ""),
        base_fingerprint=words.get("d2plan.base_fingerprint", ""),
        rank=int(widest.down.shape[0]),
        alpha=widest.alpha,
        deltas=deltas,
        settings=read_settings(source, words.get("d2plan.settings", "{}")),
        path=source,
        sha256=digest.result().hexdigest(),
    )
    return replace(adapter, header=keep_foreign(adapter, words))


def check_header(path: str | Path, linear_only: bool = False) -> tuple[Header, Inventory]:
    """Make sure that a file can be used as far as its header tells, without reading its numbers.

    Args:
        path: a safetensors file.
        linear_only: pass over the convolutions, embeddings and learnt words of a LoCon.

    Returns:
        Its header, and its tensors sorted.

    Raises:
        FileError: the file cannot be read.
        AdapterError: it cannot be used; with counts.
    """
    source = Path(path)
    header = read_header(source)
    held = take_inventory(header)
    if linear_only:
        held = replace(held, convolutions=(), embeddings=())
    check_inventory(source, header, held)
    for layer, halves in sorted(held.layers.items()):
        down, up = (header.entries[halves[half]].shape for half in ("down", "up"))
        _check_shapes(down, up, f"{source}: {layer}")
    return header, held


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
    return dict(read_header(Path(path)).words)


def check_base(adapter: Adapter, models: Models, other_weights: bool = False) -> None:
    """Make sure that an adapter belongs to a base.

    Args:
        adapter: one with an empty fingerprint is judged by its shapes alone.
        models: the base.
        other_weights: judge every adapter by its shapes alone.

    Raises:
        AdapterError: it was trained on other weights, or its updates do not fit the base's layers.
    """
    label = adapter.path or adapter.name
    if not other_weights and adapter.base_fingerprint and adapter.base_fingerprint != models.fingerprint:
        raise AdapterError(
            f"{label} was trained on the base {adapter.base_fingerprint}, not on {models.fingerprint}; use that base, "
            "train the concept again on this one, or take it all the same with --other-base (`other_base: true`)."
        )
    absent, other = match_layers(adapter, models)
    if absent or other:
        total = len(adapter.deltas)
        raise AdapterError(
            f"{label} fits only {total - len(absent) - len(other)} of its {total} layers to this base: {len(absent)} "
            f"are not there, {len(other)} have another width, such as {(absent + other)[0]}; "
            "it was made for another kind of model, so train the concept on this one."
        )


def match_layers(adapter: Adapter, models: Models) -> tuple[list[str], list[str]]:
    """Find the updates that do not fit a base.

    Args:
        adapter: what to fit.
        models: the base.

    Returns:
        Paths of layers that the base does not have, and of layers that have another width in it.
    """
    parts = dict(zip(COMPONENTS, (models.unet, *models.text_encoders), strict=True))
    absent, other = [], []
    for path, delta in adapter.deltas.items():
        component, _, rest = path.partition(".")
        layer = find_layer(parts[component], rest) if component in parts else None
        widths = (getattr(layer, "in_features", None), getattr(layer, "out_features", None))
        if layer is None or None in widths:
            absent.append(path)
        elif widths != (delta.down.shape[1], delta.up.shape[0]):
            other.append(path)
    return absent, other


def check_naming(adapter: Adapter, naming: Naming, target: Path) -> None:
    """Refuse to write an adapter in names that other programs would take for other layers'.

    Args:
        adapter: what to write.
        naming: in which names.
        target: the file to write.

    Raises:
        AdapterError: sgm's names are asked for, and the U-Net's blocks are not SDXL's.
    """
    if naming == "sgm" and not has_sdxl_blocks(adapter.deltas):
        raise AdapterError(
            f"{target}: sgm numbers blocks of two layers each, as SDXL has them, and this adapter's are not known to "
            "be such, so that other programs would put updates elsewhere or drop them; write it as kohya."
        )


def check_delta(delta: Delta, where: str) -> None:
    """Refuse an update that cannot be computed with.

    Args:
        delta: the update.
        where: names file and layer.

    Raises:
        AdapterError: the shapes do not belong together, the rank is not 1..1024, the scale not in 0..1000, or a value
            no number or larger than 10000.
    """
    down, up, alpha = delta
    _check_shapes(down.shape, up.shape, where)
    if not down.is_floating_point() or not up.is_floating_point():
        raise AdapterError(f"{where}: the numbers are {down.dtype}, not floating point; train it again.")
    if not math.isfinite(alpha) or not 0 < alpha / down.shape[0] <= MOST_SCALE:
        raise AdapterError(f"{where}: alpha is {alpha}, which gives no usable strength; train it again.")
    if not down.numel() or not up.numel():
        raise AdapterError(f"{where}: a tensor is empty; train it again.")
    for half in (down, up):
        # Floats of one byte have no comparison of their own.
        lowest, highest = torch.aminmax(half.detach() if half.element_size() > 1 else half.detach().float())
        largest = max(-float(lowest), float(highest))
        if not math.isfinite(largest):
            raise AdapterError(f"{where}: there are values that are no numbers; train it again with a lower rate.")
        if largest > MOST_VALUE:
            raise AdapterError(f"{where}: a value is {largest:.3g}, more than {MOST_VALUE:g}; it was trained too fast.")


def write_whole(target: Path, content: bytes) -> None:
    """Write a file under another name first, and give it its own when it is safe on the disk.

    Args:
        target: its final name; replaced when it is there.
        content: its bytes.

    Raises:
        FileError: it cannot be written.
    """
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name[:100]}.", delete=False) as file:
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


def _check_shapes(down: Sequence[int], up: Sequence[int], where: str) -> None:
    if len(down) != 2 or len(up) != 2 or down[0] != up[1]:
        raise AdapterError(
            f"{where}: the shapes {list(down)} and {list(up)} are no [rank, in] and [out, rank]; train it again."
        )
    if not 1 <= down[0] <= MOST_RANK:
        raise AdapterError(f"{where}: the rank is {down[0]}, but must be 1..{MOST_RANK}; train it again.")


def _as_tensor(alpha: float) -> Tensor:
    # What float32 cannot hold would not come back the same from diffusers' naming, where alphas are decimal numbers.
    single = torch.tensor(alpha)
    return single if float(single) == alpha else torch.tensor(alpha, dtype=torch.float64)


def _join_header(content: bytes, words: Mapping[str, str]) -> bytes:
    # safetensors writes the words in no fixed order; sorted, the same adapter always gives the same bytes.
    end = 8 + int.from_bytes(content[:8], "little")
    header = {"__metadata__": dict(sorted(words.items())), **json.loads(content[8:end])}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join((len(text).to_bytes(8, "little"), text, memoryview(content)[end:]))


def _collect(source: Path, header: Header, held: Inventory, tensors: Mapping[str, Tensor]) -> dict[str, Delta]:
    ranks = {path: header.entries[halves["down"]].shape[:1] for path, halves in held.layers.items()}
    told = read_alphas(source, header.words, {path: rank[0] for path, rank in ranks.items() if rank})
    deltas = {}
    for path in sorted(held.layers):
        halves = held.layers[path]
        down, up = tensors[halves["down"]], tensors[halves["up"]]
        alpha = told.get(path, float(down.shape[0] if down.ndim else 0))
        if "alpha" in halves:
            stored = tensors[halves["alpha"]]
            if stored.numel() != 1:
                raise AdapterError(f"{source}: {path}: alpha has {stored.numel()} values instead of 1; train it again.")
            alpha = float(stored)
            if path in told and not math.isclose(told[path], alpha, rel_tol=1e-3):
                raise AdapterError(f"{source}: {path} has two alphas, {alpha:g} and {told[path]:g}; get the file anew.")
        deltas[path] = Delta(down, up, alpha)
        check_delta(deltas[path], f"{source}: {path}")
    return deltas
