"""The methods that ``d2plan bench`` knows: a name and where its object lies, opened when it is asked for."""

from __future__ import annotations

from importlib import import_module

from d2plan.bench.protocol import Method
from d2plan.errors import InputError

METHODS: dict[str, str] = {
    "isp-dislora": "d2plan.bench.methods.isp:ISP_DISLORA",
    "isp-paper": "d2plan.bench.methods.isp:ISP_PAPER",
    "isp-lora": "d2plan.bench.methods.isp:ISP_LORA",
    "lora-merge": "d2plan.bench.methods.lora_merge:METHOD",
    "lora-switch": "d2plan.bench.methods.lora_switch:METHOD",
    "lora-composite": "d2plan.bench.methods.lora_composite:METHOD",
    "omg": "d2plan.bench.methods.omg:METHOD",
    "dreambooth": "d2plan.bench.methods.dreambooth:METHOD",
    "textual-inversion": "d2plan.bench.methods.textual_inversion:METHOD",
    "p-plus": "d2plan.bench.methods.p_plus:METHOD",
    "custom-diffusion-joint": "d2plan.bench.methods.custom_diffusion:JOINT",
    "custom-diffusion-fusion": "d2plan.bench.methods.custom_diffusion:FUSION",
    "mix-of-show": "d2plan.bench.methods.mix_of_show:METHOD",
}


def open_method(name: str) -> Method:
    """Give a method by its name.

    Args:
        name: one of METHODS.

    Returns:
        The method.

    Raises:
        InputError: there is none of that name; all are named.
    """
    if name not in METHODS:
        raise InputError(f"methods: there is no '{name}'; choose from {', '.join(METHODS)}")
    module, attribute = METHODS[name].split(":")
    method: Method = getattr(import_module(module), attribute)
    return method
