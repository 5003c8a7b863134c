"""Talk to any server of the OpenAI chat protocol: Ollama, vLLM, llama.cpp, LM Studio, OpenAI.

The standard library's client, because what protects here is control that larger clients do not give: one deadline
over everything (also over headers that drip), a cap on what is read, no redirects, few retries, and a key that no
message ever holds.
"""

import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from d2plan.errors import InputError, PlannerError
from d2plan.etp.chat import Message
from d2plan.etp.exchange import Address, Answer, Disconnected, check_address, post
from d2plan.etp.reply import Json

FORMATS = ("json_schema", "json_object", "text")
MOST_TOKENS = 4096
_RETRIES = 2
_LONGEST_WAIT = 10.0
_BUSY = (429, 500, 502, 503, 504)
_REFUSED = (400, 415, 422, 500, 501)
_ABOUT_FORMAT = ("response_format", "json_schema", "json_object", "schema", "grammar", "format")


@dataclass(frozen=True)
class ServerSettings:
    """Where a server is and how to ask it.

    Attributes:
        url: up to and with "/v1", such as "http://localhost:11434/v1".
        model: the model's name there.
        key: sent as a bearer token; never shown.
        seconds: for one answer with all retries.
    """

    url: str
    model: str
    key: str = field(default="", repr=False)
    seconds: float = 120.0


class ServerChat:
    """A chat model behind a server.

    It asks for the schema in the request, and steps down to "some JSON object", then to plain text, where the server
    refuses; what it learnt about the server holds for the next question.

    Args:
        settings: where and how.
        sleep: waits some seconds.

    Raises:
        InputError: the address or the key cannot be used.
    """

    def __init__(self, settings: ServerSettings, sleep: Callable[[float], None] = time.sleep) -> None:
        self.settings = settings
        self.address: Address = check_address(settings.url, settings.key)
        if not settings.model.strip():
            raise InputError("The server's model is not named; give it with --llm-model, such as llama3.2.")
        if not 0 < settings.seconds <= 3600:
            raise InputError(f"--llm-seconds is {settings.seconds}, but must be more than 0 and at most 3600.")
        self._sleep = sleep
        self._spread = random.Random()
        self._format = 0
        self._temperature = True
        self._limit = "max_tokens"

    @property
    def name(self) -> str:
        """The model and the server's host."""
        return f"{self.settings.model} at {urlsplit(self.settings.url).hostname}"

    def reply(self, messages: Sequence[Message], schema: Json) -> str:
        """Ask the server; see ``Chat``.

        Args:
            messages: the turns so far.
            schema: the JSON schema of the answer.

        Returns:
            The answer's text.

        Raises:
            InputError: the answer was cut off at its length.
            PlannerError: no answer within the deadline, the server refuses, or does not speak the protocol.
        """
        deadline = time.monotonic() + self.settings.seconds
        while True:
            answer = self._ask(self._write(messages, schema), deadline)
            if answer.status == 200:
                return self._read(answer)
            if not self._step_down(answer):
                raise self._refusal(answer)

    def _write(self, messages: Sequence[Message], schema: Json) -> bytes:
        body: Json = {"model": self.settings.model, "messages": list(messages), "stream": False}
        body[self._limit] = MOST_TOKENS
        if self._temperature:
            body["temperature"] = 0.1
        form = FORMATS[self._format]
        if form == "json_schema":
            described = {"name": "plan", "strict": True, "schema": schema}
            body["response_format"] = {"type": form, "json_schema": described}
        elif form == "json_object":
            body["response_format"] = {"type": form}
        return json.dumps(body).encode()

    def _ask(self, body: bytes, deadline: float) -> Answer:
        for attempt in range(_RETRIES + 1):
            answer, trouble = None, ""
            try:
                answer = post(self.address, body, deadline)
            except Disconnected as error:
                trouble = str(error)
            if answer is not None and (answer.status not in _BUSY or self._is_about_format(answer)):
                return answer
            wait = self._wait(attempt, answer)
            if attempt == _RETRIES or time.monotonic() + wait > deadline:
                if answer is None:
                    raise PlannerError(f"{self.name}: {trouble}; try again, or use --planner grammar.")
                return answer
            self._sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    def _wait(self, attempt: int, answer: Answer | None) -> float:
        wanted = answer.retry_after if answer is not None else None
        wait = 0.5 * 2**attempt if wanted is None else wanted
        # A server that asks for minutes is told to the person; waiting for it is their decision.
        return wait * (1 + 0.25 * self._spread.random()) if wait <= _LONGEST_WAIT else float("inf")

    def _step_down(self, answer: Answer) -> bool:
        """Change what the server refused; False when nothing is left to change."""
        if answer.status not in _REFUSED:
            return False
        told = answer.text.lower()
        if self._temperature and "temperature" in told:
            self._temperature = False
        elif self._limit == "max_tokens" and "max_tokens" in told:
            self._limit = "max_completion_tokens"
        elif self._format + 1 < len(FORMATS) and (answer.status != 500 or self._is_about_format(answer)):
            self._format += 1
        else:
            return False
        return True

    def _is_about_format(self, answer: Answer) -> bool:
        said = answer.text.lower()
        return answer.status == 500 and self._format + 1 < len(FORMATS) and any(word in said for word in _ABOUT_FORMAT)

    def _read(self, answer: Answer) -> str:
        try:
            choice = json.loads(answer.text)["choices"][0]
            message = choice["message"]
            content, refusal, finish = message.get("content"), message.get("refusal"), choice.get("finish_reason")
        except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
            raise PlannerError(
                f"{self.name} does not answer as the chat protocol says; check that --llm-url ends in /v1."
            ) from error
        if isinstance(refusal, str) and refusal:
            raise PlannerError(f"{self.name} refuses: {self._clean(refusal)}; tell the story in other words.")
        if finish == "content_filter":
            raise PlannerError(f"{self.name} filtered the answer out; tell the story in other words.")
        if finish == "length":
            raise InputError("the reply was cut off because it was too long; write fewer and shorter texts")
        if not isinstance(content, str):
            raise PlannerError(f"{self.name} gave no text; choose a chat model with --llm-model.")
        return content

    def _refusal(self, answer: Answer) -> PlannerError:
        status = answer.status
        if 300 <= status < 400:
            return PlannerError(
                f"{self.name} redirects to another address, which is never followed; give the final one as --llm-url."
            )
        said = self._clean(_find_message(answer.text))
        told = f" ({said})" if said else ""
        if status in (401, 403):
            return PlannerError(
                f"{self.name} refuses the key (status {status}){told}; set D2PLAN_LLM_KEY to a valid one."
            )
        if status == 404:
            return PlannerError(f"{self.name} was not found{told}; check --llm-model, and that --llm-url ends in /v1.")
        if status in _BUSY:
            return PlannerError(f"{self.name} is busy or broken (status {status}){told}; try again later.")
        return PlannerError(f"{self.name} refuses the question (status {status}){told}; choose another model.")

    def _clean(self, text: str) -> str:
        plain = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
        if self.settings.key:
            plain = plain.replace(self.settings.key, "[key]")
        return plain if len(plain) <= 200 else plain[:197] + "..."


def _find_message(text: str) -> str:
    try:
        error = json.loads(text)["error"]
        found = error if isinstance(error, str) else error["message"]
    except (ValueError, RecursionError, LookupError, TypeError):
        return ""
    return found if isinstance(found, str) else ""
