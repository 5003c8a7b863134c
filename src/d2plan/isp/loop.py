"""The composition loop: warm up, make masks, then one U-Net call a step for all rows of all scenes, eq. (7) and (9)."""

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from diffusers import EulerDiscreteScheduler
from numpy.typing import NDArray
from torch import Tensor

from d2plan.adapter.file import Adapter
from d2plan.adapter.rows import adapter_rows
from d2plan.backbone.attention import (
    ColumnRead,
    ColumnSwap,
    ColumnTap,
    TapPlan,
    attention_levels,
    level_size,
    tap_columns,
)
from d2plan.backbone.load import Backbone
from d2plan.backbone.sdxl import (
    TextStates,
    decode_latents,
    draw_noise,
    guide,
    join_states,
    latent_size,
    make_scheduler,
    predict,
    time_ids,
)
from d2plan.config import IspSettings
from d2plan.isp.masks import MaskResult, Partition, find_masks
from d2plan.isp.noise import compose_noise
from d2plan.isp.prepare import PreparedScene

DRAWING, WARMING, COMPOSING = "drawing", "warming up", "composing"


class Progress(NamedTuple):
    """Where a loop stands.

    Attributes:
        step: U-Net calls that were made.
        total: calls in all.
        phase: what the last one was for, ``WARMING`` or ``COMPOSING``, or ``DRAWING`` without instances.
    """

    step: int
    total: int
    phase: str


@dataclass(frozen=True, eq=False)
class Composition:
    """One composed picture, and how it came about.

    Attributes:
        prepared: the scene.
        image: ``[h, w, 3]``, 0..255.
        latents: x_0, ``[1, c, h, w]``, on the CPU.
        masks: M_0..M_m and how they were found.
        unet_calls: calls of the U-Net that this scene took part in.
        unet_rows: its own rows in them, 2 in a step of the warm-up and m + 2 in each later one.
        timings: seconds by name; of a batch, this scene's equal share.
        warnings: sentences for the reader of the result.
    """

    prepared: PreparedScene
    image: NDArray[np.uint8]
    latents: Tensor
    masks: MaskResult
    unet_calls: int
    unet_rows: int
    timings: dict[str, float]
    warnings: tuple[str, ...]

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


Run = Generator[Progress, None, list[Composition]]


def compose_many(
    backbone: Backbone, scenes: Sequence[PreparedScene], settings: IspSettings | None = None
) -> list[Composition]:
    """Compose many scenes in few U-Net calls.

    Equal to one by one but for the rounding of larger batches (latents within 1e-4 in float32).

    Args:
        backbone: the base.
        scenes: from ``prepare_scene``; those that share size, steps, warm-up and w share their calls.
        settings: None takes the base's own.

    Returns:
        One composition a scene, in their order.
    """
    run = compose_steps(backbone, scenes, settings)
    while True:
        try:
            next(run)
        except StopIteration as end:
            return end.value


def compose_steps(backbone: Backbone, scenes: Sequence[PreparedScene], settings: IspSettings | None = None) -> Run:
    """Compose scenes, reporting after every step; the U-Net carries adapters and taps until the loop ends or is closed.

    Paper: section 4.2, eq. (7) and (9). Without instances it is plain guidance, bit for bit.

    Args:
        backbone: the base.
        scenes: from ``prepare_scene``.
        settings: None takes the base's own.

    Returns:
        A generator that gives a ``Progress`` after each U-Net call, and at its end one composition a scene, in their
        order; it raises InputError when a picture holds values that are no numbers.
    """
    return _compose_groups(backbone, scenes, settings or backbone.defaults.composing())


def _compose_groups(backbone: Backbone, scenes: Sequence[PreparedScene], settings: IspSettings) -> Run:
    groups = _group_scenes(scenes, settings.most_rows)
    total = sum(scenes[group[0]].steps for group in groups)
    done = 0
    found: dict[int, Composition] = {}
    for group in groups:
        batch = _start(backbone, [scenes[index] for index in group])
        for phase in _run_batch(backbone, batch, settings):
            done += 1
            yield Progress(done, total, phase)
        found.update(zip(group, _finish(backbone, batch), strict=True))
    return [found[index] for index in range(len(scenes))]


@dataclass(eq=False)
class _Batch:
    """Scenes that go through the loop together, and what has become of them so far."""

    scenes: list[PreparedScene]
    scheduler: EulerDiscreteScheduler
    latents: Tensor
    ids: Tensor
    rows: list[int]
    maps: Tensor | None = None
    masks: list[MaskResult] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started


@dataclass(frozen=True, eq=False)
class _Rows:
    """The rows of a U-Net call: whose latents they hold, what they read, which adapter they carry."""

    spans: list[slice]
    owners: Tensor
    text: TextStates
    adapters: list[Adapter | None]
    plan: TapPlan


class _Stage(NamedTuple):
    """Steps ``start`` up to ``stop`` that have the same rows; ``collects`` says that their maps make masks."""

    start: int
    stop: int
    phase: str
    collects: bool


def _group_scenes(scenes: Sequence[PreparedScene], most_rows: int) -> list[list[int]]:
    """Put scenes together that can share calls, as many as the rows allow; return their indices."""
    groups: list[list[int]] = []
    latest: dict[tuple[object, ...], tuple[list[int], int]] = {}
    for index, item in enumerate(scenes):
        key = (item.size, item.steps, item.scene.warmup, item.guidance_scale, item.guided)
        group, used = latest.get(key, ([], 0))
        if not group or used + len(item.text) > most_rows:
            group, used = [], 0
            groups.append(group)
        group.append(index)
        latest[key] = (group, used + len(item.text))
    return groups


def _start(backbone: Backbone, scenes: list[PreparedScene]) -> _Batch:
    first = scenes[0]
    scheduler = make_scheduler(backbone, first.steps)
    noise = torch.cat([draw_noise(backbone, item.scene.seed, item.size) for item in scenes])
    ids = time_ids(backbone, 1, first.size)
    return _Batch(scenes, scheduler, noise * scheduler.init_noise_sigma, ids, [0] * len(scenes))


def _run_batch(backbone: Backbone, batch: _Batch, settings: IspSettings) -> Iterator[str]:
    level = min(attention_levels(backbone.unet), key=lambda level: abs(level - settings.map_level))
    for stage in _plan_stages(batch.scenes, settings):
        rows = _lay_rows(backbone, batch.scenes, stage, settings, level)
        composing = stage.phase == COMPOSING
        with _open_rows(backbone, rows) as tap:
            for index in range(stage.start, stage.stop):
                timestep = batch.scheduler.timesteps[index]
                with batch.timed(stage.phase), torch.no_grad():
                    prediction = _predict(backbone, batch, rows, timestep)
                if stage.collects and tap is not None:
                    batch.maps = tap.maps(level)
                refreshes = settings.refresh_every and (index - stage.start) % settings.refresh_every == 0
                if composing and (not batch.masks or refreshes):
                    _make_masks(backbone, batch, level)
                    if tap is not None:
                        tap.clear()
                with batch.timed(stage.phase), torch.no_grad():
                    guided = _guide_rows(batch, rows, prediction, composing and settings.compose)
                    batch.latents = batch.scheduler.step(guided, timestep, batch.latents, return_dict=False)[0]
                yield stage.phase
    if not batch.masks:
        _make_masks(backbone, batch, level)


def _plan_stages(scenes: list[PreparedScene], settings: IspSettings) -> list[_Stage]:
    steps, warmup = scenes[0].steps, min(item.warmup for item in scenes)
    if not any(item.adapters for item in scenes):
        return [_Stage(0, steps, DRAWING, False)]
    asks = any(region.box is None for item in scenes for region in item.regions)
    watched = max(0, warmup - settings.map_steps) if asks else warmup
    stages = [
        _Stage(0, watched, WARMING, False),
        _Stage(watched, warmup, WARMING, True),
        # Without a warm-up the first composing call must show where the instances are.
        _Stage(warmup, steps, COMPOSING, asks and (warmup == 0 or settings.refresh_every > 0)),
    ]
    return [stage for stage in stages if stage.start < stage.stop]


def _lay_rows(
    backbone: Backbone, scenes: list[PreparedScene], stage: _Stage, settings: IspSettings, level: int
) -> _Rows:
    """Lay out [no prompt | global | sub 1..m] of every scene, without the sub rows before the composition."""
    spans, texts, swaps, reads = [], [], [], []
    owners: list[int] = []
    adapters: list[Adapter | None] = []
    for place, item in enumerate(scenes):
        first = len(owners)
        ahead: list[Adapter | None] = [None, None] if item.guided else [None]
        carried = [*ahead, *item.adapters] if stage.phase == COMPOSING else ahead
        texts.append(item.text[slice(2 - len(ahead), 2 - len(ahead) + len(carried))])
        adapters += carried
        owners += [place] * len(carried)
        spans.append(slice(first, len(owners)))
        row = first + len(ahead) - 1
        for number, (k, j) in enumerate(item.columns):
            reads.append(ColumnRead(row, k))
            swaps.append(ColumnSwap(row, k, row + 1 + number, j))
    plan = TapPlan(
        swaps=tuple(swaps) if stage.phase == COMPOSING and settings.calibrate else (),
        reads=tuple(reads) if stage.collects else (),
        levels=frozenset({level}),
        values=settings.values,
    )
    return _Rows(spans, torch.tensor(owners, device=backbone.device), join_states(texts), adapters, plan)


@contextmanager
def _open_rows(backbone: Backbone, rows: _Rows) -> Iterator[ColumnTap | None]:
    with ExitStack() as stack:
        if any(adapter is not None for adapter in rows.adapters):
            stack.enter_context(adapter_rows(backbone.unet, "unet", rows.adapters))
        if rows.plan.swaps or rows.plan.reads:
            yield stack.enter_context(tap_columns(backbone.unet, rows.plan))
        else:
            yield None


def _predict(backbone: Backbone, batch: _Batch, rows: _Rows, timestep: Tensor) -> Tensor:
    for place, span in enumerate(rows.spans):
        batch.rows[place] += span.stop - span.start
    states = batch.scheduler.scale_model_input(batch.latents[rows.owners], timestep)
    return predict(backbone, states, timestep, rows.text, batch.ids.expand(len(rows.owners), -1))


def _guide_rows(batch: _Batch, rows: _Rows, prediction: Tensor, blends: bool) -> Tensor:
    """Make one guided prediction a scene out of its rows."""
    guided = []
    for place, (item, span) in enumerate(zip(batch.scenes, rows.spans, strict=True)):
        own = prediction[span]
        if not item.guided:
            guided.append(own[0])
        elif blends and item.adapters:
            masks = batch.masks[place].partition.masks.to(own)
            guided.append(compose_noise(own[0], own[1:], masks, item.guidance_scale))
        else:
            guided.append(guide(own[0], own[1], item.guidance_scale))
    return torch.stack(guided)


def _make_masks(backbone: Backbone, batch: _Batch, level: int) -> None:
    """Make every scene's masks from the maps collected so far; those of scenes with boxes need none."""
    with batch.timed("masks"):
        size = latent_size(backbone, batch.scenes[0].size)
        maps = None if batch.maps is None else batch.maps.unflatten(1, level_size(size, level))
        batch.masks, first = [], 0
        for item in batch.scenes:
            count = len(item.regions)
            own = None if maps is None or not count else maps[first : first + count]
            batch.masks.append(find_masks(own, item.regions, size))
            first += count


def _finish(backbone: Backbone, batch: _Batch) -> list[Composition]:
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
            unet_calls=item.steps,
            unet_rows=batch.rows[place],
            timings={"text": item.seconds, **shares},
            warnings=(*item.warnings, *batch.masks[place].notes),
        )
        for place, item in enumerate(batch.scenes)
    ]
