"""What the interpolator's scripts share: where work lies, rendered clips, and latents that are encoded once."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from d2plan.backbone.load import Backbone
from d2plan.backbone.sdxl import encode_images

WORK = Path(os.environ.get("D2PLAN_SEINE_WORK", Path.home() / ".cache" / "d2plan" / "seine"))
SIZE, SHARD = 128, 50
# Frames of a shard's clips: mostly as many as SEINE makes, others so that other numbers work too. One less than each is
# a multiple of COARSE, so that every third frame from the first to the last is a clip as well.
COUNTS = (16, 16, 16, 10, 16, 13, 16, 22)
COARSE = 3
KEY = 6  # apart from the scenes that the base draws from the same stream


def shard_paths(work: Path, stream: str) -> list[Path]:
    """List the rendered shards that are complete, in order."""
    return sorted((work / "clips").glob(f"{stream}-*.npz"))


def save_atomically(write: Callable[[IO[bytes]], object], path: Path) -> None:
    """Let ``write(file)`` write beside the final name and rename, so that what is there is always whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def log(work: Path, **values: float) -> None:
    """Append one line of numbers to the log and print it."""
    line = {"time": round(time.time(), 1), **{key: round(float(value), 5) for key, value in values.items()}}
    with (work / "train.log.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    print(json.dumps(line), flush=True)


def fingerprint_vae(base: Backbone) -> str:
    """Tell a VAE from another, so that latents are never mixed."""
    digest = hashlib.sha256()
    for name, tensor in sorted(base.vae.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()[:12]


def encode_shards(base: Backbone, work: Path, stream: str) -> list[Path]:
    """Encode what is not encoded yet with this base's VAE; the files are named by it.

    Args:
        base: whose VAE encodes.
        work: the scripts' folder.
        stream: "base" or "heldout".

    Returns:
        For each shard the file of latents, float16 ``[n, f, 4, h, w]``.
    """
    mark = fingerprint_vae(base)
    targets = []
    for path in shard_paths(work, stream):
        target = work / "latents" / f"{path.stem}-{mark}.npy"
        if not target.exists():
            with np.load(path) as shard:
                frames = shard["frames"]
            parts = [encode_images(base, clip).half().cpu().numpy() for clip in frames]
            latents = np.stack(parts)
            save_atomically(lambda file, content=latents: np.save(file, content), target)
            print(f"{target.name} encoded", flush=True)
        targets.append(target)
    return targets


class Clips:
    """Latents, captions and moving areas of all encoded shards of a stream."""

    def __init__(self, base: Backbone, work: Path, stream: str) -> None:
        """Open them; the latents stay on the disk, or with a base on a GPU lie in memory (4,000 clips: 0.5 GB)."""
        kept = "r" if base.device.type == "cpu" else None
        self.latents = [np.load(path, mmap_mode=kept) for path in encode_shards(base, work, stream)]
        self.moving: list[np.ndarray] = []
        self.captions: list[list[list[str]]] = []
        for path in shard_paths(work, stream):
            with np.load(path) as shard:
                self.moving.append(shard["moving"])
                self.captions.append(json.loads(str(shard["captions"])))
        if not self.latents:
            raise SystemExit(f"{work / 'clips'} holds no clips of {stream}; run scripts/seine/render_clips.py first.")

    def batch(self, size: int, generator: torch.Generator, stride: int = 1) -> tuple[Tensor, Tensor, list[str]]:
        """Draw clips of one shard.

        Args:
            size: b.
            generator: of what is drawn.
            stride: every how many frames one is taken.

        Returns:
            Latents ``[b, 4, f, h, w]``, the moving areas ``[b, 1, f, h, w]`` 0..1, and a caption each, of the start
            or of the end.
        """
        shard = int(torch.randint(len(self.latents), (1,), generator=generator))
        rows = torch.randint(len(self.latents[shard]), (size,), generator=generator).tolist()
        sides = torch.randint(2, (size,), generator=generator).tolist()
        picked = [np.stack([source[shard][row][::stride] for row in rows]) for source in (self.latents, self.moving)]
        latents = torch.from_numpy(picked[0]).float().transpose(1, 2)
        moving = torch.from_numpy(picked[1]).float()[:, None] / 255
        return latents, moving, [self.captions[shard][row][side] for row, side in zip(rows, sides, strict=True)]
