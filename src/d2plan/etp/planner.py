"""What every planner is: a story and the known concepts go in, a plan comes out, or one sentence why not."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Protocol

from d2plan.errors import InputError
from d2plan.etp.plan import DEFAULT_FRAMES, EventPlan, KnownConcept

MOST_LETTERS = 4000
# An empty line, a heading in capitals, and an item of a list end a sentence; other ends of lines may stand within one.
_BORDER = re.compile(
    r"\s*\n\s*\n\s*|\s*\n\s*(?=[-*\u2022] |\(?\d+[.):] )|(?m:^(?P<heading>[^a-z\n]*[A-Z]{2}[^a-z\n]*)\n)(?=[A-Z])"
    # A mail's subject or a title ends with its line, too.
    r"|(?i:\A(?P<title>(?:subject|re|title|working title|project): [^\n]*)\n)"
)
# "0:03 Rex jumps", line by line, is a list.
_TIMECODE = re.compile(r"(?m)^[ \t]*[\[(]?00?:\d\d(?:[ \t]*-[ \t]*\d?\d:\d\d)?[\])]?:?[ \t]+")

Check = Callable[[EventPlan], EventPlan]


@dataclass(frozen=True)
class StoryRequest:
    """What a planner is asked.

    Attributes:
        story: plain words, one line, at most 4000 characters; see ``clean_story``.
        concepts: who may take part.
        base: the base model that the plan is for.
        frames: of the video from one beat to the next.
        seed: of the noise.
        check: looks at the plan's meaning and fills it in; raises InputError.
    """

    story: str
    concepts: tuple[KnownConcept, ...]
    base: str = "mini"
    frames: int = DEFAULT_FRAMES
    seed: int = 0
    check: Check = lambda plan: plan


class Planner(Protocol):
    """Turns stories into plans."""

    @property
    def name(self) -> str:
        """How records call it."""

    def plan(self, request: StoryRequest) -> EventPlan:
        """Plan a story.

        Args:
            request: the story and who is known.

        Returns:
            A plan that passed the request's check.

        Raises:
            InputError: the story cannot be planned; the sentence says why.
            PlannerError: the model behind the planner failed.
        """


def clean_story(text: str) -> str:
    r"""Turn what a person typed into one line of visible characters.

    >>> clean_story("Rex  sleeps,\nthen\x1b[31m runs.")
    'Rex sleeps, then runs.'

    Args:
        text: the story.

    Returns:
        The same words with plain quotes, single spaces, and no characters that steer a terminal.

    Raises:
        InputError: nothing is left, or it is longer than 4000 characters.
    """
    if len(text) > 4 * MOST_LETTERS:
        raise InputError(f"The story is longer than {MOST_LETTERS} characters; tell it in fewer words.")
    plain = unicodedata.normalize("NFKC", text.encode("utf-8", "replace").decode("utf-8"))
    plain = re.sub(r"\x1b\[[0-9;?]*[ -/]*[@-~]", "", plain)
    plain = plain.translate({0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"', 0x2013: " - ", 0x2014: " - "})
    numbers = count(1)
    plain = _TIMECODE.sub(lambda _: f"{next(numbers)}) ", re.sub(r"\[(\d+)\]", r"\1)", plain))
    plain = _BORDER.sub(lambda found: f"{found['heading'] or found['title'] or ''}. ", plain.strip())
    plain = " ".join("".join(letter if letter.isprintable() else " " for letter in plain).split())
    plain = re.sub(r"([.!?;,:])\s*\.(?!\.)", r"\1", plain)
    if not plain:
        raise InputError('The story is empty; tell one, such as "Rex sleeps on the beach, then he runs".')
    if len(plain) > MOST_LETTERS:
        raise InputError(f"The story is longer than {MOST_LETTERS} characters; tell it in fewer words.")
    return plain


def list_names(concepts: Sequence[KnownConcept]) -> str:
    """Name the known concepts for a sentence.

    Args:
        concepts: who is known.

    Returns:
        Such as "Rex (dog), John (man)"; at most ten of them.
    """
    names = [f"{concept.name} ({concept.class_word})" if concept.class_word else concept.name for concept in concepts]
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
