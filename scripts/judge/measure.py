"""Measure the judge on held-out renders, whose truth is known, and on negative controls.

Command: python scripts/judge/measure.py --scenes 400 --identities 33 [--card] (the card goes beside the weights)
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from augment import add_noise, blur, from_bytes, load_vae, round_trip, to_bytes
from data import LEAST_PIXELS, WORK
from train import ASSETS

from d2plan.eval.judge import Judge, Seen, Verdict, load_judge
from d2plan.eval.lineup import VIEWS, build_lineup
from d2plan.eval.metrics import Estimate, estimate
from d2plan.eval.score import Expectation, Lineup, expect_caption, rank_identity, score_verdict, summarise
from d2plan.world.caption import write_caption
from d2plan.world.cast import CLASSES, sample_identity
from d2plan.world.scene import WorldScene, sample_scene
from d2plan.world.seeds import stream_rng
from d2plan.world.truth import Truth, render

Table = dict[str, Estimate]
Change = Callable[[np.ndarray], np.ndarray]
_SCENES, _CAPTIONS, _WHO = 20, 21, 22


@dataclass(frozen=True, eq=False)
class Suspect:
    """A character in its line-up, with pictures ``[n h w 3]`` of it and of a stranger of its class."""

    class_word: str
    lineup: Lineup
    own: np.ndarray
    foreign: np.ndarray


def match_truth(truth: Truth, verdict: Verdict) -> list[Seen | None]:
    """Give each true instance the seen one that covers it best (at least a third in union)."""
    found: list[Seen | None] = []
    for mask in truth.masks > 0.5:
        overlaps = [((mask & s.mask).sum() / max((mask | s.mask).sum(), 1), n) for n, s in enumerate(verdict.instances)]
        best = max(overlaps, default=(0.0, 0))
        found.append(verdict.instances[best[1]] if best[0] > 1 / 3 else None)
    return found


def measure_reading(judge: Judge, scenes: Sequence[WorldScene], truths: Sequence[Truth], images: np.ndarray) -> Table:
    """Compare verdicts with the truth, head by head; instances of fewer than 60 pixels do not count."""
    rows: dict[str, list[list[float]]] = {}
    for scene, truth, verdict in zip(scenes, truths, judge.judge_many(list(images)), strict=True):
        here: dict[str, list[float]] = {"place": [verdict.place == scene.place]}
        here["light"] = [verdict.light == scene.light]
        big = [n for n, mask in enumerate(truth.masks) if (mask > 0.5).sum() >= LEAST_PIXELS]
        here["count"] = [verdict.count == len(big)]
        absent = [word for word in CLASSES if word not in {figure.class_word for figure in scene.figures}]
        here["absent class called present"] = [word in {s.class_word for s in verdict.instances} for word in absent]
        for number, seen in enumerate(match_truth(truth, verdict)):
            if number not in big:
                continue
            figure = scene.figures[number]
            here.setdefault("instance found", []).append(seen is not None)
            if seen is None:
                continue
            mask = truth.masks[number] > 0.5
            likeness = (mask & seen.mask).sum() / (mask | seen.mask).sum()
            here.setdefault("mask, intersection over union", []).append(likeness)
            here.setdefault("class", []).append(seen.class_word == figure.class_word)
            here.setdefault("accessory", []).append(seen.accessory == figure.accessory)
            if figure.accessory and seen.accessory == figure.accessory:
                here.setdefault("accessory colour", []).append(seen.accessory_colour == figure.accessory_colour)
            here.setdefault("action", []).append(seen.action == figure.action)
        for name, values in here.items():
            rows.setdefault(name, []).append([float(value) for value in values])
    return {name: value for name, groups in rows.items() if (value := estimate(groups)) is not None}


def draw_suspects(judge: Judge, count: int) -> list[Suspect]:
    """Draw characters with their line-ups of 20 (exact look-alikes), and new pictures of them and of a stranger."""
    suspects = []
    for number in range(count):
        rng = stream_rng("heldout", _WHO, number)
        word = CLASSES[number % len(CLASSES)]
        identity, stranger = sample_identity(word, rng), sample_identity(word, rng)
        references = [render(sample_scene(rng, [identity])).image for _ in range(3 * VIEWS)]
        lineup = build_lineup(judge, word, references, identity, seed=number)
        own, foreign = (
            np.stack([render(sample_scene(rng, [who])).image for _ in range(6)]) for who in (identity, stranger)
        )
        suspects.append(Suspect(word, lineup, own, foreign))
    return suspects


def measure_identity(judge: Judge, suspects: Sequence[Suspect], change: Change, strangers: bool = False) -> Table:
    """Rank each character in its line-up by new pictures of it; with strangers, by pictures of somebody else."""
    rows: dict[str, list[list[float]]] = {}
    for suspect in suspects:
        here: dict[str, list[float]] = {}
        for verdict in judge.judge_many(list(change(suspect.foreign if strangers else suspect.own))):
            alike = [seen for seen in verdict.instances if seen.class_word == suspect.class_word]
            found = rank_identity(max(alike, key=lambda seen: int(seen.mask.sum()), default=None), suspect.lineup)
            here.setdefault("similarity", []).append(found["similarity"] or 0.0)
            here.setdefault("first of 20", []).append(found["rank"] == 1)
            here.setdefault("first among 10 near", []).append(found["rank_near"] == 1)
            here.setdefault("first among 9 far", []).append(found["rank_far"] == 1)
            here.setdefault("mean rank of 20", []).append(found["rank"] or 20)
        for name, values in here.items():
            rows.setdefault(name, []).append([float(value) for value in values])
    return {name: value for name, groups in rows.items() if (value := estimate(groups)) is not None}


def measure_binding(judge: Judge, count: int, swap: bool) -> Table:
    """Score renders of two instances of different classes against their captions, right or with phrases exchanged."""
    scores = []
    number = 0
    while len(scores) < count:
        rng = stream_rng("heldout", _CAPTIONS, number)
        number += 1
        scene = sample_scene(rng)
        if len(scene.figures) != 2 or len({figure.class_word for figure in scene.figures}) != 2:
            continue
        wanted = expect_caption(scene, write_caption(scene, rng))
        first, second = wanted.instances
        if first.accessory == second.accessory and first.action == second.action:
            continue
        if swap:
            traded = [
                type(one)(one.class_word, other.accessory, other.accessory_colour, other.action)
                for one, other in ((first, second), (second, first))
            ]
            wanted = Expectation(tuple(traded), wanted.place, wanted.light)
        image = render(scene).image
        scores.append(score_verdict(judge.judge(image), wanted, image.shape[1], {}))
    kept = ("attributes on the right one", "swapped")
    return {name: value for name, value in summarise(scores).items() if name in kept}


def changes() -> dict[str, Change]:
    """Name what is done to the pictures."""
    ways: dict[str, Change] = {
        "clean": lambda images: images,
        "blur of 0.8 px": lambda images: to_bytes(blur(from_bytes(images), 0.8)),
        "noise of 4 %": lambda images: to_bytes(add_noise(from_bytes(images), 0.08, torch.Generator().manual_seed(0))),
    }
    vae = load_vae()
    if vae is not None:
        ways["VAE round trip"] = lambda images: round_trip(vae, images)
        ways["VAE round trip, blur of 0.8 px"] = lambda images: to_bytes(blur(from_bytes(round_trip(vae, images)), 0.8))
    return ways


def measure_all(judge: Judge, count: int, identities: int) -> dict[str, Table]:
    """Measure everything."""
    scenes = [sample_scene(stream_rng("heldout", _SCENES, number)) for number in range(count)]
    truths = [render(scene) for scene in scenes]
    images = np.stack([truth.image for truth in truths])
    tables: dict[str, Table] = {}
    suspects = draw_suspects(judge, identities)
    for name, change in changes().items():
        tables[f"Reading, {name}"] = measure_reading(judge, scenes, truths, change(images))
        show(tables, f"Reading, {name}")
        if "," not in name:
            tables[f"Identity, {name}"] = measure_identity(judge, suspects, change)
            show(tables, f"Identity, {name}")
    tables["Control, references of somebody else"] = measure_identity(judge, suspects, lambda images: images, True)
    tables["Binding, right captions"] = measure_binding(judge, count // 4, False)
    tables["Control, swapped captions"] = measure_binding(judge, count // 4, True)
    for name in list(tables)[-3:]:
        show(tables, name)
    return tables


def show(tables: dict[str, Table], name: str) -> None:
    """Print one table."""
    print(f"\n{name}")
    for key, value in tables[name].items():
        print(f"  {key:32s} {value.mean:.4f}  {value.low:.4f} .. {value.high:.4f}  n {value.count}", flush=True)


def main() -> None:
    """Measure, print, and write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=400)
    parser.add_argument("--identities", type=int, default=33)
    choice = parser.parse_args()
    torch.set_num_threads(1)
    tables = measure_all(load_judge(ASSETS), choice.scenes, choice.identities)
    content = {name: {key: vars(value) for key, value in table.items()} for name, table in tables.items()}
    (WORK / "measured.json").write_text(json.dumps(content, indent=2))


if __name__ == "__main__":
    main()
