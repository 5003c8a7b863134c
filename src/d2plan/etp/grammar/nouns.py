"""Find who is meant: nouns with all that stands before and behind them."""

from collections.abc import Sequence

from d2plan.etp.grammar.apposition import describes, read_apposition
from d2plan.etp.grammar.chunks import VERBS, Chunk, Reading, Who, at
from d2plan.etp.grammar.words import Item

_COUNTS = {"two": 2, "three": 3, "four": 4, "five": 5}


def read_who(items: Sequence[Item], place: int, before: list[Chunk]) -> Reading | None:
    """Read somebody: a name, "the little dog", "he", "both".

    Args:
        items: of the story.
        place: where to begin.
        before: the chunks so far.

    Returns:
        The chunk and the place behind it; None where nobody is named.
    """
    who = Who("who", "")
    spot, opened = skip_before_noun(items, place, who)
    item = at(items, spot)
    head = find_head(items, spot, who, opened)
    if not head:
        return None
    if spot == place and item.forms and head in ("classes", "groups") and before and before[-1].kind == "who":
        # "She pets him."
        return None
    # "The two run", "the other sleeps": the noun is left out, and what stands there is the verb.
    gap = head.endswith("-gap")
    who.head, who.value = head.removesuffix("-gap"), item.senses.get(head, "")
    if head == "everyone" and at(items, place - 1).has("possessive"):
        # "Her friends" are not herself.
        who.head, who.value = "rest", items[place - 1].value("possessive")
    if head == "class" and items[place].text.lower() in ("each", "every"):
        who.head = "classes"
    spot = spot if gap else read_apposition(items, spot + 1, who)
    body = spot + 1 + at(items, spot + 1).has("adjective")
    if (
        at(items, spot).has("owner")
        and at(items, body).has("body")
        and before
        and before[-1].kind in ("prep", "particle")
    ):
        # "On Ben's head" is on Ben.
        spot = body + 1
    elif at(items, spot).has("owner"):
        owned = _read_owned(items, spot, before)
        if owned is not None and isinstance(owned[0], Who):
            owned[0].owner = who
            return owned
    who.text = " ".join(part.text for part in items[place:spot]).replace(" ,", ",").replace(" '", "'").rstrip(",")
    if at(items, spot).has("position"):
        who.side = at(items, spot).value("position")
    return who, spot


def skip_before_noun(items: Sequence[Item], place: int, who: Who) -> tuple[int, bool]:
    """Read what stands before a noun: articles, numbers, adjectives.

    Args:
        items: of the story.
        place: where to begin.
        who: what is found out; changed.

    Returns:
        The place of the noun, and whether an article or a number stands before it.
    """
    spot, opened = place, False
    while spot < len(items):
        item = items[spot]
        low = item.text.lower()
        if opened and who.ordinal >= 0 and item.has("determiner"):
            break
        counts = item.has("number") and low != "both" and not (low == "one" and who.ordinal >= 0)
        if (counts or (low == "both" and at(items, spot + 1).has("classes", "groups"))) and not _is_told_apart(
            items, spot
        ):
            who.number, opened = int(item.value("number")), True
        elif spot == place and item.has("everyone") and _several_follow(items, spot + 1):
            # "All three dogs" and "all of the boys" are not everybody.
            counted = [word for word in low.split() if word in ("two", "three", "four", "five")]
            who.number, opened = _COUNTS[counted[0]] if counted else 0, True
        elif item.has("determiner") or (item.has("possessive") and _owns(items, spot)):
            who.fresh = who.fresh or low in ("a", "an", "another")
            opened = True
        elif item.has("ordinal") and opened:
            who.ordinal = int(item.value("ordinal"))
        elif low == "of" and spot > place:
            opened = True
        elif not _is_modifier(items, spot, who, opened):
            break
        spot += 1
    return spot, opened


def _several_follow(items: Sequence[Item], spot: int) -> bool:
    """Find "dogs" of "all of the little dogs"."""
    while at(items, spot).text.lower() == "of" or at(items, spot).has(
        "determiner", "possessive", "adjective", "number"
    ):
        spot += 1
    return at(items, spot).has("classes", "groups") or (
        at(items, spot - 1).text.lower() == "each" and at(items, spot).has("class")
    )


def _is_modifier(items: Sequence[Item], spot: int, who: Who, opened: bool) -> bool:
    item = items[spot]
    if item.has("class", "classes", "name", "companion", "groups", "singles", "gear"):
        return False
    if (
        "ing" in item.forms
        and item.has("action")
        and at(items, spot + 1).has("class", "classes", "name")
        and (opened or at(items, spot + 1).has("class", "name"))
    ):
        who.doing = item.value("action")
        return True
    if not opened and not (item.has("adjective") and at(items, spot + 1).has("class", "classes", "name")):
        return False
    if item.text.lower() in ("left", "right") and _noun_follows(items, spot + 1):
        who.side = item.text.lower()
        return True
    if item.has("size") and (_noun_follows(items, spot + 1) or at(items, spot + 1).text.lower() in ("one", "ones")):
        who.size = item.value("size")
        return True
    plain = item.has("size", "adjective", "colour", "other_colour", "adverb") or not item.senses
    if plain and _noun_follows(items, spot + 1):
        who.extras.append(item.text)
        return True
    return False


def _owns(items: Sequence[Item], spot: int) -> bool:
    """Tell "her dog" from "her" in "behind her Max runs"."""
    alone = items[spot].has("pronoun") and at(items, spot + 1).has("name")
    return _noun_follows(items, spot + 1) and not alone


def _noun_follows(items: Sequence[Item], spot: int) -> bool:
    for item in items[spot : spot + 4]:
        if item.has("class", "classes", "name", "companion", "groups", "singles"):
            return True
        if not (
            item.has("adjective", "colour", "other_colour", "adverb", "ordinal", "number", "size") or not item.senses
        ):
            return False
    return False


def find_head(items: Sequence[Item], spot: int, who: Who, opened: bool) -> str:
    """Say what kind of somebody stands at a place.

    Args:
        items: of the story.
        spot: the place.
        who: what stands before it.
        opened: whether an article or a number stands before it.

    Returns:
        The head of a Who, with "-gap" behind it where the noun is left out; empty where nobody is meant.
    """
    item = at(items, spot)
    for head in ("name", "class", "classes", "groups", "singles", "rest"):
        if item.has(head):
            return head
    if item.has("companion") and opened:
        return "companion"
    if item.text.lower() in ("one", "ones") and (who.ordinal >= 0 or who.size or _is_told_apart(items, spot)):
        return "one"
    if opened and (gap := _find_gap(items, spot, who)) is not None:
        return gap
    if spot and opened and not (at(items, spot - 1).has("number", "determiner") or at(items, spot - 1).text == "of"):
        return ""
    for head in ("everyone", "nobody", "pronoun"):
        paired = head == "nobody" and at(items, spot + 1).has("name", "class", "determiner")
        if item.has(head) and not paired and (head != "pronoun" or not _possesses(items, spot)):
            return head
    return ""


def _is_told_apart(items: Sequence[Item], spot: int) -> bool:
    """Read "the one in the hat", "the one who waves", but not "puts the one with stars on"."""
    the = at(items, spot - 1).text.lower() in ("the", "that")
    told = describes(items, spot + 1) or at(items, spot + 1).has("position")
    return the and at(items, spot).text.lower() == "one" and told


def _find_gap(items: Sequence[Item], spot: int, who: Who) -> str | None:
    """Read "the other sleeps", "one wakes up", "the two run", where the noun is left out."""
    item, before = items[spot] if spot < len(items) else Item(""), at(items, spot - 1)
    if who.ordinal >= 0 and before.has("ordinal"):
        return "one-gap" if not item.has("gear", "colour", "place") and item.senses else ""
    if who.number == 1 and before.has("number") and item.has(*VERBS):
        return "one-gap"
    if who.number > 1 and before.has("number") and item.has(*VERBS, "stop", "mark", "adverb"):
        return "everyone-gap"
    return None


def _possesses(items: Sequence[Item], spot: int) -> bool:
    """Tell "her" in "her hat" from "her" in "sees her"."""
    if not items[spot].has("possessive") or at(items, spot + 1).has("name"):
        return False
    thing = at(items, spot + 1)
    if thing.has("prop", "scenery", "place") or (not thing.senses and thing.text.islower()):
        return not thing.has(*VERBS) or at(items, spot - 1).has("at", "way")
    for item in items[spot + 1 : spot + 5]:
        if item.text.lower() == "friends" or item.has(
            "gear", "class", "companion", "garment", "body", "other_colour", "colour"
        ):
            return True
        if not (item.has("adjective", "colour", "adverb") or not item.senses):
            return False
    return False


def _read_owned(items: Sequence[Item], spot: int, before: list[Chunk]) -> Reading | None:
    """Read "John's dog"; None where the 's means "is"."""
    following = at(items, spot + 1)
    if following.has("not", "determiner", "at", "state", "position", "relation", "beside") or "ing" in following.forms:
        return None
    # "Mia's friend Ben"
    called = following.has("companion") and at(items, spot + 2).has("name")
    found = read_who(items, spot + 1 + called, before)
    if found is not None and isinstance(found[0], Who) and found[0].head in ("class", "name", "companion"):
        return found
    return None
