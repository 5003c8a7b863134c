"""Who is meant by what they wear or do: "the girl in the orange scarf", "the sleeping dog", "the one with a hat"."""

from d2plan.etp.grammar.chunks import Gear, Who
from d2plan.etp.grammar.clauses import Clause
from d2plan.etp.grammar.people import Can
from d2plan.etp.grammar.telling import Context

_WEARING = ("with", "in", "wearing", "without")


def marks_of(context: Context, clause: Clause, who: Who) -> Can | None:
    """Say how to tell somebody from others of the same kind.

    Args:
        context: the story so far.
        clause: in which they are named.
        who: the words.

    Returns:
        Whether somebody wears and does now what the words say; None where they say nothing of that.
    """
    gears = [part for place, part in enumerate(clause.parts) if isinstance(part, Gear) and _tells(clause, place, who)]
    doing = who.doing
    if not gears and not doing:
        return None

    def fits(index: int) -> bool:
        does = not doing or context.stage.now.get((index, "action")) in (doing, *_resting(context, index, doing))
        return does and all(_wears(context.worn(index), gear) for gear in gears)

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
    spot = place - 1
    while spot >= 0 and (isinstance(clause.parts[spot], Gear) or clause.parts[spot].kind in ("prep", "join")):
        spot -= 1
    return spot >= 0 and clause.parts[spot] is who and gear.prep in _WEARING


def _wears(worn: dict[str, str], gear: Gear) -> bool:
    if gear.absent or gear.prep == "without":
        return gear.value not in worn
    if not gear.value:
        return gear.colour in worn.values()
    return gear.value in worn and gear.colour in ("", worn[gear.value])
