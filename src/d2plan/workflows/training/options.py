"""What may be asked of a training beside its folder, and how that becomes a request."""

from collections.abc import Callable
from dataclasses import fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, TypedDict, get_args, get_type_hints

from d2plan.backbone.load import Backbone, read_precision
from d2plan.config import BaseDefaults, DisLoRASettings, read_value
from d2plan.dislora.data import ConceptWords, check_template
from d2plan.dislora.data_buckets import Size, plan_buckets
from d2plan.dislora.lessons import LessonChoices
from d2plan.dislora.prompts import check_words
from d2plan.dislora.request import TrainRequest, reserved_identifiers
from d2plan.dislora.train import StepReport
from d2plan.errors import InputError

LEAST_BUCKET_SIDE = 512
_MOST_SEED = 2**63 - 1
_MOST_NAME = 100


class TrainOptions(TypedDict, total=False):
    """What else may be asked of ``train_concept``; what is left out is the base's own, or off.

    The first group are the fields of ``config.DisLoRASettings``, which tells what they do.

    Attributes:
        rank: of the adapter.
        unet_rate: learning rate of the U-Net's part.
        text_rate: learning rate of the text encoders' part.
        text_encoders: give the text encoders a part at all.
        denoising_weight: of L_LDM, eq. (1).
        token_weight: of L_token, eq. (3).
        attention_weight: of L_atten, eq. (4).
        steps: optimiser steps.
        batch_size: pictures a U-Net call.
        gradient_accumulation: U-Net calls a step.
        gradient_checkpointing: less memory, more time.
        joint_fraction: part of the pictures shown with "identifier + class word".
        use_captions: take captions; on without it.
        rate_schedule: "constant" or "linear", of both rates.
        weight_decay: AdamW's.
        gradient_clip: largest norm of the gradient.
        token_reduction: "sum" or "mean".
        attention_overlap: "minmax" or "product".
        masked: weigh the loss by subject masks where there are some; off without it.
        prior_weight: of prior preservation.
        prior_images: class images that the base draws for it.
        plain_weight: of L_plain, which keeps what the plain class word means.
        name: how people call the concept; the folder's ``concept.yaml`` or the file's stem without it.
        template: for pictures without a caption, with ``{}`` where the class word goes.
        flip: show mirrored pictures too; on without it.
        null_fraction: part of the pictures shown with the null prompt.
        buckets: keep the pictures' shapes, each brought to the nearest of a set of sizes; without it on where the base
            draws 512 pixels or more, off on smaller ones, which know squares only.
        device: such as "cpu" or "cuda".
        precision: number format of the base: "fp32", "bf16" or "fp16"; the updates learn in fp32 always.
        file_precision: number format of the adapter's file; fp32 without it.
        preview: draw some pictures with the new adapter.
        preview_every: draw them every so many steps too; 0 is never.
        checkpoint_every: steps between checkpoints; 0 makes one only at a stop.
        keep_checkpoints: leave the last ones there when the training has ended, so that it can go on for more steps.
        resume: go on with a training that was stopped.
        resume_changed: the same, though the request or the pictures differ.
        tensorboard: a folder for TensorBoard's files.
        overwrite: replace files that are there.
        on_step: is told each step's losses.
        on_note: is told what the person should know.
    """

    rank: int
    unet_rate: float
    text_rate: float
    text_encoders: bool
    denoising_weight: float
    token_weight: float
    attention_weight: float
    steps: int
    batch_size: int
    gradient_accumulation: int
    gradient_checkpointing: bool
    joint_fraction: float
    use_captions: bool
    rate_schedule: Literal["constant", "linear"]
    weight_decay: float
    gradient_clip: float
    token_reduction: Literal["sum", "mean"]
    attention_overlap: Literal["minmax", "product"]
    masked: bool
    prior_weight: float
    prior_images: int
    plain_weight: float
    name: str
    template: str
    flip: bool
    null_fraction: float
    buckets: bool
    device: str
    precision: str
    file_precision: str
    preview: bool
    preview_every: int
    checkpoint_every: int
    keep_checkpoints: bool
    resume: bool
    resume_changed: bool
    tensorboard: str | Path
    overwrite: bool
    on_step: Callable[[StepReport], None]
    on_note: Callable[[str], None]


def check_options(options: TrainOptions, seed: int) -> TrainOptions:
    """Refuse options that are none, and values that cannot be used, before any work is done.

    Args:
        options: as given.
        seed: of the training.

    Returns:
        The options; a whole number that was given for a float is one, so that it is written down alike.

    Raises:
        InputError: an option is unknown, or a value of the wrong kind or out of range.
    """
    hints = get_type_hints(TrainOptions)
    checked: dict[str, object] = {}
    for name, value in options.items():
        if name not in hints:
            near = get_close_matches(name, hints, 1)
            raise InputError(f"{name} is no option of training" + (f"; did you mean {near[0]}?" if near else "."))
        checked[name] = _read_option(name, value, hints[name])
    options = TrainOptions(**checked)  # type: ignore[typeddict-item]  # each value was checked against its kind
    if not 0 <= seed <= _MOST_SEED:
        raise InputError(f"seed is {seed}, but must be 0..2^63 - 1.")
    for name in ("preview_every", "checkpoint_every"):
        if options.get(name, 0) < 0:  # type: ignore[operator]  # both are numbers
            raise InputError(f"{name} is {options[name]}, but must be 0 or more.")  # type: ignore[literal-required]
    if not 0 <= options.get("null_fraction", 0.0) <= 1:
        raise InputError(f"null_fraction is {options['null_fraction']}, but must be 0..1.")
    for name in ("precision", "file_precision"):
        read_precision(options.get(name, "fp32"), name)  # type: ignore[arg-type]  # both are texts
    return options


def _read_option(name: str, value: object, hint: object) -> object:
    if isinstance(hint, type):
        return read_value(value, hint, name)
    if Path in get_args(hint):
        return read_value(str(value) if isinstance(value, Path) else value, str, name)
    # What is one of a few words is checked by the settings, which name them; the rest are functions.
    return value


def make_request(
    words: ConceptWords, stem: str, defaults: BaseDefaults, seed: int, options: TrainOptions
) -> TrainRequest:
    """Put a request together from options, the folder's own words and the base's defaults, in that order.

    Args:
        words: the folder's, with what was given or chosen for class word and identifier already in them.
        stem: of the adapter's file, the name without any other.
        defaults: the base's.
        seed: of the training.
        options: as given.

    Returns:
        The request.

    Raises:
        InputError: a word is missing or cannot be used, or a number is out of range.
    """
    if words.class_word is None:
        raise InputError("class_word is missing; say what it is, such as --class dog, or write it in concept.yaml.")
    identifier = words.identifier
    if identifier is None:
        raise InputError("identifier is missing, and the base offers none; choose a rare word, such as ohwx.")
    check_words(words.class_word, identifier, reserved_identifiers(defaults))
    name = options.get("name") or words.name or stem
    if len(name) > _MOST_NAME or not name.isprintable():
        raise InputError(f"name is {name[:_MOST_NAME]!r}; write a plain one of at most {_MOST_NAME} characters.")
    template = options.get("template") or words.template
    if template is not None:
        check_template(template)
    given = {item.name: options[item.name] for item in fields(DisLoRASettings) if item.name in options}  # type: ignore[literal-required]
    settings = replace(defaults.training(), **given)
    choices = LessonChoices(
        words.class_word,
        identifier,
        template,
        flip=options.get("flip", True),
        null_fraction=options.get("null_fraction", LessonChoices.null_fraction),
        masked=settings.masked,
        use_captions=settings.use_captions,
    )
    return TrainRequest(name, choices, settings, seed)


def choose_buckets(backbone: Backbone, options: TrainOptions) -> tuple[Size, ...] | None:
    """Choose the sizes that pictures are brought to.

    Args:
        backbone: the base.
        options: "buckets" is read.

    Returns:
        Heights and widths, or None for the base's own size alone.
    """
    if not options.get("buckets", min(backbone.size) >= LEAST_BUCKET_SIDE):
        return None
    halvings = len(backbone.unet.config.block_out_channels) - 1
    return plan_buckets(*backbone.size, backbone.latent_scale * 2**halvings)
