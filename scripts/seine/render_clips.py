"""Render clips of the small world: frames, captions of start and end, and where something moves.

Command: python scripts/seine/render_clips.py --count 4000 (resumes; what is done is kept)
         python scripts/seine/render_clips.py --stream heldout --count 100
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from pathlib import Path

import numpy as np
from clips_data import COUNTS, KEY, SHARD, SIZE, WORK, save_atomically
from PIL import Image

from d2plan.world.clip import sample_clip, scene_between
from d2plan.world.seeds import stream_rng
from d2plan.world.truth import render


def draw_clip(stream: str, index: int, count: int, size: int = SIZE) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Draw a clip.

    Args:
        stream: "base" or "heldout".
        index: of the clip in it.
        count: f, frames.
        size: height and width, pixels.

    Returns:
        Frames ``[f, h, w, 3]``, the moving figure's mask at a quarter of the size ``[f, h / 4, w / 4]`` uint8, and the
        captions of start and end.
    """
    clip = sample_clip(stream_rng(stream, KEY, index))
    frames, moving = [], []
    for place in range(count):
        truth = render(scene_between(clip, place / (count - 1)), size)
        frames.append(truth.image)
        # The first figure is the one that something happens to.
        mask = Image.fromarray((truth.masks[0] * 255).astype(np.uint8), "L")
        moving.append(np.asarray(mask.reduce(4)))
    return np.stack(frames), np.stack(moving), [clip.caption_start.text, clip.caption_end.text]


def render_shard(work: Path, stream: str, number: int, clips: int, count: int) -> Path:
    """Render one shard, whole or not at all."""
    drawn = [draw_clip(stream, number * SHARD + place, count) for place in range(clips)]
    content = {
        "frames": np.stack([frames for frames, _, _ in drawn]),
        "moving": np.stack([moving for _, moving, _ in drawn]),
        "captions": np.array(json.dumps([captions for _, _, captions in drawn])),
    }
    path = work / "clips" / f"{stream}-{number:04d}.npz"
    save_atomically(lambda file: np.savez_compressed(file, **content), path)
    return path


def main() -> None:
    """Render the shards that are missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=4000, help="clips")
    parser.add_argument("--stream", choices=("base", "heldout"), default="base")
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--first", type=int, default=0, help="first shard")
    parser.add_argument("--every", type=int, default=1, help="take every n-th shard (to share work between processes)")
    choice = parser.parse_args()
    jobs = []
    for number in range(choice.first, -(-choice.count // SHARD), choice.every):
        if not (choice.work / "clips" / f"{choice.stream}-{number:04d}.npz").exists():
            count = COUNTS[number % len(COUNTS)] if choice.stream == "base" else COUNTS[0]
            clips = min(SHARD, choice.count - number * SHARD)
            jobs.append((choice.work, choice.stream, number, clips, count))
    if choice.workers < 2 or len(jobs) < 2:
        for job in jobs:
            print(render_shard(*job).name, flush=True)
        return
    with multiprocessing.get_context("fork").Pool(choice.workers) as pool:
        for path in pool.starmap(render_shard, jobs, chunksize=1):
            print(path.name, flush=True)


if __name__ == "__main__":
    main()
