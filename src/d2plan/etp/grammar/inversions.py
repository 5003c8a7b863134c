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
    items = _deny_both(items)
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
        if items[place].text.lower() == "not" and at(items, place + 1).text.lower() in ("until", "till"):
            # "Not until it stopped did she smile."
            plain.append(Item("as soon as", {"mark": "once"}, start=items[place].start))
            place += 2
            continue
        turned, end = _turn_not_but(items, place)
        if turned:
            plain += turned
            place = end
            continue
        if _is_aside(items, place):
            # "Tom, startled, jumps."
            plain.append(Item(items[place + 1].text, {"adverb": ""}, start=items[place].start))
            place += 3
            continue
        if not _is_spare_do(items, place):
            plain.append(items[place])
        place += 1
    return plain


def _deny_both(items: Sequence[Item]) -> list[Item]:
    """Write "neither a hat nor a scarf" as "no hat and no scarf"."""
    plain: list[Item] = []
    place, denied = 0, False
    while place < len(items):
        item, low = items[place], items[place].text.lower()
        noun = place + 1
        while at(items, noun).has("determiner", "colour", "adjective"):
            noun += 1
        denies = low == "neither" or (low in ("nor", "or") and denied)
        if denies and at(items, noun).has("gear"):
            plain += [Item("and", {"join": ""}, start=item.start)] if low != "neither" else []
            plain.append(Item("no", {"determiner": ""}, start=item.start))
            place += 1 + at(items, place + 1).has("determiner")
            denied = True
            continue
        denied = denied and not item.has("stop")
        plain.append(item)
        place += 1
    return plain


def _is_not_only(items: Sequence[Item], place: int) -> bool:
    low, behind = items[place].text.lower(), items[place + 1 :]
    end = next((spot for spot, item in enumerate(behind) if item.has("stop")), len(behind))
    also = any(item.text.lower() in ("but", "but also", "also", "too", "as well") for item in behind[:end])
    return low == "not" and at(items, place + 1).text.lower() in ("only", "just") and also


def _is_aside(items: Sequence[Item], place: int) -> bool:
    """Find ", startled," between somebody and their verb."""
    comma, word, closing, verb = (at(items, place + step) for step in range(4))
    if not (comma.has("comma") and closing.has("comma") and verb.has(*VERBS)):
        return False
    felt = word.has("adjective") or (word.text.islower() and word.text.endswith("ed"))
    shown = word.has("action", "state", "gear", "colour", "waking", "size", "wears", "adverb")
    return at(items, place - 1).has("name", "class", "classes", "pronoun") and felt and not shown


def _turn_not_but(items: Sequence[Item], place: int) -> tuple[list[Item], int]:
    """Write "not Mia but Max" as "Max, not Mia,", and give the place behind it; nothing where none is."""
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
    begun = max((spot + 1 for spot in range(place) if items[spot].has("stop")), default=0)
    # "Only when Mia jumps does he wake up."
    only = (
        " ".join(item.text for item in items[begun : begun + 2])
        .lower()
        .startswith(("only", "as soon as", "not until", "never", "rarely", "seldom"))
    )
    led = only or before.has("mark", "adverb", "not", "filler")
    if not (items[place].has("do") and led and place > begun) or before.text.lower() in _LIKE:
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
