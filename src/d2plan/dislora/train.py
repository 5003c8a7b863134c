"""The training loop of DisLoRA: one concept in, one adapter out, a report after every step."""

import math
import time
from collections.abc import Generator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from d2plan.adapter.attach import Attachment, attach_adapter, collect_deltas
from d2plan.adapter.file import Adapter
from d2plan.backbone.attention import ColumnTap, coarsest_level, tap_columns
from d2plan.backbone.load import Backbone
from d2plan.backbone.sdxl import TextStates, encode_prompts, null_states, predict, time_ids
from d2plan.config import BaseDefaults, DisLoRASettings
from d2plan.dislora.data import ConceptData
from d2plan.dislora.diffusion import diffuse_latents, make_target
from d2plan.dislora.lessons import Batch, BatchDraw, LessonChoices, Lessons, prepare_lessons
from d2plan.dislora.losses import attention_loss, denoising_loss, dislora_loss, normalise_map, token_loss
from d2plan.dislora.maps import plan_reads, read_class_maps
from d2plan.dislora.prompts import check_words
from d2plan.errors import InputError


@dataclass(frozen=True)
class TrainRequest:
    """All that decides, with the base and the pictures, what an adapter becomes.

    Attributes:
        name: how people call the concept.
        choices: what is learnt, and how pictures are shown.
        settings: the losses, the optimiser, the rank.
        seed: of the first values and of all that is drawn.
    """

    name: str
    choices: LessonChoices
    settings: DisLoRASettings = field(default_factory=DisLoRASettings)
    seed: int = 0


@dataclass(frozen=True)
class StepReport:
    """How a step went.

    Attributes:
        step: its number, from 1.
        total: steps there are.
        loss: the weighted sum of the three.
        ldm: L_LDM, eq. (1).
        token: L_token, eq. (3).
        attention: L_atten, eq. (4), 0..1.
        images_per_second: since the first step, time between steps left out.
    """

    step: int
    total: int
    loss: float
    ldm: float
    token: float
    attention: float
    images_per_second: float


class Losses(NamedTuple):
    """The three losses of one batch, scalars with gradient."""

    ldm: Tensor
    token: Tensor
    attention: Tensor


def train_steps(backbone: Backbone, data: ConceptData, request: TrainRequest) -> Generator[StepReport, None, Adapter]:
    """Learn a concept.

    The base holds the adapter between steps and is as before, bit for bit, when the generator ends or is closed.
    The same base, pictures and request give the same adapter on the same machine.

    Paper: eq. (1), (3) and (4), section 4.1.

    Args:
        backbone: the base.
        data: the concept's pictures, at a size that the base takes.
        request: what to learn and how.

    Returns:
        A generator that gives a report after each step, and the adapter at its end (see ``finish_training``); it
        raises InputError when the loss is no number any more.

    Raises:
        InputError: the words cannot be used with the base.
    """
    choices = request.choices
    check_words(choices.class_word, choices.identifier, reserved_identifiers(backbone.defaults))
    return _run_steps(backbone, prepare_lessons(backbone, data, choices), request)


def _run_steps(backbone: Backbone, lessons: Lessons, request: TrainRequest) -> Generator[StepReport, None, Adapter]:
    choices, settings = request.choices, request.settings
    timesteps = len(backbone.scheduler.alphas_cumprod)
    draw = BatchDraw(
        lessons, settings.batch_size, settings.joint_fraction, choices.null_fraction, timesteps, request.seed
    )
    nulls = null_states(backbone, 1)
    with attach_adapter(backbone, settings.rank, seed=request.seed) as attached:
        optimiser = make_optimiser(attached, settings)
        learnt = [parameter for group in optimiser.param_groups for parameter in group["params"]]
        busy = 0.0
        for step in range(1, settings.steps + 1):
            begun = time.perf_counter()
            losses = compute_losses(backbone, lessons, draw.draw(), settings, nulls)
            loss = dislora_loss(*losses, settings.token_weight, settings.attention_weight)
            whole, ldm, token, attention = (float(value.detach()) for value in (loss, *losses))
            if not math.isfinite(whole):
                raise InputError(f"The loss is {whole} at step {step}; lower the learning rates and train again.")
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(learnt, settings.gradient_clip)
            optimiser.step()
            busy += time.perf_counter() - begun
            speed = step * settings.batch_size / busy
            yield StepReport(step, settings.steps, whole, ldm, token, attention, speed)
        deltas = collect_deltas(backbone)
    return Adapter(
        name=request.name,
        class_word=choices.class_word,
        identifier=choices.identifier,
        base_fingerprint=backbone.fingerprint,
        rank=settings.rank,
        alpha=float(settings.rank),
        deltas=deltas,
        settings=describe_request(request),
    )


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


def reserved_identifiers(defaults: BaseDefaults) -> tuple[str, ...]:
    """Name the identifiers that a base keeps for concepts, when no other word may be one.

    Args:
        defaults: the base's own.

    Returns:
        Those in the form ``<...>``, which only a base made for it has; none where any rare word will do.
    """
    return tuple(word for word in defaults.identifiers if word.startswith("<") and word.endswith(">"))


def describe_request(request: TrainRequest) -> dict[str, str]:
    """Write a request down for the adapter's header.

    Args:
        request: what was asked for.

    Returns:
        Setting to value.
    """
    content = {**asdict(request.choices), **asdict(request.settings), "seed": request.seed}
    return {key: str(value) for key, value in content.items() if value is not None}


def make_optimiser(attached: Attachment, settings: DisLoRASettings) -> torch.optim.AdamW:
    """Make AdamW with a constant rate for the U-Net and one for the encoders.

    Args:
        attached: what there is to train; the encoders' part stops learning when its rate is 0.
        settings: rates and weight decay.

    Returns:
        The optimiser.

    Raises:
        InputError: both rates are 0.
    """
    parts = ((attached.unet, settings.unet_rate), (attached.text, settings.text_rate))
    groups = []
    for parameters, rate in parts:
        for parameter in parameters:
            parameter.requires_grad_(rate > 0)
        if rate > 0:
            groups.append({"params": list(parameters), "lr": rate})
    if not groups:
        raise InputError("unet_rate and text_rate are both 0, so nothing can be learnt; raise one.")
    return torch.optim.AdamW(groups, weight_decay=settings.weight_decay, fused=True)


def compute_losses(
    backbone: Backbone, lessons: Lessons, batch: Batch, settings: DisLoRASettings, nulls: TextStates
) -> Losses:
    """Compute the three losses of a batch with one pass of the adapted U-Net and one short pass of the bare one.

    L_token needs no pass of its own: the encoders are causal and the forms agree before position n, so what the
    tuned encoders make of the row's own prompt is, for i < n, what they would make of c_1.

    Paper: eq. (1), (3) and (4).

    Args:
        backbone: the base with an adapter attached.
        lessons: where the batch comes from.
        batch: b rows.
        settings: for the losses.
        nulls: one row of the null prompt.

    Returns:
        The losses; L_atten is 0 when its weight is, or when every row shows the null prompt.
    """
    device = batch.latents.device
    kept = backbone.scheduler.alphas_cumprod[batch.timesteps].to(device)
    noisy, timesteps = diffuse_latents(batch.latents, batch.noise, kept), batch.timesteps.to(device)
    used, places = batch.own.unique(return_inverse=True)
    tuned = encode_prompts(backbone, [lessons.prompts[number] for number in used.tolist()])
    token = token_loss(
        tuned.states[places].float(),
        lessons.frozen.states[batch.own].float(),
        lessons.ends[batch.own],
        settings.token_reduction,
    )
    text = _put_nulls(TextStates(tuned.states[places], tuned.pooled[places]), nulls, batch.dropped)
    level = coarsest_level(backbone.unet, (noisy.shape[-2], noisy.shape[-1]))
    own = _visible_spans(lessons, batch.own, batch.dropped)
    watched = settings.attention_weight > 0 and any(own)
    scale = backbone.latent_scale
    ids = time_ids(backbone, len(text), (noisy.shape[-2] * scale, noisy.shape[-1] * scale))
    tapping = tap_columns(backbone.unet, plan_reads(own, level)) if watched else nullcontext(None)
    with tapping as tap:
        prediction = predict(backbone, noisy, timesteps, text, ids)
    target = make_target(backbone.scheduler.config.prediction_type, batch.latents, batch.noise, kept)
    ldm = denoising_loss(prediction.float(), target.float(), batch.weights)
    attention = ldm.new_zeros(())
    if tap is not None:
        shown = ~batch.dropped
        attention = _compare_maps(backbone, lessons, batch, (noisy[shown], timesteps[shown]), (tap, level))
    return Losses(ldm, token, attention)


def _compare_maps(
    backbone: Backbone,
    lessons: Lessons,
    batch: Batch,
    state: tuple[Tensor, Tensor],
    tapped: tuple[ColumnTap, int],
) -> Tensor:
    tap, level = tapped
    plain = batch.plain[~batch.dropped]
    spans = [lessons.spans[number] for number in plain.tolist()]
    text = TextStates(lessons.frozen.states[plain], lessons.frozen.pooled[plain])
    class_maps = read_class_maps(backbone, *state, text, spans, level)
    return attention_loss(normalise_map(class_maps), normalise_map(tap.maps(level)))


def _visible_spans(lessons: Lessons, numbers: Tensor, dropped: Tensor) -> list[tuple[int, ...]]:
    return [
        () if hidden else lessons.spans[number]
        for number, hidden in zip(numbers.tolist(), dropped.tolist(), strict=True)
    ]


def _put_nulls(text: TextStates, nulls: TextStates, dropped: Tensor) -> TextStates:
    gone = dropped.to(text.states.device)
    return TextStates(
        torch.where(gone[:, None, None], nulls.states, text.states),
        torch.where(gone[:, None], nulls.pooled, text.pooled),
    )
