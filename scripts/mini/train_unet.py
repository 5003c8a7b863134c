"""Train the embedded model's U-Net and text encoders on the latents of the rendered shards.

The loss is the velocity error with min-SNR weights, three times as strict inside instances, plus a small pull of each
instance's words onto its mask (TokenCompose, Wang et al. 2023) and the questions of ``truth_heads.py``: the world knows
which words name which pixels, so binding is learnt from fewer images.
Command: python scripts/mini/train_unet.py --steps 4000 (resumes; logs and previews lie beside the checkpoint), or
torchrun --nproc-per-node 2 scripts/mini/train_unet.py: each process draws its own batch, and gradients are averaged.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import time
from typing import NamedTuple

import numpy as np
import torch
from common import MAP, WORK, choose_device, data_folder, log, save_atomically, shards
from diffusers.models.attention_processor import Attention, AttnProcessor
from models import make_scheduler, make_text_encoders, make_unet
from PIL import Image
from sample import sample_images
from tokenizer import LENGTH, make_tokenizer
from torch import Tensor, distributed, nn
from truth_heads import TruthHeads, figure_classes, token_truth

CHECKPOINT = WORK / "unet.pt"
# Of the velocity's loss, the masks', the words' and the class maps'.
WEIGHTS = (1.0, 0.02, 0.02, 0.02)
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
    """The U-Net, both text encoders and the heads that only training needs, as one trained thing."""

    def __init__(self, vocabulary: object) -> None:
        """Make all with random weights."""
        super().__init__()
        self.unet = make_unet()
        self.encoders = make_text_encoders(vocabulary)
        self.heads = TruthHeads()

    def read(self, tokens: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
        """Give the text states ``[b, n, d]`` and pooled vectors; rows with keep 0 become the null of zeros."""
        outputs = [encoder(tokens, output_hidden_states=True) for encoder in self.encoders]
        states = torch.cat([output.hidden_states[-2] for output in outputs], -1)
        return states * keep[:, None, None], outputs[1].text_embeds * keep[:, None]

    def forward(self, noisy: Tensor, moment: Tensor, states: Tensor, pooled: Tensor) -> Tensor:
        """Predict the velocity."""
        ids = torch.tensor([128.0, 128, 0, 0, 128, 128], device=noisy.device).expand(len(noisy), 6)
        return self.unet(noisy, moment, states, added_cond_kwargs={"text_embeds": pooled, "time_ids": ids}).sample


class Batch(NamedTuple):
    """What one training step reads.

    Attributes:
        latents: scaled, ``[b, 4, 32, 32]``.
        tokens: ``[b, n]``.
        wanted: each token's mask, ``[b, n, q]``, -1 where it has none.
        truth: the right answers at each token, ``[b, questions, n]``, -1 where nothing is asked.
        masks: of up to four instances, ``[b, 4, q]``, 0..1.
        classes: of those, ``[b, 4]``, -1 where there is none.
    """

    latents: Tensor
    tokens: Tensor
    wanted: Tensor
    truth: Tensor
    masks: Tensor
    classes: Tensor


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
        pairs = zip(lines, written.offset_mapping, self.owner, strict=True)
        self.truth = torch.from_numpy(np.stack([token_truth(*pair) for pair in pairs]))
        self.classes = torch.tensor([figure_classes(line) for line in lines])

    def batch(self, rows: Tensor) -> Batch:
        """Give what a step on these rows reads."""
        owner = self.owner[rows].long()
        masks = self.masks[rows].float().div(255)
        wanted = torch.gather(masks, 1, owner.clamp(min=0)[:, :, None].expand(-1, -1, MAP * MAP))
        wanted[owner < 0] = -1
        latents = (self.latents[rows].float() - self.mean) / self.std
        return Batch(latents, self.tokens[rows], wanted, self.truth[rows], masks, self.classes[rows])


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
    features: list[Tensor],
    batch: Batch,
    alphas: Tensor,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Give the velocity loss of one batch, and those of the masks, the words and the class maps."""
    count, device = len(batch.latents), batch.latents.device
    chosen = draw_moments(count, generator)
    noise = torch.randn(batch.latents.shape, generator=generator).to(device)
    keep = (torch.rand(count, generator=generator) > 0.1).float().to(device)
    alpha, moment = alphas[chosen].to(device), chosen.to(device)
    clean, dirty = alpha.sqrt()[:, None, None, None], (1 - alpha).sqrt()[:, None, None, None]
    noisy, target = clean * batch.latents + dirty * noise, clean * noise - dirty * batch.latents
    maps.clear()
    features.clear()
    states, pooled = bundle.read(batch.tokens, keep)
    guess = bundle(noisy.contiguous(memory_format=torch.channels_last), moment, states, pooled)
    snr = alpha / (1 - alpha).clamp(min=1e-8)
    weight = snr.clamp(max=5.0).add(0.25) / (snr + 1)
    spots = 1 + 2 * batch.masks.amax(1).unflatten(1, (1, MAP, MAP))
    spots = nn.functional.interpolate(spots / spots.mean(), target.shape[-2:])
    loss = ((guess.float() - target) ** 2).mul(spots).mean((1, 2, 3)).mul(weight).mean()
    batch.wanted[keep == 0] = -1
    return (
        loss,
        mask_loss(maps, batch.wanted, moment),
        bundle.heads.text_loss(states, batch.truth, keep),
        bundle.heads.map_loss(features[0], batch.masks, batch.classes),
    )


def average_gradients(parameters: list[nn.Parameter]) -> None:
    """Give all processes the mean of their gradients."""
    gradients = [one.grad for one in parameters if one.grad is not None]
    flat = torch.cat([one.flatten() for one in gradients])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    for one, part in zip(gradients, flat.split([one.numel() for one in gradients]), strict=True):
        one.copy_(part.view_as(one))


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
    rank, ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if ranks > 1:
        distributed.init_process_group("gloo")
    torch.manual_seed(0)
    data, maps, features = Data(), [], []
    bundle = Bundle(make_tokenizer()).to(device, memory_format=torch.channels_last)
    average = copy.deepcopy(bundle).requires_grad_(False)
    keeper = MapKeeper(maps)
    bundle.unet.set_attn_processor(
        {name: keeper if "attn2" in name else AttnProcessor() for name in bundle.unet.attn_processors}
    )
    bundle.unet.up_blocks[1].attentions[0].register_forward_hook(lambda *call: features.append(call[2][0]))
    parameters = list(bundle.parameters())
    optimiser = torch.optim.AdamW(parameters, lr=choice.rate, betas=(0.9, 0.99), weight_decay=0.01)
    start = 0
    if CHECKPOINT.exists():
        state = torch.load(CHECKPOINT, weights_only=True, map_location=device)
        bundle.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        start = int(state["step"])
    alphas = make_scheduler().alphas_cumprod.clone()
    began, sums = time.time(), np.zeros(4)
    for step in range(start, choice.steps):
        generator = torch.Generator().manual_seed(step * 64 + rank)
        rows = torch.randint(100, len(data.captions), (choice.batch,), generator=generator)
        rate = choice.rate * min(1, (step + 1) / 150) * min(1, 0.02 + 3 * (1 - step / choice.steps))
        for group in optimiser.param_groups:
            group["lr"] = rate
        batch = Batch(*(part.to(device) for part in data.batch(rows)))
        with torch.autocast(device.type, autocast or torch.bfloat16, enabled=autocast is not None):
            losses = train_step(bundle, maps, features, batch, alphas, generator)
        bundle.zero_grad()
        sum(loss * share for loss, share in zip(losses, WEIGHTS, strict=True)).backward()
        if ranks > 1:
            average_gradients(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        share = 1 - min(0.9995, (step + 1) / (step + 10))
        torch._foreach_lerp_(list(average.parameters()), parameters, share)
        if rank:
            continue
        sums += [loss.item() for loss in losses]
        if (step + 1) % 50 == 0 or step + 1 == choice.steps:
            speed = (step + 1 - start) * choice.batch * ranks / (time.time() - began)
            means = dict(zip(("loss", "mask", "words", "classes"), sums / 50, strict=True))
            log("unet", step=step + 1, **means, images_per_second=speed)
            sums[:] = 0
        if (step + 1) % 200 == 0 or step + 1 == choice.steps:
            state = {"model": bundle.state_dict(), "average": average.state_dict(), "optimiser": optimiser.state_dict()}
            save_atomically({**state, "step": step + 1}, CHECKPOINT)
        if (step + 1) % choice.preview_every == 0 or step + 1 == choice.steps:
            preview(average, data, step + 1)


if __name__ == "__main__":
    main()
