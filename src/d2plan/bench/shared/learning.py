"""How compared methods learn: one denoising training for all of them.

Every method gets the same pictures with the same captions; what it trains, how its prompts become text states and what
it adds to the loss are its own. The denoising loss counts all pixels alike, for every method, since losses inside masks
alone make the embedded base grow second heads (docs/lab-notebook.md, 2026-11-29); masks are there for what a method
adds. Adapters are learnt in ``d2plan.bench.shared.adapters``, as the product does.
"""

import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from d2plan.backbone.load import Backbone
from d2plan.backbone.sdxl import TextStates, encode_prompts, null_states, predict, time_ids
from d2plan.bench.protocol import BenchConcept, Setting
from d2plan.bench.shared.examples import ExampleDraw, Examples, draw_prior, prepare_concept
from d2plan.bench.shared.examples import LearnOptions as LearnOptions
from d2plan.bench.shared.settings import count_steps
from d2plan.bench.shared.steps import follow
from d2plan.dislora.diffusion import diffuse_latents, make_target
from d2plan.dislora.lessons import Lessons
from d2plan.dislora.losses import denoising_loss
from d2plan.errors import InputError

Encode = Callable[[Sequence[str]], TextStates]
Extra = Callable[[Examples], AbstractContextManager[Callable[[], Tensor]]]
# The part of a training's progress that drawing class images counts for.
_PRIOR_SHARE = 0.2


class Rated(NamedTuple):
    """Parameters with a learning rate.

    Attributes:
        parameters: leaves that learn.
        rate: AdamW's.
        weight_decay: AdamW's.
    """

    parameters: Sequence[Tensor]
    rate: float
    weight_decay: float = 1e-2


def learn_steps(
    backbone: Backbone,
    concepts: Sequence[BenchConcept],
    rated: Sequence[Rated],
    options: LearnOptions,
    seed: int,
    encode: Encode | None = None,
    extra: Extra | None = None,
    after: Callable[[int, float], None] | None = None,
) -> Generator[float, None, None]:
    """Learn concepts by denoising their pictures, with AdamW.

    The parameters are the caller's, who puts them on the base beforehand and takes them off again (``borrow`` for
    weights of the base itself); this changes nothing else.

    Paper: eq. (1), L_LDM; prior preservation as in DreamBooth (Ruiz et al. 2023).

    Args:
        backbone: the base, with whatever learns on it.
        concepts: one, or several for joint training.
        rated: what learns, and how fast.
        options: how it runs.
        seed: of the pictures' order, the timesteps and the noise.
        encode: reads prompts, each of them different, with gradient; None takes the base's encoders as they are then.
        extra: is entered with a step's examples before the U-Net is called, and gives what is asked for a loss to
            be added after it.
        after: is told the step (from 1) and its loss after the optimiser's step, such as to hold values in bounds.

    Yields:
        The share that is done, 0..1, after each step.

    Raises:
        InputError: a folder cannot be learnt from, nothing has a rate above 0, or the loss is no number any more.
    """
    lessons: list[Lessons] = []
    first = _PRIOR_SHARE if options.prior_weight > 0 else 0.0
    for concept in concepts:
        drawing = _compute_steps(
            backbone, draw_prior(backbone, prepare_concept(backbone, concept, options), options, seed)
        )
        found = yield from follow(drawing, lambda share: first * (len(lessons) + share) / len(concepts))
        lessons.append(found)
    course = _Course(backbone, ExampleDraw(backbone, lessons, options, seed), options, encode, extra)
    optimiser = _make_optimiser(rated)
    rates = [group["lr"] for group in optimiser.param_groups]
    for step in range(1, options.steps + 1):
        if options.linear_decay:
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * (1 - (step - 1) / options.steps)
        loss = _take_step(course, optimiser, step)
        if after is not None:
            after(step, loss)
        yield first + (1 - first) * step / options.steps


def count_prior_steps(backbone: Backbone, setting: Setting) -> int:
    """Say in how many denoising steps class images are drawn.

    Args:
        backbone: the base, whose own number is the most.
        setting: whose "steps", where it is less than 1, shortens this as it shortens learning; for trials with little
            time.

    Returns:
        The number, at least 1.
    """
    return min(backbone.defaults.steps, count_steps(backbone.defaults.steps, setting))


@contextmanager
def borrow(parameters: Iterable[nn.Parameter]) -> Iterator[tuple[nn.Parameter, ...]]:
    """Let weights of the base learn while the block runs, in float32; afterwards it has its own back, bit for bit.

    Args:
        parameters: of the base.

    Yields:
        The same parameters, which hold copies of their values and ask for gradients.
    """
    taken = tuple(parameters)
    before = [(parameter.data, parameter.requires_grad) for parameter in taken]
    try:
        for parameter in taken:
            parameter.data = parameter.data.to(torch.float32, copy=True)
            parameter.requires_grad_(True)
        yield taken
    finally:
        for parameter, (data, learns) in zip(taken, before, strict=True):
            parameter.grad = None
            parameter.data = data
            parameter.requires_grad_(learns)


@dataclass(frozen=True, eq=False)
class _Course:
    """What every step needs."""

    backbone: Backbone
    draw: ExampleDraw
    options: LearnOptions
    encode: Encode | None
    extra: Extra | None


def _make_optimiser(rated: Sequence[Rated]) -> torch.optim.AdamW:
    groups = [
        {"params": list(part.parameters), "lr": part.rate, "weight_decay": part.weight_decay}
        for part in rated
        if part.rate > 0 and part.parameters
    ]
    if not groups:
        raise InputError("settings: nothing has a learning rate above 0; raise one.")
    return torch.optim.AdamW(groups, fused=True)


def _take_step(course: _Course, optimiser: torch.optim.AdamW, step: int) -> float:
    examples = course.draw.draw()
    learnt = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    optimiser.zero_grad(set_to_none=True)
    with torch.enable_grad():
        loss = _compute_loss(course, examples)
        told = float(loss.detach())
        if not math.isfinite(told):
            raise InputError(f"The loss is {told} at step {step}; use a setting with lower rates.")
        loss.backward()
    torch.nn.utils.clip_grad_norm_(learnt, course.options.gradient_clip)
    optimiser.step()
    return told


def _compute_loss(course: _Course, examples: Examples) -> Tensor:
    backbone = course.backbone
    latents, device = examples.latents, examples.latents.device
    kept = backbone.scheduler.alphas_cumprod[examples.timesteps].to(device)
    noisy = diffuse_latents(latents, examples.noise, kept)
    scale = backbone.latent_scale
    ids = time_ids(backbone, len(latents), (latents.shape[-2] * scale, latents.shape[-1] * scale))
    watching = nullcontext(None) if course.extra is None else course.extra(examples)
    with _compute_as(backbone), watching as ask:
        text = _read_prompts(course, examples)
        prediction = predict(backbone, noisy, examples.timesteps.to(device), text, ids).float()
        target = make_target(backbone.scheduler.config.prediction_type, latents, examples.noise, kept).float()
        count = len(examples.owners)
        loss = denoising_loss(prediction[:count], target[:count])
        if count < len(latents):
            loss = loss + course.options.prior_weight * denoising_loss(prediction[count:], target[count:])
        return loss if ask is None else loss + ask()


def _read_prompts(course: _Course, examples: Examples) -> TextStates:
    """Read each different prompt once; rows whose prompt is dropped get the base's null."""
    backbone = course.backbone
    different = list(dict.fromkeys(examples.prompts))
    places = [different.index(prompt) for prompt in examples.prompts]
    text = (course.encode or (lambda prompts: encode_prompts(backbone, prompts)))(different)[places]
    if not examples.dropped.any():
        return text
    nulls, gone = null_states(backbone, 1), examples.dropped.to(text.states.device)
    # A method may give every layer states of its own, side by side.
    nothing = nulls.states.repeat(1, 1, text.states.shape[-1] // nulls.states.shape[-1])
    return TextStates(
        torch.where(gone[:, None, None], nothing.to(text.states), text.states),
        torch.where(gone[:, None], nulls.pooled.to(text.pooled), text.pooled),
    )


def _compute_steps(backbone: Backbone, steps: Generator[float, None, Lessons]) -> Generator[float, None, Lessons]:
    """Compute each step so; whoever is told of them computes as before."""
    with closing(steps):
        while True:
            with _compute_as(backbone):
                try:
                    share = next(steps)
                except StopIteration as end:
                    lessons: Lessons = end.value
                    return lessons
            yield share


def _compute_as(backbone: Backbone) -> AbstractContextManager[object]:
    """Compute in the base's number format though what learns is float32."""
    forms = {
        parameter.dtype for model in (backbone.unet, *backbone.text_encoders) for parameter in model.parameters()
    } - {torch.float32}
    if not forms:
        return nullcontext()
    # No cache of cast weights: each is used once a pass.
    return torch.autocast(backbone.device.type, forms.pop(), cache_enabled=False)
