"""Scenes that go through the loop together: how they are grouped, what has become of them, what they end as."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from d2plan.backbone.attention import level_size
from d2plan.backbone.load import Backbone
from d2plan.backbone.sampling import latent_size, start_sampling
from d2plan.backbone.schedulers import Sampling
from d2plan.backbone.sdxl import decode_latents, guide
from d2plan.backbone.spatial import ControlUse
from d2plan.config import IspSettings
from d2plan.isp.columns import FEATHER
from d2plan.isp.engine import Engine, EngineOptions, Layout, choose_level, lay_rows, size_ids
from d2plan.isp.keep import KeptPicture, find_room, is_changed, join_masks, list_changed, narrow_room
from d2plan.isp.masks import find_masks
from d2plan.isp.noise import compose_noise
from d2plan.isp.partition import MaskResult, Partition, make_partition
from d2plan.isp.prepare import PreparedScene
from d2plan.isp.regions import smooth_map
from d2plan.isp.segment import Detection
from d2plan.isp.start import SharedStart

_SETTLED = 0.5  # part of the composing steps after which no figure changes its pose any more


@dataclass(frozen=True, eq=False)
class Composition:
    """One composed picture, and how it came about.

    Attributes:
        prepared: the scene.
        image: ``[h, w, 3]``, 0..255.
        latents: x_0, ``[1, c, h, w]``, on the CPU.
        masks: M_0..M_m and how they were found.
        unet_calls: calls of the U-Net that this scene took part in.
        unet_rows: its own rows in them, 2 in a step of the warm-up and m + 2 in each later one, and those of a kept
            picture that was made for it; a shared start's are the start's.
        timings: seconds by name; of a batch, this scene's equal share.
        warnings: sentences for the reader of the result.
        together: scenes that went through these calls in one batch, this one included.
    """

    prepared: PreparedScene
    image: NDArray[np.uint8]
    latents: Tensor
    masks: MaskResult
    unet_calls: int
    unet_rows: int
    timings: dict[str, float]
    warnings: tuple[str, ...]
    together: int = 1

    @property
    def partition(self) -> Partition:
        """The masks M_0..M_m."""
        return self.masks.partition

    @property
    def route(self) -> str:
        """How the masks were found."""
        return self.masks.route

    @property
    def confidence(self) -> float:
        """How sure that is, 0..1."""
        return self.masks.confidence


@dataclass(eq=False)
class Batch:
    """Scenes of one size and schedule, and what has become of them so far.

    Attributes:
        scenes: in order.
        settings: how they are composed.
        layout: their rows.
        sampling: the sampler, with its state.
        latents: x_t of each, ``[scenes, c, h, w]``.
        ids: of the size.
        level: where maps are collected.
        rows: U-Net rows of each so far.
        calls: U-Net calls of each so far.
        masks: of each; empty until they are made.
        detections: of each, where a detector looked.
        seconds: by phase.
        kept: the picture whose variants all of them are.
        room: how much each draws itself and does not keep that picture, ``[scenes, 1, h, w]``, 0..1, from the masks on.
        narrowed: whether that is already what has come out another way; masks that are made later leave it.
    """

    scenes: list[PreparedScene]
    settings: IspSettings
    layout: Layout
    sampling: Sampling
    latents: Tensor
    ids: Tensor
    level: int
    rows: list[int]
    calls: list[int]
    masks: list[MaskResult] = field(default_factory=list)
    detections: dict[int, list[Detection]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    kept: KeptPicture | None = None
    room: Tensor | None = None
    narrowed: bool = False

    @property
    def total(self) -> int:
        """U-Net calls from noise to picture."""
        return len(self.sampling.timesteps)

    @property
    def warmup(self) -> int:
        """Those of the warm-up; of scenes without instances all of them."""
        first = self.scenes[0]
        warmup = min(scene.warmup for scene in self.scenes)
        # Samplers that call the U-Net twice a step have more calls than steps.
        return warmup if self.total == first.steps else round(self.total * warmup / first.steps)

    @property
    def asks(self) -> bool:
        """Whether masks have to be found."""
        return bool(self.layout.asking)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the time that the block takes.

        Args:
            name: of the phase.

        Yields:
            Nothing.
        """
        started = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def count(self, rows: Sequence[int], engine: Engine) -> None:
        """Note a step's calls.

        Args:
            rows: of the layout, that took part.
            engine: that ran them.
        """
        for place, span in enumerate(self.layout.spans):
            own = sum(span.start <= row < span.stop for row in rows)
            self.rows[place] += own
            self.calls[place] += engine.calls(own) if own else 0


def group_scenes(scenes: Sequence[PreparedScene], most_rows: int, options: EngineOptions) -> list[list[int]]:
    """Put scenes together that can share calls, as many as the rows allow.

    Args:
        scenes: any.
        most_rows: of one call; one scene is never split.
        options: with low memory each scene goes alone.

    Returns:
        Their indices, by group.
    """
    groups: list[list[int]] = []
    latest: dict[tuple[object, ...], tuple[list[int], int]] = {}
    for index, item in enumerate(scenes):
        alike = (item.size, item.steps, item.scene.warmup, item.guidance_scale, item.guided, item.scene.scheduler)
        variant = (item.kept.key, is_changed(item, item.kept)) if item.kept else None
        key = (*alike, item.looks, variant, index if options.memory == "low" else None)
        group, used = latest.get(key, ([], 0))
        if not group or used + len(item.text) > most_rows:
            group, used = [], 0
            groups.append(group)
        group.append(index)
        latest[key] = (group, used + len(item.text))
    return groups


def start_batch(
    backbone: Backbone,
    scenes: list[PreparedScene],
    settings: IspSettings,
    shared: SharedStart | KeptPicture | None = None,
) -> Batch:
    """Bring scenes to where their composition starts.

    Args:
        backbone: the base.
        scenes: a group.
        settings: how they are composed.
        shared: a series' start, or a picture that the scenes keep; these and None start from noise.

    Returns:
        The batch.
    """
    first, count = scenes[0], len(scenes)
    level = choose_level(backbone, settings)
    if not isinstance(shared, SharedStart):
        seeds = [item.scene.seed for item in scenes]
        sampling, latents = start_sampling(backbone, seeds, first.steps, first.size, first.scene.scheduler)
    else:
        sampling, latents = shared.sampling.fork(count), shared.latents.repeat(count, 1, 1, 1)
    layout = lay_rows(scenes, settings, level)
    ids = size_ids(backbone, first)
    batch = Batch(scenes, settings, layout, sampling, latents, ids, level, [0] * count, [0] * count)
    if isinstance(shared, SharedStart):
        batch.masks = [shared.masks] * count
    elif shared is not None:
        batch.kept = shared
    return batch


def restore_kept(batch: Batch, index: int) -> None:
    """Put the kept picture's latents where a variant changes nothing.

    Masks say where that is, and from the middle of the composing steps on the latents themselves.

    Args:
        batch: the scenes.
        index: of the U-Net call that was made last.
    """
    if batch.kept is None or batch.room is None:
        return
    kept = batch.kept.trajectory[index]
    if index == max(batch.warmup, batch.warmup + round(_SETTLED * (batch.total - batch.warmup)) - 1):
        _narrow_rooms(batch, batch.kept, kept)
    # lerp gives exactly the one or the other where the weight is 0 or 1.
    batch.latents = torch.lerp(kept.expand_as(batch.latents), batch.latents, batch.room)


def _narrow_rooms(batch: Batch, kept: KeptPicture, latents: Tensor) -> None:
    assert batch.room is not None
    rooms = []
    for place, (room, item) in enumerate(zip(batch.room, batch.scenes, strict=True)):
        moving = torch.tensor(list_changed(item, kept.prepared), dtype=torch.bool)
        areas = batch.masks[place].partition.masks[1:][moving].to(room)
        rooms.append(narrow_room(room[0], areas, batch.latents[place], latents))
    batch.room, batch.narrowed = torch.stack(rooms)[:, None], True


def use_controls(batch: Batch, index: int, rows: Sequence[int], blends: bool) -> list[ControlUse]:
    """List the ControlNets that act in a step.

    Those for the global row act on the row without a prompt too, so that guidance does not drive them out; where
    instances rule, which they do not act on, they leave that row there.

    Args:
        batch: the scenes.
        index: of the step.
        rows: of the layout, that take part.
        blends: whether masks count in this step.

    Returns:
        Which acts on which row, each scene's in its order.
    """
    uses = []
    for row in rows:
        place, kind = batch.layout.rows[row]
        scene = batch.scenes[place]
        for control in scene.controls:
            if not control.acts(index, batch.total) or (kind == "sub" and control.rows == "global"):
                continue
            ruled = kind == "null" and control.rows == "global" and blends and bool(scene.adapters)
            uses.append(ControlUse(control, row, batch.masks[place].partition.masks[0] if ruled else None))
    # Networks one after the other, each on all its rows.
    numbers = {id(control): number for scene in batch.scenes for number, control in enumerate(scene.controls)}
    return sorted(uses, key=lambda use: numbers[id(use.control)])


def guide_rows(batch: Batch, prediction: Tensor, rows: Sequence[int], blends: bool) -> Tensor:
    """Make one guided prediction a scene out of its rows, eq. (2) or (9).

    Args:
        batch: the scenes.
        prediction: of the rows, ``[rows, c, h, w]``.
        rows: of the layout, that took part.
        blends: compose by masks; else the global row alone guides.

    Returns:
        ``[scenes, c, h, w]``.
    """
    guided = []
    for place, (item, span) in enumerate(zip(batch.scenes, batch.layout.spans, strict=True)):
        own = prediction[[number for number, row in enumerate(rows) if span.start <= row < span.stop]]
        if not item.guided:
            guided.append(own[0])
        elif blends and item.adapters:
            masks = batch.masks[place].partition.masks.to(own)
            guided.append(compose_noise(own[0], own[1:], masks, item.guidance_scale))
        else:
            guided.append(guide(own[0], own[1], item.guidance_scale))
    return torch.stack(guided)


def make_masks(backbone: Backbone, batch: Batch, engine: Engine) -> None:
    """Make every scene's masks from what has been collected so far, and forget that.

    Args:
        backbone: the base.
        batch: gets the masks.
        engine: has collected maps where a scene asks for its masks.

    Raises:
        InputError: an instance has no area, and its scene calls that an error.
    """
    with batch.timed("masks"):
        size = latent_size(backbone, batch.scenes[0].size)
        maps = None
        if batch.asks and batch.level in engine.tap.levels:
            maps = engine.tap.maps(batch.level).unflatten(1, level_size(size, batch.level))
        batch.masks, first = [], 0
        for place, item in enumerate(batch.scenes):
            count = len(item.regions)
            own = maps[first : first + count] if maps is not None and item.asks else None
            span = batch.layout.spans[place]
            result = find_masks(
                own,
                item.regions,
                size,
                detections=batch.detections.get(place),
                # What the variant shows nobody of has its place in the kept picture.
                missing="mark" if batch.kept else item.scene.missing,
                affinity=engine.affinity(span.start + 1) if own is not None else None,
                margin=batch.settings.mask_margin,
            )
            feather = max(batch.settings.feather, FEATHER if item.scene.masks == "columns" else 0.0)
            result = replace(result, partition=soften(result.partition, feather, batch.settings.mask_weight))
            # Columns, and what is drawn by hand, are the kept picture's already.
            if batch.kept and (item.asks or not torch.equal(result.partition.masks, batch.kept.masks.partition.masks)):
                result = join_masks(result, batch.kept.masks, list_changed(item, batch.kept.prepared))
            batch.masks.append(result)
            first += count
        if batch.kept and not batch.narrowed:
            rooms = [
                find_room(masks, list_changed(item, batch.kept.prepared))
                for masks, item in zip(batch.masks, batch.scenes, strict=True)
            ]
            batch.room = torch.stack(rooms)[:, None].to(batch.latents)
        engine.clear()


def soften(partition: Partition, feather: float, weight: float) -> Partition:
    """Let masks run into each other, or the global row into them.

    Args:
        partition: M_0..M_m.
        feather: how far they run into each other, part of the shorter side.
        weight: how much of its area is an instance's own, 0..1.

    Returns:
        The softer masks; the very same for 0 and 1.
    """
    masks = partition.masks
    if len(masks) == 1 or (feather == 0 and weight == 1):
        return partition
    # The 3x3 binomial kernel has a variance of half a cell, and variances of rounds add up.
    rounds = round(2 * (feather * min(masks.shape[1:])) ** 2)
    return make_partition(smooth_map(masks, rounds)[1:] * weight)


def finish_batch(backbone: Backbone, batch: Batch) -> list[Composition]:
    """Turn latents into pictures.

    Args:
        backbone: the base.
        batch: after its last step.

    Returns:
        One composition a scene.

    Raises:
        InputError: a picture holds values that are no numbers.
    """
    with batch.timed("decode"):
        images = decode_latents(backbone, batch.latents)
    shares = {name.replace(" ", "_"): seconds / len(batch.scenes) for name, seconds in batch.seconds.items()}
    latents = batch.latents.cpu()
    return [
        Composition(
            prepared=item,
            image=images[place],
            latents=latents[place : place + 1],
            masks=batch.masks[place],
            unet_calls=batch.calls[place],
            unet_rows=batch.rows[place],
            timings={"text": item.seconds, **shares},
            warnings=(*item.warnings, *batch.masks[place].notes),
            together=len(batch.scenes),
        )
        for place, item in enumerate(batch.scenes)
    ]
