"""Doubts about the order in time: "she was asleep" behind "Mia runs", "he will sleep" before "now he runs"."""

from collections.abc import Sequence

from d2plan.etp.grammar.chunks import Verb
from d2plan.etp.grammar.clauses import Clause

_FIRST_WORDS = {
    "past": ("was", "were", "did", "had"),
    "future": ("will", "shall", "'ll"),
    "present": ("is", "are", "am", "'s", "has", "have", "do", "does"),
}


def doubt_tenses(clauses: Sequence[Clause]) -> list[str]:
    """Find clauses whose tense says that they happen earlier or later than they are shown.

    Args:
        clauses: as told, after their order in time was found out.

    Returns:
        A note about each.
    """
    notes, former = [], None
    for clause in clauses:
        if clause.verb is None or clause.unreal or clause.verb.unreal or clause.relative or clause.sub:
            continue
        tense = tense_of(clause.verb)
        if not tense or clause.moved:
            continue
        if former is not None and former.verb is not None:
            before = tense_of(former.verb)
            marked = clause.later or clause.same or clause.earlier
            if (before, tense) == ("present", "past") and clause.link == "sentence" and not marked:
                notes.append(f'"{clause.text}" is told in the past, but shown after "{former.text}".')
            elif before == "future" and tense == "present" and (clause.now or not marked):
                notes.append(f'"{former.text}" is told in the future, but shown before "{clause.text}".')
        former = clause
    return notes


def tense_of(verb: Verb) -> str:
    """Say in which tense a verb stands.

    Args:
        verb: with all its words.

    Returns:
        "past", "present" or "future"; empty where its form tells nothing.
    """
    first = verb.text.lower().split()[0] if verb.text else ""
    if " going to " in verb.text.lower():
        return "future"
    for tense, words in _FIRST_WORDS.items():
        if first in words:
            return tense
    if not verb.finite or "past" in verb.item.forms:
        return "past" if verb.finite and not verb.item.forms & {"base", "s"} else ""
    return "present" if verb.item.forms & {"base", "s"} else ""
