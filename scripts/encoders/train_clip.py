"""Train the embedded CLIP on renders with captions, and against captions whose attributes are exchanged.

Command: python scripts/encoders/train_clip.py --minutes 20 [--cool] [--export] (resumes from its checkpoint)

Pictures come in pairs, a scene and the same one with its attributes exchanged. Three losses: pictures and captions
of a batch must find each other, against two false captions of each picture too;
picture and caption vectors are read by one common linear layer that says what is there; and each patch says whose it
is and what that figure wears and does. The two reading layers are dropped after training.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from begin import begin_attention, begin_patches, place_waves
from captions import CLAIMS, scene_truth, write_beside
from course import Course, learn, make_parser, run
from models import CLIP_PATCH, CLIP_SIZE, CLIP_WIDTH, PROJECTION, build_clip, load_tokenizer
from pairs import Pairs, make_pairs
from torch import Tensor, nn
from torch.nn import functional

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "mini"), str(HERE.parent / "judge")]  # the base's scripts, and the judge's
from augment import Weather  # noqa: E402
from common import Clock, choose_device  # noqa: E402

from d2plan.eval.networks import HEADS  # noqa: E402
from d2plan.world.scene import WorldScene  # noqa: E402

NAME = "clip"
GRID = CLIP_SIZE // CLIP_PATCH
DENSE = (len(HEADS["class"]) + 1, len(HEADS["accessory"]), len(HEADS["accessory_colour"]), len(HEADS["action"]))
READ_WEIGHT, DENSE_WEIGHT = 0.1, 1.0


class Readers(nn.Module):
    """What reads the towers while they learn, and goes afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Sequential(nn.LayerNorm(CLIP_WIDTH), nn.Linear(CLIP_WIDTH, sum(DENSE)))
        self.whole = nn.Linear(PROJECTION, CLAIMS)
        nn.init.constant_(self.whole.bias, -3.0)


def begin_readers() -> Readers:
    """Make the readers, always the same ones."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return Readers()


def patch_truth(masks: np.ndarray, scenes: list[WorldScene]) -> np.ndarray:
    """Say for each patch the class (0: none), accessory, colour and action of whose it is, ``[b 4 patches]``."""
    count = len(scenes)
    small = masks.reshape(count, 4, GRID, masks.shape[2] // GRID, GRID, masks.shape[3] // GRID).mean((3, 5)) / 255
    owner, share = small.argmax(1), small.max(1)
    truth = np.full((count, 4, GRID, GRID), -1, np.int64)
    truth[:, 0] = np.where(share > 0.1, -1, 0)
    for row, scene in enumerate(scenes):
        for number, figure in enumerate(scene.figures):
            mine = (owner[row] == number) & (share[row] > 0.25)
            truth[row, 0][mine] = 1 + HEADS["class"].index(figure.class_word)
            truth[row, 1][mine] = HEADS["accessory"].index(figure.accessory or "none")
            if figure.accessory_colour:
                truth[row, 2][mine] = HEADS["accessory_colour"].index(figure.accessory_colour)
            truth[row, 3][mine] = HEADS["action"].index(figure.action)
    return truth.reshape(count, 4, -1)


class Lesson:
    """Makes batches and their loss."""

    def __init__(self, pairs: Pairs, batch: int, device: torch.device) -> None:
        self.pairs, self.batch, self.device = pairs, batch, device
        self.tokenizer = load_tokenizer()

    def __call__(self, model: nn.Module, readers: Readers, step: int) -> dict[str, Tensor]:
        """Give the losses of one step."""
        rng = np.random.default_rng([7, step])
        there = len(self.pairs.where)
        images, masks, scenes = self.pairs.take(rng.choice(there, min(self.batch // 2, there), replace=False))
        # Both of a pair are told in the same form, so that what they differ in is what their captions differ in.
        forms = np.repeat(rng.integers(2**31, size=len(scenes) // 2), 2)
        written = [write_beside(scene, int(form), rng) for scene, form in zip(scenes, forms, strict=True)]
        for row, texts in enumerate(written):
            # A caption that names sides belongs to its picture as it is.
            if rng.random() < 0.5 and not any(side in texts[0][0] for side in (" left", " right")):
                images[row], masks[row] = images[row][:, ::-1].copy(), masks[row][..., ::-1].copy()
        pixels = torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2).float().div(127.5).sub(1)
        pixels = Weather(step, self.device)(pixels)
        seen = model.vision_model(pixel_values=pixels, output_hidden_states=True)
        pictures = model.visual_projection(seen.pooler_output.float())
        texts = [texts[kind][0] for kind in range(3) for texts in written]
        tokens = self.tokenizer(texts, padding=True, return_tensors="pt").to(self.device)
        states = model.text_model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)
        words = model.text_projection(states.pooler_output.float())
        truth = torch.from_numpy(np.stack([scene_truth(scene) for scene in scenes])).to(self.device)
        claims = [texts[kind][1] for kind in range(3) for texts in written]
        yes, unsaid = (
            torch.from_numpy(np.stack([getattr(one, part) for one in claims])).to(self.device)
            for part in ("yes", "open")
        )
        false = torch.tensor([texts[kind][2] for kind in range(3) for texts in written], device=self.device)
        losses = contrast(pictures, words, yes, truth, false, model.logit_scale.exp().clamp(max=100))
        losses["read"] = READ_WEIGHT * self._read(readers, pictures, words, truth, yes, unsaid)
        losses["dense"] = DENSE_WEIGHT * dense_loss(
            readers.patches(seen.hidden_states[-2][:, 1:].float()),
            torch.from_numpy(patch_truth(masks, scenes)).to(self.device),
        )
        return losses

    @staticmethod
    def _read(readers: Readers, pictures: Tensor, words: Tensor, truth: Tensor, yes: Tensor, unsaid: Tensor) -> Tensor:
        own = functional.normalize(pictures, dim=-1) * 16
        said = functional.normalize(words, dim=-1) * 16
        seen = functional.binary_cross_entropy_with_logits(readers.whole(own), truth.float(), reduction="sum")
        told = functional.binary_cross_entropy_with_logits(
            readers.whole(said), yes.float(), weight=(~unsaid).float(), reduction="sum"
        )
        return seen / len(pictures) + told / len(words)


def contrast(
    pictures: Tensor, words: Tensor, yes: Tensor, truth: Tensor, false: Tensor, scale: Tensor
) -> dict[str, Tensor]:
    """Compare pictures ``[b]`` with true captions ``[b]`` and false ones ``[2b]``; accidentally true ones stay out."""
    count = len(pictures)
    logits = scale * functional.normalize(pictures, dim=-1) @ functional.normalize(words, dim=-1).T
    # A caption that claims nothing untrue of a picture is no counterexample.
    wrong = (yes.float() @ (~truth).float().T).T > 0
    own = torch.eye(count, dtype=torch.bool, device=logits.device)
    allowed = wrong.clone()
    allowed[:, :count] |= own
    rows = logits.masked_fill(~allowed, -1e4)
    target = torch.arange(count, device=logits.device)
    columns = rows[:, :count].T
    losses = {"image": functional.cross_entropy(rows, target), "text": 0.5 * functional.cross_entropy(columns, target)}
    with torch.no_grad():
        right = rows.argmax(1) == target
        losses["top1"] = right.float().mean()
        swapped = logits[target, target + count]
        usable = false[count : 2 * count]
        losses["over_swap"] = ((logits[target, target] > swapped) & usable).sum() / usable.sum().clamp(min=1)
    return losses


def dense_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Give the sum over the four questions of the mean cross-entropy; figures' patches count as much as the rest."""
    total = logits.new_zeros(())
    for part, right in zip(logits.split(DENSE, dim=-1), truth.unbind(1), strict=True):
        known = right >= 0
        if bool(known.any()):
            total = total + functional.cross_entropy(part[known], right[known])
    return total


@torch.no_grad()
def begin_anew(model: nn.Module, pairs: Pairs) -> None:
    """Prepare the image tower of a model that has learnt nothing yet."""
    images = torch.from_numpy(pairs.take(np.arange(min(400, len(pairs.where))))[0])
    seen = model.vision_model.embeddings
    begin_patches(seen.patch_embedding, images.permute(0, 3, 1, 2).float().div(127.5).sub(1))
    seen.position_embedding.weight[1:] = place_waves(GRID, CLIP_WIDTH)
    for number, layer in enumerate(model.vision_model.encoder.layers):
        own = layer.self_attn
        begin_attention((own.q_proj, own.k_proj, own.v_proj, own.out_proj), own.num_heads, number)


def train(clock: Clock, choice: argparse.Namespace) -> None:
    """Train until the time is over."""
    device, _ = choose_device()
    pairs = Pairs(make_pairs(choice.pairs))
    model, average, readers = build_clip(), build_clip(), begin_readers()
    begin_anew(model, pairs)
    average.load_state_dict(model.state_dict())
    model, average, readers = (one.to(device) for one in (model, average, readers))
    lesson = Lesson(pairs, choice.batch, device)
    towers = (model.vision_model, model.text_model)
    course = Course(NAME, model, average, readers, towers, ("image", "text", "read", "dense"), (0.998, 20))
    learn(course, lambda step: lesson(model, readers, step), clock, choice.batch, choice.rate)


def main() -> None:
    """Train, then export."""
    parser = make_parser(__doc__, NAME, 32)
    parser.add_argument("--pairs", type=int, default=40_000, help="pairs of pictures to learn from")
    run(parser.parse_args(), NAME, train, build_clip)


if __name__ == "__main__":
    main()
