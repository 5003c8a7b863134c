"""From items to chunks."""

from collections.abc import Callable, Sequence
from itertools import takewhile

from d2plan.etp.grammar.chunks import VERBS, Chunk, Gear, Place, Reading, Verb, Weather, Who, at, determined, verb_at
from d2plan.etp.grammar.nouns import read_who
from d2plan.etp.grammar.things import read_gear, read_place
from d2plan.etp.grammar.verbs import read_verb
from d2plan.etp.grammar.words import Item

_PREPOSITIONS = ("in", "on", "with", "onto", "around", "from", "to", "off")
_ONTO = ("in", "round", "about", "to", "on", "onto", "around", "over", "off", "from", "back on")
# "Wide shot of the desert", "cut to the beach"
_FILMED = (" of", " on", " to", " see", " shows")
# "Wakes Max up, who had slept"
_BEHIND = ("up", "again", "too")
_FILLERS = "filler determiner possessive ordinal number modal to owner mark at way be have".split()


def find_chunks(items: Sequence[Item]) -> list[Chunk]:
    """Group items into chunks.

    Args:
        items: of a story.

    Returns:
        The chunks in order.
    """
    chunks: list[Chunk] = []
    place = 0
    while place < len(items):
        found = _read(items, place, chunks)
        chunk, place = found
        if isinstance(chunk, Verb) and _only_describes(chunk, items, place, chunks):
            chunk = Chunk("prep", "with", "beside")
        if isinstance(chunk, Who) and chunks and chunks[-1].kind == "other" and chunks[-1].text.lower() == "only":
            chunks.pop()
            chunk.alone = True
        if chunk is not None:
            chunks.append(chunk)
    return _read_tags(chunks)


def _read_tags(chunks: list[Chunk]) -> list[Chunk]:
    """Read "snow, night" and "forest", which stand alone between commas, as where and in which light."""
    return [_read_tag(chunks, place) for place in range(len(chunks))]


def _read_tag(chunks: list[Chunk], place: int) -> Chunk:
    chunk, before = chunks[place], chunks[place - 1] if place else Chunk("stop", "")
    # "Scene 2: mountains, night" begins with a mark.
    marked = before.kind == "mark" and (place == 1 or chunks[place - 2].kind == "stop")
    alone = (marked or before.kind in ("stop", "comma")) and (
        place + 1 == len(chunks) or chunks[place + 1].kind in ("stop", "comma")
    )
    heads = isinstance(chunk, (Weather, Place)) and _is_heading(chunks, place)
    if (alone or heads) and isinstance(chunk, Weather):
        return Chunk("light", chunk.text, chunk.light)
    if isinstance(chunk, Place) and chunk.mode == "bare":
        filmed = before.kind in ("other", "mark") and before.text.lower().endswith(_FILMED)
        determined = chunk.text.lower().startswith(
            ("the ", "a ", "an ", "my ", "his ", "her ", "its ", "their ", "our ")
        )
        chunk.mode = "at" if filmed or heads or (alone and not determined) else "bare"
    return chunk


def _is_heading(chunks: list[Chunk], place: int) -> bool:
    """Find "Night on the beach", a sentence that names only where and when."""
    start = place
    while start and chunks[start - 1].kind != "stop":
        start -= 1
    sentence = list(takewhile(lambda part: part.kind != "stop", chunks[start:]))
    settings = [part for part in sentence if isinstance(part, (Weather, Place)) or part.kind == "light"]
    return len(settings) > 1 and all(part in settings or part.kind in ("comma", "filler") for part in sentence)


def _only_describes(verb: Verb, items: Sequence[Item], place: int, before: list[Chunk]) -> bool:
    """Tell "Mia, wearing a hat, waves", which is "with a hat", from "Mia waves, wearing a hat"."""
    if not (verb.ing and verb.item.has("wears") and len(verb.text.split()) == 1 and before):
        return False
    comma = before[-1].kind == "comma" and len(before) > 1
    gear = read_gear(items, place, before) if place < len(items) else None
    who = before[-1 - comma]
    if not isinstance(who, Who) or who.head in ("everyone", "classes", "groups") or gear is None:
        return False
    spot = len(before) - 2 - comma
    while spot > 0 and before[spot].kind in ("comma", "join"):
        spot -= 1
    # "Mia and Tom, wearing hats," are both meant.
    several = spot >= 0 and before[spot].kind == "who" and before[spot + 1].kind in ("comma", "join")
    return not several and (not comma or at(items, gear[1]).has("comma"))


def _read(items: Sequence[Item], place: int, before: list[Chunk]) -> Reading:
    readers: tuple[Callable[[Sequence[Item], int, list[Chunk]], Reading | None], ...] = (
        _read_border,
        _read_light,
        _read_none,
        read_gear,
        read_who,
        _read_body,
        read_place,
        read_verb,
        _read_rest,
    )
    for reader in readers:
        found = reader(items, place, before)
        if found is not None:
            return found
    if _is_adverb(items, place, before):
        return Chunk("other", items[place].text, "adverb"), place + 1
    return Chunk("unknown", items[place].text), place + 1


def _is_adverb(items: Sequence[Item], place: int, before: list[Chunk]) -> bool:
    """Tell "Slowly the backpack opens" from "Emily opens it"."""
    begins = not before or before[-1].kind == "stop"
    leads = at(items, place + 1).has("determiner", "possessive", "pronoun", "name")
    return items[place].text.endswith("ly") and (items[place].text.islower() or (begins and leads))


def _read_border(items: Sequence[Item], place: int, before: list[Chunk]) -> Reading | None:
    item = items[place]
    low = item.text.lower()
    for kind in ("stop", "comma", "quote"):
        if item.has(kind):
            return Chunk(kind, item.text), place + 1
    if _is_except(items, place, before):
        return Chunk("except", item.text), place + 1
    if (
        low in ("after", "afterward")
        and at(items, place + 1).has("comma")
        and (not before or before[-1].kind == "stop")
    ):
        # "After, she jumps."
        return Chunk("mark", item.text, "next"), place + 1
    if item.has("mark") and _is_mark(items, place, before):
        return Chunk("mark", item.text, _follows_there(items, place, before) or item.value("mark")), place + 1
    if low == "that" or item.has("relative"):
        spot = len(before) - 1
        while spot > 0 and (before[spot].kind == "comma" or (low == "who" and before[spot].text.lower() in _BEHIND)):
            spot -= 1
        owner = before[spot].kind if before else ""
        if owner == "who" and not (low == "that" and at(items, place + 1).has("class", "classes", "gear", "place")):
            return Chunk("relative", item.text), place + 1
    if item.has("join") and not (low == "so" and before and before[-1].kind == "verb"):
        return Chunk("join", item.text), place + 1
    return None


def _is_except(items: Sequence[Item], place: int, before: list[Chunk]) -> bool:
    """Tell "everyone but Max" and "except Max" from "but Max runs"."""
    item = items[place]
    if item.text.lower() == "not" and len(before) > 1 and before[-1].kind == "comma" and before[-2].kind == "who":
        # "Mia, not Max, runs"
        other = read_who(items, place + 1, before)
        return other is not None and at(items, other[1]).has("comma")
    if not item.has("except") and item.text.lower() != "but":
        return False
    if item.text.lower() != "but":
        return read_who(items, place + 1, before) is not None
    everyone = (
        bool(before) and isinstance(before[-1], Who) and before[-1].head in ("everyone", "nobody", "classes", "groups")
    )
    return everyone and read_who(items, place + 1, before) is not None


def _is_mark(items: Sequence[Item], place: int, before: list[Chunk]) -> bool:
    item, value = items[place], items[place].value("mark")
    low, following = item.text.lower(), at(items, place + 1)
    if low == "as":
        # "The same hat as Mia, a green one" is no point in time.
        clause = takewhile(lambda part: not part.has("stop", "comma"), items[place + 1 :])
        happens = any(part.has(*VERBS, "light_change") for part in clause)
        return happens and following.has(
            "name", "class", "classes", "pronoun", "determiner", "everyone", "light_change"
        )
    if low in ("before", "after"):
        whom = read_who(items, place + 1, before)
        if whom is not None:
            # "runs after John" is no point in time.
            return verb_at(items, whom[1])
        worn = read_gear(items, place + 1, before)
        # "After a hat is put on her head", but not "after the rain".
        return not following.has("determiner") or (worn is not None and verb_at(items, worn[1]))
    if low == "once" and (not following.text or following.has("stop", "comma", "join")):
        # "Waves once, then sits."
        return False
    if low == "the next":
        return following.has("pronoun", "name", "class")
    if low == "throughout":
        return not following.has("determiner")
    if low == "having":
        return "part" in following.forms
    if low in ("first", "second", "third", "fourth", "next", "last", "once", "now"):
        return not (before and before[-1].kind == "unknown") and not determined(items, place)
    if value == "same" and low == "where":
        return not before or before[-1].kind != "verb"
    return True


def _follows_there(items: Sequence[Item], place: int, before: list[Chunk]) -> str:
    """Tell "runs to the harbour, where she sits down", which comes next, from "goes to the harbour, where Rex sits"."""
    if items[place].text.lower() != "where" or not at(items, place + 1).has("pronoun"):
        return ""
    there = [chunk for chunk in before[-2:] if chunk.kind != "comma"][-1:]
    arrives = bool(there) and isinstance(there[0], Place) and there[0].mode == "to"
    deed = next((chunk for chunk in reversed(before) if isinstance(chunk, Verb)), None)
    next_one = at(items, place + 2).senses.get("action", "parked")
    return "next" if arrives and deed is not None and deed.item.has("action") and next_one != "parked" else ""


def _read_light(items: Sequence[Item], place: int, before: list[Chunk]) -> Reading | None:
    item = items[place]
    for kind in ("light_change", "light", "relation", "position"):
        if item.has(kind):
            bare = item.text.lower() in ("left", "right")
            if bare and not (before and before[-1].kind == "comma" and at(items, place + 1).has("comma")):
                continue
            about = ":about" if item.has("about") else ""
            return Chunk(kind, item.text, item.value(kind) + about), place + 1
    return None


def _read_none(items: Sequence[Item], place: int, before: list[Chunk]) -> Reading | None:
    """Read "none" of "then a blue hat, then none"."""
    borders = ("mark", "join", "comma")
    if (
        items[place].text.lower() != "none"
        or not (before and before[-1].kind in borders)
        or not _ends_behind(items, place)
    ):
        return None
    return Gear("gear", items[place].text, absent=True), place + 1


def _ends_behind(items: Sequence[Item], place: int) -> bool:
    """Say whether a sentence or a part of it ends behind a place."""
    return place + 1 >= len(items) or items[place + 1].has("stop", "comma", "join")


def _read_body(items: Sequence[Item], place: int, before: list[Chunk]) -> Reading | None:
    """Read "her head" in "on her head", which says on whom."""
    ahead = place + 1 + at(items, place + 1).has("adjective")
    if not (items[place].has("possessive") and at(items, ahead).has("body") and before):
        return None
    if before[-1].text.lower() not in _ONTO:
        return None
    text = " ".join(item.text for item in items[place : ahead + 1])
    return Who("who", text, items[place].value("possessive"), head="pronoun", body=True), ahead + 1


def _read_rest(items: Sequence[Item], place: int, before: list[Chunk]) -> Reading | None:
    item = items[place]
    low = item.text.lower()
    found: Chunk | None = None
    if item.has("all_gear"):
        found = Chunk("all_gear", item.text)
    elif item.has("reversal"):
        found = Chunk("reversal", item.text)
    elif item.has("state"):
        found = Chunk("state", item.text, item.value("state"))
    elif low in ("without", "instead of", "rather than") or item.has("not"):
        found = Chunk("negation", item.text, low if low in ("without", "instead of", "rather than") else "not")
    elif low in ("on", "off") and not _leads_to_who(items, place + 1, before):
        found = Chunk("particle", item.text, low)
    elif item.has("beside", "apart") or low in _PREPOSITIONS:
        found = Chunk("prep", item.text, "beside" if item.has("beside") else "apart")
    else:
        found = _read_small_word(item)
    return None if found is None else (found, place + 1)


def _read_small_word(item: Item) -> Chunk | None:
    if item.has("light_word"):
        return Weather("other", item.text, "scenery", item.value("light_word"))
    for kind in ("stranger", "garment", "other_colour", "scenery", "adverb", "adjective", "body"):
        if item.has(kind):
            return Chunk("other", item.text, kind)
    if item.has("here"):
        return Place("place", item.text, item.value("here"), "here")
    if item.text.lower() == "another":
        # "Puts on a hat, then another": of what kind is lost.
        return Chunk("other", item.text, "noun")
    if item.has(*_FILLERS):
        return Chunk("filler", item.text)
    if item.has("colour"):
        return Chunk("colour", item.text, item.value("colour"))
    return Chunk("other", item.text, "noun") if item.has("gear", "place", "relative", "prop") else None


def _leads_to_who(items: Sequence[Item], place: int, before: list[Chunk]) -> bool:
    return read_who(items, place, before) is not None or at(items, place).has("possessive", "body")


def spell_out(chunks: Sequence[Chunk]) -> None:
    """Let "everyone" in "everyone jumps: Mia, Tom and Rex" mean those who are listed behind the colon.

    Args:
        chunks: of the whole story; changed.
    """
    for place, chunk in enumerate(chunks):
        if not (chunk.kind == "stop" and chunk.text == ":"):
            continue
        listed = list(takewhile(lambda part: part.kind in ("who", "comma", "join"), chunks[place + 1 :]))
        names = [part for part in listed if isinstance(part, Who) and part.head == "name"]
        closed = at_end(chunks, place + 1 + len(listed))
        before = takewhile(lambda part: part.kind != "stop", reversed(chunks[:place]))
        alls = [part for part in before if isinstance(part, Who) and part.head == "everyone"]
        if closed and len(names) > 1 and alls:
            alls[-1].meant = tuple(int(name.value) for name in names)


def at_end(chunks: Sequence[Chunk], place: int) -> bool:
    """Say whether a sentence ends at a place."""
    return place >= len(chunks) or chunks[place].kind == "stop"
