"""The embedded model's autoencoder: its shapes, and how the trained one is opened.

Three levels turn 128x128x3 pixels into 32x32x4 latents. A stock diffusers AutoencoderKL has one list of widths for
both of its halves; attention in the middle is left out, so that it is fully convolutional.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from common import SIZE, WORK
from diffusers import AutoencoderKL

CHECKPOINT = WORK / "vae.pt"
WIDTHS: dict[str, tuple[int, int, int]] = {"tiny": (8, 8, 16), "small": (16, 32, 64), "wide": (24, 48, 96)}


def make_config(size: str) -> dict[str, Any]:
    """Give the arguments of AutoencoderKL for one of ``WIDTHS``."""
    return {
        "block_out_channels": WIDTHS[size],
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ("UpDecoderBlock2D",) * 3,
        "layers_per_block": 1,
        "latent_channels": 4,
        "norm_num_groups": 8,
        "sample_size": SIZE,
        "mid_block_add_attention": False,
        "force_upcast": False,
    }


def make_vae(size: str = "small", **more: object) -> AutoencoderKL:
    """Make an autoencoder with random weights; ``more`` goes into its config."""
    return AutoencoderKL(**make_config(size), **more)


def load_vae(path: Path = CHECKPOINT, **more: object) -> AutoencoderKL:
    """Open the averaged autoencoder of a checkpoint, frozen; ``more`` goes into its config."""
    state = torch.load(path, weights_only=True, map_location="cpu")
    vae = make_vae(state.get("size", "small"), **more)
    vae.load_state_dict(state["average"])
    return vae.eval().requires_grad_(False)
