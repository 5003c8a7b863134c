"""The plan of a video: one global prompt, the instances, and what each does at every beat. No torch here.

A plan is a small file that a person can write by hand; no planner is needed for it, and none can put more into it
than a person could.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import Field, StringConstraints, model_validator

from d2plan.documents import (
    MAX_INSTANCES,
    Document,
    Fraction,
    PathText,
    Position,
    Seed,
    Steps,
    Strength,
    Text,
    Word,
    contains_word,
    load_document,
    parse_document,
)
from d2plan.errors import InputError
from d2plan.fields import Guidance, OtherBase, Side

MOST_BEATS = 32
MOST_FRAMES = 1000
DEFAULT_FRAMES = 16
_HEADER = "# A plan of d2plan. Change what you like; `d2plan plan FILE` checks it, `d2plan video FILE` films it.\n"

CountTokens = Callable[[str], int]
FrameCount = Annotated[int, Field(strict=True, ge=2, le=MOST_FRAMES)]


@dataclass(frozen=True)
class KnownConcept:
    """What a plan must know of an adapter file.

    Attributes:
        name: how stories call it.
        path: of the file.
        class_word: what it is; empty where the file states none.
        identifier: its word in sub-prompts; empty where the file states none.
        base: the fingerprint of the base that it was trained on; empty where the file states none.
    """

    name: str
    path: str
    class_word: str = ""
    identifier: str = ""
    base: str = ""


class PlanInstance(Document):
    """A concept that takes part.

    Attributes:
        name: how the beats call it.
        concept: path of the adapter file.
        class_word: the word for it in the global prompt; None takes the one in the adapter file.
        identifier: the word for it in the sub-prompts; None takes the one in the adapter file.
        strength: how strongly the adapter works, 0..2.
        position: where it stands.
        box: x0, y0, x1, y1 as parts of the width and height, 0..1.
    """

    name: Word
    concept: PathText
    class_word: Word | None = None
    identifier: Word | None = None
    strength: Strength = 1.0
    position: Position | None = None
    box: tuple[Fraction, Fraction, Fraction, Fraction] | None = None

    @model_validator(mode="after")
    def _box_has_an_area(self) -> Self:
        if self.box is not None and not (self.box[0] < self.box[2] and self.box[1] < self.box[3]):
            raise ValueError("box must be [x0, y0, x1, y1] with x0 < x1 and y0 < y1")
        return self


class Beat(Document):
    """A planned moment; it becomes one keyframe.

    Attributes:
        sub_prompts: what each instance is and does then, by its name.
        global_prompt: the whole scene where it differs from the plan's, such as after a change of place.
    """

    sub_prompts: dict[Word, Text]
    global_prompt: Text | None = None


class PlanChoices(Document):
    """What a person may choose of a plan without writing one.

    Attributes:
        frames: from one beat to the next, both keyframes counted, 2..1000.
        seed: of the noise.
    """

    frames: FrameCount = DEFAULT_FRAMES
    seed: Seed = 0


class EventPlan(Document):
    """A video, planned: its beats become keyframes, and between neighbours frames are made.

    Attributes:
        story: what the plan was made from.
        planner: who made it; None is a person.
        planned: fingerprint of what the planner wrote (``fingerprint_plan``); None where no planner did.
        base: "mini", a folder in the diffusers layout, or a model's name on the hub.
        other_base: take concepts that were learnt on other weights of the base's architecture.
        global_prompt: the whole scene (c_g of eq. 10); names each instance by its class word.
        instances: who takes part, 1..16.
        beats: what happens, 2..32 moments in their order (c_s of eq. 10).
        frames: of the video from one beat to the next, both keyframes counted, 2..1000.
        seed: of the noise.
        steps: denoising steps of a keyframe; None is the base's own.
        guidance_scale: w of eq. (2); None is the base's own.
        height: pixels; None is the base's own.
        width: pixels; None is the base's own.
        notes: what the planner did not understand, or had to decide.
    """

    story: Annotated[str, StringConstraints(max_length=4000)] | None = None
    planner: Word | None = None
    planned: Word | None = None
    base: PathText = "mini"
    other_base: OtherBase = False
    global_prompt: Text
    instances: Annotated[tuple[PlanInstance, ...], Field(min_length=1, max_length=MAX_INSTANCES)]
    beats: Annotated[tuple[Beat, ...], Field(max_length=MOST_BEATS)]
    frames: FrameCount = DEFAULT_FRAMES
    seed: Seed = 0
    steps: Steps | None = None
    guidance_scale: Guidance | None = None
    height: Side | None = None
    width: Side | None = None
    notes: Annotated[tuple[Text, ...], Field(max_length=200)] = ()

    @model_validator(mode="after")
    def _something_happens(self) -> Self:
        if len(self.beats) < 2:
            raise ValueError(f"beats holds {len(self.beats)}, but a video needs 2 moments or more; write what follows")
        first = (self.beats[0].sub_prompts, self.prompt_at(0))
        if all((beat.sub_prompts, self.prompt_at(index)) == first for index, beat in enumerate(self.beats)):
            raise ValueError("beats are all alike, so nothing would happen; change what one of them says")
        return self

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        names = [instance.name for instance in self.instances]
        for index, name in enumerate(names):
            if name.casefold() in {other.casefold() for other in names[:index]}:
                raise ValueError(f'two instances are named "{name}"; give each a name of its own')
        for index, beat in enumerate(self.beats):
            for name in names:
                if name not in beat.sub_prompts:
                    raise ValueError(f'beats[{index}].sub_prompts says nothing of "{name}"; write what it does then')
            for name in beat.sub_prompts:
                if name not in names:
                    raise ValueError(
                        f'beats[{index}].sub_prompts speaks of "{name}", who is no instance; '
                        f"use {', '.join(names)}, or add it to instances"
                    )
        return self

    def prompt_at(self, index: int) -> str:
        """Give the global prompt of a beat."""
        return self.beats[index].global_prompt or self.global_prompt


def fingerprint_plan(plan: EventPlan) -> str:
    """Give the fingerprint of what happens in a plan: its scene and its beats.

    Args:
        plan: the plan.

    Returns:
        Twelve hexadecimal digits.
    """
    told = json.dumps(plan.model_dump(include={"global_prompt", "beats"}), sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def check_choices(choices: Mapping[str, object]) -> None:
    """Refuse choices that no plan takes, before anybody plans.

    Args:
        choices: by field of ``PlanChoices``.

    Raises:
        InputError: a value cannot be used; the sentence names the field.
    """
    parse_document(PlanChoices, choices, "the options")


def check_plan(
    plan: EventPlan,
    concepts: Mapping[str, KnownConcept],
    count_tokens: CountTokens | None = None,
    token_limit: int = 77,
    base: str = "",
) -> EventPlan:
    """Check a plan's meaning and fill in what it leaves to its adapter files.

    Args:
        plan: as written.
        concepts: what the adapter files say of themselves, by the path that the plan gives.
        count_tokens: how many tokens a prompt takes, start and end counted; None checks no length.
        token_limit: how many the base reads.
        base: the fingerprint of the plan's base; empty checks only that the concepts agree.

    Returns:
        The plan with every class word and identifier filled in.

    Raises:
        InputError: a concept is unknown, of another base, states no class word, or has another's identifier; a class
            word is missing from a global prompt, an identifier from a sub-prompt; or a prompt is too long.
    """
    known = []
    for index, instance in enumerate(plan.instances):
        if instance.concept not in concepts:
            raise InputError(
                f"instances[{index}].concept is {instance.concept}, which is no adapter that is known here; "
                "give the path of one."
            )
        known.append(concepts[instance.concept])
    if not plan.other_base:
        _check_bases(plan, known, base)
    filled = _fill(plan, known)
    for index in range(len(filled.beats)):
        _check_beat(filled, index)
    if count_tokens is not None:
        for where, prompt in list_prompts(filled):
            if (count := count_tokens(prompt)) > token_limit:
                raise InputError(
                    f"{where} takes {count} tokens, but the base reads only {token_limit}; shorten it, or let fewer "
                    "take part."
                )
    return filled


def list_prompts(plan: EventPlan) -> Iterator[tuple[str, str]]:
    """List all prompts of a plan.

    Args:
        plan: the plan.

    Yields:
        The field and its text.
    """
    yield "global_prompt", plan.global_prompt
    for index, beat in enumerate(plan.beats):
        if beat.global_prompt is not None:
            yield f"beats[{index}].global_prompt", beat.global_prompt
        for name, prompt in beat.sub_prompts.items():
            yield f"beats[{index}].sub_prompts.{name}", prompt


def load_plan(path: str | Path) -> EventPlan:
    """Read a plan; its relative concept paths are taken from the folder that it lies in.

    Args:
        path: a YAML or JSON file.

    Returns:
        The plan; its meaning is not checked yet, see ``check_plan``.

    Raises:
        FileError: the file cannot be read.
        InputError: it is no plan; the sentence names the field.
    """
    plan = load_document(EventPlan, path)
    folder = Path(path).parent
    instances = tuple(
        item.model_copy(update={"concept": str(folder / os.path.expanduser(item.concept))}) for item in plan.instances
    )
    changes: dict[str, object] = {"instances": instances}
    if plan.base.startswith((".", "~")):
        changes["base"] = str(folder / os.path.expanduser(plan.base))
    return plan.model_copy(update=changes)


def write_plan(plan: EventPlan, folder: str | Path, as_json: bool = False) -> str:
    """Write a plan as a person would: what is left at its default is left out.

    Args:
        plan: the plan.
        folder: where its file will lie; concepts in or below it get relative paths, others absolute ones.
        as_json: write JSON.

    Returns:
        YAML or JSON, which ``load_plan`` reads back as the same plan.
    """
    root = Path(os.path.abspath(folder))
    content = plan.model_dump(mode="json", exclude_defaults=True)
    for instance in content["instances"]:
        path = Path(os.path.abspath(instance["concept"]))
        instance["concept"] = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
    if plan.base.startswith((".", "~")):
        content["base"] = os.path.abspath(os.path.expanduser(plan.base))
    if as_json:
        return json.dumps(content, ensure_ascii=False, indent=2) + "\n"
    return _HEADER + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)


def _check_bases(plan: EventPlan, known: Sequence[KnownConcept], base: str) -> None:
    expected, owner = base, f'base "{plan.base}"'
    for index, concept in enumerate(known):
        if not concept.base:
            continue
        if expected and concept.base != expected:
            raise InputError(
                f"instances[{index}].concept is {concept.path}, trained on the base {concept.base}, but {owner} is "
                f"{expected}; choose concepts of one base, or take them with --other-base (`other_base: true`)."
            )
        if not expected:
            expected, owner = concept.base, f"the base of {concept.path}"


def _fill(plan: EventPlan, known: Sequence[KnownConcept]) -> EventPlan:
    instances: list[PlanInstance] = []
    for index, (instance, concept) in enumerate(zip(plan.instances, known, strict=True)):
        word = instance.class_word or concept.class_word
        identifier = concept.identifier or instance.identifier
        if not word:
            raise InputError(f"instances[{index}].class_word is missing, and {concept.path} states none; write it.")
        if instance.identifier and identifier != instance.identifier:
            raise InputError(
                f'instances[{index}].identifier is "{instance.identifier}", but {concept.path} was trained with '
                f'"{identifier}"; write that, or leave it out.'
            )
        same = next((other for other in instances if identifier and other.identifier == identifier), None)
        if same is not None and same.concept != instance.concept:
            raise InputError(
                f"{concept.path} and {same.concept} have the same identifier {identifier}; train one of them again "
                "with another --identifier, or let only one take part."
            )
        instances.append(instance.model_copy(update={"class_word": word, "identifier": identifier or None}))
    return plan.model_copy(update={"instances": tuple(instances)})


def _check_beat(plan: EventPlan, index: int) -> None:
    prompt = plan.prompt_at(index)
    where = f"beats[{index}].global_prompt" if plan.beats[index].global_prompt else "global_prompt"
    for instance in plan.instances:
        word = str(instance.class_word)
        needed = sum(str(other.class_word).casefold() == word.casefold() for other in plan.instances)
        if _count(prompt, word) < needed:
            raise InputError(
                f'{where} "{prompt}" mentions "{word}" {_count(prompt, word)} times, but {needed} of the instances '
                f'{"is" if needed == 1 else "are"} called so; mention it once for each, as in "a {word}".'
            )
        if instance.identifier and contains_word(prompt, instance.identifier):
            raise InputError(
                f'{where} holds the identifier "{instance.identifier}"; name {instance.name} there by the class word '
                f'"{word}" alone.'
            )
        _check_sub_prompt(plan, index, instance)


def _check_sub_prompt(plan: EventPlan, index: int, instance: PlanInstance) -> None:
    text, where = plan.beats[index].sub_prompts[instance.name], f"beats[{index}].sub_prompts.{instance.name}"
    word = instance.identifier or str(instance.class_word)
    if not contains_word(text, word):
        raise InputError(f'{where} "{text}" does not hold "{word}"; write it, as in "a photo of a {word} ...".')
    for other in plan.instances:
        if other.identifier and other.identifier != instance.identifier and contains_word(text, other.identifier):
            raise InputError(
                f'{where} "{text}" holds "{other.identifier}", which is {other.name}; a sub-prompt speaks of one '
                "instance only."
            )


def _count(text: str, word: str) -> int:
    """Count how often a word stands in a text as a whole word."""
    spaced = r"\s+".join(re.escape(part) for part in word.split())
    return len(re.findall(rf"(?<!\w){spaced}(?!\w)", text, re.IGNORECASE))
