"""Find groups of verbs: "is not wearing", "starts to run", "wakes up"."""

from collections.abc import Sequence

from d2plan.etp.grammar.chunks import VERBS, Chunk, Reading, Verb, Weather, at, determined, verb_at
from d2plan.etp.grammar.words import Item

# What somebody can do to somebody else, and what a verb ends with that leads to somebody.
_DONE_TO = ("opening", "pouring", "driving", "parked")
_LEADING = tuple(" at, to, over, after, for, past, by, up, out, along, around, about, off".split(","))


def takes_nobody(verb: Verb) -> bool:
    """Say whether nobody can stand behind a verb whom it is done to, as with "waves" and "sits".

    Args:
        verb: as read.

    Returns:
        False where somebody may, and for verbs that are no actions.
    """
    plain = not verb.passive and set(verb.item.senses) & {"about", *VERBS} == {"action"}
    return plain and verb.item.value("action") not in _DONE_TO and not verb.text.lower().endswith(_LEADING)


def read_verb(items: Sequence[Item], place: int, before: list[Chunk]) -> Reading | None:
    """Read a group of verbs.

    Args:
        items: of the story.
        place: where to begin.
        before: the chunks so far.

    Returns:
        The chunk and the place behind it; None where no verb stands.
    """
    verb = Verb("verb", "")
    spot = place
    if at(items, place).text.lower() == "to" and "base" in at(items, place + 1).forms:
        verb.infinitive, spot = True, place + 1
    # "Her" in "everyone but her wakes up" owns nothing.
    owned = determined(items, place) and not (before and before[-1].kind in ("who", "gear"))
    if at(items, place).has("body") and before and before[-1].kind in ("prep", "particle"):
        # "With a hat on head" is no heading anywhere.
        return None
    if len(before) > 1 and before[-1].value == "adjective" and before[-2].text.lower() in ("with", "of", "for"):
        # "A girl with big dreams"
        return None
    being = before[-1] if before and isinstance(before[-1], Verb) else None
    if (
        being is not None
        and being.item.has("be", "stays")
        and at(items, place).has("state")
        and not verb_at(items, place + 1)
    ):
        # "Is awake" is no waking.
        return None
    if owned or (before and before[-1].text.lower() in ("a", "an", "the")):
        return None
    if spot == place and at(items, place).has("state") and at(items, place).has("waking") and before:
        # "Rex, already awake, runs."
        return None
    main, after_be = _find_main(
        items,
        spot,
        verb,
        spot == place and bool(before) and (before[-1].kind == "who" or isinstance(before[-1], Weather)),
    )
    if main is None:
        return None
    item = items[main]
    form = "ing" if item.text.endswith("ing") else "s"
    verb.progressive = after_be and ("ing" in item.forms or not item.senses)
    verb.item = item if item.senses else Item(item.text, {"mute": item.text}, frozenset({form}), item.start)
    verb.passive = after_be and not verb.progressive and "part" in item.forms and not _is_has(items, place, main)
    verb.ing = "ing" in verb.item.forms and main == place
    if main == place and _is_done_to(items, main, before):
        # "Woken by the cat, Emma sits up."
        verb.passive = verb.ing = True
    verb.finite = not verb.ing and not verb.infinitive
    # "She almost falls asleep."
    verb.unreal = verb.unreal or (bool(before) and before[-1].text.lower() in ("almost", "nearly"))
    if verb.negated and verb.aspect == "stop":
        # "Does not stop running" goes on.
        verb.negated, verb.aspect, verb.progressive = False, "", True
    verb.text = " ".join(part.text for part in items[place : main + 1])
    return verb, main + 1


def _is_has(items: Sequence[Item], place: int, main: int) -> bool:
    """Tell "she's put on a hat", which is "has", from "she's given a hat"."""
    word = items[main]
    return items[place].text == "'s" and word.has("shifts", "loses") and not word.has("gives")


def _is_done_to(items: Sequence[Item], main: int, before: list[Chunk]) -> bool:
    """Say whether a participle stands alone: "woken by", "given a hat by"."""
    forms = items[main].forms
    if "part" not in forms or "ing" in forms:
        return False
    if before and before[-1].kind not in ("stop", "comma", "join", "who", "relative", "mark"):
        return False
    by = at(items, main + 1).text.lower() == "by" and not at(items, main + 2).has("place")
    if by and not at(items, main).has("action"):
        return True
    return not forms & {"base", "past"} and at(items, main).has("waking", "gives", "wears")


def _find_main(items: Sequence[Item], start: int, verb: Verb, after_somebody: bool) -> tuple[int | None, bool]:
    """Find the verb that counts, and say whether a form of "be" belongs to it."""
    spot, after_be = start, False
    while spot < len(items):
        item = items[spot]
        if item.has(*VERBS) and not _is_auxiliary(items, spot) and _is_verb(items, spot, spot == start):
            following = _chain(items, spot, verb)
            if following is None:
                return spot, after_be
            spot, after_be = following, False
            continue
        if _is_strange_verb(items, spot, after_be) or (spot == start and after_somebody and _looks_like_verb(item)):
            return spot, after_be
        if not _take_small_word(items, spot, start, verb):
            return None, False
        after_be = after_be or item.has("be")
        spot += 1
    return None, False


def _take_small_word(items: Sequence[Item], spot: int, start: int, verb: Verb) -> bool:
    """Take note of "not", "may", "has"; False where the word belongs to no group of verbs."""
    item = items[spot]
    if item.has("not") and item.text.lower() not in ("without", "instead of", "rather than"):
        verb.negated = True
    elif item.has("modal", "unreal"):
        verb.unreal = verb.unreal or item.has("unreal")
    elif item.text.lower() == "had" and _is_auxiliary(items, spot):
        verb.perfect = True
    elif not (item.has("be", "have", "do") and _is_auxiliary(items, spot)):
        return item.has("adverb", "filler") and not item.has(*VERBS) and spot > start and verb_at(items, spot)
    return True


def _is_auxiliary(items: Sequence[Item], spot: int) -> bool:
    item = items[spot]
    if not item.has("be", "have", "do"):
        return False
    following = spot + 1
    while at(items, following).has("adverb", "filler", "not") and not at(items, following).has(*VERBS):
        following += 1
    word = at(items, following)
    if item.has("do"):
        return "base" in word.forms and word.has(*VERBS)
    if item.has("have"):
        return "part" in word.forms and word.has(*VERBS) and not word.has("gear")
    if word.has("gear", "place") and not word.has("action"):
        return False
    return word.has(*VERBS) and bool(word.forms & {"ing", "part"}) or _is_strange_verb(items, following, True)


def _is_strange_verb(items: Sequence[Item], spot: int, after_be: bool) -> bool:
    item = at(items, spot)
    return after_be and not item.senses and item.text.lower().endswith("ing") and len(item.text) > 5


def _looks_like_verb(item: Item) -> bool:
    """Take an unknown word after somebody for a verb: "John calls"."""
    return not item.senses and item.text.islower() and item.text.endswith(("s", "ed")) and len(item.text) > 3


def _is_verb(items: Sequence[Item], spot: int, first: bool) -> bool:
    item = items[spot]
    if item.text == "'s":
        following = at(items, spot + 1)
        # "He's back" owns nothing.
        return (
            (at(items, spot - 1).has("pronoun") and not following.has("gear"))
            or following.has(
                "state", "not", "at", "position", "relation", "determiner", "adverb", "adjective", "beside"
            )
            or bool(following.forms)
        )
    return not (first and item.has("gear", "place", "scenery") and determined(items, spot))


def _chain(items: Sequence[Item], spot: int, verb: Verb) -> int | None:
    """Follow "starts to" or "stops" to the verb that it is about; None where there is none."""
    item, following = items[spot], spot + 1
    while at(items, following).has("adverb") and not at(items, following).has(*VERBS):
        following += 1
    word = at(items, following)
    starts = item.has("starts", "wishes", "stops") or item.has("moves", "have")
    if not starts or (item.has("action") and not item.has("starts")):
        return None
    if word.text.lower() in ("to", "on") and at(items, following + 1).has(*VERBS):
        target = at(items, following + 1)
        wanted = "base" if word.text.lower() == "to" else "ing"
        # "Stops to wave" is waving, not its end.
        if wanted in target.forms and not (wanted == "base" and item.has("stops")):
            return _note_chain(item, verb, following + 1, at(items, spot - 1).text.lower() in ("was", "were"))
        return None
    if (
        "ing" in word.forms
        and word.has(*VERBS)
        and item.has("starts", "wishes", "stops", "moves")
        and not item.has("have")
    ):
        return _note_chain(item, verb, following)
    return None


def _note_chain(item: Item, verb: Verb, spot: int, past: bool = False) -> int:
    if item.has("stops"):
        verb.aspect = "stop"
    elif item.text.lower() == "going" and past:
        # "Was going to sleep, but": it did not.
        verb.unreal = True
    elif item.has("wishes") and not item.has("starts"):
        verb.unreal = True
    elif item.has("starts"):
        verb.aspect = verb.aspect or "start"
    return spot
