"""Train the embedded interpolator: temporal layers, the input layer and a few spatial ones, on the world's clips.

Command: python scripts/seine/train.py --steps 6000 (resumes; the log and previews lie beside the checkpoint)
         python scripts/seine/train.py --export (writes the averaged weights into the package, float16)
"""

from __future__ import annotations

import argparse
import functools
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from clips_data import COARSE, COUNTS, WORK, Clips, log, save_atomically
from PIL import Image
from safetensors.torch import save
from torch import Tensor

from d2plan.backbone.load import Backbone, load_backbone
from d2plan.backbone.sdxl import decode_latents, encode_prompts, null_states, time_ids
from d2plan.etp.interpolate import InterpolatorOptions, Segment, interpolate
from d2plan.etp.seine import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    EmbeddedSeine,
    SeineConfig,
    start_network,
    write_config,
)
from d2plan.etp.seine_sampling import fill_clip, join_channels, make_mask
from d2plan.etp.seine_unet import ClipUnet, FrameText

sys.path.append(str(Path(__file__).resolve().parents[1] / "mini"))  # the base's scripts
from common import Clock, add_time, autocast, choose_device  # noqa: E402
from muon import Muon  # noqa: E402

ASSETS = Path(__file__).resolve().parents[2] / "src" / "d2plan" / "assets" / "seine"
# All that is new, all that sees nine channels, and of the base's layers those that place and finish the picture.
NEW = re.compile(r"attn_temp|norm_temp|\.near\.|^conv_in")
TEMPORAL = re.compile(r"attn_temp|norm_temp|\.near\.")
TUNED = re.compile(r"attn1|norm1|up_blocks\.2|conv_norm_out|conv_out")
MOVING_WEIGHT = 4.0  # of a cell where something moves, beside 1 elsewhere
DROP_TEXT = 0.3
MOST_BYTES = 9_000_000
FRAMES = (min(COUNTS) // COARSE + 1, max(COUNTS))

Batch = tuple[Tensor, Tensor, list[str]]


@dataclass
class State:
    """Everything that a stopped training needs to go on as if it had never stopped."""

    base: Backbone
    network: ClipUnet
    average: dict[str, Tensor]
    optimiser: Muon
    step: int = 0


def learnt_parameters(network: ClipUnet) -> dict[str, Tensor]:
    """Choose what is learnt and stored: by the names of the picture U-Net's layers, frozen rotations left out."""
    return {
        name: parameter
        for name, parameter in network.unet.named_parameters()
        if (NEW.search(name) or TUNED.search(name))
    }


def start(base: Backbone, rate: float) -> State:
    """Make a network that draws as the base does, and an optimiser for what it will learn."""
    torch.manual_seed(0)
    network = start_network(base).requires_grad_(False)
    learnt = learnt_parameters(network)
    for name, parameter in learnt.items():
        parameter.requires_grad_(not name.endswith("freqs"))
    optimiser = Muon(network.unet, rate, 0.01, form=choose_device()[1])
    return State(base, network, {name: p.detach().clone() for name, p in learnt.items()}, optimiser)


def save_state(state: State, path: Path) -> None:
    """Write a checkpoint."""
    content = {
        "step": state.step,
        "base": state.base.fingerprint,
        "learnt": {name: p.detach() for name, p in learnt_parameters(state.network).items()},
        "average": state.average,
        "optimiser": state.optimiser.state_dict(),
    }
    save_atomically(lambda file: torch.save(content, file), path)


def load_state(state: State, path: Path, adopt: bool = False) -> None:
    """Go on from a checkpoint, which must be of the same base; ``adopt`` takes another's temporal layers as a start."""
    content = torch.load(path, weights_only=True, map_location=state.base.device)
    if content["base"] != state.base.fingerprint and adopt:
        temporal = {name: value for name, value in content["average"].items() if TEMPORAL.search(name)}
        state.network.unet.load_state_dict(temporal, strict=False)
        state.average |= {name: value.clone() for name, value in temporal.items()}
        return
    if content["base"] != state.base.fingerprint:
        raise SystemExit(f"{path} was trained for the base {content['base']}; move it away to start anew, or --adopt.")
    state.network.unet.load_state_dict(content["learnt"], strict=False)
    state.average = content["average"]
    if "optimiser" in content:
        state.optimiser.load_state_dict(content["optimiser"])
    state.step = int(content["step"])


def clip_loss(state: State, batch: Batch, alphas: Tensor, generator: torch.Generator) -> Tensor:
    """Give the velocity error of one batch with min-SNR weights (Hang et al., 2023), heavier where something moves.

    Args:
        state: the training.
        batch: latents ``[b, 4, f, h, w]``, moving areas ``[b, 1, f, h, w]``, captions.
        alphas: the base's cumulative products, ``[1000]``.
        generator: of moments, noise and dropped captions, on the CPU.

    Returns:
        A scalar.
    """
    base, network = state.base, state.network
    latents, moving = (part.to(base.device) for part in batch[:2])
    count = len(latents)
    moment = ((torch.arange(count) + torch.rand(count, generator=generator)) / count * 1000).long().clamp(0, 999)
    noise = torch.randn(latents.shape, generator=generator).to(base.device)
    text = read_captions(base, batch[2], torch.rand(count, generator=generator) < DROP_TEXT)
    level = alphas[moment].to(base.device)
    clean, dirty = level.sqrt()[:, None, None, None, None], (1 - level).sqrt()[:, None, None, None, None]
    noisy, target = clean * latents + dirty * noise, clean * noise - dirty * latents
    filled = fill_clip(latents[:, :, 0], latents[:, :, -1], latents.shape[2])
    with autocast(base.device, choose_device()[1]):
        guess = network(
            join_channels(noisy, make_mask(latents.shape[2], latents), filled), moment.to(base.device), text
        ).float()
    snr = level / (1 - level).clamp(min=1e-8)
    weight = (snr.clamp(max=5.0) + 0.25) / (snr + 1)
    where = 1 + MOVING_WEIGHT * moving
    error = ((guess - target) ** 2 * where).mean((1, 2, 3, 4)) / where.mean((1, 2, 3, 4))
    return (error * weight).mean()


def read_captions(base: Backbone, captions: list[str], dropped: Tensor) -> FrameText:
    """Give the captions' states, and the base's null for those that are dropped."""
    with torch.no_grad():
        text, null = encode_prompts(base, captions), null_states(base, len(captions))
    keep = (~dropped).to(base.device)
    states = torch.where(keep[:, None, None], text.states, null.states)
    pooled = torch.where(keep[:, None], text.pooled, null.pooled)
    return FrameText(states, {"text_embeds": pooled, "time_ids": time_ids(base, len(captions))})


def train_step(state: State, batch: Callable[[torch.Generator], Batch], rate: float, alphas: Tensor) -> float:
    """Do one step; all that is drawn depends on the step's number alone, so that a resumed run draws the same.

    Args:
        state: the training; its step is counted up.
        batch: draws the clips of a step.
        rate: learning rate.
        alphas: the base's cumulative products.

    Returns:
        The loss.
    """
    generator = torch.Generator().manual_seed(state.step)
    state.optimiser.set_rate(rate)
    loss = clip_loss(state, batch(generator), alphas, generator)
    state.optimiser.zero_grad()
    loss.backward()
    state.optimiser.step()
    state.step += 1
    learnt = learnt_parameters(state.network)
    pull = 1 - min(0.999, state.step / (state.step + 9))
    torch._foreach_lerp_(list(state.average.values()), [learnt[name].detach() for name in state.average], pull)
    return float(loss.detach())


def make_average(state: State) -> ClipUnet:
    """Make a network of the averaged weights."""
    network = start_network(state.base, state.network.design)
    network.unet.load_state_dict(state.average, strict=False)
    return network.requires_grad_(False).eval()


def preview(state: State, held: Clips, path: Path, steps: int) -> float:
    """Draw two held-out clips: truth above, the averaged network's frames below; give the mean error, 0..255."""
    interpolator = EmbeddedSeine(
        state.base, make_average(state), SeineConfig(state.base.fingerprint, FRAMES), InterpolatorOptions(steps=steps)
    )
    strips, errors = [], []
    for row in range(min(2, len(held.latents[0]))):
        truth = decode_latents(
            state.base, torch.from_numpy(np.array(held.latents[0][row])).float().to(state.base.device)
        )
        segment = Segment(truth[0], truth[-1], len(truth), held.captions[0][row][1], row)
        made = interpolate(interpolator, segment)
        errors.append(np.abs(made.astype(float) - truth).mean())
        shown = range(0, len(truth), max(1, len(truth) // 8))
        strips += [np.concatenate([frames[place] for place in shown], 1) for frames in (truth, made)]
    save_atomically(lambda file: Image.fromarray(np.concatenate(strips)).save(file, "PNG"), path)
    return float(np.mean(errors))


def export(state: State, folder: Path) -> int:
    """Write the averaged weights in float16 with their configuration; give their size in bytes."""
    content = save({name: tensor.half().cpu().contiguous() for name, tensor in state.average.items()})
    if len(content) > MOST_BYTES:
        raise SystemExit(f"the weights take {len(content):,} bytes, more than {MOST_BYTES:,}; learn fewer layers.")
    folder.mkdir(parents=True, exist_ok=True)
    save_atomically(lambda file: file.write(content), folder / WEIGHTS_FILE)
    text = write_config(
        SeineConfig(state.base.fingerprint, (min(COUNTS) // COARSE + 1, max(COUNTS)), design=state.network.design)
    )
    save_atomically(lambda file: file.write(text.encode()), folder / CONFIG_FILE)
    return len(content)


def read_choice(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch", type=int, help="4, on a GPU 16")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--coarse", type=float, default=0.6, help="share of the steps that see every third frame only")
    parser.add_argument("--base", default="mini")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--log-every", type=int, default=50)
    parser.add_argument("--save-every", type=int, default=200)
    parser.add_argument("--preview-every", type=int, default=500)
    parser.add_argument("--preview-steps", type=int, default=20)
    parser.add_argument("--adopt", action="store_true", help="begin with the temporal layers learnt for another base")
    add_time(parser)
    parser.add_argument("--assets", type=Path, default=ASSETS, help="where --export writes")
    parser.add_argument("--export", action="store_true", help="write the weights into the package and end")
    return parser.parse_args(arguments)


def rate_at(step: int, steps: int, rate: float, clock: Clock | None = None) -> float:
    """Give the learning rate: up over 200 steps, down to a fiftieth over the last quarter, or as the clock says."""
    planned = min(1.0, 0.02 + 4 * (1 - step / steps))
    return rate * min(1.0, (step + 1) / 200) * (clock.fall(planned) if clock else planned)


def main(arguments: list[str] | None = None) -> None:
    """Train until the wanted number of steps or minutes, from the last checkpoint."""
    choice = read_choice(arguments)
    base = load_backbone(choice.base, choice.device, torch.float32)
    state, checkpoint = start(base, choice.rate), choice.work / "train.pt"
    if checkpoint.exists():
        load_state(state, checkpoint, choice.adopt)
    if choice.export:
        print(f"{export(state, choice.assets):,} bytes in {choice.assets}", flush=True)
        return
    clips, held = Clips(base, choice.work, "base"), Clips(base, choice.work, "heldout")
    alphas = torch.from_numpy(np.asarray(base.scheduler.alphas_cumprod, dtype=np.float32))
    size = choice.batch or (16 if base.device.type == "cuda" else 4)
    clock, first, losses = Clock(choice.steps, choice.minutes, choice.cool), state.step, []
    began, timed = time.time(), choice.minutes is not None
    while not clock.over(state.step):
        rate = rate_at(state.step, choice.steps, choice.rate, clock)
        passed = clock.progress() if timed else state.step / choice.steps
        draw = functools.partial(clips.batch, size, stride=COARSE if passed < choice.coarse else 1)
        losses.append(train_step(state, draw, rate, alphas))
        last = clock.over(state.step)
        if state.step % choice.log_every == 0 or last:
            speed = (state.step - first) * size / (time.time() - began)
            log(choice.work, step=state.step, loss=float(np.mean(losses)), rate=rate, clips_per_second=speed)
            losses.clear()
        if clock.due() or (not timed and state.step % choice.save_every == 0) or last:
            save_state(state, checkpoint)
        if (not timed and state.step % choice.preview_every == 0) or last:
            error = preview(state, held, choice.work / f"preview-{state.step:06d}.png", choice.preview_steps)
            log(choice.work, step=state.step, preview_error=error)


if __name__ == "__main__":
    main()
