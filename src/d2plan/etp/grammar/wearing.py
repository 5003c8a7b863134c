"""Put accessories on somebody and take them off."""

from collections.abc import Sequence

from d2plan.etp.grammar.chunks import Chunk, Gear
from d2plan.etp.grammar.stage import Change
from d2plan.etp.grammar.telling import Context, Telling, Worn

_MANY = ("two ", "three ", "both ", "2 ", "3 ", "several ", "four ")
_IT = ("it", "them")
_OWN = ("his", "hers", "theirs")
_HOLDING = ("in", "under", "behind", "between", "on", "over")
_HANDS = ("hand", "hands", "lap", "arm", "arms", "paw", "paws", "mouth", "beak", "teeth", "knee", "knees")


def is_held(parts: Sequence[Chunk], place: int) -> bool:
    """Tell "with a hat in her lap" from "with a bow in her hair".

    Args:
        parts: of a clause.
        place: of the accessory.

    Returns:
        Whether it is in somebody's hands, where no picture shows it.
    """
    behind = [part for part in parts[place + 1 : place + 4] if part.kind != "filler"][:2]
    body = behind[-1].text.lower().split()[-1:] if len(behind) == 2 and behind[0].text.lower() in _HOLDING else []
    return bool(body) and body[0] in _HANDS


def name_gear(context: Context, gear: Gear) -> None:
    """Fill in "a blue one", and the colour of an accessory that was spoken of before."""
    if not gear.value and context.last:
        gear.value = context.last[-1].accessory
    if gear.about:
        context.note(f'"{gear.text}" is shown as "{gear.value}".')
    context.left_out += gear.extras
    # "She puts on a red bow, he takes off his" says nothing of the colour of his.
    if not gear.colour and (gear.definite or gear.owner is not None) and gear.text.lower() not in _OWN:
        # "John wears a red hat, Mia does not. He puts his hat on Mia": hers, which is not there, has no colour to give.
        known = [worn for worn in context.last if worn.accessory == gear.value and (worn.colour or worn.owner >= 0)]
        gear.colour = known[-1].colour if known else ""


def wear_all(context: Context, telling: Telling, gears: list[Gear], wearers: list[int], state: bool = False) -> None:
    """Put accessories on.

    Args:
        context: the story so far.
        telling: the clause; changes are added to it.
        gears: what is put on.
        wearers: on whom.
        state: they wear it already; nothing is put on.
    """
    everybody = wearers
    each = _is_one_each(context, telling, gears, wearers)
    if not each and len({gear.value for gear in gears}) > 1 and len(wearers) > 1:
        context.note(f'"{telling.clause.text}" is taken to mean that each of them wears all of it.')
    for place, gear in enumerate(gears):
        wearers = [everybody[place]] if each else everybody
        if gear.absent:
            gear.value = gear.value or (context.last[-1].accessory if context.last else "")
            context.last += [Worn(gear.value, gear.colour, index) for index in wearers[:1]]
            take_off(context, telling, gear, wearers, state=True)
            continue
        owner = owner_of(context, gear, telling)
        beside = [part.value for part in telling.clause.parts if isinstance(part, Gear) and part.value]
        # "Instead of his red hat, Ben wears a blue one."
        gear.value = gear.value or "".join(beside[:1])
        name_gear(context, gear)
        if len(wearers) == 1 and gear.text.lower().startswith(_MANY) and gear.value != "sunglasses":
            context.not_shown(telling.clause.text, "nobody can wear two of a kind")
            telling.shown = True
            continue
        if not gear.value:
            context.not_shown(telling.clause.text, "which accessory is meant is not said")
            telling.shown = True
            continue
        whose = [owner] if state and owner is not None and not telling.clause.subjects else wearers
        if not whose:
            context.last.append(Worn(gear.value, gear.colour, -1))
            context.not_shown(telling.clause.text, "who wears it is not said")
            telling.shown = True
        for index in whose:
            telling.add(
                Change((index, gear.value), gear.colour, "?" if state else None, state=state)
                if state
                else Change((index, gear.value), gear.colour, None)
            )
            context.last.append(Worn(gear.value, gear.colour, index))
        if owner is None and not state and gear.definite:
            owner = _find_holder(context, gear, whose)
        if owner is not None and not state and owner not in whose:
            telling.add(Change((owner, gear.value), None, gear.colour))
            context.last.insert(-1, Worn(gear.value, gear.colour, owner))


def _is_one_each(context: Context, telling: Telling, gears: list[Gear], wearers: list[int]) -> bool:
    """Read "Ben and Mia wear a red hat and a blue hat" as one each, in this order."""
    kinds = {gear.value or gears[0].value for gear in gears}
    if not (len(gears) == len(wearers) > 1 and len(kinds) == 1 and len({gear.colour for gear in gears}) == len(gears)):
        return False
    names = " and ".join(f"{context.people.name(who)} {gear.colour}" for who, gear in zip(wearers, gears, strict=True))
    context.note(f'"{telling.clause.text}" is taken as {names}.')
    return True


def _find_holder(context: Context, gear: Gear, whose: list[int]) -> int | None:
    """Find who wears "the hat" that is put on somebody else, the only one of its kind."""
    wearing = [index for index in context.people.cast if gear.value in context.worn(index)]
    alone = len(wearing) == 1 and wearing[0] not in whose
    return wearing[0] if alone and gear.colour in ("", context.worn(wearing[0])[gear.value]) else None


def owner_of(context: Context, gear: Gear, telling: Telling) -> int | None:
    """Find whose an accessory is.

    Args:
        context: the story so far.
        gear: the words.
        telling: the clause that names it.

    Returns:
        A number among the concepts; None where nothing is said.
    """
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


def wearers_of(context: Context, telling: Telling, gear: Gear) -> list[int]:
    """Find who wears an accessory that a clause is about.

    Args:
        context: the story so far.
        telling: the clause.
        gear: the words.

    Returns:
        Numbers among the concepts.
    """
    owner = owner_of(context, gear, telling)
    if owner is not None:
        return [owner]
    if telling.subjects:
        return telling.subjects
    wearing = [index for index in context.people.recent if gear.value in context.worn(index)]
    return wearing[:1] or context.people.subjects


def take_off_all(context: Context, telling: Telling, gears: list[Gear], sources: list[int] | None = None) -> None:
    """Take accessories off.

    Args:
        context: the story so far.
        telling: the clause; changes are added to it.
        gears: what is taken off.
        sources: from whom, where that is said.
    """
    missing = telling.clause.verb is not None and telling.clause.verb.negated
    for gear in gears:
        name_gear(context, gear)
        whose = sources or wearers_of(context, telling, gear)
        alone = not (missing or sources or gear.owner) and len(whose) == 1
        if alone and gear.value not in context.worn(whose[0]):
            # "John takes off the hat" that Rex wears.
            others = [index for index in context.people.recent if gear.value in context.worn(index)]
            whose = others[:1] if others and (whose[0], gear.value) not in context.stage.ever else whose
        take_off(context, telling, gear, whose)
    telling.gears = [gear for gear in telling.gears if gear.prep == "without"]


def take_off(context: Context, telling: Telling, gear: Gear, whose: list[int], state: bool = False) -> None:
    """Take one accessory off.

    Args:
        context: the story so far.
        telling: the clause; changes are added to it.
        gear: what is taken off.
        whose: from whom.
        state: they do not wear it; nothing is taken off.
    """
    telling.shown = True
    name_gear(context, gear)
    for index in whose:
        worn = context.worn(index)
        if gear.value in worn:
            context.last.append(Worn(gear.value, worn[gear.value], index))
        elif (index, gear.value) in context.stage.ever or not (_was_worn(telling) and not state):
            # "She has never worn a hat. Today she puts on a green one."
            context.last.append(Worn(gear.value, gear.colour if gear.absent or gear.text.lower() in _IT else "", -1))
            if (index, gear.value) in context.stage.ever or not gear.absent:
                context.stage.blank = context.stage.blank or not context.stage.now.told
                context.stage.ever.add((index, gear.value))
            else:
                # "Mia has no hat. Mia has a red hat": a moment without it is seen first.
                telling.add(Change((index, gear.value), None, state=True))
            continue
        else:
            context.last.append(Worn(gear.value, gear.colour, index))
        telling.add(Change((index, gear.value), None, gear.colour))


def _was_worn(telling: Telling) -> bool:
    """Say whether what is taken off must have been on: "takes off", "no longer wears", but not "does not wear"."""
    verb = telling.clause.verb
    return verb is not None and (not verb.negated or telling.no_longer)
