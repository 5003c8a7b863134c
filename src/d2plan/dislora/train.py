"""The training loop of DisLoRA: one concept in, one adapter out, a report after every step."""

import math
import resource
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from d2plan.adapter.attach import Attachment, attach_adapter, collect_deltas
from d2plan.adapter.file import Adapter
from d2plan.backbone.load import Backbone
from d2plan.backbone.sdxl import TextStates, null_states
from d2plan.config import DisLoRASettings
from d2plan.dislora.apparatus import Apparatus, make_optimiser, restore_snapshot, set_rates, take_snapshot
from d2plan.dislora.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from d2plan.dislora.data import ConceptData
from d2plan.dislora.draw import Batch, BatchDraw, split_batch
from d2plan.dislora.lessons import Lessons, Progress, prepare_lessons
from d2plan.dislora.objective import compute_losses, compute_plain_loss, compute_prior_loss
from d2plan.dislora.processes import Processes
from d2plan.dislora.request import TrainRequest, check_request, describe_request
from d2plan.errors import InputError

LATENTS_FILE = "latents.safetensors"


@dataclass(frozen=True)
class StepReport:
    """How a step went.

    Attributes:
        step: its number, from 1.
        total: steps there are.
        loss: the weighted sum of the others.
        ldm: L_LDM, eq. (1).
        token: L_token, eq. (3).
        attention: L_atten, eq. (4), 0..1.
        images_per_second: since the training began or went on, time between steps left out.
        prior: L_LDM on class images; 0 without prior preservation.
        plain: L_plain, how far the plain class word's answers have moved; 0 without its weight.
        memory: most that was in use so far, MiB, on the CUDA device or in this process.
        seconds_left: what the steps still to come take at this speed, without what a caller does between them.
    """

    step: int
    total: int
    loss: float
    ldm: float
    token: float
    attention: float
    images_per_second: float
    prior: float = 0.0
    plain: float = 0.0
    memory: float = 0.0
    seconds_left: float = 0.0


def _never() -> bool:
    return False


def _ignore(_: object) -> None:
    """Nobody asked to be told."""


@dataclass(frozen=True)
class Keeping:
    """Where a training keeps its state, and how it goes on.

    Attributes:
        folder: of the training, locked by whoever asks for it.
        every: steps between checkpoints; 0 makes them only at a stop and at the end.
        resume: go on from the last checkpoint: "no", with the same request ("same"), or with whatever fits ("any").
        stop: is asked after each step whether to make a checkpoint and stop.
        on_note: is told what the person should know.
        on_resume: is told the step from which it goes on, as soon as the base holds what was learnt by then.
        on_report: is told how each step went, before it is in a checkpoint, so that a log of them has no gap.
    """

    folder: Path
    every: int = 100
    resume: Literal["no", "same", "any"] = "no"
    stop: Callable[[], bool] = _never
    on_note: Callable[[str], None] = _ignore
    on_resume: Callable[[int], None] = _ignore
    on_report: Callable[[StepReport], None] = _ignore


def train_steps(
    backbone: Backbone,
    data: ConceptData,
    request: TrainRequest,
    keeping: Keeping | None = None,
    processes: Processes | None = None,
    on_progress: Progress | None = None,
) -> Generator[StepReport, None, Adapter]:
    """Learn a concept.

    The base holds the adapter between steps and is as before, bit for bit, when the generator ends or is closed.
    The same base, pictures and request give the same adapter on the same machine, also when the training was stopped
    and resumed on the way, however often.

    Paper: eq. (1), (3) and (4), section 4.1.

    Args:
        backbone: the base; in half precision the updates are still learnt in float32.
        data: the concept's pictures, at sizes that the base takes.
        request: what to learn and how.
        keeping: makes checkpoints, and goes on from one; without it nothing is written.
        processes: those that learn together; a step then sees as many times more pictures.
        on_progress: is told what is prepared before the first step.

    Returns:
        A generator that gives a report after each step, and the adapter at its end (see ``finish_training``); it
        raises InputError when the loss is no number any more, and KeyboardInterrupt when it was asked to stop.

    Raises:
        InputError: the words cannot be used with the base, or a checkpoint is of another training.
        FileError: a checkpoint cannot be read.
    """
    choices, together = request.choices, processes or Processes()
    saved = keeping.folder if keeping is not None and keeping.resume != "no" else None
    changed = keeping is not None and keeping.resume == "any"
    words = check_request(backbone, data, request, saved, together, changed)
    start = load_checkpoint(saved) if saved is not None else None
    priors = request.settings.prior_images if request.settings.prior_weight > 0 else 0
    # Only one process may write the file; the others make their own.
    cache = keeping.folder / LATENTS_FILE if keeping is not None and together.leads else None
    lessons = prepare_lessons(backbone, data, choices, priors, cache, on_progress)
    if keeping is not None:
        for note in lessons.notes:
            keeping.on_note(note)
    return _run_steps(backbone, lessons, request, together, _Journal(keeping, words, start))


@dataclass(frozen=True, eq=False)
class _Journal:
    """What a training writes and where it begins."""

    keeping: Keeping | None
    words: Mapping[str, str]
    start: Checkpoint | None

    def is_due(self, step: int) -> bool:
        return self.keeping is not None and self.keeping.every > 0 and step % self.keeping.every == 0

    def save(self, apparatus: Apparatus, step: int) -> None:
        if self.keeping is not None:
            save_checkpoint(self.keeping.folder, step, take_snapshot(apparatus), self.words)


@dataclass(frozen=True, eq=False)
class _Course:
    """What every step needs."""

    backbone: Backbone
    lessons: Lessons
    settings: DisLoRASettings
    apparatus: Apparatus
    together: Processes
    nulls: TextStates
    keeping: Keeping | None


def _run_steps(
    backbone: Backbone, lessons: Lessons, request: TrainRequest, together: Processes, journal: _Journal
) -> Generator[StepReport, None, Adapter]:
    settings = request.settings
    with (
        attach_adapter(backbone, settings.rank, seed=request.seed, text_encoders=settings.text_encoders) as attached,
        _checkpointed(backbone, settings.gradient_checkpointing),
    ):
        apparatus = _assemble(backbone, lessons, request, attached, together)
        course = _Course(backbone, lessons, settings, apparatus, together, null_states(backbone, 1), journal.keeping)
        done = first = _begin(apparatus, journal, settings.steps)
        journal = replace(journal, start=None)  # what it began with takes as much memory as what learns
        busy = 0.0
        while done < settings.steps:
            begun = time.perf_counter()
            losses, asked = _take_step(course, done + 1)
            done += 1
            busy += time.perf_counter() - begun
            pace = busy / (done - first)
            told = _report(course, (done, pace), losses)
            if journal.keeping is not None:
                journal.keeping.on_report(told)
            saved = together.leads and (asked or journal.is_due(done) or done == settings.steps)
            if saved:
                journal.save(apparatus, done)
            try:
                yield told
            except GeneratorExit:
                # Whoever stops here, by Ctrl-C or because a preview failed, finds this step again.
                if together.leads and not saved:
                    journal.save(apparatus, done)
                raise
            if asked:
                raise KeyboardInterrupt
        deltas = collect_deltas(backbone)
    return Adapter(
        name=request.name,
        class_word=request.choices.class_word,
        identifier=request.choices.identifier,
        base_fingerprint=backbone.fingerprint,
        rank=settings.rank,
        alpha=float(settings.rank),
        deltas=deltas,
        settings=describe_request(request),
    )


def _assemble(
    backbone: Backbone, lessons: Lessons, request: TrainRequest, attached: Attachment, together: Processes
) -> Apparatus:
    settings, choices = request.settings, request.choices
    whole = settings.batch_size * settings.gradient_accumulation * together.count
    timesteps = len(backbone.scheduler.alphas_cumprod)
    # Every process draws the whole step's batch and takes its part, so that their number changes nothing else.
    draw = BatchDraw(lessons, whole, settings.joint_fraction, choices.null_fraction, timesteps, request.seed)
    scaler = torch.amp.GradScaler(backbone.device.type, enabled=backbone.dtype == torch.float16)
    return Apparatus(attached, make_optimiser(attached, settings), draw, scaler)


def _begin(apparatus: Apparatus, journal: _Journal, steps: int) -> int:
    start = journal.start
    if start is None:
        return 0
    assert journal.keeping is not None
    restore_snapshot(apparatus, start.tensors)
    for note in start.notes:
        journal.keeping.on_note(note)
    journal.keeping.on_note(f"going on after step {start.step} of {steps}")
    journal.keeping.on_resume(start.step)
    return start.step


def _report(course: _Course, state: tuple[int, float], losses: list[float]) -> StepReport:
    (done, pace), total = state, course.settings.steps
    whole, ldm, token, attention, prior, plain = losses
    return StepReport(
        step=done,
        total=total,
        loss=whole,
        ldm=ldm,
        token=token,
        attention=attention,
        images_per_second=course.apparatus.draw.batch_size / pace,
        prior=prior,
        plain=plain,
        memory=_memory_used(course.backbone),
        seconds_left=(total - done) * pace,
    )


def _take_step(course: _Course, step: int) -> tuple[list[float], bool]:
    """Learn from one step's batch; gives the mean losses, whole first, and whether to stop."""
    apparatus, together, keeping = course.apparatus, course.together, course.keeping
    count = course.settings.gradient_accumulation
    pieces = split_batch(apparatus.draw.draw(), count * together.count)[together.rank * count :][:count]
    apparatus.optimiser.zero_grad(set_to_none=True)
    set_rates(apparatus.optimiser, course.settings, step)
    told = torch.stack([_learn(course, piece) for piece in pieces]).mean(dim=0)
    asked = told.new_tensor([float(keeping is not None and keeping.stop())])
    *losses, stops = together.mean(torch.cat([told, asked])).tolist()
    if not math.isfinite(losses[0]):
        raise InputError(f"The loss is {losses[0]} at step {step}; lower the learning rates and train again.")
    learnt = apparatus.learnt
    together.average_gradients(learnt)
    apparatus.scaler.unscale_(apparatus.optimiser)
    norm = torch.nn.utils.clip_grad_norm_(learnt, course.settings.gradient_clip)
    if not apparatus.scaler.is_enabled() and not torch.isfinite(norm):
        raise InputError(f"The gradient is {float(norm)} at step {step}; lower the learning rates and train again.")
    apparatus.scaler.step(apparatus.optimiser)
    apparatus.scaler.update()
    return losses, stops > 0


def _learn(course: _Course, piece: Batch) -> Tensor:
    settings, scaler = course.settings, course.apparatus.scaler
    part = 1 / settings.gradient_accumulation
    with compute_losses(course.backbone, course.lessons, piece, settings, course.nulls) as losses:
        whole = losses.weigh(settings)
        scaler.scale(part * whole).backward()
    none = torch.zeros_like(whole).detach()
    told = [whole.detach(), *(loss.detach() for loss in losses), none, none]
    if piece.prior is not None:
        prior = compute_prior_loss(course.backbone, course.lessons, piece.prior, settings)
        scaler.scale(part * settings.prior_weight * prior).backward()
        told[0], told[4] = told[0] + settings.prior_weight * prior.detach(), prior.detach()
    if settings.plain_weight > 0:
        plain = compute_plain_loss(course.backbone, course.lessons, piece, settings)
        scaler.scale(part * settings.plain_weight * plain).backward()
        told[0], told[5] = told[0] + settings.plain_weight * plain.detach(), plain.detach()
    return torch.stack(told).float()


@contextmanager
def _checkpointed(backbone: Backbone, wanted: bool) -> Generator[None, None, None]:
    if not wanted:
        yield
        return
    backbone.unet.enable_gradient_checkpointing()
    try:
        yield
    finally:
        backbone.unet.disable_gradient_checkpointing()


def _memory_used(backbone: Backbone) -> float:
    if backbone.device.type == "cuda":
        return torch.cuda.max_memory_allocated(backbone.device) / 2**20
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)


def finish_training(steps: Generator[StepReport, None, Adapter]) -> Adapter:
    """Run a training to its end and take only the adapter.

    Args:
        steps: from ``train_steps``.

    Returns:
        The adapter.
    """
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value
