"""What changes while a concept is learnt; all of it taken as tensors, and put back so that no bit differs."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from d2plan.adapter.attach import Attachment
from d2plan.config import DisLoRASettings
from d2plan.dislora.draw import BatchDraw
from d2plan.errors import InputError

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")
_SCALER = ("scale", "_growth_tracker")


@dataclass(frozen=True, eq=False)
class Apparatus:
    """What changes while a concept is learnt.

    Attributes:
        attached: the updates, parameters of the base's layers.
        optimiser: AdamW over those that learn.
        draw: where batches come from.
        scaler: of the loss in float16; switched off elsewhere.
    """

    attached: Attachment
    optimiser: torch.optim.AdamW
    draw: BatchDraw
    scaler: torch.amp.GradScaler

    @property
    def learnt(self) -> list[nn.Parameter]:
        """The parameters that learn."""
        return [parameter for group in self.optimiser.param_groups for parameter in group["params"]]


def make_optimiser(attached: Attachment, settings: DisLoRASettings) -> torch.optim.AdamW:
    """Make AdamW with one rate for the U-Net and one for the encoders.

    Args:
        attached: what there is to train; the encoders' part stops learning when its rate is 0.
        settings: rates and weight decay.

    Returns:
        The optimiser.

    Raises:
        InputError: nothing has a rate above 0.
    """
    parts = ((attached.unet, settings.unet_rate), (attached.text, settings.text_rate))
    groups = []
    for parameters, rate in parts:
        for parameter in parameters:
            parameter.requires_grad_(rate > 0)
        if rate > 0 and parameters:
            groups.append({"params": list(parameters), "lr": rate, "first_rate": rate})
    if not groups:
        raise InputError("unet_rate and text_rate are both 0, so nothing can be learnt; raise one.")
    return torch.optim.AdamW(groups, weight_decay=settings.weight_decay, fused=True)


def set_rates(optimiser: torch.optim.AdamW, settings: DisLoRASettings, step: int) -> None:
    """Set the rates of a step.

    Args:
        optimiser: from ``make_optimiser``.
        settings: the schedule and the number of steps.
        step: from 1.
    """
    left = (settings.steps - step + 1) / settings.steps
    for group in optimiser.param_groups:
        group["lr"] = group["first_rate"] * (left if settings.rate_schedule == "linear" else 1.0)


def take_snapshot(apparatus: Apparatus) -> dict[str, Tensor]:
    """Copy the state of a training between two steps.

    Args:
        apparatus: of the training.

    Returns:
        Name to tensor, on the CPU, none shared with the training.
    """
    tensors = {f"draw.{name}": tensor for name, tensor in apparatus.draw.state().items()}
    for index, parameter in enumerate((*apparatus.attached.unet, *apparatus.attached.text)):
        tensors[f"update.{index:05}.value"] = parameter.detach()
        moments = apparatus.optimiser.state.get(parameter, {})
        tensors.update({f"update.{index:05}.{name}": moments[name] for name in _MOMENTS if name in moments})
    if apparatus.scaler.is_enabled():
        state = apparatus.scaler.state_dict()
        tensors["scaler"] = torch.tensor([float(state[name]) for name in _SCALER], dtype=torch.float64)
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}


def restore_snapshot(apparatus: Apparatus, tensors: Mapping[str, Tensor]) -> None:
    """Put a training back to where a snapshot was taken.

    Args:
        apparatus: of a training of the same base with the same settings, before its first step.
        tensors: from ``take_snapshot``.

    Raises:
        InputError: the snapshot is of another training.
    """
    parameters = (*apparatus.attached.unet, *apparatus.attached.text)
    saved = {name: tensor for name, tensor in tensors.items() if name.startswith("update.")}
    values = {f"update.{index:05}.value": parameter for index, parameter in enumerate(parameters)}
    shapes = {name: tensor.shape for name, tensor in saved.items() if name.endswith(".value")}
    if shapes != {name: parameter.shape for name, parameter in values.items()}:
        raise InputError("The saved training has other layers or another rank; use the same base and rank again.")
    if apparatus.scaler.is_enabled() != ("scaler" in tensors):
        raise InputError("The saved training used another number format; use the same --precision again.")
    with torch.no_grad():
        for name, parameter in values.items():
            parameter.copy_(saved[name])
    learnt = {id(parameter) for parameter in apparatus.learnt}
    for index, parameter in enumerate(parameters):
        moments = {name: saved.get(f"update.{index:05}.{name}") for name in _MOMENTS}
        if id(parameter) in learnt and all(tensor is not None for tensor in moments.values()):
            apparatus.optimiser.state[parameter] = _copy_moments(parameter, moments)
    apparatus.draw.restore({name.removeprefix("draw."): tensors[name] for name in tensors if name.startswith("draw.")})
    if apparatus.scaler.is_enabled():
        scale, tracker = tensors["scaler"].tolist()
        state = apparatus.scaler.state_dict()
        apparatus.scaler.load_state_dict({**state, "scale": scale, "_growth_tracker": int(tracker)})


def _copy_moments(parameter: nn.Parameter, moments: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
    copies = {}
    for name, tensor in moments.items():
        assert tensor is not None
        # In memory of their own and of the same layout: the same numbers elsewhere may be added up in another order.
        like = torch.empty_like(parameter) if tensor.shape == parameter.shape else parameter.new_empty(tensor.shape)
        copies[name] = like.detach().copy_(tensor)
    return copies
