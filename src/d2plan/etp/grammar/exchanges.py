"""What is exchanged for something else: hats between two, a hat for a crown, a colour for another one."""

from d2plan.etp.grammar.chunks import Gear, Who
from d2plan.etp.grammar.stage import SCENE, Change
from d2plan.etp.grammar.telling import Context, Telling, Worn, impossible
from d2plan.etp.grammar.wearing import name_gear, owner_of, take_off, wearers_of

_SEVERAL = ("them", "both", "both of them", "all of them", "all", "them both", "them all")


def swap_worn(context: Context, telling: Telling) -> bool:
    """Read "then they trade" of two who wear the same kind of accessory.

    Args:
        context: the story so far.
        telling: the clause; changes are added to it.

    Returns:
        False where nothing is there to exchange.
    """
    pair = telling.subjects if len(telling.subjects) == 2 else [*telling.subjects, *telling.companions]
    if len(pair) != 2 or any(part.kind in ("reversal", "other", "unknown") for part in telling.clause.parts):
        return False
    one, other = (context.worn(index) for index in pair)
    for name in dict.fromkeys([*one, *other]):
        telling.add(Change((pair[0], name), other.get(name)))
        telling.add(Change((pair[1], name), one.get(name)))
    telling.moving = True
    return bool(one or other)


def swap(context: Context, telling: Telling, gears: list[Gear]) -> None:
    """Exchange accessories between two, or one accessory for another.

    Args:
        context: the story so far.
        telling: the clause; changes are added to it.
        gears: what is exchanged.
    """
    pair = telling.subjects if len(telling.subjects) == 2 else [*telling.subjects, *telling.companions]
    worn = [context.worn(index) for index in pair]
    # "They exchange the scarf and the hat", "they swap the red hat and the blue hat"
    theirs = all(any(gear.value in held for held in worn) for gear in gears)
    if len(pair) == 2 and (len(gears) == 1 or (theirs and len(telling.subjects) == 2)):
        for name in dict.fromkeys(gear.value for gear in gears):
            if not any(name in held for held in worn):
                context.not_shown(telling.clause.text, f"nobody was told to wear a {name} before")
            for index, value in zip(pair, (held.get(name) for held in reversed(worn)), strict=True):
                telling.add(Change((index, name), value))
        return
    if len(gears) < 2:
        context.not_shown(telling.clause.text, "what is exchanged for what is not said")
        telling.shown = True
        return
    gone, come = gears[0], gears[1]
    name_gear(context, gone)
    owner = owner_of(context, gone, telling) if gone.owner is not None else None
    if gone.text.lower() in ("it", "them") and context.last and context.last[-1].owner >= 0:
        owner = context.last[-1].owner
    # "Mia exchanges his hat for a blue one": he wears it, before and after.
    wearers = telling.subjects if owner is None else [owner]
    worn_now = [context.worn(index).get(gone.value, "") for index in wearers]
    gone.colour = gone.colour or "".join(worn_now[:1])
    come.value = come.value or gone.value
    partner = owner_of(context, come, telling) if come.owner is not None else None
    partner = telling.companions[0] if partner is None and telling.companions else partner
    if partner is not None and partner not in telling.subjects and len(telling.subjects) == 1:
        # "Emma trades her scarf for Mia's crown."
        come.colour = come.colour or context.worn(partner).get(come.value, "")
        telling.add(Change((partner, come.value), None, come.colour))
        telling.add(Change((partner, gone.value), gone.colour, None))
    for index in wearers:
        if gone.value != come.value:
            take_off(context, telling, gone, [index])
            telling.add(Change((index, come.value), come.colour, None))
        else:
            telling.add(Change((index, come.value), come.colour, gone.colour))
        context.last.append(Worn(come.value, come.colour, index))


def recolour(context: Context, telling: Telling, gears: list[Gear]) -> None:
    """Let accessories turn into another colour.

    Args:
        context: the story so far.
        telling: the clause; changes are added to it.
        gears: what turns.
    """
    colours = [part.value for part in telling.clause.parts if part.kind == "colour"]
    colour = colours[-1] if colours else ""
    for gear in gears:
        name_gear(context, gear)
        if len(colours) > 1:
            # "From red to blue" says what it was.
            gear.colour = gear.colour or colours[0]
        if not colour:
            context.not_shown(telling.clause.text)
            telling.shown = True
            continue
        wearing = [index for index in context.people.cast if gear.value in context.worn(index)]
        several = is_plural(gear) and gear.value != "sunglasses" and gear.owner is None and not telling.subjects
        for index in wearing if several else wearers_of(context, telling, gear):
            telling.add(Change((index, gear.value), colour, gear.colour))
            context.last.append(Worn(gear.value, colour, index))


def is_plural(gear: Gear) -> bool:
    """Say whether "hats" or "their scarves" are meant."""
    return gear.text.lower().endswith("s") and not gear.text.lower().startswith(("a ", "the one"))


def list_all_gear(context: Context, telling: Telling) -> list[Gear]:
    """List what "everything" or "both" is in "takes everything off": all that the subjects wear, or took off before.

    Args:
        context: the story so far.
        telling: the clause, with its subjects.

    Returns:
        The accessories; none where the clause speaks of something else.
    """
    clause = telling.clause
    verb = clause.verb
    if verb is None or telling.gears or not verb.item.has("shifts", "loses", "takes", "gives"):
        return []
    whole = any(part.kind == "all_gear" for part in clause.parts)
    plural = any(isinstance(part, Who) and part.text.lower() in _SEVERAL for part in clause.parts)
    worn = list(dict.fromkeys(name for index in telling.subjects for name in context.worn(index)))
    if not (whole or (plural and len(worn) > 1)):
        return []
    back = [one.accessory for one in context.last if one.owner in telling.subjects]
    names = worn if worn or telling.particle == "off" else list(dict.fromkeys(back))
    clause.parts = [part for part in clause.parts if not (isinstance(part, Who) and part.text.lower() in _SEVERAL)]
    return [Gear("gear", name, name, definite=True) for name in names]


def reverse(context: Context, telling: Telling) -> None:
    """Read "then it is the other way round" and "they swap roles": two do what the other one did.

    Args:
        context: the story so far.
        telling: the clause; changes are added to it.
    """
    if not any(part.kind == "reversal" for part in telling.clause.parts):
        return
    told = list(dict.fromkeys(who for who, what in reversed(context.stage.now.told) if who != SCENE))
    pair = telling.subjects if len(telling.subjects) == 2 else sorted(told)[:2] if len(told) == 2 else []
    if len(pair) != 2:
        context.not_shown(telling.clause.text, "who changes with whom is not said")
        telling.shown = True
        return
    what = dict.fromkeys(what for who, what in context.stage.now.told if who in pair)
    for one, other in (pair, pair[::-1]):
        for kind in what:
            value = context.stage.now.get((other, kind))
            value = value or context.rest(one) if kind == "action" else value
            if kind == "action" and value not in context.actions_of(one):
                value = context.rest(one) if value == context.rest(other) else value
            if kind == "action" and value not in context.actions_of(one):
                raise impossible(context, one, str(value))
            telling.add(Change((one, kind), value))
    telling.moving = telling.shown = True


def former_owner(context: Context, telling: Telling, gears: list[Gear]) -> list[int]:
    """Find who had an accessory before: "she gives it back".

    Args:
        context: the story so far.
        telling: the clause.
        gears: what is given.

    Returns:
        One number among the concepts; none where nobody else had it.
    """
    names = [gear.value for gear in gears]
    had = [one.owner for one in context.last if one.accessory in names and one.owner not in (-1, *telling.subjects)]
    return had[-1:]
