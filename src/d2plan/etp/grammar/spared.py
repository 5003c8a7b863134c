"""What a clause says is left as it is: "takes off the hat, but not the scarf"."""

from d2plan.etp.grammar.chunks import Gear
from d2plan.etp.grammar.clauses import GEAR_VERBS
from d2plan.etp.grammar.stage import Change
from d2plan.etp.grammar.telling import Context, Telling


def spare_gear(context: Context, telling: Telling) -> None:
    """Leave out the accessories to which a clause says that nothing happens.

    Args:
        context: the story so far; who keeps something on that was never told has worn it all the time.
        telling: the clause, with its subjects; what is left as it is is taken from its accessories.
    """
    verb, parts = telling.clause.verb, telling.clause.parts
    spared = [
        part
        for place, part in enumerate(parts)
        if isinstance(part, Gear) and place >= telling.clause.split and _is_denied(telling, place)
    ]
    if verb is None or verb.negated or not verb.item.has(*GEAR_VERBS, "swaps") or len(spared) >= len(telling.gears):
        return
    if verb.item.has("wears", "have"):
        for gear in spared:
            gear.absent = True
        return
    telling.gears = [gear for gear in telling.gears if not any(gear is one for one in spared)]
    parted = telling.particle == "off" or verb.item.has("loses")
    for gear in spared:
        # "Ben gives Mia his hat, but not his scarf."
        given = verb.item.has("gives") and not (verb.passive or telling.particle) and gear.owner is not None
        kept = [(index, gear.value) for index in telling.subjects if gear.value and (parted or given)]
        context.stage.hold([Change(one, gear.colour) for one in kept if one not in context.stage.ever])


def _is_denied(telling: Telling, place: int) -> bool:
    """Tell "but not the scarf" from "not only the scarf"."""
    before = telling.clause.parts[place - 1] if place else None
    return before is not None and before.kind == "negation" and before.value == "not"
