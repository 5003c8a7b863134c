"""What a clause changes in what somebody does."""

from dataclasses import replace

from d2plan.etp.grammar.chunks import Chunk, Verb
from d2plan.etp.grammar.people import Can
from d2plan.etp.grammar.stage import Change
from d2plan.etp.grammar.telling import Context, Telling
from d2plan.etp.grammar.unshown import leave_out
from d2plan.etp.grammar.words import Item

_STEADY = (
    "sleep",
    "slept",
    "sit",
    "sat",
    "stand",
    "stood",
    "lie",
    "lay",
    "lain",
    "lying",
    "park",
    "slumber",
    "doz",
    "snooz",
    "nap",
    "wait",
)
_BEGINS = tuple(
    "start,begin,began,fall,fell,go,went,"
    "sit down,sits down,sat down,sitting down,lie down,lies down,lay down,take,took,"
    "has a seat,have a seat,had a seat,having a seat,doz,drift,nod,"
    "drop,break,burst,settle,open,unzip".split(",")
)
_NAMED = ("name", "class", "pronoun")
_SPEEDING = tuple("rac,zoom,rush,dash,tear,tore,hurtl,whizz,charg,streak,hurr,bolt".split(","))
_FLY = Item("takes off", {"action": "flying"}, frozenset({"s"}))
_RUN = Item("takes off", {"action": "running", "about": "running"}, frozenset({"s"}))
_BESIDE_THE_POINT = ("parked", "opening", "pouring", "driving", "steaming", "flying")


def can_do(context: Context, verb: Verb) -> Can:
    """Say who can be the one that a verb is about.

    Args:
        context: the story so far.
        verb: of the clause.

    Returns:
        Whether somebody fits: can be drawn so, or for waking up, sleeps.
    """
    item = verb.item

    def fits(index: int) -> bool:
        if item.has("waking"):
            return context.stage.now.get((index, "action")) == "sleeping"
        if item.has("action"):
            return pose(context, index, item.value("action")) in context.actions_of(index)
        return True

    return fits


def pose(context: Context, index: int, action: str) -> str:
    """Give an action as somebody's class calls it: resting is standing, or parked for a car."""
    return context.rest(index) if action in ("standing", "parked", "rest") else action


def tell_deed(context: Context, telling: Telling, verb: Verb) -> bool:
    """Read a clause whose verb is something to be seen doing.

    Args:
        context: the story so far.
        telling: the clause; changes are added to it.
        verb: its verb.

    Returns:
        False where the verb is of another kind.
    """
    item = verb.item
    if _is_take_off(context, telling, verb):
        flies = all("flying" in context.actions_of(index) for index in telling.subjects)
        return _tell_action(context, telling, replace(verb, item=_FLY if flies else _RUN))
    if item.has("action") and not (item.has("halting") and not telling.subjects):
        return _tell_action(context, telling, verb)
    if item.has("waking"):
        _tell_waking(context, telling, verb)
    elif item.has("ending", "halting") or (item.has("stops") and not telling.gears):
        telling.shown = True
        # "John stops the car", "Mia closes the backpack"
        for index in [] if verb.negated else telling.direct or telling.subjects:
            telling.add(Change((index, "action"), context.rest(index), weak=True))
        telling.moving = not verb.negated
    else:
        return False
    return True


def _is_take_off(context: Context, telling: Telling, verb: Verb) -> bool:
    """Tell "the bird takes off" from "the boy takes off his hat"."""
    takes = verb.item.has("takes") and verb.item.text.lower().startswith(("take", "took", "taking"))
    parts = telling.clause.parts
    others = telling.gears or telling.direct or any(part.text.lower() in ("it", "them") for part in parts)
    others = others or any(part.kind in ("unknown", "all_gear", "who") or part.value == "garment" for part in parts)
    return takes and telling.particle == "off" and bool(telling.subjects) and not others and not verb.passive


def tell_states(context: Context, telling: Telling) -> None:
    """Read "asleep", "seated", "the running dog".

    Args:
        context: the story so far.
        telling: the clause.
    """
    for place, part in enumerate(telling.clause.parts):
        if part.kind == "state":
            telling.shown = True
            _tell_state(context, telling, place, part)
    who_does = [(who, telling.subjects) for who in telling.clause.subjects]
    for who, found in [*who_does, *((who, found) for _, who, found in telling.objects)]:
        if who.doing and len(found) >= 1:
            _tell_doing(context, telling, who.doing, found if len(telling.clause.subjects) < 2 else found[:1])


def _tell_state(context: Context, telling: Telling, place: int, part: Chunk) -> None:
    verb = telling.clause.verb
    becoming = verb is not None and verb.item.has("turns", "gets")
    denied = place > 0 and denies_state(telling.clause.parts, place - 1)
    acted = any(change.dimension[1] == "action" for change in telling.changes)
    # "Seeing Mia asleep, Max takes her hat": it is she who sleeps.
    seen = telling.direct if verb is not None and verb.item.has("looks") else []
    for index in seen or telling.subjects:
        action = pose(context, index, part.value)
        if action not in context.actions_of(index):
            leave_out(context, telling, index, part.text)
        elif denied and acted:
            _begin_from(context, telling, index, action)
        elif denied or (verb is not None and verb.negated):
            _end(context, telling, index, action)
        elif acted and part.text.lower().startswith("with"):
            context.note(f'"{telling.clause.text}": a picture shows one action of each, so "{part.text}" is left out.')
        elif not acted:
            resting = action == context.rest(index)
            telling.add(
                Change((index, "action"), action, weak=resting, state=not becoming and verb is None, begins=becoming)
            )


def denies_state(parts: list[Chunk], place: int) -> bool:
    """Tell "Ben, no longer asleep, waves", who does wave, from "Ben no longer waves"."""
    return parts[place].kind == "negation" and place + 1 < len(parts) and parts[place + 1].kind == "state"


def _begin_from(context: Context, telling: Telling, index: int, action: str) -> None:
    """Let who is "no longer asleep" and waves have slept just before."""
    dimension = (index, "action")
    if telling.no_longer and dimension not in context.stage.ever:
        telling.changes = [
            replace(change, before=action) if change.dimension == dimension else change for change in telling.changes
        ]


def _tell_doing(context: Context, telling: Telling, doing: str, found: list[int]) -> None:
    for index in found:
        if (index, "action") in context.stage.ever:
            continue
        action = pose(context, index, doing)
        if action not in context.actions_of(index):
            leave_out(context, telling, index, doing)
            continue
        own = [change for change in telling.changes if change.dimension == (index, "action")]
        for change in own:
            telling.changes[telling.changes.index(change)] = Change(
                change.dimension, change.value, action, change.weak, begins=change.begins
            )
        if not own:
            telling.add(Change((index, "action"), action, state=True))


def _tell_action(context: Context, telling: Telling, verb: Verb) -> bool:
    if _races(context, telling, verb):
        verb = replace(verb, item=replace(verb.item, senses={"action": "driving"}))
    item, action = verb.item, verb.item.value("action")
    able = [index for index in telling.subjects if pose(context, index, action) in context.actions_of(index)]
    if action == "parked" and telling.direct:
        # "John parks the car."
        able = []
    lies = action == "sleeping" and item.has("about")
    if (action == "sitting" or lies) and not able and not _settles(context, telling, verb):
        context.note(f'"{verb.text}" is shown as resting, because nobody of that kind was ever seen {action}.')
        action, able = "standing", list(telling.subjects)
    if verb.negated or verb.aspect == "stop":
        for index in able:
            _end(context, telling, index, pose(context, index, action))
        # "Rex is not running. Then he runs": a moment in which he does not is seen before.
        context.stage.blank = context.stage.blank or not (context.stage.now.told or telling.changes)
        telling.moving = (verb.aspect == "stop" or not verb.progressive) and not telling.no_longer
        telling.shown = True
        return True
    if len(able) < len(telling.subjects):
        able = _find_doers(context, telling, verb, able)
    if able:
        _do(context, telling, verb, action, able)
    return True


def _races(context: Context, telling: Telling, verb: Verb) -> bool:
    """Tell "the car races away", which drives, from "the dog races away"."""
    cars = bool(telling.subjects) and all(context.people.word(index) == "car" for index in telling.subjects)
    return cars and verb.item.value("action") == "running" and verb.item.text.lower().startswith(_SPEEDING)


def _settles(context: Context, telling: Telling, verb: Verb) -> bool:
    """Tell "the car sits down", which no picture shows, from "the car sits in the meadow", which only rests there."""
    things = all(context.people.word(index) in ("car", "teapot", "backpack") for index in telling.subjects)
    return things and not _is_steady(verb)


def _find_doers(context: Context, telling: Telling, verb: Verb, able: list[int]) -> list[int]:
    """Say who does what some of the subjects cannot: "John drives the car" is the car driving."""
    item, action = verb.item, verb.item.value("action")
    named = telling.direct or [index for _, _, found in telling.objects for index in found]
    passed = [index for index in named if action in context.actions_of(index)]
    own = [index for index in context.people.cast if action in context.actions_of(index)]
    if not passed and not able and action in ("driving", "pouring", "opening") and len(own) == 1:
        # "John gets in and drives off."
        passed = own
    if action in _BESIDE_THE_POINT and passed:
        names = " and ".join(context.people.name(index) for index in telling.subjects)
        context.note(f'"{telling.clause.text}" is shown without {names} doing it.')
        return passed
    if item.has("about", "mute", "swaps") or action == "opening":
        context.not_shown(telling.clause.text)
        telling.shown = True
        return []
    for index in telling.subjects:
        if index not in able:
            leave_out(context, telling, index, verb.text)
    telling.moving = telling.moving or not verb.progressive
    return able


def _do(context: Context, telling: Telling, verb: Verb, action: str, able: list[int]) -> None:
    if verb.item.has("about"):
        context.note(f'"{verb.text}" is shown as "{pose(context, able[0], action)}".')
    steady = _is_steady(verb)
    said = verb.item.text.lower()
    begins = verb.aspect == "start" or said.startswith(_BEGINS) or said.endswith((" off", " away", " down"))
    rest = [index for index in telling.companions if action in context.actions_of(index) and index not in able]
    rest = [index for index in rest if not context.stage.now.told.get((index, "action"))]
    rest = [index for index in rest if index in telling.equals] if steady else rest
    if rest:
        names = " and ".join(context.people.name(index) for index in rest)
        context.note(f'"{telling.clause.text}" is taken to mean that {names} does the same.')
        able = able + rest
    background = steady and (telling.clause.sub == "while" or (telling.clause.relative and verb.progressive))
    for index in able:
        value = pose(context, index, action)
        if value == context.rest(index) and verb.item.has("about") and _settled(context, index):
            # "Mia sits and waits": sitting.
            telling.shown = True
            continue
        weak = value == context.rest(index) and verb.finite
        telling.add(Change((index, "action"), value, weak=weak, state=background, begins=begins))
    telling.moving = not (steady or verb.progressive) or begins


def _settled(context: Context, index: int) -> bool:
    return context.stage.now.get((index, "action")) in ("sitting", "sleeping")


def _is_steady(verb: Verb) -> bool:
    text = verb.item.text.lower()
    return text.startswith(_STEADY) and not text.endswith(("down", "off", "up"))


def _end(context: Context, telling: Telling, index: int, action: str) -> None:
    """Let an action end; where it was never told it must have gone on before."""
    dimension = (index, "action")
    if context.stage.now.get(dimension) == action and action != context.rest(index):
        telling.add(Change(dimension, context.rest(index), weak=True))
        named = telling.clause.subjects and all(who.head in _NAMED for who in telling.clause.subjects)
        if not named:
            context.note(f'"{telling.clause.text}" is taken to end what {context.people.name(index)} did: {action}.')
    elif dimension not in context.stage.ever and (
        telling.no_longer or (telling.clause.verb is not None and telling.clause.verb.aspect == "stop")
    ):
        telling.add(Change(dimension, context.rest(index), action, weak=True, passes=telling.no_longer))


def _tell_waking(context: Context, telling: Telling, verb: Verb) -> None:
    subjects = telling.direct or telling.subjects
    telling.shown = telling.moving = True
    for index in subjects:
        if "sleeping" not in context.actions_of(index):
            leave_out(context, telling, index, verb.text)
            continue
        if verb.negated:
            # "Without waking Rex" lets him sleep.
            if (index, "action") not in context.stage.ever:
                telling.add(Change((index, "action"), "sleeping", state=True))
            continue
        asleep = context.stage.now.get((index, "action")) == "sleeping"
        known = (index, "action") in context.stage.ever
        if asleep or not known:
            telling.add(Change((index, "action"), context.rest(index), "sleeping" if not known else "?", weak=True))
        else:
            context.note(
                f'"{telling.clause.text}": {context.people.name(index)} did not sleep before, so nothing changes.'
            )


def leave_alone(context: Context, telling: Telling) -> None:
    """Read "then only Mia runs" as the end of it for the others who ran, "only she wears a hat" as the end of theirs.

    Args:
        context: the story so far.
        telling: the clause; changes are added to it.
    """
    if not any(who.alone for who in telling.clause.subjects):
        return
    others = [index for index in context.people.cast if index not in telling.subjects]
    what = {
        (change.dimension[1], change.value) for change in telling.changes if change.dimension[0] in telling.subjects
    }
    for index in others:
        worn = context.worn(index)
        for kind, value in what:
            if kind == "action" and context.stage.now.get((index, kind)) == value != context.rest(index):
                telling.add(Change((index, kind), context.rest(index), weak=True))
            elif kind in worn and value is not None:
                telling.add(Change((index, kind), None))
