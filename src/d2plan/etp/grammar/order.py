"""Put clauses into the order in which they happen, and fill in what they left out."""

import re
from itertools import pairwise

from d2plan.etp.grammar.chunks import Chunk, Gear, Place, Who
from d2plan.etp.grammar.clauses import GEAR_VERBS, Clause
from d2plan.etp.grammar.moved import move_clauses

_URGED = re.compile(r"\b(?:should|(?:asked|told|ordered|urged|invited|supposed|meant) to)\b")
_THINKS = re.compile(r"think|thought|believ|hope|wish|dream|imagin|expect|guess|suppos|fear")
_IT = ("it", "them", "one", "any")
_NAMING = ("name", "class", "classes", "singles", "groups")


def order_clauses(clauses: list[Clause]) -> list[Clause]:
    """Order clauses in time.

    Args:
        clauses: as the story tells them.

    Returns:
        The same in the order in which they happen, with subjects and verbs taken over where they were left out.
    """
    for clause in clauses:
        _turn_active(clause)
        _read_perfect(clause)
    _suppose(clauses)
    _urge_in_vain(clauses)
    _imagine(clauses)
    for clause, following in pairwise(clauses):
        # "Harbour at night: he parks at last" is one moment.
        following.later = following.later and not (clause.heading and clause.verb is None and not clause.subjects)
        _only_own(clause, following)
        _go_on_with_it(clause, following)
        # "Wearing a hat, John waves."
        verb = clause.verb
        dangling = verb is not None and verb.ing and not clause.subjects and clause.link == "sentence"
        if verb is not None and dangling and following.sentence == clause.sentence:
            clause.subjects, following.same = list(following.subjects), not verb.passive
        _fill_gap(clause, following)
    ordered = move_clauses(_order(clauses))
    _listen(clauses, ordered)
    return ordered


def _suppose(clauses: list[Clause]) -> None:
    """Let "if it rains, Leo runs and jumps" and "Leo runs if it rains" only be possible, all of it."""
    for place, clause in enumerate(clauses):
        if not clause.supposed:
            continue
        former = clauses[place - 1] if place else clause
        trails = bool(place) and former.sentence == clause.sentence and not (clause.fronted or former.sub)
        if trails and former.verb is not None and former.verb.item.has("mute", "looks", "urges"):
            # "Mia asks if Ben runs."
            continue
        hanging = [former] if trails else [one for one in clauses[place:] if one.sentence == clause.sentence]
        for one in hanging:
            one.unreal = True


def _urge_in_vain(clauses: list[Clause]) -> None:
    """Let "Mia asks Max to jump, but he does not" and "he should sit, but he runs" only be asked for."""
    for clause, following in pairwise(clauses):
        verb, then = clause.verb, following.verb
        if verb is None or not (_URGED.search(verb.text.lower()) or _is_urged(clauses, clause)):
            continue
        denied = following.copied is clause and any(part.kind == "negation" for part in following.parts)
        but = any(part.kind == "join" and part.text.lower() == "but" for part in clause.parts)
        instead = but and then is not None and then.finite and then.item.has("action") and not then.negated
        if denied or instead:
            clause.unreal, following.unreal = True, denied


def _imagine(clauses: list[Clause]) -> None:
    """Let what somebody only thinks, hopes or dreams not happen."""
    for clause, following in pairwise(clauses):
        inner = clause.verb is not None and _THINKS.match(clause.verb.item.text.lower()) and not clause.verb.ing
        whole = bool(clause.subjects) and all(part.kind in ("filler", "other") for part in clause.parts[clause.split :])
        told = following.subjects and following.link == "join" and following.sentence == clause.sentence
        if inner and whole and told and not (following.later or following.sub or following.earlier):
            following.unreal = True


def _is_urged(clauses: list[Clause], clause: Clause) -> bool:
    """Say whether somebody is told to do what a clause tells."""
    former = clauses[clauses.index(clause) - 1].verb
    return clause.verb is not None and clause.verb.infinitive and former is not None and former.item.has("urges")


def _only_own(clause: Clause, following: Clause) -> None:
    """Read "John has a hat, but does not wear it" as a hat that is not on."""
    verb, then = clause.verb, following.verb
    if verb is None or then is None or not verb.item.has("have") or following.sentence != clause.sentence:
        return
    if then.negated and then.item.has("wears", "have") and any(part.text.lower() in _IT for part in following.parts):
        for part in clause.parts:
            if isinstance(part, Gear):
                part.absent = True


def _go_on_with_it(clause: Clause, following: Clause) -> None:
    """Read "the hat is taken from Ben and given to Mia": what is done to the hat goes on."""
    former, verb = clause.verb, following.verb
    if former is None or verb is None or following.subjects or following.link != "join":
        return
    if former.item.has("takes") and not former.passive and verb.item.has("gives", "shifts"):
        clause.hands_on = not following.later and _hands_it(following)
    if not former.passive:
        return
    gears = [part for part in clause.parts if isinstance(part, Gear)]
    named = any(isinstance(part, Gear) for part in following.parts)
    if named or not _is_worn(clause) or not verb.item.has("gives", "shifts", "loses", "takes"):
        return
    if "part" in verb.item.forms and "ing" not in verb.item.forms:
        verb.passive, verb.ing, verb.finite = True, False, True
        value, colour = (gears[0].value, gears[0].colour) if gears else ("", "")
        following.parts.insert(0, Gear("gear", "it", value, colour=colour, definite=True))
        following.split += 1


def _hands_it(clause: Clause) -> bool:
    """Tell "and gives it to Mia" from "and puts it on"."""
    whos = [part for part in clause.parts if isinstance(part, Who)]
    others = [who for who in whos if not who.text.lower().endswith(("it", "them", "self"))]
    return len(whos) - len(others) == 1 and len(others) == 1


def _turn_active(clause: Clause) -> None:
    """Turn "the hat is put on by Leo" into "Leo puts on the hat"."""
    verb = clause.verb
    if verb is None or not verb.passive or not (_is_worn(clause) or verb.item.has("action")):
        return
    for place, part in enumerate(clause.parts):
        before = clause.parts[place - 1] if place else Chunk("stop", "")
        if isinstance(part, Who) and before.text.lower() == "by":
            it = clause.subjects
            clause.subjects, verb.passive = [part], False
            for who in clause.parts[:place]:
                if isinstance(who, Who) and who.body and " own " not in who.text.lower():
                    who.ahead = True
            del clause.parts[place - 1 : place + 1]
            clause.parts[:0] = it
            return


def _is_worn(clause: Clause) -> bool:
    """Say whether the subject is an accessory, or "it" that must be one."""
    if not clause.subjects:
        return any(isinstance(part, Gear) for part in clause.parts[: clause.split])
    gear = any(isinstance(part, Gear) for part in clause.parts)
    thing = len(clause.subjects) == 1 and clause.subjects[0].text.lower() in ("it", "they")
    moved = clause.verb is not None and clause.verb.item.has("shifts", "loses", "takes", "wears")
    return thing and moved and not gear


def _read_perfect(clause: Clause) -> None:
    """Read "when he had slept" as after it, and "because he had slept" as earlier."""
    if clause.verb is not None and clause.relative and clause.verb.text.lower().startswith("will "):
        # "Mia, who will jump, sits": not now.
        clause.unreal = True
    if clause.verb is None or not clause.verb.perfect:
        return
    if clause.sub == "when":
        clause.sub = "once"
    elif clause.sub == "while":
        clause.sub = "after"


def _fill_gap(clause: Clause, following: Clause) -> None:
    """Take over the verb of "puts on a hat and then a scarf", "Tom wakes up, Rex later", "runs, then to the beach"."""
    if following.verb is not None or following.copied is not None or clause.verb is None or not following.later:
        return
    if following.sentence != clause.sentence:
        return
    gears = any(isinstance(part, Gear) and not part.prep for part in following.parts)
    if gears and not following.subjects and clause.verb.item.has(*GEAR_VERBS):
        following.verb, following.subjects, following.gapped = clause.verb, list(clause.subjects), True
        following.parts += [part for part in clause.parts if part.kind in ("particle", "prep")]
    elif not following.subjects and clause.verb.item.has(*GEAR_VERBS) and _is_on_somebody(following):
        following.verb, following.subjects, following.gapped = clause.verb, list(clause.subjects), True
        following.parts.append(Gear("gear", "it", definite=True))
    elif following.subjects and not any(part.kind in ("state", "gear", "place", "light") for part in following.parts):
        following.copied = clause
    elif _goes_on(following):
        following.verb, following.gapped = clause.verb, True
        following.subjects = following.subjects or list(clause.subjects)


def _is_on_somebody(clause: Clause) -> bool:
    """Tell "then on the dog" of "puts a crown on the cat, then on the dog"."""
    parts = [part for part in clause.parts if part.kind not in ("comma", "join", "filler")]
    return len(parts) == 2 and parts[0].text.lower() in ("on", "onto", "around", "to") and isinstance(parts[1], Who)


def _goes_on(clause: Clause) -> bool:
    """Tell "then over the mountains" and "then again at night", which say only where or when."""
    kinds = {part.kind for part in clause.parts}
    return any(isinstance(part, Place) and part.mode != "bare" for part in clause.parts) and not kinds & {
        "state",
        "gear",
        "light_change",
        "unknown",
    }


def _order(clauses: list[Clause]) -> list[Clause]:
    ordered: list[Clause] = []
    place = 0
    while place < len(clauses):
        clause = clauses[place]
        fronted = (
            clause.fronted
            or clause.link == "sentence"
            or not ordered
            or ordered[-1].sentence != clause.sentence
            or clause.later
        )
        reach = _find_main(clauses, place) if clause.sub and fronted else None
        if reach is None and clause.sub == "after" and clause.link == "sentence" and ordered:
            # "Mia sits. After she runs." is "afterwards".
            clause.sub, clause.later = "", True
        if reach is not None:
            end = _find_end(clauses, reach) if clause.sub in ("before", "until") else reach + 1
            mains = _order(clauses[reach:end]) if end - reach > 1 else clauses[reach:end]
            if clause.sub == "before" and ordered and _repeats(clause, ordered[-1]):
                clauses[reach].earlier, clauses[reach].link = True, "sentence"
                ordered += clauses[reach:end]
                place = end
                continue
            ordered += _lead(clauses[place:reach], mains)
            place = end
            continue
        if clause.sub and ordered:
            _trail(clause, ordered)
        else:
            ordered.append(clause)
        place += 1
    return ordered


def _repeats(clause: Clause, former: Clause) -> bool:
    """Tell "Leo waves. Before he waved, he slept", which tells the waving once."""
    if clause.verb is None or former.verb is None or not clause.verb.item.has("action", "waking"):
        return False
    senses, same = clause.verb.item.senses, former.verb.item.senses
    return senses.get("action") == same.get("action") and ("waking" in senses) == ("waking" in same)


def _find_main(clauses: list[Clause], place: int) -> int | None:
    """Find the clause on which one before it depends: "when Mia came in and waved, it woke up"."""
    following = [
        index for index in range(place + 1, len(clauses)) if clauses[index].sentence == clauses[place].sentence
    ]
    named = [index for index in following if clauses[index].subjects and clauses[index].link != "relative"]
    if not clauses[place].subjects:
        return following[0] if following else None
    return named[0] if named else (following[0] if following else None)


def _find_end(clauses: list[Clause], main: int) -> int:
    """Find where "she waves and smiles" ends in "before she sits down, she waves and smiles, and then ..."."""
    end = main + 1
    while end < len(clauses) and clauses[end].sentence == clauses[main].sentence:
        trails = clauses[end].sub and not clauses[end].fronted
        if clauses[end].later or clauses[end].earlier or (clauses[end].sub and not trails):
            break
        end += 1
    return end


def _lead(led: list[Clause], mains: list[Clause]) -> list[Clause]:
    """Order clauses that stand before those on which they depend."""
    clause, main = led[0], mains[0]
    # "While smiling, Mia puts on a hat" has its subject from the main clause.
    own = bool(clause.subjects) and not any(who is clause.subjects[0] for who in main.subjects)
    main.amid = clause.sub in ("when", "while") and own
    if not clause.subjects and clause.verb is not None:
        clause.subjects = list(main.subjects)
    if clause.sub == "until" and main.verb is not None and main.verb.negated:
        # "Until Ben waves, Mia does not smile": then she does.
        clause.sub, main.verb.negated = "once", False
    if clause.sub in ("before", "until"):
        clause.ends = clause.sub == "until"
        main.link, main.later, clause.later = clause.link, clause.later or main.later, True
        clause.link = "join"
        return [*mains, *led]
    main.over = clause.is_over
    if clause.sub in ("after", "once"):
        # "As soon as Rex begins to run, Mia waves" is one moment.
        starts = clause.sub == "once" and clause.verb is not None and clause.verb.aspect == "start"
        arrives = starts or all(one.only_arrives for one in led)
        main.later, clause.later = main.later or not arrives, clause.later or arrives
    clause.later = clause.later or (clause.fronted and clause.sub == "when")
    more = [one for one in led[1:] if one.verb is not None and not one.subjects and one.link == "join"]
    if clause.sub == "while" and more and len(more) == len(led) - 1:
        # "While Rex runs and jumps, Mia waves" from the beginning.
        led = led[:1]
        for one in more:
            one.subjects = list(clause.subjects)
    main.same = main.same or clause.sub in ("when", "while")
    main.link = "join"
    return [*led, *mains, *(more if len(led) == 1 else [])]


def _trail(clause: Clause, ordered: list[Clause]) -> None:
    """Order a clause that stands behind the one on which it depends."""
    former = ordered[-1]
    if clause.sub == "until" and former.verb is not None and former.verb.negated:
        # "Mia does not smile until Ben waves": then she does.
        clause.sub, former.verb.negated = "once", False
    if not clause.subjects and clause.verb is not None and (not clause.verb.finite or clause.sub == "after"):
        clause.subjects = list(former.subjects)
    if clause.sub in ("after", "once"):
        spot = len(ordered) - 1
        while spot and ordered[spot].link != "sentence" and not (ordered[spot].later or ordered[spot].sub):
            if ordered[spot - 1].sub == "before" and ordered[spot].verb is not None:
                # "Takes it off before running and puts it on after sitting down"
                break
            spot -= 1
        begun = ordered[spot]
        begun.over = clause.is_over
        clause.link, clause.later = begun.link, begun.later
        begun.link, begun.later = "join", not clause.only_arrives
        ordered.insert(spot, clause)
        return
    clause.later = clause.later or clause.sub in ("before", "until")
    clause.ends = clause.sub == "until"
    clause.same = clause.same or clause.sub in ("when", "while")
    ordered.append(clause)


def _listen(told: list[Clause], ordered: list[Clause]) -> None:
    """Keep for each clause whom the reader has heard of, although it happens later, and who is named behind it."""
    happens = {id(clause): place for place, clause in enumerate(ordered)}
    for place, clause in enumerate(told):
        before = [other for other in told[:place] if happens.get(id(other), -1) > happens.get(id(clause), -1)]
        behind = [other for other in told[place + 1 :] if other.sentence == clause.sentence]
        clause.heard = [who for other in reversed(before) for who in _named(other)]
        clause.coming = [who for other in behind for who in _named(other)]


def _named(clause: Clause) -> list[Who]:
    whos = [*clause.subjects, *(part for part in clause.parts if isinstance(part, Who))]
    return [who for who in whos if who.head in _NAMING]
