"""What the scripts that make the embedded model share: where work lies, data shards, checkpoints and logs."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

WORK = Path(os.environ.get("D2PLAN_MINI_WORK", Path.home() / ".cache" / "d2plan" / "mini"))
SIZE = 128
SHARD = 2000
MAP = 16


def data_folder() -> Path:
    """Give the folder of rendered shards."""
    return WORK / "data"


def shards() -> list[Path]:
    """List the rendered shards that are complete, in order."""
    return sorted(path.with_suffix("") for path in data_folder().glob("*.done"))


def load_images(count: int | None = None) -> list[np.ndarray]:
    """Open the shards' images as memory maps ``[2000, 128, 128, 3]`` uint8."""
    return [np.load(path.with_suffix(".images.npy"), mmap_mode="r") for path in shards()[:count]]


def save_atomically(state: dict[str, Any], path: Path) -> None:
    """Write a checkpoint so that the last complete one always loads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


def log(name: str, **values: float) -> None:
    """Append one line of numbers to a log and print it."""
    line = {"time": round(time.time(), 1), **{key: round(float(value), 5) for key, value in values.items()}}
    WORK.mkdir(parents=True, exist_ok=True)
    with (WORK / f"{name}.log.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    print(json.dumps(line), flush=True)


def choose_device() -> tuple[torch.device, torch.dtype | None]:
    """Pick the device and the autocast type: bfloat16 where the hardware multiplies it fast, else none."""
    if torch.cuda.is_available():
        return torch.device("cuda"), torch.bfloat16
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    return torch.device("cpu"), torch.bfloat16 if "amx_bf16" in flags else None


def psnr(first: torch.Tensor, second: torch.Tensor, weight: torch.Tensor | None = None) -> float:
    """Measure likeness in dB of images in -1..1, with an optional weight per pixel."""
    gap = (first - second).pow(2) / 4
    mean = gap.mean() if weight is None else (gap * weight).sum() / (weight.sum() * gap.shape[1])
    return float(-10 * torch.log10(mean))
