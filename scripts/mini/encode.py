"""Encode the rendered shards once with the trained autoencoder, so that the U-Net's training never does.

Command: python scripts/mini/encode.py (resumes; a new autoencoder needs ``--again``)
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from common import WORK, choose_device, data_folder, shards
from diffusers import AutoencoderKL
from train_vae import CHECKPOINT, CONFIG


def load_vae() -> AutoencoderKL:
    """Open the averaged autoencoder of the last checkpoint."""
    vae = AutoencoderKL(**CONFIG)
    vae.load_state_dict(torch.load(CHECKPOINT, weights_only=True)["average"])
    return vae.eval().requires_grad_(False)


@torch.no_grad()
def encode(vae: AutoencoderKL, images: np.ndarray, device: torch.device) -> np.ndarray:
    """Turn uint8 images ``[n, h, w, 3]`` into float16 latents ``[n, 4, h / 4, w / 4]``, not yet scaled."""
    parts = []
    for start in range(0, len(images), 50):
        part = torch.from_numpy(np.array(images[start : start + 50])).to(device).permute(0, 3, 1, 2)
        pixels = (part.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        parts.append(vae.encode(pixels).latent_dist.mode().half().cpu().numpy())
    return np.concatenate(parts)


def main() -> None:
    """Encode what is not encoded yet; the first shard also gives the latents' mean and deviation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--every", type=int, default=1)
    choice = parser.parse_args()
    device, _ = choose_device()
    vae = load_vae().to(device, memory_format=torch.channels_last)
    for path in shards()[choice.first :: choice.every]:
        target = data_folder() / f"{path.name}.latents.npy"
        if target.exists() and not choice.again:
            continue
        latents = encode(vae, np.load(path.with_suffix(".images.npy"), mmap_mode="r"), device)
        np.save(target.with_suffix(".tmp.npy"), latents)
        target.with_suffix(".tmp.npy").replace(target)
        if path == shards()[0]:
            values = latents.astype(np.float32)
            np.savez(WORK / "latents.npz", mean=values.mean((0, 2, 3)), std=values.std((0, 2, 3)))
        print(f"{path.name} encoded", flush=True)


if __name__ == "__main__":
    main()
