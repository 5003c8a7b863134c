"""Measure the embedded CLIP and ViT on held-out renders, and write their cards.

Command: python scripts/encoders/measure.py [--pools 4] [--triplets 600] [--only clip|vit] [--card]
"""

from __future__ import annotations

import argparse
import datetime
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from captions import Claims, caption_claims, swap_attributes
from card import write_card
from models import ASSETS

from d2plan.eval.crops import box_around, cut_square
from d2plan.eval.encoders import ImageEncoder, TextEncoder, open_clip, open_encoder
from d2plan.eval.metrics import Estimate, estimate
from d2plan.world.caption import write_caption
from d2plan.world.cast import CLASSES, near_identity, sample_identity
from d2plan.world.identity import Identity
from d2plan.world.scene import WorldScene, sample_scene
from d2plan.world.seeds import stream_rng
from d2plan.world.truth import Truth, render

HALF_POOL = 50
LEAST_PIXELS = 60
_SCENES, _WHO = 50, 51
_WHITE = 255

Table = dict[str, Estimate]


@dataclass(frozen=True, eq=False)
class Pool:
    """A hundred pictures and their captions, each caption false of all other pictures.

    Attributes:
        scenes: the second half are the first with attributes exchanged between two figures.
        captions: one a scene.
        claims: what each of them says.
    """

    scenes: list[WorldScene]
    captions: list[str]
    claims: list[Claims]


def contradict(first: Claims, second: Claims) -> bool:
    """Say whether two captions cannot both be true of one scene."""
    return bool((first.yes & ~second.yes & ~second.open).any() or (second.yes & ~first.yes & ~first.open).any())


def draw_pool(number: int) -> Pool:
    """Draw a pool of mutually exclusive captions, half of them with exchanged attributes; scenes as the world draws."""
    scenes, twins, captions, swapped, claims, others = [], [], [], [], [], []
    place = 0
    while len(scenes) < HALF_POOL:
        rng = stream_rng("heldout", _SCENES, number, place)
        place += 1
        scene = sample_scene(rng)
        # A figure that hardly shows cannot be known by anybody.
        if len({figure.class_word for figure in scene.figures}) < 2 or not all_seen(render(scene)):
            continue
        twin = swap_attributes(scene, rng)
        if twin is None:
            continue
        form = int(rng.integers(2**31))
        both = [write_caption(one, np.random.default_rng(form)) for one in (scene, twin)]
        said = [caption_claims(one, caption) for one, caption in zip((scene, twin), both, strict=True)]
        if not contradict(*said) or not all(contradict(one, other) for one in said for other in (*claims, *others)):
            continue
        claims.append(said[0])
        others.append(said[1])
        scenes.append(scene)
        twins.append(twin)
        captions.append(both[0].text)
        swapped.append(both[1].text)
    return Pool(scenes + twins, captions + swapped, claims + others)


def all_seen(truth: Truth) -> bool:
    """Say whether each figure shows at least 60 pixels."""
    return bool(((truth.masks > 0.5).sum((1, 2)) >= LEAST_PIXELS).all())


def measure_clip(encoder: TextEncoder, pools: int) -> Table:
    """Let pictures find their captions among a hundred, and captions their pictures."""
    rows: dict[str, list[list[float]]] = {}
    for number in range(pools):
        pool = draw_pool(number)
        images = encoder.embed_images([render(scene).image for scene in pool.scenes])
        cosines = images @ encoder.embed_texts(pool.captions).T
        own = np.arange(len(cosines))
        twin = (own + HALF_POOL) % len(own)
        found = {
            "caption of the picture, first of 100": cosines.argmax(1) == own,
            "picture of the caption, first of 100": cosines.argmax(0) == own,
            "above its own caption with exchanged attributes": cosines[own, own] > cosines[own, twin],
            "first when the exchanged one is left out": cosines.argmax(1) % HALF_POOL == own % HALF_POOL,
        }
        for name, values in found.items():
            # A scene and its twin share almost everything: they are one group of the bootstrap.
            for place in range(HALF_POOL):
                rows.setdefault(name, []).append([float(values[place]), float(values[place + HALF_POOL])])
    return {name: value for name, groups in rows.items() if (value := estimate(groups)) is not None}


def draw_triplet(number: int) -> tuple[str, list[WorldScene]]:
    """Draw a character in two places, and another of its class in a third picture.

    Returns:
        How the other differs ("1 factor", "2 factors" or "far"), and the scenes: anchor, same, other.
    """
    rng = stream_rng("heldout", _WHO, number)
    who = sample_identity(CLASSES[number % len(CLASSES)], rng)
    kind = ("1 factor", "2 factors", "far", "far")[(number // len(CLASSES)) % 4]
    other = sample_identity(who.class_word, rng) if kind == "far" else near_identity(who, rng, int(kind[0]))
    anchor = sample_scene(rng, [who])
    return kind, [anchor, _elsewhere(who, anchor, rng), sample_scene(rng, [other])]


def _elsewhere(who: Identity, anchor: WorldScene, rng: np.random.Generator) -> WorldScene:
    scene = sample_scene(rng, [who])
    while scene.place == anchor.place:
        scene = sample_scene(rng, [who])
    return scene


def cut_figure(truth: Truth, hidden: bool) -> np.ndarray:
    """Cut the only figure out as the metrics do, or with all that is not itself turned white."""
    mask, box = truth.masks[0], box_around(truth.masks[0])
    assert box is not None, "a single figure is always seen"
    image = truth.image
    if hidden:
        share = mask[..., None]
        image = (image * share + _WHITE * (1 - share)).round().astype(np.uint8)
    return cut_square(image, box)


def measure_vit(encoder: ImageEncoder, triplets: int) -> Table:
    """Let the encoder say which of two pictures shows the anchor's character."""
    rows: dict[str, list[list[float]]] = {}
    drawn = [draw_triplet(number) for number in range(triplets)]
    truths = [[render(scene) for scene in scenes] for _, scenes in drawn]
    for hidden in (False, True):
        cuts = [cut_figure(truth, hidden) for three in truths for truth in three]
        anchor, same, other = np.moveaxis(encoder.embed_images(cuts).reshape(triplets, 3, -1), 1, 0)
        stranger = np.roll(same, len(CLASSES), axis=0)
        way = "background hidden" if hidden else "in its box"
        right = (anchor * same).sum(1) > (anchor * other).sum(1)
        chance = (anchor * stranger).sum(1) > (anchor * other).sum(1)
        for number, (kind, _) in enumerate(drawn):
            for name in ("all", kind):
                rows.setdefault(f"same above other, {way}: {name}", []).append([float(right[number])])
            if kind == "far":
                rows.setdefault(f"control, {way}: a stranger above another", []).append([float(chance[number])])
    return {name: value for name, groups in rows.items() if (value := estimate(groups)) is not None}


def show(table: Table) -> str:
    """Give a Markdown table."""
    lines = ["| what | mean | 95 % interval | values |", "| --- | --- | --- | --- |"]
    for name in sorted(table):
        one = table[name]
        lines.append(f"| {name} | {one.mean:.3f} | {one.low:.3f} .. {one.high:.3f} | {one.count} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print; with ``--card`` write the cards too."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pools", type=int, default=4)
    parser.add_argument("--triplets", type=int, default=616)
    parser.add_argument("--only", choices=("clip", "vit"))
    parser.add_argument("--card", action="store_true", help="write the cards beside the weights")
    parser.add_argument("--assets", type=Path, default=ASSETS, help="folder with clip and vit")
    parser.add_argument("--machine", default="one core of an AMD EPYC (Zen 5)")
    parser.add_argument("--date", default=datetime.date.today().isoformat())
    choice = parser.parse_args()
    for name in ("clip", "vit"):
        folder = choice.assets / name
        if choice.only not in (None, name) or not (folder / "config.json").exists():
            continue
        if name == "clip":
            table = measure_clip(open_clip(f"clip:{folder}"), choice.pools)
            command = f"python scripts/encoders/measure.py --only clip --pools {choice.pools}"
        else:
            table = measure_vit(open_encoder(f"dino:{folder}"), choice.triplets)
            command = f"python scripts/encoders/measure.py --only vit --triplets {choice.triplets}"
        print(f"{name}\n{show(table)}", flush=True)
        if choice.card:
            write_card(name, folder, table, f"`{command}`, {choice.machine}, {choice.date}")
            print(json.dumps({"card": str(folder)}), flush=True)


if __name__ == "__main__":
    main()
