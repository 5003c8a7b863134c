"""The documents that stages hand to each other: a scene to compose, and the record of a run. No torch here."""

import difflib
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal, Self, TypeVar, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from d2plan.errors import InputError
from d2plan.scores import InstanceScore as InstanceScore
from d2plan.scores import Score as Score
from d2plan.yaml_file import read_yaml

MAX_INSTANCES = 16

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4000)]
Word = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]


def _take_path(value: object) -> object:
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if isinstance(text, str) and "\0" in text:
        raise ValueError("a path cannot hold a NUL character; write it anew")
    return text


PathText = Annotated[Text, BeforeValidator(_take_path)]
Steps = Annotated[int, Field(strict=True, ge=1, le=1000)]
Seed = Annotated[int, Field(strict=True, ge=0, le=2**63 - 1)]
Guidance = Annotated[float, Field(strict=True, ge=0, le=100, allow_inf_nan=False)]
Side = Annotated[int, Field(strict=True, ge=64, le=4096, multiple_of=8)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Position = Literal["left", "middle", "right"]


class Document(BaseModel):
    """A frozen document in which every field has a name that is known."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# What pydantic finds, in words that ask for no knowledge of Python.
_PLAINLY = MappingProxyType(
    {
        "int_type": "must be a whole number, without quotes",
        "float_type": "must be a number, without quotes",
        "string_type": "must be text",
        "string_unicode": "holds characters that are no text; write it anew",
        "string_too_short": "is empty; write it",
        "string_too_long": "is longer than {max_length} characters; shorten it",
        "tuple_type": "must be a list",
        "model_type": "must be fields, written as `name: value`",
        "invalid_key": "is a number where a field's name must stand",
        "greater_than_equal": "must be {ge} or more",
        "less_than_equal": "must be {le} or less",
    }
)

DocumentT = TypeVar("DocumentT", bound=Document)


class Instance(Document):
    """A concept placed in a scene.

    Attributes:
        concept: path of the adapter file.
        class_word: the word for it in the global prompt; None takes the one in the adapter file.
        sub_prompt: what this instance is and does; holds the identifier.
        position: where it stands, when two instances share a class word.
        box: x0, y0, x1, y1 as parts of the width and height, 0..1; replaces the mask from attention.
    """

    concept: PathText
    class_word: Word | None = None
    sub_prompt: Text
    position: Position | None = None
    box: tuple[Fraction, Fraction, Fraction, Fraction] | None = None

    @model_validator(mode="after")
    def _box_has_an_area(self) -> Self:
        if self.box is not None and not (self.box[0] < self.box[2] and self.box[1] < self.box[3]):
            raise ValueError("box must be [x0, y0, x1, y1] with x0 < x1 and y0 < y1")
        return self


class Scene(Document):
    """What to compose: one scene determines one picture. None means the base's own default.

    Attributes:
        base: "mini", a folder in the diffusers layout, or a model's name on the hub.
        global_prompt: the whole scene; names each instance by its class word.
        instances: the concepts in it, at most 16; none is plain guidance.
        negative_prompt: what to steer away from; None is the base's null text.
        steps: denoising steps, 1..1000.
        warmup: steps before composition starts, 0..steps.
        guidance_scale: w of eq. (2), 0..100.
        height: pixels, a multiple of 8, 64..4096.
        width: pixels, a multiple of 8, 64..4096.
        seed: of the starting noise, 0..2**63-1.
    """

    base: PathText = "mini"
    global_prompt: Text
    instances: Annotated[tuple[Instance, ...], Field(max_length=MAX_INSTANCES)] = ()
    negative_prompt: Annotated[str, StringConstraints(max_length=4000)] | None = None
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
    def _class_words_are_in_the_global_prompt(self) -> Self:
        for index, instance in enumerate(self.instances):
            word = instance.class_word
            if word is not None and not contains_word(self.global_prompt, word):
                raise ValueError(
                    f'instances[{index}].class_word is "{word}", which does not stand as a word in global_prompt '
                    f'"{self.global_prompt}"; name the instance there by its class word'
                )
        return self


class AdapterUse(Document):
    """An adapter as a run used it: where it lay, what it holds, and its content's hash."""

    path: str
    name: str
    sha256: str
    class_word: str
    identifier: str


class MaskReport(Document):
    """Where a run's masks came from.

    Attributes:
        route: "none", "box", "attention", ..., the source that was used.
        confidence: how sure the route is, 0..1.
        areas: the part of the picture that each instance got, 0..1, in the scene's order.
        notes: what the reader should know, such as an instance without an area.
    """

    route: str
    confidence: float = Field(ge=0, le=1)
    areas: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()


class RunRecord(Document):
    """What a run did: enough to make its picture again, and what it cost.

    Attributes:
        scene: with every default resolved.
        base_fingerprint: of the base's weights.
        adapters: one for each instance.
        masks: where they came from.
        timings: seconds by name.
        unet_calls: how often the U-Net ran.
        unet_rows: batch rows that it saw, all calls together.
        versions: of the packages, by name.
        seed: the scene's.
    """

    scene: Scene
    base_fingerprint: str
    adapters: tuple[AdapterUse, ...] = ()
    masks: MaskReport
    timings: dict[str, float] = Field(default_factory=dict)
    unet_calls: int = Field(ge=0)
    unet_rows: int = Field(ge=0)
    versions: dict[str, str] = Field(default_factory=dict)
    seed: Seed

    @model_validator(mode="after")
    def _timings_are_seconds(self) -> Self:
        for name, seconds in self.timings.items():
            if not math.isfinite(seconds) or seconds < 0:
                raise ValueError(f"timings.{name} is {seconds}, but must be seconds, 0 or more")
        return self


def contains_word(text: str, word: str) -> bool:
    """Say whether a word, or words in a row, stand in a text as whole words; case does not count.

    >>> contains_word("a man and a Dog", "dog"), contains_word("a doghouse", "dog")
    (True, False)

    Args:
        text: where to look.
        word: what to look for.

    Returns:
        True when it stands there.
    """
    spaced = r"\s+".join(re.escape(part) for part in word.split())
    return re.search(rf"(?<!\w){spaced}(?!\w)", text, re.IGNORECASE) is not None


def locate_concepts(scene: Scene, folder: Path) -> Scene:
    """Make a scene's relative paths stand on their own.

    Concept paths that are not absolute, and a base that starts with a dot, are taken from the given folder;
    ``~`` is the home folder.

    Args:
        scene: the scene as written.
        folder: where its file lies.

    Returns:
        The same scene with those paths joined to the folder.

    Raises:
        InputError: the folder's name is not UTF-8.
    """
    instances = tuple(
        instance.model_copy(update={"concept": _join(folder, instance.concept)}) for instance in scene.instances
    )
    base = _join(folder, scene.base) if scene.base.startswith((".", "~")) else scene.base
    return scene.model_copy(update={"instances": instances, "base": base})


def _join(folder: Path, path: str) -> str:
    joined = str(folder / os.path.expanduser(path))
    try:
        joined.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{joined!r} is not UTF-8, so no record could name it; rename the folder.") from error
    return joined


def load_scene(path: str | Path) -> Scene:
    """Read a scene file; its relative concept paths are taken from the folder that it lies in.

    Args:
        path: a YAML (or JSON) file.

    Returns:
        The scene.

    Raises:
        FileError: the file cannot be read.
        InputError: it is no scene; the sentence names the field, and the nearest one where a name is unknown.
    """
    scene = parse_document(Scene, read_yaml(path), str(path))
    return locate_concepts(scene, Path(path).parent)


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
    return parse_document(RunRecord, read_yaml(path), str(path))


def parse_document(kind: type[DocumentT], content: object, source: str) -> DocumentT:
    """Turn plain data into a document.

    Args:
        kind: the document's class.
        content: what was read.
        source: how errors call where it came from, such as a path.

    Returns:
        The document.

    Raises:
        InputError: a field is unknown, missing or wrong; the first of these is named.
    """
    if not isinstance(content, dict):
        fields = ", ".join(kind.model_fields)
        raise InputError(f"{source} holds no fields; write them as `name: value`, with names among {fields}.")
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        # An unknown name explains a missing one (a slip of the pen), so it is told first.
        found = sorted(error.errors(include_url=False, include_input=False), key=_is_about_a_known_name)[0]
        raise InputError(f"{source}: {_explain(found, kind)}") from error


def revise(document: DocumentT, changes: Mapping[str, object], source: str) -> DocumentT:
    """Change fields of a document and check the whole again.

    Args:
        document: what to start from; not changed.
        changes: new values by field.
        source: how errors call where the changes came from, such as "the options".

    Returns:
        The changed document.

    Raises:
        InputError: a field is unknown or its value cannot be used.
    """
    return parse_document(type(document), {**document.model_dump(exclude_unset=True), **changes}, source)


def _is_about_a_known_name(found: ErrorDetails) -> bool:
    return found["type"] != "extra_forbidden"


def _explain(found: ErrorDetails, kind: type[Document]) -> str:
    where = _write_location(found["loc"])
    message = found["msg"].removeprefix("Value error, ")
    if found["type"] in _PLAINLY:
        message = _PLAINLY[found["type"]].format(**found.get("ctx", {}))
    if found["type"] == "extra_forbidden":
        names = list(_document_at(kind, found["loc"][:-1]).model_fields)
        near = difflib.get_close_matches(str(found["loc"][-1]), names, n=1, cutoff=0.5)
        return f"{where} is not a field; " + (f"did you mean {near[0]}?" if near else f"use {', '.join(names)}.")
    if found["type"] == "missing":
        return f"{where} is missing; write it."
    if found["type"] == "too_long" and found["loc"] == ("instances",):
        return f"instances holds more than {MAX_INSTANCES}; take some away."
    if found["type"] == "value_error" and not found["loc"]:
        return f"{message}."
    return f"{where}: {message[:1].lower()}{message[1:]}.".replace("input should be", "must be")


def _document_at(kind: type[Document], location: tuple[int | str, ...]) -> type[Document]:
    """Find the class of the document inside a document that an error's location points to."""
    found = kind
    for part in location:
        if isinstance(part, str) and part in found.model_fields:
            found = _document_in(found.model_fields[part].annotation) or found
    return found


def _document_in(annotation: object) -> type[Document] | None:
    if isinstance(annotation, type) and issubclass(annotation, Document):
        return annotation
    return next((inner for part in get_args(annotation) if (inner := _document_in(part))), None)


def _write_location(location: tuple[int | str, ...]) -> str:
    written = ""
    for part in location:
        written += f"[{part}]" if isinstance(part, int) else f".{part}" if written else part
    return written
