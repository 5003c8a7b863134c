"""What a benchmark leaves behind: ``results.json`` and the records beside every state and picture. No torch here.

``Results`` is the whole: who competed, what was drawn, what it cost, what the pictures show, and what went wrong.
Tables are made from nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

from pydantic import Field

from d2plan.eval.names import MEASURES, Looker
from d2plan.fields import Document

FORMAT = 1

Part = Literal["single", "multi"]
Kind = Literal["spatial", "ablation"]
Stage = Literal["learn", "join", "draw", "score"]
Values = dict[str, float | None]


class Metric(NamedTuple):
    """A number that pictures, instances or series have.

    Attributes:
        title: in tables.
        of: what has it; a picture also has the mean of its instances' numbers.
        encoder: the kind of encoder that it comes from, a key of ``Results.encoders``.
        higher_is_better: False for the rates of faults.
        meaning: one sentence for the report.
    """

    title: str
    of: Literal["picture", "instance", "series", "set"]
    encoder: Looker
    higher_is_better: bool
    meaning: str


# A value of None says that it could not be measured: nothing was found, nothing was asked for, or no encoder was given.
METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        name: Metric(title, MEASURES[name].of, MEASURES[name].encoder, MEASURES[name].better > 0, meaning)
        for name, title, meaning in (
            ("text", "Text alignment (cosine)", "CLIP cosine of the picture and its prompt without identifiers."),
            ("text_scaled", "Text alignment (x2.5)", "2.5 max(cosine, 0), which CLIPScore is."),
            ("text_instance", "Text alignment (instance)", "CLIP cosine of an instance's crop and its sub-prompt."),
            ("image", "Image alignment", "CLIP cosine of the whole picture with the references, over all pairs."),
            ("image_instance", "Image alignment (instance)", "The same between crops of the instance."),
            ("dino", "DINO", "Cosine of the whole picture with the references by the self-supervised encoder."),
            ("dino_instance", "DINO (instance)", "The same between crops of the instance."),
            ("identity", "Identity alignment", "max(cosine, 0) with the references' middle; 0 where nobody is found."),
            ("identity_found", "Identity where found", "The cosine over instances that are found."),
            ("identity_least", "Identity of the worst", "The least alike instance of a picture."),
            ("confused", "Confused", "It looks more like another concept of the picture than like its own."),
            ("first_of_20", "First of 20", "It ranks first among itself and 19 others of its class."),
            ("first_of_near", "First among look-alikes", "It ranks first among itself and 10 look-alikes."),
            ("present", "Present", "An instance of the class is there."),
            ("attributes", "Attributes bound", "All that the prompt says of the instance is seen on it."),
            ("attributes_swapped", "Attributes swapped", "It shows what the prompt says of another instance."),
            ("swapped", "Swapped", "Confused, or its attributes are swapped."),
            ("count", "Count", "As many instances as were asked for."),
            ("place", "Place", "The place is the prompt's."),
            ("light", "Light", "The light is the prompt's."),
            ("consistency_adjacent", "Consistency (neighbours)", "CLIP cosine of neighbours in a series."),
            ("consistency_all", "Consistency (all pairs)", "CLIP cosine over all pairs of a series."),
            ("scene_kept_adjacent", "Scene kept (neighbours)", "Neighbours by the self-supervised encoder."),
            ("scene_kept", "Scene kept (all pairs)", "All pairs by the self-supervised encoder."),
        )
    }
)
# Table 2's four columns, by our names.
TABLE_METRICS = ("text_scaled", "image", "identity", "consistency_all")


class Machine(Document):
    """Where it ran.

    Attributes:
        system: the operating system and processor kind.
        processor: its model.
        cores: that this process may use.
        device: "cpu" or the accelerator's name.
        packages: versions by name, d2plan and Python included.
    """

    system: str
    processor: str
    cores: int = Field(ge=1)
    device: str
    packages: dict[str, str] = Field(default_factory=dict)

    @property
    def place(self) -> str:
        """What a measured time depends on, in a phrase."""
        return f"{self.processor}, {self.cores} cores, {self.device}"


class Cost(Document):
    """What a piece of work cost.

    Attributes:
        seconds: wall time.
        unet_rows: batch rows that passed through the U-Net, as a forward hook counts them; training too.
        unet_calls: how often it ran; of a picture, for all that were drawn together.
        peak_mib: the highest memory while it ran: of the accelerator, else of the process, MiB; None where the system
            does not tell.
        machine: where it was measured, the ``place`` of a Machine; "" where nobody noted it.
    """

    seconds: float = Field(ge=0, allow_inf_nan=False)
    unet_rows: int = Field(default=0, ge=0)
    unet_calls: int = Field(default=0, ge=0)
    peak_mib: float | None = None
    machine: str = ""


class ConceptRecord(Document):
    """A concept that was learnt.

    Attributes:
        name: unique in the suite.
        class_word: its class.
        identifier: the word that stood for it.
        kind: "person", "animal", "thing", or "" where nobody said.
        seed: of the world's character; None for a folder of real pictures.
        images: how many there are.
        folder: of its pictures, from the results' folder on.
        digest: of the pictures, captions and masks.
    """

    name: str
    class_word: str
    identifier: str
    kind: str = ""
    seed: int | None = None
    images: int = Field(ge=1)
    folder: str
    digest: str


class ShotRecord(Document):
    """A picture that every method draws.

    Attributes:
        name: unique in the suite; the name of its run folder.
        part: one concept or several.
        prompt: the name of the suite's prompt; the same for all concepts and seeds.
        changed: it changes details of an instance (what it wears or does).
        series: pictures with one global prompt, one seed and other sub-prompts share this name; None outside of series.
        concepts: names, one an instance.
        global_prompt: names each instance by its class word only.
        sub_prompts: one an instance.
        joint_prompt: all in one sentence, with identifiers.
        plain_prompt: the same without identifiers; text alignment compares with it.
        boxes: one an instance, x0 y0 x1 y1 in 0..1.
        seed: of the noise.
    """

    name: str
    part: Part
    prompt: str
    changed: bool
    series: str | None = None
    concepts: tuple[str, ...]
    global_prompt: str
    sub_prompts: tuple[str, ...]
    joint_prompt: str
    plain_prompt: str
    boxes: tuple[tuple[float, float, float, float], ...]
    seed: int


class SuiteRecord(Document):
    """What was asked of every method.

    Attributes:
        name: "paper", "quick" or the user's.
        digest: of all that decides the pictures: concepts, prompts, seeds.
        concepts: that were learnt.
        shots: in the order of drawing.
    """

    name: str
    digest: str
    concepts: tuple[ConceptRecord, ...]
    shots: tuple[ShotRecord, ...]


class TunedSetting(Document):
    """How one setting did on the development concepts.

    Attributes:
        setting: one of the method's own, name to number.
        ran: the same with the suite's own numbers in it, as it ran.
        value: what was compared: (identity + text_scaled) / 2, single and multi weighing the same; None where it
            failed.
        values: the metrics that it comes from, as "single identity".
        seconds: that it took.
        trouble: why there is no value.
    """

    setting: dict[str, float]
    ran: dict[str, float] = Field(default_factory=dict)
    value: float | None = None
    values: Values = Field(default_factory=dict)
    seconds: float = 0.0
    trouble: str = ""


class LearnRecord(Document):
    """What learning a concept cost, or joining several; what could not be learnt stands in the failures.

    Attributes:
        concepts: one name when it was learnt, several when they were joined.
        cost: what it took.
        state_bytes: of the file that keeps it.
        shared_from: the method that learnt it first, where several learn alike and share the state; its cost is
            repeated here.
    """

    concepts: tuple[str, ...]
    cost: Cost
    state_bytes: int = Field(ge=0)
    shared_from: str | None = None


class InstanceValues(Document):
    """What one instance of a picture scored."""

    concept: str
    values: Values


class PictureRecord(Document):
    """A picture that a method drew.

    Attributes:
        shot: its name.
        image: the file, from the results' folder on.
        cost: of one picture: of the pictures drawn together, divided by their number; calls and memory are of all.
        values: of the picture, and means over its instances.
        instances: in the shot's order.
    """

    shot: str
    image: str
    cost: Cost
    values: Values = Field(default_factory=dict)
    instances: tuple[InstanceValues, ...] = ()


class SeriesRecord(Document):
    """What the pictures of a series score together; a series with a failed picture has no record."""

    series: str
    part: Part
    concepts: tuple[str, ...]
    values: Values


class Failure(Document):
    """What did not work; the rest went on.

    Attributes:
        stage: where.
        concepts: which ones.
        shots: pictures that are missing because of it.
        message: one sentence.
    """

    stage: Stage
    concepts: tuple[str, ...]
    shots: tuple[str, ...] = ()
    message: str


class MethodRecord(Document):
    """What one method did.

    Attributes:
        name: in commands and files.
        title: in tables.
        source: what it follows.
        code: digest of the method's own code.
        setting: that was used.
        chosen: "first" (untuned), "tuned here", or "tuned before".
        tuning: all settings that were tried, where that was done in this folder.
        validated: its single-concept identity reaches 80 % of plain LoRA's; None where plain LoRA did not run or
            nothing was measured.
        learned: training cost per concept.
        joined: cost of joining, per group of concepts; empty for methods that need none.
        pictures: in the order of the shots; those that failed are absent.
        series: scores of series.
        failures: what did not work.
    """

    name: str
    title: str
    source: str
    code: str
    setting: dict[str, float]
    chosen: Literal["first", "tuned here", "tuned before"] = "first"
    tuning: tuple[TunedSetting, ...] = ()
    validated: bool | None = None
    learned: tuple[LearnRecord, ...] = ()
    joined: tuple[LearnRecord, ...] = ()
    pictures: tuple[PictureRecord, ...] = ()
    series: tuple[SeriesRecord, ...] = ()
    failures: tuple[Failure, ...] = ()


class DrawingRecord(Document):
    """How all methods drew.

    Attributes:
        steps: denoising steps.
        guidance_scale: w of eq. (2).
        height: pixels.
        width: pixels.
        precision: number format of U-Net and text encoders, in learning too, such as "bfloat16".
    """

    steps: int
    guidance_scale: float
    height: int
    width: int
    precision: str = "float32"


class BaseRecord(Document):
    """The base that all methods stood on."""

    name: str
    fingerprint: str


class Results(Document):
    """All that a benchmark found; what ``results.json`` holds.

    Attributes:
        format: of this file.
        kind: methods side by side, or the ablation of ours.
        suite: what was asked.
        base: what it ran on.
        drawing: how pictures were drawn.
        machine: where.
        commit: of d2plan's source; with "+changes" where it was changed since; "" where nobody knows.
        encoders: kind ("clip", "dino", "identity", "judge") to what it was, such as "mini-clip 0a1b2c"; a kind that
            is absent measured nothing. "finder" is the detector that found instances in the judge's place.
        finished: all methods came to their end; False in a file that was written on the way.
        notes: what a reader should know, in sentences.
        plain: the method whose single-concept pictures ``validated`` is held against, plain LoRA's; None without one.
        methods: in the order of the request.
    """

    format: Literal[1] = 1
    kind: Kind
    suite: SuiteRecord
    base: BaseRecord
    drawing: DrawingRecord
    machine: Machine
    commit: str
    encoders: dict[str, str] = Field(default_factory=dict)
    finished: bool
    notes: tuple[str, ...] = ()
    plain: str | None = None
    methods: tuple[MethodRecord, ...]
