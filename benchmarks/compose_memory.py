"""Measure the memory of composing four concepts beside what the bare U-Net and the four adapters need.

    OMP_NUM_THREADS=1 python benchmarks/compose_memory.py [--concepts 4] [--out FILE]

The U-Net is ``middle`` of compose_step.py, in float32; the adapters are too, and once more as files of the field have
them, in float16, which takes a copy. Each way runs in a process of its own, and the number is the most memory
that this holds while steps run (VmHWM, set back before them; Linux only). The table goes to the screen and to
benchmarks/results/compose_memory.json.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import torch
from compose_step import ROOT, describe_machine, make_adapter, make_middle

from d2plan.adapter.file import Adapter, Delta
from d2plan.backbone.load import load_backbone
from d2plan.backbone.sdxl import draw_noise, encode_prompts, predict, time_ids
from d2plan.config import IspSettings
from d2plan.documents import Instance, Scene
from d2plan.isp.engine import EngineOptions
from d2plan.isp.loop import compose_steps
from d2plan.isp.prepare import prepare_scene

RANK, STEPS = 48, 3
BARE = "bare"
# How the engine runs, and the adapters' number format.
WAYS = {
    "rows": ("rows", torch.float32),
    "rows, adapters in float16": ("rows", torch.float16),
    "low": ("low", torch.float32),
    "merged": ("merged", torch.float32),
}


def measure_peak(way: str, concepts: int) -> dict[str, int]:
    """Run some steps in this process; give the bytes of the adapters and the peak while it runs."""
    torch.set_num_threads(1)
    base = make_middle(load_backbone())
    if way == BARE:
        text = encode_prompts(base, ["a photo of a man"] * (concepts + 2))
        noise, ids = draw_noise(base, 0), time_ids(base, concepts + 2)
        _forget_peak()
        with torch.no_grad():
            for _ in range(STEPS):
                predict(base, noise.expand(concepts + 2, -1, -1, -1), torch.tensor(500.0), text, ids)
        return {"adapters": 0, "peak": _read_peak()}
    names = base.defaults.identifiers[:concepts]
    memory, dtype = WAYS[way]
    adapters = [_cast(make_adapter(base, name, RANK, seed), dtype) for seed, name in enumerate(names)]
    edges = [number / concepts for number in range(concepts + 1)]
    instances = tuple(
        Instance(concept=name, sub_prompt=f"a photo of a {name} man", box=(left, 0.1, right, 1.0))
        for name, left, right in zip(names, edges, edges[1:], strict=False)
    )
    prompt = "a photo of " + " and ".join(["a man"] * concepts)
    scene = Scene(global_prompt=prompt, instances=instances, steps=STEPS, warmup=0, weave="none")
    prepared = prepare_scene(base, scene, adapters)
    _forget_peak()
    for _ in compose_steps(base, [prepared], IspSettings(), EngineOptions(memory)):  # type: ignore[arg-type]
        pass
    return {"adapters": sum(_count_bytes(adapter) for adapter in adapters), "peak": _read_peak()}


def _cast(adapter: Adapter, dtype: torch.dtype) -> Adapter:
    deltas = {path: Delta(one.down.to(dtype), one.up.to(dtype), one.alpha) for path, one in adapter.deltas.items()}
    return replace(adapter, deltas=deltas)


def _count_bytes(adapter: Adapter) -> int:
    return sum(
        part.numel() * part.element_size() for delta in adapter.deltas.values() for part in (delta.down, delta.up)
    )


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _read_peak() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def main() -> None:
    """Measure all ways, each in its own process, and write them down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--concepts", type=int, default=4)
    parser.add_argument("--way", choices=(BARE, *WAYS), help="measure this one in this process; for its own use")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "compose_memory.json")
    options = parser.parse_args()
    if options.way:
        sys.stdout.write(json.dumps(measure_peak(options.way, options.concepts)))
        return
    found = {}
    for way in (BARE, *WAYS):
        command = [sys.executable, __file__, "--concepts", str(options.concepts), "--way", way]
        found[way] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    needed = found[BARE]["peak"] + found["rows"]["adapters"]
    rows = {way: {**one, "ratio": one["peak"] / needed} for way, one in found.items()}
    result = {"machine": describe_machine(), "concepts": options.concepts, "rank": RANK, "needed": needed, "ways": rows}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    adapters = found["rows"]["adapters"] / 2**20
    sys.stdout.write(
        f"bare U-Net with {options.concepts + 2} rows and {adapters:.0f} MiB of adapters: {needed / 2**20:.0f} MiB\n"
    )
    for way in WAYS:
        sys.stdout.write(f"  d2plan, {way:25s} {rows[way]['peak'] / 2**20:8.0f} MiB  {rows[way]['ratio']:.2f} x\n")


if __name__ == "__main__":
    main()
