"""What happens to pictures on the way from the world to a decoder: blur, noise, scaling, colours, JPEG, the VAE."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor
from torch.nn import functional

sys.path.append(str(Path(__file__).resolve().parents[1] / "mini"))  # the base's scripts
from autoencoder import CHECKPOINT as VAE  # noqa: E402
from autoencoder import load_vae as open_vae  # noqa: E402


def blur(images: Tensor, sigma: float) -> Tensor:
    """Blur ``[b 3 h w]`` with a Gaussian of sigma pixels."""
    reach = max(1, int(3 * sigma + 0.5))
    steps = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
    weights = torch.exp(-(steps**2) / (2 * sigma**2))
    weights = (weights / weights.sum())[None, None].expand(images.shape[1], 1, -1)
    padded = functional.pad(images, (reach,) * 4, mode="replicate")
    rows = functional.conv2d(padded, weights[:, :, :, None], groups=images.shape[1])
    return functional.conv2d(rows, weights[:, :, None, :], groups=images.shape[1])


def add_noise(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Add Gaussian noise; strength against the range -1..1."""
    return images + strength * torch.randn(images.shape, generator=generator, device=generator.device).to(images)


def rescale(images: Tensor, factor: float) -> Tensor:
    """Scale down and up again."""
    size = images.shape[-2:]
    small = [max(8, round(side * factor)) for side in size]
    return functional.interpolate(functional.interpolate(images, small, mode="area"), size, mode="bilinear")


def jpeg(images: Tensor, quality: int) -> Tensor:
    """Compress and open each picture."""
    back = []
    for array in to_bytes(images):
        buffer = io.BytesIO()
        Image.fromarray(array).save(buffer, "JPEG", quality=quality)
        back.append(np.asarray(Image.open(buffer)))
    return from_bytes(np.stack(back)).to(images)


def to_bytes(images: Tensor) -> np.ndarray:
    """``[b 3 h w]`` -1..1 to ``[b h w 3]`` uint8."""
    return images.add(1).mul(127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()


def from_bytes(images: np.ndarray) -> Tensor:
    """``[b h w 3]`` uint8 to ``[b 3 h w]`` -1..1."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div(127.5).sub(1)


def load_vae() -> AutoencoderKL | None:
    """Open the embedded model's autoencoder from its training's checkpoint, where there is one."""
    return open_vae() if VAE.exists() else None


@torch.no_grad()
def round_trip(vae: AutoencoderKL, images: np.ndarray, batch: int = 16, jitter: float = 0.0) -> np.ndarray:
    """Encode and decode ``[n h w 3]`` uint8; jitter adds noise to the latents, against their own spread."""
    back = []
    generator = torch.Generator().manual_seed(0)
    for start in range(0, len(images), batch):
        latents = vae.encode(from_bytes(images[start : start + batch]).to(vae.device)).latent_dist.mode()
        noise = torch.randn(latents.shape, generator=generator).to(vae.device)
        latents = latents + jitter * latents.std() * noise
        back.append(to_bytes(vae.decode(latents).sample.float()))
    return np.concatenate(back)


class Weather:
    """Draws small disturbances for a batch; each of them for a part of its pictures."""

    def __init__(self, seed: int, device: torch.device | None = None) -> None:
        """Start from a seed; noise is drawn where the pictures are."""
        self.rng = np.random.default_rng(seed)
        self.generator = torch.Generator(device or "cpu").manual_seed(seed)

    def __call__(self, images: Tensor) -> Tensor:
        """Disturb ``[b 3 h w]`` -1..1."""
        result = images.clone()
        for change in (self._colours, self._scaled, self._blurred, self._compressed, self._noisy):
            chosen = torch.from_numpy(np.flatnonzero(self.rng.random(len(images)) < 0.22)).to(images.device)
            if len(chosen):
                result[chosen] = change(result[chosen]).clamp(-1, 1)
        return result

    def _colours(self, images: Tensor) -> Tensor:
        gain, shift = (
            torch.randn(len(images), 3, 1, 1, generator=self.generator, device=images.device).clamp(-2, 2)
            for _ in range(2)
        )
        return images * (1 + 0.07 * gain) + 0.04 * shift

    def _scaled(self, images: Tensor) -> Tensor:
        return rescale(images, float(self.rng.uniform(0.5, 0.95)))

    def _blurred(self, images: Tensor) -> Tensor:
        return blur(images, float(self.rng.uniform(0.4, 1.2)))

    def _compressed(self, images: Tensor) -> Tensor:
        return jpeg(images, int(self.rng.integers(40, 95)))

    def _noisy(self, images: Tensor) -> Tensor:
        return add_noise(images, float(self.rng.uniform(0.01, 0.08)), self.generator)
