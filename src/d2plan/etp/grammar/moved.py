"""Stories that are not told in order: "in the end", "but first", "before that", "she had slept"."""

from d2plan.etp.grammar.clauses import GEAR_VERBS, Clause

_DEEDS = ("action", "waking", "ending", "moves", *(kind for kind in GEAR_VERBS if kind != "have"))


def move_clauses(clauses: list[Clause]) -> list[Clause]:
    """Move clauses to where they happen.

    Args:
        clauses: as told, those with "before" and "after" already in order.

    Returns:
        The same in the order in which they happen; those that were moved say so.
    """
    ending = _find_ending(clauses)
    ordered: list[Clause] = []
    rest = clauses[len(ending) :]
    for clause in rest:
        clause.first = clause.first or (clause.opens and (bool(ending) or any(other.earlier for other in rest)))
    place = 0
    while place < len(rest):
        clause = rest[place]
        end = place + 1
        if ordered and _goes_back(clause, ordered, rest[place - 1]):
            while end < len(rest) and _belongs(rest[end], clause):
                end += 1
            _insert(rest[place:end], ordered, rest[place - 1])
        else:
            if clause.opens and _done(ordered):
                clause.moved = "after what stands before it"
            ordered.append(clause)
        place = end
    if ending:
        ordered[0].link = "sentence"
        ending[0].later, ending[0].link = True, "sentence"
        ending[0].moved = "at the end"
    return [*ordered, *ending]


def _find_ending(clauses: list[Clause]) -> list[Clause]:
    """Find "in the end, everybody sleeps" at the beginning of a story that goes on with what was before."""
    if not clauses:
        return []
    first = [clause for clause in clauses if clause.sentence == clauses[0].sentence]
    told = [clause for clause in first if not (clause.earlier or clause.first)]
    rest = clauses[len(first) :]
    if not first[0].last or len(told) < len(first) or not rest:
        return []
    back = any(clause.earlier or clause.first for clause in rest)
    return [] if rest[0].later and not back else first


def _goes_back(clause: Clause, ordered: list[Clause], former: Clause) -> bool:
    if clause.first:
        return _done(ordered)
    if clause.earlier:
        return True
    if clause.verb is None or not clause.verb.perfect or clause.link != "sentence":
        return False
    plain = former.verb is not None and not former.verb.perfect and former.verb.item.has(*_DEEDS)
    return plain and not (clause.later or clause.same or clause.sub) and former.sentence < clause.sentence


def _done(clauses: list[Clause]) -> bool:
    """Say whether anything was done in some clauses, or whether they only say how things are."""
    return any(clause.verb is not None and clause.verb.item.has(*_DEEDS) for clause in clauses)


def _belongs(clause: Clause, first: Clause) -> bool:
    return clause.sentence == first.sentence and not clause.earlier


def _insert(block: list[Clause], ordered: list[Clause], former: Clause) -> None:
    """Put clauses before what was told just before them, all of it that happens together."""
    head = block[0]
    spot = 0 if head.first else next(place for place, clause in enumerate(ordered) if clause is former)
    while spot and ordered[spot].link != "sentence" and not ordered[spot].later:
        spot -= 1
    after = ordered[spot]
    if not head.subjects and head.verb is not None:
        head.subjects = list(former.subjects)
    if not after.subjects and after.verb is not None:
        after.subjects = next((list(clause.subjects) for clause in reversed(ordered[:spot]) if clause.subjects), [])
    head.link, head.later = after.link, after.later
    after.link, after.later = "sentence", True
    head.moved = f'before "{after.text}"'
    ordered[spot:spot] = block
