"""Train the embedded self-supervised ViT: each picture of an instance must know itself again among all others.

Command: python scripts/encoders/train_vit.py --minutes 20 [--cool] [--export] (resumes from its checkpoint)

Two views of one and the same cutout are drawn together; views of other cutouts, a memory of earlier ones, and doubles
with one colour changed are pushed apart. No label is used, nor two pictures of one character: every instance of the
training scenes has an identity of its own. Where an instance is (its mask) comes from the world.
Source: MoCo (He et al. 2020) with the loss on the exported feature itself; the averaged network is what is written.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from begin import begin_attention, begin_patches, place_waves
from cutouts import make_stock
from models import ASSETS, VIT_PATCH, VIT_SIZE, VIT_WIDTH, WORK, Done, StopWatch, build_vit, write_encoder
from torch import Tensor, nn
from torch.nn import functional
from views import Views

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "mini")]  # the base's scripts
from common import (  # noqa: E402
    BEGAN,
    Clock,
    add_time,
    blend_average,
    choose_device,
    cosine,
    guarded_step,
    log,
    make_optimiser,
    save_atomically,
)

NAME = "vit"
RATE, DECAY, CLIP_NORM = 1.5e-3, 0.05, 1.0
TEMPERATURE, MEMORY, FOLLOW = 0.1, 4096, 0.99
LOG_EVERY, WARM_UP = 25, 60


def describe(model: nn.Module, pixels: Tensor) -> Tensor:
    """Give the first token of each picture, of length 1, ``[n d]``."""
    return functional.normalize(model(pixel_values=pixels).last_hidden_state[:, 0], dim=-1)


class Memory(nn.Module):
    """Descriptions of earlier views."""

    def __init__(self, width: int = VIT_WIDTH, size: int = MEMORY) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.register_buffer("rows", functional.normalize(torch.randn(size, width, generator=generator), dim=-1))
        self.register_buffer("place", torch.zeros((), dtype=torch.long))

    def add(self, rows: Tensor) -> None:
        """Overwrite the oldest rows."""
        places = (self.place + torch.arange(len(rows), device=rows.device)) % len(self.rows)
        self.rows[places] = rows
        self.place.add_(len(rows)).remainder_(len(self.rows))


class Lesson:
    """Makes batches and their loss."""

    def __init__(self, count: int, batch: int, device: torch.device) -> None:
        paths, backdrops = make_stock(count)
        self.stock = [np.load(path, mmap_mode="r") for path in paths]
        self.where = [(shard, place) for shard, part in enumerate(self.stock) for place in range(len(part))]
        self.batch, self.device = batch, device
        places = torch.from_numpy(np.load(backdrops)).to(device).permute(0, 3, 1, 2).float() / 255
        self.views = Views(places, 0)

    def take(self, step: int) -> Tensor:
        """Give the cutouts of a step, ``[b 4 h w]`` 0..1; all are seen once before any is seen again."""
        turn, start = divmod(step * self.batch, len(self.where))
        order = np.random.default_rng([8, turn]).permutation(len(self.where))
        if start + self.batch > len(order):
            order = np.concatenate([order, np.random.default_rng([8, turn + 1]).permutation(len(self.where))])
        chosen = [self.where[number] for number in order[start : start + self.batch]]
        rows = np.stack([self.stock[shard][place] for shard, place in chosen])
        return torch.from_numpy(rows).to(self.device).permute(0, 3, 1, 2).float() / 255

    def __call__(self, model: nn.Module, teacher: nn.Module, memory: Memory, step: int) -> dict[str, Tensor]:
        """Give the loss of one step, and how often a view finds its own."""
        cutouts = self.take(step)
        self.views.reseed(step)
        with torch.no_grad():
            known = torch.cat([self.views(cutouts), self.views(self.views.recolour(cutouts))])
            keys, doubles = describe(teacher, known).chunk(2)
        queries = describe(model, self.views(cutouts))
        logits = queries @ torch.cat([keys, doubles, memory.rows]).T / TEMPERATURE
        target = torch.arange(len(queries), device=logits.device)
        memory.add(keys)
        with torch.no_grad():
            count = len(queries)
            found = (logits.argmax(1) == target).float().mean()
            over = (logits[target, target] > logits[target, target + count]).float().mean()
        return {"loss": functional.cross_entropy(logits, target), "found": found, "over_double": over}


@torch.no_grad()
def begin_anew(model: nn.Module, lesson: Lesson) -> None:
    """Prepare a model that has learnt nothing yet."""
    begin_patches(
        model.embeddings.patch_embeddings.projection, torch.cat([lesson.views(lesson.take(n)) for n in range(12)])
    )
    side = VIT_SIZE // VIT_PATCH
    model.embeddings.position_embeddings[:, 1:] = place_waves(side, VIT_WIDTH)
    for number, layer in enumerate(model.layers):
        own = layer.attention
        begin_attention((own.q_proj, own.k_proj, own.v_proj, own.o_proj), model.config.num_attention_heads, number)


def begin(model: nn.Module, teacher: nn.Module, memory: Memory, optimiser: torch.optim.AdamW) -> Done:
    """Go on from the last checkpoint, where there is one; gives what is done."""
    path = WORK / f"{NAME}.pt"
    if not path.exists():
        return Done(0, 0, {})
    state = torch.load(path, weights_only=True, map_location="cpu")
    for kept, module in (("model", model), ("average", teacher), ("extra", memory)):
        module.load_state_dict(state[kept])
    done, spent = int(state["step"]), state.get("seconds", {})
    if "optimiser" not in state:
        return Done(done, done, spent)
    optimiser.load_state_dict(state["optimiser"])
    return Done(done, 0, spent)


def train(clock: Clock, count: int, batch: int, rate: float) -> None:
    """Train until the time is over."""
    device, _ = choose_device()
    lesson = Lesson(count, batch, device)
    model, teacher, memory = build_vit().to(device), build_vit().to(device), Memory().to(device)
    begin_anew(model, lesson)
    teacher.load_state_dict(model.state_dict())
    # Patches stay as they begin: a trainable embedding makes contrastive training of a ViT unstable (MoCo v3).
    model.embeddings.patch_embeddings.requires_grad_(False)
    parameters = [one for one in model.parameters() if one.requires_grad]
    flat = [one for one in parameters if one.ndim < 2]
    deep = [one for one in parameters if one.ndim >= 2]
    optimiser = make_optimiser([{"params": deep}, {"params": flat, "weight_decay": 0.0}], rate, DECAY)
    step, cold, spent = begin(model, teacher, memory, optimiser)
    start = step
    clock.entered, watch = time.time(), StopWatch(device, spent)
    sums: dict[str, float] = {}
    while not clock.over(step):
        now = rate * min(1, (step - cold + 1) / WARM_UP) * clock.fall(cosine(step, clock.steps))
        for group in optimiser.param_groups:
            group["lr"] = now
        losses = lesson(model, teacher, memory, step)
        optimiser.zero_grad()
        losses["loss"].backward()
        guarded_step(optimiser, parameters, CLIP_NORM)
        blend_average(teacher, model, 1 - min(FOLLOW, (step + 1) / (step + 10)))
        for key, value in losses.items():
            sums[key] = sums.get(key, 0.0) + float(value.detach())
        step += 1
        if step % LOG_EVERY == 0:
            speed = (step - start) * batch / (time.time() - clock.entered)
            means = {key: value / min(LOG_EVERY, step - start) for key, value in sums.items()}
            log(NAME, WORK, step=step, images_per_second=speed, rate=now, **means)
            sums = {}
        if clock.due() or clock.over(step) or step % 250 == 0:
            state = {"model": model.state_dict(), "average": teacher.state_dict(), "extra": memory.state_dict()}
            facts = {"step": step, "seconds": watch.read()}
            save_atomically({**state, "optimiser": optimiser.state_dict(), **facts}, WORK / f"{NAME}.pt")


def export(folder: Path) -> None:
    """Write the averaged weights as a folder of transformers."""
    model = build_vit()
    model.load_state_dict(torch.load(WORK / f"{NAME}.pt", weights_only=True, map_location="cpu")["average"])
    write_encoder(model, folder)
    print(f"written: {folder}", flush=True)


def main() -> None:
    """Train, then export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10**9)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=RATE)
    parser.add_argument("--instances", type=int, default=10_000, help="cutouts to learn from")
    parser.add_argument("--export", action="store_true", help="write the weights into the package")
    parser.add_argument("--assets", type=Path, default=ASSETS / NAME, help="where")
    add_time(parser)
    choice = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    if choice.steps and choice.minutes != 0:
        train(Clock(choice.steps, choice.minutes, choice.cool, BEGAN), choice.instances, choice.batch, choice.rate)
    if choice.export:
        export(choice.assets)


if __name__ == "__main__":
    main()
