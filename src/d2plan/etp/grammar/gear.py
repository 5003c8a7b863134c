"""What a clause changes in what somebody wears: put on, take off, give, take, swap."""

from d2plan.etp.grammar.chunks import Gear, Verb, Who
from d2plan.etp.grammar.people import Can
from d2plan.etp.grammar.stage import Change
from d2plan.etp.grammar.telling import Context, Telling, Worn

_CHANGING = ("shifts", "gets", "loses", "gives", "takes", "swaps", "falls", "turns")
_STATES = ("wears", "have")


def can_change_gear(context: Context, telling: Telling, verb: Verb) -> Can:
    """Say who can be the one that changes what somebody wears.

    Args:
        context: the story so far.
        telling: the clause, whose subject is looked for.
        verb: its verb.

    Returns:
        Whether somebody fits: in "takes it off", who wears it; in "takes it from Rex", anybody but Rex.
    """
    off = verb.item.has("loses") or telling.particle == "off"
    names = [gear.value for gear in telling.gears]
    named = [part for part in telling.clause.parts if isinstance(part, Who) and part.head != "pronoun"]

    def fits(index: int) -> bool:
        if named:
            return not any(who.value in (str(index), context.people.word(index)) for who in named)
        worn = context.worn(index)
        return not off or (any(name in worn for name in names) if names else bool(worn))

    return fits


def tell_gear(context: Context, telling: Telling, verb: Verb) -> bool:
    """Read a clause whose verb is about what somebody wears.

    Args:
        context: the story so far.
        telling: the clause; changes are added to it, and what they use up is taken from it.
        verb: its verb.

    Returns:
        False where the clause is about something else.
    """
    item = verb.item
    gears = _about_gear(context, telling, verb)
    if not gears or verb.unreal or not item.has(*_CHANGING, *_STATES, "stays", "be", "stops"):
        return False
    dressed = verb.passive and item.text.lower().startswith("dress")
    if item.has("be", "stays") and not dressed:
        return _tell_being(context, telling, verb, gears)
    telling.moving = not dressed and item.has(*_CHANGING) and not (item.has(*_STATES) and not item.has("gets"))
    if dressed:
        _wear_all(context, telling, gears, telling.subjects, state=True)
    elif verb.negated or verb.aspect == "stop":
        _take_off_all(context, telling, gears) if item.has(*_STATES) else context.not_shown(telling.clause.text)
        telling.moving = telling.moving or verb.aspect == "stop"
    elif not _change_gear(context, telling, verb, gears):
        return False
    telling.gears = [gear for gear in telling.gears if not any(gear is used for used in gears)]
    return True


def _change_gear(context: Context, telling: Telling, verb: Verb, gears: list[Gear]) -> bool:
    item = verb.item
    if item.has("swaps") and (len(gears) > 1 or _plural(gears[0])) and not telling.particle:
        _swap(context, telling, gears)
    elif item.has("falls") and not telling.subjects:
        _take_off_all(context, telling, gears)
    elif item.has("turns") and not telling.subjects:
        _recolour(context, telling, gears)
    elif item.has("shifts", "loses", "gets", "gives", "takes"):
        return _move(context, telling, verb, gears)
    elif item.has(*_STATES):
        _wear_all(context, telling, gears, telling.subjects, state=not verb.aspect)
    else:
        return False
    return True


def tell_attributes(context: Context, telling: Telling) -> None:
    """Read "with a hat", "in a red scarf", "without her hat".

    Args:
        context: the story so far.
        telling: the clause.
    """
    parts = [part for part in telling.clause.parts if part.kind not in ("comma", "join", "filler", "other")]
    for place, gear in enumerate(parts):
        if not isinstance(gear, Gear) or not any(gear is left for left in telling.gears):
            continue
        owners = _beside(telling, parts, place)
        prep = gear.prep or (_first_prep(parts, place))
        if prep == "without":
            _take_off(context, telling, gear, owners, state=True)
        elif prep in ("with", "in", "wearing") and owners:
            _wear_all(context, telling, [gear], owners, state=True)
        elif prep == "instead of" or prep == "rather than":
            _take_off(context, telling, gear, telling.subjects)
        else:
            context.last += [Worn(gear.value, gear.colour, index) for index in telling.subjects[:1] if gear.value]
            if telling.shown and not telling.clause.verb:
                continue
            context.not_shown(f"{telling.clause.text}", f'what happens with "{gear.text}" is not understood')
            telling.shown = True
    telling.gears = []


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
    if gear.holder is not None and (gear.value == "sunglasses" or not _plural(gear)):
        return next((found for who, found in telling.whose if who is gear.holder), telling.subjects)
    spot = place - 1
    while spot >= 0 and (isinstance(parts[spot], Gear) or parts[spot].kind == "prep"):
        spot -= 1
    if spot >= 0 and isinstance(parts[spot], Who):
        for _, who, found in telling.objects:
            if who is parts[spot]:
                return found
    return telling.subjects


def _about_gear(context: Context, telling: Telling, verb: Verb) -> list[Gear]:
    """List the accessories that the verb is about; "it" is the last one named."""
    item = verb.item
    loose = item.has("falls", "turns", "swaps", "be", "stays", *_STATES)
    gears = [
        gear
        for gear in telling.gears
        if gear.prep not in ("with", "in", "without", "instead of")
        or item.has("gets", "swaps")
        or (item.has("stays") and gear.prep != "without")
    ]
    if item.has("swaps", "gets"):
        gears = list(telling.gears)
    if (
        item.has("swaps")
        and len(gears) == 1
        and any(who.text.lower() in ("it", "them") for _, who, _ in telling.objects)
    ):
        worn = context.last[-1] if context.last else None
        if worn is not None:
            telling.objects = [entry for entry in telling.objects if entry[1].text.lower() not in ("it", "them")]
            return [Gear("gear", "it", worn.accessory, colour=worn.colour, definite=True), *gears]
    if gears or (loose and not item.has("wears")) or not item.has("wears", "shifts", "loses", "gives", "takes", "gets"):
        return gears
    if not (telling.particle or telling.targets) and item.has("shifts") and not item.has("takes", "gives"):
        return []
    for entry in telling.objects:
        prep, who, _ = entry
        if (
            who.head == "pronoun"
            and who.value in ("it", "they")
            and who.text.lower() in ("it", "them", "they")
            and prep in ("", "on", "off")
        ):
            if not context.last:
                return []
            telling.objects.remove(entry)
            worn = context.last[-1]
            return [Gear("gear", who.text, worn.accessory, colour=worn.colour, definite=True)]
    return []


def _tell_being(context: Context, telling: Telling, verb: Verb, gears: list[Gear]) -> bool:
    """Read "is in a red hat", "his hat is red", "the hat is gone"."""
    named_first = [gear for gear in gears if gear in telling.clause.parts[: telling.clause.split]]
    if named_first and not telling.clause.subjects:
        colour = next((part.value for part in telling.clause.parts if part.kind == "colour"), "")
        for gear in named_first:
            gear.colour = gear.colour or colour
        telling.gears = [gear for gear in telling.gears if gear not in named_first]
        _wear_all(context, telling, named_first, telling.subjects, state=True)
        return True
    return False


def _move(context: Context, telling: Telling, verb: Verb, gears: list[Gear]) -> bool:
    """Read verbs that bring an accessory onto somebody or away."""
    item = verb.item
    given = verb.passive and bool(telling.clause.subjects)
    used = True
    if item.has("shifts") and telling.particle == "off":
        _take_off_all(context, telling, gears, telling.sources)
    elif item.has("shifts") and (telling.particle == "on" or telling.targets):
        wearers = telling.targets or (telling.direct if item.has("gives") else []) or telling.subjects
        _wear_all(context, telling, gears, wearers)
    elif item.has("loses") and not item.has("gives"):
        _take_off_all(context, telling, gears, telling.sources)
    elif item.has("gives") and (given or telling.direct or telling.targets):
        _give(context, telling, gears, telling.subjects if given else telling.direct or telling.targets)
    elif item.has("takes", "gets"):
        _take(
            context,
            telling,
            gears,
            approximate=not item.text.lower().startswith(
                ("don", "try", "tries", "tried", "slip", "dress", "chang", "switch")
            ),
        )
    else:
        used = False
        telling.moving = False
    if used:
        telling.gears = [gear for gear in telling.gears if gear not in gears]
    return used


def _name_gear(context: Context, gear: Gear) -> None:
    """Fill in "a blue one", and the colour of an accessory that was spoken of before."""
    if not gear.value and context.last:
        gear.value = context.last[-1].accessory
    if gear.about:
        context.note(f'"{gear.text}" is shown as "{gear.value}".')
    context.left_out += gear.extras
    if not gear.colour and (gear.definite or gear.owner is not None):
        known = [worn for worn in context.last if worn.accessory == gear.value]
        gear.colour = known[-1].colour if known else ""


def _wear_all(context: Context, telling: Telling, gears: list[Gear], wearers: list[int], state: bool = False) -> None:
    for gear in gears:
        if gear.absent:
            _take_off(context, telling, gear, wearers, state=True)
            continue
        owner = _owner(context, gear, telling)
        _name_gear(context, gear)
        if not gear.value:
            context.not_shown(telling.clause.text, "which accessory is meant is not said")
            telling.shown = True
            continue
        whose = [owner] if state and owner is not None and not telling.clause.subjects else wearers
        if not whose:
            context.not_shown(telling.clause.text, "who wears it is not said")
            telling.shown = True
        for index in whose:
            telling.add(
                Change((index, gear.value), gear.colour, "?" if state else None, state=state)
                if state
                else Change((index, gear.value), gear.colour, None)
            )
            context.last.append(Worn(gear.value, gear.colour, index))
        if owner is not None and not state and owner not in whose:
            telling.add(Change((owner, gear.value), None, gear.colour))


def _owner(context: Context, gear: Gear, telling: Telling) -> int | None:
    if gear.owner is None:
        return None
    if gear.owner.head == "pronoun" and not telling.subjects and gear.value:
        # "Her hat falls off": whoever wears it.
        wearing = [index for index in context.people.recent if gear.value in context.worn(index)]
        return context.people.find(gear.owner, lambda index: not wearing or index in wearing)[0]
    if gear.owner.head != "pronoun":
        return context.people.find(gear.owner)[0]
    fitting = [index for index in telling.subjects if context.people.fits(index, gear.owner.value)]
    wearing = [index for index in context.people.recent if gear.value in context.worn(index)]
    if gear.owner.value == "they" or (fitting and (fitting[0] in wearing or not wearing)):
        return telling.subjects[0] if len(telling.subjects) == 1 else None
    others = [index for index in wearing if context.people.fits(index, gear.owner.value)]
    putting = telling.particle == "on" and not telling.targets
    if others and not (fitting and putting):
        return others[0]
    return fitting[0] if fitting else context.people.find(gear.owner)[0]


def _wearers(context: Context, telling: Telling, gear: Gear) -> list[int]:
    owner = _owner(context, gear, telling)
    if owner is not None:
        return [owner]
    if telling.subjects:
        return telling.subjects
    wearing = [index for index in context.people.recent if gear.value in context.worn(index)]
    return wearing[:1] or context.people.subjects


def _take_off_all(context: Context, telling: Telling, gears: list[Gear], sources: list[int] | None = None) -> None:
    missing = telling.clause.verb is not None and telling.clause.verb.negated
    for gear in gears:
        _name_gear(context, gear)
        whose = sources or _wearers(context, telling, gear)
        alone = not (missing or sources or gear.owner) and len(whose) == 1
        if alone and gear.value not in context.worn(whose[0]):
            # "John takes off the hat" that Rex wears.
            others = [index for index in context.people.recent if gear.value in context.worn(index)]
            whose = others[:1] if others and (whose[0], gear.value) not in context.stage.ever else whose
        _take_off(context, telling, gear, whose)
    telling.gears = [gear for gear in telling.gears if gear.prep == "without"]


def _take_off(context: Context, telling: Telling, gear: Gear, whose: list[int], state: bool = False) -> None:
    telling.shown = True
    for index in whose:
        worn = context.worn(index)
        if gear.value in worn:
            context.last.append(Worn(gear.value, worn[gear.value], index))
        elif (
            (index, gear.value) in context.stage.ever
            or state
            or telling.clause.verb is None
            or telling.clause.verb.negated
        ):
            continue
        else:
            context.last.append(Worn(gear.value, gear.colour, index))
        telling.add(Change((index, gear.value), None, gear.colour))


def _give(context: Context, telling: Telling, gears: list[Gear], receivers: list[int]) -> None:
    givers = [] if telling.clause.verb and telling.clause.verb.passive else telling.subjects
    for gear in gears:
        _name_gear(context, gear)
        for giver in givers:
            worn = context.worn(giver)
            own = gear.owner is not None or gear.definite
            if gear.value in worn and (own or gear.colour == worn[gear.value]):
                gear.colour = gear.colour or worn[gear.value]
                telling.add(Change((giver, gear.value), None))
            elif own and (giver, gear.value) not in context.stage.ever and gear.owner is not None:
                telling.add(Change((giver, gear.value), None, gear.colour))
        for index in receivers:
            telling.add(Change((index, gear.value), gear.colour, None))
            context.last.append(Worn(gear.value, gear.colour, index))
        names = " and ".join(context.people.name(index) for index in receivers)
        context.note(f'"{telling.clause.text}" is taken to mean that {names} puts it on.')


def _take(context: Context, telling: Telling, gears: list[Gear], approximate: bool) -> None:
    for gear in gears:
        owner = _owner(context, gear, telling)
        losers = telling.sources or ([owner] if owner is not None and owner not in telling.subjects else [])
        _name_gear(context, gear)
        if not losers and gear.definite:
            losers = [index for index in context.people.recent if gear.value in context.worn(index)][:1]
            losers = [index for index in losers if index not in telling.subjects]
        for loser in losers:
            worn = context.worn(loser)
            gear.colour = gear.colour or worn.get(gear.value, "")
            telling.add(Change((loser, gear.value), None, gear.colour))
        for index in telling.subjects:
            telling.add(Change((index, gear.value), gear.colour, None))
            context.last.append(Worn(gear.value, gear.colour, index))
    if approximate:
        names = " and ".join(context.people.name(index) for index in telling.subjects)
        context.note(f'"{telling.clause.text}" is taken to mean that {names} puts it on.')


def _plural(gear: Gear) -> bool:
    return gear.text.lower().endswith("s") and not gear.text.lower().startswith(("a ", "the one"))


def _swap(context: Context, telling: Telling, gears: list[Gear]) -> None:
    pair = telling.subjects if len(telling.subjects) == 2 else [*telling.subjects, *telling.companions]
    if len(gears) == 1 and len(pair) == 2:
        one, other = (context.worn(index) for index in pair)
        name = gears[0].value
        for index, value in ((pair[0], other.get(name)), (pair[1], one.get(name))):
            telling.add(Change((index, name), value))
        return
    if len(gears) < 2:
        context.not_shown(telling.clause.text, "what is exchanged for what is not said")
        telling.shown = True
        return
    gone, come = gears[0], gears[1]
    _name_gear(context, gone)
    come.value = come.value or gone.value
    for index in telling.subjects:
        if gone.value != come.value:
            _take_off(context, telling, gone, [index])
            telling.add(Change((index, come.value), come.colour, None))
        else:
            telling.add(Change((index, come.value), come.colour, gone.colour))
        context.last.append(Worn(come.value, come.colour, index))


def _recolour(context: Context, telling: Telling, gears: list[Gear]) -> None:
    colour = next((part.value for part in telling.clause.parts if part.kind == "colour"), "")
    for gear in gears:
        _name_gear(context, gear)
        if not colour:
            context.not_shown(telling.clause.text)
            telling.shown = True
            continue
        for index in _wearers(context, telling, gear):
            telling.add(Change((index, gear.value), colour, gear.colour))
            context.last.append(Worn(gear.value, colour, index))
