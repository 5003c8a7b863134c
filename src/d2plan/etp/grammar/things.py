"""Find what is worn, and where somebody is: accessories and places with all that stands before them."""

from collections.abc import Sequence

from d2plan.etp.grammar.chunks import VERBS, Chunk, Gear, Place, Reading, Verb, Who, at
from d2plan.etp.grammar.nouns import find_head, skip_before_noun
from d2plan.etp.grammar.words import Item

# "Comes out in a red hat"
_OUT_IN = ("out in", "back in", "over in", "up in", "down in")
_SOURCES = ("from", "out of", "off", "away from", "outside", "outside of")


def read_gear(items: Sequence[Item], place: int, before: list[Chunk]) -> Reading | None:
    """Read an accessory: "a red hat", "his sunglasses", "a blue one".

    Args:
        items: of the story.
        place: where to begin.
        before: the chunks so far.

    Returns:
        The chunk and the place behind it; None where no accessory is named.
    """
    gear = Gear("gear", "")
    if short := _read_short(items, place, before, gear):
        return gear, short
    spot = _find_gear(items, place, before, gear)
    if spot is None or (spot == place and _is_done_to_somebody(items, spot, before)):
        return None
    gear.text = " ".join(part.text for part in items[place : spot + 1])
    if (
        before
        and before[-1].kind in ("prep", "negation")
        or (before and before[-1].text.lower() in ("in", "with", "on", *_OUT_IN))
    ):
        gear.prep = before[-1].text.lower()
        gear.prep = "in" if gear.prep in _OUT_IN else gear.prep
    return gear, spot + 1


def _is_done_to_somebody(items: Sequence[Item], spot: int, before: list[Chunk]) -> bool:
    """Tell "John crowns Anna", which is a verb that no picture shows, from "John: crown"."""
    return (
        bool(before) and before[-1].kind == "who" and at(items, spot + 1).has("name", "class", "determiner", "pronoun")
    )


def _read_short(items: Sequence[Item], place: int, before: list[Chunk], gear: Gear) -> int:
    """Read "hers", "Mia's", "one"; give the place behind it, or 0."""
    item, after = items[place], at(items, place + 1)
    if _is_own(items, place):
        gear.owner = Who("who", item.text, item.value("possessive"), head="pronoun")
        gear.text = item.text
        return place + 1
    if item.has("name") and after.text == "'s" and at(items, place + 2).has("be", "stop", "comma"):
        # "Mia's is red" speaks of her hat.
        gear.owner = Who("who", item.text, item.value("name"))
        gear.text = f"{item.text}'s"
        return place + 2
    if before and before[-1].text.lower() == "without" and item.text.lower() in ("it", "them"):
        gear.text, gear.prep, gear.definite = item.text, "without", True
        return place + 1
    if _is_lone_one(items, place, before):
        gear.text, gear.prep = item.text, before[-1].text.lower()
        return place + 1
    return 0


def _find_gear(items: Sequence[Item], place: int, before: list[Chunk], gear: Gear) -> int | None:
    """Read all up to the accessory itself; None where something else follows."""
    spot, opened = _read_gear_owner(items, place, before, gear)
    while spot < len(items):
        item = items[spot]
        led = spot == place and bool(before) and before[-1].text.lower() in ("with", "without")
        if item.has("gear") and (opened or gear.colour or led or not item.has(*VERBS)):
            gear.value, gear.about = item.value("gear"), item.has("about")
            return spot
        if item.text.lower() in ("one", "ones") and (gear.colour or "another" in items[place].text.lower()):
            return spot
        if item.has("determiner") and at(items, spot - 1).has("ordinal", "number") and spot > place:
            # "The other a hat" are two.
            return None
        if not item.has("colour") and item.has("determiner", "number"):
            opened = True
        elif not _is_before_gear(items, spot, gear, opened and spot - place < 6):
            return None
        _note_before_gear(item, gear)
        spot += 1
    return None


def _is_before_gear(items: Sequence[Item], spot: int, gear: Gear, opened: bool) -> bool:
    item = items[spot]
    joined = bool(gear.colour) and item.has("join") and at(items, spot + 1).has("colour")
    known = item.has("colour", "other_colour", "adjective") or joined
    lost = opened and "part" in item.forms and at(items, spot + 1).has("gear", "colour") and not item.has("be", "have")
    return known or lost or (opened and (not item.senses or item.has("ordinal", "adverb")))


def _note_before_gear(item: Item, gear: Gear) -> None:
    """Keep what a word before an accessory says of it."""
    if item.has("colour"):
        gear.extras += [item.text] if gear.colour else []
        gear.colour = gear.colour or item.value("colour")
    elif item.has("determiner", "number"):
        gear.absent = gear.absent or item.text.lower() == "no"
        gear.definite = gear.definite or item.text.lower() in ("the", "this", "that", "these", "those")
    elif item.has("other_colour", "adjective") or not item.senses or "part" in item.forms:
        gear.extras.append(item.text)


def _is_own(items: Sequence[Item], place: int) -> bool:
    """Read "his" in "his is black", which is the hat that was named last."""
    low, after = items[place].text.lower(), at(items, place + 1)
    moved = after.text.lower() in ("on", "off", "away", "back", "down", "aside", "to") or after.has(
        "stop", "join", "comma"
    )
    if not after.has("be"):
        return low in ("hers", "theirs", "mine") or (low == "his" and moved)
    own = items[place].has("possessive") and after.has("be")
    return own and at(items, place + 2).has("colour") and not at(items, place + 3).has("gear")


def _is_lone_one(items: Sequence[Item], place: int, before: list[Chunk]) -> bool:
    """Read "he without one", "Ben puts one on", where "one" is of the kind that was named last."""
    if items[place].text.lower() != "one" or not before or at(items, place + 1).text.lower() == "of":
        return False
    verb = before[-1]
    wears = isinstance(verb, Verb) and verb.item.has("wears", "shifts", "gets", "have") and not verb.item.has("action")
    return verb.text.lower() in ("with", "without", "on") or wears


def _read_gear_owner(items: Sequence[Item], place: int, before: list[Chunk], gear: Gear) -> tuple[int, bool]:
    item = items[place]
    if item.has("possessive") and not at(items, place + 1).has("determiner"):
        gear.owner = Who("who", item.text, item.value("possessive"), head="pronoun")
        return place + 1, True
    if item.has("name", "class", "determiner"):
        who = Who("who", "")
        spot, opened = skip_before_noun(items, place, who)
        head = find_head(items, spot, who, opened)
        if head in ("name", "class") and at(items, spot + 1).has("owner"):
            who.head, who.value, who.text = head, items[spot].value(head), items[spot].text
            gear.owner = who
            return spot + 2, True
    return place, False


def read_place(items: Sequence[Item], place: int, before: list[Chunk]) -> Reading | None:
    """Read a place: "on the beach", "to the old castle".

    Args:
        items: of the story.
        place: where to begin.
        before: the chunks so far.

    Returns:
        The chunk and the place behind it; None where no place is named.
    """
    spot, mode = place, "bare"
    first = items[place]
    if first.has("at", "way"):
        mode = "at" if first.has("at") else "to"
        away = bool(before) and first.text.lower() == "of" and before[-1].text.lower().endswith((" out", " off"))
        mode = "from" if away or first.text.lower() in _SOURCES else mode
        spot += 1
        if (
            mode == "at"
            and at(items, spot).has("at", "way")
            and first.text.lower() in ("down", "up", "over", "out", "back", "along")
        ):
            mode = "to" if at(items, spot).has("way") and not at(items, spot).has("at") else mode
            spot += 1
    extras: list[str] = []
    determined = False
    while at(items, spot).has("determiner", "possessive", "adjective", "owner", "colour", "other_colour") or (
        determined and spot < len(items) and not at(items, spot).senses
    ):
        determined = determined or items[spot].has("determiner", "possessive")
        if not items[spot].has("determiner", "possessive"):
            extras.append(items[spot].text)
        spot += 1
    item = at(items, spot)
    if not item.has("place") or (mode == "bare" and not determined and item.has(*VERBS)):
        return None
    text = " ".join(part.text for part in items[place : spot + 1])
    return Place("place", text, item.value("place"), mode, item.has("about"), extras), spot + 1
