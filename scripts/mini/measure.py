"""Measure the embedded base with the judge: the table of its model card.

Command: python scripts/mini/measure.py --captions 400 --seeds 2 (writes a JSON file and prints a Markdown table)
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from common import WORK
from PIL import Image

from d2plan.backbone.load import Backbone, load_backbone
from d2plan.backbone.sdxl import decode_latents, encode_images
from d2plan.documents import Scene, Score
from d2plan.eval.judge import Judge, load_judge
from d2plan.eval.score import expect_caption, score_verdict, summarise
from d2plan.isp.loop import compose_many
from d2plan.isp.prepare import prepare_scene
from d2plan.world.caption import Caption, write_caption
from d2plan.world.scene import WorldScene, sample_scene
from d2plan.world.seeds import stream_rng
from d2plan.world.truth import Truth, render

Case = tuple[str, WorldScene, Caption]
_AT_ONCE = 16


def kind_of(scene: WorldScene) -> str | None:
    """Name the row of the table that a scene belongs to."""
    words = [figure.class_word for figure in scene.figures]
    if len(words) > 2:
        return None
    return "one" if len(words) == 1 else "two alike" if words[0] == words[1] else "two"


def cases(count: int, part: int = 1) -> Iterator[Case]:
    """Draw held-out captions, half of one instance, 0.3 of two, 0.2 of two of one class; each part has others."""
    wanted = {"one": count // 2, "two": count * 3 // 10, "two alike": count - count // 2 - count * 3 // 10}
    number = 0
    while any(wanted.values()):
        rng = stream_rng("heldout", part, number)
        scene = sample_scene(rng)
        caption = write_caption(scene, rng)
        number += 1
        kind = kind_of(scene)
        if kind and wanted[kind]:
            wanted[kind] -= 1
            yield kind, scene, caption


def draw(backbone: Backbone, prompts: list[str], seed: int) -> np.ndarray:
    """Generate one image a prompt with the base's own settings."""
    scenes = [prepare_scene(backbone, Scene(global_prompt=text, seed=seed + i), ()) for i, text in enumerate(prompts)]
    return np.stack([one.image for one in compose_many(backbone, scenes)])


def measure_round_trip(backbone: Backbone, judge: Judge, count: int) -> dict[str, float]:
    """Measure the autoencoder on held-out renders: PSNR overall and inside instances, accessories still read right."""
    gaps, inside, right = [], [], []
    for number in range(count):
        rng = stream_rng("heldout", 2, number)
        scene = sample_scene(rng)
        truth: Truth = render(scene)
        back = decode_latents(backbone, encode_images(backbone, truth.image[None]))[0]
        gap = (back.astype(float) - truth.image) ** 2
        gaps.append(gap.mean())
        weight = truth.masks.sum(0)
        inside.append((gap.mean(-1) * weight).sum() / weight.sum())
        if len(scene.figures) < 3:
            score = score_verdict(judge.judge(back), expect_caption(scene, write_caption(scene, rng)), 128, {})
            right += [one.accessory for one in score.instances if one.accessory is not None]
    overall, within = (float(10 * np.log10(255**2 / np.mean(values))) for values in (gaps, inside))
    return {"psnr": overall, "psnr_inside": within, "accessory": float(np.mean(right)), "accessories": len(right)}


def measure(backbone: Backbone, judge: Judge, captions: int, seeds: int) -> dict[str, list[Score]]:
    """Generate and judge; scores by kind of scene."""
    chosen = list(cases(captions))
    scores: dict[str, list[Score]] = {"one": [], "two": [], "two alike": []}
    pictures = []
    for seed in range(seeds):
        for start in range(0, len(chosen), _AT_ONCE):
            part = chosen[start : start + _AT_ONCE]
            images = draw(backbone, [caption.text for _, _, caption in part], 1000 * seed + start)
            for (kind, scene, caption), image in zip(part, images, strict=True):
                verdict = judge.judge(image)
                scores[kind].append(score_verdict(verdict, expect_caption(scene, caption), 128, {}, caption.text))
            pictures += list(images) if seed == 0 and len(pictures) < 48 else []
            print(f"seed {seed}: {start + len(part)} of {len(chosen)}", flush=True)
    rows = [np.concatenate(pictures[start : start + 8], 1) for start in range(0, len(pictures) // 8 * 8, 8)]
    Image.fromarray(np.concatenate(rows)).save(WORK / "measured.png")
    return scores


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--captions", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--base", default="mini")
    parser.add_argument("--out", type=Path, default=WORK / "measured.json")
    choice = parser.parse_args()
    torch.set_grad_enabled(False)
    backbone, judge = load_backbone(choice.base), load_judge()
    result: dict[str, object] = {"autoencoder": measure_round_trip(backbone, judge, choice.captions)}
    began = time.perf_counter()
    draw(backbone, ["a photo of a man and a dog on the beach"], 7)
    result["seconds an image"] = time.perf_counter() - began
    for kind, scores in measure(backbone, judge, choice.captions, choice.seeds).items():
        table = summarise(scores)
        result[kind] = {name: vars(value) for name, value in table.items()}
        print(f"\n| {kind} ({len(scores)} images) | mean | 95 % interval |\n|---|---|---|")
        for name, value in table.items():
            print(f"| {name} | {100 * value.mean:.1f} % | {100 * value.low:.1f}-{100 * value.high:.1f} % |")
    choice.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result["autoencoder"]), f"{result['seconds an image']:.2f} s an image")


if __name__ == "__main__":
    main()
