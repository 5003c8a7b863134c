"""What a clause takes over from those before it: "Mia, too", "cut to Rex, who runs"."""

from d2plan.etp.grammar.chunks import Verb
from d2plan.etp.grammar.clauses import Clause


def tells_all(clauses: list[Clause], clause: Clause) -> bool:
    """Read "cut to Rex, who runs" as "cut to: Rex runs".

    Args:
        clauses: told before it.
        clause: in which somebody is only named.

    Returns:
        False where the relative clause only describes.
    """
    relative = next((one for one in reversed(clauses) if one.link == "relative"), None)
    small = all(part.kind in ("comma", "join", "other", "filler") for part in clause.parts)
    if relative is None or relative.sentence != clause.sentence or clause.verb is not None or not small:
        return False
    relative.link, relative.same, relative.later = clause.link, clause.same, clause.later or relative.later
    relative.parts += [part for part in clause.parts if part.kind == "other"]
    return True


def lose_particles(clause: Clause) -> None:
    """Take "off" of "Off." and "On again." for no part of what stands before.

    Args:
        clause: a sentence of small words only; changed.
    """
    for part in clause.parts:
        if part.kind == "particle":
            part.kind, part.value = "unknown", ""


def find_echoed(clauses: list[Clause], verb: Verb) -> Clause | None:
    """Find what "and now he is" or "so does Mia" says again.

    Args:
        clauses: told before it.
        verb: "is", "does".

    Returns:
        The last clause with such a verb, else the last one with any; None where there is none.
    """
    told = [one for one in reversed(clauses) if one.verb]
    being = [one for one in told if one.verb and (one.verb.progressive or one.verb.item.has("be"))]
    return next(iter(being if being and verb.item.has("be") else told), None)


def take_too(clauses: list[Clause], clause: Clause) -> None:
    """Read "Mia, too." as the same that was told before.

    Args:
        clauses: told before it.
        clause: the last one; changed.
    """
    words = [part.text.lower() for part in clause.parts if part.kind not in ("comma", "join")]
    too = bool(words) and all(word in ("too", "also", "as well", "likewise", "again", "then") for word in words)
    if clause.verb is None and clause.copied is None and clause.subjects and too and not clause.relative:
        clause.copied = next((one for one in reversed(clauses) if one.verb), None)


def goes_back(clauses: list[Clause], verb: Verb, closed: bool) -> bool:
    """Say whether a verb is told of who was named before the one in the clause that just ended.

    Args:
        clauses: as far as they were told.
        verb: which follows.
        closed: a comma and "and" stand before it.

    Returns:
        Whether it is, as in "Lily wakes Rex, who had slept, and waves", "runs past Max, who sleeps, and waves", "sees
        Max sleeping and waves".
    """
    if len(clauses) < 2 or not clauses[-2].subjects:
        return False
    former, clause = clauses[-2:]
    watched = former.verb is not None and former.verb.item.has("looks") and not former.verb.item.has("causes")
    seen = watched and clause.verb is not None and clause.verb.ing and bool(clause.subjects) and verb.finite
    return (clause.tells_past and not verb.perfect) or (clause.relative and closed) or seen
