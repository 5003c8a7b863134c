"""Measure films: how steady neighbouring frames are, and whether the characters stay themselves, by several ways.

Command: python scripts/measure_video.py --seeds test

Two characters of different classes, the adapters of scripts/measure_concepts.py, two beats: what one of them wears or
does changes. Keyframes are a series, as ``d2plan video`` makes them; between them d2plan's interpolator, the blend of
latents, or a plain cross-fade. Beside them each frame composed for itself with the prompts of the nearer beat and the
same seed, and the world's own films of moving figures. The encoder of "neighbours" is the embedded CLIP.
The last four columns are the paper's criteria as faults, by figure and frame (docs/metrics.md): a keyframe is judged by
its beat, a frame between by what both beats say.
Pictures and frames are kept in ~/.cache/d2plan/concepts, and the same command goes on from there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from concepts.plan import STREAMS, choose_concepts, choose_pairs, digest
from concepts.table import begin_run, write_estimates
from measure_concepts import WORK, Bench
from measure_series import ALONE, NOW, WAS, Case, draw, plan_cases

from d2plan.backbone.load import load_backbone
from d2plan.backbone.sdxl import decode_latents, encode_images
from d2plan.documents import InstanceScore
from d2plan.etp.interpolate import Frames, InterpolatorOptions, Segment, interpolate, open_interpolator
from d2plan.eval.encoders import ImageEncoder, open_clip
from d2plan.eval.films import expect_frames
from d2plan.eval.judge import load_judge
from d2plan.eval.metrics import Estimate, estimate
from d2plan.eval.score import expect_scene, score_verdict
from d2plan.eval.temporal import consistency_adjacent, cross_fade, frame_steps
from d2plan.media.images import read_image, write_file, write_png
from d2plan.world.clip import clip_frames, sample_clip
from d2plan.world.seeds import stream_rng

_KEY = 45  # of the world's films, beside the keys of concepts/plan.py and measure_series.py
SEINE, BLEND, FADE, SINGLY = "d2plan (seine)", "d2plan (blend)", "cross-fade", "each frame composed for itself"
WORLD = "the world's own films"
ROWS = {SEINE: "seine", BLEND: "blend", FADE: None, SINGLY: None}
COLUMNS = {
    "neighbours": "neighbours (CLIP)",
    "worst": "least like its neighbour (CLIP)",
    "jump": "largest step of a film, parts of the range",
    "first": "first of 20, by frame",
    "far": "first among far, by frame",
    "missing": "subject missing",
    "confused": "visual confusion",
    "worn": "attribute binding wrong",
    "done": "action binding wrong",
}


def film(bench: Bench, case: Case, row: str, count: int, folder: Path) -> Frames:
    """Make, or read, the frames of one film, ``[count h w 3]`` uint8."""
    runs = draw(bench, case, "all", folder)
    first, last, alone = (read_image(runs[name] / "image.png") for name in (WAS, NOW, ALONE))
    if row == SINGLY:
        # The same words and noise give the same picture, so each half of the film is one of two.
        return np.stack([first] * (count // 2) + [alone] * (count - count // 2))
    path = folder / "films" / f"{runs[WAS].parent.name}-{row.split()[-1].strip('()')}-{count}.npz"
    if path.is_file():
        return np.load(path)["frames"]
    if row == FADE:
        faded = cross_fade(first, last, count)
        frames = decode_latents(bench.backbone, encode_images(bench.backbone, faded))
    else:
        tool = open_interpolator(ROWS[row], InterpolatorOptions(base=bench.backbone))
        said = case.after.prompt("composed")
        frames = interpolate(tool, Segment(first, last, count, said, case.after.seed))
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, frames=frames)
    return frames


def measure(bench: Bench, case: Case, frames: Frames, encoder: ImageEncoder) -> dict[str, list[float]]:
    """Measure one film; numbers by name, one a film or one an instance and frame."""
    concepts = case.before.concepts
    names = [concept.name for concept in concepts]
    lineups = {concept.name: bench.line_up(concept) for concept in concepts}
    beats = [expect_scene(shot.scene(names), names) for shot in (case.before, case.after)]
    verdicts = bench.judge.judge_many(list(frames))
    pairs = zip(verdicts, expect_frames(beats, len(frames)), strict=True)
    scores = [score_verdict(verdict, expected, frames.shape[2], lineups) for verdict, expected in pairs]
    return measure_steps(frames, encoder) | count_faults([one for score in scores for one in score.instances])


def count_faults(found: Sequence[InstanceScore]) -> dict[str, list[float]]:
    """List what the judge says of each figure and frame; what nobody said or nobody can say is left out."""
    return {
        "first": [float(one.rank == 1) for one in found],
        "far": [float(one.rank_far == 1) for one in found],
        "missing": [float(not one.present) for one in found],
        "confused": [float(one.visual_confusion) for one in found if one.visual_confusion is not None],
        "worn": [float(one.attribute_misbinding) for one in found if one.attribute_misbinding is not None],
        "done": [float(one.action_misbinding) for one in found if one.action_misbinding is not None],
    }


def measure_steps(frames: Frames, encoder: ImageEncoder) -> dict[str, list[float]]:
    """Measure how a film goes on from frame to frame."""
    vectors = encoder.embed_images(list(frames))
    pairs = [consistency_adjacent(vectors[place : place + 2]) for place in range(len(vectors) - 1)]
    jump = float(frame_steps(frames).max()) / 255
    return {"neighbours": [consistency_adjacent(vectors)], "worst": [min(pairs)], "jump": [jump]}


def summarise(films: Sequence[dict[str, list[float]]]) -> dict[str, Estimate]:
    """Average films, with 95 % intervals drawn over them."""
    row = {name: estimate([one[name] for one in films]) for name in films[0]}
    return {name: value for name, value in row.items() if value is not None}


def main() -> None:
    """Measure all films and print the table."""
    choice = read_arguments()
    backbone, encoder = load_backbone("mini"), open_clip("mini-clip")
    defaults = backbone.defaults
    bench = Bench(backbone, load_judge(), choice.folder, defaults.training(), defaults.composing())
    settings = {name: getattr(choice, name) for name in ("seeds", "identities", "pairs", "frames")}
    said = f"{choice.identities} identities, {choice.pairs} films of {choice.frames} frames"
    about = begin_run("measure_video.py", {**bench.facts, "encoder": encoder.source}, settings, said)
    pairs = choose_pairs(choose_concepts(choice.seeds, choice.identities, defaults.identifiers), choice.pairs)
    folder = choice.folder / "series" / f"{backbone.fingerprint}-{bench.drawing_code}"
    films: dict[str, list[dict[str, list[float]]]] = {}
    for number, (case,) in enumerate(plan_cases(pairs, 1), 1):
        for row in ROWS:
            frames = film(bench, case, row, choice.frames, folder)
            films.setdefault(row, []).append(measure(bench, case, frames, encoder))
            strip = np.concatenate(list(frames[:: choice.frames // 8]), axis=1)
            write_png(folder / "films" / f"{number:02d}-{digest(row)[:4]}.png", strip)
        world = clip_frames(sample_clip(stream_rng("heldout", _KEY, number)), choice.frames, backbone.size[0])
        through = decode_latents(backbone, encode_images(backbone, world))
        films.setdefault(WORLD, []).append(measure_steps(through, encoder))
        print(f"{number} of {len(pairs)} films", flush=True)
    rows = {title: summarise(made) for title, made in films.items()}
    out = choice.folder / f"video-{choice.seeds}.json"
    table = {title: {name: asdict(value) for name, value in row.items()} for title, row in rows.items()}
    write_file(out, (json.dumps({**about, "table": table}, indent=2) + "\n").encode())
    print(f"{write_estimates(rows, COLUMNS)}\nnumbers in {out}; strips in {folder / 'films'}")


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", choices=tuple(STREAMS), default="development")
    parser.add_argument("--identities", type=int, default=20, help="concepts, over all classes")
    parser.add_argument("--pairs", type=int, default=20, help="pairs of different classes, a film each")
    parser.add_argument("--frames", type=int, default=16, help="of a film, both keyframes counted")
    parser.add_argument("--folder", type=Path, default=WORK, help="where work is kept")
    return parser.parse_args()


if __name__ == "__main__":
    main()
