"""Who is meant by what they wear or do: "the girl in the orange scarf", "the sleeping dog", "the one with a hat"."""

from collections.abc import Collection

from d2plan.etp.grammar.chunks import Gear, Who
from d2plan.etp.grammar.clauses import Clause
from d2plan.etp.grammar.people import Can
from d2plan.etp.grammar.telling import Context

_WEARING = ("with", "in", "wearing", "without")


def find_marked(
    context: Context, clause: Clause, who: Who, can: Can | None = None, besides: Collection[int] = ()
) -> list[int]:
    """Find who is meant, also by what they wear or do.

    Args:
        context: the story so far; changed.
        clause: in which they are named.
        who: the words.
        can: whether somebody can do what is told.
        besides: who cannot be meant.

    Returns:
        Their numbers among the concepts.
    """
    gears = [part for place, part in enumerate(clause.parts) if isinstance(part, Gear) and _tells(clause, place, who)]
    marks = _marks_of(context, who, gears, besides)
    if gears and marks is not None:
        _tell_apart(context, who, gears, marks)
    found = _count(context, who, context.people.find(who, can, besides, marks))
    context.marked.update(found if gears else [])
    if who.aside and found:
        context.note(f'"{who.aside}" is taken to be {context.people.name(found[0])}; write the name if not.')
    return found


def _count(context: Context, who: Who, found: list[int]) -> list[int]:
    """Read "two of them sit, Ben jumps" as those two of whom nothing else is told."""
    if who.head != "pronoun" or not 1 < who.number < len(found):
        return found
    elsewhere = context.people.peek(context.people.coming)
    chosen = [index for index in found if index not in elsewhere][: who.number]
    chosen = chosen if len(chosen) == who.number else found[: who.number]
    names = " and ".join(map(context.people.name, chosen))
    context.note(f'"{who.text}" are taken as {names}; write the names if not.')
    return chosen


def _tell_apart(context: Context, who: Who, gears: list[Gear], marks: Can) -> None:
    """Let "the man without one" be another man than "the man with the hat", where two are known."""
    people = context.people
    plain = who.head == "class" and not (who.fresh or who.meant or who.size or who.side or who.number)
    alike = [index for index in range(len(people.concepts)) if people.word(index) == who.value]
    present = [index for index in alike if index in people.cast]
    told = all(index in context.marked for index in present) and not any(marks(index) for index in present)
    if not plain or who.ordinal >= 0 or not present or not told or any(gear.owner is not None for gear in gears):
        return
    others = [index for index in alike if index not in present]
    said = " ".join([who.text, *(f"{gear.prep} {gear.text}".strip() for gear in gears)])
    if others:
        who.meant = (others[0],)
    chosen = people.name((others or present)[0])
    rest = f", not {' or '.join(map(people.name, present))}" if others else ", nobody else of that kind is known"
    context.note(f'"{said}" is taken as {chosen}{rest}; write the name if not.')


def _marks_of(context: Context, who: Who, gears: list[Gear], besides: Collection[int]) -> Can | None:
    """Say whether somebody wears and does now what the words say; None where they say nothing of that."""
    doing = who.doing
    if not gears and not doing:
        return None

    def fits(index: int) -> bool:
        does = not doing or context.stage.now.get((index, "action")) in (doing, *_resting(context, index, doing))
        return does and index not in besides and all(_wears(context, context.worn(index), gear) for gear in gears)

    return fits


def _resting(context: Context, index: int, doing: str) -> tuple[str, ...]:
    return ("", context.rest(index)) if doing in ("standing", "parked") else ()


def _tells(clause: Clause, place: int, who: Who) -> bool:
    """Say whether an accessory tells who somebody is."""
    gear = clause.parts[place]
    assert isinstance(gear, Gear)
    if gear.holder is who:
        return gear.prep in _WEARING
    verb = clause.verb
    worn = verb is not None and (verb.ing or clause.relative) and verb.item.has("wears", "have")
    if worn and clause.subjects == [who]:
        return True
    between = ("prep", "join") if gear.owner is not None else ("prep", "join", "negation")
    spot = place - 1
    while spot >= 0 and (isinstance(clause.parts[spot], Gear) or clause.parts[spot].kind in between):
        spot -= 1
    return spot >= 0 and clause.parts[spot] is who and gear.prep in _WEARING


def _wears(context: Context, worn: dict[str, str], gear: Gear) -> bool:
    if gear.absent or gear.prep == "without":
        # "Without one" is without what was named last.
        last = context.last[-1].accessory if context.last else ""
        return (gear.value or last) not in worn
    if not gear.value:
        return gear.colour in worn.values()
    return gear.value in worn and gear.colour in ("", worn[gear.value])
