"""Measure interpolators on held-out clips of the world, whose frames in between are known.

Command: python scripts/seine/measure.py --clips 100 [--methods seine blend fade] (resumes; prints a Markdown table)

Raw output of each method: nothing is copied in. "vae" is the true clip through the VAE, the best that any can reach.
Clips where nothing moves from its place (what somebody wears changes) are counted apart from those with motion.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from clips_data import KEY, SIZE, WORK, save_atomically
from PIL import Image

from d2plan.backbone.load import Backbone, load_backbone
from d2plan.backbone.sdxl import decode_latents, encode_images
from d2plan.errors import InputError
from d2plan.etp.interpolate import InterpolatorOptions, Segment, interpolate, open_interpolator
from d2plan.eval.judge import Judge, load_judge
from d2plan.eval.lineup import build_lineup
from d2plan.eval.score import Expectation, Expected, Lineup, score_verdict
from d2plan.eval.temporal import (
    consistency_adjacent,
    cross_fade,
    frame_steps,
    jump_rate,
    kept_psnr,
    masked_error,
    moving_area,
    psnr,
)
from d2plan.world.clip import Clip, sample_clip, scene_between
from d2plan.world.scene import sample_scene
from d2plan.world.seeds import stream_rng
from d2plan.world.truth import render

METHODS = ("vae", "fade", "blend", "seine")
COUNT = 16
_REFERENCES = 8
_STRIPS = 3
_MEANS = ("identities", "among_others", "kept", "psnr", "consistency")


@dataclass(frozen=True, eq=False)
class Case:
    """A held-out clip with its truth.

    Attributes:
        index: of the clip in the stream.
        clip: what happens.
        frames: the true ones, ``[f, h, w, 3]``.
        area: where somebody who changes is at any time, ``[h, w]``.
        moves: somebody changes the place, or what he does.
    """

    index: int
    clip: Clip
    frames: np.ndarray
    area: np.ndarray
    moves: bool


def draw_case(index: int, count: int = COUNT, size: int = SIZE) -> Case:
    """Draw a held-out clip with its truth."""
    clip = sample_clip(stream_rng("heldout", KEY, index))
    truths = [render(scene_between(clip, place / (count - 1)), size) for place in range(count)]
    masks = np.stack([truth.masks > 0.5 for truth in truths])
    before, after = clip.start.figures[0], clip.end.figures[0]
    moves = (before.x, before.action) != (after.x, after.action)
    return Case(index, clip, np.stack([truth.image for truth in truths]), moving_area(masks), moves)


def make_frames(method: str, base: Backbone, case: Case, options: InterpolatorOptions) -> np.ndarray:
    """Make a clip's frames by one method from its true first and last frame."""
    if method == "vae":
        return decode_latents(base, encode_images(base, case.frames))
    segment = Segment(case.frames[0], case.frames[-1], len(case.frames), case.clip.caption_end.text, case.index)
    if method == "fade":
        # Through the VAE, as all methods are: its blur is no method's fault.
        faded = cross_fade(segment.first, segment.last, segment.frames)
        return decode_latents(base, encode_images(base, faded))
    return interpolate(open_interpolator(method, options), segment)


def measure_clip(case: Case, frames: np.ndarray, judge: Judge, lineups: Sequence[Lineup]) -> dict[str, object]:
    """Measure one method's frames of one clip.

    Args:
        case: the truth.
        frames: what the method made.
        judge: who looks.
        lineups: who each figure is compared with.

    Returns:
        Numbers by name; "identities" is the share of frames in which every figure is the first of its 20,
        "among_others" of itself and the nine that are not made to look like it.
    """
    names = [str(number) for number in range(len(lineups))]
    wanted = tuple(
        Expected(figure.class_word, concept=name) for figure, name in zip(case.clip.start.figures, names, strict=True)
    )
    by_name = dict(zip(names, lineups, strict=True))
    verdicts = judge.judge_many(list(frames))
    scores = [score_verdict(verdict, Expectation(wanted), frames.shape[2], by_name) for verdict in verdicts]
    right = [all(one.rank == 1 for one in score.instances) for score in scores]
    among_others = [all(one.rank_far == 1 for one in score.instances) for score in scores]
    pixels = frames[:, ::4, ::4].reshape(len(frames), -1).astype(np.float64) - 127.5
    first, last = kept_psnr(frames, case.frames[0], case.frames[-1])
    return {
        "error": masked_error(frames, case.frames, case.area) if case.area.any() else None,
        "identities": float(np.mean(right)),
        "among_others": float(np.mean(among_others)),
        "jump": float(frame_steps(frames).max()),
        "kept": min(first, last),
        "psnr": psnr(frames, case.frames),
        "consistency": consistency_adjacent(pixels),
        "moves": case.moves,
    }


def find_lineups(judge: Judge, case: Case) -> list[Lineup]:
    """Put each figure of a clip into a line-up, described by fresh pictures of it."""
    lineups = []
    for number, figure in enumerate(case.clip.start.figures):
        rng = stream_rng("heldout", KEY, case.index, number + 1)
        views = [render(sample_scene(rng, [figure.identity])).image for _ in range(_REFERENCES)]
        lineups.append(build_lineup(judge, figure.class_word, views, figure.identity, case.index))
    return lineups


def summarise(rows: Sequence[dict[str, object]], true_jumps: Sequence[float]) -> dict[str, float]:
    """Give one method's numbers over clips."""
    known = [float(str(row["error"])) for row in rows if row["error"] is not None]
    mean = {name: float(np.mean([float(str(row[name])) for row in rows])) for name in _MEANS}
    jumps = np.array([float(str(row["jump"])) for row in rows])
    return {
        "clips": len(rows),
        "error": float(np.sqrt(np.mean(np.square(known)))) if known else float("nan"),
        **mean,
        "jumps": jump_rate(jumps, np.array(true_jumps)),
    }


def write_table(results: dict[str, dict[str, dict[str, object]]], methods: Sequence[str]) -> str:
    """Write the table: clips with motion first, then those without."""
    lines = [
        "| clips | method | error inside | first of 20 | of the 10 unlike | jumping | ends kept, dB | PSNR, dB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for moves, called in ((True, "with motion"), (False, "without")):
        true_jumps = [float(str(row["true"]["jump"])) for row in results.values() if row["true"]["moves"] == moves]
        for method in methods:
            rows = [row[method] for row in results.values() if method in row and row[method]["moves"] == moves]
            if rows and true_jumps:
                found = summarise(rows, true_jumps)
                lines.append(
                    f"| {called}, {len(rows)} | {method} | {found['error']:.1f} | {found['identities']:.1%} | "
                    f"{found['among_others']:.1%} | {found['jumps']:.1%} | {found['kept']:.1f} | {found['psnr']:.1f} |"
                )
    return "\n".join(lines)


def main() -> None:
    """Measure what is not measured yet, write it, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--base", default="mini")
    parser.add_argument("--weights", type=Path, help="a folder of weights that is not the embedded one")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--out", default="measure", help="name of the results in the work folder")
    choice = parser.parse_args()
    base, judge = load_backbone(choice.base, choice.device), load_judge(device=choice.device)
    options = InterpolatorOptions(base=base, weights=choice.weights, device=choice.device)
    target = choice.work / f"{choice.out}.json"
    results: dict[str, dict[str, dict[str, object]]] = json.loads(target.read_text()) if target.exists() else {}
    for index in range(choice.clips):
        row = results.setdefault(str(index), {})
        missing = [method for method in ("true", *choice.methods) if method not in row]
        if not missing:
            continue
        case = draw_case(index)
        try:
            lineups = find_lineups(judge, case)
        except InputError as error:
            print(f"clip {index} is left out: {error}", flush=True)
            del results[str(index)]
            continue
        made = {m: case.frames if m == "true" else make_frames(m, base, case, options) for m in missing}
        row.update({method: measure_clip(case, frames, judge, lineups) for method, frames in made.items()})
        save_atomically(lambda file: file.write(json.dumps(results).encode()), target)
        if index < _STRIPS:
            strips = np.concatenate([np.concatenate(list(frames[:: COUNT // 8]), 1) for frames in made.values()])
            Image.fromarray(strips).save(choice.work / f"{choice.out}-{index}.png")
    table = write_table(results, ("true", *choice.methods))
    save_atomically(lambda file: file.write(table.encode()), target.with_suffix(".md"))
    print(table, flush=True)


if __name__ == "__main__":
    main()
