"""Get a scene ready: defaults filled in, its words found, its prompts encoded each by its own model."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from diffusers import ControlNetModel
from numpy.typing import NDArray

from d2plan.adapter.file import Adapter, check_base
from d2plan.adapter.rows import Weighted, adapter_rows
from d2plan.backbone.load import Backbone
from d2plan.backbone.sdxl import TextStates, encode_prompts, join_states, latent_size, null_states
from d2plan.backbone.spatial import SpatialControl, prepare_image
from d2plan.backbone.text import find_cut
from d2plan.config import IspSettings
from d2plan.documents import Scene
from d2plan.errors import InputError
from d2plan.isp.columns import deal_columns, take_back, tell_columns, tell_sides, wants_columns
from d2plan.isp.notes import call_adapter, tell_idle, tell_other_bases, tell_shapes, tell_words
from d2plan.isp.overrides import Box, Region, open_region
from d2plan.isp.segment import Detector
from d2plan.isp.sharing import PLACES, tell_positions
from d2plan.isp.tokens import Columns, Naming, find_columns
from d2plan.isp.weave import Woven, tell_actions, weave_prompts
from d2plan.isp.words import check_words, find_call, find_named


class Drawing(NamedTuple):
    """What one of a scene's controls needs to be open.

    Attributes:
        model: from ``d2plan.backbone.spatial.load_control``.
        image: ``[h, w, 3]``, 0..255.
    """

    model: ControlNetModel
    image: NDArray[np.uint8]


class Extras(NamedTuple):
    """What a scene may name besides its concepts, opened.

    Attributes:
        styles: adapters for all rows, in the order of ``Scene.style``.
        drawings: one for each of ``Scene.controls``.
        detector: for the masks route "detect".
    """

    styles: Sequence[Adapter] = ()
    drawings: Sequence[Drawing] = ()
    detector: Detector | None = None


@dataclass(frozen=True, eq=False)
class PreparedScene:
    """A scene that the loop can run.

    Attributes:
        scene: every default resolved, every class word filled in.
        adapters: theta_1..theta_m, one an instance.
        regions: what masks need to know of each instance.
        columns: k and j of each instance.
        read: the prompts that the rows read.
        text: rows [no prompt | c_g | c_s^1 .. c_s^m].
        warnings: sentences for the reader of the result.
        seconds: the time that encoding took.
        styles: adapters on all rows.
        controls: ControlNets at work.
        detector: what looks for the instances in a first picture; None takes masks from attention alone.
        kept: the scene whose picture stays where this one says the same; None is a picture of its own.
    """

    scene: Scene
    adapters: tuple[Adapter, ...]
    regions: tuple[Region, ...]
    columns: tuple[Columns, ...]
    read: Woven
    text: TextStates
    warnings: tuple[str, ...]
    seconds: float
    styles: tuple[Weighted, ...] = ()
    controls: tuple[SpatialControl, ...] = ()
    detector: Detector | None = None
    kept: "PreparedScene | None" = None

    @property
    def loads(self) -> tuple[tuple[Weighted, ...], ...]:
        """What each row [no prompt | global | sub 1..m] carries: the styles, and its own concept."""
        return (self.styles, self.styles, *_load_subs(self.scene, self.adapters, self.styles))

    @property
    def key(self) -> tuple[object, ...]:
        """What tells its picture from others': the scene, and what the adapters hold that it only names."""
        adapters = (*self.adapters, *(style.adapter for style in self.styles))
        return (self.scene, *(adapter.sha256 or id(adapter) for adapter in adapters))

    @property
    def asks(self) -> bool:
        """Whether a mask has to be found, because nobody has drawn it."""
        return any(not region.drawn for region in self.regions)

    @property
    def looks(self) -> bool:
        """Whether a detector looks for them in a first picture."""
        return self.asks and self.detector is not None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the picture, pixels."""
        assert self.scene.height is not None and self.scene.width is not None
        return self.scene.height, self.scene.width

    @property
    def steps(self) -> int:
        """All denoising steps."""
        assert self.scene.steps is not None
        return self.scene.steps

    @property
    def warmup(self) -> int:
        """Steps of plain guidance at the start; all of them where there is nothing to compose."""
        assert self.scene.warmup is not None
        return self.scene.warmup if self.adapters else self.steps

    @property
    def guidance_scale(self) -> float:
        """The factor w."""
        assert self.scene.guidance_scale is not None
        return self.scene.guidance_scale

    @property
    def guided(self) -> bool:
        """Whether there is a row without the prompt; the stock pipeline has none at w <= 1."""
        return bool(self.adapters) or self.guidance_scale > 1


def resolve_scene(
    scene: Scene, backbone: Backbone, adapters: Sequence[Adapter], settings: IspSettings | None = None
) -> Scene:
    """Fill in what a scene leaves to its base and its adapters.

    Args:
        scene: as written.
        backbone: the base.
        adapters: one an instance, in the scene's order.
        settings: None takes the base's own.

    Returns:
        The scene without a None among its numbers and class words.

    Raises:
        InputError: there is another number of adapters than of instances, a warm-up longer than the steps, a
            picture size that the base cannot make, or an adapter without a class word.
    """
    if len(adapters) != len(scene.instances):
        raise InputError(f"The scene has {len(scene.instances)} instances, but {len(adapters)} adapters were given.")
    settings = settings or backbone.defaults.composing()
    steps = scene.steps or settings.steps
    height, width = scene.height or backbone.size[0], scene.width or backbone.size[1]
    latent_size(backbone, (height, width))
    masks = scene.masks or (settings.masks if settings.compose else "attention")
    columns = wants_columns(take_back(scene)[0].model_copy(update={"masks": masks}))
    instances = []
    for index, (instance, adapter) in enumerate(zip(scene.instances, adapters, strict=True)):
        word = instance.class_word or adapter.class_word
        if not word:
            raise InputError(
                f"instances[{index}].class_word is missing, and {call_adapter(adapter)} states none; write it."
            )
        instances.append(instance.model_copy(update={"class_word": word}))
    one_class = len(instances) > len({(item.class_word or "").casefold() for item in instances}) == 1
    masks = masks if columns or masks != "columns" else "attention"
    by_hand = bool(instances) and all(item.box is not None or item.mask is not None for item in instances)
    # One alone has nobody to be kept apart from, and the base's warm-up keeps its deeds.
    placed = by_hand or (columns and len(instances) > 1)
    short = settings.short_warmup_fraction if one_class or placed else None
    fraction = settings.warmup_fraction if short is None else short
    warmup = int(fraction * steps + 0.5) if scene.warmup is None else scene.warmup
    if warmup > steps:
        raise InputError(f"warmup is {warmup}, but must be 0..steps, and steps is {steps}.")
    scale = settings.guidance_scale if scene.guidance_scale is None else scene.guidance_scale
    numbers = {"steps": steps, "warmup": warmup, "guidance_scale": scale, "height": height, "width": width}
    weave = scene.weave or settings.weave
    return scene.model_copy(update={**numbers, "weave": weave, "masks": masks, "instances": tuple(instances)})


def prepare_scene(
    backbone: Backbone,
    scene: Scene,
    adapters: Sequence[Adapter] = (),
    settings: IspSettings | None = None,
    extras: Extras | None = None,
    kept: PreparedScene | None = None,
) -> PreparedScene:
    """Check a scene against its base and adapters, and encode its prompts.

    The global prompt and the negative one are read by the bare encoders, each sub-prompt by the encoders with that
    instance's adapter on; styles are on for all of them.

    Args:
        backbone: the base.
        scene: what to compose.
        adapters: one an instance, in the scene's order.
        settings: None takes the base's own.
        extras: styles, drawings and the detector that the scene names; None for a scene that names none.
        kept: the scene whose picture stays where this one says the same; None is a picture of its own.

    Returns:
        The scene, ready for ``compose_steps``.

    Raises:
        InputError: a word is missing from its prompt or an identifier stands in a wrong one, a number cannot be used,
            or something named was not given.
        AdapterError: an adapter belongs to another base, and the scene does not take such, or to another architecture.
    """
    started = time.perf_counter()
    extras = extras or Extras()
    resolved = resolve_scene(scene, backbone, adapters, settings)
    _check_extras(resolved, extras)
    for adapter in (*adapters, *extras.styles):
        check_base(adapter, backbone, resolved.other_base)
    check_words(resolved, adapters, find_named(resolved, adapters), backbone)
    assert resolved.height is not None and resolved.width is not None
    size = (resolved.height, resolved.width)
    # Of columns that a record holds the prompts are read as they were before these were dealt.
    resolved, boxes = take_back(resolved)
    regions = tuple(
        open_region(item, size, f"instances[{index}].mask") for index, item in enumerate(resolved.instances)
    )
    namings = [
        Naming(item.class_word or "", find_call(item, adapter), item.sub_prompt, _place(region))
        for item, adapter, region in zip(resolved.instances, adapters, regions, strict=True)
    ]
    # First with the words as written, which a sentence about them must quote.
    columns = find_columns(backbone.tokenizers, resolved.global_prompt, namings)
    if resolved.masks == "columns":
        # From here on as if they had been drawn by hand, so that the record says where everybody was put.
        given = tuple(item.box for item in kept.scene.instances if item.box) if kept else boxes
        boxes = given if len(given) == len(namings) else deal_columns(resolved, namings)
        resolved = _give_boxes(resolved, boxes)
        regions = tuple(replace(region, box=box, dealt=True) for region, box in zip(regions, boxes, strict=True))
    read, columns, unwoven = _choose_prompts(backbone, resolved, namings, columns)
    styles = tuple(
        Weighted(adapter, item.strength) for adapter, item in zip(extras.styles, resolved.style, strict=True)
    )
    text = _encode(backbone, resolved, read, adapters, styles)
    controls = _set_controls(backbone, resolved, extras.drawings, size)
    warnings = (
        *tell_words(backbone, resolved, adapters),
        *unwoven,
        *tell_positions(resolved),
        *tell_columns(scene, resolved),
        *(tell_sides(resolved, kept.scene) if kept and resolved.masks == "columns" else ()),
        *tell_shapes(resolved, [drawing.image for drawing in extras.drawings], size),
        *tell_other_bases(backbone, adapters, extras.styles),
        *tell_idle(resolved, adapters, extras.styles, controls),
    )
    detector = extras.detector if resolved.masks == "detect" else None
    seconds = time.perf_counter() - started
    resolved = resolved.model_copy(update={"variant_of": kept.scene.instances if kept else ()})
    return PreparedScene(
        resolved, tuple(adapters), regions, columns, read, text, warnings, seconds, styles, controls, detector, kept
    )


def find_changed(scene: Scene, adapters: Sequence[Adapter], kept: PreparedScene) -> tuple[bool, ...]:
    """Say of each instance whether a scene says another thing of it than the kept picture's.

    Args:
        scene: a variant.
        adapters: its own, one an instance.
        kept: the scene that it is a variant of.

    Returns:
        True where the sub-prompt, the adapter's content or its strength differ.
    """
    sides = ((scene.instances, adapters), (kept.scene.instances, kept.adapters))
    own = {"sub_prompt", "class_word", "trigger", "strength"}
    said = [[(a.model_dump(include=own), b.sha256 or b.path) for a, b in zip(*one, strict=True)] for one in sides]
    return tuple(now != before for now, before in zip(*said, strict=True))


def _choose_prompts(
    backbone: Backbone, scene: Scene, namings: Sequence[Naming], columns: tuple[Columns, ...]
) -> tuple[Woven, tuple[Columns, ...], tuple[str, ...]]:
    """Choose what the rows read, find the columns in it, and tell why prompts were not woven."""
    written = Woven(scene.global_prompt, tuple(naming.sub_prompt for naming in namings))
    if scene.weave == "none" or not namings:
        return written, columns, ()
    woven = weave_prompts(scene.global_prompt, namings)
    if scene.weave == "subs":
        woven = woven._replace(global_prompt=scene.global_prompt)
    if any(find_cut(text, backbone) for text in (woven.global_prompt, *woven.sub_prompts)):
        note = "weave: the woven prompts are too long, so each row reads its own as it is written; shorten them."
        return written, columns, (note,)
    named = [
        naming._replace(sub_prompt=text, mention=mention)
        for naming, text, mention in zip(namings, woven.sub_prompts, woven.mentions, strict=True)
    ]
    try:
        notes = tuple(
            f"instances[{index}].sub_prompt is read as it is written: only one that names its own concept once and "
            'no other class word, such as "a photo of a <v1> man waving", can be woven into the scene.'
            for index in woven.alone
        )
        notes += tuple(tell_actions(scene.global_prompt, namings))
        return woven, find_columns(backbone.tokenizers, woven.global_prompt, named), notes
    except InputError as error:
        note = f"weave: the prompts cannot be woven ({error}), so each row reads its own; write `weave: none`."
        return written, columns, (note,)


def _give_boxes(scene: Scene, boxes: Sequence[Box]) -> Scene:
    placed = zip(scene.instances, boxes, strict=True)
    return scene.model_copy(update={"instances": tuple(item.model_copy(update={"box": box}) for item, box in placed)})


def _place(region: Region) -> float | None:
    """Say how far to the right a region was put by hand, 0..1."""
    if region.box is not None:
        return (region.box[0] + region.box[2]) / 2
    if region.point is not None:
        return region.point[0]
    if region.mask is not None:
        weights = region.mask.double().sum(dim=0)
        middles = (torch.arange(len(weights), dtype=torch.float64) + 0.5) / len(weights)
        return float((weights * middles).sum() / weights.sum().clamp(min=1e-12))
    return None if region.position is None else PLACES[region.position]


def _check_extras(scene: Scene, extras: Extras) -> None:
    for field, named, given in (("style", scene.style, extras.styles), ("controls", scene.controls, extras.drawings)):
        if len(named) != len(given):
            raise InputError(f"{field} names {len(named)}, but {len(given)} were opened; give one for each.")
    if scene.masks == "detect" and extras.detector is None and scene.instances:
        raise InputError("masks is detect, but no detector was opened; give one, or write `masks: attention`.")


def _set_controls(
    backbone: Backbone, scene: Scene, drawings: Sequence[Drawing], size: tuple[int, int]
) -> tuple[SpatialControl, ...]:
    return tuple(
        SpatialControl(
            drawing.model, prepare_image(drawing.image, size, backbone), item.strength, item.start, item.end, item.rows
        )
        for drawing, item in zip(drawings, scene.controls, strict=True)
    )


def _load_subs(scene: Scene, adapters: Sequence[Adapter], styles: tuple[Weighted, ...]) -> list[tuple[Weighted, ...]]:
    pairs = zip(adapters, scene.instances, strict=True)
    return [(*styles, Weighted(adapter, instance.strength)) for adapter, instance in pairs]


@torch.no_grad()
def _encode(
    backbone: Backbone, scene: Scene, read: Woven, adapters: Sequence[Adapter], styles: tuple[Weighted, ...]
) -> TextStates:
    with _on_encoders(backbone, [styles] if styles else []):
        rows = [null_states(backbone, 1, scene.negative_prompt), encode_prompts(backbone, [read.global_prompt])]
    if adapters:
        with _on_encoders(backbone, _load_subs(scene, adapters, styles)):
            rows.append(encode_prompts(backbone, list(read.sub_prompts)))
    return join_states(rows)


@contextmanager
def _on_encoders(backbone: Backbone, loads: Sequence[tuple[Weighted, ...]]) -> Iterator[None]:
    with ExitStack() as stack:
        for name, encoder in zip(("text_encoder", "text_encoder_2"), backbone.text_encoders, strict=True):
            if loads:
                stack.enter_context(adapter_rows(encoder, name, loads))
        yield
