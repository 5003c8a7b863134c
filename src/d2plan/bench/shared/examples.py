"""What compared methods learn from: a concept's pictures, prompts and masks, and the steps' batches drawn from them."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from d2plan.backbone.load import Backbone
from d2plan.bench.protocol import BenchConcept
from d2plan.bench.shared.steps import follow
from d2plan.dislora.data import read_concept_folder
from d2plan.dislora.draw import Batch, BatchDraw, PriorRows
from d2plan.dislora.lessons import LessonChoices, Lessons, PriorLessons, prepare_lessons
from d2plan.documents import Scene
from d2plan.isp.loop import compose_steps
from d2plan.isp.prepare import prepare_scene


@dataclass(frozen=True)
class LearnOptions:
    """How a training runs.

    Attributes:
        steps: optimiser steps.
        batch_size: pictures a step, class images not counted; several concepts share it evenly.
        joint_fraction: part of the pictures shown with "identifier class word", the others with the identifier alone.
        null_fraction: part of the pictures shown with the null prompt.
        use_captions: take the captions; without it every picture has the folder's template.
        flip: show half of the pictures mirrored, unless their caption tells left from right.
        prior_weight: of prior preservation on class images that the base draws first; 0 switches it off.
        prior_images: how many it draws for a concept.
        prior_steps: denoising steps of each; None takes the base's own.
        noise_offset: a constant for each channel, of this deviation, is added to the noise.
        linear_decay: rates go down to 0 in a straight line; else they are constant.
        gradient_clip: largest norm of all gradients together.
    """

    steps: int
    batch_size: int = 4
    joint_fraction: float = 1.0
    null_fraction: float = 0.0
    use_captions: bool = True
    flip: bool = True
    prior_weight: float = 0.0
    prior_images: int = 16
    prior_steps: int | None = None
    noise_offset: float = 0.0
    linear_decay: bool = False
    gradient_clip: float = 1.0


@dataclass(frozen=True, eq=False)
class Examples:
    """What one step learns from; b pictures of the concepts, then p class images.

    Attributes:
        latents: x_0, ``[b+p c h w]``.
        noise: ``[b+p c h w]``.
        timesteps: ``[b+p]``.
        prompts: b + p texts; those of class images hold no identifier.
        masks: how much of each latent cell is the subject, ``[b 1 h w]``, 0..1; None without masks. They weigh no
            denoising loss, see ``shared.learning``.
        spans: token positions of the identifier in each of the first b prompts; empty where the null prompt is shown.
        owners: which concept each of the first b pictures shows, from 0.
        dropped: which of all rows see the null prompt, ``[b+p]`` bool.
    """

    latents: Tensor
    noise: Tensor
    timesteps: Tensor
    prompts: tuple[str, ...]
    masks: Tensor | None
    spans: tuple[tuple[int, ...], ...]
    owners: tuple[int, ...]
    dropped: Tensor


def prepare_concept(backbone: Backbone, concept: BenchConcept, options: LearnOptions) -> Lessons:
    """Read a concept's folder and make its latents and prompts.

    Args:
        backbone: the base.
        concept: what to learn.
        options: how its pictures are shown.

    Returns:
        The lessons, without class images.

    Raises:
        FileError: the folder cannot be read.
        InputError: its words cannot be used with the base.
    """
    data = read_concept_folder(concept.folder, *backbone.size)
    choices = LessonChoices(
        concept.class_word,
        concept.identifier,
        flip=options.flip,
        null_fraction=options.null_fraction,
        masked=True,
        background_weight=0.0,
        use_captions=options.use_captions,
    )
    return prepare_lessons(backbone, data, choices)


def draw_prior(
    backbone: Backbone, lessons: Lessons, options: LearnOptions, seed: int
) -> Generator[float, None, Lessons]:
    """Let the base draw a concept's class images, many at once.

    Source: Ruiz et al. 2023 (DreamBooth), prior preservation, which draws 200 of them.

    Args:
        backbone: the base, before anything on it has learnt.
        lessons: the concept.
        options: how many; a prior weight of 0 draws none.
        seed: of the first picture.

    Returns:
        A generator that gives the share that is done, 0..1, and at its end the lessons with them.
    """
    return _draw_prior(backbone, lessons, options, seed)


class ExampleDraw:
    """Draws the examples of each step, from all concepts evenly.

    Args:
        backbone: the base.
        lessons: one for each concept; all pictures have one size.
        options: how they are shown.
        seed: of the order, the timesteps and the noise.
    """

    def __init__(self, backbone: Backbone, lessons: Sequence[Lessons], options: LearnOptions, seed: int) -> None:
        size = max(1, options.batch_size // len(lessons))
        timesteps = len(backbone.scheduler.alphas_cumprod)
        self._noise_offset = options.noise_offset
        self._draws = tuple(
            BatchDraw(one, size, options.joint_fraction, options.null_fraction, timesteps, seed + place)
            for place, one in enumerate(lessons)
        )

    def draw(self) -> Examples:
        """Draw the next step's."""
        batches = [draw.draw() for draw in self._draws]
        priors = [batch.prior for batch in batches if batch.prior is not None]
        dropped = torch.cat([batch.dropped for batch in batches])
        prompts: list[str] = []
        spans: list[tuple[int, ...]] = []
        owners: list[int] = []
        classes: list[str] = []
        for place, (draw, batch) in enumerate(zip(self._draws, batches, strict=True)):
            lessons = draw.lessons
            for number, hidden in zip(batch.own.tolist(), batch.dropped.tolist(), strict=True):
                prompts.append(lessons.prompts[number])
                spans.append(() if hidden else lessons.spans[number])
                owners.append(place)
            if batch.prior is not None:
                classes += [lessons.prompts[number] for number in batch.prior.prompts.tolist()]
        rows: list[Batch | PriorRows] = [*batches, *priors]
        return Examples(
            latents=torch.cat([part.latents for part in rows]),
            noise=self._shift(torch.cat([part.noise for part in rows])),
            timesteps=torch.cat([part.timesteps for part in rows]),
            prompts=(*prompts, *classes),
            masks=_join_masks([(batch.latents, batch.weights) for batch in batches]),
            spans=tuple(spans),
            owners=tuple(owners),
            dropped=torch.cat([dropped, dropped.new_zeros(len(classes))]),
        )

    def _shift(self, noise: Tensor) -> Tensor:
        if self._noise_offset <= 0:
            return noise
        shift = torch.randn(*noise.shape[:2], 1, 1, generator=self._draws[0].generator)
        return noise + self._noise_offset * shift.to(noise)


def _draw_prior(
    backbone: Backbone, lessons: Lessons, options: LearnOptions, seed: int
) -> Generator[float, None, Lessons]:
    if options.prior_weight <= 0:
        return lessons
    rows = lessons.rows[:, 0].unique().tolist()
    numbers = [rows[index % len(rows)] for index in range(options.prior_images)]
    scenes = [
        prepare_scene(
            backbone, Scene(global_prompt=lessons.prompts[number], steps=options.prior_steps, seed=seed + place)
        )
        for place, number in enumerate(numbers)
    ]
    drawn = yield from follow(compose_steps(backbone, scenes), lambda progress: progress.step / progress.total)
    latents = torch.cat([composition.latents for composition in drawn])
    return replace(lessons, prior=PriorLessons(latents.to(backbone.device), torch.tensor(numbers)))


def _join_masks(parts: Sequence[tuple[Tensor, Tensor | None]]) -> Tensor | None:
    """Put the concepts' masks under each other; where only some have them, the others are subject all over."""
    if all(masks is None for _, masks in parts):
        return None
    whole = [cells.new_ones(len(cells), 1, *cells.shape[2:]) if own is None else own for cells, own in parts]
    return torch.cat(whole)
