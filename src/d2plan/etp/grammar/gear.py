"""What a clause changes in what somebody wears: put on, take off, give, take, swap."""

from itertools import pairwise

from d2plan.etp.grammar.chunks import Gear, Verb, Who
from d2plan.etp.grammar.exchanges import former_owner, is_plural, recolour, swap, swap_worn
from d2plan.etp.grammar.people import Can
from d2plan.etp.grammar.stage import Change
from d2plan.etp.grammar.telling import Context, Telling, Worn
from d2plan.etp.grammar.wearing import is_held, name_gear, owner_of, take_off_all, wear_all

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
    it = any(isinstance(part, Who) and part.text.lower() in ("it", "them") for part in telling.clause.parts)
    # "Ben gives Leo a hat. He puts it on": who was given it.
    last = context.last[-1] if it and context.last else None
    given = last.owner if last is not None and last.accessory in context.worn(last.owner) else None

    def fits(index: int) -> bool:
        if named:
            return not any(who.value in (str(index), context.people.word(index)) for who in named)
        worn = context.worn(index)
        if telling.particle == "on" and not named and given is not None:
            return index == given
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
    if (
        gears
        and telling.particle == "on"
        and item.text.lower().startswith(("keep", "kept", "leave", "left", "leaving"))
    ):
        # "He keeps the hat on": nothing changes, but it is on.
        wear_all(context, telling, gears, telling.subjects, state=True)
        telling.gears = [gear for gear in telling.gears if not any(gear is used for used in gears)]
        return True
    if item.has("swaps"):
        gears = _wear_held(context, telling, gears)
    if item.has("swaps") and not gears and not item.has("turns") and not verb.negated:
        return swap_worn(context, telling)
    if item.has("moves") and gears and not telling.clause.subjects and telling.targets and not verb.negated:
        # "The crown goes to Mia."
        _give(context, telling, gears, telling.targets)
        telling.gears, telling.moving = [], True
        return True
    if not gears or verb.unreal or not item.has(*_CHANGING, *_STATES, "stays", "be", "stops"):
        return False
    dressed = verb.passive and item.text.lower().startswith("dress")
    if item.has("be", "stays") and not dressed:
        return _tell_being(context, telling, verb, gears)
    telling.moving = not dressed and item.has(*_CHANGING) and not (item.has(*_STATES) and not item.has("gets"))
    if dressed:
        wear_all(context, telling, gears, telling.subjects, state=True)
    elif verb.negated or verb.aspect == "stop":
        take_off_all(context, telling, gears) if item.has(*_STATES) else context.not_shown(telling.clause.text)
        telling.moving = telling.moving or verb.aspect == "stop"
    elif not _change_gear(context, telling, verb, gears):
        return False
    telling.gears = [gear for gear in telling.gears if not any(gear is used for used in gears)]
    return True


def _wear_held(context: Context, telling: Telling, gears: list[Gear]) -> list[Gear]:
    """Put on what "Mia with a red hat and Ben with a blue one swap hats" says of each; give what else is exchanged."""
    held = [gear for gear in gears if gear.holder is not None]
    for gear in held:
        owners = next((found for who, found in telling.whose if who is gear.holder), [])
        wear_all(context, telling, [gear], owners, state=True)
    telling.changes = context.stage.hold(telling.changes) if held else telling.changes
    telling.gears = [gear for gear in telling.gears if gear not in held]
    return [gear for gear in gears if gear not in held]


def replace_others(context: Context, telling: Telling) -> None:
    """Read "he wears a crown instead", "only a crown", "a crown and nothing else": what was worn before is gone.

    Args:
        context: the story so far.
        telling: the clause; changes are added to it.
    """
    parts = [part for part in telling.clause.parts if part.kind != "prep"]
    words = [part.text.lower() for part in parts]
    only = any(
        word in ("only", "just") and isinstance(part, Gear) for word, part in zip(words, parts[1:], strict=False)
    )
    if not (only or "instead" in words or "nothing else" in " ".join(words) or "nothing but" in " ".join(words)):
        return
    come = [change.dimension for change in telling.changes if change.value is not None]
    for index in dict.fromkeys(who for who, _ in come):
        for name in context.worn(index):
            if (index, name) not in come:
                telling.add(Change((index, name), None))


def _change_gear(context: Context, telling: Telling, verb: Verb, gears: list[Gear]) -> bool:
    item = verb.item
    if item.has("swaps") and (len(gears) > 1 or is_plural(gears[0]) or telling.companions) and not telling.particle:
        swap(context, telling, gears)
    elif item.has("falls") and not telling.subjects:
        take_off_all(context, telling, gears)
    elif item.has("turns") and not telling.subjects:
        recolour(context, telling, gears)
    elif item.has("shifts", "loses", "gets", "gives", "takes"):
        return _move(context, telling, verb, gears)
    elif item.has(*_STATES):
        wear_all(
            context, telling, gears, telling.subjects, state=not (verb.aspect or _takes_over(context, telling, gears))
        )
    else:
        return False
    return True


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
    parts = telling.clause.parts
    gears = [gear for gear in gears if not any(part is gear and is_held(parts, at) for at, part in enumerate(parts))]
    if (
        item.has("swaps")
        and len(gears) == 1
        and any(who.text.lower() in ("it", "them") for _, who, _ in telling.objects)
    ):
        worn = context.last[-1] if context.last else None
        if worn is not None:
            telling.objects = [entry for entry in telling.objects if entry[1].text.lower() not in ("it", "them")]
            return [Gear("gear", "it", worn.accessory, colour=worn.colour, definite=True), *gears]
    takes_it = item.has(*_STATES, "shifts", "loses", "gives", "takes", "gets")
    if gears or (loose and not item.has(*_STATES)) or not takes_it:
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
        telling.gears = [gear for gear in telling.gears if gear not in named_first]
        if colour and telling.clause.later and not verb.negated:
            recolour(context, telling, named_first)
            return True
        if telling.particle == "off" and not verb.negated:
            # "It is night, and the hat is off."
            take_off_all(context, telling, named_first)
            return True
        for gear in named_first:
            gear.colour = gear.colour or colour
        wearing = [index for index in context.people.recent if named_first[0].value in context.worn(index)]
        once = [worn.owner for worn in context.last if worn.accessory == named_first[0].value and worn.owner >= 0]
        back = telling.particle == "on" and not wearing and bool(once)
        wear_all(context, telling, named_first, telling.subjects or wearing[:1] or once[-1:], state=not back)
        return True
    return False


def _move(context: Context, telling: Telling, verb: Verb, gears: list[Gear]) -> bool:
    """Read verbs that bring an accessory onto somebody or away."""
    item = verb.item
    given = verb.passive and bool(telling.clause.subjects)
    used = True
    if item.has("shifts", "loses") and _is_laid(telling):
        worn = [gear for gear in gears if gear.owner is not None or gear.definite]
        take_off_all(context, telling, worn, telling.sources)
        used = bool(worn)
    elif (item.has("shifts") and telling.particle == "off") or (item.has("takes") and _is_blown(telling)):
        take_off_all(context, telling, gears, telling.sources)
    elif item.has("shifts") and (telling.particle == "on" or telling.targets):
        wearers = telling.targets or (telling.direct if item.has("gives") else []) or telling.subjects
        wear_all(context, telling, gears, wearers)
    elif item.has("loses") and not item.has("gives"):
        take_off_all(context, telling, gears, telling.sources)
    elif item.has("gives") and not given and _is_back(telling) and (owner := former_owner(context, telling, gears)):
        _give(context, telling, gears, owner)
    elif item.has("gives") and (given or telling.direct or telling.targets):
        _give(context, telling, gears, telling.subjects if given else telling.direct or telling.targets)
    elif item.has("gives") and (other := _find_only_other(context, telling, verb)):
        _give(context, telling, gears, other)
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


def _is_blown(telling: Telling) -> bool:
    """Find "the wind snatches it away", after which nobody has it on."""
    before = telling.clause.parts[: telling.clause.split]
    return not telling.clause.subjects and any(part.value in ("scenery", "stranger") for part in before)


def _is_laid(telling: Telling) -> bool:
    """Tell "puts her hat on the table" from "puts her hat on"."""
    behind = [part for part in telling.clause.parts[telling.clause.split :] if part.kind != "filler"]
    return not telling.targets and any(
        on.text.lower() in ("on", "onto") and thing.kind == "other" and thing.value in ("noun", "scenery")
        for on, thing in pairwise(behind)
    )


def _takes_over(context: Context, telling: Telling, gears: list[Gear]) -> bool:
    """Tell "she takes the hat off him and wears it", in which it goes on, from "she wears it"."""
    it = [gear for gear in gears if gear.text.lower() in ("it", "them")]
    onwards = telling.clause.link == "join" or telling.clause.later
    # "First Mia wears the crown, then Ben."
    the = telling.clause.later and any(gear.definite and not gear.owner for gear in gears)
    if not context.last or context.last[-1].owner in telling.subjects:
        return False
    last = context.last[-1]
    # "Her crown is gone. Max has it on."
    lost = last.accessory not in context.worn(last.owner) and (last.owner, last.accessory) in context.stage.ever
    return (bool(it) and (onwards or lost)) or (the and onwards)


def _find_only_other(context: Context, telling: Telling, verb: Verb) -> list[int]:
    """Find to whom "she hands it over", where only one other takes part."""
    if "over" not in [*verb.item.text.lower().split(), *(part.text.lower() for part in telling.clause.parts)]:
        return []
    others = [index for index in context.people.cast if index not in telling.subjects]
    return others if len(others) == 1 and telling.subjects else []


def _is_back(telling: Telling) -> bool:
    words = [part.text.lower() for part in telling.clause.parts]
    verb = telling.clause.verb
    returns = verb is not None and verb.item.text.lower().startswith("return")
    return not telling.direct and not telling.targets and ("back" in words or returns)


def _give(context: Context, telling: Telling, gears: list[Gear], receivers: list[int]) -> None:
    givers = [] if telling.clause.verb and telling.clause.verb.passive else telling.subjects or telling.sources
    for gear in gears:
        # "Emma give scarf to man."
        bare = " " not in gear.text and any(gear.value in context.worn(giver) for giver in givers)
        gear.definite = gear.definite or bare
        if gear.definite or gear.owner is not None:
            own_colours = [context.worn(giver).get(gear.value, "") for giver in givers]
            gear.colour = gear.colour or "".join(own_colours[:1])
        name_gear(context, gear)
        if not gear.value:
            context.not_shown(telling.clause.text, "which accessory is meant is not said")
            continue
        if not givers and gear.definite:
            holders = [index for index in context.people.cast if gear.value in context.worn(index)]
            givers = [index for index in holders if index not in receivers] if len(holders) == 1 else []
        for giver in givers:
            worn = context.worn(giver)
            own = gear.owner is not None or gear.definite
            if gear.value in worn and (own or gear.colour == worn[gear.value]):
                gear.colour = gear.colour or worn[gear.value]
                telling.add(Change((giver, gear.value), None))
            elif (
                own
                and (giver, gear.value) not in context.stage.ever
                and (gear.owner is not None or giver in telling.sources)
            ):
                telling.add(Change((giver, gear.value), None, gear.colour))
        context.last += [Worn(gear.value, gear.colour, giver) for giver in givers]
        for index in receivers:
            telling.add(Change((index, gear.value), gear.colour, None))
            context.last.append(Worn(gear.value, gear.colour, index))
        names = " and ".join(context.people.name(index) for index in receivers)
        context.note(f'"{telling.clause.text}" is taken to mean that {names} puts it on.')


def _take(context: Context, telling: Telling, gears: list[Gear], approximate: bool) -> None:
    for gear in gears:
        owner = owner_of(context, gear, telling)
        losers = telling.sources or ([owner] if owner is not None and owner not in telling.subjects else [])
        name_gear(context, gear)
        if not losers and gear.definite:
            losers = [index for index in context.people.recent if gear.value in context.worn(index)][:1]
            losers = [index for index in losers if index not in telling.subjects]
        for loser in losers:
            worn = context.worn(loser)
            gear.colour = gear.colour or worn.get(gear.value, "")
            telling.add(Change((loser, gear.value), None, gear.colour))
        if telling.clause.hands_on:
            context.last.append(Worn(gear.value, gear.colour, telling.subjects[0] if telling.subjects else -1))
            continue
        for index in telling.subjects:
            telling.add(Change((index, gear.value), gear.colour, None))
            context.last.append(Worn(gear.value, gear.colour, index))
    if approximate and not telling.clause.hands_on and telling.subjects:
        names = " and ".join(context.people.name(index) for index in telling.subjects)
        context.note(f'"{telling.clause.text}" is taken to mean that {names} puts it on.')
