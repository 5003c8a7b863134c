"""Long times: "five years later", "the next winter" put a moment after another one, and no picture shows them."""

import re

_UNITS = r"(?:week|month|year|decade|centur(?:y|ie)|season)s?"
_SEASONS = r"(?:spring|summer|autumn|winter)"
_PASSING = r"(?:pass|passes|passed|go by|goes by|went by|(?:has|have|had) (?:passed|gone by))"
_COMING = r"(?:comes|came|arrives|arrived|begins|began|is over|was over|ends|ended)"
_COUNT = r"(?:(?:about|only|just|almost|exactly|a|an|one|two|three|four|five|six|ten|\d+|some|many|several|few|long) )"
_ELAPSES = re.compile(
    r"\b(?:"
    rf"{_COUNT}*{_UNITS} (?:later on|later|afterwards|after that)"
    rf"|after {_COUNT}+{_UNITS}"
    rf"|(?:in |on )?the (?:next|following|very next) (?:{_UNITS}|{_SEASONS}|fall)"
    rf"|(?:in|during) (?:the )?{_SEASONS}"
    rf"|(?:(?:when|as soon as|once|then) )?(?:the )?{_SEASONS} {_COMING}(?:,|\.| and)"
    rf"|(?:the )?{_COUNT}*{_UNITS} {_PASSING}(?:,|\.| and)"
    r")(?!\w)",
    re.IGNORECASE,
)


_WEATHER = r"(?:the )?(?:sun|rain|moon|storm|night|stars|snow|darkness|dusk|dawn|evening|morning|sky|clouds|fog)"
_SLOWLY = r"(?:finally|eventually|slowly|gradually|already|soon|just|at last|also|too|still|quickly)"
_WHILE = re.compile(rf"\b({_WEATHER}(?: is| are| was| has| had)?) {_SLOWLY}(?= \w+)", re.IGNORECASE)
_SUDDEN = re.compile(
    r"\bit (then|suddenly|finally|slowly|soon|eventually|now) (?=(?:starts|started|begins|began|stops|stopped|gets|got|"
    r"grows|grew|becomes|became|rains|rained) ?(?:to rain|raining|dark|light|late|\.|,|and))",
    re.IGNORECASE,
)


_UNTIL = re.compile(
    r"\b(until|till) (?:the )?(sunset|evening|night|nightfall|dusk|dawn|morning|sunrise|midnight|noon|midday|dark|"
    r"the next morning|the next day)\b",
    re.IGNORECASE,
)


def plain_weather(story: str) -> str:
    """Let small words stand before the weather, not within it.

    >>> plain_weather("The rain finally stops. It suddenly gets dark.")
    'The rain stops. suddenly it gets dark.'

    Args:
        story: one line.

    Returns:
        The same without "slowly" of what the sun does, and with "suddenly" at the front.
    """
    story = _UNTIL.sub(lambda found: f"{found.group(1)} it is {found.group(2)}", story)
    return _SUDDEN.sub(lambda found: f"{found.group(1)} it ", _WHILE.sub(lambda found: found.group(1), story))


def plain_elapses(story: str) -> tuple[str, list[str]]:
    """Replace long times by "later".

    >>> plain_elapses("Rex runs. Five years later, he sleeps.")[0]
    'Rex runs. later, he sleeps.'

    Args:
        story: one line.

    Returns:
        The story, and a note about each time.
    """
    found = [match.group().rstrip(",. ").removesuffix(" and") for match in _ELAPSES.finditer(story)]
    notes = [f'"{text}": no picture shows such a time, it only says what comes after.' for text in found]
    return _ELAPSES.sub("later", story), list(dict.fromkeys(notes))
