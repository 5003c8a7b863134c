"""What speaks to the reader and tells nothing: "and look,", "right?", "- ready, steady, go! -", "guess what:"."""

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import cast

from d2plan.documents import read_yaml

_FILE = Path(__file__).with_name("asides.yaml")
_STARTS = r"(?:(?<=^)|(?<=[.!?:;] )|(?<=[.!?]\" ))"
# "Guess who is on the beach?"
_GUESS = re.compile(r"\b(?:(?:and|can you|now) )*guess (?=(?:who|what|where|why|how)(?:'s)? \w)", re.IGNORECASE)
_DASH = r"[-\u2013\u2014]"


def drop_asides(story: str) -> str:
    """Drop what speaks to the reader and tells nothing.

    >>> drop_asides("And look, now Mia smiles, right? Then - ready, steady, go! - she runs.")
    'now Mia smiles. Then she runs.'

    Args:
        story: one line.

    Returns:
        The story without it; the marks that part its sentences stay.
    """
    begun, within, tag = _patterns()
    told = within.sub(_keep_border, begun.sub("", tag.sub(".", _GUESS.sub("", story))))
    return told.strip(" ,") or story


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    """Make the patterns for asides at the start of a sentence, within it, and before its question mark."""
    lists = cast(dict[str, list[str]], read_yaml(_FILE))
    anywhere, tags = _either(lists["anywhere"]), _either(lists["tags"])
    first = _either([*lists["anywhere"], *lists["starting"]])
    more = rf"(?:(?:, ?| {_DASH} |! ){anywhere})*"
    begun = rf"{_STARTS}(?:(?:and|but|so|oh|well|then) )*{first}{more}(?:, ?| ?{_DASH}+ |[!?.:\u2026]+(?: |$))"
    within = (
        rf"(?P<open>, ?| ?\(| {_DASH}+ |\u2014)(?:(?:and|but|so|oh|well) )?{anywhere}{more}"
        rf"(?P<close>, ?| ?[!?]* ?{_DASH}+ |\u2014|[!?]?\)|[!?.\u2026]+|$)"
    )
    leading = rf"{_STARTS}(?:(?:and|but|so|oh|well|then|now) )?{_either(lists['leading'])}(?: that)?(?::|,)? (?=\w)"
    return (
        re.compile(f"(?:{begun})|(?:{leading})", re.IGNORECASE),
        re.compile(within, re.IGNORECASE),
        re.compile(rf",? ?(?:, |{_DASH} ){tags}\?", re.IGNORECASE),
    )


def _either(phrases: Iterable[str]) -> str:
    longest_first = sorted(phrases, key=lambda phrase: -len(phrase))
    return r"(?:" + "|".join(re.escape(phrase) for phrase in longest_first) + r")(?![\w'])"


def _keep_border(found: re.Match[str]) -> str:
    opened, closed = found.group("open").strip(), found.group("close").strip()
    if closed[:1] in ("", ".", "!", "?", "\u2026") and not re.search(rf"{_DASH}$", closed):
        return closed[:1].replace("?", ".").replace("\u2026", ".") or "."
    return ", " if opened == closed == "," else " "
