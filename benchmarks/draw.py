"""Draw what ``compose_step.py`` measured last, for docs/composing.md.

python benchmarks/draw.py [--out docs/pictures/speed.webp]    (needs d2plan[plots])
"""

import argparse
import io
import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from PIL import Image

from d2plan.bench.report.plots import INK, ONE, SOFT

ROOT = Path(__file__).resolve().parent.parent
MEASURED = ROOT / "benchmarks" / "results" / "compose_step.json"
KINDS = {"mini": "mini", "middle": "random weights"}
# As the JSON calls them, and as the picture does.
NAMES = {
    "d2plan, rows": "d2plan",
    "d2plan, merged": "d2plan --merged",
    "d2plan, low": "d2plan --low-memory",
    "PEFT mixed batch (adapter_names), 4 rows": "PEFT, one batch",
    "PEFT set_adapter in turn, 2 + 1 + 1 rows": "PEFT in turn, 2 + 1 + 1 rows",
    "PEFT set_adapter in turn, a guidance pair each, 2 + 2 + 2 rows": "PEFT in turn, a guidance pair each",
}


def main() -> None:
    """Draw a panel for each U-Net, side by side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "pictures" / "speed.webp")
    out = parser.parse_args().out
    measured = {name: entry for name, entry in json.loads(MEASURED.read_text()).items() if "methods" in entry}
    figure, panels = plt.subplots(1, len(measured), figsize=(9, 2.7), sharey=True, layout="constrained", squeeze=False)
    for panel, (name, entry) in zip(panels[0], measured.items(), strict=True):
        ratios = [entry["methods"][key]["ratio"] for key in NAMES]
        places = range(len(NAMES), 0, -1)
        colours = [ONE if name.startswith("d2plan") else SOFT for name in NAMES]
        panel.barh(places, ratios, height=0.62, color=colours)
        for place, ratio in zip(places, ratios, strict=True):
            panel.text(ratio + 0.02, place, f"{ratio:.2f}", va="center", color=INK, fontsize=9)
        panel.axvline(1, color=INK, linewidth=0.8, linestyle=":")
        title = f"U-Net of {entry['weights'] / 1e6:.0f} M ({KINDS[name]}), rank {entry['rank']}"
        panel.set_title(title, fontsize=10, loc="left")
        panel.set_xlim(0, 2.1)
        panel.set_yticks(places, list(NAMES.values()), fontsize=9)
        panel.tick_params(length=0)
        panel.set_xlabel("time of a step, the bare U-Net with four rows = 1", fontsize=9, color=SOFT)
        panel.spines[["top", "right", "left"]].set_visible(False)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=160, format="png")
    Image.open(drawn).convert("RGB").save(out, lossless=True, method=6)
    sys.stdout.write(f"{out}\n")


if __name__ == "__main__":
    main()
