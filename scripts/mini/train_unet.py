"""Train the embedded model's U-Net and text encoders on the latents of the rendered shards.

The loss is the velocity error with min-SNR weights, plus a small pull of each instance's words onto the instance's mask
(TokenCompose, Wang et al. 2023): the world knows which words name which pixels, so binding is learnt from fewer images.
Command: python scripts/mini/train_unet.py --steps 4000 (resumes; logs and previews lie beside the checkpoint)
"""

from __future__ import annotations

import argparse
import copy
import json
import time

import numpy as np
import torch
from common import MAP, WORK, choose_device, data_folder, log, save_atomically, shards
from diffusers.models.attention_processor import Attention, AttnProcessor
from models import make_scheduler, make_text_encoders, make_unet
from PIL import Image
from sample import sample_images
from tokenizer import LENGTH, make_tokenizer
from torch import Tensor, nn

CHECKPOINT = WORK / "unet.pt"
MASK_WEIGHT = 0.02
_SMALL_WORDS = frozenset("a an and on in at the of with wearing".split())


class MapKeeper:
    """A plain attention processor that keeps the cross-attention probabilities of the 16x16 layers, heads averaged."""

    def __init__(self, kept: list[Tensor]) -> None:
        """Append to ``kept`` at each call."""
        self.kept = kept

    def __call__(
        self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_: object
    ) -> Tensor:
        """Attend as diffusers' AttnProcessor does for token sequences."""
        source = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            attn.head_to_batch_dim(layer(rows))
            for layer, rows in ((attn.to_q, hidden_states), (attn.to_k, source), (attn.to_v, source))
        )
        maps = attn.get_attention_scores(query, key)
        if hidden_states.shape[1] == MAP * MAP:
            self.kept.append(maps.unflatten(0, (-1, attn.heads)).mean(1))
        return attn.to_out[0](attn.batch_to_head_dim(torch.bmm(maps, value)))


class Bundle(nn.Module):
    """The U-Net and both text encoders as one trained thing."""

    def __init__(self, vocabulary: object) -> None:
        """Make all three with random weights."""
        super().__init__()
        self.unet = make_unet()
        self.encoders = make_text_encoders(vocabulary)

    def read(self, tokens: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
        """Give the text states ``[b, n, d]`` and pooled vectors; rows with keep 0 become the null of zeros."""
        outputs = [encoder(tokens, output_hidden_states=True) for encoder in self.encoders]
        states = torch.cat([output.hidden_states[-2] for output in outputs], -1)
        return states * keep[:, None, None], outputs[1].text_embeds * keep[:, None]

    def forward(self, noisy: Tensor, moment: Tensor, tokens: Tensor, keep: Tensor) -> Tensor:
        """Predict the velocity."""
        states, pooled = self.read(tokens, keep)
        ids = torch.tensor([128.0, 128, 0, 0, 128, 128], device=noisy.device).expand(len(noisy), 6)
        return self.unet(noisy, moment, states, added_cond_kwargs={"text_embeds": pooled, "time_ids": ids}).sample


class Data:
    """Latents, tokens and word masks of all encoded shards; the first 100 images are held back."""

    def __init__(self) -> None:
        """Read everything into memory."""
        tokenizer = make_tokenizer()
        names = [path for path in shards() if (data_folder() / f"{path.name}.latents.npy").exists()]
        statistics = np.load(WORK / "latents.npz")
        self.mean, self.std = (torch.from_numpy(statistics[name])[:, None, None] for name in ("mean", "std"))
        self.latents = torch.cat([torch.from_numpy(np.load(data_folder() / f"{p.name}.latents.npy")) for p in names])
        self.masks = torch.cat([torch.from_numpy(np.load(p.with_suffix(".masks.npy"))) for p in names]).flatten(2)
        lines = [json.loads(line) for path in names for line in path.with_suffix(".jsonl").read_text().splitlines()]
        self.captions = [line["caption"] for line in lines]
        written = tokenizer(self.captions, padding="max_length", max_length=LENGTH, return_offsets_mapping=True)
        self.tokens = torch.tensor(written.input_ids)
        self.owner = torch.full((len(lines), LENGTH), -1, dtype=torch.int8)
        for row, (line, offsets) in enumerate(zip(lines, written.offset_mapping, strict=True)):
            for place, (start, end) in enumerate(offsets):
                if end > start and line["caption"][start:end].strip() not in _SMALL_WORDS:
                    for figure, (low, high) in enumerate(line["phrases"]):
                        if low <= start < high:
                            self.owner[row, place] = figure

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Give scaled latents ``[b, 4, 32, 32]``, tokens ``[b, n]``, and each token's mask ``[b, n, q]`` (-1: none)."""
        owner = self.owner[rows].long()
        masks = self.masks[rows].float().div(255)
        wanted = torch.gather(masks, 1, owner.clamp(min=0)[:, :, None].expand(-1, -1, MAP * MAP))
        wanted[owner < 0] = -1
        return (self.latents[rows].float() - self.mean) / self.std, self.tokens[rows], wanted


def mask_loss(maps: list[Tensor], wanted: Tensor, moment: Tensor) -> Tensor:
    """Ask each named word to spend its attention inside its instance, but in the noisiest steps, where none is seen."""
    mean = torch.stack([one.float() for one in maps]).mean(0).transpose(1, 2)
    named = (wanted.amax(-1) > 0.2) & (moment < 900)[:, None]
    if not named.any():
        return mean.sum() * 0
    inside = (mean * wanted.clamp(min=0)).sum(-1) / mean.sum(-1).clamp(min=1e-6)
    return ((1 - inside[named]) ** 2).mean()


def draw_moments(count: int, generator: torch.Generator) -> Tensor:
    """Draw timesteps 0..999, one from each equal part of the range."""
    return ((torch.arange(count) + torch.rand(count, generator=generator)) / count * 1000).long().clamp(0, 999)


def train_step(
    bundle: Bundle,
    maps: list[Tensor],
    batch: tuple[Tensor, ...],
    alphas: Tensor,
    generator: torch.Generator,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Give the velocity loss and the mask loss of one batch."""
    latents, tokens, wanted = (part.to(device) for part in batch)
    moment = draw_moments(len(latents), generator)
    noise = torch.randn(latents.shape, generator=generator).to(device)
    keep = (torch.rand(len(latents), generator=generator) > 0.1).float().to(device)
    clean, dirty = (
        alphas[moment].to(device).sqrt()[:, None, None, None],
        (1 - alphas[moment]).to(device).sqrt()[:, None, None, None],
    )
    noisy, target = clean * latents + dirty * noise, clean * noise - dirty * latents
    maps.clear()
    moment = moment.to(device)
    guess = bundle(noisy.contiguous(memory_format=torch.channels_last), moment, tokens, keep)
    snr = (alphas[moment.cpu()] / (1 - alphas[moment.cpu()]).clamp(min=1e-8)).to(device)
    weight = torch.minimum(snr, torch.full_like(snr, 5.0)).add(0.25) / (snr + 1)
    loss = ((guess.float() - target) ** 2).mean((1, 2, 3)).mul(weight).mean()
    wanted[keep == 0] = -1
    return loss, mask_loss(maps, wanted, moment)


def preview(average: Bundle, data: Data, step: int) -> None:
    """Draw eight held-back captions with the averaged weights."""
    images = sample_images(average.unet, average.encoders, make_tokenizer(), data.captions[:8], data.mean, data.std)
    Image.fromarray(np.concatenate([np.concatenate(list(images[:4]), 1), np.concatenate(list(images[4:]), 1)])).save(
        WORK / f"unet.preview-{step:06d}.png"
    )


def main() -> None:
    """Train until the wanted number of steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--preview-every", type=int, default=500)
    choice = parser.parse_args()
    device, autocast = choose_device()
    torch.manual_seed(0)
    data, maps = Data(), []
    bundle = Bundle(make_tokenizer()).to(device, memory_format=torch.channels_last)
    average = copy.deepcopy(bundle).requires_grad_(False)
    keeper = MapKeeper(maps)
    bundle.unet.set_attn_processor(
        {name: keeper if "attn2" in name else AttnProcessor() for name in bundle.unet.attn_processors}
    )
    optimiser = torch.optim.AdamW(bundle.parameters(), lr=choice.rate, betas=(0.9, 0.99), weight_decay=0.01)
    start = 0
    if CHECKPOINT.exists():
        state = torch.load(CHECKPOINT, weights_only=True)
        bundle.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        start = int(state["step"])
    alphas = make_scheduler().alphas_cumprod.clone()
    began, sums = time.time(), np.zeros(2)
    for step in range(start, choice.steps):
        generator = torch.Generator().manual_seed(step)
        rows = torch.randint(100, len(data.captions), (choice.batch,), generator=generator)
        rate = choice.rate * min(1, (step + 1) / 150) * min(1, 0.02 + 3 * (1 - step / choice.steps))
        for group in optimiser.param_groups:
            group["lr"] = rate
        with torch.autocast(device.type, autocast or torch.bfloat16, enabled=autocast is not None):
            loss, pull = train_step(bundle, maps, data.batch(rows), alphas, generator, device)
        bundle.zero_grad()
        (loss + MASK_WEIGHT * pull).backward()
        torch.nn.utils.clip_grad_norm_(bundle.parameters(), 1.0)
        optimiser.step()
        torch._foreach_lerp_(
            list(average.parameters()), list(bundle.parameters()), 1 - min(0.9995, (step + 1) / (step + 10))
        )
        sums += loss.item(), pull.item()
        if (step + 1) % 50 == 0 or step + 1 == choice.steps:
            speed = (step + 1 - start) * choice.batch / (time.time() - began)
            log("unet", step=step + 1, loss=sums[0] / 50, mask=sums[1] / 50, images_per_second=speed)
            sums[:] = 0
        if (step + 1) % 200 == 0 or step + 1 == choice.steps:
            state = {"model": bundle.state_dict(), "average": average.state_dict(), "optimiser": optimiser.state_dict()}
            save_atomically({**state, "step": step + 1}, CHECKPOINT)
        if (step + 1) % choice.preview_every == 0 or step + 1 == choice.steps:
            preview(average, data, step + 1)


if __name__ == "__main__":
    main()
