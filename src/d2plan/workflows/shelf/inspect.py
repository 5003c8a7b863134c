"""See where a base or an adapter looks: attention maps of words, averaged over the steps, and their clusters."""

import os
import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from d2plan.adapter.file import Adapter, check_base, load_adapter
from d2plan.adapter.rows import adapter_rows
from d2plan.backbone.attention import ColumnRead, TapPlan, attention_levels, level_size, tap_columns
from d2plan.backbone.load import Backbone, load_backbone
from d2plan.backbone.sampling import latent_size
from d2plan.backbone.sdxl import decode_latents, sample_steps
from d2plan.backbone.text import count_word, find_span
from d2plan.dislora.losses import normalise_map, soft_iou
from d2plan.dislora.prompts import swap_words
from d2plan.errors import InputError
from d2plan.eval.clusters import cluster_rows
from d2plan.media.images import Picture, check_output, make_folder, write_png
from d2plan.workflows.shelf.inspect_picture import Row, draw_rows

MOST_WORDS, MOST_CLUSTERS = 6, 7
_WORD = re.compile(r"<[^<>\s]+>|\w+(?:['’-]\w+)*")
# Words that stand for no thing; their maps are noise, and clusters named after them tell nothing.
_EMPTY = frozenset("a an the of on in at with and or to is are by for from near next its his her their".split())


class InspectOptions(TypedDict, total=False):
    """What else may be asked of ``inspect_attention``.

    Attributes:
        seed: of the noise; 0 without it.
        steps: denoising steps; the base's own without it.
        guidance_scale: w; the base's own without it.
        clusters: groups of pixels; 5 without it.
        device: such as "cpu" or "cuda".
        overwrite: replace a picture that is there.
        class_word: of the concept, in the place of what its file says.
        identifier: of the concept, in the place of what its file says.
        other_base: take an adapter that was learnt on other weights of the base's architecture.
        on_progress: is told what is happening, how much is done, and how much there is.
    """

    seed: int
    steps: int
    guidance_scale: float
    clusters: int
    device: str
    overwrite: bool
    class_word: str
    identifier: str
    other_base: bool
    on_progress: Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Look:
    """Where a model looked while it drew a picture.

    Attributes:
        label: which model it was.
        prompt: what it drew.
        image: ``[h w 3]``, 0..255.
        words: those that were asked for.
        maps: of each of them, ``[words, q_h, q_w]``, attention probability 0..1, mean over heads, layers and steps.
        groups: of each cell ``[q_h, q_w]``, by the attention to all words of the prompt.
        names: of each group, the word that stands out in it most, numbered where groups share it.
    """

    label: str
    prompt: str
    image: Picture
    words: tuple[str, ...]
    maps: NDArray[np.float32]
    groups: NDArray[np.int64]
    names: tuple[str, ...]

    def overlap(self, first: str, second: str) -> float:
        """Tell how much two words look at the same place, soft intersection over union as in eq. (4).

        Args:
            first: one of ``words``.
            second: another one.

        Returns:
            0..1.
        """
        chosen = torch.from_numpy(self.maps[[self.words.index(first), self.words.index(second)]]).flatten(1)
        maps = normalise_map(chosen)
        return float(soft_iou(maps[0], maps[1]))


def inspect_attention(
    prompt: str,
    out: str | Path,
    words: Sequence[str] = (),
    base: str | Path | Backbone = "mini",
    concept: str | Path | None = None,
    **options: Unpack[InspectOptions],
) -> list[Look]:
    """Draw where the words of a prompt look, for a base alone or beside an adapter, as one picture.

    Each row shows a model: the picture that it drew, its pixels grouped by the words that they attend to, and the map
    of each word, averaged over all steps, layers and heads. With an adapter the first row is the base with the class
    word in the identifier's place, from the same noise; where neither file nor options name an identifier, the class
    word calls the concept, and both draw the same prompt.

    Paper: figures 2 and 4.

    Args:
        prompt: what to draw; with an adapter it names the identifier, or the class word where there is none.
        out: a PNG file.
        words: whose maps to show; without any, those of the prompt that stand for something.
        base: a name, a folder, or one that is open already.
        concept: an adapter's file.
        **options: see ``InspectOptions``.

    Returns:
        What each row shows.

    Raises:
        InputError: a word is not in the prompt or not known, the adapter is of another base, or a value cannot be used.
        FileError: the picture is there already or cannot be written, or a file cannot be read.
    """
    clusters = options.get("clusters", 5)
    if not 1 <= clusters <= MOST_CLUSTERS:
        raise InputError(f"clusters is {clusters}, but must be 1..{MOST_CLUSTERS}.")
    target = Path(os.path.expanduser(out))
    if target.suffix.lower() != ".png":
        raise InputError(f"out: {target} is no name for a PNG file; end it in .png.")
    check_output(target, options.get("overwrite", False))
    adapter = _open_concept(concept, options)
    runs = _plan_runs(prompt, words, adapter)
    make_folder(target.parent)
    backbone = base if isinstance(base, Backbone) else load_backbone(base, options.get("device", "cpu"))
    if adapter is not None:
        check_base(adapter, backbone, options.get("other_base", False))
    looks = [_look(backbone, run, clusters, options) for run in runs]
    write_png(target, draw_rows([_as_row(look) for look in looks]))
    return looks


def _open_concept(path: str | Path | None, options: InspectOptions) -> Adapter | None:
    class_word, identifier = options.get("class_word", "").strip(), options.get("identifier", "").strip()
    if path is None:
        if class_word or identifier:
            raise InputError("class_word and identifier call a concept, but none is given; name its file.")
        return None
    adapter = load_adapter(path)
    class_word, identifier = class_word or adapter.class_word, identifier or adapter.identifier
    if not class_word:
        raise InputError(f"{path} names no class word; give it with --class, such as man.")
    return replace(adapter, class_word=class_word, identifier=identifier)


@dataclass(frozen=True, eq=False)
class _Run:
    """One row to make."""

    label: str
    prompt: str
    words: tuple[str, ...]
    adapter: Adapter | None = None


def _plan_runs(prompt: str, words: Sequence[str], adapter: Adapter | None) -> list[_Run]:
    chosen = tuple(dict.fromkeys(words)) or _words_of(prompt)[:MOST_WORDS]
    if len(chosen) > MOST_WORDS:
        raise InputError(f"words: {len(chosen)} are too many for one picture; choose at most {MOST_WORDS}.")
    for word in chosen:
        if not count_word(prompt, word):
            raise InputError(f'words: "{word}" is not in the prompt "{prompt}"; choose a word that stands there.')
    if not chosen:
        raise InputError(f'words: the prompt "{prompt}" has no word to look at; write one.')
    if adapter is None:
        return [_Run("base", prompt, chosen)]
    call = adapter.identifier or adapter.class_word
    if not count_word(prompt, call):
        kind = "identifier" if adapter.identifier else "class word"
        raise InputError(
            f'prompt: "{prompt}" does not name "{call}", the {kind} of {adapter.name}; write it there, or give the '
            "word that calls it with --identifier."
        )
    forms = swap_words(prompt, adapter.class_word, call)
    assert forms is not None
    # What the class form has no more was a part of the identifier.
    plain = (word if word != call and count_word(forms.class_form, word) else adapter.class_word for word in chosen)
    return [_Run("base", forms.class_form, tuple(dict.fromkeys(plain))), _Run(adapter.name, prompt, chosen, adapter)]


def _words_of(prompt: str) -> tuple[str, ...]:
    found = dict.fromkeys(word for word in _WORD.findall(prompt) if word.lower() not in _EMPTY)
    return tuple(found)


def _look(backbone: Backbone, run: _Run, clusters: int, options: InspectOptions) -> Look:
    said = _words_of(run.prompt)
    spans = [find_span(backbone.tokenizers, run.prompt, word) for word in (*run.words, *said)]
    scale = options.get("guidance_scale", backbone.defaults.guidance_scale)
    row = 1 if scale > 1 else 0
    plan = TapPlan(reads=tuple(ColumnRead(row, span) for span in spans))
    first, second = backbone.text_encoders
    with ExitStack() as stack:
        if run.adapter is not None:
            rows = [None] * row + [run.adapter]
            for module, name, loads in ((first, "text_encoder", rows[-1:]), (second, "text_encoder_2", rows[-1:]),
                                        (backbone.unet, "unet", rows)):  # fmt: skip
                stack.enter_context(adapter_rows(module, name, loads))
        tap = stack.enter_context(tap_columns(backbone.unet, plan))
        for step in sample_steps(backbone, run.prompt, options.get("seed", 0), options.get("steps"), scale):
            options.get("on_progress", _ignore)(f"drawing with {run.label}", step.index + 1, step.total)
        size = latent_size(backbone)
        maps = _join_levels([(tap.maps(level), level_size(size, level)) for level in attention_levels(backbone.unet)])
    image = decode_latents(backbone, step.latents)[0]
    count = len(run.words)
    groups, names = _group(maps[count:], said, clusters)
    return Look(run.label, run.prompt, image, run.words, maps[:count], groups, names)


def _join_levels(levels: list[tuple[torch.Tensor, tuple[int, int]]]) -> NDArray[np.float32]:
    """Bring the maps of all levels to the finest one's size and average them."""
    finest = max((size for _, size in levels), key=lambda size: size[0] * size[1])
    scaled = [
        functional.interpolate(maps.view(1, -1, *size).float().cpu(), finest, mode="bilinear", align_corners=False)[0]
        for maps, size in levels
    ]
    return np.asarray(torch.stack(scaled).mean(dim=0).numpy(), dtype=np.float32)


def _group(maps: NDArray[np.float32], words: tuple[str, ...], count: int) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    rows = maps.reshape(len(maps), -1).T
    # Each word counts alike, however much attention it draws in all.
    spread = (rows - rows.mean(axis=0)) / (rows.std(axis=0) + 1e-12)
    labels = cluster_rows(spread.astype(np.float32), count)
    means = np.stack([spread[labels == group].mean(axis=0) for group in range(labels.max() + 1)])
    return labels.reshape(maps.shape[1:]), _name_groups(means, words)


def _name_groups(means: NDArray[np.float32], words: tuple[str, ...]) -> tuple[str, ...]:
    """Call each group by the word that stands out in it most; groups of one word are numbered, the clearest first."""
    names = [words[word] for word in means.argmax(axis=1)]
    clearest = sorted(range(len(names)), key=lambda group: -means[group].max())
    ranks = {group: [names[other] for other in clearest[: place + 1]] for place, group in enumerate(clearest)}
    return tuple(
        f"{name} {ranks[group].count(name)}" if names.count(name) > 1 else name for group, name in enumerate(names)
    )


def _as_row(look: Look) -> Row:
    pairs = [(first, second) for first, second in zip(look.words, look.words[1:], strict=False)]
    notes = [f"{first} / {second}: overlap {look.overlap(first, second):.2f}" for first, second in pairs]
    return Row(look.label, look.prompt, look.image, look.words, look.maps, look.groups, look.names, tuple(notes))


def _ignore(*_: object) -> None:
    """Nobody asked to be told."""
