"""What the judge learns from: scenes of its own stream with exact labels, and groups of look-alikes.

Command: python scripts/judge/data.py --scenes 10000 --groups 1200 (resumes; shards that are done are kept)
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from d2plan.eval.networks import HEADS, NONE, SIZE, WHOLE_HEADS
from d2plan.world.cast import CLASSES, SPECIES, near_identity, sample_identity
from d2plan.world.identity import Identity
from d2plan.world.scene import WorldScene, sample_scene
from d2plan.world.seeds import stream_rng
from d2plan.world.truth import render

WORK = Path(os.environ.get("D2PLAN_JUDGE_WORK", Path.home() / ".cache" / "d2plan" / "judge"))
SHARD = 500
MOST = 4
LEAST_PIXELS = 60
GROUP_SHARD = 50
IN_GROUP = 3
# Who stands in the six pictures of a group: each of the three alone, and each pair.
CASTS = ((0,), (1,), (2,), (0, 1), (1, 2), (2, 0))


@dataclass(frozen=True, eq=False)
class Scenes:
    """Labelled pictures.

    Attributes:
        images: ``[n h w 3]`` uint8.
        owners: ``[n h w]`` uint8, 0 or the number of the figure, from 1.
        labels: ``[n 4 4]`` int16 for each figure: class, accessory, accessory_colour, action; -1 where there is none.
        whole: ``[n 2]`` int16, place and light.
        identities: ``[n 4]`` int32, -1 in shards of scenes.
    """

    images: np.ndarray
    owners: np.ndarray
    labels: np.ndarray
    whole: np.ndarray
    identities: np.ndarray


def label_scene(scene: WorldScene) -> tuple[np.ndarray, np.ndarray]:
    """Give the labels of a scene's figures ``[4 4]`` and of the whole ``[2]``."""
    labels = np.full((MOST, len(HEADS)), -1, np.int16)
    for number, figure in enumerate(scene.figures):
        labels[number] = (
            HEADS["class"].index(figure.class_word),
            HEADS["accessory"].index(figure.accessory or NONE),
            HEADS["accessory_colour"].index(figure.accessory_colour) if figure.accessory_colour else -1,
            HEADS["action"].index(figure.action),
        )
    whole = (WHOLE_HEADS["place"].index(scene.place), WHOLE_HEADS["light"].index(scene.light))
    return labels, np.array(whole, np.int16)


def draw_scenes(scenes: Sequence[WorldScene], identities: np.ndarray) -> Scenes:
    """Render scenes with their labels; identities is ``[n 4]``."""
    count = len(scenes)
    images = np.zeros((count, SIZE, SIZE, 3), np.uint8)
    owners = np.zeros((count, SIZE, SIZE), np.uint8)
    labels = np.zeros((count, MOST, len(HEADS)), np.int16)
    whole = np.zeros((count, 2), np.int16)
    for place, scene in enumerate(scenes):
        truth = render(scene, SIZE)
        images[place] = truth.image
        for number, mask in enumerate(truth.masks):
            owners[place][mask > 0.5] = number + 1
        labels[place], whole[place] = label_scene(scene)
    return Scenes(images, owners, labels, whole, identities)


def _store(path: Path, scenes: Scenes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp.npz")
    np.savez(temporary, **vars(scenes))
    temporary.replace(path)


def draw_shard(stream: str, number: int, size: int = SHARD) -> Scenes:
    """Draw one shard of free scenes; size leaves out its end."""
    scenes = [sample_scene(stream_rng(stream, 0, number * SHARD + place)) for place in range(size)]
    return draw_scenes(scenes, np.full((size, MOST), -1, np.int32))


def group_identities(stream: str, number: int) -> tuple[Identity, ...]:
    """Give the three look-alikes of a group: one, and two that differ from it in one and in two factors."""
    rng = stream_rng(stream, 1, number)
    first = sample_identity(CLASSES[number % len(CLASSES)], rng)
    return first, near_identity(first, rng, 1), near_identity(first, rng, 2)


def draw_group_shard(stream: str, number: int, size: int = GROUP_SHARD) -> Scenes:
    """Draw one shard of groups: six pictures a group, three of them of one character, three of a pair."""
    scenes, identities = [], []
    for group in range(number * GROUP_SHARD, number * GROUP_SHARD + size):
        trio = group_identities(stream, group)
        for view, cast in enumerate(CASTS):
            scenes.append(sample_scene(stream_rng(stream, 2, group, view), [trio[place] for place in cast]))
            row = np.full(MOST, -1, np.int32)
            row[: len(cast)] = [group * IN_GROUP + place for place in cast]
            identities.append(row)
    return draw_scenes(scenes, np.stack(identities))


def factor_targets(identity: Identity) -> dict[str, np.ndarray]:
    """Turn an identity into numbers: colours 0..1 (three each), ranges 0..1, choices one-hot; by factor."""
    targets = {}
    for factor in SPECIES[identity.class_word].factors:
        value = identity.values[factor.name]
        if factor.kind == "choice":
            targets[factor.name] = np.array([float(value == option) for option in factor.options], np.float32)
        elif factor.kind == "range":
            targets[factor.name] = np.array([value], np.float32)
        else:
            targets[factor.name] = np.asarray(value, np.float32) / 255
    return targets


def _draw_job(job: tuple[str, str, int, int, Path]) -> str:
    kind, stream, number, size, path = job
    _store(path, (draw_shard if kind == "scenes" else draw_group_shard)(stream, number, size))
    return path.name


def make_shards(kind: str, stream: str, count: int, workers: int = 1) -> list[Path]:
    """Draw the shards that are missing, in so many processes; give all paths. A last, smaller one names its size."""
    whole = SHARD if kind == "scenes" else GROUP_SHARD
    jobs = []
    for number in range(-(-count // whole)):
        size = min(whole, count - number * whole)
        part = "" if size == whole else f"-{size}"
        jobs.append((kind, stream, number, size, WORK / "data" / f"{stream}-{kind}-{number:05d}{part}.npz"))
    missing = [job for job in jobs if not job[-1].exists()]
    if workers < 2 or len(missing) < 2:
        for job in missing:
            print(f"{_draw_job(job)} done", flush=True)
    else:
        with multiprocessing.get_context("fork").Pool(workers) as pool:
            for name in pool.imap_unordered(_draw_job, missing):
                print(f"{name} done", flush=True)
    return [job[-1] for job in jobs]


def load_shards(paths: Sequence[Path]) -> Scenes:
    """Read shards into memory."""
    parts = []
    for path in paths:
        with np.load(path) as content:
            parts.append(dict(content))
    return Scenes(**{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def main() -> None:
    """Render what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=10_000)
    parser.add_argument("--groups", type=int, default=1200)
    parser.add_argument("--heldout", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=1, help="processes")
    choice = parser.parse_args()
    make_shards("scenes", "heldout", choice.heldout, choice.workers)
    make_shards("scenes", "judge", choice.scenes, choice.workers)
    make_shards("groups", "judge", choice.groups, choice.workers)


if __name__ == "__main__":
    main()
