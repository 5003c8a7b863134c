"""Plan with a chat model: instruction and worked examples first, then the story, then its faults, twice at most."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypedDict, cast

from d2plan.documents import Document, Text, parse_document, read_yaml
from d2plan.errors import InputError, PlannerError
from d2plan.etp.plan import EventPlan
from d2plan.etp.planner import StoryRequest
from d2plan.etp.reply import Json, make_plan, make_schema, parse_reply
from d2plan.world.cast import ACCESSORIES, ACTIONS, COLOURS
from d2plan.world.scenery import LIGHTS, PLACES

PROMPTS = "planner-1"
ATTEMPTS = 3
_MOST_ECHO = 4000
_FOLDER = Path(__file__).parent / "prompts"


class Message(TypedDict):
    """One turn of a chat."""

    role: str
    content: str


class Chat(Protocol):
    """A language model that answers a conversation."""

    @property
    def name(self) -> str:
        """How records call it."""

    def reply(self, messages: Sequence[Message], schema: Json) -> str:
        """Answer a conversation.

        Args:
            messages: the turns so far.
            schema: the JSON schema that the answer shall have; a model may ignore it.

        Returns:
            The answer's text.

        Raises:
            InputError: this answer cannot be used, such as one that was cut off; another try may help.
            PlannerError: the model cannot be used at all.
        """


class PromptExample(Document):
    """A story that was planned well.

    Attributes:
        request: as ``write_request`` writes it.
        reply: as a model shall answer.
    """

    request: dict[str, object]
    reply: dict[str, object]


class PromptFile(Document):
    """What a chat model is told before it sees a story.

    Attributes:
        version: the file's name without its ending; records name it.
        instruction: how to plan.
        examples: at least one.
    """

    version: Text
    instruction: Text
    examples: tuple[PromptExample, ...]


class ChatPlanner:
    """Asks a chat model, and tells it at most twice what was wrong with its answer.

    Args:
        chat: the model.
    """

    def __init__(self, chat: Chat) -> None:
        self.chat = chat
        self.prompts = load_prompts()

    @property
    def name(self) -> str:
        """The model and the version of the instruction."""
        return f"{self.chat.name} ({self.prompts.version})"[:100]

    def plan(self, request: StoryRequest) -> EventPlan:
        """Plan a story.

        Args:
            request: the story and who is known.

        Returns:
            The plan.

        Raises:
            InputError: the model says that the story cannot be planned.
            PlannerError: the model failed, or none of its three answers was a plan.
        """
        messages = write_messages(self.prompts, request)
        schema = make_schema(request.concepts)
        fault = ""
        for _ in range(ATTEMPTS):
            text, problem = "", ""
            try:
                text = self.chat.reply(messages, schema)
                reply = parse_reply(text)
                problem = reply.problem
                if not problem:
                    return make_plan(reply, request, self.name)
            except InputError as error:
                fault = str(error).rstrip(".")
            if problem:
                raise InputError(f"The planner {self.chat.name} cannot plan this story: {_shorten(problem, 300)}")
            messages += [
                {"role": "assistant", "content": _shorten(text, _MOST_ECHO) or "{}"},
                {"role": "user", "content": f"That cannot be used: {_shorten(fault, 600)}. Write the whole JSON anew."},
            ]
        raise PlannerError(
            f"{self.chat.name} gave no plan that can be used in {ATTEMPTS} attempts (the last fault: "
            f"{_shorten(fault, 300)}); tell the story more simply, use --planner grammar, or write a plan yourself."
        )


def load_prompts(version: str = PROMPTS) -> PromptFile:
    """Read an instruction with its examples.

    Args:
        version: of the file.

    Returns:
        Both.

    Raises:
        FileError: the file is missing.
        InputError: it is damaged.
    """
    path = _FOLDER / f"{version}.yaml"
    return parse_document(PromptFile, read_yaml(path), str(path))


def write_messages(prompts: PromptFile, request: StoryRequest) -> list[Message]:
    """Write the conversation up to the story: the examples are turns of it.

    Args:
        prompts: instruction and examples.
        request: the story and who is known.

    Returns:
        The turns; everything that a person typed stands inside JSON texts.
    """
    messages: list[Message] = [{"role": "system", "content": prompts.instruction}]
    for example in prompts.examples:
        messages.append({"role": "user", "content": _write(example.request)})
        messages.append({"role": "assistant", "content": _write(example.reply)})
    messages.append({"role": "user", "content": _write(write_request(request))})
    return messages


def write_request(request: StoryRequest) -> Json:
    """Say what a model must know to plan a story.

    Args:
        request: the story and who is known.

    Returns:
        Story, characters, and for the embedded base the words that it was trained on.
    """
    characters = [
        {"name": concept.name, "class_word": concept.class_word, "identifier": concept.identifier}
        for concept in request.concepts
    ]
    content: Json = {"story": request.story, "characters": characters}
    if request.base == "mini":
        classes = {concept.class_word for concept in request.concepts}
        content["words"] = {
            "actions": {word: list(actions) for word, actions in ACTIONS.items() if word in classes},
            "accessories": list(ACCESSORIES),
            "colours": list(COLOURS),
            "places": [phrases[0] for phrases in PLACES.values()],
            "lights": [phrases[-1] for phrases in LIGHTS.values()],
        }
    return content


def _write(content: Json) -> str:
    return json.dumps(cast(object, content), ensure_ascii=False)


def _shorten(text: str, most: int) -> str:
    plain = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return plain if len(plain) <= most else plain[: most - 3] + "..."
