"""Learn a concept: a folder of pictures in, an adapter file out."""

import json
import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TypedDict, Unpack

from d2plan.adapter.file import SUFFIX, Adapter, save_adapter
from d2plan.adapter.rows import adapter_rows
from d2plan.backbone.load import Backbone, find_base, load_backbone
from d2plan.backbone.sdxl import decode_latents, sample_steps
from d2plan.backbone.text import unknown_words
from d2plan.config import BaseDefaults, load_defaults
from d2plan.dislora.data import (
    DEFAULT_TEMPLATE,
    ConceptData,
    ConceptWords,
    check_template,
    read_concept_folder,
    read_concept_words,
)
from d2plan.dislora.lessons import LessonChoices
from d2plan.dislora.prompts import check_words, fill_template
from d2plan.dislora.train import StepReport, TrainRequest, reserved_identifiers, train_steps
from d2plan.errors import InputError
from d2plan.media.images import Picture, check_output, contact_sheet, fit_image, make_folder, write_file, write_png

Report = Callable[[str, int, int], None]

LOG_SUFFIX, THUMBNAIL_SUFFIX, PREVIEW_SUFFIX = ".log.jsonl", ".png", ".preview.png"
THUMBNAIL_SIDE = 256
PREVIEWS = 4
_MOST_SEED = 2**63 - 1
_MOST_NAME = 100


class TrainOptions(TypedDict, total=False):
    """What else may be asked of ``train_concept``; what is left out is the base's own, or off.

    Attributes:
        name: how people call the concept; the folder's ``concept.yaml`` or the file's stem without it.
        template: for pictures without a caption, with ``{}`` where the class word goes.
        steps: optimiser steps.
        batch_size: pictures a step.
        rank: of the adapter.
        unet_rate: learning rate of the U-Net's part.
        text_rate: learning rate of the text encoders' part.
        token_weight: of L_token, eq. (3).
        attention_weight: of L_atten, eq. (4).
        masked: weigh the loss by subject masks where there are some; on without it.
        flip: show mirrored pictures too; on without it.
        overwrite: replace files that are there.
        preview: draw some pictures with the new adapter.
        device: such as "cpu" or "cuda".
        on_step: is told each step's losses.
        on_note: is told what the person should know.
    """

    name: str
    template: str
    steps: int
    batch_size: int
    rank: int
    unet_rate: float
    text_rate: float
    token_weight: float
    attention_weight: float
    masked: bool
    flip: bool
    overwrite: bool
    preview: bool
    device: str
    on_step: Callable[[StepReport], None]
    on_note: Callable[[str], None]


_OF_SETTINGS = ("steps", "batch_size", "rank", "unet_rate", "text_rate", "token_weight", "attention_weight", "masked")


def train_concept(
    folder: str | Path,
    out: str | Path,
    class_word: str | None = None,
    identifier: str | None = None,
    base: str | Path | Backbone = "mini",
    seed: int = 0,
    on_progress: Report | None = None,
    **options: Unpack[TrainOptions],
) -> Path:
    """Learn a concept from a folder of pictures and write its adapter.

    Beside the adapter ``rex.safetensors`` appear ``rex.png`` (a thumbnail), ``rex.log.jsonl`` (the request, then a
    line a step) and, if asked for, ``rex.preview.png``. Nothing is written before the training has ended.

    Args:
        folder: the pictures, with captions, masks and ``concept.yaml`` if there are any.
        out: the adapter's file, ending in ".safetensors"; its folder is made if it is missing.
        class_word: what kind of thing it is; without it what ``concept.yaml`` says.
        identifier: the word that shall name it; without it what ``concept.yaml`` says, else the base's first.
        base: "mini", a folder in the diffusers SDXL layout, a downloaded model's hub id, or one that is open already.
        seed: of all that is random.
        on_progress: is told what is happening: a text, how much is done, and how much there is.
        **options: see ``TrainOptions``.

    Returns:
        The adapter's path.

    Raises:
        InputError: a word, number or option cannot be used.
        FileError: the folder or a file cannot be read, or ``out`` exists or cannot be written.
    """
    _check_options(options, seed)
    target = Path(os.path.expanduser(out))
    finals = _check_target(target, options)
    if target.parent.resolve() == Path(folder).resolve():
        raise InputError(
            f"out: {target} lies among the pictures, where its thumbnail would be one; name another folder."
        )
    words = read_concept_words(folder)
    defaults = base.defaults if isinstance(base, Backbone) else load_defaults(find_base(base))
    given = replace(words, class_word=class_word or words.class_word, identifier=identifier or words.identifier)
    request = _make_request(given, target, defaults, seed, options)
    report = on_progress or _ignore
    make_folder(target.parent)
    report("opening the base", 0, 1)
    backbone = base if isinstance(base, Backbone) else load_backbone(base, options.get("device", "cpu"))
    report("opening the base", 1, 1)
    data = read_concept_folder(folder, *backbone.size)
    notes = [*data.notes, *_warn_of_words(backbone, request.choices.class_word)]
    for note in (data.summary, *notes):
        options.get("on_note", _ignore)(note)
    adapter, rows = _train(backbone, data, request, report, options.get("on_step", _ignore))
    described = {**adapter.settings, "base": backbone.name, "pictures": str(len(data.names))}
    adapter = replace(adapter, settings=described)
    preview = _draw_previews(backbone, adapter, request, report) if options.get("preview") else None
    log = [{"name": request.name, "settings": described, "notes": notes}, *rows]
    write_file(finals[LOG_SUFFIX], "".join(json.dumps(row) + "\n" for row in log).encode())
    write_png(finals[THUMBNAIL_SUFFIX], _make_thumbnail(data))
    if preview is not None:
        write_png(finals[PREVIEW_SUFFIX], preview)
    # The adapter comes last: where it is, everything that belongs to it is complete.
    save_adapter(target, adapter)
    return target


def _check_options(options: TrainOptions, seed: int) -> None:
    known = tuple(TrainOptions.__annotations__)
    for name in options:
        if name not in known:
            near = get_close_matches(name, known, 1)
            raise InputError(f"{name} is no option of training" + (f"; did you mean {near[0]}?" if near else "."))
    if not 0 <= seed <= _MOST_SEED:
        raise InputError(f"seed is {seed}, but must be 0..2^63 - 1.")


def _check_target(target: Path, options: TrainOptions) -> dict[str, Path]:
    if target.suffix != SUFFIX or not target.stem:
        raise InputError(f"out is {target}; name the adapter's file, ending in {SUFFIX}, such as rex{SUFFIX}.")
    beside = [LOG_SUFFIX, THUMBNAIL_SUFFIX] + ([PREVIEW_SUFFIX] if options.get("preview") else [])
    finals = {ending: target.with_name(target.stem + ending) for ending in beside}
    for path in (target, *finals.values()):
        check_output(path, options.get("overwrite", False))
    return finals


def _make_request(
    words: ConceptWords, target: Path, defaults: BaseDefaults, seed: int, options: TrainOptions
) -> TrainRequest:
    if words.class_word is None:
        raise InputError("class_word is missing; say what it is, such as --class dog, or write it in concept.yaml.")
    identifier = words.identifier or next(iter(defaults.identifiers), None)
    if identifier is None:
        raise InputError("identifier is missing, and the base offers none; choose a rare word, such as sks.")
    check_words(words.class_word, identifier, reserved_identifiers(defaults))
    name = options.get("name") or words.name or target.stem
    if len(name) > _MOST_NAME or not name.isprintable():
        raise InputError(f"name is {name[:_MOST_NAME]!r}; write a plain one of at most {_MOST_NAME} characters.")
    template = options.get("template") or words.template
    if template is not None:
        check_template(template)
    settings = replace(defaults.training(), **{key: options[key] for key in _OF_SETTINGS if key in options})  # type: ignore[literal-required]
    choices = LessonChoices(
        words.class_word, identifier, template, flip=options.get("flip", True), masked=settings.masked
    )
    return TrainRequest(name, choices, settings, seed)


def _warn_of_words(backbone: Backbone, text: str) -> list[str]:
    return [
        f'the base never saw the word "{word}"' + (f"; near it are {', '.join(near)}" if near else "")
        for word, near in unknown_words(text, backbone)
    ]


def _train(
    backbone: Backbone,
    data: ConceptData,
    request: TrainRequest,
    report: Report,
    on_step: Callable[[StepReport], None],
) -> tuple[Adapter, list[dict[str, float]]]:
    rows: list[dict[str, float]] = []
    report("training", 0, request.settings.steps)
    # Closing takes the adapter off the base also when the person stops the training.
    with closing(train_steps(backbone, data, request)) as steps:
        while True:
            try:
                done = next(steps)
            except StopIteration as end:
                return end.value, rows
            rows.append({key: round(value, 6) for key, value in asdict(done).items()})
            report("training", done.step, done.total)
            on_step(done)


def _make_thumbnail(data: ConceptData) -> Picture:
    height, width = data.images.shape[1:3]
    factor = min(1.0, THUMBNAIL_SIDE / max(height, width))
    return fit_image(data.images[0], round(height * factor), round(width * factor))


def _draw_previews(backbone: Backbone, adapter: Adapter, request: TrainRequest, report: Report) -> Picture:
    choices = request.choices
    prompt = fill_template(choices.template or DEFAULT_TEMPLATE, choices.class_word, choices.identifier).joint_form
    rows = [None, adapter] if backbone.defaults.guidance_scale > 1 else [adapter]
    first, second = backbone.text_encoders
    pictures = []
    with (
        adapter_rows(first, "text_encoder", [adapter]),
        adapter_rows(second, "text_encoder_2", [adapter]),
        adapter_rows(backbone.unet, "unet", rows),
    ):
        for number in range(PREVIEWS):
            report("drawing previews", number, PREVIEWS)
            *_, last = sample_steps(backbone, prompt, seed=number)
            pictures.append(decode_latents(backbone, last.latents)[0])
    report("drawing previews", PREVIEWS, PREVIEWS)
    return contact_sheet(pictures, PREVIEWS, [f"{prompt}, seed {number}" for number in range(PREVIEWS)])


def _ignore(*_: object) -> None:
    """Nobody asked to be told."""
