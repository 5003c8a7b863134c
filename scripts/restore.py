"""Make checkpoints of the committed weights, so that training goes on where no earlier checkpoint is left.

Command: python scripts/restore.py (the base's, the latents' scale, the judge's and the encoders'; what is there stays)

Only averaged weights are committed: optimisers begin anew, and so do the heads that only training needs.
"""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "mini"), str(HERE / "judge")]

import autoencoder  # noqa: E402
import models  # noqa: E402
import train_unet  # noqa: E402
from common import WORK, save_atomically  # noqa: E402
from data import WORK as JUDGE  # noqa: E402
from diffusers import StableDiffusionXLPipeline  # noqa: E402
from tokenizer import make_tokenizer  # noqa: E402
from transformers import CLIPModel, ViTModel  # noqa: E402

from d2plan.eval.networks import load_networks  # noqa: E402

ASSETS = HERE.parent / "src" / "d2plan" / "assets"
ENCODERS = Path(os.environ.get("D2PLAN_ENCODERS_WORK", Path.home() / ".cache" / "d2plan" / "encoders"))


def keep(path: Path, network: nn.Module, **more: object) -> None:
    """Write a checkpoint at step 0 unless there is one."""
    if path.exists():
        print(f"{path}: stays")
        return
    state = network.state_dict()
    save_atomically({"model": state, "average": state, "step": 0, **more}, path)
    print(f"{path}: written")


def name_size(sizes: dict[str, Any], widths: tuple[int, ...]) -> str:
    """Find the name of a network's size by its widths."""
    return next(name for name, size in sizes.items() if tuple(getattr(size, "blocks", size)) == widths)


def restore_base() -> None:
    """Write the autoencoder's and the U-Net's checkpoints, and how latents are scaled."""
    pipeline = StableDiffusionXLPipeline.from_pretrained(ASSETS / "mini", torch_dtype=torch.float32)
    vae, unet = pipeline.vae, pipeline.unet
    keep(autoencoder.CHECKPOINT, vae, size=name_size(autoencoder.WIDTHS, tuple(vae.config.block_out_channels)))
    if not (WORK / "latents.npz").exists():
        scale = {"mean": vae.config.latents_mean, "std": vae.config.latents_std}
        # As encode.py writes them: the training computes in their number format.
        np.savez(WORK / "latents.npz", **{name: np.float32(values) for name, values in scale.items()})
    size = name_size(models.SIZES, tuple(unet.config.block_out_channels))
    torch.manual_seed(0)
    bundle = train_unet.Bundle(make_tokenizer(), size)
    bundle.unet.load_state_dict(unet.state_dict())
    for mine, its in zip(bundle.encoders, (pipeline.text_encoder, pipeline.text_encoder_2), strict=True):
        mine.load_state_dict(its.state_dict())
    keep(train_unet.CHECKPOINT, bundle, size=size, recipe=asdict(models.Recipe()))


def restore_judge() -> None:
    """Write the checkpoints of the judge's networks."""
    for name, network in load_networks(ASSETS / "judge").parts().items():
        keep(JUDGE / f"{name}.pt", network, extra={})


def restore_encoders() -> None:
    """Write the checkpoints of the CLIP and the ViT."""
    for name, network in (("clip", CLIPModel), ("vit", ViTModel)):
        folder = ASSETS / "encoders" / name
        options = {} if name == "clip" else {"add_pooling_layer": False}
        keep(ENCODERS / f"{name}.pt", network.from_pretrained(folder, dtype=torch.float32, **options), extra={})


if __name__ == "__main__":
    restore_base()
    restore_judge()
    restore_encoders()
