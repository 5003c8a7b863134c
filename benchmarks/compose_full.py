"""Time whole pictures of 1 to 4 concepts on SDXL's size, beside diffusers' own pipeline with as many U-Net rows.

    python benchmarks/compose_full.py --base full --device cuda --precision bf16 [--most 4] [--steps 30] [--rank 32]
        [--out FILE]

``full`` has all of SDXL's weights, random ones, and is meant for a GPU (1024 px); ``middle`` and ``mini`` try the
script on a processor. Every step has all rows (no warm-up), a box for each concept, and a random adapter on every
attention layer. The pipeline draws as many pictures without guidance as our step has rows. Floating-point operations
are counted by torch in one call of the U-Net, and time is the clock's, text and VAE left out.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import NamedTuple

import torch
from compose_step import describe_machine, make_adapter
from diffusers import StableDiffusionXLPipeline
from torch.utils.flop_counter import FlopCounterMode
from train_step import PRECISIONS, open_base

from d2plan.backbone.load import Backbone
from d2plan.backbone.sdxl import draw_noise, encode_prompts, predict, time_ids
from d2plan.config import IspSettings
from d2plan.documents import Instance, Scene
from d2plan.isp.loop import compose_steps
from d2plan.isp.prepare import PreparedScene, prepare_scene

ROOT = Path(__file__).resolve().parent.parent


class Taken(NamedTuple):
    """What some steps took: seconds, and GiB at most where a GPU counts them."""

    seconds: float
    gib: float | None


def make_scene(base: Backbone, concepts: int, steps: int, rank: int) -> PreparedScene:
    """Prepare so many men side by side."""
    names = base.defaults.identifiers[:concepts]
    instances = tuple(
        Instance(
            concept=name, sub_prompt=f"a photo of a {name} man", box=(place / concepts, 0, (place + 1) / concepts, 1)
        )
        for place, name in enumerate(names)
    )
    prompt = "a photo of " + " and ".join(["a man"] * concepts)
    scene = Scene(global_prompt=prompt, instances=instances, steps=steps, warmup=0, weave="none", seed=0)
    return prepare_scene(base, scene, [make_adapter(base, name, rank, seed) for seed, name in enumerate(names)])


def watch(device: torch.device, run: object) -> Taken:
    """Time a function from idle to idle."""
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    begun = time.perf_counter()
    run()  # type: ignore[operator]
    if on_gpu:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - begun
    return Taken(seconds, torch.cuda.max_memory_allocated() / 2**30 if on_gpu else None)


def measure_ours(base: Backbone, concepts: int, steps: int, rank: int) -> Taken:
    """Take the steps of one picture, after one that warms up."""
    taken = None
    for _ in range(2):
        run = compose_steps(base, [make_scene(base, concepts, steps, rank)], IspSettings())
        # The last step also decodes, so it is left out, as the first one is, which puts the adapters on.
        next(run)
        taken = watch(base.device, lambda run=run: [next(run) for _ in range(steps - 2)])
        run.close()
    assert taken is not None
    return taken


@torch.no_grad()
def measure_pipeline(base: Backbone, rows: int, steps: int) -> Taken:
    """Take as many steps of diffusers' pipeline with so many rows, its text and VAE left out."""
    pipe = StableDiffusionXLPipeline(
        base.vae, *base.text_encoders, *base.tokenizers, base.unet, base.scheduler, add_watermarker=False
    )
    pipe.set_progress_bar_config(disable=True)
    text = encode_prompts(base, ["a photo of a man"] * rows)

    def draw(count: int) -> None:
        pipe(
            prompt_embeds=text.states, pooled_prompt_embeds=text.pooled, guidance_scale=1.0, output_type="latent",
            num_inference_steps=count, height=base.size[0], width=base.size[1],
        )  # fmt: skip

    draw(2)
    return watch(base.device, lambda: draw(steps - 2))


@torch.no_grad()
def count_operations(base: Backbone, rows: int) -> float:
    """Count the floating-point operations of one call of the U-Net."""
    text, noise = encode_prompts(base, ["a man"] * rows), draw_noise(base, 0).expand(rows, -1, -1, -1)
    with FlopCounterMode(display=False) as counter:
        predict(base, noise, torch.tensor(500.0), text, time_ids(base, rows))
    return float(counter.get_total_flops())


def main() -> None:
    """Measure, show the table and write it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", choices=("mini", "middle", "full"), default="full")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", choices=tuple(PRECISIONS), default="bf16")
    parser.add_argument("--most", type=int, default=4)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--out", type=Path, help="file for the numbers, as JSON")
    options = parser.parse_args()
    if options.steps < 3:
        parser.error("--steps: the first and the last step are not timed; give 3 or more.")
    base = open_base(options.base, options.device, PRECISIONS[options.precision])
    rows = []
    for concepts in range(1, options.most + 1):
        calls = options.steps - 2
        operations = calls * count_operations(base, concepts + 2)
        ours = measure_ours(base, concepts, options.steps, options.rank)
        theirs = measure_pipeline(base, concepts + 2, options.steps)
        row = {
            "concepts": concepts,
            "seconds_a_picture": ours.seconds / calls * options.steps,
            "times_the_pipeline": ours.seconds / theirs.seconds,
            "tflops": operations / ours.seconds / 1e12,
            "gib": ours.gib,
            "gib_of_the_pipeline": theirs.gib,
        }
        rows.append(row)
        told = "  ".join(f"{key} {value:.3f}" for key, value in row.items() if value is not None)
        sys.stdout.write(told + "\n")
    if options.out:
        asked = {key: str(value) for key, value in vars(options).items() if key != "out"}
        gpu = torch.cuda.get_device_name(base.device) if base.device.type == "cuda" else ""
        result = {"machine": {**describe_machine(), "gpu": gpu}, **asked, "rows": rows}
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
