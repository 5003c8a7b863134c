"""Read a language model's answer: exactly one JSON object, of the one shape that was asked for, or a fault in words.

The answer can fill prompt strings and choose among names; paths, identifiers, class words and numbers of the plan
come from the concepts and the person, never from the model.
"""

import json
import math
import re
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from d2plan.documents import MAX_INSTANCES, Document, Text, parse_document
from d2plan.errors import InputError
from d2plan.etp.plan import MOST_BEATS, EventPlan, KnownConcept, PlanInstance
from d2plan.etp.planner import StoryRequest

MOST_BYTES = 64_000
MOST_DEPTH = 8
_MOST_DIGITS = 18
_THOUGHT = re.compile(r"\A\s*<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL)
_FENCE = re.compile(r"\A```(?:json|JSON)?[ \t]*\r?\n(.*?)\r?\n?[ \t]*```\Z", re.DOTALL)

Json = dict[str, object]
Words = Annotated[str, StringConstraints(strip_whitespace=True, max_length=1000)]
Prompt = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000)]


class ReplyInstance(Document):
    """Who takes part, and where it stands; "none" leaves that to the picture."""

    name: Text
    position: Literal["left", "middle", "right", "none"] = "none"


class ReplyPrompt(Document):
    """What one character is and does at a beat."""

    name: Text
    prompt: Prompt


class ReplyBeat(Document):
    """A moment; an empty global prompt keeps the first one."""

    number: Annotated[int, Field(strict=True, ge=1, le=MOST_BEATS)]
    global_prompt: Words = ""
    sub_prompts: Annotated[tuple[ReplyPrompt, ...], Field(min_length=1, max_length=MAX_INSTANCES)]


class Reply(Document):
    """What a model answers.

    Attributes:
        reasoning: its thoughts, which nobody reads.
        problem: why the story cannot be planned; empty when it can.
        instances: who takes part.
        global_prompt: the whole scene.
        beats: what happens.
        not_shown: what of the story no picture can show.
    """

    reasoning: Annotated[str, StringConstraints(max_length=8000)] = ""
    problem: Words = ""
    instances: Annotated[tuple[ReplyInstance, ...], Field(max_length=MAX_INSTANCES)] = ()
    global_prompt: Words = ""
    beats: Annotated[tuple[ReplyBeat, ...], Field(max_length=MOST_BEATS)] = ()
    not_shown: Annotated[tuple[Words, ...], Field(max_length=50)] = ()


def make_schema(concepts: Sequence[KnownConcept]) -> Json:
    """Write the JSON schema of a reply, in the subset that every server with constrained decoding takes.

    Args:
        concepts: who is known; names become an enumeration.

    Returns:
        A flat schema in which every field is required.
    """
    name: Json = {"type": "string", "enum": [concept.name for concept in concepts]}
    text: Json = {"type": "string"}
    position: Json = {"type": "string", "enum": ["left", "middle", "right", "none"]}
    beat = _object(number={"type": "integer"}, global_prompt=text, sub_prompts=_list(_object(name=name, prompt=text)))
    return _object(
        reasoning=text,
        problem=text,
        instances=_list(_object(name=name, position=position)),
        global_prompt=text,
        beats=_list(beat),
        not_shown=_list(text),
    )


def parse_reply(text: str) -> Reply:
    """Read a reply strictly.

    One object, alone, or alone in one code fence; a thought before it, marked as such, is skipped. Refused before
    parsing: more than 64,000 bytes or 8 levels. Refused while parsing: names twice, NaN, Infinity, numbers too long.

    Args:
        text: what the model wrote.

    Returns:
        The reply.

    Raises:
        InputError: it is anything else; the sentence tells the model what to change.
    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise InputError("the reply holds half a character (a lone surrogate); write plain text") from error
    if size > MOST_BYTES:
        raise InputError(f"the reply is larger than {MOST_BYTES} bytes; write less")
    body = _THOUGHT.sub("", text).strip()
    fenced = _FENCE.match(body)
    body = fenced.group(1).strip() if fenced else body
    if not body:
        raise InputError("the reply is empty; write one JSON object")
    if _depth(body) > MOST_DEPTH:
        raise InputError(f"the reply is nested deeper than {MOST_DEPTH} levels; keep to the schema")
    try:
        content = json.loads(
            body,
            object_pairs_hook=_refuse_doubles,
            parse_constant=_refuse_constant,
            parse_int=_read_int,
            parse_float=_read_float,
        )
    except json.JSONDecodeError as error:
        raise InputError(
            f"the reply is not exactly one JSON object ({error.msg} at character {error.pos}); write that object and "
            "nothing before or after it"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"the reply cannot be read: {error}") from error
    _refuse_surrogates(content)
    return parse_document(Reply, content, "the reply")


def make_plan(reply: Reply, request: StoryRequest, planner: str) -> EventPlan:
    """Put a reply's words into a plan; everything else comes from the request.

    Args:
        reply: from ``parse_reply``.
        request: what was asked.
        planner: how the plan shall name its maker.

    Returns:
        A plan that passed the request's check.

    Raises:
        InputError: the reply names somebody unknown or nobody, counts its beats wrongly, or the plan fails the check.
    """
    known = {concept.name.casefold(): concept for concept in request.concepts}
    instances = []
    for index, item in enumerate(reply.instances):
        concept = known.get(item.name.casefold())
        if concept is None:
            names = ", ".join(concept.name for concept in request.concepts)
            raise InputError(f'instances[{index}].name is "{item.name}", who is not known; use {names}')
        instances.append(_make_instance(concept, item))
    if not instances:
        raise InputError("instances is empty; name who takes part")
    beats = [
        _make_beat(beat, index, {item.name.casefold(): item.name for item in instances}, reply.global_prompt)
        for index, beat in enumerate(reply.beats)
    ]
    content: Json = {
        "story": request.story,
        "planner": planner,
        "base": request.base,
        "global_prompt": _plain(reply.global_prompt),
        "instances": [item.model_dump() for item in instances],
        "beats": beats,
        "frames": request.frames,
        "seed": request.seed,
        "notes": [f"Not shown: {_plain(note)}" for note in reply.not_shown if note],
    }
    return request.check(parse_document(EventPlan, content, "the reply"))


def _make_instance(concept: KnownConcept, item: ReplyInstance) -> PlanInstance:
    return PlanInstance(
        name=concept.name,
        concept=concept.path,
        class_word=concept.class_word or None,
        identifier=concept.identifier or None,
        position=None if item.position == "none" else item.position,
    )


def _make_beat(beat: ReplyBeat, index: int, names: dict[str, str], global_prompt: str) -> Json:
    if beat.number != index + 1:
        raise InputError(f"beats[{index}].number is {beat.number}, but must be {index + 1}; keep the beats in order")
    prompts: dict[str, str] = {}
    for item in beat.sub_prompts:
        name = names.get(item.name.casefold(), item.name)
        if name in prompts:
            raise InputError(f'beats[{index}].sub_prompts names "{name}" twice; say all of it in one prompt')
        prompts[name] = _plain(item.prompt)
    changed = beat.global_prompt and beat.global_prompt != global_prompt
    return {"sub_prompts": prompts, **({"global_prompt": _plain(beat.global_prompt)} if changed else {})}


def _plain(text: str) -> str:
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _object(**properties: Json) -> Json:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


def _depth(text: str) -> int:
    """Count how deep brackets are nested outside texts, without parsing."""
    depth = deepest = 0
    inside = escaped = False
    for letter in text:
        if inside:
            inside = escaped or letter != '"'
            escaped = letter == "\\" and not escaped
        elif letter == '"':
            inside = True
        elif letter in "{[":
            depth += 1
            deepest = max(deepest, depth)
        elif letter in "}]":
            depth -= 1
    return deepest


def _refuse_doubles(pairs: list[tuple[str, object]]) -> Json:
    content: Json = {}
    for name, value in pairs:
        if name in content:
            raise ValueError(f'"{name}" is written twice in one object')
        content[name] = value
    return content


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is no number of JSON")


def _read_int(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError("a number has too many digits")
    return int(digits)


def _read_float(digits: str) -> float:
    value = float(digits) if len(digits) <= 40 else math.inf
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


def _refuse_surrogates(content: object) -> None:
    try:
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise InputError("the reply holds half a character (a lone surrogate); write plain text") from error
