"""The paper's numbers as frozen settings, and the defaults that a base model brings along.

Numbers are the paper's (section 5, "Implementation Details") unless a comment says otherwise. What belongs to a
base (steps, guidance, rank, rates) lies beside its weights in ``d2plan.json``; without that file SDXL's hold.
"""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from d2plan.errors import FileError, InputError

DEFAULTS_FILE = "d2plan.json"
# Each is one token of both SDXL tokenizers (a test asks CLIP's vocabulary). No word, name or brand as far as we know;
# most are ends of words or of tags that hardly stand alone. "sks", which others take, is a rifle.
RARE_WORDS = tuple(
    "ohwx zshq pknot bsgo tairp scoll ttin ghorn ggly bbly ffler thren tzer zzled ddled ckers lders ulls elot "
    "chter".split()
)


@dataclass(frozen=True)
class DisLoRASettings:
    """How a concept is trained (eq. 1, 3 and 4).

    Attributes:
        rank: of every low-rank update; alpha is equal to it, so that its scale is 1.
        unet_rate: AdamW's constant learning rate for the U-Net's updates.
        text_rate: the same for the text encoders' updates.
        text_encoders: give the text encoders updates at all; without them the adapter holds the U-Net's alone.
        denoising_weight: of L_LDM, eq. (1); anything but 1 is for ablations.
        token_weight: of L_token, eq. (3); 0 switches it off.
        attention_weight: of L_atten, eq. (4); 0 switches it off and saves its pass.
        steps: optimiser steps; the paper does not say, SDXL's value is the field's custom.
        batch_size: images a U-Net call; the paper does not say.
        gradient_accumulation: U-Net calls an optimiser step; a step sees batch_size times as many images.
        gradient_checkpointing: compute the U-Net's activations twice and keep few of them: less memory, more time.
        joint_fraction: part of the images, 0..1, that show "identifier + class word", not the identifier alone.
        use_captions: take the captions beside the images; without it every image has the template.
        rate_schedule: "constant" as in the paper, or "linear": both rates fall to 0 with the last step.
        weight_decay: AdamW's.
        gradient_clip: largest norm of all gradients together.
        token_reduction: "sum" over the features as printed in eq. (3), or "mean".
        attention_overlap: how eq. (4) takes intersection and union of soft maps: "minmax" or "product".
        masked: weigh L_LDM by the subject masks where they lie beside the images.
        prior_weight: of prior preservation, L_LDM on class images that the base made itself; 0 switches it off.
        prior_images: how many class images the base makes.
        plain_weight: of L_plain, which keeps what the base makes of the plain class word; 0 switches it off.
    """

    rank: int = 128
    unet_rate: float = 3e-4
    text_rate: float = 3e-6
    text_encoders: bool = True
    denoising_weight: float = 1.0
    token_weight: float = 1e-3
    attention_weight: float = 1e-2
    steps: int = 500
    batch_size: int = 1
    gradient_accumulation: int = 1
    gradient_checkpointing: bool = False
    joint_fraction: float = 0.5
    use_captions: bool = True
    rate_schedule: Literal["constant", "linear"] = "constant"
    weight_decay: float = 1e-2
    gradient_clip: float = 1.0
    token_reduction: Literal["sum", "mean"] = "sum"
    attention_overlap: Literal["minmax", "product"] = "minmax"
    masked: bool = False
    prior_weight: float = 0.0
    prior_images: int = 16
    plain_weight: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what cannot be trained with."""
        _need(1 <= self.rank <= 1024, "rank", self.rank, "1..1024")
        _need(1 <= self.steps <= 1_000_000, "steps", self.steps, "1..1000000")
        for name in ("batch_size", "gradient_accumulation", "prior_images"):
            _need(1 <= getattr(self, name) <= 1024, name, getattr(self, name), "1..1024")
        for name in ("unet_rate", "text_rate", "joint_fraction"):
            _need(0 <= getattr(self, name) <= 1, name, getattr(self, name), "0..1")
        losses = ("denoising_weight", "token_weight", "attention_weight", "prior_weight")
        for name in (*losses, "plain_weight", "weight_decay"):
            _need(0 <= getattr(self, name) <= 1e6, name, getattr(self, name), "0 or more")
        _need(0 < self.gradient_clip <= 1e6, "gradient_clip", self.gradient_clip, "more than 0")
        _need(self.token_reduction in ("sum", "mean"), "token_reduction", self.token_reduction, "sum or mean")
        known = ("constant", "linear")
        _need(self.rate_schedule in known, "rate_schedule", self.rate_schedule, "constant or linear")
        known = ("minmax", "product")
        _need(self.attention_overlap in known, "attention_overlap", self.attention_overlap, "minmax or product")
        # L_plain alone asks for nothing: an adapter that has learnt nothing has none.
        if not any(getattr(self, name) for name in losses):
            raise InputError("All losses have the weight 0, so nothing can be learnt; give one a weight.")


@dataclass(frozen=True)
class IspSettings:
    """How a scene is composed (eq. 7 and 9).

    Attributes:
        steps: denoising steps.
        guidance_scale: w of eq. (2) and (9).
        warmup_fraction: part of the steps, 0..1, before composition starts; the paper's is 15 of 50.
        short_warmup_fraction: the same for a scene whose layout the global row need not settle: several instances all
            of one class, or each with a box or mask by hand; None is ``warmup_fraction``.
        calibrate: replace the class word's maps by the identifier's, eq. (7).
        compose: blend the predictions by masks, eq. (9); without it the calibrated global row alone counts.
        values: whose value vectors a replaced map reads, the global row's (eq. 7) or the sub row's.
        weave: which rows read the whole scene, all prompts woven into one: "none" as in the paper, "subs" or "all".
        masks: where masks come from if the scene does not say: "attention", or "columns" dealt from left to right.
        map_level: where masks take their maps: 0 is the latent's own size, each next level one half of it; the
            nearest one with cross-attention is used.
        map_steps: how many of the last warm-up steps the maps are averaged over.
        refresh_every: make the masks anew after that many composing steps; 0 keeps those of the warm-up.
        refine: spread the class words' maps by self-attention over what belongs together.
        mask_start: part of the composing steps, 0..1, that pass before masks count; until then the calibrated global
            row alone guides, and its maps make the masks anew.
        mask_weight: how much of an instance's area is its own, 0..1; the global row guides the rest of it.
        mask_margin: how far masks reach beyond what was found, part of the shorter side, 0..0.5: room for a hat or a
            raised arm that the warm-up did not draw.
        feather: how much farther than by default masks run into each other, part of the shorter side, 0..0.5.
        most_rows: rows of one U-Net call when many scenes are composed together; one scene is never split.
    """

    steps: int = 50
    guidance_scale: float = 7.5
    warmup_fraction: float = 0.3
    short_warmup_fraction: float | None = None
    calibrate: bool = True
    compose: bool = True
    values: Literal["global", "sub"] = "global"
    weave: Literal["none", "subs", "all"] = "none"
    masks: Literal["attention", "columns"] = "attention"
    map_level: int = 1
    map_steps: int = 5
    refresh_every: int = 0
    refine: bool = True
    mask_start: float = 0.0
    mask_weight: float = 1.0
    mask_margin: float = 1 / 32
    feather: float = 0.0
    most_rows: int = 32

    def __post_init__(self) -> None:
        """Refuse what cannot be composed with."""
        _need(1 <= self.steps <= 1000, "steps", self.steps, "1..1000")
        _need(0 <= self.guidance_scale <= 100, "guidance_scale", self.guidance_scale, "0..100")
        _need(0 <= self.warmup_fraction <= 1, "warmup_fraction", self.warmup_fraction, "0..1")
        _need(
            0 <= (self.short_warmup_fraction or 0) <= 1,
            "short_warmup_fraction",
            self.short_warmup_fraction or 0,
            "0..1",
        )
        _need(self.values in ("global", "sub"), "values", self.values, "global or sub")
        _need(self.weave in ("none", "subs", "all"), "weave", self.weave, "none, subs or all")
        _need(self.masks in ("attention", "columns"), "masks", self.masks, "attention or columns")
        _need(0 <= self.map_level <= 5, "map_level", self.map_level, "0..5")
        _need(1 <= self.map_steps <= 1000, "map_steps", self.map_steps, "1..1000")
        _need(0 <= self.refresh_every <= 1000, "refresh_every", self.refresh_every, "0..1000")
        _need(0 <= self.mask_start <= 1, "mask_start", self.mask_start, "0..1")
        _need(0 <= self.mask_weight <= 1, "mask_weight", self.mask_weight, "0..1")
        _need(0 <= self.mask_margin <= 0.5, "mask_margin", self.mask_margin, "0..0.5")
        _need(0 <= self.feather <= 0.5, "feather", self.feather, "0..0.5")
        _need(1 <= self.most_rows <= 4096, "most_rows", self.most_rows, "1..4096")

    @property
    def warmup(self) -> int:
        """Steps of plain guidance at the start: the fraction of the steps, rounded half up."""
        return int(self.warmup_fraction * self.steps + 0.5)


@dataclass(frozen=True)
class BaseDefaults:
    """What a base works best with; SDXL's numbers where the base brings none of its own.

    Attributes:
        steps: denoising steps.
        guidance_scale: w of eq. (2).
        warmup_fraction: part of the steps before a scene is composed.
        short_warmup_fraction: the same where several instances all are of one class, or all are drawn by hand; None is
            the same.
        mask_margin: how far masks reach beyond what was found, part of the shorter side.
        weave: which rows of a scene read all of its prompts, "none", "subs" or "all".
        masks: where they come from if a scene does not say, "attention" or "columns".
        height: of a picture, pixels.
        width: of a picture, pixels.
        rank: of an adapter.
        unet_rate: learning rate of an adapter's U-Net part.
        text_rate: learning rate of an adapter's text encoder part.
        rate_schedule: of both, "constant" or "linear".
        train_steps: optimiser steps for a concept.
        batch_size: images an optimiser step.
        token_weight: of L_token.
        attention_weight: of L_atten.
        joint_fraction: part of the training images that show "identifier + class word".
        token_reduction: "sum" or "mean" over the features of eq. (3).
        attention_overlap: "minmax" or "product" in eq. (4).
        identifiers: words for concepts that are one token in both tokenizers and mean next to nothing.
    """

    steps: int = 50
    guidance_scale: float = 7.5
    warmup_fraction: float = 0.3
    short_warmup_fraction: float | None = None
    mask_margin: float = 1 / 32
    weave: str = "none"
    masks: str = "attention"
    height: int = 1024
    width: int = 1024
    rank: int = 128
    unet_rate: float = 3e-4
    text_rate: float = 3e-6
    rate_schedule: str = "constant"
    train_steps: int = 500
    batch_size: int = 1
    token_weight: float = 1e-3
    attention_weight: float = 1e-2
    joint_fraction: float = 0.5
    token_reduction: str = "sum"
    attention_overlap: str = "minmax"
    identifiers: tuple[str, ...] = RARE_WORDS

    def __post_init__(self) -> None:
        """Refuse what no base can work with."""
        for name in ("height", "width"):
            size = getattr(self, name)
            _need(64 <= size <= 4096 and size % 8 == 0, name, size, "a multiple of 8, 64..4096")
        _need(1 <= self.rank <= 1024, "rank", self.rank, "1..1024")
        _need(1 <= self.train_steps <= 1_000_000, "train_steps", self.train_steps, "1..1000000")
        self.training()
        self.composing()

    def training(self) -> DisLoRASettings:
        """Give the settings of a concept's training on this base."""
        return DisLoRASettings(
            rank=self.rank,
            unet_rate=self.unet_rate,
            text_rate=self.text_rate,
            rate_schedule=self.rate_schedule,  # type: ignore[arg-type]  # checked there
            steps=self.train_steps,
            batch_size=self.batch_size,
            token_weight=self.token_weight,
            attention_weight=self.attention_weight,
            joint_fraction=self.joint_fraction,
            token_reduction=self.token_reduction,  # type: ignore[arg-type]  # checked there
            attention_overlap=self.attention_overlap,  # type: ignore[arg-type]
        )

    def composing(self) -> IspSettings:
        """Give the settings of a scene's composition on this base."""
        return IspSettings(
            self.steps,
            self.guidance_scale,
            self.warmup_fraction,
            self.short_warmup_fraction,
            weave=self.weave,  # type: ignore[arg-type]  # checked there
            masks=self.masks,  # type: ignore[arg-type]  # checked there
            mask_margin=self.mask_margin,
        )


def load_defaults(folder: str | Path | None) -> BaseDefaults:
    """Read the defaults that lie beside a base's weights.

    Args:
        folder: the base's folder; None, or one without ``d2plan.json``, gives SDXL's.

    Returns:
        The defaults; a field that the file leaves out is SDXL's.

    Raises:
        FileError: the file is there and cannot be read.
        InputError: it is not a JSON object, names an unknown field, or a value cannot be used.
    """
    if folder is None or not (path := Path(folder) / DEFAULTS_FILE).is_file():
        return BaseDefaults()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}; make it readable.") from error
    except ValueError as error:
        raise InputError(f"{path} is not readable as JSON: {error}; copy the base anew.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no JSON object; write fields of BaseDefaults.")
    return _make_defaults(content, path)


def _make_defaults(content: dict[str, object], path: Path) -> BaseDefaults:
    # What may be left to another field is a number.
    kinds = {field.name: float if field.default is None else type(field.default) for field in fields(BaseDefaults)}
    values: dict[str, object] = {}
    for name, value in content.items():
        if name not in kinds:
            raise InputError(f"{path}: {name} is not a field; use {', '.join(kinds)}.")
        values[name] = read_value(value, kinds[name], f"{path}: {name}")
    try:
        return BaseDefaults(**values)  # type: ignore[arg-type]  # each value was checked against its field
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def read_value(value: object, kind: type, where: str) -> object:
    """Take a value from a file as what it must be.

    >>> read_value(1, float, "rate")
    1.0

    Args:
        value: as it was read.
        kind: bool, int, float, str, or tuple for words; a whole number is a float too, a bool is no number.
        where: how the error calls it.

    Returns:
        The value, a float or a tuple where that is the kind.

    Raises:
        InputError: it is something else.
    """
    if kind is tuple and isinstance(value, list) and all(isinstance(item, str) and item for item in value):
        return tuple(value)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if kind is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind in (bool, str) and isinstance(value, kind):
        return value
    raise InputError(f"{where} is {value!r}; write {_KINDS[kind]}.")


_KINDS = {
    tuple: "a list of words",
    float: "a number",
    int: "a whole number",
    str: "text in quotes",
    bool: "true or false",
}


def _need(holds: bool, name: str, value: object, allowed: str) -> None:
    if not holds:
        raise InputError(f"{name} is {value!r}, but must be {allowed}.")
