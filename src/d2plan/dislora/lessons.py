"""What training draws from: latents made once, prompts in their forms, and the frozen encoders' reading of them."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from d2plan.backbone.load import Backbone
from d2plan.backbone.sdxl import TextStates, encode_images, encode_prompts, join_states, sample_steps
from d2plan.backbone.text import count_word, find_cut, find_span, quote_prompt
from d2plan.dislora.cache import keep_tensors
from d2plan.dislora.data import DEFAULT_TEMPLATE, ConceptData, check_template
from d2plan.dislora.prompts import PromptForms, fill_template, swap_words
from d2plan.errors import InputError

_SIDES = re.compile(r"\b(left|right)\b", re.IGNORECASE)
_READ_AT_ONCE = 32
_TOLD = 3  # names in a line that tells of several pictures

Progress = Callable[[str, int, int], None]


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
        use_captions: take the pictures' captions; without it every picture has the template.
    """

    class_word: str
    identifier: str
    template: str | None = None
    flip: bool = True
    null_fraction: float = 0.1
    masked: bool = False
    background_weight: float = 0.1
    use_captions: bool = True


@dataclass(frozen=True, eq=False)
class PriorLessons:
    """Pictures of the class that the base drew itself, for prior preservation; k of them.

    Attributes:
        latents: as the base's sampler left them, ``[k c h w]``.
        rows: which prompt each was drawn from, a c_1, ``[k]``.
    """

    latents: Tensor
    rows: Tensor


@dataclass(frozen=True, eq=False)
class Lessons:
    """A concept, ready to draw batches from; n pictures, p different prompts.

    Attributes:
        latents: of each picture plain and mirrored, ``[2 c h w]``; pictures may differ in size.
        weights: of each picture's latent pixels, ``[2 1 h w]``, 0..1; None without masks.
        mirrors: which pictures may be shown mirrored, ``[n]`` bool.
        prompts: each once.
        rows: which prompt each picture has as c_1, c_2 and "identifier + class word", ``[n 3]``.
        frozen: what the base's own encoders make of the prompts, p rows.
        spans: where the class word stands in a c_1, the identifier in the others, token positions by prompt.
        prior: class images of the base; None without prior preservation.
        notes: what was left out and why.
    """

    latents: tuple[Tensor, ...]
    weights: tuple[Tensor, ...] | None
    mirrors: Tensor
    prompts: tuple[str, ...]
    rows: Tensor
    frozen: TextStates
    spans: tuple[tuple[int, ...], ...]
    prior: PriorLessons | None = None
    notes: tuple[str, ...] = ()

    @property
    def ends(self) -> Tensor:
        """Give n of eq. (3) by prompt, ``[p]``: where the class word or the identifier begins."""
        return torch.tensor([span[0] for span in self.spans])


def prepare_lessons(
    backbone: Backbone,
    data: ConceptData,
    choices: LessonChoices,
    prior_images: int = 0,
    cache: Path | None = None,
    on_progress: Progress | None = None,
) -> Lessons:
    """Make what training needs more than once, once: latents, prompts, frozen text states, token positions.

    Args:
        backbone: the base, without an adapter.
        data: the concept's pictures, at sizes that the base takes.
        choices: what is learnt.
        prior_images: how many class images the base draws for prior preservation.
        cache: a file that keeps the latents for the next time; one that was made from other pictures, another base
            or damaged is made anew.
        on_progress: is told what is happening, how much is done, and how much there is.

    Returns:
        The lessons, on the base's device where they are large.

    Raises:
        InputError: the template or a word cannot be used, or is not found in a prompt, or stands behind the
            encoders' length.
    """
    forms, notes = _write_forms(backbone, data, choices)
    prompts = tuple(dict.fromkeys(text for form in forms for text in _in_order(form)))
    number = {text: index for index, text in enumerate(prompts)}
    spans = _find_spans(backbone, data.names, forms, choices)
    classes = tuple(dict.fromkeys(form.class_form for form in forms))
    drawn = [classes[index % len(classes)] for index in range(prior_images)]
    report = on_progress or _ignore

    def make() -> dict[str, Tensor]:
        latents = _encode_both_ways(backbone, data.images, report) | _draw_class_images(backbone, drawn, report)
        return {name: tensor.cpu() for name, tensor in latents.items()}

    kept = make() if cache is None else keep_tensors(cache, _digest_sources(backbone, data, drawn), make)
    latents = tuple(kept[f"picture.{index}"].to(backbone.device) for index in range(len(data.names)))
    captions = [caption or "" for caption in data.captions]
    return Lessons(
        latents=latents,
        weights=_weigh_pixels(data, choices, latents) if choices.masked else None,
        mirrors=torch.tensor([choices.flip and not _SIDES.search(caption) for caption in captions]),
        prompts=prompts,
        rows=torch.tensor([[number[text] for text in _in_order(form)] for form in forms]),
        frozen=_encode_frozen(backbone, prompts),
        spans=tuple(spans[text] for text in prompts),
        prior=_collect_prior(backbone, kept, [number[text] for text in drawn]),
        notes=tuple(notes),
    )


def _in_order(form: PromptForms) -> tuple[str, str, str]:
    return form.class_form, form.identifier_form, form.joint_form


def check_prompts(backbone: Backbone, data: ConceptData, choices: LessonChoices) -> None:
    """Refuse a template or captions that cannot be learnt from, before anything is encoded.

    Args:
        backbone: the base.
        data: the concept's pictures.
        choices: what is learnt.

    Raises:
        InputError: the template or a word cannot be used, or is not found in a prompt, or stands behind the
            encoders' length.
    """
    forms, _ = _write_forms(backbone, data, choices)
    _find_spans(backbone, data.names, forms, choices)


def _write_forms(backbone: Backbone, data: ConceptData, choices: LessonChoices) -> tuple[list[PromptForms], list[str]]:
    template = choices.template or data.words.template or DEFAULT_TEMPLATE
    check_template(template)
    plain = fill_template(template, choices.class_word, choices.identifier)
    forms, silent, cuts = [], [], []
    captions = data.captions if choices.use_captions else [None] * len(data.names)
    for name, caption in zip(data.names, captions, strict=True):
        swapped = swap_words(caption, choices.class_word, choices.identifier) if caption else None
        if caption and swapped is None:
            silent.append(name)
        if swapped is not None and find_cut(swapped.joint_form, backbone):
            cuts.append(name)
        forms.append(swapped or plain)
    notes = [_tell_silent(silent, choices.class_word)] if silent else []
    notes += [_tell_cut(f"{_name_captions(cuts)} {'is' if len(cuts) == 1 else 'are'}")] if cuts else []
    return forms, notes + ([_tell_cut("the template is")] if find_cut(plain.joint_form, backbone) else [])


def _tell_silent(names: list[str], class_word: str) -> str:
    """Tell in one line of all captions that leave their subject out."""
    which = f"{_name_captions(names)} {'does' if len(names) == 1 else 'do'}"
    return f'{which} not name "{class_word}", so the template is used instead'


def _tell_cut(which: str) -> str:
    return f"{which} longer than the base reads; what stands behind is cut off"


def _name_captions(names: list[str]) -> str:
    some = ", ".join(names[:_TOLD]) + (f" and {len(names) - _TOLD} more" if len(names) > _TOLD else "")
    return f"the caption of {some}" if len(names) == 1 else f"the captions of {some}"


def _find_spans(
    backbone: Backbone, names: Sequence[str], forms: list[PromptForms], choices: LessonChoices
) -> dict[str, tuple[int, ...]]:
    spans: dict[str, tuple[int, ...]] = {}
    first: dict[PromptForms, str] = {}
    for name, form in zip(names, forms, strict=True):
        first.setdefault(form, name)
    for form, name in first.items():
        try:
            spans |= _find_places(backbone, form, choices)
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
    return spans


def _find_places(backbone: Backbone, form: PromptForms, choices: LessonChoices) -> dict[str, tuple[int, ...]]:
    words = (choices.class_word, choices.identifier, choices.identifier)
    # The same word may stand before the one that is meant.
    spans = {
        text: find_span(backbone.tokenizers, text, word, count_word(text[: form.begin], word))
        for text, word in zip(_in_order(form), words, strict=True)
    }
    if len({span[0] for span in spans.values()}) != 1:
        raise InputError(
            f'"{choices.class_word}" and "{choices.identifier}" do not begin at the same token of '
            f'"{quote_prompt(form.class_form, form.begin)}"; put spaces around the class word.'
        )
    return spans


def _encode_both_ways(backbone: Backbone, images: Sequence[np.ndarray], report: Progress) -> dict[str, Tensor]:
    latents = {}
    for index, image in enumerate(images):
        report("encoding the pictures", index, len(images))
        # Each picture for itself: sizes may differ, and none depends on its neighbours.
        latents[f"picture.{index}"] = encode_images(backbone, np.stack([image, image[:, ::-1]]))
    report("encoding the pictures", len(images), len(images))
    return latents


def _draw_class_images(backbone: Backbone, prompts: Sequence[str], report: Progress) -> dict[str, Tensor]:
    latents = {}
    for index, prompt in enumerate(prompts):
        report("drawing class images", index, len(prompts))
        *_, last = sample_steps(backbone, prompt, seed=index)
        latents[f"class.{index}"] = last.latents
    if prompts:
        report("drawing class images", len(prompts), len(prompts))
    return latents


def _collect_prior(backbone: Backbone, kept: Mapping[str, Tensor], rows: list[int]) -> PriorLessons | None:
    if not rows:
        return None
    latents = torch.cat([kept[f"class.{index}"] for index in range(len(rows))])
    return PriorLessons(latents.to(backbone.device), torch.tensor(rows))


def _digest_sources(backbone: Backbone, data: ConceptData, drawn: Sequence[str]) -> str:
    digest = hashlib.sha256(f"{data.fingerprint} {backbone.fingerprint} {backbone.dtype} {list(drawn)}".encode())
    # The fingerprint leaves the VAE out, since adapters do not touch it; latents are made by nothing else.
    for name, tensor in sorted(backbone.vae.state_dict().items()):
        digest.update(name.encode() + tensor.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()


def _encode_frozen(backbone: Backbone, prompts: tuple[str, ...]) -> TextStates:
    starts = range(0, len(prompts), _READ_AT_ONCE)
    with torch.no_grad():
        return join_states([encode_prompts(backbone, prompts[start : start + _READ_AT_ONCE]) for start in starts])


def _weigh_pixels(data: ConceptData, choices: LessonChoices, latents: Sequence[Tensor]) -> tuple[Tensor, ...] | None:
    if all(mask is None for mask in data.masks):
        return None
    weights = []
    for mask, image, cells in zip(data.masks, data.images, latents, strict=True):
        whole = torch.ones(image.shape[:2]) if mask is None else torch.from_numpy(np.array(mask))
        inside = functional.adaptive_avg_pool2d(whole[None], (cells.shape[-2], cells.shape[-1]))
        weight = choices.background_weight + (1 - choices.background_weight) * inside
        weights.append(torch.stack([weight, weight.flip(-1)]).to(cells.device))
    return tuple(weights)


def _ignore(*_: object) -> None:
    """Nobody asked to be told."""
