"""Write the trained weights as the embedded base: a diffusers SDXL folder in float16, with defaults and word list.

Command: python scripts/mini/export.py [--out src/d2plan/assets/mini]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from autoencoder import load_vae
from common import WORK
from diffusers import AutoencoderKL, StableDiffusionXLPipeline
from models import Recipe, make_scheduler, settle_identifiers
from tokenizer import IDENTIFIERS, make_tokenizer, world_words
from train_unet import CHECKPOINT, Bundle

DEFAULTS = {
    "steps": 30,
    "guidance_scale": 5.0,
    "warmup_fraction": 0.25,
    "short_warmup_fraction": 0.1,
    "mask_margin": 0.09375,
    "weave": "all",
    "masks": "columns",
    "height": 128,
    "width": 128,
    "rank": 16,
    "unet_rate": 1e-3,
    "text_rate": 2e-4,
    "train_steps": 300,
    "batch_size": 4,
    "identifiers": list(IDENTIFIERS),
}
FILE = Path(__file__).resolve().parents[2] / "src" / "d2plan" / "assets" / "mini"


def make_vae() -> AutoencoderKL:
    """Give the averaged autoencoder; its config says how the U-Net's latents are scaled."""
    statistics = np.load(WORK / "latents.npz")
    scale = {
        "latents_mean": statistics["mean"].tolist(),
        "latents_std": statistics["std"].tolist(),
        "scaling_factor": 1.0,
    }
    return load_vae(**scale)


def main() -> None:
    """Assemble and write the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=FILE)
    out = parser.parse_args().out
    tokenizer = make_tokenizer()
    state = torch.load(CHECKPOINT, weights_only=True, map_location="cpu")
    bundle = Bundle(tokenizer, state.get("size", "small"))
    bundle.load_state_dict(state["average"])
    settle_identifiers(tokenizer, bundle.encoders)
    pipeline = StableDiffusionXLPipeline(
        vae=make_vae(),
        text_encoder=bundle.encoders[0],
        text_encoder_2=bundle.encoders[1],
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=bundle.unet,
        scheduler=make_scheduler(Recipe(**state.get("recipe", {}))),
        add_watermarker=False,
    )
    # Weights that were one file may now be several, or the other way round.
    for path in out.rglob("*.safetensors*"):
        path.unlink()
    pipeline.to(torch.float16).save_pretrained(out, max_shard_size="14MB")
    (out / "d2plan.json").write_text(json.dumps(DEFAULTS, indent=2) + "\n", encoding="utf-8")
    (out / "words.txt").write_text("\n".join(world_words()) + "\n", encoding="utf-8")
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"{out}: step {state['step']}, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
