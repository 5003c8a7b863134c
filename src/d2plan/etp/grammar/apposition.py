"""What stands behind a noun and says who it is: "Rex the dog", "the dog, Rex", "Mia, Lily's sister"."""

from collections.abc import Sequence

from d2plan.etp.grammar.chunks import VERBS, Who, at
from d2plan.etp.grammar.words import Item

_SEXES = (("man", "boy"), ("woman", "girl"))
_OPENING = ("the", "a", "an", "my", "our", "his", "her", "its", "their")


def read_apposition(items: Sequence[Item], spot: int, who: Who) -> int:
    """Read what stands behind a noun or a name and means the same.

    Args:
        items: of the story.
        spot: the place behind the noun.
        who: what is found out; changed.

    Returns:
        The place behind all of it.
    """
    word = items[spot - 1].senses.get("named_class" if who.head == "name" else "class", "")
    behind = _read_relation(items, spot, who, word)
    if behind:
        return behind
    if who.head in ("class", "companion", "singles"):
        kin = at(items, spot - 1).has("kin")
        after = spot + (at(items, spot).text.lower() in ("named", "called"))
        if not at(items, after).has("name"):
            return spot
        named = items[after].senses.get("named_class", "")
        same = kin and are_alike(who.value, named)
        who.said_class = who.value if who.head == "class" and not same else ""
        who.head, who.value = "name", items[after].value("name")
        return _read_relation(items, after + 1, who, named) or after + 1
    return _read_class_behind(items, spot, who) if who.head == "name" else spot


def _read_relation(items: Sequence[Item], spot: int, who: Who, word: str) -> int:
    """Read ", Lily's sister," and ", a friend of Lily and Max,"; give the place behind it, or 0."""
    if not at(items, spot).has("comma") or who.head not in ("name", "class"):
        return 0
    owner, end = _read_one(items, spot + 1, word)
    while owner is not None and at(items, end).has("join"):
        # "Mia's brother and Lily's friend"
        further, behind = _read_one(items, end + 1, word)
        if further is None:
            break
        end = behind
    if owner is None or not (at(items, end).has("comma", "stop") or end >= len(items)):
        return 0
    who.owner = owner
    who.extras += [item.text for item in items[spot + 1 : end] if item.has("adjective") or not item.senses]
    following = at(items, end + 1)
    if at(items, end).has("comma") and following.has("join") and at(items, end + 2).has("name", "class", "determiner"):
        # "John, Mia's brother, and Lily wave" may be three.
        who.aside = " ".join(item.text for item in items[spot + 1 : end]).replace(" '", "'")
    return end + (at(items, end).has("comma") and (following.has("adverb", "join", *VERBS) or "ing" in following.forms))


def _read_one(items: Sequence[Item], place: int, word: str) -> tuple[Who | None, int]:
    """Read "Lily's little sister" or "a friend of Lily"; give whose, None where none of it stands, and the end."""
    place += at(items, place).text.lower() == "once"
    owner, after = _read_owner(items, place)
    noun = _find_relation(items, after, word)
    if noun < 0 or (owner is None and at(items, noun + 1).text.lower() not in ("of", "to")):
        return None, place
    if owner is not None:
        return owner, noun + 1
    owner, end = _read_owner(items, noun + 2, possessive=False)
    end += at(items, end).has("owner")
    several = at(items, end).has("join") and at(items, end + 1).has("name") and at(items, end + 2).has("comma", "stop")
    return owner, end + 2 * several


def _read_owner(items: Sequence[Item], place: int, possessive: bool = True) -> tuple[Who | None, int]:
    """Read "Lily's", "her", "the man's", or behind "of" the same without the s; skip "the" where nobody owns."""
    item = at(items, place)
    if item.has("possessive") and possessive:
        return Who("who", item.text, item.value("possessive"), head="pronoun"), place + 1
    spot = place + (item.text.lower() in _OPENING)
    for head in ("name", "class"):
        found = at(items, spot)
        if found.has(head) and (not possessive or at(items, spot + 1).has("owner")):
            return Who("who", found.text, found.value(head), head=head), spot + 1 + possessive
    return None, spot if possessive else place


def _find_relation(items: Sequence[Item], place: int, word: str) -> int:
    """Find the noun of "little sister", which must fit who it is said of; -1 where none stands there."""
    while at(items, place).has("adjective", "size") and not at(items, place).has("class", "companion"):
        place += 1
    noun = at(items, place)
    if noun.has("class"):
        # "Mia, John's dog, and Ben" are three.
        return place if are_alike(noun.value("class"), word) else -1
    strange = not noun.senses and noun.text.islower() and noun.text.isalpha()
    fits = noun.has("companion") or strange or word in noun.senses.get("singles", "").split()
    return place if fits else -1


def are_alike(one: str, other: str) -> bool:
    """Say whether two classes may be one person: a brother may be a man or a boy.

    Args:
        one: a class.
        other: a class.

    Returns:
        Whether they are the same, or people of one sex.
    """
    return one == other or any(one in sex and other in sex for sex in _SEXES)


def _read_class_behind(items: Sequence[Item], spot: int, who: Who) -> int:
    """Read "Rex the dog", "Rex, the dog," and "Rex, the dog in the red hat"."""
    comma = at(items, spot).has("comma")
    after = spot + comma
    if at(items, after).text.lower() not in ("the", "a", "an", "my", "our", "his", "her", "their"):
        return spot
    after += 1
    if comma and at(items, after).text.lower() == "other":
        # "Camomile, the other teapot,"
        after += 1
    extras: list[str] = []
    while at(items, after).has("adjective", "colour", "other_colour") or (
        not at(items, after).senses and at(items, after + 1).has("class")
    ):
        if after >= len(items):
            return spot
        extras.append(items[after].text)
        after += 1
    if not at(items, after).has("class"):
        return spot
    closed = at(items, after + 1).has("comma", "stop")
    if comma and not (closed or describes(items, after + 1)):
        return spot
    listed = not at(items, after + 1).has("comma") or at(items, after + 2).has("join")
    if comma and listed and items[after].value("class") != items[spot - 1].senses.get("named_class", ""):
        # "Mia, the boy, and the dog run" are three.
        return spot
    who.said_class = items[after].value("class")
    who.extras += extras
    return after + 1 + (comma and at(items, after + 1).has("comma"))


def describes(items: Sequence[Item], place: int) -> bool:
    """Say whether "in the red hat" or "who waves" follows.

    Args:
        items: of the story.
        place: behind a noun.

    Returns:
        Whether it tells who is meant.
    """
    if at(items, place).has("relative"):
        return True
    gear = any(item.has("gear") or item.text.lower() == "one" for item in items[place + 1 : place + 5])
    return at(items, place).text.lower() in ("in", "with", "wearing", "without") and gear
