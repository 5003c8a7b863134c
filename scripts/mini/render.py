"""Render training shards of the small world: images, captions with spans, masks, and what the captions' tokens mean.

Command: python scripts/mini/render.py --count 40000 [--workers 16] (resumes; shards that are done are kept)
"""

from __future__ import annotations

import argparse
import json
import multiprocessing

import numpy as np
from common import MAP, SHARD, SIZE, data_folder
from PIL import Image
from words import read_words

from d2plan.world.caption import write_caption
from d2plan.world.scene import sample_scene, scene_to_json
from d2plan.world.seeds import stream_rng
from d2plan.world.truth import render


def render_shard(stream: str, number: int, size: int = SHARD) -> str:
    """Render one shard of so many scenes; its ``.done`` file is written last. Gives its name."""
    folder = data_folder()
    folder.mkdir(parents=True, exist_ok=True)
    base = folder / f"{stream}-{number:05d}"
    images = np.zeros((size, SIZE, SIZE, 3), np.uint8)
    masks = np.zeros((size, 4, MAP, MAP), np.uint8)
    lines = []
    for place in range(size):
        rng = stream_rng(stream, number * size + place)
        scene = sample_scene(rng)
        caption = write_caption(scene, rng)
        truth = render(scene, SIZE)
        images[place] = truth.image
        for figure, mask in enumerate(truth.masks):
            small = Image.fromarray((mask * 255).astype(np.uint8), "L").reduce(SIZE // MAP)
            masks[place, figure] = np.asarray(small)
        spans = {
            "phrases": caption.phrases,
            "class_words": caption.class_words,
            "said": [sorted(s) for s in caption.said],
        }
        lines.append(json.dumps({"caption": caption.text, **spans, "scene": scene_to_json(scene)}))
    np.save(base.with_suffix(".images.npy"), images)
    np.save(base.with_suffix(".masks.npy"), masks)
    base.with_suffix(".jsonl").write_text("\n".join(lines))
    read_words(base)
    base.with_suffix(".done").touch()
    return base.name


def _render_job(job: tuple[str, int, int]) -> str:
    return render_shard(*job)


def main() -> None:
    """Render the shards that are missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=40_000)
    parser.add_argument("--stream", default="base")
    parser.add_argument("--first", type=int, default=0, help="first shard")
    parser.add_argument("--every", type=int, default=1, help="take every n-th shard (to share work between processes)")
    parser.add_argument("--skip", type=int, default=0, help="take shard 0, then leave out so many (for other scenes)")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--shard", type=int, default=SHARD, help="scenes a shard; one folder has one size")
    choice = parser.parse_args()
    numbers = [n + choice.skip if n else n for n in range(choice.first, choice.count // choice.shard, choice.every)]
    missing = [n for n in numbers if not (data_folder() / f"{choice.stream}-{n:05d}.done").exists()]
    jobs = [(choice.stream, number, choice.shard) for number in missing]
    if choice.workers < 2:
        for job in jobs:
            print(f"{_render_job(job)} done", flush=True)
        return
    # Nothing here has touched a GPU, so the processes may be forks and start at once.
    with multiprocessing.get_context("fork").Pool(choice.workers) as pool:
        for name in pool.imap_unordered(_render_job, jobs):
            print(f"{name} done", flush=True)


if __name__ == "__main__":
    main()
