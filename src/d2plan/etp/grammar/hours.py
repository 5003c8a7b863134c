"""Hours and days of the week, and what goes from one thing to another: only the order counts."""

import re

_AROUND = r"(?:at|around|by|about|from)? ?(?:around |about |exactly )?"
_HOUR = r"(?:\d{1,2}(?:[:.]\d\d)? ?(?:am\b|pm\b|a\.m\.|p\.m\.|o'clock)|\d{1,2}:\d\d)"
_CLOCK = re.compile(
    rf"(?P<head>^|(?<=[.!?;] ))?\b{_AROUND}{_HOUR}(?: sharp)?(?: in the (?:morning|afternoon))?,? ?", re.IGNORECASE
)
_DAY = re.compile(
    r"\b(?P<before>on |one )?(?:mon|tues|wednes|thurs|fri|satur|sun)day (?P<part>night|morning|evening|afternoon)\b",
    re.IGNORECASE,
)
_PARTS = {"on ": "the next ", "one ": "one "}
_CHANGING = r"(?:goes|went|moves|moved|changes|changed|switches|switched|transitions|transitioned|passes|passed)"
_FORMERLY = r"(?:previously|formerly|earlier|until (?:just )?now|until then|moments ago|a moment ago|just now)"
_TOLD_BRIEFLY: tuple[tuple[re.Pattern[str], str], ...] = (
    # "Goes from sitting to jumping"
    (re.compile(rf"\b{_CHANGING} from (\w+ing) to (\w+ing)\b", re.IGNORECASE), r"is \1, then is \2"),
    # "Mia, previously asleep, is now jumping"
    (re.compile(rf", {_FORMERLY} ([\w ]+?), is now ", re.IGNORECASE), r" was \1, then is "),
    # "The clock strikes three"
    (re.compile(r"\bclock (?:strikes|struck) (?!midnight|twelve)\w+", re.IGNORECASE), "clock rings"),
    # "She sits, but not before she has waved"
    (re.compile(r",? (?:but |though )?not (?:before|until) (?=\w+ (?:has|had|have) )", re.IGNORECASE), " after "),
    # "She used to wear a hat. Now she runs."
    (re.compile(r"\bused to (?=\w+[^!?]*\b(?:now|today|one day)\b)", re.IGNORECASE), ""),
    # "She is parked again, only now it rains": at the same time.
    (re.compile(r"(\w,) (?:only|except|but only|except that) (?:now|this time) ", re.IGNORECASE), r"\1 while "),
)


def plain_hours(story: str) -> str:
    """Read hours as "then", and days of the week as parts of a day.

    >>> plain_hours("At 7 am Emma wakes up. At 8:30 she smiles. On Saturday morning she goes from sitting to running.")
    'Emma wakes up. then she smiles. the next morning she is sitting, then is running.'

    Args:
        story: one line.

    Returns:
        The story in words that tell only what comes after what.
    """
    for pattern, plain in _TOLD_BRIEFLY:
        story = pattern.sub(plain, story)
    return _CLOCK.sub(_name_hour, _DAY.sub(_name_part, story))


def _name_hour(found: re.Match[str]) -> str:
    return "then " if found.start() and found.group("head") is not None else ""


def _name_part(found: re.Match[str]) -> str:
    return _PARTS.get((found.group("before") or "").lower(), "") + found.group("part")
