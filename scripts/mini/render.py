"""Render training shards of the small world: images, captions with spans, and masks.

Command: python scripts/mini/render.py --count 40000 [--stream base] (resumes; shards that are done are kept)
"""

from __future__ import annotations

import argparse
import json

import numpy as np
from common import MAP, SHARD, SIZE, data_folder
from PIL import Image

from d2plan.world.caption import write_caption
from d2plan.world.scene import sample_scene, scene_to_json
from d2plan.world.seeds import stream_rng
from d2plan.world.truth import render


def render_shard(stream: str, number: int) -> None:
    """Render one shard of 2,000 scenes; its ``.done`` file is written last."""
    folder = data_folder()
    folder.mkdir(parents=True, exist_ok=True)
    base = folder / f"{stream}-{number:05d}"
    images = np.zeros((SHARD, SIZE, SIZE, 3), np.uint8)
    masks = np.zeros((SHARD, 4, MAP, MAP), np.uint8)
    lines = []
    for place in range(SHARD):
        rng = stream_rng(stream, number * SHARD + place)
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
    base.with_suffix(".done").touch()


def main() -> None:
    """Render the shards that are missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=40_000)
    parser.add_argument("--stream", default="base")
    parser.add_argument("--first", type=int, default=0, help="first shard")
    parser.add_argument("--every", type=int, default=1, help="take every n-th shard (to share work between processes)")
    choice = parser.parse_args()
    for number in range(choice.first, choice.count // SHARD, choice.every):
        if not (data_folder() / f"{choice.stream}-{number:05d}.done").exists():
            render_shard(choice.stream, number)
            print(f"shard {number} done", flush=True)


if __name__ == "__main__":
    main()
