"""What d2plan's own pictures stand beside: plain prompts, merged LoRAs, and the world's own pictures."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import torch
from concepts.plan import AGAIN, SWITCH, Shot
from peft import LoraConfig, get_peft_model
from torch import nn

from d2plan.adapter.file import Adapter, Delta
from d2plan.adapter.rows import Weighted, adapter_rows
from d2plan.backbone.load import Backbone
from d2plan.backbone.sampling import start_sampling
from d2plan.backbone.sdxl import decode_latents, encode_images
from d2plan.bench.methods.lora_composite import LoraComposite
from d2plan.bench.methods.lora_switch import LoraSwitch
from d2plan.bench.protocol import Drawing
from d2plan.bench.protocol import Shot as BenchShot
from d2plan.config import IspSettings
from d2plan.documents import Scene
from d2plan.errors import InputError
from d2plan.isp.loop import compose_many
from d2plan.isp.partition import MaskResult, make_partition, name_instances
from d2plan.isp.prepare import prepare_scene
from d2plan.isp.regions import grow_areas, smooth_map
from d2plan.isp.start import SharedStart
from d2plan.media.images import Picture
from d2plan.world.truth import render


def merge_adapters(adapters: Sequence[Adapter]) -> Adapter:
    """Merge adapters by PEFT's ``add_weighted_adapter``, each with weight 1; "cat" is the exact sum of the updates.

    Args:
        adapters: of one base, each of one rank throughout.

    Returns:
        One adapter; its identifiers are those of all.

    Raises:
        InputError: an adapter has several ranks.
    """
    if len(adapters) == 1:
        return adapters[0]
    shapes = {path: (d.down.shape[1], d.up.shape[0]) for one in adapters for path, d in one.deltas.items()}
    # Only the layers' shapes matter to PEFT here, so that the base itself is left alone; names may hold no dots.
    slots = {path: path.replace(".", "-") for path in sorted(shapes)}
    layers = nn.ModuleDict({slots[path]: nn.Linear(*shape, bias=False) for path, shape in shapes.items()})
    model = None
    names = [f"part{number}" for number in range(len(adapters))]
    for name, adapter in zip(names, adapters, strict=True):
        if {delta.down.shape[0] for delta in adapter.deltas.values()} != {adapter.rank}:
            raise InputError(f"{adapter.name} has updates of several ranks; train it with d2plan to merge it.")
        targets = [slots[path] for path in adapter.deltas]
        config = LoraConfig(r=adapter.rank, lora_alpha=adapter.alpha, target_modules=targets)
        if model is None:
            model = get_peft_model(layers, config, adapter_name=name)
        else:
            model.add_adapter(name, config)
        with torch.no_grad():
            for path, delta in adapter.deltas.items():
                layers[slots[path]].lora_A[name].weight.copy_(delta.down)
                layers[slots[path]].lora_B[name].weight.copy_(delta.up)
    model.add_weighted_adapter(names, [1.0] * len(names), "merged", combination_type="cat")
    deltas = {}
    for path, slot in slots.items():
        down, up = (half["merged"].weight.detach().clone() for half in (layers[slot].lora_A, layers[slot].lora_B))
        deltas[path] = Delta(down, up, layers[slot].scaling["merged"] * down.shape[0])
    rank = sum(adapter.rank for adapter in adapters)
    name = "+".join(adapter.name for adapter in adapters)
    return replace(adapters[0], name=name, rank=rank, alpha=float(rank), deltas=deltas, path=None, sha256="")


def draw_plain(
    backbone: Backbone, shots: Sequence[Shot], method: str, adapter: Adapter | None, settings: IspSettings
) -> list[Picture]:
    """Draw with plain guidance, one prompt a picture, as the stock pipeline does with a LoRA: on every row.

    Args:
        backbone: the base.
        shots: what to draw.
        method: decides the words of the prompts.
        adapter: a LoRA, or None for the base alone.
        settings: of steps, guidance and batches.

    Returns:
        The pictures.
    """
    pictures = []
    # One batch a call of the loop: a hook on the rows must know how many there are.
    at_once = max(1, settings.most_rows // 2)
    for start in range(0, len(shots), at_once):
        scenes = [Scene(global_prompt=shot.prompt(method), seed=shot.seed) for shot in shots[start : start + at_once]]
        with ExitStack() as hooks:
            if adapter is not None:
                for part, encoder in zip(("text_encoder", "text_encoder_2"), backbone.text_encoders, strict=True):
                    hooks.enter_context(adapter_rows(encoder, part, [adapter]))
            prepared = [prepare_scene(backbone, scene, (), settings) for scene in scenes]
        with ExitStack() as hooks:
            if adapter is not None:
                rows = sum(1 + one.guided for one in prepared)
                hooks.enter_context(adapter_rows(backbone.unet, "unet", [adapter] * rows))
            pictures += [one.image for one in compose_many(backbone, prepared, settings)]
    return pictures


def draw_in_turns(
    backbone: Backbone, shots: Sequence[Shot], method: str, adapters: Sequence[Adapter], settings: IspSettings
) -> list[Picture]:
    """Draw with LoRA Switch or LoRA Composite (Zhong et al. 2024), in the setting that reads each LoRA's own words.

    Args:
        backbone: the base.
        shots: what to draw, of the same concepts.
        method: SWITCH or COMPOSITE.
        adapters: the concepts'.
        settings: of steps, guidance and batches.

    Returns:
        The pictures.
    """
    drawing = Drawing(settings.steps, settings.guidance_scale, *backbone.size, settings.most_rows)
    wanted = [BenchShot("", (), shot.prompt(method), (), (), shot.seed) for shot in shots]
    loads = tuple((Weighted(adapter, 1.0),) for adapter in adapters)
    rival = LoraSwitch() if method == SWITCH else LoraComposite()
    return rival.draw_loads(backbone, loads, rival.settings[2], wanted, drawing)


@torch.no_grad()
def draw_truth(backbone: Backbone, shots: Sequence[Shot]) -> list[Picture]:
    """Draw the world's own pictures of what is asked for, and pass them through the base's autoencoder."""
    pictures = np.stack([render(shot.true_scene(), backbone.size[1]).image for shot in shots])
    return list(decode_latents(backbone, encode_images(backbone, pictures)))


@torch.no_grad()
def draw_over(
    backbone: Backbone, shots: Sequence[Shot], method: str, adapters: Sequence[Adapter], settings: IspSettings
) -> list[Picture]:
    """Compose from the end of a late warm-up on, over finished pictures with the noise of that step.

    Over the world's own pictures everything is true that far: who stands where, shapes, colours and areas, each widened
    as found areas are. What is lost from there on is not the layout's. Over d2plan's own pictures it shows what it
    costs to make a picture noisy and draw its last steps again.

    Args:
        backbone: the base, with Euler's sampler.
        shots: what to draw, of the same concepts.
        method: OVER the world's own pictures, or AGAIN over d2plan's, composed as the base says.
        adapters: the concepts'.
        settings: of the composition; ``warmup_fraction`` and ``short_warmup_fraction`` say where it begins.

    Returns:
        The pictures.
    """
    scenes = [shot.scene([str(adapter.path) for adapter in adapters]) for shot in shots]
    prepared = [prepare_scene(backbone, scene, adapters, settings) for scene in scenes]
    if method == AGAIN:
        usual = backbone.defaults.composing()
        own = compose_many(backbone, [prepare_scene(backbone, scene, adapters, usual) for scene in scenes], usual)
        finished = [(one.latents.to(backbone.device), one.masks) for one in own]
    else:
        finished = [_draw_true_latents(backbone, shot, settings) for shot in shots]
    pictures = []
    for shot, item, (clean, masks) in zip(shots, prepared, finished, strict=True):
        # Another noise than that which d2plan's own picture came from.
        sampling, noise = start_sampling(backbone, [shot.seed + 1], item.steps)
        sampling.scheduler.set_begin_index(item.warmup)
        sigma = sampling.scheduler.sigmas[item.warmup].to(clean)
        latents = clean + sigma * noise / sampling.scheduler.init_noise_sigma
        start = SharedStart(item, latents, sampling, masks, 0, 0, {})
        pictures += [one.image for one in compose_many(backbone, [item], settings, shared=start)]
    return pictures


def _draw_true_latents(backbone: Backbone, shot: Shot, settings: IspSettings) -> tuple[torch.Tensor, MaskResult]:
    """Give the world's own picture as the base's latents ``[1, c, h, w]``, and its areas."""
    truth = render(shot.true_scene(), backbone.size[1])
    clean = encode_images(backbone, np.array(truth.image)[None])
    seen = nn.functional.adaptive_avg_pool2d(torch.from_numpy(np.array(truth.masks)), (clean.shape[2], clean.shape[3]))
    owner = torch.cat([1 - seen.sum(0, keepdim=True), seen]).argmax(0)
    areas = torch.stack([owner == number + 1 for number in range(len(seen))])
    areas = grow_areas(areas, seen, round(min(areas.shape[1:]) * settings.mask_margin))
    count = len(seen)
    names = name_instances([concept.class_word for concept in shot.concepts])
    partition = make_partition(smooth_map(areas.float()))
    return clean, MaskResult(partition, ("mask",) * count, (1.0,) * count, (), names)
