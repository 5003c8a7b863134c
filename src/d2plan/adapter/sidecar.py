"""What A1111, Forge and InvokeAI show beside an adapter: ``NAME.json`` with its words; ``NAME.png`` is its picture."""

import json
from pathlib import Path

from d2plan.adapter.adapter import Adapter
from d2plan.adapter.file import write_whole
from d2plan.adapter.sdxl import is_sdxl
from d2plan.errors import AdapterError, FileError

SIDECAR_SUFFIX = ".json"
_MOST_BYTES = 2**20


def describe_sidecar(adapter: Adapter) -> dict[str, str | float]:
    """Say what the extra-networks page of A1111 and the model page of InvokeAI show.

    Args:
        adapter: the file's content.

    Returns:
        In A1111's names. InvokeAI takes its trigger phrases from "activation text", divided by commas.
    """
    settings = adapter.settings
    training = [f"{settings[name]} {name}" for name in ("pictures", "steps") if name in settings]
    base = [word for word in (settings.get("base"), adapter.base_fingerprint) if word]
    notes = [
        f"rank {adapter.rank}",
        *([f"trained on {', '.join(training)}"] if training else []),
        *([" ".join(("base", *base))] if base else []),
    ]
    return {
        "description": f"{adapter.name}, a {adapter.class_word}" if adapter.class_word else adapter.name,
        "sd version": "SDXL" if is_sdxl(adapter.deltas) else "Unknown",
        "activation text": adapter.trigger_phrase,
        "preferred weight": 1.0,
        "negative text": "",
        "notes": "; ".join(notes),
    }


def write_sidecar(path: str | Path, adapter: Adapter) -> Path:
    """Write an adapter's sidecar beside its file.

    Args:
        path: of the adapter's file.
        adapter: its content.

    Returns:
        The sidecar's path.

    Raises:
        FileError: it cannot be written.
    """
    target = Path(path).with_suffix(SIDECAR_SUFFIX)
    write_whole(target, (json.dumps(describe_sidecar(adapter), indent=4, ensure_ascii=False) + "\n").encode())
    return target


def read_sidecar(path: str | Path) -> dict[str, str]:
    """Read what stands beside an adapter, whoever wrote it.

    Args:
        path: of the adapter's file.

    Returns:
        Name to text, numbers as texts; empty without a sidecar.

    Raises:
        FileError: the sidecar cannot be read.
        AdapterError: it is no JSON table.
    """
    source = Path(path).with_suffix(SIDECAR_SUFFIX)
    if not source.is_file():
        return {}
    try:
        content = source.read_bytes() if source.stat().st_size <= _MOST_BYTES else b""
        table = json.loads(content.decode("utf-8-sig"))
    except OSError as error:
        raise FileError(f"{source} cannot be read: {error.strerror or error}; check the path.") from error
    except (ValueError, RecursionError) as error:
        raise AdapterError(f"{source} is no sidecar that can be read ({error}); take it away.") from error
    if not isinstance(table, dict):
        raise AdapterError(f"{source} is no table; take it away.")
    return {name: str(value) for name, value in table.items() if isinstance(value, str | int | float)}
