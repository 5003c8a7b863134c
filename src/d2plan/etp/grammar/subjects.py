"""Who acts in a clause, also where the words leave that out."""

from dataclasses import replace

from d2plan.etp.grammar.chunks import Gear, Who
from d2plan.etp.grammar.clauses import Clause
from d2plan.etp.grammar.deeds import can_do
from d2plan.etp.grammar.gear import can_change_gear
from d2plan.etp.grammar.marked import find_marked
from d2plan.etp.grammar.people import Can, People
from d2plan.etp.grammar.setting import find_weather, is_pouring
from d2plan.etp.grammar.telling import Context, Telling

# What the weather is: "it is freezing".
_FEELS = ("freez", "froz", "boil")
_ENDED = ("any more", "anymore", "any longer")
_GROUPS = ("classes", "groups")
GEAR_DEEDS = ("shifts", "loses", "gets", "gives", "takes", "swaps", "wears")


def find_subjects(context: Context, clause: Clause, telling: Telling) -> list[int]:
    """Find who acts in a clause.

    Args:
        context: the story so far.
        clause: the words.
        telling: the same clause on its way; an accessory that its subject means is put there.

    Returns:
        Their numbers among the concepts; empty where the weather or a thing is spoken of.
    """
    people, verb = context.people, clause.verb
    can = _who_can(context, telling)
    left = _find_left_out(people, clause)
    if not clause.subjects:
        inherited = [] if _commands(clause) else _inherit(context, clause)
        return [index for index in inherited if index not in left]
    found: list[int] = []
    for who in clause.subjects:
        if who.head == "nobody":
            found += _find_nobody(context, telling, who, left)
            continue
        if _is_unseen(context, clause, who):
            continue
        if _is_lost(context, clause, who):
            if verb is not None and verb.item.has("be"):
                return _colour_it(context, telling, who)
            worn = context.last[-1]
            telling.gears = [Gear("gear", who.text, worn.accessory, colour=worn.colour, definite=True)]
            continue
        meant = find_marked(context, clause, who, can, _barred(context, clause, who))
        telling.whose.append((who, meant))
        found += [index for index in meant if index not in found]
        context.left_out += who.extras
    if found != left:
        found = [index for index in found if index not in left]
    for who in clause.without:
        people.find(who)
    if clause.link not in ("with",) or not people.subjects:
        people.subjects = found or people.subjects
    context.nobody = -1 if found else clause.sentence if clause.subjects[0].head in _GROUPS else context.nobody
    return found


def _is_unseen(context: Context, clause: Clause, who: Who) -> bool:
    """Find "it" of the weather, and "people" who walk by."""
    if _is_background(context, clause, who):
        context.note(f'"{who.text}" are left out; write the names if not.')
        return True
    it = who.head == "pronoun" and who.value == "it"
    return it and _weather(context, clause) and not _is_lost(context, clause, who)


def _is_background(context: Context, clause: Clause, who: Who) -> bool:
    """Tell "people walk by", who are not seen, from "the dogs run", who are those that are known."""
    verb, people = clause.verb, context.people
    if verb is None or who.head not in _GROUPS or who.number or who.owner is not None or len(clause.subjects) > 1:
        return False
    # Where a story calls others by their names, those are whom it is about.
    others = bool(people.called) and not set(people.peek([who])) <= {*people.called, *people.cast}
    worn = any(isinstance(part, Gear) for part in clause.parts)
    return others and verb.item.has("mute") and not (verb.item.has("action") or worn)


def _commands(clause: Clause) -> bool:
    """Find "Give her a hat", which is told to whoever makes the film."""
    verb = clause.verb
    if verb is None or clause.link != "sentence" or not verb.finite or "base" not in verb.item.forms:
        return False
    whom = [part for part in clause.parts[clause.split :] if isinstance(part, Who)]
    somebody = any(who.text.lower() not in ("it", "them") and not who.text.lower().endswith("self") for who in whom)
    plain = all(part.kind in ("filler", "mark", "comma", "join") for part in clause.parts[: clause.split])
    return plain and somebody and verb.item.has("shifts", "gives", "loses", "takes") and not verb.ing


def _barred(context: Context, clause: Clause, who: Who) -> list[int]:
    """Say who cannot be meant: who did before what is done back, and who acts while somebody sleeps."""
    people, verb = context.people, clause.verb
    if who.head != "pronoun" or verb is None:
        return []
    # "John waves at Ben. He waves back."
    answers = "back" in verb.text.lower().split() and verb.item.has("action")
    asleep = any(part.kind == "state" and part.value == "sleeping" for part in clause.parts)
    # "Luna steals Rex's hat while he is asleep."
    sleeps = clause.sub == "while" and (asleep or verb.item.senses.get("action") == "sleeping")
    named = [*people.objects, *people.recent] if sleeps else people.objects
    they = who.value == "they" and len(named) > 1
    others = [index for index in named if (they or people.fits(index, who.value)) and index not in people.subjects]
    return list(people.subjects) if others and (answers or (sleeps and clause.link != "sentence")) else []


def _who_can(context: Context, telling: Telling) -> Can | None:
    verb = telling.clause.verb
    if verb is None:
        return None
    if verb.item.has("waking") and not verb.passive and any(isinstance(part, Who) for part in telling.clause.parts):
        # "She wakes him": it is he who sleeps.
        return None
    gear = verb.item.has(*GEAR_DEEDS) and (bool(telling.gears) or bool(telling.particle))
    return can_change_gear(context, telling, verb) if gear else can_do(context, verb)


def _find_left_out(people: People, clause: Clause) -> list[int]:
    pronouns = [who for who in clause.without if who.head == "pronoun"]
    return [*people.peek(clause.without), *(index for who in pronouns for index in people.find(who))]


def _find_nobody(context: Context, telling: Telling, who: Who, left: list[int]) -> list[int]:
    """Read "nobody runs any more" as all that stop, and "nobody but Rex runs" as Rex who does."""
    clause = telling.clause
    if clause.verb is None or not context.people.cast:
        context.not_shown(clause.text)
        telling.shown = True
        return []
    if left:
        context.note(f'"{clause.text}": what the others do instead is not said, so they go on.')
        return left
    ended = clause.later or clause.now or any(part.text.lower().endswith(_ENDED) for part in clause.parts)
    if not ended and clause.verb.item.has("action", "looks", "mute", "moves", "appears"):
        # "He waves. Nobody waves back": he goes on.
        context.not_shown(clause.text, "because nobody does it")
        telling.shown = True
        return []
    clause.verb.negated = True
    return context.people.find(replace(who, head="everyone", text="all"))


def _colour_it(context: Context, telling: Telling, who: Who) -> list[int]:
    """Read "it is blue" of a hat."""
    clause, worn = telling.clause, context.last[-1]
    colour = next((part.value for part in clause.parts if part.kind == "colour"), "")
    telling.gears = [Gear("gear", who.text, worn.accessory, colour=colour, definite=True)]
    clause.parts, clause.split, clause.subjects = [*telling.gears, *clause.parts], clause.split + 1, []
    return [worn.owner]


def _is_lost(context: Context, clause: Clause, who: Who) -> bool:
    """Tell "it falls off" of a hat."""
    verb = clause.verb
    thing = who.head == "pronoun" and who.text.lower() in ("it", "they") and bool(context.last)
    if thing and verb is not None and verb.passive and verb.item.has("shifts", "loses", "takes", "gives"):
        return not any(isinstance(part, Gear) for part in clause.parts)
    if thing and verb is not None and verb.item.has("be", "turns") and context.last[-1].owner in context.people.cast:
        kinds = [part.kind for part in clause.parts]
        return "colour" in kinds and not set(kinds) & {"state", "gear", "place", "light"}
    return thing and verb is not None and verb.item.has("falls") and not verb.item.has("mute", "action")


def _weather(context: Context, clause: Clause) -> bool:
    """Tell "it is on the beach" from "it" for somebody, where nobody was named yet."""
    people = context.people
    if is_pouring(clause) and not any("pouring" in context.actions_of(index) for index in people.cast):
        return True
    if any(people.fits(index, "it") for index in people.cast):
        return False
    if clause.verb is None:
        # "The music makes Mia smile. Then it makes her jump."
        return bool(people.cast) and all(part.kind in ("filler", "comma", "join", "other") for part in clause.parts)
    item = clause.verb.item
    # "It takes a while", "it is freezing outside": nobody does that.
    shown = item.has("action", "waking") and not item.text.lower().startswith(_FEELS)
    idle = not (shown or any(isinstance(part, Gear) for part in clause.parts))
    return idle or item.has("be", "mute", "turns", "gets", "moves")


def _inherit(context: Context, clause: Clause) -> list[int]:
    verb = clause.verb
    if clause.sentence == context.nobody and clause.link != "sentence":
        # "The crowd cheers and waves": nobody known waves.
        return []
    if find_weather(clause) is not None:
        return []
    if verb is None:
        lone = not any(part.kind in ("state", "gear") for part in clause.parts)
        return [] if lone else list(context.people.subjects)
    # "Red hat, waving" speaks of whoever was named; "the hat falls" does not.
    named_first = not verb.ing and any(isinstance(part, Gear) for part in clause.parts[: clause.split])
    scenery = any(
        part.kind == "other" and part.value in ("scenery", "noun", "garment", "body")
        for part in clause.parts[: clause.split]
    )
    unknown = any(part.value == "stranger" for part in clause.parts[: clause.split])
    # "The sunlight wakes her."
    whom = [part.text.lower() for part in clause.parts[clause.split :] if isinstance(part, Who)]
    unknown = unknown or (scenery and any(word in ("him", "her", "them") for word in whom))
    if unknown or named_first or (scenery and not context.people.subjects):
        return []
    return list(context.people.subjects)


def find_bared(context: Context, who: Who, prep: str, found: list[int], gears: list[Gear]) -> list[int]:
    """Read "Max snatches it off his head" of whoever wears it.

    Args:
        context: the story so far.
        who: "his head".
        prep: the word before it.
        found: whose head it would be by the words alone.
        gears: what the clause names.

    Returns:
        Numbers among the concepts.
    """
    last = context.last[-1].accessory if context.last else ""
    name = next((gear.value for gear in gears if gear.value), last)
    wearing = [index for index in context.people.recent if name and name in context.worn(index)]
    others = [index for index in wearing if context.people.fits(index, who.value)]
    return others[:1] if prep in ("off", "from") and others and not set(found) & set(wearing) else found
