"""Concepts of the tiny base that were never trained, and the base with their updates in its very weights."""

import copy
from pathlib import Path

import torch

from d2plan.adapter.adapter import Adapter
from d2plan.adapter.names import find_layer
from d2plan.backbone.load import Backbone
from d2plan.bench.protocol import BenchConcept, Learned
from d2plan.bench.shared.adapters import write_adapter
from tests.isp.concepts import random_adapter


def make_adapter(base: Backbone, number: int, word: str = "man") -> Adapter:
    """A random adapter, strong enough to change every prediction."""
    return random_adapter(base, word, f"<v{number}>", seed=number, scale=0.3)


def learnt(base: Backbone, number: int, word: str = "man") -> Learned:
    """That adapter as a method gets it."""
    concept = BenchConcept(f"{word}-{number}", word, f"<v{number}>", Path("nowhere"))
    return Learned(concept, write_adapter(make_adapter(base, number, word)), Path(f"{word}-{number}.safetensors"))


def merged_base(base: Backbone, parts: dict[int, float], encoders: bool = True) -> Backbone:
    """A copy of a base into whose weights the adapters of these numbers were added, each times its strength."""
    twin = copy.deepcopy(base)
    components = dict(zip(("unet", "text_encoder", "text_encoder_2"), (twin.unet, *twin.text_encoders), strict=True))
    for number, strength in parts.items():
        for path, delta in make_adapter(base, number).deltas.items():
            component, _, rest = path.partition(".")
            if component == "unet" or encoders:
                weight = find_layer(components[component], rest).weight
                with torch.no_grad():
                    weight += strength * delta.scale * (delta.up @ delta.down)
    return twin
