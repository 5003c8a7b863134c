"""Train the embedded model's autoencoder: 128x128x3 pixels to 32x32x4 latents, a stock diffusers AutoencoderKL.

It is fully convolutional (no attention in the middle), so it learns from crops, half of them around instances.
Command: python scripts/mini/train_vae.py --steps 20000 (resumes from its last checkpoint; ``--decoder-only`` freezes
the encoder, so that a U-Net trained on its latents stays valid)
"""

from __future__ import annotations

import argparse
import copy
import time
from dataclasses import dataclass

import numpy as np
import torch
from autoencoder import CHECKPOINT, WIDTHS, make_vae
from common import (
    MAP,
    SIZE,
    WORK,
    Clock,
    add_time,
    autocast,
    average_gradients,
    choose_device,
    choose_layout,
    cosine,
    held_back,
    join_processes,
    load_images,
    log,
    psnr,
    save_atomically,
    shards,
    synchronise,
)
from diffusers import AutoencoderKL
from muon import Muon
from PIL import Image
from torch import Tensor, nn


class Crops:
    """Draws batches of crops; three fifths of them are centred on a pixel of an instance.

    All renders lie on the device as bytes, so that a batch is an index.
    """

    def __init__(self, size: int, batch: int, seed: int, device: torch.device, layout: torch.memory_format) -> None:
        """Read all shards; the first renders, which measure, are not drawn."""
        self.size, self.batch, self.device, self.layout = size, batch, device, layout
        self.images = torch.cat([torch.from_numpy(np.array(part)).to(device) for part in load_images()])
        found = [torch.from_numpy(np.load(path.with_suffix(".masks.npy"))) for path in shards()]
        self.inside = torch.cat([masks.amax(1).flatten(1) > 100 for masks in found]).to(device)
        self.generator = torch.Generator(device).manual_seed(seed)

    def _random(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator, device=self.device)

    def draw(self) -> Tensor:
        """Give ``[b, 3, size, size]`` in -1..1."""
        first, count = held_back(len(self.images)), len(self.images)
        rows = (first + self._random(self.batch) * (count - first)).long().clamp(max=count - 1)
        corner = (self._random(self.batch, 2) * (SIZE - self.size + 1)).long()
        inside = self.inside[rows]
        # Where a picture shows no instance any cell may be drawn, and is not used.
        cells = torch.multinomial(inside.float() + 1e-9, 1, generator=self.generator)[:, 0]
        centre = torch.stack([cells // MAP, cells % MAP], 1) * (SIZE // MAP)
        centre = centre + (self._random(self.batch, 2) * (SIZE // MAP)).long() - self.size // 2
        chosen = (self._random(self.batch) < 0.6) & inside.any(1)
        corner = torch.where(chosen[:, None], centre, corner).clamp(0, SIZE - self.size)
        steps = torch.arange(self.size, device=self.device)
        mirrored = self._random(self.batch, 1) < 0.5
        columns = corner[:, 1:] + torch.where(mirrored, steps.flip(0), steps)
        crops = self.images[rows[:, None, None], (corner[:, :1] + steps)[:, :, None], columns[:, None, :]]
        return crops.permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous(memory_format=self.layout)


def measured_images() -> tuple[Tensor, Tensor]:
    """Give the first 48 images, which are never learnt from, and the weight of their instances."""
    first = load_images(1)[0]
    count = min(48, held_back(len(first)))
    images = torch.from_numpy(np.array(first[:count])).permute(0, 3, 1, 2).float().div(127.5).sub(1)
    masks = torch.from_numpy(np.load(shards()[0].with_suffix(".masks.npy"))[:count].max(1)).float().div(255)[:, None]
    return images, torch.nn.functional.interpolate(masks, scale_factor=SIZE // MAP)


@torch.no_grad()
def measure(vae: AutoencoderKL, step: int, device: torch.device) -> None:
    """Log the PSNR of whole held-back images, overall and inside instances, and write a preview."""
    images, weight = measured_images()
    images, weight = images.to(device), weight.to(device)
    latents = torch.cat([vae.encode(part).latent_dist.mode() for part in images.split(16)])
    back = torch.cat([vae.decode(part).sample for part in latents.split(16)]).clamp(-1, 1)
    log("vae", step=step, psnr=psnr(back, images), inside=psnr(back, images, weight), latent_std=latents.std().item())
    rows = torch.cat([torch.cat(list(part[:6]), 2) for part in (images, back)], 1)
    picture = rows.add(1).mul(127.5).round().byte().permute(1, 2, 0).cpu().numpy()
    Image.fromarray(picture).save(WORK / "vae.preview.png")


def blur(
    latents: Tensor, images: Tensor, generator: torch.Generator, near: torch.Generator, halved: float
) -> tuple[Tensor, Tensor]:
    """Make latents easy for a U-Net: halved ones must decode to halved images, and slightly noisy ones as clean ones.

    Halving in two of five batches is EQ-VAE's equality under scaling (Kouzelis et al. 2025); it keeps single cells from
    holding their own noise, which a small U-Net cannot draw. The noise, up to 6 % of the latents' deviation, stands for
    the U-Net's own errors. Of the two generators the first decides, on the CPU; ``near`` draws where the latents are.
    """
    size = images.shape[-1]
    if torch.rand((), generator=generator) < halved:
        latents = nn.functional.avg_pool2d(latents, 2)
        images = nn.functional.interpolate(images, size=(size // 2, size // 2), mode="area")
    share = 0.06 * torch.rand((len(latents), 1, 1, 1), generator=generator).to(latents.device)
    noise = torch.randn(latents.shape, generator=near, device=near.device)
    return latents + share * latents.detach().std() * noise, images


@dataclass
class State:
    """What a stopped training needs to go on."""

    vae: AutoencoderKL
    average: AutoencoderKL
    optimiser: Muon
    size: str
    step: int = 0


def start(
    choice: argparse.Namespace, device: torch.device, form: torch.dtype | None, ranks: tuple[int, int] = (0, 1)
) -> State:
    """Make the networks, from the last checkpoint where there is one; its size then counts. Ranks: mine, and of all."""
    torch.manual_seed(0)
    kept = torch.load(CHECKPOINT, weights_only=True, map_location="cpu") if CHECKPOINT.exists() else None
    size = kept.get("size", "small") if kept else choice.size
    vae = make_vae(size)
    average = copy.deepcopy(vae).requires_grad_(False)
    if kept:
        vae.load_state_dict(kept["model"])
        average.load_state_dict(kept["average"])
    vae, average = (one.to(device, memory_format=choose_layout(device, form)) for one in (vae, average))
    for part in (vae.encoder, vae.quant_conv) if choice.decoder_only else ():
        part.requires_grad_(False)
    optimiser = Muon(vae, choice.rate, 1e-4, ranks, form=form)
    known = kept.get("optimiser", {}) if kept else {}
    if [one.shape for one in known.get("momenta", ())] == [one.shape for one in optimiser.momenta]:
        optimiser.load_state_dict(known)
    return State(vae, average, optimiser, size, int(kept["step"]) if kept else 0)


def save_state(state: State) -> None:
    """Write a checkpoint."""
    models = {"model": state.vae.state_dict(), "average": state.average.state_dict()}
    rest = {"optimiser": state.optimiser.state_dict(), "size": state.size, "step": state.step}
    save_atomically({**models, **rest}, CHECKPOINT)


def read_choice() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--batch", type=int, help="16, on a GPU 128")
    parser.add_argument("--crop", type=int, default=64)
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--size", choices=tuple(WIDTHS), default="small", help="a checkpoint's own size goes first")
    parser.add_argument("--decoder-only", action="store_true")
    add_time(parser)
    return parser.parse_args()


def loss_of(
    vae: AutoencoderKL, images: Tensor, generators: tuple[torch.Generator, torch.Generator], halved: float
) -> Tensor:
    """Give the loss of crops ``[b, 3, h, w]``: absolute and squared gaps, and a trace of KL."""
    posterior = vae.encode(images).latent_dist
    sample = posterior.mean + posterior.std * torch.randn(
        posterior.mean.shape, generator=generators[1], device=images.device
    )
    latents, wanted = blur(sample, images, *generators, halved)
    gap = vae.decode(latents).sample.float() - wanted
    cells = (images.shape[-1] / 4) ** 2
    return gap.abs().mean() + 2 * gap.pow(2).mean() + 2e-6 * posterior.kl().float().mean() / cells * 64


def main() -> None:
    """Train until the wanted number of steps, or until time is up."""
    choice = read_choice()
    device, form = choose_device()
    rank, ranks = join_processes()
    if ranks > 1 and choice.minutes is not None:
        raise SystemExit("--minutes is for one process: several would not end at the same step.")
    state, batch = start(choice, device, form, (rank, ranks)), choice.batch or (128 if device.type == "cuda" else 16)
    clock, first = Clock(choice.steps, choice.minutes, choice.cool), state.step
    crops = Crops(choice.crop, batch, first * 64 + rank, device, choose_layout(device, form))
    # The first decides what all processes do alike, the second draws each one's noise.
    generators = torch.Generator().manual_seed(first), torch.Generator(device).manual_seed(first * 64 + rank)
    clock.entered = began = time.time()
    while not clock.over(state.step):
        planned = cosine(state.step, choice.steps)
        state.optimiser.set_rate(choice.rate * min(1, (state.step - first + 1) / 200) * clock.fall(planned))
        with autocast(device, form):
            # Halving shapes latents, so a decoder that learns alone needs none of it.
            loss = loss_of(state.vae, crops.draw(), generators, 0.0 if choice.decoder_only else 0.4)
        state.optimiser.zero_grad()
        loss.backward()
        average_gradients(list(state.vae.parameters()))
        state.optimiser.step()
        share = 1 - min(0.999, (state.step - first + 10) / (state.step - first + 100))
        torch._foreach_lerp_(list(state.average.parameters()), [p.detach() for p in state.vae.parameters()], share)
        state.step += 1
        if rank:
            continue
        last = clock.over(state.step)
        if clock.due() or (choice.minutes is None and state.step % 500 == 0) or last:
            save_state(state)
        if state.step % 500 == 0 or last:
            synchronise(device)
            speed = (state.step - first) / (time.time() - began)
            log("vae", step=state.step, loss=loss.item(), steps_per_second=speed, images_per_second=speed * batch)
            measure(state.average, state.step, device)


if __name__ == "__main__":
    main()
