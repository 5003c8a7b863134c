"""Measure the composition: with and without its parts, beside other ways to use several LoRAs, on the same pictures.

Command: python scripts/measure_isp.py --seeds test --time-limit 60

Two different classes by every row, two of one class and three different ones by the rows that compete. Rows that draw
only the last steps over finished pictures show how much of a character is lost where its layout is true.
Adapters, pictures and scores are kept where scripts/measure_concepts.py keeps them, and the same command goes on from
there.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from concepts.plan import (
    AGAIN,
    COMPOSED,
    COMPOSITE,
    MERGED,
    OVER,
    SAME,
    STREAMS,
    SWITCH,
    THREE,
    TRUTH,
    TWO,
    Concept,
    Shot,
    choose_alike,
    choose_concepts,
    choose_pairs,
    choose_triples,
    plan_shots,
)
from concepts.table import begin_run, change_settings, make_row, write_rows
from measure_concepts import WORK, Bench, work

from d2plan.backbone.load import PRECISIONS, load_backbone
from d2plan.eval.judge import load_judge
from d2plan.media.images import write_file


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        title: what it is.
        method: who draws.
        changes: to the settings of the composition.
        everywhere: whether it also draws two of one class and three at once.
    """

    title: str
    method: str = COMPOSED
    changes: tuple[str, ...] = ()
    everywhere: bool = False


OURS = Row("d2plan", everywhere=True)
LATE = ("warmup_fraction=0.6", "short_warmup_fraction=0.6")
ROWS = (
    OURS,
    Row("the world's own pictures", TRUTH, everywhere=True),
    Row("the last two fifths of the steps over these", OVER, LATE, everywhere=True),
    Row("the same, w = 2.5", OVER, (*LATE, "guidance_scale=2.5"), everywhere=True),
    Row("the same without guidance", OVER, (*LATE, "guidance_scale=1"), everywhere=True),
    Row("the last two fifths over d2plan's own", AGAIN, LATE, everywhere=True),
    Row("LoRA merge", MERGED, everywhere=True),
    Row("LoRA Switch", SWITCH, everywhere=True),
    Row("LoRA Composite", COMPOSITE, everywhere=True),
    Row("CAC off", changes=("calibrate=false",)),
    Row("CNC off", changes=("compose=false",)),
    Row("CAC and CNC off", changes=("calibrate=false", "compose=false")),
    Row("values of the sub row", changes=("values=sub",)),
    Row("rows read their own prompts (the paper)", changes=("weave=none",)),
    Row("sub rows alone read all", changes=("weave=subs",)),
    Row("masks from attention (the paper)", changes=("masks=attention",), everywhere=True),
    Row("these, warm-up 0.1", changes=("masks=attention", "warmup_fraction=0.1")),
    Row("these, warm-up 0.4", changes=("masks=attention", "warmup_fraction=0.4")),
    Row("these, masks anew every 4 steps", changes=("masks=attention", "refresh_every=4")),
    Row("these, masks late, after 0.3", changes=("masks=attention", "mask_start=0.3")),
    Row("these, soft masks, 0.8", changes=("masks=attention", "mask_weight=0.8")),
)
TITLES = {TWO: "two classes", SAME: "two of one class", THREE: "three at once"}


def plan_rows(concepts: Sequence[Concept], ours: int, others: int) -> list[tuple[Row, str, list[list[Shot]]]]:
    """Say what each row draws: the more important first.

    Args:
        concepts: who there is.
        ours: pictures of two classes by d2plan as it is.
        others: the same by each other row, and by all rows of the other parts; the first ones of ours.

    Returns:
        Row, part and shots, those of one group together.
    """
    groups: dict[str, list[tuple[Concept, ...]]] = {
        TWO: [*choose_pairs(concepts, min(20, len(concepts)))],
        SAME: [*choose_alike(concepts)],
        THREE: [*choose_triples(concepts, min(20, len(concepts)))],
    }
    plan = []
    for part, members in groups.items():
        for row in ROWS:
            if members and (part == TWO or row.everywhere):
                wanted = ours if row is OURS and part == TWO else others
                plan.append((row, part, [plan_shots(group, -(-wanted // len(members))) for group in members]))
    return plan


def main() -> None:
    """Measure, as far as the time allows, and print the table."""
    choice = read_arguments()
    backbone, judge = load_backbone(choice.base, dtype=PRECISIONS[choice.precision]), load_judge()
    defaults = backbone.defaults
    concepts = choose_concepts(choice.seeds, choice.identities, defaults.identifiers)
    plan = [
        row
        for row in plan_rows(concepts, choice.ours, choice.others)
        if row[0].title in choice.rows and row[1] in choice.parts
    ]
    benches = {
        row: Bench(
            backbone, judge, choice.folder, defaults.training(), change_settings(defaults.composing(), row.changes)
        )
        for row in ROWS
    }
    bench = benches[OURS]
    settings = {name: getattr(choice, name) for name in ("seeds", "identities", "ours", "others", "rows", "parts")}
    said = f"{choice.identities} identities, {choice.ours} and {choice.others} images, {choice.precision}"
    facts = {**bench.facts, "composing": asdict(bench.composing)}
    about = begin_run("measure_isp.py", facts, settings, said)
    deadline = time.monotonic() + 60 * choice.time_limit
    complete = all([work(benches[row], shots, [row.method], deadline) for row, _, shots in plan])
    found = {}
    for row, part, shots in plan:
        keys = {benches[row].score_key(shot, row.method) for group in shots for shot in group}
        found[part, row.title] = make_row(benches[row].records, keys)
    content = {**about, "complete": complete}
    content["table"] = [
        {"part": part, "row": title, "images": count, **{name: asdict(value) for name, value in line.items()}}
        for (part, title), (count, line) in found.items()
    ]
    out = choice.out or choice.folder / f"isp-{choice.seeds}.json"
    write_file(out, (json.dumps(content, indent=2) + "\n").encode())
    for part, called in TITLES.items():
        lines = {title: line for (its, title), line in found.items() if its == part and line[0]}
        print(write_rows(called, lines))
    print(f"numbers in {out}")
    print("All is done." if complete else "The time is over; the same command goes on from here.")


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", choices=tuple(STREAMS), default="development")
    parser.add_argument("--identities", type=int, default=20, help="concepts, over all classes")
    parser.add_argument("--ours", type=int, default=200, help="pictures of two classes by d2plan")
    parser.add_argument("--others", type=int, default=60, help="pictures by each other row, and of each other part")
    titles = [row.title for row in ROWS]
    parser.add_argument("--rows", nargs="+", choices=titles, default=titles, metavar="TITLE", help="only these")
    parser.add_argument("--parts", nargs="+", choices=tuple(TITLES), default=list(TITLES), help="only these")
    parser.add_argument("--time-limit", type=float, default=float("inf"), help="minutes; nothing is begun after them")
    parser.add_argument("--base", default="mini")
    parser.add_argument(
        "--precision", choices=tuple(PRECISIONS), default="fp32", help="of drawing; learning has its own"
    )
    parser.add_argument("--folder", type=Path, default=WORK, help="where work is kept")
    parser.add_argument("--out", type=Path, help="file for the numbers; in the folder without it")
    return parser.parse_args()


if __name__ == "__main__":
    main()
