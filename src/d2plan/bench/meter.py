"""What work costs: seconds, U-Net rows and memory; and whether a method left the base as it was."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from torch import Tensor, nn

from d2plan.backbone.load import Backbone
from d2plan.bench.records import Cost
from d2plan.bench.surroundings import describe_machine

_MIB = 2**20
_SAMPLES = 64
_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
_RESET_PEAK = "5"


class Meter:
    """Measures while its block runs; a hook on the U-Net counts the rows of every call, in training too.

    A method that calls a copy of the U-Net escapes the count.

    Args:
        backbone: the base.
        beat: is called ahead of every call of the U-Net; what it raises ends the work.
        processes: that work beside each other, this one among them.
    """

    def __init__(self, backbone: Backbone, beat: Callable[[], None] | None = None, processes: int = 1) -> None:
        self.backbone = backbone
        self.processes = processes
        self.beat = beat
        self.rows = 0
        self.calls = 0
        self.seconds = 0.0
        self.peak_mib: float | None = None

    def __enter__(self) -> Self:
        self._hook = self.backbone.unet.register_forward_pre_hook(self._count, with_kwargs=True)
        self._traced = _reset_peak(self.backbone.device)
        self._begun = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seconds = time.perf_counter() - self._begun
        self.peak_mib = _read_peak(self.backbone.device) if self._traced else None
        self._hook.remove()

    def _count(self, module: nn.Module, arguments: tuple[object, ...], named: Mapping[str, object]) -> None:
        sample = arguments[0] if arguments else named.get("sample")
        self.calls += 1
        self.rows += sample.shape[0] if isinstance(sample, Tensor) else 0
        if self.beat is not None:
            self.beat()

    def cost(self, pictures: int = 1) -> Cost:
        """Give the cost of one picture.

        Args:
            pictures: how many were made; seconds and rows are shared out, calls and memory are of all together.

        Returns:
            The cost.
        """
        place = describe_machine(self.backbone).place
        return Cost(
            seconds=round(self.seconds / pictures, 4),
            unet_rows=round(self.rows / pictures),
            unet_calls=self.calls,
            peak_mib=None if self.peak_mib is None else round(self.peak_mib, 1),
            machine=place if self.processes == 1 else f"{place}, 1 of {self.processes} processes",
        )


def _reset_peak(device: torch.device) -> bool:
    """Forget the highest memory so far; False where the system cannot."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    try:
        _CLEAR.write_text(_RESET_PEAK)
    except OSError:
        return False
    return True


def _read_peak(device: torch.device) -> float | None:
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device)) / _MIB
    try:
        for line in _STATUS.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def sample_weights(backbone: Backbone) -> str:
    """Tell a base that was changed from one that was not: weights, layers and hooks.

    Each tensor's sum counts, in which every change of training shows, and some values as they are.

    Args:
        backbone: the base.

    Returns:
        A digest.
    """
    digest = hashlib.sha256()
    for model in (backbone.unet, *backbone.text_encoders, backbone.vae):
        for name, module in model.named_modules():
            hooks = _count_hooks(module._forward_hooks), _count_hooks(module._forward_pre_hooks)
            digest.update(f"{name} {type(module).__name__} {hooks} {module.training}".encode())
        for name, parameter in model.named_parameters():
            digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype} {parameter.requires_grad}".encode())
            flat = parameter.detach().reshape(-1)
            digest.update(flat[:: max(1, flat.numel() // _SAMPLES)].float().cpu().numpy().tobytes())
            digest.update(flat.sum(dtype=torch.float64).cpu().numpy().tobytes())
        processors = getattr(model, "attn_processors", {})
        digest.update(repr([(name, type(one).__name__) for name, one in processors.items()]).encode())
    return digest.hexdigest()


def _count_hooks(hooks: Mapping[int, object]) -> int:
    # transformers puts hooks of its own on an encoder when it is first asked for hidden states.
    return sum(not str(getattr(hook, "__module__", "")).startswith("transformers.") for hook in hooks.values())
