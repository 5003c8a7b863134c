"""The net below all rules: what a story names and no moment shows, and moments that it hardly asks for."""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

from d2plan.etp.grammar.chunks import Chunk, Gear, Place, Verb, Weather, Who
from d2plan.etp.grammar.stage import Moment

_RESTING = ("standing", "parked")
_WHEN = ("before", "after", "until", "till", "when", "while")
# These notes say when something is shown, and so nothing of what is not.
_LOSING_NOTHING = (
    "is taken to mean",
    "is taken to happen",
    "is taken to be so",
    "is a moment of its own",
    "begins there",
    "is shown before",
    "is shown after",
    "is shown at the",
    "told in the",
)
_STOPS = re.compile(
    r"\b(?:stop\w*|stand\w*|stood|halt\w*|pause\w*|rest\w*|still|wak\w+|woke|rises?|rose|ge?ot? up|gets up|getting up|"
    r"land\w*|no longer|no more|not|\w+n't|awake|park\w*|fr[eo]ez\w*|froze|done|quits?|finish\w*)\b",
    re.IGNORECASE,
)
_SEEN_OTHERWISE = ("without", "instead of", "rather than")


def find_idle(story: str, moments: Sequence[Moment], cast: Sequence[int]) -> list[int]:
    """List moments in which somebody only stops what it did, where no word of the story speaks of stopping.

    Args:
        story: what was told.
        moments: of the plan.
        cast: who takes part.

    Returns:
        Their places, the first moment is 0.
    """
    if _STOPS.search(story):
        return []
    return [
        place
        for place, (before, after) in enumerate(pairwise(moments), start=1)
        if (before.place, before.light) == (after.place, after.light)
        and all(before.figures[who].gear == after.figures[who].gear for who in cast)
        and all(
            after.figures[who].action in ("", *_RESTING)
            for who in cast
            if before.figures[who].action != after.figures[who].action
        )
    ]


def find_missed(
    chunks: Sequence[Chunk], moments: Sequence[Moment], cast: Sequence[int], told: Iterable[str]
) -> list[str]:
    """List the words of a story that are in no moment and in no note.

    Args:
        chunks: of the whole story.
        moments: of the plan.
        cast: who takes part.
        told: notes so far.

    Returns:
        The words, each once.
    """
    said = " ".join(note for note in told if not any(words in note for words in _LOSING_NOTHING)).lower()
    missed = [
        chunk.text
        for place, chunk in enumerate(chunks)
        if not _is_shown(chunk, moments, cast) and not _is_denied(chunks, place) and chunk.text.lower() not in said
    ]
    # "After" that no rule took for a point in time still says when something happens.
    missed += [chunk.text for chunk in chunks if chunk.kind == "filler" and chunk.text.lower() in _WHEN]
    return list(dict.fromkeys(missed))


def _is_denied(chunks: Sequence[Chunk], place: int) -> bool:
    """Say whether it is said not to be so."""
    chunk = chunks[place]
    if isinstance(chunk, Verb):
        return chunk.negated or chunk.unreal
    if isinstance(chunk, Gear) and (chunk.absent or chunk.prep in _SEEN_OTHERWISE):
        return True
    while place and chunks[place].kind not in ("stop", "verb", "negation"):
        place -= 1
    before = chunks[place]
    return before.kind == "negation" or (isinstance(before, Verb) and before.negated)


def _is_shown(chunk: Chunk, moments: Sequence[Moment], cast: Sequence[int]) -> bool:
    """Say whether a moment shows what a chunk names; words that name nothing to be seen count as shown."""
    worn = {entry for moment in moments for figure in moment.figures.values() for entry in figure.gear.items()}
    if isinstance(chunk, Gear):
        if chunk.owner is not None and chunk.owner.head == "name" and int(chunk.owner.value) not in cast:
            return False
        return not chunk.value or any(chunk.value == name and chunk.colour in ("", colour) for name, colour in worn)
    if chunk.kind == "colour":
        return any(chunk.value == colour for _, colour in worn)
    if isinstance(chunk, Place):
        return not chunk.value or any(chunk.value == moment.place for moment in moments)
    if isinstance(chunk, Weather) or chunk.kind in ("light", "light_change"):
        light = chunk.light if isinstance(chunk, Weather) else chunk.value.partition(":")[0]
        lights = {moment.light for moment in moments}
        # A day that nothing says is a day; after a night it must be seen.
        return light in lights or (light == "day" and not lights - {""})
    if isinstance(chunk, Who):
        return chunk.head != "name" or int(chunk.value) in cast
    if chunk.kind == "mark" and "day" in chunk.text.lower().split():
        # "The next day" after a night is by day.
        told = [moment.light for moment in moments]
        return "day" in told or "night" not in told[:-1]
    return _is_done(chunk, moments) if isinstance(chunk, Verb) else chunk.kind != "unknown"


def _is_done(verb: Verb, moments: Sequence[Moment]) -> bool:
    action = verb.item.senses.get("action", "")
    done = {figure.action for moment in moments for figure in moment.figures.values()}
    if action:
        # "Takes off", "goes to bed" may be read as something else.
        done |= {"running"} if "driving" in done else set()
        return action in done or action in _RESTING or len(verb.item.senses) > 1 + verb.item.has("about")
    return not verb.item.has("mute") or len(verb.item.senses) > 1
