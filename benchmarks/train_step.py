"""Time one training step against the smallest loop that peft and diffusers allow, samples a second side by side.

    OMP_NUM_THREADS=1 python benchmarks/train_step.py [--base mini|middle|full|FOLDER] [--batch 4] [--rank N]
        [--rounds 7] [--device cpu] [--precision fp32] [--checkpointing] [--out FILE]

Three methods take turns in one process: the loop written here (``peft_loop``: latents in memory, both encoders and the
U-Net with LoRA on their attention layers, mean squared error, AdamW), our step with eq. (1) alone, and our step with
all three losses. A method's number is the median of its rounds: processor time on a CPU, the clock on a GPU.
``middle`` is a random U-Net between the embedded base and SDXL in size; ``full`` has all of SDXL's weights, random
ones, and is meant for a GPU (1024 px).
"""

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from compose_step import describe_machine, make_middle
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from peft import LoraConfig, inject_adapter_in_model
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from d2plan.adapter.attach import TEXT_TARGETS, UNET_TARGETS
from d2plan.backbone.load import Backbone, load_backbone
from d2plan.backbone.sdxl import encode_images
from d2plan.config import BaseDefaults, DisLoRASettings
from d2plan.dislora.data import ConceptData
from d2plan.dislora.lessons import LessonChoices
from d2plan.dislora.objective import mixed_precision
from d2plan.dislora.request import TrainRequest
from d2plan.dislora.train import train_steps

ROOT = Path(__file__).resolve().parent.parent
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PICTURES = 8
Step = Iterator[object]


def make_full(base: Backbone, device: str, dtype: torch.dtype) -> Backbone:
    """Put random networks of SDXL's size in the place of the embedded ones; the tokenizers stay."""
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    shared = {"vocab_size": len(base.tokenizers[0]), "max_position_embeddings": 77}
    first = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12}
    second = {"hidden_size": 1280, "intermediate_size": 5120, "num_attention_heads": 20, "num_hidden_layers": 32}
    with torch.device(device):
        unet = UNet2DConditionModel(
            sample_size=128,
            block_out_channels=(320, 640, 1280),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 10),
            attention_head_dim=(5, 10, 20),
            cross_attention_dim=2048,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        )
        encoders = (
            CLIPTextModel(CLIPTextConfig(**shared, **first, projection_dim=768)),
            CLIPTextModelWithProjection(CLIPTextConfig(**shared, **second, projection_dim=1280, hidden_act="gelu")),
        )
        blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
        vae = AutoencoderKL(block_out_channels=(128, 256, 512, 512), layers_per_block=2, **blocks)
    torch.set_default_dtype(torch.float32)
    for model in (unet, *encoders, vae):
        model.eval().requires_grad_(False)
    defaults = replace(BaseDefaults(), identifiers=base.defaults.identifiers)
    return replace(base, unet=unet, text_encoders=encoders, vae=vae, defaults=defaults, fingerprint="", words=())


def open_base(name: str, device: str, dtype: torch.dtype) -> Backbone:
    """Open the base that is asked for."""
    if name not in ("middle", "full"):
        return load_backbone(name, device, dtype)
    base = load_backbone("mini", device, dtype)
    if name == "full":
        return make_full(base, device, dtype)
    middle = make_middle(base)
    return replace(middle, unet=middle.unet.to(device, dtype))


def make_data(base: Backbone) -> ConceptData:
    """Draw pictures of noise at the base's own size."""
    rng = np.random.default_rng(0)
    names = tuple(f"{number}.png" for number in range(PICTURES))
    images = [rng.integers(0, 256, (*base.size, 3), dtype=np.uint8) for _ in names]
    return ConceptData(names, images, (None,) * PICTURES, (None,) * PICTURES)


def our_steps(base: Backbone, data: ConceptData, settings: DisLoRASettings) -> Step:
    """Run d2plan's own loop."""
    request = TrainRequest("rex", LessonChoices("dog", base.defaults.identifiers[0]), settings)
    return train_steps(base, data, request)


def peft_loop(base: Backbone, data: ConceptData, settings: DisLoRASettings) -> Step:
    """Train LoRA in the fewest lines: what diffusers' own example does in each step, and nothing around it."""
    models = (base.unet, *base.text_encoders)
    for model, targets in zip(models, (UNET_TARGETS, TEXT_TARGETS, TEXT_TARGETS), strict=True):
        config = LoraConfig(r=settings.rank, lora_alpha=settings.rank, target_modules=list(targets))
        inject_adapter_in_model(config, model)
    learnt = [parameter for model in models for parameter in model.parameters() if parameter.requires_grad]
    for parameter in learnt:
        parameter.data = parameter.data.float()
    if settings.gradient_checkpointing:
        base.unet.enable_gradient_checkpointing()
    optimiser = torch.optim.AdamW(learnt, lr=settings.unet_rate, fused=True)
    schedule = DDPMScheduler.from_config(base.scheduler.config, timestep_spacing="leading")
    latents = torch.cat([encode_images(base, image[None]) for image in data.images])
    prompt = f"a photo of a {base.defaults.identifiers[0]} dog"
    tokens = [
        one(prompt, padding="max_length", max_length=one.model_max_length, return_tensors="pt").input_ids.to(
            base.device
        )
        for one in base.tokenizers
    ]
    size = torch.tensor([[*base.size, 0, 0, *base.size]] * settings.batch_size, device=base.device, dtype=base.dtype)
    velocity = base.scheduler.config.prediction_type == "v_prediction"
    while True:
        picked = latents[torch.randint(len(latents), (settings.batch_size,))]
        noise = torch.randn_like(picked)
        times = torch.randint(schedule.config.num_train_timesteps, (settings.batch_size,), device=base.device)
        with mixed_precision(base):
            read = [one(ids, output_hidden_states=True) for one, ids in zip(base.text_encoders, tokens, strict=True)]
            states = torch.cat([output.hidden_states[-2] for output in read], dim=-1).repeat(settings.batch_size, 1, 1)
            pooled = read[1][0].repeat(settings.batch_size, 1)
            prediction = base.unet(
                schedule.add_noise(picked, noise, times), times, states,
                added_cond_kwargs={"text_embeds": pooled, "time_ids": size}, return_dict=False,
            )[0]  # fmt: skip
        target = schedule.get_velocity(picked, noise, times) if velocity else noise
        loss = torch.nn.functional.mse_loss(prediction.float(), target.float())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learnt, 1.0)
        optimiser.step()
        if not math.isfinite(loss.item()):
            raise SystemExit("the loop's loss is no number")
        yield loss


def time_step(steps: Step, device: str) -> float:
    """Time the next step, seconds."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
        begun = time.perf_counter()
        next(steps)
        torch.cuda.synchronize()
        return time.perf_counter() - begun
    begun = time.process_time()
    next(steps)
    return time.process_time() - begun


def measure(options: argparse.Namespace) -> list[dict[str, float | str]]:
    """Time each method alone on a base of its own, round by round in turn on a CPU, one after the other on a GPU."""
    dtype = PRECISIONS[options.precision]
    runs: dict[str, tuple[Callable[..., Step], dict[str, float]]] = {
        "peft and diffusers, eq. 1": (peft_loop, {}),
        "d2plan, eq. 1 alone": (our_steps, {"token_weight": 0.0, "attention_weight": 0.0}),
        "d2plan, all three losses": (our_steps, {"token_weight": 1e-3, "attention_weight": 1e-2}),
    }
    on_gpu = options.device.startswith("cuda")
    times: dict[str, list[float]] = {name: [] for name in runs}
    memory: dict[str, float] = {}
    for group in [[name] for name in runs] if on_gpu else [list(runs)]:
        started: dict[str, Step] = {}
        for name in group:
            base = open_base(options.base, options.device, dtype)
            make, changes = runs[name]
            settings = replace(
                base.defaults.training(), batch_size=options.batch, rank=options.rank or base.defaults.rank,
                steps=100_000, gradient_checkpointing=options.checkpointing, **changes,
            )  # fmt: skip
            started[name] = make(base, make_data(base), settings)
        for number in range(options.rounds + 2):
            for name, steps in started.items():
                seconds = time_step(steps, options.device)
                # The first two rounds warm up caches and kernels.
                if number >= 2:
                    times[name].append(seconds)
        if on_gpu:
            memory[group[0]] = torch.cuda.max_memory_allocated() / 2**30
        for steps in started.values():
            with closing(steps):  # type: ignore[type-var]
                pass
        started.clear()
        if on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
    plain = statistics.median(times["peft and diffusers, eq. 1"])
    return [
        {
            "method": name,
            "seconds_a_step": statistics.median(taken),
            "samples_a_second": options.batch / statistics.median(taken),
            "times_the_loop": statistics.median(taken) / plain,
            **({"gib": memory[name]} if on_gpu else {}),
        }
        for name, taken in times.items()
    ]


def main() -> None:
    """Measure, show the table and write it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="mini")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rank", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=tuple(PRECISIONS), default="fp32")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "train_step.json")
    options = parser.parse_args()
    if options.device == "cpu":
        torch.set_num_threads(1)
    rows = measure(options)
    asked = {key: value for key, value in vars(options).items() if key != "out"}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    result = {"machine": describe_machine(), **asked, "rows": rows}
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    for row in rows:
        told = "  ".join(f"{key} {value:.3f}" for key, value in row.items() if not isinstance(value, str))
        sys.stdout.write(f"{row['method']:28} {told}\n")
    sys.stdout.write(f"written to {options.out}\n")


if __name__ == "__main__":
    main()
