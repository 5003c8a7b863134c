"""Encode the rendered shards once with the trained autoencoder, so that the U-Net's training never does.

Command: python scripts/mini/encode.py (resumes; a new autoencoder needs ``--again``)
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from autoencoder import load_vae
from common import WORK, autocast, choose_device, data_folder, log, shards, synchronise
from diffusers import AutoencoderKL

_AT_ONCE = {"cpu": 10, "cuda": 500}


@torch.no_grad()
def encode(vae: AutoencoderKL, images: np.ndarray, device: torch.device, form: torch.dtype | None = None) -> np.ndarray:
    """Turn uint8 images ``[n, h, w, 3]`` into float16 latents ``[n, 4, h / 4, w / 4]``, not yet scaled."""
    parts, size = [], _AT_ONCE[device.type]
    for start in range(0, len(images), size):
        part = torch.from_numpy(np.array(images[start : start + size])).to(device).permute(0, 3, 1, 2)
        pixels = (part.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        with autocast(device, form):
            parts.append(vae.encode(pixels).latent_dist.mode().half().cpu().numpy())
    return np.concatenate(parts)


def main() -> None:
    """Encode what is not encoded yet; the first shard also gives the latents' mean and deviation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--every", type=int, default=1)
    choice = parser.parse_args()
    device, form = choose_device()
    vae = load_vae().to(device, memory_format=torch.channels_last)
    began, count = time.time(), 0
    for path in shards()[choice.first :: choice.every]:
        target = data_folder() / f"{path.name}.latents.npy"
        if target.exists() and not choice.again:
            continue
        latents = encode(vae, np.load(path.with_suffix(".images.npy"), mmap_mode="r"), device, form)
        np.save(target.with_suffix(".tmp.npy"), latents)
        target.with_suffix(".tmp.npy").replace(target)
        count += len(latents)
        # Later scenes of one autoencoder keep the first ones' scale, which the U-Net has learnt.
        if path == shards()[0] and (choice.again or not (WORK / "latents.npz").exists()):
            values = latents.astype(np.float32)
            np.savez(WORK / "latents.npz", mean=values.mean((0, 2, 3)), std=values.std((0, 2, 3)))
        print(f"{path.name} encoded", flush=True)
    if count:
        synchronise(device)
        log("encode", images=count, images_per_second=count / (time.time() - began))


if __name__ == "__main__":
    main()
