"""Suites: which concepts are learnt and which pictures every method draws. No torch here.

A suite is a YAML file. ``quick`` and ``paper`` lie in the package; a user's own may name folders of real pictures.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, StringConstraints, model_validator

from d2plan.bench.records import ConceptRecord, Part, ShotRecord
from d2plan.documents import MAX_INSTANCES
from d2plan.errors import InputError
from d2plan.fields import Document, FolderName, Fraction, Guidance, PathText, Seed, Side, Steps, Text, Word
from d2plan.parsing import parse_document
from d2plan.world.caption import article
from d2plan.world.cast import species_of
from d2plan.world.seeds import TEST_SEEDS
from d2plan.yaml_file import read_yaml

BUILT_IN = ("quick", "paper", "tuning")
DEED = "{deed}"
# Methods that must be told where an instance stands get columns of equal width.
_TOP, _BOTTOM, _MARGIN = 0.1, 0.97, 0.03
_LONGEST_NAME = 200
_ASSETS = Path(__file__).resolve().parent.parent / "assets" / "suites"

Box = tuple[Fraction, Fraction, Fraction, Fraction]
Detail = Annotated[str, StringConstraints(strip_whitespace=True, max_length=400)]
Kind = Literal["person", "animal", "thing", ""]


class SuiteConcept(Document):
    """A concept to learn: a character of the world, or a folder of real pictures.

    Attributes:
        name: unique in the suite.
        class_word: its class.
        identifier: the word that stands for it; None takes the base's next free one.
        kind: what tables group it under.
        seed: of the world's character, which is drawn on the spot.
        folder: of its pictures, from the suite's own folder on.
    """

    name: FolderName
    class_word: Word
    identifier: Word | None = None
    kind: Kind = ""
    seed: Annotated[int, Field(strict=True, ge=0, le=TEST_SEEDS[-1])] | None = None
    folder: PathText | None = None

    @model_validator(mode="after")
    def _comes_from_one_place(self) -> Self:
        if (self.seed is None) == (self.folder is None):
            raise ValueError(f"{self.name} needs a seed of the world or a folder of pictures, and not both")
        return self


class SuitePrompt(Document):
    """A prompt that each concept, or each group of concepts, is drawn with.

    Attributes:
        name: unique in the suite.
        scene: what stands after the instances, such as "on the beach".
        variants: changed details; each is a picture of a series with one global prompt and one seed. A variant holds
            what each instance wears and does, from left to right, "" for nothing; it is gone through anew where there
            are more instances. "{deed}" is the deed of the instance's class. Without variants nothing is said of
            instances, and the pictures are no series.
        images: pictures, or series, with different seeds.
        only: names of the concepts that it is for, or groups written "one+other"; empty takes all.
    """

    name: FolderName
    scene: Text
    variants: Annotated[tuple[Annotated[tuple[Detail, ...], Field(min_length=1)], ...], Field(max_length=50)] = ()
    images: Annotated[int, Field(strict=True, ge=1, le=100)] = 1
    only: tuple[Word, ...] = ()


class Suite(Document):
    """What is asked of every method.

    Attributes:
        name: of the suite.
        concepts: to learn.
        groups: names of concepts that meet in a picture, from left to right.
        single: prompts with one concept.
        multi: prompts with a group.
        methods: that compete where nobody names others; empty takes all.
        opening: what prompts begin with.
        deeds: class word to what "{deed}" is for it.
        images: pictures that the world draws of each of its characters.
        boxes: where the instances of a group of that many stand; columns of equal width without it.
        seed: of the first picture's noise.
        steps: denoising steps; the base's own without it, and so on.
        guidance_scale: w; 1 is without guidance, and below it methods would mean different things.
        height: of a picture.
        width: of a picture.
        settings: name to number, instead of what the methods' settings say ("steps": times that); for quick trials.
    """

    name: FolderName
    concepts: Annotated[tuple[SuiteConcept, ...], Field(min_length=1, max_length=100)]
    groups: tuple[Annotated[tuple[FolderName, ...], Field(min_length=2, max_length=MAX_INSTANCES)], ...] = ()
    single: tuple[SuitePrompt, ...] = ()
    multi: tuple[SuitePrompt, ...] = ()
    methods: tuple[Word, ...] = ()
    opening: Text = "a photo of"
    deeds: dict[Word, Detail] = Field(default_factory=dict)
    images: Annotated[int, Field(strict=True, ge=1, le=1000)] = 16
    boxes: dict[Annotated[int, Field(ge=1, le=MAX_INSTANCES)], tuple[Box, ...]] = Field(default_factory=dict)
    seed: Seed = 0
    steps: Steps | None = None
    guidance_scale: Annotated[Guidance, Field(ge=1)] | None = None
    height: Side | None = None
    width: Side | None = None
    settings: dict[Word, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_belong_together(self) -> Self:
        names = [concept.name for concept in self.concepts]
        _refuse_doubles("concepts", names)
        _refuse_doubles("prompts", [prompt.name for prompt in (*self.single, *self.multi)])
        _refuse_doubles("concepts and groups", [*names, *("+".join(group) for group in self.groups)])
        used = [("groups", name) for group in self.groups for name in group]
        used += [(prompt.name, name) for prompt in self.single for name in prompt.only]
        for where, name in used:
            if name not in names:
                raise ValueError(f"{where}: there is no concept {name}; the concepts are {', '.join(names)}")
        groups = ["+".join(group) for group in self.groups]
        for prompt in self.multi:
            for group in prompt.only:
                if group not in groups:
                    raise ValueError(f"{prompt.name}: there is no group {group}; the groups are {', '.join(groups)}")
        for members in self.groups:
            if len(set(members)) < len(members):
                raise ValueError(f"groups: {'+'.join(members)} holds a concept twice; a picture shows each once")
        return self

    @model_validator(mode="after")
    def _every_class_has_its_deed(self) -> Self:
        details = [detail for prompt in (*self.single, *self.multi) for one in prompt.variants for detail in one]
        for concept in self.concepts if any(DEED in detail for detail in details) else ():
            if concept.class_word not in self.deeds:
                raise ValueError(f'deeds: a prompt says "{DEED}", but there is none for {concept.class_word}; write it')
        return self

    @model_validator(mode="after")
    def _something_is_drawn(self) -> Self:
        if not self.single and not self.multi:
            raise ValueError("single and multi are both empty; write at least one prompt")
        if self.multi and not self.groups:
            raise ValueError("multi asks for groups of concepts; write groups")
        for count, boxes in self.boxes.items():
            if len(boxes) != count or any(not (x0 < x1 and y0 < y1) for x0, y0, x1, y1 in boxes):
                raise ValueError(f"boxes: {count} needs {count} boxes [x0, y0, x1, y1] with x0 < x1 and y0 < y1")
        return self


class LoadedSuite(NamedTuple):
    """A suite and where it comes from.

    Attributes:
        suite: the suite.
        folder: that folders of pictures are named from.
        source: how errors call it.
    """

    suite: Suite
    folder: Path
    source: str


def load_suite(name: str | Path) -> LoadedSuite:
    """Read a suite.

    Args:
        name: "quick", "paper", or a YAML file.

    Returns:
        The suite; folders of real pictures are there, classes of the world exist.

    Raises:
        FileError: the file cannot be read.
        InputError: it is no suite, a folder is missing, or the world lacks a class.
    """
    path = _ASSETS / f"{name}.yaml" if str(name) in BUILT_IN else Path(os.path.expanduser(name))
    if str(name) not in BUILT_IN and not path.exists():
        raise InputError(f"suite: {name} is neither {' nor '.join(BUILT_IN)} nor a file; name one of these.")
    suite = parse_document(Suite, read_yaml(path), str(path))
    for concept in suite.concepts:
        if concept.folder is not None and not find_pictures(concept, path.parent).is_dir():
            raise InputError(
                f"{path}: the folder {concept.folder} of concept {concept.name} is missing; name it from the suite's "
                "own folder on."
            )
        if concept.seed is not None:
            try:
                species_of(concept.class_word)
            except InputError as error:
                raise InputError(f"{path}: {concept.name}: {error}") from error
    return LoadedSuite(suite, path.parent, str(name))


def find_pictures(concept: SuiteConcept, folder: Path) -> Path:
    """Say where a concept's real pictures lie.

    Args:
        concept: one with a folder.
        folder: the suite's own.

    Returns:
        The folder of its pictures.
    """
    return folder / os.path.expanduser(concept.folder or "")


def name_concepts(loaded: LoadedSuite, reserved: Sequence[str]) -> dict[str, str]:
    """Give each concept its identifier.

    Args:
        loaded: the suite.
        reserved: words that the base keeps for concepts.

    Returns:
        Name to identifier. Concepts that never meet may share a word where the base keeps too few.

    Raises:
        InputError: two that meet have the same word, or the base keeps too few.
    """
    suite = loaded.suite
    given = {concept.name: concept.identifier for concept in suite.concepts if concept.identifier is not None}
    free = [word for word in reserved if word not in given.values()]
    for concept in suite.concepts:
        if concept.name in given:
            continue
        unused = [word for word in free if word not in given.values()]
        met = {given.get(other) for group in suite.groups if concept.name in group for other in group}
        choices = unused or [word for word in free if word not in met]
        if not choices:
            raise InputError(
                f"{loaded.source}: the base keeps no identifier for {concept.name}; write one that is a rare word."
            )
        given[concept.name] = choices[0]
    for group in suite.groups:
        words = [given[name] for name in group]
        if len(set(words)) < len(words):
            raise InputError(f"{loaded.source}: two concepts of {'+'.join(group)} have one identifier; change one.")
    return given


def list_shots(loaded: LoadedSuite, identifiers: Mapping[str, str]) -> tuple[ShotRecord, ...]:
    """Write all pictures of a suite down.

    Args:
        loaded: the suite.
        identifiers: of the concepts, by name.

    Returns:
        First those with one concept, then groups; pictures of the same concepts stand together.
    """
    suite = loaded.suite
    concepts = {concept.name: concept for concept in suite.concepts}
    shots: list[ShotRecord] = []
    casts: list[tuple[Part, tuple[str, ...]]] = [("single", (name,)) for name in concepts]
    casts += [("multi", group) for group in suite.groups]
    for number, (part, cast) in enumerate(casts):
        instances = [(concepts[name], identifiers[name]) for name in cast]
        prompts = suite.single if part == "single" else suite.multi
        for place, prompt in enumerate(prompts):
            if prompt.only and "+".join(cast) not in prompt.only:
                continue
            seed = suite.seed + 100_000 * (part == "multi") + 1_000 * place + 100_000_000 * number
            shots += _list_prompt(suite, part, prompt, instances, seed)
    longest = max((shot.name for shot in shots), key=len, default="")
    if len(longest) > _LONGEST_NAME:
        raise InputError(f"{loaded.source}: the name {longest} is too long for a folder; shorten the concepts' names.")
    name, count = Counter(shot.name for shot in shots).most_common(1)[0] if shots else ("", 0)
    if count > 1:
        raise InputError(f"{loaded.source}: {count} pictures are called {name}; rename a concept or a prompt.")
    if not shots:
        raise InputError(f"{loaded.source}: no prompt is for any of its concepts; widen what they are for (only).")
    return tuple(shots)


def _list_prompt(
    suite: Suite, part: Part, prompt: SuitePrompt, instances: Sequence[tuple[SuiteConcept, str]], seed: int
) -> Iterator[ShotRecord]:
    cast = tuple(concept.name for concept, _ in instances)
    words = [concept.class_word for concept, _ in instances]
    named = [f"{identifier} {concept.class_word}" for concept, identifier in instances]
    boxes = suite.boxes.get(len(cast)) or _split_width(len(cast))
    stem = f"{'+'.join(cast)}.{prompt.name}"
    for image in range(prompt.images):
        series = f"{stem}.{image:02d}" if prompt.variants else None
        for number, variant in enumerate(prompt.variants or (("",),)):
            details = [
                variant[place % len(variant)].replace(DEED, suite.deeds.get(word, ""))
                for place, word in enumerate(words)
            ]
            yield ShotRecord(
                name=f"{stem}.{image:02d}" + (f".{number}" if prompt.variants else ""),
                part=part,
                prompt=prompt.name,
                changed=bool(prompt.variants),
                series=series,
                concepts=cast,
                global_prompt=_write(suite.opening, words, [""] * len(cast), prompt.scene),
                sub_prompts=tuple(
                    _write(suite.opening, [name], [detail], "") for name, detail in zip(named, details, strict=True)
                ),
                joint_prompt=_write(suite.opening, named, details, prompt.scene),
                plain_prompt=_write(suite.opening, words, details, prompt.scene),
                boxes=tuple(boxes),
                seed=seed + image,
            )


def _write(opening: str, names: Sequence[str], details: Sequence[str], scene: str) -> str:
    """Write a prompt as the world's captions are written: instances with commas and an "and", then the scene."""
    told = [f"{_with_article(name)} {detail}".strip() for name, detail in zip(names, details, strict=True)]
    joined = " and ".join(part for part in (", ".join(told[:-1]), told[-1]) if part)
    return f"{opening} {joined} {scene}".strip()


def _with_article(name: str) -> str:
    # An identifier is no word that one could say, so it takes "a".
    return article(name) if name[0].isalpha() else f"a {name}"


def _split_width(count: int) -> tuple[Box, ...]:
    column = 1 / count
    return tuple(
        (number * column + _MARGIN / count, _TOP, (number + 1) * column - _MARGIN / count, _BOTTOM)
        for number in range(count)
    )


def digest_suite(suite: Suite, concepts: Sequence[ConceptRecord], shots: Sequence[ShotRecord]) -> str:
    """Tell a suite from another one: by all that decides what is learnt and drawn.

    Args:
        suite: the suite, for how it is drawn.
        concepts: with the digests of their pictures.
        shots: all pictures.

    Returns:
        16 hexadecimal digits.
    """
    drawn = {name: getattr(suite, name) for name in ("steps", "guidance_scale", "height", "width", "settings")}
    kept = [concept.model_dump(exclude={"folder"}) for concept in concepts]
    content = json.dumps([drawn, kept, [shot.model_dump() for shot in shots]], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _refuse_doubles(field: str, names: Sequence[str]) -> None:
    for place, name in enumerate(names):
        if name in names[:place]:
            raise ValueError(f"{field}: {name} stands twice; give each its own name")
