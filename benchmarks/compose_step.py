"""Time one composing step at m = 2 against the bare U-Net and against the ways that PEFT and its users run adapters.

    OMP_NUM_THREADS=1 python benchmarks/compose_step.py [--base mini|middle|both] [--rounds 5] [--steps 4] [--out FILE]

All methods run side by side in one process and one thread: every round times each of them in turn, and a method's
number is the median of the processor time of all its steps.
``middle`` is a random SDXL-like U-Net in the place of the embedded one, between the
embedded base and SDXL in size. The table goes to the screen, and that of both bases also to
benchmarks/results/compose_step.json.
"""

import argparse
import copy
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import peft
import torch
from diffusers import UNet2DConditionModel

from d2plan.adapter.file import Adapter, Delta
from d2plan.backbone.load import Backbone, load_backbone
from d2plan.backbone.sdxl import draw_noise, predict, time_ids
from d2plan.config import IspSettings
from d2plan.documents import Instance, Scene
from d2plan.isp.engine import EngineOptions
from d2plan.isp.loop import compose_steps
from d2plan.isp.prepare import PreparedScene, prepare_scene

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ("to_q", "to_k", "to_v", "to_out.0")
# Time on the processor: what others take on a busy machine does not count. Of several threads it would be their sum.
CLOCK = time.process_time
Method = Callable[[], Iterator[float]]


def make_middle(base: Backbone) -> Backbone:
    """Put a random U-Net of about 130 million weights in the place of the embedded one."""
    config = dict(base.unet.config) | {
        "block_out_channels": (128, 256, 512),
        "attention_head_dim": (2, 4, 8),
        "transformer_layers_per_block": (1, 2, 4),
        "layers_per_block": 1,
        "norm_num_groups": 32,
    }
    torch.manual_seed(0)
    unet = UNet2DConditionModel(**{name: value for name, value in config.items() if not name.startswith("_")})
    return replace(base, unet=unet.eval().requires_grad_(False), fingerprint="")


def make_adapter(base: Backbone, identifier: str, rank: int, seed: int) -> Adapter:
    """Draw a random adapter on every attention layer of the U-Net."""
    generator = torch.Generator().manual_seed(seed)
    deltas = {}
    for path, layer in base.unet.named_modules():
        if path.endswith(LAYERS):
            down = torch.randn(rank, layer.in_features, generator=generator) / layer.in_features**0.5
            up = 0.02 * torch.randn(layer.out_features, rank, generator=generator)
            deltas[f"unet.{path}"] = Delta(down, up, float(rank))
    return Adapter(identifier, "man", identifier, "", rank, float(rank), deltas)


def make_scene(base: Backbone, rank: int, steps: int) -> PreparedScene:
    """Prepare two men, each with a box, so that nothing but composing steps is timed."""
    first, second = base.defaults.identifiers[:2]
    instances = (
        Instance(concept="one", sub_prompt=f"a photo of a {first} man", box=(0.0, 0.1, 0.5, 1.0)),
        Instance(concept="two", sub_prompt=f"a photo of a {second} man", box=(0.5, 0.1, 1.0, 1.0)),
    )
    scene = Scene(global_prompt="a photo of a man and a man", instances=instances, steps=steps, warmup=0)
    adapters = [make_adapter(base, name, rank, seed) for seed, name in enumerate((first, second))]
    return prepare_scene(base, scene, adapters)


def time_ours(base: Backbone, scene: PreparedScene, memory: str) -> Method:
    """Time our whole step: rows, adapters, calibration, composition, sampler."""

    def run() -> Iterator[float]:
        steps = compose_steps(base, [scene], IspSettings(), EngineOptions(memory))  # type: ignore[arg-type]
        next(steps)  # puts everything on, and makes the masks
        for _ in range(scene.steps - 2):
            started = CLOCK()
            next(steps)
            yield CLOCK() - started
        steps.close()

    return run


def time_calls(scene: PreparedScene, step: Callable[[], None]) -> Method:
    """Time a step made of U-Net calls alone."""

    def run() -> Iterator[float]:
        with torch.no_grad():
            step()
            for _ in range(scene.steps - 2):
                started = CLOCK()
                step()
                yield CLOCK() - started

    return run


def make_rivals(base: Backbone, scene: PreparedScene, rank: int) -> dict[str, Method]:
    """Make the other methods; PEFT's get a copy of the U-Net with two random adapters of the same rank."""
    config = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=list(LAYERS), init_lora_weights=False)
    tuned = peft.get_peft_model(copy.deepcopy(base.unet), config, adapter_name="one").eval()
    tuned.add_adapter("two", config)
    noise, ids, text = draw_noise(base, 0), time_ids(base, 4), scene.text
    timestep = torch.tensor(500.0)

    def call(unet: torch.nn.Module, rows: list[int], **others: object) -> None:
        part = text[rows]
        conditions = {"text_embeds": part.pooled, "time_ids": ids[: len(rows)]}
        latents = noise.expand(len(rows), -1, -1, -1)
        unet(latents, timestep, encoder_hidden_states=part.states, added_cond_kwargs=conditions, **others)

    def bare() -> None:
        predict(base, noise.expand(4, -1, -1, -1), timestep, text, ids)

    def mixed() -> None:
        call(tuned, [0, 1, 2, 3], adapter_names=["__base__", "__base__", "one", "two"])

    def in_turn(rows: list[list[int]]) -> Callable[[], None]:
        def step() -> None:
            with tuned.disable_adapter():
                call(tuned, [0, 1])
            for name, own in zip(("one", "two"), rows, strict=True):
                tuned.set_adapter(name)
                call(tuned, own)

        return step

    return {
        "bare U-Net, 4 rows": time_calls(scene, bare),
        "PEFT mixed batch (adapter_names), 4 rows": time_calls(scene, mixed),
        "PEFT set_adapter in turn, 2 + 1 + 1 rows": time_calls(scene, in_turn([[2], [3]])),
        "PEFT set_adapter in turn, a guidance pair each, 2 + 2 + 2 rows": time_calls(scene, in_turn([[0, 2], [0, 3]])),
    }


def measure(base: Backbone, rank: int, rounds: int, steps: int) -> dict[str, dict[str, float]]:
    """Time all methods in turn; give seconds a step and the ratio to the bare U-Net."""
    scene = make_scene(base, rank, steps + 2)
    methods = {f"d2plan, {memory}": time_ours(base, scene, memory) for memory in ("rows", "merged", "low")}
    methods |= make_rivals(base, scene, rank)
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(rounds):
        for name, method in methods.items():
            seconds[name] += method()
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    bare = medians["bare U-Net, 4 rows"]
    return {
        name: {
            "seconds": median,
            "ratio": median / bare,
            "least": min(seconds[name]) / min(seconds["bare U-Net, 4 rows"]),
        }
        for name, median in medians.items()
    }


def describe_machine() -> dict[str, object]:
    """Say where and with what this was measured."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit.strip(),
        "machine": platform.machine(),
        "processor": read_processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "peft": peft.__version__,
    }


def read_processor() -> str:
    """Give the processor's name where the system tells it."""
    source = Path("/proc/cpuinfo")
    lines = source.read_text(encoding="utf-8").splitlines() if source.is_file() else []
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def main() -> None:
    """Measure what was asked for and write it down."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", choices=("mini", "middle", "both"), default="both")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--out", type=Path, help="file for the numbers; those of both bases have one")
    options = parser.parse_args()
    whole = ROOT / "benchmarks" / "results" / "compose_step.json" if options.base == "both" else None
    out = options.out or whole
    mini = load_backbone()
    bases = {"mini": (mini, mini.defaults.rank), "middle": (None, 48)}
    results: dict[str, object] = {"machine": describe_machine()}
    for name in bases if options.base == "both" else (options.base,):
        base = bases[name][0] or make_middle(mini)
        weights = sum(parameter.numel() for parameter in base.unet.parameters())
        table = measure(base, bases[name][1], options.rounds, options.steps)
        results[name] = {"weights": weights, "rank": bases[name][1], "methods": table}
        sys.stdout.write(f"{name}: U-Net of {weights / 1e6:.1f} million weights, rank {bases[name][1]}\n")
        for method, row in table.items():
            sys.stdout.write(f"  {method:64s} {1000 * row['seconds']:9.1f} ms  {row['ratio']:.2f} x\n")
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        sys.stdout.write(f"written to {out}\n")


if __name__ == "__main__":
    main()
