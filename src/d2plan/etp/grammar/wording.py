"""Other wordings for the same: what stands for a plainer phrase is replaced by it before anything is read."""

from collections.abc import Sequence

from d2plan.etp.grammar.chunks import at
from d2plan.etp.grammar.inversions import plain_order
from d2plan.etp.grammar.questions import plain_questions
from d2plan.etp.grammar.words import Item

_GOT = ("got", "gotten")
_DRESSED = ("dressed in", "clad in", "clothed in", "adorned with", "decked out in")
_AHEAD = 6


def plain_wording(items: Sequence[Item]) -> list[Item]:
    """Replace phrases that say the same as a plainer one.

    Args:
        items: of a story.

    Returns:
        The items with "she has got a hat on" as "she has a hat on", and "a girl dressed in a hat" as "a girl wearing
        a hat".
    """
    items = _spread_colours(plain_order(plain_questions(items)))
    plain: list[Item] = []
    moved = -1
    for place, item in enumerate(items):
        low = item.text.lower()
        if low in _GOT and plain and _has(plain) and _is_had(items, place):
            plain[-1] = Item(plain[-1].text, {"have": "have"}, frozenset({"s"}), plain[-1].start)
        elif low in _DRESSED and not at(plain, len(plain) - 1).has("be", "gets", "have", "adverb", "pronoun", "name"):
            plain.append(Item(item.text, {"wears": "wear"}, frozenset({"ing"}), item.start))
        elif low == "of" and (place + 1 == len(items) or items[place + 1].has("stop", "comma", "join")):
            # "She takes it of."
            plain.append(Item("off", {"filler": "", "at": ""}, start=item.start))
        elif low == "but not" and not _is_somebody(items, place + 1):
            plain += [Item("but", {"join": ""}, start=item.start), Item("not", {"not": ""}, start=item.start + 1)]
        elif item.text.isdigit() and at(plain, len(plain) - 2).has("name", "class") and plain[-1].has("comma"):
            # "Rex, 5, a dog"
            plain.pop()
        elif low in ("that", "which") and _moves_it(items, place):
            # "A hat that she takes off" is "a hat, and she takes it off", "which she gives to him" "and she gives it".
            plain.append(Item("and", {"join": ""}, start=item.start))
            moved = place + 2
        elif low == "(" and _tells_of(items, place):
            words = ((",", "comma"), ("who", "relative"), ("is", "be"))
            plain += [
                Item(word, {kind: ""}, frozenset({"s"} if kind == "be" else ()), item.start) for word, kind in words
            ]
        else:
            plain.append(item)
        if place == moved:
            plain.append(Item("it", {"pronoun": "it", "filler": ""}, start=item.start))
    return plain


def _moves_it(items: Sequence[Item], place: int) -> bool:
    verb = at(items, place + 2)
    gear = at(items, place - 1 - at(items, place - 1).has("comma"))
    somebody = gear.has("gear") and at(items, place + 1).has("pronoun", "name")
    return (
        somebody
        and verb.has("shifts", "loses", "takes", "gives")
        and not at(items, place + 3).has("determiner", "gear")
    )


def _tells_of(items: Sequence[Item], place: int) -> bool:
    """Find "Ben (sitting)", which is "Ben, who is sitting,"."""
    does = at(items, place + 1)
    acts = does.has("state") or ("ing" in does.forms and does.has("action"))
    return acts and at(items, place - 1).has("name", "class")


def _is_somebody(items: Sequence[Item], place: int) -> bool:
    """Tell "but not Rex" from "but not happily"."""
    return at(items, place + at(items, place).has("determiner", "possessive")).has(
        "name", "class", "classes", "pronoun"
    )


def _has(before: Sequence[Item]) -> bool:
    """Say whether "has" stands there, which "'s" may stand for."""
    return before[-1].has("have") or before[-1].text == "'s"


def _is_had(items: Sequence[Item], place: int) -> bool:
    """Tell "has got a hat on" from "has got a hat from John", where somebody gets it."""
    gear = False
    for item in items[place + 1 : place + 1 + _AHEAD]:
        gear = gear or item.has("gear") or (item.has("colour") and at(items, place + 3).text.lower() in ("one", "ones"))
        if item.has("stop", "comma") or item.text.lower() == "from":
            return gear and item.text.lower() != "from"
    return gear


def _spread_colours(items: list[Item]) -> list[Item]:
    """Write "a hat and a scarf, both red" as "a red hat and a red scarf", and "a hat that is red" as "a red hat"."""
    plain: list[Item] = []
    place = 0
    while place < len(items):
        worn = _read_worn_by(items, place) if plain and items[place].has("gear") else 0
        if worn and _give_owner(plain, items[place], items[worn - 1 : worn]):
            place = worn + 1
            while at(items, place).has("be", "have", "wears", "not") and not at(items, place - 1).has("wears"):
                place += 1
            continue
        described = _read_whose(items, place)
        if described:
            comma = bool(plain) and plain[-1].has("comma")
            plain = [*(plain[:-1] if comma else plain), *described]
            # The comma behind it closes what the one before it opened.
            place += 4 + (comma and at(items, place + 4).has("comma"))
            continue
        end = _find_colour_behind(items, place) if plain and plain[-1].has("gear", "comma") else 0
        if end:
            several = any(item.has("everyone", "everyone") for item in items[place:end])
            _put_before_gear(plain, items[end], several)
            place = end + 1
            continue
        shared = items[place + 4 + at(items, place + 2).has("name")] if _shares_noun(items, place) else None
        plain += [items[place], shared] if shared else [items[place]]
        place += 1
    return plain


def _shares_noun(items: Sequence[Item], place: int) -> bool:
    """Find "a red and a blue hat" and "Rex a red and Bo a blue hat", which are two."""
    kinds = ("colour", "join", "determiner", "colour", "gear")
    named = at(items, place + 2).has("name")
    return all(at(items, place + step + (named and step > 1)).has(kind) for step, kind in enumerate(kinds))


def _find_colour_behind(items: Sequence[Item], place: int) -> int:
    """Find the colour of "both red", "both of them in red", "that is red"; 0 where none follows."""
    spot = place + at(items, place).has("comma")
    lead = at(items, spot)
    if lead.has("everyone") and lead.text.lower().startswith(("both", "all", "each")):
        spot += 1
        while at(items, spot).text.lower() in ("of", "them", "in", "which", "are", "were", "of them", "being"):
            spot += 1
    elif lead.text.lower() in ("that", "which") and at(items, spot + 1).has("be"):
        spot += 2
    elif lead.has("colour") and spot == place and _stands_behind(items, spot):
        # "He puts on a hat red."
        return spot
    else:
        return 0
    return spot if at(items, spot).has("colour") and not at(items, spot + 1).has("gear") else 0


def _stands_behind(items: Sequence[Item], place: int) -> bool:
    """Tell "he has a hat red" from "he paints his hat red"."""
    start = place
    while start and not items[start - 1].has("stop"):
        start -= 1
    changed = any(item.has("mute", "turns", "be") or item.text.lower().startswith("ma") for item in items[start:place])
    ends = place + 1 == len(items) or items[place + 1].has("stop", "comma", "join", "mark")
    return ends and not changed and at(items, place - 1).has("gear")


def _put_before_gear(plain: list[Item], colour: Item, several: bool) -> None:
    spot = len(plain) - 1
    while spot >= 0 and plain[spot].has("gear", "join", "comma", "determiner", "possessive", "adjective", "colour"):
        if plain[spot].has("gear") and not plain[spot - 1].has("colour"):
            plain.insert(spot, colour)
            if not several:
                return
        spot -= 1


def _read_whose(items: Sequence[Item], place: int) -> list[Item]:
    """Write "whose hat is red" as "with a red hat"; nothing where that does not stand here."""
    gear, colour = at(items, place + 1), at(items, place + 3)
    if items[place].text.lower() != "whose" or not (gear.has("gear") and colour.has("colour")):
        return []
    start = items[place].start
    return [
        Item("with", {"beside": "", "filler": ""}, start=start),
        Item("a", {"determiner": ""}, start=start),
        colour,
        gear,
    ]


def _read_worn_by(items: Sequence[Item], place: int) -> int:
    """Find behind who wears it in "the hat that Mia is wearing"; 0 where nothing like that follows."""
    spot = place + 1 + (at(items, place + 1).text.lower() in ("that", "which"))
    if not at(items, spot).has("pronoun", "name"):
        return 0
    verb = spot + 1
    while at(items, verb).has("be", "have") and not at(items, verb).has("wears"):
        verb += 1
    wears = at(items, verb).has("wears") and at(items, verb).text.lower().startswith(("wear", "wore", "worn"))
    return spot + 1 if wears and not at(items, verb + 1).has("gear", "determiner", "colour") else 0


def _give_owner(plain: list[Item], gear: Item, owner: Sequence[Item]) -> bool:
    """Write "the red hat" as "her red hat", where that is who wears it."""
    spot = len(plain) - 1
    while spot >= 0 and plain[spot].has("colour", "adjective", "other_colour"):
        spot -= 1
    if spot < 0 or plain[spot].text.lower() not in ("the", "that", "this", "those", "these"):
        return False
    who, start = owner[0], plain[spot].start
    if who.has("name"):
        plain[spot : spot + 1] = [who, Item("'s", {"owner": "", "be": ""}, frozenset({"s"}), start)]
    else:
        own = {"he": "his", "she": "her", "it": "its", "they": "their"}[who.value("pronoun")]
        plain[spot] = Item(own, {"possessive": who.value("pronoun")}, start=start)
    plain.append(gear)
    return True
