"""The samplers that a base may name: a fixed list of diffusers' own, so that no file can name other code to run."""

import copy
import inspect
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import diffusers
import torch
from diffusers import EulerDiscreteScheduler
from torch import Tensor

from d2plan.errors import FileError, InputError

SchedulerChoice = Literal["base", "euler"]

# Those of the variance-preserving family whose packages come with diffusers.
_NAMES = (
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LCMScheduler",
    "PNDMScheduler",
    "TCDScheduler",
    "UniPCMultistepScheduler",
)
SCHEDULERS = MappingProxyType({name: getattr(diffusers, name) for name in _NAMES})


def read_scheduler(folder: Path) -> Any:  # noqa: ANN401  (diffusers' schedulers share no class that has their methods)
    """Open the scheduler that a base names.

    Args:
        folder: holds ``scheduler_config.json``.

    Returns:
        A scheduler of the class in that file, with its settings.

    Raises:
        FileError: the file cannot be read.
        InputError: it names a class that is not among diffusers' samplers for such models.
    """
    path = folder / "scheduler_config.json"
    try:
        name = json.loads(path.read_text(encoding="utf-8"))["_class_name"]
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}; copy the base anew.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not readable as a scheduler's settings; copy the base anew.") from error
    if name not in SCHEDULERS:
        raise InputError(f"{path} names the scheduler {name}, which d2plan does not know; use {', '.join(SCHEDULERS)}.")
    return SCHEDULERS[name].from_pretrained(folder, local_files_only=True)


class Sampling:
    """Takes the steps of a batch of pictures; the state of a sampler is in here and nowhere else.

    Args:
        base: the scheduler whose settings it takes; not changed.
        steps: denoising steps, at least 1.
        seeds: one a picture; the noise that some samplers add in their steps comes from these too.
        device: where the latents lie.
        kind: "base" for the class of ``base``, "euler" for Euler steps with its settings.

    Raises:
        InputError: no step, or a seed that cannot be used.
    """

    def __init__(
        self,
        base: Any,  # noqa: ANN401
        steps: int,
        seeds: Sequence[int],
        device: torch.device | str = "cpu",
        kind: SchedulerChoice = "base",
    ) -> None:
        if steps < 1:
            raise InputError(f"steps is {steps}, but must be 1 or more.")
        cls = EulerDiscreteScheduler if kind == "euler" else type(base)
        self.scheduler = cls.from_config(base.config)
        self.scheduler.set_timesteps(steps, device=device)
        if hasattr(self.scheduler, "set_begin_index"):
            self.scheduler.set_begin_index(0)
        self.generators = [seed_generator(seed) for seed in seeds]
        taken = inspect.signature(self.scheduler.step).parameters
        self._draws = "generator" in taken
        # What the stock pipelines pass, also to samplers with another default.
        self._fixed = {"eta": 0.0} if "eta" in taken else {}

    @property
    def timesteps(self) -> Tensor:
        """One for each call of the U-Net, on the latents' device; some samplers make two calls a step."""
        return self.scheduler.timesteps

    def scale(self, latents: Tensor, timestep: Tensor) -> Tensor:
        """Bring latents to the scale that the U-Net reads.

        Args:
            latents: x_t, ``[b, c, h, w]``.
            timestep: of the call.

        Returns:
            ``[b, c, h, w]``.
        """
        return self.scheduler.scale_model_input(latents, timestep)

    def step(self, prediction: Tensor, timestep: Tensor, latents: Tensor) -> Tensor:
        """Take one step.

        Args:
            prediction: guided, ``[b, c, h, w]``, in the order of the seeds.
            timestep: of the call.
            latents: x_t, ``[b, c, h, w]``.

        Returns:
            x_{t-1}, ``[b, c, h, w]``.
        """
        noise = {"generator": self.generators} if self._draws else {}
        return self.scheduler.step(prediction, timestep, latents, return_dict=False, **noise, **self._fixed)[0]

    def fork(self, count: int | None = None, place: int | None = None) -> "Sampling":
        """Copy the whole state, so that several pictures go on from here, or one goes on twice.

        Args:
            count: pictures that go on from a batch of one; None keeps the batch.
            place: go on with this picture of the batch alone.

        Returns:
            A sampling of its own; neither disturbs the other.
        """
        twin = copy.copy(self)
        batch = len(self.generators)

        def spread(value: Tensor) -> Tensor:
            if value.ndim != 4 or value.shape[0] != batch:
                return value.clone()
            kept = value if place is None else value[place : place + 1]
            return kept.clone() if count is None else kept.repeat(count, 1, 1, 1)

        twin.scheduler = _copy_state(self.scheduler, spread)
        own = self.generators if place is None else self.generators[place : place + 1]
        twin.generators = [_copy_generator(one) for one in own for _ in range(count or 1)]
        return twin


def seed_generator(seed: int) -> torch.Generator:
    """Make the source of a picture's noise, on the CPU, so that a seed means the same picture on any device.

    Args:
        seed: 0 to 2^63 - 1.

    Returns:
        A fresh generator.

    Raises:
        InputError: the seed cannot be used.
    """
    if not 0 <= seed < 2**63:
        raise InputError(f"seed is {seed}, but must be 0..2^63 - 1.")
    return torch.Generator("cpu").manual_seed(seed)


def _copy_generator(generator: torch.Generator) -> torch.Generator:
    twin = torch.Generator("cpu")
    twin.set_state(generator.get_state())
    return twin


def _copy_state(scheduler: Any, spread: Callable[[Tensor], Tensor]) -> Any:  # noqa: ANN401
    """Copy a scheduler; its history (the last predictions and samples) goes through ``spread``."""

    def copied(value: Any) -> Any:  # noqa: ANN401
        if isinstance(value, Tensor):
            return spread(value)
        if isinstance(value, list):
            return [copied(item) for item in value]
        return copy.deepcopy(value)

    twin = copy.copy(scheduler)
    # Its settings are frozen and shared.
    vars(twin).update({name: copied(value) for name, value in vars(scheduler).items() if name != "_internal_dict"})
    return twin
