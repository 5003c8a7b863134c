"""The composition loop: warm up, make masks, then one U-Net call a step for all rows of all scenes, eq. (7) and (9)."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from d2plan.backbone.load import Backbone
from d2plan.backbone.schedulers import Sampling
from d2plan.backbone.sdxl import decode_latents
from d2plan.config import IspSettings
from d2plan.errors import InputError
from d2plan.isp.batch import (
    Batch,
    finish_batch,
    group_scenes,
    guide_rows,
    make_masks,
    restore_kept,
    start_batch,
    use_controls,
)
from d2plan.isp.batch import Composition as Composition
from d2plan.isp.engine import Engine, open_engine
from d2plan.isp.engine import EngineOptions as EngineOptions
from d2plan.isp.keep import KeptPicture as KeptPicture
from d2plan.isp.keep import is_changed
from d2plan.isp.prepare import PreparedScene
from d2plan.isp.segment import detect_regions
from d2plan.isp.start import SharedStart as SharedStart
from d2plan.isp.start import check_start

DRAWING, WARMING, LOOKING, COMPOSING = "drawing", "warming up", "looking", "composing"


class Progress(NamedTuple):
    """Where a loop stands.

    Attributes:
        step: steps that were made.
        total: steps in all.
        phase: what the last one was for: ``WARMING``, ``LOOKING`` (a first picture for a detector) or ``COMPOSING``,
            or ``DRAWING`` without instances.
    """

    step: int
    total: int
    phase: str


Run = Generator[Progress, None, list[Composition]]
StartRun = Generator[Progress, None, SharedStart]
KeepRun = Generator[Progress, None, KeptPicture]
_Result = TypeVar("_Result")


def compose_many(
    backbone: Backbone,
    scenes: Sequence[PreparedScene],
    settings: IspSettings | None = None,
    options: EngineOptions | None = None,
    shared: SharedStart | KeptPicture | None = None,
) -> list[Composition]:
    """Compose many scenes in few U-Net calls.

    Equal to one by one but for the rounding of larger batches (latents within 1e-4 in float32).

    Args:
        backbone: the base.
        scenes: from ``prepare_scene``; those that share size, steps, warm-up and w share their calls.
        settings: None takes the base's own.
        options: how the U-Net is run; None runs all rows in one call.
        shared: as ``compose_steps`` takes it.

    Returns:
        One composition a scene, in their order.
    """
    return _drain(compose_steps(backbone, scenes, settings, options, shared))


def compose_steps(
    backbone: Backbone,
    scenes: Sequence[PreparedScene],
    settings: IspSettings | None = None,
    options: EngineOptions | None = None,
    shared: SharedStart | KeptPicture | None = None,
) -> Run:
    """Compose scenes, reporting after every step; the U-Net carries adapters and taps until the loop ends or is closed.

    Paper: section 4.2, eq. (7) and (9). Without instances it is plain guidance, bit for bit.

    Args:
        backbone: the base.
        scenes: from ``prepare_scene``.
        settings: None takes the base's own.
        options: how the U-Net is run; None runs all rows in one call.
        shared: the start of a series whose variants the scenes are, or the picture that they keep; None starts each
            from its own noise, and makes first the pictures that scenes keep.

    Returns:
        A generator that gives a ``Progress`` after each step, and at its end one composition a scene, in their
        order; it raises InputError when an instance has no area and its scene calls that an error, or when a picture
        holds values that are no numbers.

    Raises:
        InputError: a scene is no variant of what is shared.
    """
    if shared is not None:
        check_start(scenes, shared)
    settings = settings or backbone.defaults.composing()
    return _compose_groups(backbone, scenes, settings, options or EngineOptions(), shared)


def warm_up(
    backbone: Backbone,
    scene: PreparedScene,
    settings: IspSettings | None = None,
    options: EngineOptions | None = None,
) -> SharedStart:
    """Make the start that all variants of a series share, once.

    Args:
        backbone: the base.
        scene: any of the variants, with at least one instance.
        settings: None takes the base's own.
        options: how the U-Net is run.

    Returns:
        What ``compose_steps`` goes on from.
    """
    return _drain(warm_up_steps(backbone, scene, settings, options))


def warm_up_steps(
    backbone: Backbone,
    scene: PreparedScene,
    settings: IspSettings | None = None,
    options: EngineOptions | None = None,
) -> StartRun:
    """Make the start that all variants of a series share, reporting after every step.

    Paper: the consistency of section 4.2; x_T, warm-up and masks hang on the global prompt alone.

    Args:
        backbone: the base.
        scene: any of the variants, with at least one instance.
        settings: None takes the base's own.
        options: how the U-Net is run.

    Returns:
        A generator that gives a ``Progress`` after each step, and at its end the start; it raises InputError when an
        instance has no area and the scene calls that an error.

    Raises:
        InputError: the scene has no instances.
    """
    if not scene.adapters:
        raise InputError("instances is empty, so there is nothing that a series could change; name one at least.")
    return _start_series(backbone, scene, settings or backbone.defaults.composing(), options or EngineOptions())


def keep(
    backbone: Backbone,
    scene: PreparedScene,
    settings: IspSettings | None = None,
    options: EngineOptions | None = None,
) -> KeptPicture:
    """Make a picture that variants keep where they say the same, once.

    Args:
        backbone: the base.
        scene: with at least one instance.
        settings: None takes the base's own.
        options: how the U-Net is run.

    Returns:
        What ``compose_steps`` takes as ``shared``.
    """
    return _drain(keep_steps(backbone, scene, settings, options))


def keep_steps(
    backbone: Backbone,
    scene: PreparedScene,
    settings: IspSettings | None = None,
    options: EngineOptions | None = None,
) -> KeepRun:
    """Make a picture that variants keep where they say the same, reporting after every step.

    A variant is drawn from the same noise, and where it changes nothing its latents are this picture's after each
    step, as in blended latent diffusion (Avrahami et al., 2023). The paper shares noise, warm-up and masks alone.

    Args:
        backbone: the base.
        scene: with at least one instance.
        settings: None takes the base's own.
        options: how the U-Net is run.

    Returns:
        A generator that gives a ``Progress`` after each step, and at its end the picture; it raises InputError when an
        instance has no area and the scene calls that an error.

    Raises:
        InputError: the scene has no instances.
    """
    if not scene.adapters:
        raise InputError("instances is empty, so there is nothing that a variant could change; name one at least.")
    return _keep(backbone, scene, settings or backbone.defaults.composing(), options or EngineOptions())


def _compose_groups(
    backbone: Backbone,
    scenes: Sequence[PreparedScene],
    settings: IspSettings,
    options: EngineOptions,
    shared: SharedStart | KeptPicture | None,
) -> Run:
    start = shared if isinstance(shared, SharedStart) else None
    made = {shared.prepared.key: shared} if isinstance(shared, KeptPicture) else {}
    if shared is not None:
        scenes = [replace(item, kept=None if start else shared.prepared) for item in scenes]
    groups = group_scenes(scenes, settings.most_rows, options)
    batches = [[scenes[index] for index in group] for group in groups]
    keeps = {item.kept.key: item.kept for item in scenes if item.kept and item.kept.key not in made}
    total = sum(_count_steps(backbone, item) for item in keeps.values())
    total += sum(_count_steps(backbone, batch[0], start) for batch in batches)
    done = 0
    for key, item in keeps.items():
        made[key] = yield from _shift(_keep(backbone, item, settings, options), done, total)
        done += _count_steps(backbone, item)
    unpaid = set(keeps)
    found: dict[int, Composition] = {}
    for group, members in zip(groups, batches, strict=True):
        its = members[0].kept
        batch = start_batch(backbone, members, settings, made[its.key] if its else start)
        if batch.kept and not is_changed(members[0], batch.kept.prepared):
            batch.latents = batch.kept.trajectory[-1:].repeat(len(members), 1, 1, 1)
            batch.masks = [batch.kept.masks] * len(members)
        else:
            with _open(backbone, batch, options) as engine:
                for phase in _run_batch(backbone, batch, engine, start is None):
                    done += 1
                    yield Progress(done, total, phase)
        # What was made here for several is counted once, with the first of them.
        if batch.kept and (key := batch.kept.prepared.key) in unpaid:
            unpaid.remove(key)
            batch.calls[0] += batch.kept.unet_calls
            batch.rows[0] += batch.kept.unet_rows
        found.update(zip(group, finish_batch(backbone, batch), strict=True))
    return [found[index] for index in range(len(scenes))]


def _keep(backbone: Backbone, scene: PreparedScene, settings: IspSettings, options: EngineOptions) -> KeepRun:
    batch = start_batch(backbone, [scene], settings)
    total, trajectory = _count_steps(backbone, scene), []
    with _open(backbone, batch, options) as engine:
        for done, phase in enumerate(_run_batch(backbone, batch, engine, True), 1):
            if phase != LOOKING:
                trajectory.append(batch.latents)
            yield Progress(done, total, phase)
    return KeptPicture(scene, torch.cat(trajectory), batch.masks[0], batch.calls[0], batch.rows[0])


def _shift(run: KeepRun, done: int, total: int) -> Generator[Progress, None, KeptPicture]:
    """Report a part's steps as those of the whole."""
    while True:
        try:
            progress = next(run)
        except StopIteration as end:
            return end.value
        yield Progress(done + progress.step, total, progress.phase)


def _start_series(backbone: Backbone, scene: PreparedScene, settings: IspSettings, options: EngineOptions) -> StartRun:
    batch = start_batch(backbone, [scene], settings)
    total = max(1, batch.warmup) + (batch.total - batch.warmup) * scene.looks
    with _open(backbone, batch, options) as engine:
        for done, phase in enumerate(_run_warmup(backbone, batch, engine), 1):
            yield Progress(done, total, phase)
        if not batch.masks:
            _probe(batch, engine)
            make_masks(backbone, batch, engine)
            yield Progress(total, total, WARMING)
    timings = {name.replace(" ", "_"): seconds for name, seconds in batch.seconds.items()}
    return SharedStart(scene, batch.latents, batch.sampling, batch.masks[0], batch.calls[0], batch.rows[0], timings)


def _run_batch(backbone: Backbone, batch: Batch, engine: Engine, from_noise: bool) -> Iterator[str]:
    if from_noise:
        yield from _run_warmup(backbone, batch, engine)
    yield from _run_composition(backbone, batch, engine)


def _run_warmup(backbone: Backbone, batch: Batch, engine: Engine) -> Iterator[str]:
    """Go through the steps of plain guidance; masks are made at their end, unless there are none to see them in."""
    composes = any(scene.adapters for scene in batch.scenes)
    phase = WARMING if composes else DRAWING
    watched = max(0, batch.warmup - batch.settings.map_steps) if batch.asks else batch.warmup
    for index in range(batch.warmup):
        _step(batch, engine, index, phase, watch=index >= watched)
        yield phase
    if any(scene.looks for scene in batch.scenes):
        yield from _look(backbone, batch, engine)
    if batch.warmup or not batch.asks:
        make_masks(backbone, batch, engine)
    if batch.warmup:
        restore_kept(batch, batch.warmup - 1)


def _look(backbone: Backbone, batch: Batch, engine: Engine) -> Iterator[str]:
    """Draw the global prompt alone to its end, let the detectors look, and go back to the end of the warm-up."""
    latents, sampling = batch.latents, batch.sampling
    batch.sampling = sampling.fork()
    for index in range(batch.warmup, batch.total):
        _step(batch, engine, index, LOOKING)
        yield LOOKING
    with batch.timed(LOOKING):
        images = decode_latents(backbone, batch.latents)
        for place, scene in enumerate(batch.scenes):
            if scene.looks and scene.detector is not None:
                batch.detections[place] = detect_regions(scene.detector, images[place], scene.regions)
    batch.latents, batch.sampling = latents, sampling


def _run_composition(backbone: Backbone, batch: Batch, engine: Engine) -> Iterator[str]:
    settings, count = batch.settings, batch.total - batch.warmup
    late = round(settings.mask_start * count)
    for number in range(count):
        refreshes = settings.refresh_every > 0 and number % settings.refresh_every == 0
        # Without a warm-up the first composing call must show where the instances are.
        watch = batch.asks and (not batch.masks or settings.refresh_every > 0 or number < late)
        fresh = not batch.masks or (batch.asks and (refreshes or (late > 0 and number == late)))
        _step(batch, engine, batch.warmup + number, COMPOSING, watch=watch, fresh=fresh, blends=number >= late)
        yield COMPOSING
    if late == count and batch.asks and count:
        make_masks(backbone, batch, engine)


def _step(
    batch: Batch, engine: Engine, index: int, phase: str, watch: bool = False, fresh: bool = False, blends: bool = False
) -> None:
    """Take one step of all scenes."""
    composing = phase == COMPOSING
    rows = tuple(range(len(batch.layout.rows))) if composing else batch.layout.base_rows
    blends = blends and batch.settings.compose
    with batch.timed(phase), torch.no_grad():
        prediction = _predict(batch, engine, index, rows, composing, watch, blends and bool(batch.masks))
    if fresh:
        make_masks(engine.backbone, batch, engine)
    with batch.timed(phase), torch.no_grad():
        guided = guide_rows(batch, prediction, rows, blends)
        batch.latents = batch.sampling.step(guided, batch.sampling.timesteps[index], batch.latents)
        restore_kept(batch, index)
    batch.count(rows, engine)


def _predict(
    batch: Batch, engine: Engine, index: int, rows: tuple[int, ...], composing: bool, watch: bool, blends: bool
) -> Tensor:
    timestep = batch.sampling.timesteps[index]
    states = batch.sampling.scale(batch.latents, timestep)
    uses = use_controls(batch, index, rows, blends)
    return engine.predict(states, timestep, batch.ids, rows, uses=uses, calibrate=composing, watch=watch)


def _probe(batch: Batch, engine: Engine) -> None:
    """Look once, at the first noise, where the global prompt wants its instances: there is no warm-up to see it in."""
    rows = batch.layout.asking
    # A copy: some samplers count the calls of their scaling.
    sampling = batch.sampling.fork()
    timestep = sampling.timesteps[0]
    with batch.timed(WARMING), torch.no_grad():
        engine.predict(sampling.scale(batch.latents, timestep), timestep, batch.ids, rows, watch=True)
    batch.count(rows, engine)


def _open(backbone: Backbone, batch: Batch, options: EngineOptions) -> AbstractContextManager[Engine]:
    return open_engine(backbone, batch.layout, options, batch.level if batch.settings.refine else None)


def _count_steps(backbone: Backbone, scene: PreparedScene, start: SharedStart | None = None) -> int:
    steps = len(Sampling(backbone.scheduler, scene.steps, (), "cpu", scene.scene.scheduler).timesteps)
    rest = steps - (scene.warmup if steps == scene.steps else round(steps * scene.warmup / scene.steps))
    if scene.kept is not None and not is_changed(scene, scene.kept):
        return 0
    return rest if start is not None else steps + rest * scene.looks


def _drain(run: Generator[Progress, None, _Result]) -> _Result:
    while True:
        try:
            next(run)
        except StopIteration as end:
            return end.value
