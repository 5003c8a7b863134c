"""The embedded CLIP and the self-supervised ViT: their shapes, their picture processors, and how they are written."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTokenizer,
    PreTrainedModel,
    ViTConfig,
    ViTImageProcessorPil,
    ViTModel,
)

sys.path.append(str(Path(__file__).resolve().parents[1] / "mini"))  # the base's scripts
from tokenizer import LENGTH, make_tokenizer  # noqa: E402

WORK = Path(os.environ.get("D2PLAN_ENCODERS_WORK", Path.home() / ".cache" / "d2plan" / "encoders"))
ASSETS = Path(__file__).resolve().parents[2] / "src" / "d2plan" / "assets" / "encoders"
CLIP_SIZE, CLIP_PATCH, CLIP_WIDTH, CLIP_LAYERS = 128, 16, 160, 5
TEXT_WIDTH, TEXT_LAYERS, PROJECTION = 128, 2, 256
ACTIVATION = "relu"  # a third faster on a CPU than GELU of CLIP's own kind
VIT_SIZE, VIT_PATCH, VIT_WIDTH, VIT_LAYERS = 96, 16, 128, 5
FRACTION = 4
_HALF = (0.5, 0.5, 0.5)


def load_tokenizer() -> CLIPTokenizer:
    """Give the CLIP's tokenizer: the written one, or a new one that is kept at once.

    Learning one twice gives other numbers to some words, so a training must never make its own again.
    """
    for folder in (ASSETS / "clip", WORK / "tokenizer"):
        if (folder / "tokenizer.json").exists():
            return CLIPTokenizer.from_pretrained(folder)
    make_tokenizer().save_pretrained(WORK / "tokenizer")
    return CLIPTokenizer.from_pretrained(WORK / "tokenizer")


def build_clip(seed: int = 0) -> CLIPModel:
    """Make the CLIP with random weights; plain attention, which a CPU trains faster."""
    tokenizer = load_tokenizer()
    vision = {
        "hidden_size": CLIP_WIDTH,
        "intermediate_size": 3 * CLIP_WIDTH,
        "num_hidden_layers": CLIP_LAYERS,
        "num_attention_heads": CLIP_WIDTH // 32,
        "image_size": CLIP_SIZE,
        "patch_size": CLIP_PATCH,
        "projection_dim": PROJECTION,
        "hidden_act": ACTIVATION,
    }
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": 3 * TEXT_WIDTH,
        "num_hidden_layers": TEXT_LAYERS,
        "num_attention_heads": TEXT_WIDTH // 32,
        "max_position_embeddings": LENGTH,
        "projection_dim": PROJECTION,
        "hidden_act": ACTIVATION,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=PROJECTION)
    config._attn_implementation = "eager"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CLIPModel(config)


def build_vit(seed: int = 0) -> ViTModel:
    """Make the ViT with random weights."""
    config = ViTConfig(
        hidden_size=VIT_WIDTH,
        intermediate_size=3 * VIT_WIDTH,
        num_hidden_layers=VIT_LAYERS,
        num_attention_heads=VIT_WIDTH // 32,
        image_size=VIT_SIZE,
        patch_size=VIT_PATCH,
        hidden_act=ACTIVATION,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    config._attn_implementation = "eager"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ViTModel(config, add_pooling_layer=False)


def clip_processor() -> CLIPImageProcessorPil:
    """Give the CLIP's picture processor: shorter side to 128 px, the middle, -1..1."""
    size, crop = {"shortest_edge": CLIP_SIZE}, {"height": CLIP_SIZE, "width": CLIP_SIZE}
    return CLIPImageProcessorPil(size=size, crop_size=crop, image_mean=_HALF, image_std=_HALF)


def vit_processor() -> ViTImageProcessorPil:
    """Give the ViT's picture processor: to 96 px square as a whole, -1..1."""
    size = {"height": VIT_SIZE, "width": VIT_SIZE}
    return ViTImageProcessorPil(size=size, resample=3, image_mean=_HALF, image_std=_HALF)


def write_encoder(model: PreTrainedModel, folder: Path) -> None:
    """Write a model with its processor, and a CLIP with its tokenizer, as transformers' folders.

    Weights are in half precision, rounded to ``FRACTION`` bits behind the first: what git keeps of them is a third
    smaller, and the measured numbers are the same. Each file is replaced at once, so that who reads meanwhile finds
    whole files.
    """
    copy = type(model)(model.config) if isinstance(model, CLIPModel) else ViTModel(model.config, False)
    copy.load_state_dict(model.state_dict())
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as part:
        with torch.no_grad():
            for weight in copy.parameters():
                weight.copy_(round_weights(weight))
        copy.half().save_pretrained(part)
        if isinstance(model, CLIPModel):
            clip_processor().save_pretrained(part)
            load_tokenizer().save_pretrained(part)
        else:
            vit_processor().save_pretrained(part)
        for path in Path(part).iterdir():
            path.chmod(0o644)
            path.replace(folder / path.name)


def round_weights(weights: torch.Tensor) -> torch.Tensor:
    """Round to ``FRACTION`` binary digits behind the first, in float32.

    >>> round_weights(torch.tensor([1.0, 1.03, -0.30, 0.0])).tolist()
    [1.0, 1.0, -0.296875, 0.0]
    """
    fraction, exponent = torch.frexp(weights.float())
    steps = 2.0 ** (FRACTION + 1)
    return torch.ldexp((fraction * steps).round() / steps, exponent)


class Done(NamedTuple):
    """What a training has done: its steps, the step to warm up from, and the seconds on each kind of device."""

    step: int
    cold: int
    seconds: dict[str, float]


class StopWatch:
    """Counts a training's seconds over all its runs: of the processor on a CPU, those that pass on anything else."""

    def __init__(self, device: torch.device, before: dict[str, float]) -> None:
        """Begin, after what earlier runs took."""
        self._kind, self._before = device.type, before
        self._clock = time.process_time if device.type == "cpu" else time.time
        self._began = self._clock()

    def read(self) -> dict[str, float]:
        """Give the seconds by kind of device."""
        return {**self._before, self._kind: self._before.get(self._kind, 0.0) + self._clock() - self._began}


def count_parameters(model: nn.Module) -> int:
    """Count a model's numbers."""
    return sum(one.numel() for one in model.parameters())
