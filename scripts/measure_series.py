"""Measure series: how much of a picture changes when one sub-prompt does, and whether the change is there.

Command: python scripts/measure_series.py --seeds test

Two characters of different classes, the adapters of scripts/measure_concepts.py; of one of them the sub-prompt changes.
Differences are those of the pixels outside the changed one, parts of the range: outside its mask, and outside what the
judge sees of it in either picture, widened by three pixels, which a column as a mask does not flatter. A change counts
as found when the judge sees it on the right one. Beside the series: the same words once more, and both pictures made on
their own with one seed. Runs are kept in ~/.cache/d2plan/concepts/series, and the same command goes on from there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from concepts.plan import STREAMS, Concept, Shot, choose_concepts, choose_pairs, digest, draw_deeds, plan_shots
from concepts.table import begin_run, write_estimates
from measure_concepts import WORK, Bench
from numpy.typing import NDArray
from torch.nn.functional import max_pool2d

from d2plan.backbone.load import load_backbone
from d2plan.documents import InstanceScore, Scene, Series, Variant
from d2plan.eval.judge import Judge, load_judge
from d2plan.eval.metrics import Estimate, estimate
from d2plan.eval.score import expect_scene, score_verdict
from d2plan.media.images import Picture, read_image, write_file, write_png
from d2plan.workflows.composing.compose import compose
from d2plan.workflows.composing.series import compose_series
from d2plan.world.seeds import stream_rng

_KEY = 44  # of the words that change, beside those of concepts/plan.py
WAS, SAME, NOW = "as it was", "the same words", "changed"
SERIES, ALONE, CONTROL = "series (weave: {})", "each on its own, one seed", "series, the same words again"
LARGEST = 0.5  # a figure that covers more leaves too little to keep
RIM = 3  # pixels around what the judge sees of a figure: its edges are no sharper
COLUMNS = {
    "outside": "outside the mask",
    "beyond": "outside the figure",
    "counted": "outside the figure, where the change is found and the figure small",
    "found": "change found",
    "kept": "the other one right",
    "present": "both present",
    "small": "figure under a half",
}


@dataclass(frozen=True)
class Case:
    """One change of one picture.

    Attributes:
        before: the picture.
        after: the same with another deed for one.
        who: which one.
    """

    before: Shot
    after: Shot
    who: int


@dataclass(frozen=True)
class Found:
    """What became of a case.

    Attributes:
        outside: mean absolute difference outside the changed one's mask, 0..1.
        beyond: the same outside its figure in either picture; None where the judge sees it in neither.
        area: of that figure, 0..1.
        found: the judge sees the change on the right one; None where nothing changed.
        kept: the other one still does what its sub-prompt says.
        present: both are seen.
    """

    outside: float
    beyond: float | None
    area: float
    found: bool | None
    kept: bool
    present: bool


def plan_cases(pairs: Sequence[Sequence[Concept]], count: int) -> list[list[Case]]:
    """Plan what changes: in each pair's pictures in turn the one or the other, what it wears or does."""
    return [[_change(shot) for shot in plan_shots(pair, count)] for pair in pairs]


def _change(shot: Shot) -> Case:
    rng, who = stream_rng("heldout", _KEY, shot.seed), shot.number % len(shot.concepts)
    words = [concept.class_word for concept in shot.concepts]
    new = next(deed for deed in iter(lambda: draw_deeds(words, rng)[who], None) if deed not in shot.deeds)
    deeds = tuple(new if place == who else deed for place, deed in enumerate(shot.deeds))
    return Case(shot, replace(shot, deeds=deeds), who)


def draw(bench: Bench, case: Case, weave: str, folder: Path) -> dict[str, Path]:
    """Make a case's pictures; give their run folders, those that stand alone under the names of the series' ones."""
    for concept in case.before.concepts:
        bench.learn(concept)
    paths = [str(bench.adapter_path(concept)) for concept in case.before.concepts]
    # The paper's ways find their masks as the paper does; ours as the base says.
    ways = {"weave": weave} if weave == "all" else {"weave": weave, "masks": "attention"}
    scenes = [shot.scene(paths).model_copy(update=ways) for shot in (case.before, case.after)]
    place = folder / f"{case.before.name}-{weave}-{digest(paths, [scene.model_dump() for scene in scenes])}"
    series = Series(**_fields(scenes[0]), variants=tuple(_variants(*scenes)))
    compose_series(series, place, backbone=bench.backbone)
    alone = folder / f"{place.name}-alone"
    if weave == "all" and not alone.is_dir():
        compose(scenes[1], alone, backbone=bench.backbone)
    return {**{name: place / name for name in (WAS, SAME, NOW)}, ALONE: alone}


def _variants(before: Scene, after: Scene) -> Iterator[Variant]:
    for name, scene in ((WAS, before), (SAME, before), (NOW, after)):
        yield Variant(name=name, sub_prompts=tuple(item.sub_prompt for item in scene.instances))


def _fields(scene: Scene) -> dict[str, object]:
    return {name: getattr(scene, name) for name in type(scene).model_fields if name != "variant_of"}


def compare(bench: Bench, case: Case, was: Path, now: Path) -> Found:
    """Compare two runs of a case."""
    names = [concept.name for concept in case.after.concepts]
    before, after = read_image(was / "image.png"), read_image(now / "image.png")
    mask = read_image(now / "masks" / f"{case.who:02d}.png")[..., 0] > 127
    gap = np.abs(before.astype(float) - after).mean(axis=-1) / 255
    figure = find_figure(bench.judge, (before, after), case.after.concepts[case.who].class_word)
    expected = expect_scene(case.after.scene(names), names)
    score = score_verdict(bench.judge.judge(after), expected, bench.backbone.size[1], {}, case.after.name)
    changed, other = score.instances[case.who], score.instances[1 - case.who]
    outside = float(gap[~mask].mean()) if not mask.all() else 0.0
    beyond = float(gap[~figure].mean()) if figure.any() and not figure.all() else None
    return Found(
        outside,
        beyond,
        float(figure.mean()),
        _is_right(changed),
        _is_right(other),
        all(one.present for one in score.instances),
    )


def find_figure(judge: Judge, images: Sequence[Picture], word: str) -> NDArray[np.bool_]:
    """Mark what the judge sees of a class in any of some pictures, with a rim."""
    seen = [one.mask for image in images for one in judge.judge(image).instances if one.class_word == word]
    marked = np.any(seen, axis=0) if seen else np.zeros(images[0].shape[:2], dtype=bool)
    wide = max_pool2d(torch.from_numpy(marked[None].astype(np.float32)), 2 * RIM + 1, 1, RIM)
    return wide[0].numpy() > 0


def _is_right(one: InstanceScore) -> bool:
    return bool(one.present and one.attributes)


def summarise(groups: Sequence[Sequence[Found]]) -> dict[str, Estimate]:
    """Average cases, with 95 % intervals drawn over pairs."""
    readers = {
        "outside": lambda one: one.outside,
        "beyond": lambda one: one.beyond,
        "counted": lambda one: one.beyond if one.found and one.area < LARGEST else None,
        "found": lambda one: one.found,
        "kept": lambda one: one.kept,
        "present": lambda one: one.present,
        "small": lambda one: one.area < LARGEST,
    }
    table = {}
    for name, read in readers.items():
        values = [[float(value) for one in group if (value := read(one)) is not None] for group in groups]
        if (found := estimate(values)) is not None:
            table[name] = found
    return table


def main() -> None:
    """Measure all cases and print the table."""
    choice = read_arguments()
    backbone, judge = load_backbone("mini"), load_judge()
    defaults = backbone.defaults
    bench = Bench(backbone, judge, choice.folder, defaults.training(), defaults.composing())
    concepts = choose_concepts(choice.seeds, choice.identities, defaults.identifiers)
    cases = plan_cases(choose_pairs(concepts, choice.pairs), choice.images)
    settings = {name: getattr(choice, name) for name in ("seeds", "identities", "pairs", "images", "weave")}
    said = f"{choice.identities} identities, {choice.pairs} pairs, {choice.images} changes each"
    about = begin_run("measure_series.py", bench.facts, settings, said)
    folder = choice.folder / "series" / f"{backbone.fingerprint}-{bench.drawing_code}"
    found: dict[str, list[list[Found]]] = {}
    shown: list[Picture] = []
    for group in cases:
        for weave in choice.weave:
            runs = [draw(bench, case, weave, folder) for case in group]
            pairs = {SERIES.format(weave): (WAS, NOW)}
            pairs |= {ALONE: (WAS, ALONE), CONTROL: (WAS, SAME)} if weave == "all" else {}
            for title, (was, now) in pairs.items():
                row = [compare(bench, case, run[was], run[now]) for case, run in zip(group, runs, strict=True)]
                row = [replace(one, found=None) for one in row] if title == CONTROL else row
                found.setdefault(title, []).append(row)
            shown += [np.concatenate([read_image(runs[0][name] / "image.png") for name in (WAS, NOW)], axis=1)]
        print(f"{len(found[SERIES.format(choice.weave[0])])} of {len(cases)} pairs", flush=True)
    rows = {title: summarise(groups) for title, groups in found.items()}
    out = choice.folder / f"series-{choice.seeds}.json"
    content = {**about, "table": {t: {n: asdict(v) for n, v in row.items()} for t, row in rows.items()}}
    write_file(out, (json.dumps(content, indent=2) + "\n").encode())
    across = len(choice.weave)
    lines = [np.concatenate(shown[place : place + across], axis=1) for place in range(0, len(shown), across)]
    write_png(out.with_suffix(".png"), np.concatenate(lines))
    print(f"{write_estimates(rows, COLUMNS)}\nnumbers in {out}")


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", choices=tuple(STREAMS), default="development")
    parser.add_argument("--identities", type=int, default=20, help="concepts, over all classes")
    parser.add_argument("--pairs", type=int, default=20, help="pairs of different classes")
    parser.add_argument("--images", type=int, default=2, help="changes of each pair")
    parser.add_argument("--weave", nargs="+", choices=("all", "subs", "none"), default=["all", "subs", "none"])
    parser.add_argument("--folder", type=Path, default=WORK, help="where work is kept")
    return parser.parse_args()


if __name__ == "__main__":
    main()
