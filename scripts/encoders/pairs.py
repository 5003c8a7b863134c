"""Pictures in pairs, a scene and its twin: attributes exchanged between two figures, or one thing changed.

Command: python scripts/encoders/pairs.py --count 40000 [--workers 16] (resumes; shards that are done are kept)
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from captions import change_attribute, read_scenes, swap_attributes
from models import CLIP_SIZE, WORK
from PIL import Image
from stock import draw_as_asked, draw_missing, keep, shard_paths

from d2plan.world.cast import sample_identity
from d2plan.world.scene import WorldScene, sample_scene, scene_to_json
from d2plan.world.seeds import stream_rng
from d2plan.world.truth import render

MAP = 16
FIGURES = 4
ALONE_AGAIN = 2 / 3  # how often a scene of one figure is drawn anew
_SCENES = 42


def draw_pair(number: int, place: int) -> tuple[WorldScene, WorldScene]:
    """Draw a scene and its twin; they differ in who wears or does what, where two figures allow it."""
    rng = stream_rng("base", _SCENES, number, place)
    scene = sample_scene(rng)
    # Who wears what is a question only where there are two.
    while len(scene.figures) < 2 and rng.random() < ALONE_AGAIN:
        scene = sample_scene(rng)
    twin = swap_attributes(scene, rng)
    # Another place might not have this light.
    while twin is None or twin.place != scene.place:
        twin = change_attribute(scene, rng)
    # A figure that became one of another class needs a character.
    figures = [
        one if one.identity.values else replace(one, identity=sample_identity(one.class_word, rng))
        for one in twin.figures
    ]
    return scene, replace(twin, figures=tuple(figures))


def draw_shard(number: int, size: int, path: Path) -> None:
    """Render so many pairs: ``[n 2 128 128 3]`` uint8, whose each part is ``[n 2 4 16 16]``, and a line a scene."""
    images = np.zeros((size, 2, CLIP_SIZE, CLIP_SIZE, 3), np.uint8)
    masks = np.zeros((size, 2, FIGURES, MAP, MAP), np.uint8)
    lines = []
    for place in range(size):
        for side, scene in enumerate(draw_pair(number, place)):
            truth = render(scene, CLIP_SIZE)
            images[place, side] = truth.image
            for figure, mask in enumerate(truth.masks):
                small = Image.fromarray((mask * 255).astype(np.uint8), "L").reduce(CLIP_SIZE // MAP)
                masks[place, side, figure] = np.asarray(small)
            lines.append(json.dumps({"scene": scene_to_json(scene)}))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".jsonl").write_text("\n".join(lines))
    keep(path.with_suffix(".masks.npy"), masks)
    keep(path, images)  # last: where it is, the shard is whole


def make_pairs(count: int, folder: Path = WORK, workers: int = 1) -> list[Path]:
    """Draw what is missing; gives the files of the pictures."""
    return draw_missing(shard_paths(folder, "pairs", count), draw_shard, workers)


class Pairs:
    """The drawn pairs, read from disk when they are needed."""

    def __init__(self, paths: list[Path]) -> None:
        self.images = [np.load(path, mmap_mode="r") for path in paths]
        self.masks = [np.load(path.with_suffix(".masks.npy"), mmap_mode="r") for path in paths]
        self.scenes = [read_scenes(path.with_suffix(".jsonl")) for path in paths]
        self.where = [(shard, place) for shard, part in enumerate(self.images) for place in range(len(part))]

    def take(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[WorldScene]]:
        """Give pictures ``[2b 128 128 3]``, masks ``[2b 4 16 16]`` and scenes; a twin follows its scene."""
        places = [self.where[int(number)] for number in chosen]
        images = np.concatenate([self.images[shard][place] for shard, place in places])
        masks = np.concatenate([self.masks[shard][place] for shard, place in places])
        scenes = [one for shard, place in places for one in self.scenes[shard][2 * place : 2 * place + 2]]
        return images, masks, scenes


def main() -> None:
    """Draw what is missing."""
    draw_as_asked(__doc__, 40_000, make_pairs)


if __name__ == "__main__":
    main()
