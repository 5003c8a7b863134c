"""Scenes and series of scenes: what a person asks to be composed. No torch here."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from d2plan.fields import (
    Document,
    FolderName,
    Fraction,
    Guidance,
    OtherBase,
    PathText,
    Position,
    Seed,
    Side,
    Steps,
    Strength,
    Text,
    Word,
    check_text,
    contains_word,
)
from d2plan.parsing import parse_document

MAX_INSTANCES = 16
MAX_VARIANTS = 200


class Instance(Document):
    """A concept placed in a scene.

    Attributes:
        concept: path of the adapter file.
        class_word: the word for it in the global prompt; None takes the one in the adapter file.
        sub_prompt: what it is and does; holds the identifier. A scene's single one may leave it to the global prompt.
        strength: how strongly the adapter works on this instance's own row, 0..2; 0 is the bare base.
        trigger: the trigger words of a third-party LoRA; stand for the identifier that its file does not state.
        position: where it stands, when two instances share a class word.
        box: x0, y0, x1, y1 as parts of the width and height, 0..1; replaces the mask from attention.
        point: x, y as parts of the width and height, 0..1; a place in the instance.
        mask: path of a picture that is white where the instance is.
    """

    concept: PathText
    class_word: Word | None = None
    sub_prompt: Text = ""
    strength: Strength = 1.0
    trigger: Word | None = None
    position: Position | None = None
    box: tuple[Fraction, Fraction, Fraction, Fraction] | None = None
    point: tuple[Fraction, Fraction] | None = None
    mask: PathText | None = None

    @model_validator(mode="after")
    def _box_has_an_area(self) -> Self:
        if self.box is not None and not (self.box[0] < self.box[2] and self.box[1] < self.box[3]):
            raise ValueError("box must be [x0, y0, x1, y1] with x0 < x1 and y0 < y1")
        return self

    @model_validator(mode="after")
    def _one_place_is_given(self) -> Self:
        given = [name for name in ("box", "point", "mask") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} say where it is more than once; keep one of them")
        return self

    @model_validator(mode="after")
    def _trigger_stands_in_the_sub_prompt(self) -> Self:
        if self.trigger is not None and self.sub_prompt and not contains_word(self.sub_prompt, self.trigger):
            raise ValueError(
                f'sub_prompt "{self.sub_prompt}" does not hold the trigger "{self.trigger}"; write it there'
            )
        return self


class Style(Document):
    """An adapter that works on every row of a scene, such as a painter's manner.

    Attributes:
        adapter: path of the adapter file.
        strength: how strongly, 0..2.
    """

    adapter: PathText
    strength: Strength = 1.0


class Control(Document):
    """A ControlNet that holds a scene to a drawing, such as a skeleton or a depth map.

    Attributes:
        model: a ControlNet's folder, or its name on the hub.
        image: path of the drawing.
        strength: how strongly, 0..2.
        start: the part of the steps after which it begins, 0..1.
        end: the part of the steps after which it stops, 0..1.
        rows: what it works on: the global row, or all rows with a prompt.
    """

    model: PathText
    image: PathText
    strength: Strength = 1.0
    start: Fraction = 0.0
    end: Fraction = 1.0
    rows: Literal["global", "all"] = "global"

    @model_validator(mode="after")
    def _it_lasts(self) -> Self:
        if not self.start < self.end:
            raise ValueError(f"start is {self.start} and end is {self.end}, but start must be less than end")
        return self


class SceneFields(Document):
    """What scenes and series have in common; None means the base's own default.

    Attributes:
        base: "mini", a folder in the diffusers layout, or a model's name on the hub.
        global_prompt: the whole scene; names each instance by its class word. One alone may leave it to its sub-prompt.
        instances: the concepts in it, at most 16; none is plain guidance.
        negative_prompt: what to steer away from; None is the base's null text.
        style: adapters that work on all rows, at most 8.
        controls: ControlNets, at most 8.
        masks: where masks come from: the attention maps, a detector on a first picture, or a column for each instance;
            None is the base's own, and the attention maps in a series whose variants share a beginning alone.
        detector: what "detect" looks with: a word such as "judge", or a folder; None is the base's own.
        other_base: take adapters that were learnt on other weights of the base's architecture; else they are refused.
        missing: an instance that gets no area is an error, or a note in the record.
        weave: which rows read the whole scene, all prompts woven into one: "all", "subs" (those of the instances
            alone), or "none", where each reads its own prompt as it is written.
        scheduler: the base's own, or Euler.
        steps: denoising steps, 1..1000.
        warmup: steps before composition starts, 0..steps.
        guidance_scale: w of eq. (2), 0..100.
        height: pixels, a multiple of 8, 64..4096.
        width: pixels, a multiple of 8, 64..4096.
        seed: of the starting noise, 0..2**63-1.
    """

    base: PathText = "mini"
    global_prompt: Text = ""
    instances: Annotated[tuple[Instance, ...], Field(max_length=MAX_INSTANCES)] = ()
    negative_prompt: Annotated[str, StringConstraints(max_length=4000), AfterValidator(check_text)] | None = None
    style: Annotated[tuple[Style, ...], Field(max_length=8)] = ()
    controls: Annotated[tuple[Control, ...], Field(max_length=8)] = ()
    masks: Literal["attention", "columns", "detect"] | None = None
    detector: PathText | None = None
    other_base: OtherBase = False
    missing: Literal["error", "mark"] = "error"
    weave: Literal["none", "subs", "all"] | None = None
    scheduler: Literal["base", "euler"] = "base"
    steps: Steps | None = None
    warmup: Annotated[int, Field(strict=True, ge=0, le=1000)] | None = None
    guidance_scale: Guidance | None = None
    height: Side | None = None
    width: Side | None = None
    seed: Seed = 0

    @model_validator(mode="after")
    def _warmup_fits_steps(self) -> Self:
        if self.warmup is not None and self.steps is not None and self.warmup > self.steps:
            raise ValueError(f"warmup is {self.warmup}, but must be 0..steps, and steps is {self.steps}")
        return self

    @model_validator(mode="after")
    def _prompts_are_there_and_name_each_class_word(self) -> Self:
        # Of a single concept either prompt tells the other, once its file has told how it is called.
        prompts = {f"instances[{index}].sub_prompt": item.sub_prompt for index, item in enumerate(self.instances)}
        gone = [field for field, text in {"global_prompt": self.global_prompt, **prompts}.items() if not text]
        if gone and not (len(prompts) == len(gone) == 1):
            raise ValueError(f"{gone[0]} is missing; write it")
        for index, instance in enumerate(self.instances):
            word = instance.class_word
            if word is not None and self.global_prompt and not contains_word(self.global_prompt, word):
                raise ValueError(
                    f'instances[{index}].class_word is "{word}", which does not stand as a word in global_prompt '
                    f'"{self.global_prompt}"; name the instance there by its class word'
                )
        return self

    @model_validator(mode="after")
    def _a_detector_is_asked_for(self) -> Self:
        if self.detector is not None and self.masks != "detect":
            raise ValueError("detector is given, but masks is not detect; write `masks: detect`, or take it away")
        return self


class Scene(SceneFields):
    """What to compose: one scene determines one picture.

    Attributes:
        variant_of: the instances as another picture of this scene has them, in the same order. What both say alike
            stays as it is there; none is a picture of its own.
    """

    variant_of: Annotated[tuple[Instance, ...], Field(max_length=MAX_INSTANCES)] = ()

    @model_validator(mode="after")
    def _a_variant_has_the_same_instances(self) -> Self:
        places = [_tell_places(items) for items in (self.instances, self.variant_of)]
        if self.variant_of and places[0] != places[1]:
            raise ValueError("variant_of has other instances than the scene; name as many, in the same places")
        if len(self.variant_of) > 1 and not all(item.sub_prompt for item in self.variant_of):
            raise ValueError("variant_of has an instance whose sub_prompt is missing; write it")
        return self


def _tell_places(items: tuple[Instance, ...]) -> list[tuple[object, ...]]:
    return [(item.position, item.box, item.point, item.mask) for item in items]


class Variant(Document):
    """One picture of a series.

    Attributes:
        name: of its folder.
        sub_prompts: one an instance, None keeps the series' own; none at all keeps all.
        concepts: adapter files, one an instance, None keeps the series' own; None keeps all.
    """

    name: FolderName
    sub_prompts: tuple[Text | None, ...] = ()
    concepts: tuple[PathText | None, ...] | None = None


class Series(SceneFields):
    """Pictures that differ only in what their variants say: one noise, one layout, one beginning.

    Attributes:
        variants: one a picture, 1..200, each with a name of its own.
    """

    variants: Annotated[tuple[Variant, ...], Field(min_length=1, max_length=MAX_VARIANTS)]

    @model_validator(mode="after")
    def _there_is_something_to_change(self) -> Self:
        if not self.instances:
            raise ValueError("instances is empty, so there is nothing that a series could change; name one at least")
        return self

    @model_validator(mode="after")
    def _variants_fit_the_instances(self) -> Self:
        count = len(self.instances)
        for index, variant in enumerate(self.variants):
            for field, values in (("sub_prompts", variant.sub_prompts), ("concepts", variant.concepts or ())):
                if values and len(values) != count:
                    raise ValueError(
                        f'variants[{index}].{field} of "{variant.name}" holds {len(values)}, but there are {count} '
                        "instances; write one for each, and null to keep the series' own"
                    )
        return self

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        seen: dict[str, str] = {}
        for variant in self.variants:
            first = seen.setdefault(variant.name.casefold(), variant.name)
            if first is not variant.name:
                raise ValueError(f'two variants are named "{variant.name}"; give each a name of its own')
        return self


def list_scenes(series: Series) -> tuple[Scene, ...]:
    """Write out each variant of a series as a scene.

    Args:
        series: the series.

    Returns:
        One scene a variant, in their order.

    Raises:
        InputError: a variant's instance cannot be used, such as one whose sub-prompt lacks the trigger.
    """
    shared = series.model_dump(exclude={"variants"})
    return tuple(_write_out(shared, variant) for variant in series.variants)


def _write_out(shared: dict[str, object], variant: Variant) -> Scene:
    instances = []
    for index, instance in enumerate(shared["instances"]):  # type: ignore[arg-type, var-annotated]  # a dumped tuple
        changes = {}
        if variant.sub_prompts and variant.sub_prompts[index] is not None:
            changes["sub_prompt"] = variant.sub_prompts[index]
        if variant.concepts and variant.concepts[index] is not None:
            changes["concept"] = variant.concepts[index]
        instances.append({**instance, **changes})
    return parse_document(Scene, {**shared, "instances": instances}, f'variant "{variant.name}"')
