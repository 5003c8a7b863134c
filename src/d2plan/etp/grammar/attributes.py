"""What stands beside somebody: "with a hat", "in a red scarf", "without her hat"."""

from dataclasses import replace

from d2plan.etp.grammar.chunks import Chunk, Gear, Who
from d2plan.etp.grammar.exchanges import is_plural
from d2plan.etp.grammar.telling import ON_SOMEBODY, Context, Telling, Worn
from d2plan.etp.grammar.wearing import is_held, name_gear, take_off, wear_all

_OBJECTS = ("him", "her", "it", "them")


def tell_attributes(context: Context, telling: Telling) -> None:
    """Read "with a hat", "in a red scarf", "without her hat".

    Args:
        context: the story so far.
        telling: the clause.
    """
    small = ("comma", "join", "filler", "other")
    parts = [part for part in telling.clause.parts if part.kind not in small or part.value == "body"]
    for place, gear in enumerate(parts):
        if not isinstance(gear, Gear) or not any(gear is left for left in telling.gears):
            continue
        if is_held(parts, place):
            context.last.append(Worn(gear.value, gear.colour, -1))
            context.not_shown(f"{gear.text} {parts[place + 1].text} {parts[place + 2].text}")
            continue
        owners = _beside(telling, parts, place)
        prep = gear.prep or _alone_with(telling.clause.parts, gear) or _first_prep(parts, place)
        if not gear.prep and (wearers := _worn_on(telling, parts, place)):
            wear_all(context, telling, [gear], wearers, state=True)
        elif prep == "without":
            take_off(context, telling, gear, owners, state=True)
        elif prep in ("with", "in", "wearing") and owners:
            told = len(telling.changes)
            wear_all(context, telling, [gear], owners, state=True)
            if gear.definite and gear.holder is not None:
                # "The boy in the red hat" wore it all the time.
                telling.changes[told:] = context.stage.hold(telling.changes[told:])
        elif prep in ("instead of", "rather than"):
            _take_instead(context, telling, gear)
        else:
            _keep_unused(context, telling, gear)
    telling.gears = []


def _keep_unused(context: Context, telling: Telling, gear: Gear) -> None:
    """Remember an accessory of which nothing is understood, and note it."""
    if gear.owner is not None and gear.owner.head != "pronoun":
        owner = context.people.find(gear.owner)[0]
        context.last.append(Worn(gear.value, gear.colour, owner))
    nobody = [] if gear.owner is not None else [-1]
    context.last += [Worn(gear.value, gear.colour, who) for who in telling.subjects[:1] or nobody if gear.value]
    if telling.shown and not telling.clause.verb:
        return
    context.not_shown(f"{telling.clause.text}", f'what happens with "{gear.text}" is not understood')
    telling.shown = True


def _take_instead(context: Context, telling: Telling, gear: Gear) -> None:
    """Take off what something else is worn instead of; "a blue hat instead of his red one" is on and off at once."""
    name_gear(context, gear)
    same = [change for change in telling.changes if change.dimension[1] == gear.value and change.value is not None]
    if not same:
        take_off(context, telling, gear, telling.subjects, state=not (gear.definite or gear.owner))
    for change in same:
        telling.changes[telling.changes.index(change)] = replace(change, before=gear.colour, state=False)


def _worn_on(telling: Telling, parts: list[Chunk], place: int) -> list[int]:
    """Find on whose head it is in "a crown on his head"; also "Mia a red one", where the verb is left out."""
    clause, gear = telling.clause, parts[place]
    assert isinstance(gear, Gear)
    on, head = (parts[place + 1 : place + 3] + [Chunk("stop", ""), Chunk("stop", "")])[:2]
    if on.text.lower() in ON_SOMEBODY and head.value == "body":
        return telling.subjects
    if on.text.lower() in (*ON_SOMEBODY, "in", "round", "about") and isinstance(head, Who) and head.body:
        return next((found for _, who, found in telling.objects if who is head), telling.subjects)
    before = parts[place] in clause.parts[: clause.split]
    spot = next((number for number, part in enumerate(clause.parts) if part is parts[place]), 0)
    closed = spot + 1 == len(clause.parts) or clause.parts[spot + 1].kind == "comma"
    if spot and clause.parts[spot - 1].kind == "comma" and closed:
        # "Running, beach, sunglasses", "Mia in the forest, red scarf", "John, red hat, sits."
        return next((found for who, found in telling.whose if who is gear.holder), telling.subjects)
    led = clause.parts[1:2] and parts[place] is clause.parts[0] and clause.parts[1].kind == "comma"
    if before and on.kind != "prep" and clause.verb is not None and (clause.verb.ing or led):
        # "Red hat, waving" and "no hat, she sleeps"
        return telling.subjects
    bare = clause.verb is None and all(isinstance(part, Gear) and not part.prep for part in parts)
    return telling.subjects if bare else []


def _alone_with(parts: list[Chunk], gear: Gear) -> str:
    """Read "Mia, hat still on, waves" as "with her hat", and "hat off, she waves" as "without it"."""
    place = next(number for number, part in enumerate(parts) if part is gear)
    behind = [part for part in parts[place + 1 : place + 4] if part.kind != "filler"]
    led = not place or parts[place - 1].kind in ("comma", "join")
    if not led or not behind or behind[0].kind != "particle":
        return ""
    closed = len(behind) == 1 or behind[1].kind in ("comma", "join")
    return {"on": "with", "off": "without"}.get(behind[0].value, "") if closed else ""


def _first_prep(parts: list, place: int) -> str:  # type: ignore[type-arg]  # a list of chunks
    while place > 0:
        place -= 1
        if isinstance(parts[place], Gear):
            if parts[place].prep:
                return str(parts[place].prep)
            continue
        return str(parts[place].text.lower()) if parts[place].kind in ("prep", "negation") else ""
    return ""


def _beside(telling: Telling, parts: list, place: int) -> list[int]:  # type: ignore[type-arg]  # a list of chunks
    """Find whose "with a hat" is: the subject's or object's that it follows at once, else all subjects'."""
    gear = parts[place]
    if gear.holder is not None and (gear.value == "sunglasses" or not is_plural(gear)):
        return next((found for who, found in telling.whose if who is gear.holder), telling.subjects)
    spot = place - 1
    while spot >= 0 and (isinstance(parts[spot], Gear) or parts[spot].kind == "prep"):
        spot -= 1
    if spot > 0 and parts[spot].kind == "negation" and isinstance(parts[spot - 1], Who) and parts[spot - 1].meant:
        # "Waves at the man without one"
        spot -= 1
    ahead = telling.clause.parts[: telling.clause.split]
    # "Next to him, Mia sits with a hat": what stands ahead of the subject has nothing that comes behind the verb.
    parted = any(part is parts[spot] for part in ahead) and not any(part is gear for part in ahead)
    # "Stands next to him in a red scarf": it is hers.
    by_him = spot > 0 and parts[spot].text.lower() in _OBJECTS and parts[spot - 1].kind == "prep"
    if spot >= 0 and isinstance(parts[spot], Who) and not (parted or by_him):
        for _, who, found in telling.objects:
            if who is parts[spot]:
                return found
    return telling.subjects
