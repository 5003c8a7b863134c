"""What the scripts that make the embedded weights share: where work lies, shards, time, steps, checkpoints and logs."""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn

BEGAN = time.time()
WORK = Path(os.environ.get("D2PLAN_MINI_WORK", Path.home() / ".cache" / "d2plan" / "mini"))
SIZE = 128
SHARD = 2000
MAP = 16
# The first renders of the first shard measure and are never learnt from.
HELD = 100
LOWEST = 0.02


def data_folder() -> Path:
    """Give the folder of rendered shards."""
    return WORK / "data"


def shards() -> list[Path]:
    """List the rendered shards that are complete, in order."""
    return sorted(path.with_suffix("") for path in data_folder().glob("*.done"))


def held_back(count: int) -> int:
    """Say how many of the first renders measure: a hundred, of very few a quarter."""
    return min(HELD, count // 4)


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


def log(name: str, folder: Path = WORK, **values: float) -> None:
    """Append one line of numbers to a log and print it."""
    line = {"time": round(time.time(), 1), **{key: round(float(value), 5) for key, value in values.items()}}
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.log.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    print(name, json.dumps(line), flush=True)


def choose_device() -> tuple[torch.device, torch.dtype | None]:
    """Pick the device and the autocast type: bfloat16 where the hardware multiplies it fast, else none."""
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
        return torch.device("cuda"), torch.bfloat16
    # The gradients of attention's far tails are denormal numbers, which a CPU multiplies ten times as slowly as others.
    torch.set_flush_denormal(True)
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    fast = {"amx_bf16", "avx512_bf16"} & set(flags.split())
    return torch.device("cpu"), torch.bfloat16 if fast else None


def choose_layout(device: torch.device, form: torch.dtype | None) -> torch.memory_format:
    """Pick how pictures lie in memory: channels last, but not on a CPU in bfloat16, where group norms dislike it."""
    return torch.contiguous_format if device.type == "cpu" and form else torch.channels_last


def autocast(device: torch.device, form: torch.dtype | None) -> torch.autocast:
    """Compute in ``form`` within, or as everywhere else where that is None."""
    return torch.autocast(device.type, form or torch.bfloat16, enabled=form is not None)


def join_processes() -> tuple[int, int]:
    """Give this process's number and how many train together; torchrun starts several, one gives (0, 1)."""
    rank, ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if ranks > 1:
        distributed.init_process_group("gloo")
    return rank, ranks


def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Give all processes the mean of their gradients; nothing to do where there is one."""
    if not distributed.is_initialized():
        return
    gradients = [one.grad for one in parameters if one.grad is not None]
    flat = torch.cat([one.flatten() for one in gradients])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    for one, part in zip(gradients, flat.split([one.numel() for one in gradients]), strict=True):
        one.copy_(part.view_as(one))


def psnr(first: Tensor, second: Tensor, weight: Tensor | None = None) -> float:
    """Measure likeness in dB of images in -1..1, with an optional weight per pixel."""
    gap = (first - second).pow(2) / 4
    mean = gap.mean() if weight is None else (gap * weight).sum() / (weight.sum() * gap.shape[1])
    return float(-10 * torch.log10(mean))


def add_time(parser: argparse.ArgumentParser) -> None:
    """Add the options that limit a run by time."""
    parser.add_argument("--minutes", type=float, help="end after so many minutes, with a checkpoint")
    parser.add_argument("--cool", action="store_true", help="let the rate fall to 2 percent over these minutes")


class Clock:
    """Says when a run is over, and how far it is.

    With ``minutes`` (counted from the program's start) the rate stays constant after its warm-up, so that a training
    may be cut into several runs; only one that cools falls. Without, steps alone count and each script has its curve.
    """

    def __init__(self, steps: int, minutes: float | None, cool: bool = False, began: float | None = None) -> None:
        """Begin; whichever is reached first, steps or minutes, ends the run."""
        self.steps, self.seconds, self.cool = steps, None if minutes is None else 60 * minutes, cool
        self.began, self.saved = BEGAN if began is None else began, time.time()
        self.entered, self.asked = time.time(), 0

    def progress(self) -> float:
        """Give the part of the minutes that has passed since training itself began, 0..1."""
        if self.seconds is None:
            return 0.0
        end = self.began + self.seconds
        return min(1.0, (time.time() - self.entered) / max(end - self.entered, 1e-3))

    def over(self, step: int) -> bool:
        """Say whether the run ends before this step; its first step is always made, so that something is written."""
        self.asked += 1
        if step < self.steps and self.asked == 1:
            return False
        return step >= self.steps or (self.seconds is not None and time.time() - self.began >= self.seconds)

    def due(self, seconds: float = 60.0) -> bool:
        """Say, in runs limited by time, whether a checkpoint is due: one a minute."""
        if self.seconds is None or time.time() - self.saved < seconds:
            return False
        self.saved = time.time()
        return True

    def fall(self, planned: float) -> float:
        """Give the rate's factor: ``planned`` where steps count, else 1, or less and less in a run that cools."""
        if self.seconds is None:
            return planned
        return max(LOWEST, 1 - (1 - LOWEST) * self.progress()) if self.cool else 1.0


def cosine(step: int, steps: int, lowest: float = LOWEST) -> float:
    """Give the factor of a rate that falls in half a cosine."""
    return lowest + (1 - lowest) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, steps))))


def make_optimiser(
    groups: Sequence[nn.Parameter] | list[dict[str, Any]], rate: float, decay: float
) -> torch.optim.AdamW:
    """Make AdamW as all these scripts use it; fused, and so able to leave out a step that is not finite."""
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.99), weight_decay=decay, fused=True)


def guarded_step(optimiser: torch.optim.AdamW, parameters: Sequence[nn.Parameter], limit: float) -> None:
    """Clip the gradients and step; gradients with a NaN or an infinity are left out, without waiting for the device."""
    norm = torch.nn.utils.clip_grad_norm_(parameters, limit)
    if all(group["fused"] for group in optimiser.param_groups):
        # What torch's own gradient scaler sets: the fused kernels read it on the device.
        optimiser.found_inf = (~norm.isfinite()).float()  # type: ignore[attr-defined]
    optimiser.step()


@torch.no_grad()
def blend_average(average: nn.Module, network: nn.Module, share: float) -> None:
    """Move the average a little towards the network; counters are copied."""
    pairs = list(zip(average.state_dict().values(), network.state_dict().values(), strict=True))
    floating = [(kept, value) for kept, value in pairs if kept.dtype.is_floating_point]
    torch._foreach_lerp_([kept for kept, _ in floating], [value for _, value in floating], share)
    for kept, value in pairs:
        if not kept.dtype.is_floating_point:
            kept.copy_(value)


def synchronise(device: torch.device) -> None:
    """Wait for the device, before its time is read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
