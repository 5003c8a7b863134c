"""Trainable low-rank updates on a base, through PEFT, and off again without a trace."""

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import nn

from d2plan.adapter.adapter import Delta, Models
from d2plan.adapter.names import COMPONENTS
from d2plan.errors import AdapterError, InputError

UNET_TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
TEXT_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj")
_NAME = "d2plan"
_PEFT_ATTRIBUTES = frozenset({"peft_config", "active_adapter", "active_adapters"})


@dataclass(frozen=True, eq=False)
class Attachment:
    """What there is to train while an adapter is attached.

    Attributes:
        unet: the U-Net's parameters, float32 whatever the base's number format is.
        text: both text encoders' parameters; empty where only the U-Net learns.
    """

    unet: tuple[nn.Parameter, ...]
    text: tuple[nn.Parameter, ...]


@contextmanager
def attach_adapter(
    models: Models, rank: int, alpha: float | None = None, seed: int = 0, text_encoders: bool = True
) -> Iterator[Attachment]:
    """Add trainable updates to all attention layers of U-Net and text encoders while the block runs.

    Paper: Delta theta of section 4.1; an update is zero until it is trained.

    Args:
        models: the base; its own weights do not learn.
        rank: of each update.
        alpha: strength times rank; equal to the rank without it.
        seed: of the first values.
        text_encoders: give the text encoders updates too.

    Yields:
        The parameters; afterwards the base is as before, bit for bit.

    Raises:
        InputError: the rank or alpha cannot be used, or an adapter is attached already.
    """
    if not 1 <= rank <= 1024:
        raise InputError(f"rank is {rank}, but must be 1..1024.")
    strength = float(rank) if alpha is None else float(alpha)
    if not (math.isfinite(strength) and strength > 0):
        raise InputError(f"alpha is {alpha}, but must be more than 0.")
    parts = {name: model for name, model in _components(models).items() if text_encoders or name == "unet"}
    if any(True for _ in _layers(models)):
        raise InputError("An adapter is attached to this base already; leave its block first.")
    generator = torch.Generator("cpu").manual_seed(seed)
    with ExitStack() as cleanup:
        parameters: dict[str, tuple[nn.Parameter, ...]] = {}
        for component, model in parts.items():
            learns = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
            cleanup.callback(_restore, model, learns, frozenset(vars(model)))
            targets = UNET_TARGETS if component == "unet" else TEXT_TARGETS
            parameters[component] = _inject(model, targets, rank, strength, generator)
        text = tuple(parameter for name in COMPONENTS[1:] for parameter in parameters.get(name, ()))
        yield Attachment(parameters["unet"], text)


@contextmanager
def adapter_off(models: Models) -> Iterator[None]:
    """Compute with the base alone while the block runs, the frozen pass of eq. (3) and (4).

    Args:
        models: a base with an adapter attached; without one nothing changes.

    Yields:
        Nothing; afterwards the adapter is on and learns as before.
    """
    layers = [layer for _, layer in _layers(models)]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


@contextmanager
def adapter_aside(models: Models) -> Iterator[None]:
    """Take the attached adapter off the base's layers while the block runs, so that other adapters may be put on.

    Args:
        models: a base with an adapter attached; without one nothing changes.

    Yields:
        Nothing; afterwards the adapter is attached as before, with all that it has learnt.
    """
    parts = _components(models).values()
    places = [
        (part.get_submodule(path.rpartition(".")[0]), path.rpartition(".")[2], module)
        for part in parts
        for path, module in list(part.named_modules())
        if isinstance(module, LoraLayer)
    ]
    for parent, name, layer in places:
        setattr(parent, name, layer.get_base_layer())
    try:
        yield
    finally:
        for parent, name, layer in places:
            setattr(parent, name, layer)


def collect_deltas(models: Models, dtype: torch.dtype = torch.float32) -> dict[str, Delta]:
    """Copy the attached adapter's updates as they are now.

    Args:
        models: a base with an adapter attached.
        dtype: of the copies.

    Returns:
        Module path to update, on the CPU, in the paths that ``Adapter`` uses.

    Raises:
        AdapterError: no adapter is attached.
    """
    deltas = {
        path: Delta(
            layer.lora_A[_NAME].weight.detach().to("cpu", dtype, copy=True),
            layer.lora_B[_NAME].weight.detach().to("cpu", dtype, copy=True),
            float(layer.lora_alpha[_NAME]),
        )
        for path, layer in _layers(models)
    }
    if not deltas:
        raise AdapterError("No adapter is attached to this base; call this inside attach_adapter.")
    return deltas


def restore_deltas(models: Models, deltas: Mapping[str, Delta]) -> None:
    """Put updates into the attached adapter, so that its training goes on from them.

    Args:
        models: a base with an adapter of the same rank attached.
        deltas: from ``collect_deltas`` or an adapter's file.

    Raises:
        AdapterError: the layers or their shapes are others.
    """
    layers = dict(_layers(models))
    if layers.keys() != deltas.keys():
        raise AdapterError(
            f"{len(layers.keys() & deltas.keys())} of {len(layers)} layers are in both; use the same base."
        )
    for path, layer in layers.items():
        down, up = layer.lora_A[_NAME].weight, layer.lora_B[_NAME].weight
        if down.shape != deltas[path].down.shape or up.shape != deltas[path].up.shape:
            raise AdapterError(f"{path} has another shape in what is to be restored; use the same rank and base.")
        with torch.no_grad():
            down.copy_(deltas[path].down)
            up.copy_(deltas[path].up)


def _components(models: Models) -> dict[str, nn.Module]:
    return dict(zip(COMPONENTS, (models.unet, *models.text_encoders), strict=True))


def _layers(models: Models) -> Iterator[tuple[str, LoraLayer]]:
    for component, model in _components(models).items():
        for path, module in model.named_modules():
            if isinstance(module, LoraLayer) and _NAME in module.lora_A:
                text = component != "unet" and not path.startswith("text_model.")
                yield f"{component}.{'text_model.' if text else ''}{path}", module


def _inject(
    model: nn.Module, targets: tuple[str, ...], rank: int, alpha: float, generator: torch.Generator
) -> tuple[nn.Parameter, ...]:
    settings = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets), lora_dropout=0.0, bias="none")
    # PEFT draws first values from the process's generator; that is left as it was, and ours are drawn anew.
    with torch.random.fork_rng(devices=[]):
        inject_adapter_in_model(settings, model, adapter_name=_NAME)
    parameters = []
    for module in model.modules():
        if isinstance(module, LoraLayer):
            down, up = module.lora_A[_NAME].weight, module.lora_B[_NAME].weight
            first = torch.empty(down.shape)
            nn.init.kaiming_uniform_(first, a=math.sqrt(5), generator=generator)
            # PEFT gives updates the base's number format; in half precision the small steps of training would be lost.
            down.data, up.data = down.data.float(), up.data.float()
            with torch.no_grad():
                down.copy_(first)
            parameters += [down, up]
    return tuple(parameters)


def _restore(model: nn.Module, learns: Mapping[str, bool], attributes: frozenset[str]) -> None:
    for path, module in list(model.named_modules()):
        if isinstance(module, LoraLayer):
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, module.get_base_layer())
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(learns[name])
    # Only what PEFT puts on a model goes: transformers marks its own hooks on it during the first call.
    for name in _PEFT_ATTRIBUTES - attributes:
        vars(model).pop(name, None)
