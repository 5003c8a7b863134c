"""Shots of the tiny base, and what counts the rows that pass its U-Net."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from d2plan.backbone.load import Backbone
from d2plan.backbone.sdxl import encode_prompts
from d2plan.bench.protocol import Drawing, Shot

DRAWING = Drawing(steps=3, guidance_scale=4.0, height=64, width=64)


def make_shot(seed: int = 0, words: tuple[str, ...] = ("man", "dog"), **changes: object) -> Shot:
    """A scene of some classes, named <v1>, <v2>, ... from left to right."""
    named = [f"<v{number}> {word}" for number, word in enumerate(words, 1)]
    width = 1 / len(words)
    fields = {
        "global_prompt": f"a photo of a {' and a '.join(words)} on the beach",
        "sub_prompts": tuple(f"a photo of a {name} running" for name in named),
        "joint_prompt": f"a photo of a {' and a '.join(named)} on the beach",
        "concepts": tuple(f"{word}-{number}" for number, word in enumerate(words, 1)),
        "boxes": tuple((place * width, 0.2, (place + 1) * width, 1.0) for place in range(len(words))),
        "seed": seed,
    }
    return Shot(**{**fields, **changes})


@contextmanager
def counted_rows(backbone: Backbone) -> Iterator[list[int]]:
    """Write down the rows of every call of the U-Net."""
    rows: list[int] = []

    def note(unet: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        rows.append(len(inputs[0]))

    handle = backbone.unet.register_forward_pre_hook(note)
    yield rows
    handle.remove()


def fingerprint(backbone: Backbone) -> dict[str, object]:
    """All weights of a base, and what hangs on its layers."""
    with torch.no_grad():
        # transformers puts hooks of its own on an encoder when it is first called.
        encode_prompts(backbone, ["a photo"])
    parts = {"unet": backbone.unet, "one": backbone.text_encoders[0], "two": backbone.text_encoders[1]}
    weights = {
        f"{name}.{key}": value.clone() for name, part in parts.items() for key, value in part.state_dict().items()
    }
    hooks = {
        f"{name}.{path}": (len(module._forward_hooks), len(module._forward_pre_hooks), "forward" in vars(module))
        for name, part in parts.items()
        for path, module in part.named_modules()
    }
    processors = {key: type(value).__name__ for key, value in backbone.unet.attn_processors.items()}
    return {"weights": weights, "hooks": hooks, "processors": processors}


def same_base(one: dict[str, object], other: dict[str, object]) -> bool:
    """Say whether two fingerprints are equal, bit for bit."""
    weights, others = one["weights"], other["weights"]
    return (
        weights.keys() == others.keys()
        and all((weights[key] == others[key]).all() for key in weights)
        and one["hooks"] == other["hooks"]
        and one["processors"] == other["processors"]
    )
