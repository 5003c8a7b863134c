"""Train the embedded self-supervised ViT: each instance must know itself again, a moment later, among all others.

Command: python scripts/encoders/train_vit.py --minutes 20 [--cool] [--export] (resumes from its checkpoint)

Views of one instance at two moments of a clip are drawn together; views of other instances, a memory of earlier ones,
and doubles with one colour changed somewhere are pushed apart. No label is used: that the two moments show one
character is known from the clip, and where it is (its mask) from the world.
Source: MoCo (He et al. 2020) with the loss on the exported feature itself, and pairs from video as in "Watching the
World Go By" (Gordon et al. 2020); the averaged network is what is written.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from begin import begin_attention, begin_patches, place_waves
from course import Course, learn, make_parser, run
from cutouts import make_stock
from models import VIT_PATCH, VIT_SIZE, VIT_WIDTH, build_vit
from torch import Tensor, nn
from torch.nn import functional
from views import Views

sys.path.append(str(Path(__file__).resolve().parents[1] / "mini"))  # the base's scripts
from common import Clock, choose_device  # noqa: E402

NAME = "vit"
TEMPERATURE, MEMORY, FOLLOW = 0.1, 4096, 0.99


def describe(model: nn.Module, pixels: Tensor) -> Tensor:
    """Give the first token of each picture, of length 1, ``[n d]``."""
    return functional.normalize(model(pixel_values=pixels).last_hidden_state[:, 0].float(), dim=-1)


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
        """Give the cutouts of a step, ``[b 2 4 h w]`` 0..1; all are seen once before any is seen again."""
        turn, start = divmod(step * self.batch, len(self.where))
        order = np.random.default_rng([8, turn]).permutation(len(self.where))
        if start + self.batch > len(order):
            order = np.concatenate([order, np.random.default_rng([8, turn + 1]).permutation(len(self.where))])
        chosen = [self.where[number] for number in order[start : start + self.batch]]
        rows = np.stack([self.stock[shard][place] for shard, place in chosen])
        return torch.from_numpy(rows).to(self.device).permute(0, 1, 4, 2, 3).float() / 255

    def __call__(self, model: nn.Module, teacher: nn.Module, memory: Memory, step: int) -> dict[str, Tensor]:
        """Give the loss of one step, and how often a view finds its own."""
        moments = self.take(step)
        self.views.reseed(step)
        now, later = moments.unbind(1) if step % 2 else moments.flip(1).unbind(1)
        with torch.no_grad():
            known = torch.cat([self.views(later), self.views(self.views.double(later))])
            keys, doubles = describe(teacher, known).chunk(2)
        queries = describe(model, self.views(now))
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
        model.embeddings.patch_embeddings.projection, torch.cat([lesson.views(lesson.take(n)[:, 0]) for n in range(12)])
    )
    side = VIT_SIZE // VIT_PATCH
    model.embeddings.position_embeddings[:, 1:] = place_waves(side, VIT_WIDTH)
    for number, layer in enumerate(model.layers):
        own = layer.attention
        begin_attention((own.q_proj, own.k_proj, own.v_proj, own.o_proj), model.config.num_attention_heads, number)


def train(clock: Clock, choice: argparse.Namespace) -> None:
    """Train until the time is over."""
    device, _ = choose_device()
    lesson = Lesson(choice.instances, choice.batch, device)
    model, teacher, memory = build_vit().to(device), build_vit().to(device), Memory().to(device)
    begin_anew(model, lesson)
    teacher.load_state_dict(model.state_dict())
    # Patches stay as they begin: a trainable embedding makes contrastive training of a ViT unstable (MoCo v3).
    model.embeddings.patch_embeddings.requires_grad_(False)
    course = Course(NAME, model, teacher, memory, (model, teacher), ("loss",), (FOLLOW, 10))
    learn(course, lambda step: lesson(model, teacher, memory, step), clock, choice.batch, choice.rate)


def main() -> None:
    """Train, then export."""
    parser = make_parser(__doc__, NAME, 64)
    parser.add_argument("--instances", type=int, default=10_000, help="instances to learn from")
    run(parser.parse_args(), NAME, train, build_vit)


if __name__ == "__main__":
    main()
