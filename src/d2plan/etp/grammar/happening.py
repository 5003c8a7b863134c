"""Let what a clause says happen: in which moment it is seen, and what had to be decided."""

from dataclasses import replace

from d2plan.etp.grammar.clauses import Clause
from d2plan.etp.grammar.stage import SCENE, Change
from d2plan.etp.grammar.telling import Context, Telling

_ONWARDS = "still,keeps,kept,continues,continued,carries on,carried on,goes on,went on".split(",")
_HOURS = [
    f"it {be} {hour}"
    for be in ("is", "was")
    for hour in "morning,evening,night,day,noon,midday,midnight,sunset,dusk".split(",")
]
PLAIN_BEINGS = ("be", "stays", "have")


def apply(context: Context, telling: Telling) -> None:
    """Let the changes of a clause happen, and note what had to be decided.

    Args:
        context: the story so far; changed.
        telling: the clause with its changes.
    """
    clause, people = telling.clause, context.people
    late, early, count = len(context.stage.late), len(context.stage.early), len(context.stage.moments)
    if clause.always or _describes(context, telling):
        telling.changes = context.stage.hold(telling.changes)
    elif count > 1 and _goes_on(clause):
        lasts = clause.verb is None or clause.verb.aspect == "start"
        begun = [change for change in telling.changes if change.begins and not lasts]
        telling.changes = [*context.stage.hold([c for c in telling.changes if c not in begun]), *begun]
    instead = any(part.text.lower() == "instead" for part in clause.parts)
    if (clause.now or instead) and clause.verb is not None and clause.verb.item.has("wears", "have"):
        # "And now he has a scarf", "he wears a scarf instead": not before.
        telling.changes = [_comes_on(change) for change in telling.changes]
    context.opening = clause.sentence if context.opening < 0 and telling.changes else context.opening
    lost = context.stage.apply(
        telling.changes,
        _relation(context, clause),
        telling.moving,
        _is_setting(context, telling),
        _is_framed(context, telling),
    )
    context.stage.own = _dresses_itself(telling)
    now = clause.now and clause.link == "join" and len(context.stage.moments) > count
    if context.stage.split or now:
        context.note(f'"{clause.text}" is a moment of its own, after what stands before it.')
    elif context.stage.parted or (len(context.stage.moments) > count and clause.amid):
        context.note(f'"{clause.text}" begins there, so what stands before it is a moment of its own.')
    elif len(context.stage.moments) > count and _is_unmarked(context, telling):
        context.note(f'"{clause.text}" is taken to happen after what stands before it, not at the same time.')
    for change in context.stage.late[late:] if not clause.later else []:
        name, gear = people.name(change.dimension[0]), change.dimension[1]
        context.note(f'"{clause.text}": {name} is shown with the {gear} from this moment on, not before.')
    for change in context.stage.early[early:]:
        name, gear = people.name(change.dimension[0]), change.dimension[1]
        context.note(f'"{clause.text}": {name} is shown with the {gear} from the first moment on.')
    for action in lost:
        context.note(f'"{clause.text}": a picture shows one action of each, so "{action}" is left out.')


def _goes_on(clause: Clause) -> bool:
    """Find "Max wakes up, but Mia is still asleep" and "sleeps on", which was so before, although nobody told it."""
    verb = clause.verb
    said = f" {clause.text.lower()} "
    onwards = verb is not None and verb.item.has("action") and verb.item.text.lower().endswith(" on")
    return onwards or any(f" {word} " in said for word in _ONWARDS)


def _is_unmarked(context: Context, telling: Telling) -> bool:
    """Tell "Rex runs. Tom sits.", which leaves open when, from "Rex runs. He sits." and "then Tom sits"."""
    if telling.clause.later or telling.clause.sub or context.stage.moments[-2].setting:
        return False
    before = {who for who, _ in context.stage.moments[-2].told}
    return not before & {change.dimension[0] for change in telling.changes if change.dimension[0] != SCENE}


def _comes_on(change: Change) -> Change:
    worn = change.state and change.value is not None and change.dimension[0] != SCENE
    return replace(change, state=False, before=None) if worn and change.dimension[1] != "action" else change


def _is_framed(context: Context, telling: Telling) -> bool:
    """Say whether what is put on is seen together with something else: "smiling, she puts on a hat"."""
    clause = telling.clause
    if clause.same and clause.verb is not None and clause.verb.progressive:
        return True
    # "While Mia sleeps, Ben puts on a hat": the sleeping went on before.
    beside = clause.same and not clause.amid and any(who in telling.subjects for who, _ in context.stage.now.told)
    # "On the beach, Mia puts on a hat": being there does not show her with it yet.
    own = _dresses_itself(telling)
    shown = any(not (c.needs_before or (own and c.dimension[0] == SCENE)) for c in telling.changes)
    return clause.sentence == context.opening and (beside or shown)


def _dresses_itself(telling: Telling) -> bool:
    """Tell "Mia puts on a hat" from "Mia puts a hat on Ben", where it is on him in the first moment."""
    wearers = [change.dimension[0] for change in telling.changes if change.puts_on]
    return bool(wearers) and all(index in telling.subjects for index in wearers)


def _describes(context: Context, telling: Telling) -> bool:
    """Tell "he was in the snow, with a crown on", which says late how things were all the time."""
    clause = telling.clause
    being = clause.verb is not None and clause.verb.item.has("be") and clause.link == "sentence"
    fresh = any(change.dimension == (SCENE, "place") and change.state for change in telling.changes)
    return being and fresh and not clause.later and len(context.stage.moments) > 1


def _relation(context: Context, clause: Clause) -> str:
    dangling = clause.verb is not None and clause.verb.ing and not clause.subjects
    if context.stage.waits and dangling and clause.link == "join" and not clause.later:
        # "Off he goes, sprinting": that is how he goes, in a moment of its own.
        return "join"
    if clause.later and not _results(clause):
        return "later"
    if clause.same or clause.link in ("relative", "with"):
        return "relative" if clause.relative else "same"
    return "sentence" if clause.link == "sentence" else "join"


def _results(clause: Clause) -> bool:
    """Tell "he puts the hat away and now he has a scarf", which is one moment, from "and now he runs"."""
    verb = clause.verb
    return clause.now and clause.link == "join" and verb is not None and verb.item.has("wears", "have")


def _is_setting(context: Context, telling: Telling) -> bool:
    """Tell "they are on the beach", in which nothing is done."""
    verb = telling.clause.verb
    plain = verb is None or (verb.item.has(*PLAIN_BEINGS) and not verb.negated)
    scene = all(change.dimension[0] == SCENE for change in telling.changes)
    lights = any(change.dimension[1] == "light" for change in telling.changes)
    if (
        verb is None
        and not telling.clause.subjects
        and all(part.kind != "light_change" for part in telling.clause.parts)
    ):
        # "Exterior, beach, day." is the heading of what follows.
        return scene
    begins = len(context.stage.moments) == 1 and context.stage.now.setting
    # "It was night. John ran. It was morning. He slept."
    still = any(part.kind == "light_change" and part.text.lower() in _HOURS for part in telling.clause.parts)
    return plain and scene and (begins or not lights or still)
