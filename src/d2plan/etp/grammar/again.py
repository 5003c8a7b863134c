"""What is told once more of somebody else: "and so does Mia", "by day she does not"."""

from dataclasses import replace

from d2plan.etp.grammar.chunks import Chunk, Gear, Who
from d2plan.etp.grammar.clauses import Clause

_SETTING = ("light", "place")


def copy_clause(clause: Clause, former: Clause) -> Clause | None:
    """Write out a clause that says only who does again what was told.

    Args:
        clause: such as "and so does Mia".
        former: what is told again.

    Returns:
        The whole clause; None where the former one has no verb.
    """
    verb = former.verb
    if verb is None:
        return None
    negations = [part.text for part in clause.parts if part.kind == "negation"]
    negated = bool(negations)
    verb = replace(verb, negated=negated, text=verb.text if negated else verb.text.replace(" not", ""))
    if negated and verb.aspect == "stop":
        # "Ben stops waving, but Tom does not": he goes on.
        verb = replace(verb, negated=False, aspect="", progressive=True)
    again = replace(former, verb=verb, subjects=clause.subjects, link="join", moved="")
    if verb.item.has("action"):
        # "He waves to her. She does the same": not to herself.
        again.parts = [part for part in former.parts if not (isinstance(part, Who) and part.head == "pronoun")]
    again.parts = [_as_own(part) if isinstance(part, Gear) else part for part in again.parts]
    again.parts, again.split = _set_anew(again, clause)
    # "Mia wore no hat. Now she does": it comes on. "She no longer does" is a change.
    later = clause.later or any("longer" in text or "more" in text for text in negations)
    return replace(again, same=clause.same, later=later, now=clause.now)


def _set_anew(again: Clause, clause: Clause) -> tuple[list[Chunk], int]:
    """Let "by day she does not" be by day, although what she did was told of the night."""
    own = [part for part in clause.parts if part.kind in _SETTING]
    kinds = {part.kind for part in own}
    before, behind = again.parts[: again.split], again.parts[again.split :]
    before = [part for part in before if part.kind not in kinds]
    return [*before, *(part for part in behind if part.kind not in kinds), *own], len(before)


def _as_own(gear: Gear) -> Gear:
    """Let "the girl takes hers off, and the boys do, too" be theirs."""
    own = gear.owner is not None and gear.owner.head == "pronoun"
    return replace(gear, owner=Who("who", "their", "they", head="pronoun"), colour="") if own else gear
