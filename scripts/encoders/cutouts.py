"""Instances at two moments of a clip, each cut out with its surroundings and its mask, and empty places for them.

Command: python scripts/encoders/cutouts.py --count 16000 [--workers 16] (resumes; shards that are done are kept)
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from models import VIT_SIZE, WORK
from PIL import Image
from stock import draw_as_asked, draw_missing, keep, shard_paths

from d2plan.world.clip import sample_clip
from d2plan.world.scene import sample_scene
from d2plan.world.seeds import stream_rng
from d2plan.world.truth import Truth, render

MARGIN = 1.3
LEAST_PIXELS = 250
BACKDROPS = 400
_CLIPS, _EMPTY = 43, 41


def cut_instance(truth: Truth, number: int) -> np.ndarray | None:
    """Cut a square around an instance, ``[96 96 4]`` uint8, the mask last; None where too little of it is seen.

    What lies beyond the picture is white.
    """
    mask = truth.masks[number]
    if (mask > 0.5).sum() < LEAST_PIXELS:
        return None
    x0, y0, x1, y1 = truth.boxes[number]
    side = MARGIN * max(x1 - x0, y1 - y0)
    left, top = (x0 + x1 - side) / 2, (y0 + y1 - side) / 2
    whole = np.concatenate([truth.image, (mask[..., None] * 255).round().astype(np.uint8)], axis=2)
    pad = int(side) + 1
    edges = ((pad, pad), (pad, pad))
    colours = [np.pad(whole[..., part], edges, constant_values=255 if part < 3 else 0) for part in range(4)]
    box = (left + pad, top + pad, left + pad + side, top + pad + side)
    parts = [
        np.asarray(Image.fromarray(one).resize((VIT_SIZE, VIT_SIZE), Image.Resampling.BILINEAR, box=box))
        for one in colours
    ]
    return np.stack(parts, axis=2)


def draw_shard(number: int, size: int) -> np.ndarray:
    """Draw so many instances as a clip shows them first and last, ``[n 2 96 96 4]``; no two are of one identity."""
    found: list[np.ndarray] = []
    place = 0
    while len(found) < size:
        clip = sample_clip(stream_rng("judge", _CLIPS, number, place))
        # The first figure is the one that does something.
        cuts = [cut_instance(render(moment), 0) for moment in (clip.start, clip.end)]
        if all(cut is not None for cut in cuts):
            found.append(np.stack(cuts))
        place += 1
    return np.stack(found)


def draw_backdrops(count: int) -> np.ndarray:
    """Draw places without anybody, ``[n 96 96 3]``."""
    scenes = (sample_scene(stream_rng("judge", _EMPTY, number)) for number in range(count))
    return np.stack([render(replace(scene, figures=()), VIT_SIZE).image for scene in scenes])


def _keep_shard(number: int, size: int, path: Path) -> None:
    keep(path, draw_shard(number, size))


def make_stock(count: int, folder: Path = WORK, workers: int = 1) -> tuple[list[Path], Path]:
    """Draw what is missing, in so many processes; gives the shards of instances and the file of backdrops."""
    paths = draw_missing(shard_paths(folder, "cutouts", count), _keep_shard, workers)
    backdrops = folder / "data" / f"backdrops-{min(BACKDROPS, count)}.npy"
    if not backdrops.exists():
        keep(backdrops, draw_backdrops(min(BACKDROPS, count)))
    return paths, backdrops


def main() -> None:
    """Draw what is missing."""
    draw_as_asked(__doc__, 16_000, make_stock)


if __name__ == "__main__":
    main()
