"""Teach the embedded base a ControlNet that reads depth maps, on the world's scenes, drawn as they are needed.

Command: python scripts/control/train.py --minutes 60 --cool (resumes; the log lies beside the checkpoint)
         python scripts/control/train.py --export FOLDER (writes the averaged weights in diffusers' layout, float16)
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import ControlNetModel
from torch import Tensor

from d2plan.backbone.load import Backbone, load_backbone
from d2plan.backbone.sdxl import Residuals, TextStates, encode_images, encode_prompts, null_states, predict, time_ids
from d2plan.world.caption import write_caption
from d2plan.world.scene import sample_scene
from d2plan.world.seeds import stream_rng
from d2plan.world.truth import Truth, render

sys.path.append(str(Path(__file__).resolve().parents[1] / "mini"))  # the base's scripts
from common import Clock, add_time, autocast, choose_device, log, save_atomically  # noqa: E402
from muon import Muon  # noqa: E402

WORK = Path(os.environ.get("D2PLAN_CONTROL_WORK", Path.home() / ".cache" / "d2plan" / "control"))
KEY = 11  # apart from what else is drawn from the same streams
DROP_TEXT = 0.3  # so often the drawing alone tells what is where


@dataclass
class State:
    """Everything that a stopped training needs to go on."""

    base: Backbone
    network: ControlNetModel
    average: dict[str, Tensor]
    optimiser: Muon
    step: int = 0


def draw_depth(truth: Truth) -> np.ndarray:
    """Give a scene's depth as ControlNets for SDXL read it: near is bright, uint8 ``[h, w, 3]``."""
    grey = np.round((1 - truth.depth) * 255).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, 2)


def draw_scenes(stream: str, first: int, count: int, size: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Draw scenes of a stream: pictures and depth maps, both uint8 ``[b, size, size, 3]``, and captions."""
    pictures, drawings, captions = [], [], []
    for index in range(first, first + count):
        rng = stream_rng(stream, KEY, index)
        scene = sample_scene(rng)
        captions.append(write_caption(scene, rng).text)
        truth = render(scene, size)
        pictures.append(truth.image)
        drawings.append(draw_depth(truth))
    return np.stack(pictures), np.stack(drawings), captions


def start(base: Backbone, rate: float) -> State:
    """Make a network that adds nothing yet, from the base's own layers, and its optimiser."""
    torch.manual_seed(0)
    base.unet.requires_grad_(False)
    # Its first layers halve the drawing until it is as small as the latents.
    widths = tuple(16 * 2**place for place in range(base.latent_scale.bit_length()))
    network = ControlNetModel.from_unet(base.unet, conditioning_embedding_out_channels=widths)
    network = network.requires_grad_(True).train()
    average = {name: one.detach().clone() for name, one in network.state_dict().items()}
    return State(base, network, average, Muon(network, rate, 0.01, form=choose_device()[1]))


def control_loss(state: State, first: int, count: int, generator: torch.Generator) -> Tensor:
    """Give the velocity error of so many scenes with min-SNR weights (Hang et al., 2023).

    Args:
        state: the training.
        first: scene of the stream "base".
        count: scenes.
        generator: of moments, noise and dropped captions, on the CPU.

    Returns:
        A scalar.
    """
    base = state.base
    pictures, drawings, captions = draw_scenes("base", first, count, base.size[0])
    latents = encode_images(base, pictures)
    hint = torch.from_numpy(drawings).permute(0, 3, 1, 2).float().div(255).to(base.device)
    moment = ((torch.arange(count) + torch.rand(count, generator=generator)) / count * 1000).long().clamp(0, 999)
    noise = torch.randn(latents.shape, generator=generator).to(base.device)
    text = read_captions(base, captions, torch.rand(count, generator=generator) < DROP_TEXT)
    level = base.scheduler.alphas_cumprod[moment].to(base.device)
    clean, dirty = level.sqrt()[:, None, None, None], (1 - level).sqrt()[:, None, None, None]
    noisy, target = clean * latents + dirty * noise, clean * noise - dirty * latents
    moment, ids = moment.to(base.device), time_ids(base, count)
    with autocast(base.device, choose_device()[1]):
        down, middle = state.network(
            noisy,
            moment,
            encoder_hidden_states=text.states,
            controlnet_cond=hint,
            added_cond_kwargs={"text_embeds": text.pooled, "time_ids": ids},
            return_dict=False,
        )
        guess = predict(base, noisy, moment, text, ids, Residuals(tuple(down), middle)).float()
    snr = level / (1 - level).clamp(min=1e-8)
    weight = (snr.clamp(max=5.0) + 0.25) / (snr + 1)
    return ((guess - target) ** 2).mean((1, 2, 3)).mul(weight).mean()


def read_captions(base: Backbone, captions: list[str], dropped: Tensor) -> TextStates:
    """Give the captions' states, and the base's null for those that are dropped."""
    with torch.no_grad():
        text, null = encode_prompts(base, captions), null_states(base, len(captions))
    keep = (~dropped).to(base.device)
    states = torch.where(keep[:, None, None], text.states, null.states)
    return TextStates(states, torch.where(keep[:, None], text.pooled, null.pooled))


def train_step(state: State, count: int, rate: float) -> float:
    """Do one step on scenes that only its number decides; gives the loss."""
    state.optimiser.set_rate(rate)
    loss = control_loss(state, state.step * count, count, torch.Generator().manual_seed(state.step))
    state.optimiser.zero_grad()
    loss.backward()
    state.optimiser.step()
    state.step += 1
    learnt = state.network.state_dict()
    pull = 1 - min(0.999, state.step / (state.step + 9))
    torch._foreach_lerp_(list(state.average.values()), [learnt[name].detach() for name in state.average], pull)
    return float(loss.detach())


def save_state(state: State, path: Path) -> None:
    """Write a checkpoint."""
    rest = {"optimiser": state.optimiser.state_dict(), "step": state.step, "base": state.base.fingerprint}
    save_atomically({"learnt": state.network.state_dict(), "average": state.average, **rest}, path)


def load_state(state: State, path: Path) -> None:
    """Go on from a checkpoint, which must be of the same base."""
    content = torch.load(path, weights_only=True, map_location=state.base.device)
    if content["base"] != state.base.fingerprint:
        raise SystemExit(f"{path} was trained for the base {content['base']}; move it away to start anew.")
    state.network.load_state_dict(content["learnt"])
    state.average = content["average"]
    state.optimiser.load_state_dict(content["optimiser"])
    state.step = int(content["step"])


def export(state: State, folder: Path) -> Path:
    """Write the averaged weights where ``controls: model`` can name them."""
    network = ControlNetModel.from_config(state.network.config)
    network.load_state_dict(state.average)
    network.half().save_pretrained(folder)
    return folder


def main(arguments: list[str] | None = None) -> None:
    """Train until the wanted number of steps or minutes, from the last checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--base", default="mini")
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--export", type=Path, help="write the weights into this folder and end")
    add_time(parser)
    choice = parser.parse_args(arguments)
    base = load_backbone(choice.base, choose_device()[0], torch.float32)
    state, checkpoint = start(base, choice.rate), choice.work / "train.pt"
    if checkpoint.exists():
        load_state(state, checkpoint)
    if choice.export:
        print(export(state, choice.export), flush=True)
        return
    clock, losses, began, first = Clock(choice.steps, choice.minutes, choice.cool), [], time.time(), state.step
    while not clock.over(state.step):
        fall = clock.fall(min(1.0, 0.02 + 4 * (1 - state.step / choice.steps)))
        losses.append(train_step(state, choice.batch, choice.rate * min(1.0, (state.step + 1) / 100) * fall))
        last = clock.over(state.step)
        if state.step % 25 == 0 or last:
            speed = (state.step - first) * choice.batch / (time.time() - began)
            log("control", choice.work, step=state.step, loss=float(np.mean(losses)), images_per_second=speed)
            losses.clear()
        if clock.due() or (choice.minutes is None and state.step % 200 == 0) or last:
            save_state(state, checkpoint)


if __name__ == "__main__":
    main()
