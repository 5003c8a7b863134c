"""Train the embedded model's autoencoder: 128x128x3 pixels to 32x32x4 latents, a stock diffusers AutoencoderKL.

It is fully convolutional (no attention in the middle), so it learns from crops, half of them around instances.
Command: python scripts/mini/train_vae.py --steps 20000 (resumes from its last checkpoint; ``--decoder-only`` freezes
the encoder, so that a U-Net trained on its latents stays valid)
"""

from __future__ import annotations

import argparse
import math
import time

import numpy as np
import torch
from common import MAP, SHARD, SIZE, WORK, choose_device, load_images, log, psnr, save_atomically, shards
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor, nn

CONFIG = {
    "block_out_channels": (16, 32, 64),
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 8,
    "sample_size": SIZE,
    "mid_block_add_attention": False,
    "force_upcast": False,
}
CHECKPOINT = WORK / "vae.pt"


class Crops:
    """Draws batches of crops; half of them are centred on a pixel of an instance."""

    def __init__(self, size: int, batch: int, seed: int) -> None:
        """Open all shards but the last hundred images of the first, which measure."""
        self.images, self.size, self.batch = load_images(), size, batch
        self.masks = [np.load(path.with_suffix(".masks.npy"), mmap_mode="r") for path in shards()]
        self.rng = np.random.default_rng(seed)

    def draw(self) -> Tensor:
        """Give ``[b, 3, size, size]`` in -1..1."""
        crops = np.empty((self.batch, self.size, self.size, 3), np.uint8)
        for place in range(self.batch):
            shard = int(self.rng.integers(len(self.images)))
            number = int(self.rng.integers(100 if shard == 0 else 0, SHARD))
            top, left = self.rng.integers(0, SIZE - self.size + 1, 2)
            if self.rng.random() < 0.6:
                rows, columns = np.nonzero(self.masks[shard][number].max(0) > 100)
                if rows.size:
                    spot = int(self.rng.integers(rows.size))
                    centre = np.array([rows[spot], columns[spot]]) * (SIZE // MAP) + self.rng.integers(0, 8, 2)
                    top, left = np.clip(centre - self.size // 2, 0, SIZE - self.size)
            crop = self.images[shard][number, top : top + self.size, left : left + self.size]
            crops[place] = crop[:, ::-1] if self.rng.random() < 0.5 else crop
        return torch.from_numpy(crops).permute(0, 3, 1, 2).float().div(127.5).sub(1)


def held_back() -> tuple[Tensor, Tensor]:
    """Give the first 48 images and the weight of their instances."""
    images = torch.from_numpy(np.array(load_images(1)[0][:48])).permute(0, 3, 1, 2).float().div(127.5).sub(1)
    masks = torch.from_numpy(np.load(shards()[0].with_suffix(".masks.npy"))[:48].max(1)).float().div(255)[:, None]
    return images, torch.nn.functional.interpolate(masks, scale_factor=SIZE // MAP)


@torch.no_grad()
def measure(vae: AutoencoderKL, step: int, device: torch.device) -> None:
    """Log the PSNR of whole held-back images, overall and inside instances, and write a preview."""
    images, weight = held_back()
    images, weight = images.to(device), weight.to(device)
    latents = torch.cat([vae.encode(part).latent_dist.mode() for part in images.split(16)])
    back = torch.cat([vae.decode(part).sample for part in latents.split(16)]).clamp(-1, 1)
    log("vae", step=step, psnr=psnr(back, images), inside=psnr(back, images, weight), latent_std=latents.std().item())
    rows = torch.cat([torch.cat(list(part[:6]), 2) for part in (images, back)], 1)
    picture = rows.add(1).mul(127.5).round().byte().permute(1, 2, 0).cpu().numpy()
    Image.fromarray(picture).save(WORK / "vae.preview.png")


def blur(latents: Tensor, images: Tensor, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Make latents easy for a U-Net: halved ones must decode to halved images, and slightly noisy ones as clean ones.

    Halving in two of five batches is EQ-VAE's equality under scaling (Kouzelis et al. 2025); it keeps single cells from
    holding their own noise, which a small U-Net cannot draw. The noise, up to 6 % of the latents' deviation, stands for
    the U-Net's own errors.
    """
    if torch.rand((), generator=generator) < 0.4:
        latents = nn.functional.avg_pool2d(latents, 2)
        images = nn.functional.interpolate(images, size=(size // 2, size // 2), mode="area")
    share = 0.06 * torch.rand((len(latents), 1, 1, 1), generator=generator).to(latents.device)
    noise = torch.randn(latents.shape, generator=generator).to(latents.device)
    return latents + share * latents.detach().std() * noise, images


def main() -> None:
    """Train until the wanted number of steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--crop", type=int, default=64)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--decoder-only", action="store_true")
    choice = parser.parse_args()
    device, autocast = choose_device()
    torch.manual_seed(0)
    vae = AutoencoderKL(**CONFIG).to(device, memory_format=torch.channels_last)
    average = AutoencoderKL(**CONFIG).to(device)
    start = 0
    if CHECKPOINT.exists():
        state = torch.load(CHECKPOINT, weights_only=True)
        vae.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        start = int(state["step"])
    else:
        average.load_state_dict(vae.state_dict())
    frozen = [vae.encoder, vae.quant_conv] if choice.decoder_only else []
    for part in frozen:
        part.requires_grad_(False)
    parameters = [p for p in vae.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=choice.rate, betas=(0.9, 0.99), weight_decay=1e-4)
    if start and not choice.decoder_only and len(state["optimiser"]["state"]) == len(parameters):
        optimiser.load_state_dict(state["optimiser"])
    crops, generator = Crops(choice.crop, choice.batch, seed=start), torch.Generator().manual_seed(start)
    began = time.time()
    for step in range(start, choice.steps):
        rate = (
            choice.rate
            * min(1, (step - start + 1) / 200)
            * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / choice.steps)))
        )
        for group in optimiser.param_groups:
            group["lr"] = rate
        images = crops.draw().to(device, memory_format=torch.channels_last)
        with torch.autocast(device.type, autocast or torch.bfloat16, enabled=autocast is not None):
            posterior = vae.encode(images).latent_dist
            latents, wanted = blur(posterior.sample(), images, choice.crop, generator)
            back = vae.decode(latents).sample
        gap = back.float() - wanted
        loss = gap.abs().mean() + 2 * gap.pow(2).mean() + 2e-6 * posterior.kl().mean() / (choice.crop / 4) ** 2 * 64
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        with torch.no_grad():
            share = 1 - min(0.999, (step - start + 10) / (step - start + 100))
            torch._foreach_lerp_(list(average.parameters()), list(vae.parameters()), share)
        if (step + 1) % 500 == 0 or step + 1 == choice.steps:
            measure(average, step + 1, device)
            log("vae", step=step + 1, loss=loss.item(), steps_per_second=(step + 1 - start) / (time.time() - began))
            state = {"model": vae.state_dict(), "average": average.state_dict(), "optimiser": optimiser.state_dict()}
            save_atomically({**state, "step": step + 1}, CHECKPOINT)


if __name__ == "__main__":
    main()
