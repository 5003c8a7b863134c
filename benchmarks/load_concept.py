"""Time how long a concept of SDXL's size takes to open: rank 128 on all attention layers, from file to memory.

    OMP_NUM_THREADS=1 python benchmarks/load_concept.py [--rank 128] [--rounds 3] [--out FILE]

The file is random float16 numbers under the names of SDXL's layers, written to a temporary folder first, so that it is
read from the system's cache. The times go to the screen and to benchmarks/results/load_concept.json.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from compose_step import describe_machine

from d2plan.adapter.file import Adapter, Delta, load_adapter, save_adapter
from d2plan.adapter.sdxl import ATTENTION, sdxl_layers

ROOT = Path(__file__).resolve().parent.parent


def make_concept(rank: int) -> Adapter:
    """Draw an adapter on the attention layers of SDXL's U-Net and text encoders."""
    generator = torch.Generator().manual_seed(0)
    deltas = {}
    for path, (width, out) in sdxl_layers().items():
        if path.endswith(ATTENTION):
            down = torch.randn(rank, width, generator=generator).half()
            deltas[path] = Delta(down, torch.randn(out, rank, generator=generator).half(), float(rank))
    return Adapter("Rex", "dog", "sks", "", rank, float(rank), deltas)


def main() -> None:
    """Write a concept, open it some times, and write down how long that took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rank", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "load_concept.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "concept.safetensors"
        save_adapter(file, make_concept(options.rank))
        wall, processor = [], []
        for _ in range(options.rounds):
            begun, used = time.perf_counter(), time.process_time()
            adapter = load_adapter(file)
            wall.append(time.perf_counter() - begun)
            processor.append(time.process_time() - used)
        size = file.stat().st_size
    result = {
        "machine": describe_machine(),
        "rank": options.rank,
        "layers": len(adapter.deltas),
        "megabytes": size / 1e6,
        "seconds": statistics.median(wall),
        "processor_seconds": statistics.median(processor),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(
        f"{result['layers']} layers, {result['megabytes']:.0f} MB: {result['seconds']:.2f} s by the clock, "
        f"{result['processor_seconds']:.2f} s of the processor\nwritten to {options.out}\n"
    )


if __name__ == "__main__":
    main()
