"""Choose a planner, and open the language model behind it where there is one."""

import os
from dataclasses import dataclass
from typing import Literal

from d2plan.errors import InputError
from d2plan.etp.chat import ChatPlanner
from d2plan.etp.grammar.planner import GrammarPlanner
from d2plan.etp.local import LocalChat
from d2plan.etp.planner import Planner
from d2plan.etp.server import ServerChat, ServerSettings

PlannerKind = Literal["grammar", "server", "local"]
PLANNERS: tuple[PlannerKind, ...] = ("grammar", "server", "local")
KEY, URL, MODEL = "D2PLAN_LLM_KEY", "D2PLAN_LLM_URL", "D2PLAN_LLM_MODEL"


@dataclass(frozen=True)
class PlannerChoice:
    """Which planner, and where its model is; empty fields are taken from the environment, as the key always is.

    Attributes:
        kind: "grammar", "server" or "local".
        url: of the server; else D2PLAN_LLM_URL.
        model: its name on the server, or the folder of a local one; else D2PLAN_LLM_MODEL.
        seconds: for one answer of a server.
    """

    kind: PlannerKind = "grammar"
    url: str = ""
    model: str = ""
    seconds: float = 120.0


def open_planner(choice: PlannerChoice) -> Planner:
    """Make a planner.

    Args:
        choice: which one.

    Returns:
        The planner; a local model is in memory as long as it lives.

    Raises:
        InputError: the address or the model is missing or cannot be used.
        FileError: a local model cannot be opened.
    """
    model = choice.model or os.environ.get(MODEL, "")
    if choice.kind == "grammar":
        return GrammarPlanner()
    if not model:
        raise InputError(f"--planner {choice.kind} needs a model; name it with --llm-model or {MODEL}.")
    if choice.kind == "local":
        return ChatPlanner(LocalChat(model))
    url = choice.url or os.environ.get(URL, "")
    if not url:
        raise InputError(f"--planner server needs an address; give it with --llm-url or {URL}.")
    return ChatPlanner(ServerChat(ServerSettings(url, model, os.environ.get(KEY, ""), choice.seconds)))
