"""What the U-Net learns from, as tensors on the device: latents, tokens, masks of words and answers."""

from __future__ import annotations

import json
from typing import NamedTuple

import numpy as np
import torch
from common import MAP, SIZE, WORK, data_folder, held_back, shards
from tokenizer import make_tokenizer
from torch import Tensor, nn
from words import read_words


class Batch(NamedTuple):
    """What one training step reads.

    Attributes:
        latents: scaled, ``[b, 4, 32, 32]``, or half of that.
        tokens: ``[b, n]``.
        wanted: each token's mask, ``[b, n, q]``, -1 where it has none.
        truth: the right answers at each token, ``[b, questions, n]``, -1 where nothing is asked.
        masks: of up to four instances, ``[b, 4, q]``, 0..1.
        classes: of those, ``[b, 4]``, -1 where there is none.
        ids: SDXL's time ids, ``[b, 6]``: height and width, top and left of the crop, height and width shown, in pixels.
    """

    latents: Tensor
    tokens: Tensor
    wanted: Tensor
    truth: Tensor
    masks: Tensor
    classes: Tensor
    ids: Tensor


class Data:
    """Latents, tokens and word masks of all encoded shards; the first renders are held back.

    60,000 renders take 0.7 GB, so on a GPU they lie there whole and a batch is an index.
    """

    def __init__(self, shrink: int = 1, device: torch.device | None = None) -> None:
        """Read everything into memory; ``shrink`` makes pictures and masks so much smaller."""
        self.shrink, self.device = shrink, device or torch.device("cpu")
        tokenizer = make_tokenizer()
        names = [path for path in shards() if (data_folder() / f"{path.name}.latents.npy").exists()]
        if not names:
            raise SystemExit(f"{data_folder()} holds no latents; run scripts/mini/encode.py first.")
        statistics = np.load(WORK / "latents.npz")
        self.mean, self.std = (self._keep(statistics[name])[:, None, None] for name in ("mean", "std"))
        self.latents = self._keep(*(np.load(data_folder() / f"{path.name}.latents.npy") for path in names))
        self.masks = self._keep(*(np.load(path.with_suffix(".masks.npy")) for path in names)).flatten(2)
        words = [read_words(path, tokenizer) for path in names]
        self.tokens, self.owner, self.truth, self.classes = (
            self._keep(*(part[name] for part in words)) for name in ("tokens", "owners", "truth", "classes")
        )
        self.held = held_back(len(self.latents))
        lines = names[0].with_suffix(".jsonl").read_text().splitlines()[: self.held]
        self.held_captions = [json.loads(line)["caption"] for line in lines]

    def _keep(self, *parts: np.ndarray) -> Tensor:
        return torch.cat([torch.from_numpy(part) for part in parts]).to(self.device)

    def draw_rows(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw the numbers of renders that may be learnt from."""
        return torch.randint(self.held, len(self.latents), (count,), generator=generator).to(self.device)

    def batch(self, rows: Tensor, corners: Tensor | None = None) -> Batch:
        """Give what a step on these rows reads: whole pictures, smaller if they are shrunk.

        With ``corners [b, 2]`` (top and left in cells of the masks) it is crops of half the size instead, which show
        figures as large as they are, for a quarter of the work.
        """
        masks = self.masks[rows].float().div(255).unflatten(2, (MAP, MAP))
        latents = (self.latents[rows].float() - self.mean) / self.std
        if corners is None:
            masks, latents = (nn.functional.avg_pool2d(whole, self.shrink) for whole in (masks, latents))
            side = SIZE // self.shrink
            ids = torch.tensor([side, side, 0, 0, side, side], device=self.device).expand(len(rows), 6)
        else:
            masks, latents = cut(masks, corners, MAP // 2), cut(latents, corners * 2, MAP)
            shown = torch.full_like(corners, SIZE // 2)
            ids = torch.cat([shown * 2, corners * (SIZE // MAP), shown], 1)
        masks = masks.flatten(2)
        owner = self.owner[rows].long()
        wanted = torch.gather(masks, 1, owner.clamp(min=0)[:, :, None].expand(-1, -1, masks.shape[2]))
        wanted = torch.where((owner < 0)[:, :, None], -1.0, wanted)
        return Batch(latents, self.tokens[rows], wanted, self.truth[rows], masks, self.classes[rows], ids)


def cut(whole: Tensor, corners: Tensor, side: int) -> Tensor:
    """Cut a square of so many cells out of each ``[b, c, h, w]`` at its corner ``[b, 2]`` (top, left)."""
    steps = torch.arange(side, device=whole.device)
    down, right = corners[:, :1] + steps, corners[:, 1:] + steps
    each = torch.arange(len(whole), device=whole.device)[:, None, None]
    return whole[each, :, down[:, :, None], right[:, None, :]].permute(0, 3, 1, 2)
