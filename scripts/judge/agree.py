"""Compare the judge with a person on generated pictures.

Command: python scripts/judge/agree.py --draw draws 100 pictures of held-out captions as numbered sheets, without their
captions. A person writes down what each shows (``labels.txt`` beside this file says how); then
python scripts/judge/agree.py prints how often the judge says the same. Who labels must not have seen the verdicts.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from data import WORK
from PIL import Image, ImageDraw

from d2plan.backbone.load import Backbone, load_backbone
from d2plan.documents import Scene
from d2plan.eval.judge import Seen, Verdict, load_judge
from d2plan.eval.metrics import estimate
from d2plan.eval.networks import HEADS, NONE
from d2plan.isp.loop import compose_many
from d2plan.isp.prepare import prepare_scene
from d2plan.world.caption import write_caption
from d2plan.world.scene import sample_scene
from d2plan.world.seeds import stream_rng

COUNT, _KEY, _SEED = 100, 23, 5000
LABELS = Path(__file__).with_name("labels.txt")
# Of each picture its place, and class, accessory, colour and action of its figures from left to right.
Labels = dict[int, tuple[str, list[tuple[str, ...]]]]
_ZOOM, _COLUMNS, _A_SHEET, _AT_ONCE = 2, 5, 20, 20


def captions(count: int = COUNT) -> Iterator[str]:
    """Draw held-out captions of one or two figures."""
    number = 0
    while count:
        rng = stream_rng("heldout", _KEY, number)
        number += 1
        scene = sample_scene(rng)
        if len(scene.figures) < 3:
            count -= 1
            yield write_caption(scene, rng).text


def draw(backbone: Backbone, count: int = COUNT) -> list[np.ndarray]:
    """Generate one picture of each caption with the base's own settings."""
    pictures: list[np.ndarray] = []
    prompts = list(captions(count))
    for start in range(0, count, _AT_ONCE):
        part = enumerate(prompts[start : start + _AT_ONCE], start)
        scenes = [prepare_scene(backbone, Scene(global_prompt=text, seed=_SEED + n), ()) for n, text in part]
        pictures += [one.image for one in compose_many(backbone, scenes)]
    return pictures


def write_sheets(pictures: Sequence[np.ndarray], folder: Path) -> None:
    """Write numbered sheets of twenty, each picture twice as large."""
    folder.mkdir(parents=True, exist_ok=True)
    side = pictures[0].shape[0] * _ZOOM
    for start in range(0, len(pictures), _A_SHEET):
        part = pictures[start : start + _A_SHEET]
        sheet = Image.new("RGB", (_COLUMNS * side, -(-len(part) // _COLUMNS) * (side + 14)), "white")
        pen = ImageDraw.Draw(sheet)
        for place, picture in enumerate(part):
            corner = place % _COLUMNS * side, place // _COLUMNS * (side + 14)
            pen.text(corner, str(start + place), "black")
            sheet.paste(
                Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC), (corner[0], corner[1] + 14)
            )
        sheet.save(folder / f"sheet-{start:03d}.png")


def describe(seen: Seen) -> tuple[str, ...]:
    """Give class, accessory, its colour and action of what the judge sees."""
    return seen.class_word, seen.accessory or NONE, seen.accessory_colour or NONE, seen.action


def read_labels(path: Path) -> tuple[str, Labels]:
    """Read the fingerprint of the base that drew the pictures, and what a person saw in each."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    labels: Labels = {}
    for line in lines[1:]:
        number, place, *figures = (part.strip() for part in line.split("|"))
        labels[int(number)] = place, [tuple(figure.split()) for figure in figures]
        for figure in labels[int(number)][1]:
            if any(word not in (*known, NONE, "?") for word, known in zip(figure, HEADS.values(), strict=True)):
                raise SystemExit(f"{path}: {line!r} has a word that the judge does not know.")
    return lines[0].removeprefix("base:").strip(), labels


def compare(verdicts: Sequence[Verdict], labels: Labels) -> dict[str, list[list[float]]]:
    """Say where judge and person agree: per question one list a picture; figures only where both see as many.

    What a person could not tell ("?") is left out, and so is the colour of what one of them does not see.
    """
    rows: dict[str, list[list[float]]] = {}
    for number, (place, figures) in labels.items():
        verdict = verdicts[number]
        if place != "?":
            rows.setdefault("place", []).append([float(verdict.place == place)])
        rows.setdefault("count", []).append([float(len(verdict.instances) == len(figures))])
        pairs = zip(verdict.instances, figures, strict=True) if rows["count"][-1][0] else ()
        for seen, figure in pairs:
            worn = NONE not in (seen.accessory or NONE, figure[1])
            for name, judge, person in zip(HEADS, describe(seen), figure, strict=True):
                if person != "?" and (worn or name != "accessory_colour"):
                    rows.setdefault(name, []).append([float(judge == person)])
    return rows


def main() -> None:
    """Draw, or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draw", action="store_true", help="draw the pictures to label")
    parser.add_argument("--labels", type=Path, default=LABELS)
    parser.add_argument("--folder", type=Path, default=WORK / "agree", help="where pictures lie")
    choice = parser.parse_args()
    torch.set_grad_enabled(False)
    backbone, kept = load_backbone("mini"), choice.folder / "pictures.npy"
    if choice.draw or not kept.exists():
        pictures = draw(backbone)
        write_sheets(pictures, choice.folder)
        np.save(kept, np.stack(pictures))
        print(f"base: {backbone.fingerprint}; sheets to label: {choice.folder}")
        return
    fingerprint, labels = read_labels(choice.labels)
    if fingerprint != backbone.fingerprint:
        raise SystemExit(f"{choice.labels} is of pictures by another base; draw them with --draw and label anew.")
    verdicts = load_judge().judge_many(list(np.load(kept)))
    print("| question | the judge says what the person says | 95 % interval | answers |\n|---|---|---|---|")
    everything = []
    for name, values in compare(verdicts, labels).items():
        one = estimate(values)
        everything += values
        print(f"| {name} | {100 * one.mean:.1f} % | {100 * one.low:.1f}-{100 * one.high:.1f} % | {one.count} |")
    whole = estimate(everything)
    print(f"| all | {100 * whole.mean:.1f} % | {100 * whole.low:.1f}-{100 * whole.high:.1f} % | {whole.count} |")


if __name__ == "__main__":
    main()
