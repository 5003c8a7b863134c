"""What training draws from: latents made once, prompts in their forms, and the frozen encoders' reading of them."""

import re
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from d2plan.backbone.load import Backbone
from d2plan.backbone.sdxl import TextStates, encode_images, encode_prompts, join_states
from d2plan.backbone.text import count_word, find_span
from d2plan.dislora.data import DEFAULT_TEMPLATE, ConceptData, check_template
from d2plan.dislora.prompts import PromptForms, fill_template, swap_words
from d2plan.errors import InputError

_SIDES = re.compile(r"\b(left|right)\b", re.IGNORECASE)
_ENCODED_AT_ONCE = 8
_READ_AT_ONCE = 32


@dataclass(frozen=True)
class LessonChoices:
    """What is learnt and how pictures are shown; everything else is in ``DisLoRASettings``.

    Attributes:
        class_word: what kind of thing the concept is.
        identifier: the word that shall name it.
        template: for pictures without a caption; None takes the folder's, else "a photo of a {}".
        flip: show half of the pictures mirrored, unless their caption tells left from right.
        null_fraction: part of the pictures, 0..1, shown with the null prompt, so that guidance stays usable.
        masked: weigh L_LDM by the subject masks.
        background_weight: what pixels outside a mask count, 0..1; a little keeps the surroundings in order.
    """

    class_word: str
    identifier: str
    template: str | None = None
    flip: bool = True
    null_fraction: float = 0.1
    masked: bool = True
    background_weight: float = 0.1


@dataclass(frozen=True, eq=False)
class Lessons:
    """A concept, ready to draw batches from; n pictures, p different prompts.

    Attributes:
        latents: plain and mirrored, ``[n 2 c h w]``.
        weights: of each latent pixel, ``[n 2 1 h w]``, 0..1; None without masks.
        mirrors: which pictures may be shown mirrored, ``[n]`` bool.
        prompts: each once.
        rows: which prompt each picture has as c_1, c_2 and "identifier + class word", ``[n 3]``.
        frozen: what the base's own encoders make of the prompts, p rows.
        spans: where the class word stands in a c_1, the identifier in the others, token positions by prompt.
        notes: what was left out and why.
    """

    latents: Tensor
    weights: Tensor | None
    mirrors: Tensor
    prompts: tuple[str, ...]
    rows: Tensor
    frozen: TextStates
    spans: tuple[tuple[int, ...], ...]
    notes: tuple[str, ...] = ()

    @property
    def ends(self) -> Tensor:
        """Give n of eq. (3) by prompt, ``[p]``: where the class word or the identifier begins."""
        return torch.tensor([span[0] for span in self.spans])


@dataclass(frozen=True, eq=False)
class Batch:
    """What one step learns from; b pictures.

    Attributes:
        latents: x_0, ``[b c h w]``.
        weights: ``[b 1 h w]`` or None.
        noise: ``[b c h w]``.
        timesteps: ``[b]``.
        own: number of each row's prompt with the identifier, ``[b]``.
        plain: number of each row's c_1, ``[b]``.
        dropped: rows that see the null prompt, ``[b]`` bool.
    """

    latents: Tensor
    weights: Tensor | None
    noise: Tensor
    timesteps: Tensor
    own: Tensor
    plain: Tensor
    dropped: Tensor


def prepare_lessons(backbone: Backbone, data: ConceptData, choices: LessonChoices) -> Lessons:
    """Make what training needs more than once, once: latents, prompts, frozen text states, token positions.

    Args:
        backbone: the base, without an adapter.
        data: the concept's pictures, at a size that the base takes.
        choices: what is learnt.

    Returns:
        The lessons, on the base's device where they are large.

    Raises:
        InputError: the template or a word cannot be used, or is not found in a prompt, or stands behind the
            encoders' length.
    """
    forms, notes = _write_forms(data, choices)
    prompts = tuple(dict.fromkeys(text for form in forms for text in _in_order(form)))
    number = {text: index for index, text in enumerate(prompts)}
    latents = _encode_both_ways(backbone, data.images)
    captions = [caption or "" for caption in data.captions]
    return Lessons(
        latents=latents,
        weights=_weigh_pixels(data, choices, latents) if choices.masked else None,
        mirrors=torch.tensor([choices.flip and not _SIDES.search(caption) for caption in captions]),
        prompts=prompts,
        rows=torch.tensor([[number[text] for text in _in_order(form)] for form in forms]),
        frozen=_encode_frozen(backbone, prompts),
        spans=_find_spans(backbone, forms, prompts, choices),
        notes=tuple(notes),
    )


class BatchDraw:
    """Draws batches: every picture once before any comes again, all chance from one generator on the CPU.

    Args:
        lessons: what to draw from.
        batch_size: pictures a batch.
        joint_fraction: part of the rows that show "identifier + class word" instead of the identifier alone.
        null_fraction: part of the rows that show the null prompt.
        timesteps: of the base's schedule.
        seed: of the generator.
    """

    def __init__(
        self,
        lessons: Lessons,
        batch_size: int,
        joint_fraction: float,
        null_fraction: float,
        timesteps: int,
        seed: int,
    ) -> None:
        self.lessons = lessons
        self.batch_size = batch_size
        self.joint_fraction = joint_fraction
        self.null_fraction = null_fraction
        self.timesteps = timesteps
        self.generator = torch.Generator("cpu").manual_seed(seed)
        self._waiting = torch.empty(0, dtype=torch.long)

    def draw(self) -> Batch:
        """Draw the next batch."""
        lessons, size = self.lessons, self.batch_size
        picked = self._pick(size)
        ways = (self._chance(size, 0.5) & lessons.mirrors[picked]).long()
        forms = 1 + self._chance(size, self.joint_fraction).long()
        dropped = self._chance(size, self.null_fraction)
        timesteps = torch.randint(self.timesteps, (size,), generator=self.generator)
        latents = lessons.latents[picked, ways]
        noise = torch.randn(latents.shape, generator=self.generator).to(latents)
        return Batch(
            latents=latents,
            weights=None if lessons.weights is None else lessons.weights[picked, ways],
            noise=noise,
            timesteps=timesteps,
            own=lessons.rows[picked, forms],
            plain=lessons.rows[picked, 0],
            dropped=dropped,
        )

    def _pick(self, count: int) -> Tensor:
        while len(self._waiting) < count:
            order = torch.randperm(len(self.lessons.rows), generator=self.generator)
            self._waiting = torch.cat([self._waiting, order])
        picked, self._waiting = self._waiting[:count], self._waiting[count:]
        return picked

    def _chance(self, count: int, share: float) -> Tensor:
        return torch.rand(count, generator=self.generator) < share


def _in_order(form: PromptForms) -> tuple[str, str, str]:
    return form.class_form, form.identifier_form, form.joint_form


def _write_forms(data: ConceptData, choices: LessonChoices) -> tuple[list[PromptForms], list[str]]:
    template = choices.template or data.words.template or DEFAULT_TEMPLATE
    check_template(template)
    plain = fill_template(template, choices.class_word, choices.identifier)
    forms, notes = [], []
    for name, caption in zip(data.names, data.captions, strict=True):
        swapped = swap_words(caption, choices.class_word, choices.identifier) if caption else None
        if caption and swapped is None:
            notes.append(f'{name}: its caption does not name "{choices.class_word}", so the template is used')
        forms.append(swapped or plain)
    return forms, notes


def _find_spans(
    backbone: Backbone, forms: list[PromptForms], prompts: tuple[str, ...], choices: LessonChoices
) -> tuple[tuple[int, ...], ...]:
    spans: dict[str, tuple[int, ...]] = {}
    for form in dict.fromkeys(forms):
        words = (choices.class_word, choices.identifier, choices.identifier)
        for text, word in zip(_in_order(form), words, strict=True):
            # The same word may stand before the one that is meant.
            spans[text] = find_span(backbone.tokenizers, text, word, count_word(text[: form.begin], word))
        starts = {spans[text][0] for text in _in_order(form)}
        if len(starts) != 1:
            raise InputError(
                f'"{choices.class_word}" and "{choices.identifier}" do not begin at the same token of '
                f'"{form.class_form}"; put spaces around the class word.'
            )
    return tuple(spans[text] for text in prompts)


def _encode_both_ways(backbone: Backbone, images: np.ndarray) -> Tensor:
    parts = [images[start : start + _ENCODED_AT_ONCE] for start in range(0, len(images), _ENCODED_AT_ONCE)]
    plain = torch.cat([encode_images(backbone, part) for part in parts])
    mirrored = torch.cat([encode_images(backbone, part[:, :, ::-1]) for part in parts])
    return torch.stack([plain, mirrored], dim=1)


def _encode_frozen(backbone: Backbone, prompts: tuple[str, ...]) -> TextStates:
    starts = range(0, len(prompts), _READ_AT_ONCE)
    with torch.no_grad():
        return join_states([encode_prompts(backbone, prompts[start : start + _READ_AT_ONCE]) for start in starts])


def _weigh_pixels(data: ConceptData, choices: LessonChoices, latents: Tensor) -> Tensor | None:
    if all(mask is None for mask in data.masks):
        return None
    shape = data.images.shape[1:3]
    whole = torch.stack(
        [torch.ones(shape) if mask is None else torch.from_numpy(np.array(mask)) for mask in data.masks]
    )[:, None]
    inside = functional.adaptive_avg_pool2d(whole, (latents.shape[-2], latents.shape[-1]))
    weights = choices.background_weight + (1 - choices.background_weight) * inside
    return torch.stack([weights, weights.flip(-1)], dim=1).to(latents.device)
