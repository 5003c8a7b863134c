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
        if not _is_spare_do(items, place):
            plain.append(items[place])
        place += 1
    return plain


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
