"""Write the judge's card from what was measured and logged.

Command: python scripts/judge/card.py --date 2026-11-23 --machine "2 CPU cores"
"""

from __future__ import annotations

import argparse
import json

from data import WORK
from train import ASSETS, BATCH

from d2plan.eval.networks import PARTS, build_networks

READING = "Reading, "
# What world.md asks of a head: on clean renders, and after the VAE round trip and mild blur or noise.
HEADS = ("place", "light", "count", "instance found", "class", "accessory", "accessory colour", "action")
CLEAN, DISTURBED, ABSENT = 0.98, 0.95, 0.02

ABOUT = """# The judge's card

Small networks that look at pictures of d2plan's small world and say what is there. They stand in for the big ones (a
detector with SAM, attribute classifiers, a face encoder) that the same code drives on photographs.

- **segmenter**: UperNet on a ResNet (`UperNetForSemanticSegmentation`), 128 px to 32x32 cells: 12 classes ("none" and
  11), a map of centres and offsets to the own centre, which part figures of one class (Panoptic-DeepLab).
- **attributes**: `ResNetForImageClassification` on a 96 px crop with the mask as fourth channel; heads for class,
  accessory, its colour, and action.
- **place**: `ResNetForImageClassification` on the whole picture at 64 px; heads for place and light.
- **identity**: `ResNetForImageClassification` whose 64 outputs are the direction of a character; masked 96 px crop.
  Trained with an additive angular margin (ArcFace) over 12,000 identities in trios of look-alikes, a pair loss within
  the batch, and an auxiliary reading of the identity's factors (dropped after training).

Attributes and identity are read from the crop and from its mirror image, and averaged.

All of them learnt from renders of the stream "judge" alone, disturbed by blur, noise, scaling, colours and JPEG, and
every fourth picture sent through the embedded autoencoder as it was at the time. Everything below was measured
on the stream "heldout". What chooses (candidates, thresholds) never scores.
"""


def format_row(name: str, value: dict[str, float], goal: str = "") -> str:
    """Write one line of a table."""
    return (
        f"| {name} | {value['mean']:.3f} | {value['low']:.3f} .. {value['high']:.3f} | {value['count']:.0f} | {goal} |"
    )


def judge_row(table: str, name: str, mean: float) -> str:
    """Say what was asked for and whether it was reached."""
    if name == "absent class called present":
        return f"<= {ABSENT:.2f}: {'reached' if mean <= ABSENT else 'missed'}"
    if not table.startswith(READING) or name not in HEADS:
        return ""
    goal = CLEAN if table == "Reading, clean" else DISTURBED
    return f">= {goal:.2f}: {'reached' if mean >= goal else 'MISSED'}"


def describe_training() -> list[str]:
    """Tell steps and time of each network from the logs."""
    lines = ["| network | parameters | steps | batch | CPU seconds |", "| --- | --- | --- | --- | --- |"]
    for name, network in build_networks().parts().items():
        size, log = sum(value.numel() for value in network.parameters()), WORK / f"{name}.log.jsonl"
        if not log.exists():
            lines.append(f"| {name} | {size:,} | not trained here: as it was | {BATCH[name]} | |")
            continue
        entries = [json.loads(line) for line in log.read_text().splitlines()]
        seconds, last = 0.0, 0.0
        for entry in [*entries, {"cpu_seconds": 0.0}]:
            # The count starts again with each run; where it falls back, a run had ended.
            seconds, last = seconds + (last if entry["cpu_seconds"] < last else 0.0), entry["cpu_seconds"]
        lines.append(f"| {name} | {size:,} | {entries[-1]['step']:.0f} | {BATCH[name]} | {seconds:,.0f} |")
    return lines


def main() -> None:
    """Write the card beside the weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--date", required=True)
    parser.add_argument("--machine", required=True)
    parser.add_argument("--note", default="", help="what a reader should know, such as how long it may still learn")
    choice = parser.parse_args()
    tables = json.loads((WORK / "measured.json").read_text())
    size = sum(path.stat().st_size for name in PARTS for path in (ASSETS / name).rglob("*") if path.is_file())
    lines = [ABOUT, "## Training", "", f"{choice.date}, {choice.machine}; all files together {size / 1e6:.1f} MB.", ""]
    lines += [*describe_training(), ""]
    lines += [
        "Commands: `python scripts/judge/train.py --steps N [--only NETWORK]`, then `--steps 0 --export`; seeds are",
        "",
    ]
    lines[-2] += " fixed in the code (each step's batch and disturbance come from its number)."
    lines += [
        "## Measured",
        "",
        "`python scripts/judge/measure.py`, mean with the 95 % bootstrap interval over pictures.",
        "",
    ]
    if choice.note:
        lines += [choice.note, ""]
    for table, rows in tables.items():
        lines += [
            f"### {table}",
            "",
            "| what | mean | 95 % interval | values | asked |",
            "| --- | --- | --- | --- | --- |",
        ]
        lines += [format_row(name, value, judge_row(table, name, value["mean"])) for name, value in rows.items()] + [""]
    (ASSETS / "JUDGE_CARD.md").write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
