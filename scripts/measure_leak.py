"""Measure the losses of DisLoRA: whether a concept is itself, and how much of it leaks into the plain class word.

Command: python scripts/measure_leak.py --identities 6 --train steps=150

Each row learns the same concepts with other losses. Leak: with the adapter on and a prompt that has the class word but
no identifier, how much more often the judge takes who is drawn for the concept than with the adapter off, prompt and
noise the same. Overlap: soft intersection over union of the attention maps of identifier and class word, mean over
all steps, as in eq. (4). Work is kept where scripts/measure_concepts.py keeps it; the same command goes on from there.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from concepts.plan import BASE, COMPOSED, LEAK, STREAMS, Shot, choose_concepts, plan_shots
from concepts.table import begin_run, change_settings, write_estimates
from measure_concepts import WORK, Bench, training_options, work

from d2plan.backbone.load import load_backbone
from d2plan.eval.judge import load_judge
from d2plan.eval.metrics import Estimate, estimate
from d2plan.media.images import write_file
from d2plan.workflows.shelf.inspect import inspect_attention

PLAIN = ("token_weight=0", "attention_weight=0")
LOSSES = {
    "eq. (1) alone, plain LoRA": PLAIN,
    "with L_token": ("attention_weight=0",),
    "with L_atten": ("token_weight=0",),
    "with both": (),
}
PRIOR, KEPT, FASTER = ("prior_weight=1",), ("plain_weight=1",), ("text_rate=1e-3",)
ROWS = {
    **LOSSES,
    **{f"{title}; plain word kept": (*changes, *KEPT) for title, changes in LOSSES.items()},
    "eq. (1) alone, plain LoRA; prior preservation": (*PLAIN, *PRIOR),
    "both; text rate times five": FASTER,
    "both; text rate times five; plain word kept": (*FASTER, *KEPT),
    "eq. (1) alone; text rate times five; plain word kept": (*PLAIN, *FASTER, *KEPT),
    "both; the template in the place of captions": ("use_captions=false",),
    "both; L_token as a mean": ("token_reduction=mean",),
    "both; L_atten of products": ("attention_overlap=product",),
    "both; identifier alone": ("joint_fraction=0",),
    "both; always with the class word": ("joint_fraction=1",),
}
COLUMNS = {
    "first": "first of 20",
    "near": "first among near",
    "far": "first among far",
    "attributes": "right attribute",
    "leak": "leak, first of 20",
    "leak far": "leak, first among far",
    "overlap": "overlap",
}


def measure_overlap(bench: Bench, shots: Sequence[Shot]) -> float:
    """Look where identifier and class word of a concept look, in one picture."""
    (concept,), path = shots[0].concepts, bench.adapter_path(shots[0].concepts[0])
    out = bench.folder / "looks" / f"{path.stem}.png"
    prompt = f"a photo of a {concept.identifier} {concept.class_word} {shots[0].place}"
    words = (concept.identifier, concept.class_word)
    looks = inspect_attention(prompt, out, words, bench.backbone, path, seed=shots[0].seed, overwrite=True)
    return looks[-1].overlap(*words)


def summarise(bench: Bench, plan: Sequence[Sequence[Shot]]) -> dict[str, Estimate]:
    """Average a row over its concepts' pictures, with 95 % intervals drawn over concepts."""
    values: dict[str, list[list[float]]] = {name: [] for name in COLUMNS}
    for shots in plan:
        itself, leaked, bare = (bench.read_scores(shots, method) for method in (COMPOSED, LEAK, BASE))
        for name, read in (("first", "rank"), ("near", "rank_near"), ("far", "rank_far")):
            values[name].append([float(getattr(one, read) == 1) for one in itself])
            if name == "near":
                continue
            gaps = [
                float(getattr(with_it, read) == 1) - float(getattr(without, read) == 1)
                for with_it, without in zip(leaked, bare, strict=True)
            ]
            values["leak" if name == "first" else "leak far"].append(gaps)
        values["attributes"].append([float(one.attributes) for one in itself if one.attributes is not None])
        values["overlap"].append([measure_overlap(bench, shots)])
    return {name: found for name, groups in values.items() if (found := estimate(groups)) is not None}


def main() -> None:
    """Measure all rows and print the table."""
    choice = read_arguments()
    backbone, judge = load_backbone("mini"), load_judge()
    defaults = backbone.defaults
    known = list(training_options(defaults.training()))
    training = change_settings(defaults.training(), choice.train, known)
    benches = {
        title: Bench(
            backbone, judge, choice.folder, change_settings(training, ROWS[title], known), defaults.composing()
        )
        for title in choice.rows
    }
    concepts = choose_concepts(choice.seeds, choice.identities, defaults.identifiers)
    plan = [plan_shots((concept,), choice.images) for concept in concepts]
    settings = {name: getattr(choice, name) for name in ("seeds", "identities", "images", "rows", "train")}
    said = f"{choice.identities} identities, {choice.images} images each"
    about = begin_run("measure_leak.py", next(iter(benches.values())).facts, settings, said)
    deadline = time.monotonic() + 60 * choice.time_limit
    rows: dict[str, dict[str, Estimate]] = {}
    for title, bench in benches.items():
        if not work(bench, plan, (COMPOSED, LEAK, BASE), deadline):
            print("The time is over; the same command goes on from here.")
            break
        rows[title] = summarise(bench, plan)
        print(write_estimates({title: rows[title]}, COLUMNS).splitlines()[-1], flush=True)
    out = choice.folder / f"leak-{choice.seeds}.json"
    table = {title: {name: asdict(value) for name, value in row.items()} for title, row in rows.items()}
    write_file(out, (json.dumps({**about, "table": table}, indent=2) + "\n").encode())
    print(f"\n{write_estimates(rows, COLUMNS)}\nnumbers in {out}")


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", choices=tuple(STREAMS), default="development")
    parser.add_argument("--identities", type=int, default=6, help="concepts, over all classes")
    parser.add_argument("--images", type=int, default=8, help="pictures of each concept, of each kind")
    parser.add_argument(
        "--rows", nargs="+", choices=tuple(ROWS), default=list(ROWS), metavar="TITLE", help="only these"
    )
    parser.add_argument("--train", nargs="*", default=[], metavar="NAME=VALUE", help="settings of all rows' training")
    parser.add_argument("--time-limit", type=float, default=float("inf"), help="minutes; nothing is begun after them")
    parser.add_argument("--folder", type=Path, default=WORK, help="where work is kept")
    return parser.parse_args()


if __name__ == "__main__":
    main()
