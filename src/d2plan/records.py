"""The record of a run: what made a picture, and what it cost. No torch here."""

import math
import operator
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from d2plan.fields import Document, Seed
from d2plan.parsing import load_document
from d2plan.scenes import Scene


class AdapterUse(Document):
    """An adapter as a run used it: where it lay, what it holds, and its content's hash.

    Attributes:
        path: where it lay.
        name: what it is called.
        sha256: of its content.
        class_word: of its concept.
        identifier: of its concept.
        learnt_on: the fingerprint of the base that it was learnt on; empty, and not written, where that is the run's
            own, or where its file does not say.
    """

    path: str
    name: str
    sha256: str
    class_word: str
    identifier: str
    learnt_on: Annotated[str, Field(exclude_if=operator.not_)] = ""


class FileUse(Document):
    """A file that a picture was made from, besides the base and the adapters.

    Attributes:
        field: the scene's field that names it, such as ``controls[0].image``.
        path: where it lay.
        sha256: of its content; of a folder, of its files.
    """

    field: str
    path: str
    sha256: str


class MaskReport(Document):
    """Where a run's masks came from.

    Attributes:
        route: "none", "box", "attention", ..., the source that was used.
        confidence: how sure the route is, 0..1.
        areas: the part of the picture that each instance got, 0..1, in the scene's order.
        routes: each instance's own route.
        confidences: how sure each of these is, 0..1.
        notes: what the reader should know, such as an instance without an area.
    """

    route: str
    confidence: float = Field(ge=0, le=1)
    areas: tuple[float, ...] = ()
    routes: tuple[str, ...] = ()
    confidences: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()


class Choice(Document):
    """How a picture was chosen among several; what chose never scores.

    Attributes:
        candidates: pictures that were made.
        encoder: what compared each instance with its references.
        seeds: of the candidates.
        likeness: of each candidate: the cosine of its least alike instance, -1..1, -1 when one is not found.
        note: that this picture must not be scored with the same encoder.
    """

    candidates: int = Field(ge=2)
    encoder: str
    seeds: tuple[Seed, ...]
    likeness: tuple[float, ...]
    note: str = "chosen by this encoder; do not score it with the same one"


class RunRecord(Document):
    """What a run did: enough to make its picture again, and what it cost.

    Attributes:
        scene: with every default resolved.
        read: the prompts that the rows read, the global one's and each instance's.
        base_fingerprint: of the base's weights.
        vae_fingerprint: of the part of the base that paints the picture.
        adapters: one for each instance.
        styles: one for each adapter of the scene's style.
        kept: one for each instance of the picture that the scene is a variant of.
        files: masks, drawings, ControlNets and detectors.
        masks: where they came from.
        timings: seconds by name.
        unet_calls: how often the U-Net ran.
        unet_rows: batch rows that it saw, all calls together.
        together: scenes that were composed in one batch with this one, itself included.
        shared_start: it is one of a series, whose noise, warm-up and masks, or whose picture it shares.
        versions: of the packages, by name.
        machine: what else of the machine a picture's bits depend on, by name.
        settings: how the base composes, by name, and the sampler.
        choice: how it was chosen, where it was.
        seed: the scene's.
    """

    scene: Scene
    read: tuple[str, ...] = ()
    base_fingerprint: str
    vae_fingerprint: str = ""
    adapters: tuple[AdapterUse, ...] = ()
    styles: tuple[AdapterUse, ...] = ()
    kept: tuple[AdapterUse, ...] = ()
    files: tuple[FileUse, ...] = ()
    masks: MaskReport
    timings: dict[str, float] = Field(default_factory=dict)
    unet_calls: int = Field(default=0, ge=0)
    unet_rows: int = Field(default=0, ge=0)
    together: int = Field(default=1, ge=1)
    shared_start: bool = False
    versions: dict[str, str] = Field(default_factory=dict)
    machine: dict[str, str] = Field(default_factory=dict)
    settings: dict[str, str] = Field(default_factory=dict)
    choice: Choice | None = None
    seed: Seed

    @model_validator(mode="after")
    def _timings_are_seconds(self) -> Self:
        for name, seconds in self.timings.items():
            if not math.isfinite(seconds) or seconds < 0:
                raise ValueError(f"timings.{name} is {seconds}, but must be seconds, 0 or more")
        return self


def load_run(path: str | Path) -> RunRecord:
    """Read the record of a run.

    Args:
        path: a ``run.json``.

    Returns:
        The record.

    Raises:
        FileError: the file cannot be read.
        InputError: it is no record of a run.
    """
    return load_document(RunRecord, path)
