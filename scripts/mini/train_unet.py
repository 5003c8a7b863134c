"""Train the embedded model's U-Net and text encoders on the latents of the rendered shards.

The loss is the error of what is predicted with min-SNR weights, three times as strict inside instances, plus a small
pull of each instance's words onto its mask (TokenCompose, Wang et al. 2023) and the questions of ``truth_heads.py``:
the world knows which words name which pixels, so binding is learnt from fewer images.
The first part of a long run may see pictures of half the size (``--size 64``, four times as many a second): its latents
are the means of 2x2 cells, which the autoencoder was taught to decode. A share of the steps may see crops of whole
pictures (``--crops``), told apart by SDXL's time ids.
Command: python scripts/mini/train_unet.py --steps 4000 (resumes; logs and previews lie beside the checkpoint), or
torchrun --nproc-per-node 2 scripts/mini/train_unet.py: each process draws its own batch, and gradients are averaged.
"""

from __future__ import annotations

import argparse
import copy
import time
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from common import (
    LOWEST,
    MAP,
    SIZE,
    WORK,
    Clock,
    add_time,
    autocast,
    average_gradients,
    choose_device,
    choose_layout,
    join_processes,
    log,
    save_atomically,
    synchronise,
)
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0
from latents_data import Batch, Data
from models import SIZES, Recipe, make_scheduler, make_text_encoders, make_unet
from muon import Muon
from PIL import Image
from sample import sample_images
from tokenizer import make_tokenizer
from torch import Tensor, nn
from transformers import CLIPTokenizer
from truth_heads import TruthHeads

CHECKPOINT = WORK / "unet.pt"
# Of the velocity's loss, the masks', the words' and the class maps'.
WEIGHTS = (1.0, 0.05, 0.02, 0.1)


class MapKeeper:
    """A plain attention processor that keeps the cross-attention probabilities of its layers, heads averaged."""

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
        self.kept.append(maps.unflatten(0, (-1, attn.heads)).mean(1))
        return attn.to_out[0](attn.batch_to_head_dim(torch.bmm(maps, value)))


class Bundle(nn.Module):
    """The U-Net, both text encoders and the heads that only training needs, as one trained thing."""

    def __init__(self, vocabulary: CLIPTokenizer, size: str = "small") -> None:
        """Make all with random weights, in one of ``SIZES``."""
        super().__init__()
        self.unet = make_unet(SIZES[size])
        self.encoders = make_text_encoders(vocabulary, SIZES[size])
        self.heads = TruthHeads(SIZES[size])
        self.layout = torch.channels_last

    def read(self, tokens: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
        """Give the text states ``[b, n, d]`` and pooled vectors; rows with keep 0 become the null of zeros."""
        outputs = [encoder(tokens, output_hidden_states=True) for encoder in self.encoders]
        states = torch.cat([output.hidden_states[-2] for output in outputs], -1)
        return states * keep[:, None, None], outputs[1].text_embeds * keep[:, None]

    def forward(self, noisy: Tensor, moment: Tensor, states: Tensor, pooled: Tensor, ids: Tensor) -> Tensor:
        """Predict velocity or noise, as the recipe says."""
        noisy = noisy.contiguous(memory_format=self.layout)
        return self.unet(noisy, moment, states, added_cond_kwargs={"text_embeds": pooled, "time_ids": ids}).sample


def mask_loss(maps: list[Tensor], wanted: Tensor, moment: Tensor) -> Tensor:
    """Ask each named word to spend its attention inside its instance, but in the noisiest steps, where none is seen."""
    mean = torch.stack([one.float() for one in maps]).mean(0).transpose(1, 2)
    named = ((wanted.amax(-1) > 0.2) & (moment < 900)[:, None]).float()
    inside = (mean * wanted.clamp(min=0)).sum(-1) / mean.sum(-1).clamp(min=1e-6)
    return ((1 - inside) ** 2 * named).sum() / named.sum().clamp(min=1)


def draw_moments(count: int, generator: torch.Generator) -> Tensor:
    """Draw timesteps 0..999, most of them where figures take shape: four in five logit-normal, the others even.

    Near pure noise the error is what no caption tells, and its gradients only drown the others. Both shares are drawn
    one from each equal part of their range (logit-normal: Esser et al. 2024, section 3.1, here around timestep 400).
    """
    even, rest = (
        (torch.arange(share) + torch.rand(share, generator=generator)) / share
        for share in (count // 5, count - count // 5)
    )
    shaped = torch.sigmoid(torch.special.ndtri(rest.double()) - 0.4)
    return (torch.cat([even, shaped]) * 1000).long().clamp(0, 999)


def make_generators(seed: int, device: torch.device) -> tuple[torch.Generator, torch.Generator]:
    """Give the CPU's generator of rows and moments, and the one of noise: the same one where that is the CPU too."""
    first = torch.Generator().manual_seed(seed)
    return first, first if device.type == "cpu" else torch.Generator(device).manual_seed(seed)


class Watch:
    """Keeps what the layers show in a step: cross-attention maps, and features for the class map."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        """Look into a U-Net from now on."""
        self.maps: list[Tensor] = []
        self.features: list[Tensor] = []
        # In training plain attention is the faster one on a CPU, fused attention on a GPU.
        rest = AttnProcessor2_0() if unet.device.type == "cuda" else AttnProcessor()
        keeper = MapKeeper(self.maps)
        finest = ("down_blocks.1.", "up_blocks.1.")
        processors = {
            name: keeper if "attn2" in name and name.startswith(finest) else rest for name in unet.attn_processors
        }
        unet.set_attn_processor(processors)
        unet.up_blocks[1].attentions[0].register_forward_hook(lambda *call: self.features.append(call[2][0]))


def aim(recipe: Recipe, clean: Tensor, noise: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """Give what is to be predicted, ``[b, 4, h, w]``, and the min-SNR weight of its squared error, ``[b]``.

    Hang et al. 2023 with a limit of 5, the same for both in terms of the clean picture; but velocity, which can be
    learnt from pure noise, has a small share (0.15) of it, too.
    """
    snr = alpha / (1 - alpha).clamp(min=1e-8)
    if recipe.prediction == "epsilon":
        return noise, snr.clamp(max=5.0) / snr
    signal, rest = (part[:, None, None, None] for part in (alpha.sqrt(), (1 - alpha).sqrt()))
    return signal * noise - rest * clean, snr.clamp(max=5.0).add(0.15) / (snr + 1)


def train_step(bundle: Bundle, watch: Watch, batch: Batch, tools: Tools) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Give the denoising loss of one batch, and those of the masks, the words and the class maps."""
    generators = tools.generators
    count, device = len(batch.latents), batch.latents.device
    maps, features = watch.maps, watch.features
    chosen = draw_moments(count, generators[0])
    noise = torch.randn(batch.latents.shape, generator=generators[1], device=device)
    keep = (torch.rand(count, generator=generators[0]) > tools.recipe.dropout).float().to(device)
    moment = chosen.to(device)
    alpha = tools.alphas[moment]
    clean, dirty = alpha.sqrt()[:, None, None, None], (1 - alpha).sqrt()[:, None, None, None]
    noisy = clean * batch.latents + dirty * noise
    target, weight = aim(tools.recipe, batch.latents, noise, alpha)
    maps.clear()
    features.clear()
    states, pooled = bundle.read(batch.tokens, keep)
    guess = bundle(noisy, moment, states, pooled, batch.ids)
    side = batch.latents.shape[-1] // 2
    spots = 1 + 2 * batch.masks.amax(1).unflatten(1, (1, side, side))
    spots = nn.functional.interpolate(spots / spots.mean(), target.shape[-2:])
    loss = ((guess.float() - target) ** 2).mul(spots).mean((1, 2, 3)).mul(weight).mean()
    return (
        loss,
        mask_loss(maps, torch.where((keep == 0)[:, None, None], -1.0, batch.wanted), moment),
        bundle.heads.text_loss(states, batch.truth, keep),
        bundle.heads.map_loss(features[0], batch.masks, batch.classes),
    )


def preview(state: State, data: Data, steps: int) -> None:
    """Draw eight held-back captions with the averaged weights, in so many steps."""
    parts = state.average.unet, state.average.encoders
    captions, side = (data.held_captions * 8)[:8], 2 * MAP // data.shrink
    images = sample_images(*parts, captions, (data.mean, data.std), steps, side=side, recipe=state.recipe)
    Image.fromarray(np.concatenate([np.concatenate(list(images[:4]), 1), np.concatenate(list(images[4:]), 1)])).save(
        WORK / f"unet.preview-{state.step:06d}.png"
    )


@dataclass
class State:
    """What a stopped training needs to go on; ``warm`` is the step its optimiser began at."""

    bundle: Bundle
    average: Bundle
    optimiser: Muon
    size: str
    recipe: Recipe = field(default_factory=Recipe)
    step: int = 0
    warm: int = 0


def start(
    choice: argparse.Namespace, device: torch.device, form: torch.dtype | None, ranks: tuple[int, int] = (0, 1)
) -> State:
    """Make the networks, from the last checkpoint where there is one; its size and recipe then count.

    Ranks are this process's, and how many there are.
    """
    torch.manual_seed(choice.seed)
    kept = torch.load(CHECKPOINT, weights_only=True, map_location="cpu") if CHECKPOINT.exists() else None
    size = kept.get("size", "small") if kept else choice.size_of_unet
    asked = Recipe(choice.prediction, choice.schedule, choice.zero_snr, choice.dropout)
    recipe = Recipe(**kept.get("recipe", {})) if kept else asked
    bundle = Bundle(make_tokenizer(), size)
    bundle.layout = choose_layout(device, form)
    average = copy.deepcopy(bundle).requires_grad_(False)
    if kept:
        bundle.load_state_dict(kept["model"])
        average.load_state_dict(kept["average"])
    bundle, average = (one.to(device, memory_format=bundle.layout) for one in (bundle, average))
    state = State(bundle, average, Muon(bundle, choice.rate, 0.01, ranks, form=form), size, recipe)
    if kept:
        state.step = state.warm = int(kept["step"])
    if kept and "optimiser" in kept:
        state.optimiser.load_state_dict(kept["optimiser"])
        state.warm = 0
    return state


def save_state(state: State) -> None:
    """Write a checkpoint."""
    models = {"model": state.bundle.state_dict(), "average": state.average.state_dict()}
    rest = {"optimiser": state.optimiser.state_dict(), "size": state.size, "step": state.step}
    rest["recipe"] = asdict(state.recipe)
    save_atomically({**models, **rest}, CHECKPOINT)


def read_choice() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, help="32, on a GPU 256")
    parser.add_argument("--rate", type=float, default=7e-4)
    parser.add_argument("--size", type=int, default=SIZE, choices=(SIZE // 2, SIZE), help="half is for a start")
    parser.add_argument(
        "--crops", type=float, default=0.0, help="share of the steps, with --half of its part, that see crops"
    )
    parser.add_argument("--half", type=float, default=0.0, help="share of the minutes that begins with half the size")
    parser.add_argument("--size-of-unet", choices=tuple(SIZES), default="small", help="a checkpoint's own goes first")
    usual = Recipe()
    # Of these, too, a checkpoint's own go first.
    parser.add_argument("--prediction", choices=("v_prediction", "epsilon"), default=usual.prediction)
    parser.add_argument("--schedule", choices=("scaled_linear", "linear", "squaredcos_cap_v2"), default=usual.schedule)
    parser.add_argument("--zero-snr", action=argparse.BooleanOptionalAction, default=usual.zero_snr)
    parser.add_argument("--dropout", type=float, default=usual.dropout, help="share of pictures without their caption")
    parser.add_argument("--seed", type=int, default=0, help="of the first weights, pictures and noise")
    parser.add_argument("--preview-every", type=int, help="500; in runs limited by time only at the end")
    parser.add_argument("--preview-steps", type=int, default=20)
    parser.add_argument("--compile", action="store_true", help="compile the U-Net with torch.compile")
    add_time(parser)
    return parser.parse_args()


def learn(state: State, batch: Batch, watch: Watch, tools: Tools) -> Tensor:
    """Do one step at the rate that is set; gives the four losses, on the device."""
    with autocast(tools.device, tools.form):
        losses = train_step(state.bundle, watch, batch, tools)
    state.optimiser.zero_grad()
    sum(loss * share for loss, share in zip(losses, WEIGHTS, strict=True)).backward()
    parameters = list(state.bundle.parameters())
    average_gradients(parameters)
    state.optimiser.step()
    share = 1 - min(0.999, (state.step + 1) / (state.step + 10))
    torch._foreach_lerp_(list(state.average.parameters()), [one.detach() for one in parameters], share)
    state.step += 1
    return torch.stack([loss.detach().float() for loss in losses])


class Tools(NamedTuple):
    """Where, how and from what a step is computed; ``alphas [1000]`` are the schedule's products."""

    device: torch.device
    form: torch.dtype | None
    recipe: Recipe
    alphas: Tensor
    generators: tuple[torch.Generator, torch.Generator]


class Report:
    """Logs the mean losses and the speed of every 50 steps."""

    def __init__(self, device: torch.device) -> None:
        """Begin to count."""
        self.device, self.began, self.images, self.steps = device, time.time(), 0, 0
        self.sums = torch.zeros(4, device=device)

    def add(self, losses: Tensor, images: int, step: int, last: bool) -> None:
        """Count one step; ``losses [4]`` stay on the device until they are logged."""
        self.sums += losses
        self.images, self.steps = self.images + images, self.steps + 1
        if step % 50 and not last:
            return
        synchronise(self.device)
        means = dict(zip(("loss", "mask", "words", "classes"), (self.sums / self.steps).tolist(), strict=True))
        log("unet", step=step, **means, images_per_second=self.images / (time.time() - self.began))
        self.sums.zero_()
        self.began, self.images, self.steps = time.time(), 0, 0


def main() -> None:
    """Train until the wanted number of steps, or until time is up."""
    choice = read_choice()
    device, form = choose_device()
    rank, ranks = join_processes()
    if ranks > 1 and choice.minutes is not None:
        raise SystemExit("--minutes is for one process: several would not end at the same step.")
    full = SIZE // choice.size
    data, state = Data(full, device), start(choice, device, form, (rank, ranks))
    clock, batch = Clock(choice.steps, choice.minutes, choice.cool), choice.batch or (32, 256)[device.type == "cuda"]
    every = choice.preview_every or (500 if choice.minutes is None else choice.steps + 1)
    watch, alphas = Watch(state.bundle.unet), make_scheduler(state.recipe).alphas_cumprod.clone().to(device)
    if choice.compile:
        state.bundle.unet.compile()
    report, first = Report(device), choice.seed << 32
    while not clock.over(state.step):
        data.shrink = 2 if clock.progress() < choice.half else full
        fall = clock.fall(min(1.0, LOWEST + 3 * (1 - state.step / choice.steps)))
        state.optimiser.set_rate(choice.rate * min(1, (state.step - state.warm + 1) / 150) * fall)
        tools = Tools(device, form, state.recipe, alphas, make_generators(first + state.step * 64 + rank, device))
        # After a start at half the size crops would only take figures' surroundings away.
        crops = choice.crops if data.shrink > full or not choice.half else 0.0
        cropped = bool(torch.rand((), generator=tools.generators[0]) < crops)
        # Crops and pictures of half the size are a quarter of the work: several times as many at once take less time.
        times = 2 if data.shrink > full else 3 if cropped and full == 1 else 1
        rows, corners = data.draw_rows(batch * times, tools.generators[0]), None
        if cropped:
            corners = torch.randint(0, MAP // 2 + 1, (len(rows), 2), generator=tools.generators[0]).to(device)
        losses = learn(state, data.batch(rows, corners), watch, tools)
        if rank:
            continue
        last = clock.over(state.step)
        report.add(losses, len(rows) * ranks, state.step, last)
        if clock.due() or (choice.minutes is None and state.step % 200 == 0) or last:
            save_state(state)
        if state.step % every == 0 or last:
            data.shrink = full
            preview(state, data, choice.preview_steps)


if __name__ == "__main__":
    main()
