"""Words that stand the other way round: "off he goes", "only then does the dog sit down"."""

from collections.abc import Sequence

from d2plan.etp.grammar.chunks import VERBS, at
from d2plan.etp.grammar.words import Item

_AWAY = ("off", "away", "up", "down", "out")
_PARTICLES = (*_AWAY, "in", "on", "over", "back", "round", "around")
_LIKE = ("so", "as", "than", "neither", "nor", "and so", "like")
_FORMS = {"s", "past"}
_WHO = ("name", "pronoun", "everyone")
_NOUNS = ("class", "classes", "singles", "groups", "name", "pronoun", "everyone")


def plain_order(items: Sequence[Item]) -> list[Item]:
    """Put verbs behind who does what they say.

    Args:
        items: of a story.

    Returns:
        The items with "he goes off" for "off he goes" and "only then the dog sit down" for "only then does the dog
        sit down".
    """
    plain: list[Item] = []
    place = 0
    while place < len(items):
        if _leads(items, place):
            particle, who, verb = items[place : place + 3]
            plain += [who, verb, particle]
            place += 3
            continue
        if _is_not_only(items, place):
            # "Not only Mia but also Max", "not only does she smile": both are so.
            place += 2 + at(items, place + 2).has("do")
            continue
        turned, end = _turn_not_but(items, place)
        if turned:
            plain += turned
            place = end
            continue
        if not _is_spare_do(items, place):
            plain.append(items[place])
        place += 1
    return plain


def _is_not_only(items: Sequence[Item], place: int) -> bool:
    low, behind = items[place].text.lower(), items[place + 1 :]
    end = next((spot for spot, item in enumerate(behind) if item.has("stop")), len(behind))
    also = any(item.text.lower() in ("but", "but also", "also", "too", "as well") for item in behind[:end])
    return low == "not" and at(items, place + 1).text.lower() in ("only", "just") and also


def _turn_not_but(items: Sequence[Item], place: int) -> tuple[list[Item], int]:
    """Write "not Mia but Max" as "Max, not Mia,", and give the place behind it; nothing where that does not stand here."""
    if items[place].text.lower() != "not":
        return [], place
    first = _read_noun(items, place + 1)
    but = first + at(items, first).has("comma")
    second = _read_noun(items, but + 1)
    if first == place + 1 or second == but + 1 or at(items, but).text.lower() not in ("but", "but rather"):
        return [], place
    comma = Item(",", {"comma": ""}, start=items[place].start)
    return [*items[but + 1 : second], comma, *items[place:first], comma], second


def _read_noun(items: Sequence[Item], place: int) -> int:
    """Find behind "Mia" and "the little dog"; the place itself where nobody is named."""
    spot = place
    while at(items, spot).has("determiner", "possessive", "adjective"):
        spot += 1
    return spot + 1 if at(items, spot).has("name", "class", "classes") else place


def _leads(items: Sequence[Item], place: int) -> bool:
    """Find "off he goes" and "up Mia jumps", but not "in Paris Max runs"."""
    low, who, verb = items[place].text.lower(), at(items, place + 1), at(items, place + 2)
    before = at(items, place - 1)
    begins = not before.text or before.has("stop", "comma", "join", "mark", "filler")
    named = who.has("name") and low in _AWAY
    acts = verb.has(*VERBS) and bool(_FORMS & verb.forms) and not verb.has("be", "have", "do")
    return low in _PARTICLES and begins and (named or who.has("pronoun", "everyone")) and acts


def _is_spare_do(items: Sequence[Item], place: int) -> bool:
    """Find the "does" of "only then does the dog sit down", but not of "so does the dog" and of a question."""
    before, after = at(items, place - 1), at(items, place + 1)
    if not (items[place].has("do") and before.has("mark", "adverb", "not", "filler")) or before.text.lower() in _LIKE:
        return False
    if not after.has(*_WHO, "determiner", "possessive", "class"):
        return False
    spot = place + 1
    while at(items, spot).has(*_NOUNS, "determiner", "possessive", "adjective", "join", "adverb", "colour"):
        if at(items, spot).has("comma"):
            return False
        spot += 1
    rest = items[spot:]
    end = next((item.text for item in rest if item.has("stop")), "")
    return end != "?" and "base" in at(items, spot).forms and at(items, spot).has(*VERBS)
