"""Tell a story clause by clause: find who acts, what changes, and in which moment it is seen."""

from dataclasses import replace
from itertools import pairwise

from d2plan.errors import InputError
from d2plan.etp.grammar.again import copy_clause
from d2plan.etp.grammar.apposition import are_alike
from d2plan.etp.grammar.around import in_prepositional
from d2plan.etp.grammar.attributes import tell_attributes
from d2plan.etp.grammar.chunks import Chunk, Gear, Place, Verb, Who
from d2plan.etp.grammar.clauses import GEAR_VERBS, Clause
from d2plan.etp.grammar.deeds import can_do, denies_state, leave_alone, tell_deed, tell_states
from d2plan.etp.grammar.endings import end_actions
from d2plan.etp.grammar.exchanges import list_all_gear, reverse
from d2plan.etp.grammar.gear import replace_others, tell_gear
from d2plan.etp.grammar.happening import PLAIN_BEINGS, apply
from d2plan.etp.grammar.leftovers import keep_leftovers
from d2plan.etp.grammar.marked import find_marked
from d2plan.etp.grammar.past import passes_over
from d2plan.etp.grammar.people import Can
from d2plan.etp.grammar.setting import find_weather, tell_positions, tell_setting
from d2plan.etp.grammar.spared import spare_gear
from d2plan.etp.grammar.stage import Change
from d2plan.etp.grammar.subjects import find_bared, find_subjects
from d2plan.etp.grammar.telling import Context, Telling, word_before
from d2plan.etp.planner import list_names

_THINGS = ("scenery", "body", "garment", "stranger")


def tell(context: Context, clause: Clause) -> None:
    """Let one clause happen.

    Args:
        context: the story so far; changed.
        clause: the next one in time.

    Raises:
        InputError: somebody unknown acts, or somebody cannot be shown so.
    """
    people = context.people
    if clause.stranger:
        raise InputError(
            f'The story speaks of "{clause.stranger}", but the known characters are {list_names(people.concepts)}.'
        )
    _note_time(context, clause)
    if clause.in_turn:
        _tell_in_turn(context, clause)
        return
    if clause.copied is not None and clause.unreal:
        # "She asks him to jump, but he does not."
        return
    if clause.copied is not None:
        _tell_again(context, clause, clause.copied)
        return
    # "Rex runs until he falls asleep" ends what he did, and nobody else.
    acting = list(people.subjects)
    people.heard, people.coming = clause.heard, clause.coming
    known = list(people.cast)
    telling = _gather(context, clause)
    if passes_over(context, telling):
        return
    verb, noted = clause.verb, len(context.notes)
    if _only_may_happen(context, telling, known):
        if clause.later:
            # "Then he wants to win and runs": what only may happen still says when.
            apply(context, telling)
        return
    weather = find_weather(clause)
    if weather is not None:
        clause.parts = [*map(_light_up, clause.parts), weather]
    elif verb is not None:
        before = clause.parts[: clause.split]
        verb.negated = verb.negated or any(
            part.kind == "negation" and part.value == "not" and not denies_state(before, place)
            for place, part in enumerate(before)
        )
        _tell_verb(context, telling, verb)
    reverse(context, telling)
    tell_attributes(context, telling)
    replace_others(context, telling)
    tell_states(context, telling)
    leave_alone(context, telling)
    tell_setting(context, telling)
    tell_positions(context, telling)
    keep_leftovers(context, telling)
    people.objects = [index for _, _, found in telling.objects for index in found]
    _note_nothing(context, telling, noted)
    end_actions(context, telling, acting)
    apply(context, telling)


def _only_may_happen(context: Context, telling: Telling, known: list[int]) -> bool:
    """Note what is asked or wished, and does not happen."""
    clause, verb = telling.clause, telling.clause.verb
    unreal = clause.unreal or (verb is not None and verb.unreal)
    if unreal or (verb is not None and verb.item.has("wishes")):
        _forget(context, telling, known)
    if unreal:
        context.not_shown(clause.text, "because it only may happen")
    return unreal


def _forget(context: Context, telling: Telling, known: list[int]) -> None:
    """Let "is that a bird?" and "she wants a dog" bring nobody into the picture."""
    people, clause = context.people, telling.clause
    fresh = any(part.fresh for part in [*clause.subjects, *clause.parts] if isinstance(part, Who))
    named = clause.verb is not None and clause.verb.item.has("be")
    kept_on = {*known, *people.called, *([] if named else telling.subjects)}
    gone = [index for index in people.cast if fresh and index not in kept_on]
    for kept in (people.cast, people.recent, people.subjects):
        kept[:] = [index for index in kept if index not in gone]


def _note_time(context: Context, clause: Clause) -> None:
    """Note where a clause is shown, and that what happens often happens once."""
    if clause.moved:
        context.note(f'"{clause.text}" is shown {clause.moved}, as the story says.')
    if clause.each:
        context.note(f'"{clause.each} {clause.text}" is shown once.')


def _note_nothing(context: Context, telling: Telling, noted: int) -> None:
    """Note a clause of which nothing can be shown and no rule said so."""
    clause = telling.clause
    if clause.verb is None and clause.subjects and not (telling.shown or clause.heading):
        context.not_shown(clause.text, "what happens is not understood")
    # "It is Rex who runs" is told by the clause behind it.
    named = any(isinstance(part, Who) and part.described for part in clause.parts)
    if clause.verb is not None and not (telling.shown or telling.changes or named) and len(context.notes) == noted:
        context.not_shown(clause.text)


def _light_up(part: Chunk) -> Chunk:
    """Let "moonlight bathes the meadow" say where."""
    return replace(part, mode="at") if isinstance(part, Place) and part.mode == "bare" else part


def _tell_in_turn(context: Context, clause: Clause) -> None:
    """Read "first Mia, then Tom falls asleep" and "one by one, they fall asleep" as one after the other."""
    people = context.people
    several = [index for who in clause.subjects for index in people.find(who)] or people.subjects
    if len(several) == 1:
        context.note(f'"{clause.text}" is shown at once, not one after the other.')
    for number, index in enumerate(several):
        who = Who("who", people.name(index), str(index))
        one = replace(clause, subjects=[who], in_turn=False, later=clause.later or number > 0)
        tell(context, replace(one, parts=list(clause.parts)))


def _tell_again(context: Context, clause: Clause, former: Clause) -> None:
    """Read "and so does Mia": the same again, by somebody else."""
    if clause.sub in ("while", "when"):
        # "Mia waves as he does so": what he does was told before.
        for who in clause.subjects:
            context.people.find(who)
    again = None if clause.sub in ("while", "when") else copy_clause(clause, former)
    if again is None:
        context.not_shown(clause.text, "what is done again is not understood")
        return
    if former.verb is not None and any(part.kind == "negation" for part in clause.parts):
        names = " and ".join(who.text for who in clause.subjects)
        context.note(f'What {names} does not do is taken to be "{former.verb.text}".')
    tell(context, again)


def _gather(context: Context, clause: Clause) -> Telling:
    _join_appositions(clause)
    telling = Telling(clause)
    telling.gears = [part for part in clause.parts if isinstance(part, Gear)]
    telling.particle = _find_particle(clause)
    people = context.people
    telling.subjects = find_subjects(context, clause, telling)
    spare_gear(context, telling)
    telling.gears += list_all_gear(context, telling)
    for place, part in enumerate(clause.parts):
        if isinstance(part, Who):
            prep = word_before(clause.parts, place, clause.split if place >= clause.split else 0)
            if (
                part.head == "pronoun"
                and part.value in ("it", "they")
                and _means_gear(context, clause, part, telling.gears)
            ):
                telling.objects.append((prep, part, []))
                continue
            if _is_predicate(context, clause, telling, part, prep):
                continue
            others = [index for index in people.cast if index not in telling.subjects]
            if part.text.lower() in ("it", "them") and not any(people.fits(index, part.value) for index in others):
                # A hat, or something that nobody understood, such as a ball.
                context.left_out += [] if context.last else [part.text]
                continue
            if part.body:
                named = [gear.owner for gear in telling.gears if gear.owner is not None and gear.owner.head == "name"]
                owners = [index for who in named for index in people.find(who)]
                found = people.find_own(part, telling.subjects or owners)
                telling.objects.append((prep, part, find_bared(context, part, prep, found, telling.gears)))
                continue
            if _is_greeted(context, telling, part, prep):
                context.left_out.append(part.text)
                continue
            meant = find_marked(context, clause, part, _can_object(context, clause), telling.subjects)
            telling.objects.append((prep, part, meant))
            context.left_out += part.extras
    return telling


def _is_greeted(context: Context, telling: Telling, who: Who, prep: str) -> bool:
    """Find "his mum" in "waves to his mum", who is nobody known and need not be seen."""
    verb = telling.clause.verb
    greets = verb is not None and verb.item.senses.get("action") in ("waving", "smiling") and bool(telling.subjects)
    return greets and who.head == "class" and prep in ("", "to", "at") and not context.people.peek([who])


def _join_appositions(clause: Clause) -> None:
    """Read "her hat, a green one," as "her green hat"."""
    parts = clause.parts
    for place in range(len(parts) - 2):
        gear, comma, one = parts[place : place + 3]
        if not (isinstance(gear, Gear) and comma.kind == "comma" and isinstance(one, Gear)):
            continue
        if (gear.owner is not None or gear.definite) and not gear.colour and one.colour and not one.value:
            gear.colour = one.colour
            clause.parts = [*parts[: place + 1], *parts[place + 3 :]]
            return


def _is_predicate(context: Context, clause: Clause, telling: Telling, who: Who, prep: str) -> bool:
    """Tell "Rex is a lazy dog", which speaks of nobody else."""
    being = clause.verb is not None and clause.verb.item.has("be") and not prep and bool(clause.subjects)
    if not being or who.head not in ("class", "classes", "singles", "groups", "companion"):
        return False
    for index in telling.subjects:
        word = context.people.word(index)
        # "John is Mia's brother", whatever his age.
        kin = who.owner is not None and are_alike(word, who.value)
        other = who.head in ("class", "classes") and word and word != who.value and not kin
        if other and who.text.split()[0].lower() != "the":
            name = context.people.name(index)
            raise InputError(f"The story calls {name} a {who.value}, but {name} is a {word}.")
    context.left_out += who.extras
    return True


def _means_gear(context: Context, clause: Clause, who: Who, gears: list[Gear]) -> bool:
    verb = clause.verb
    if (
        verb is None
        or (gears and not verb.item.has("swaps"))
        or not context.last
        or who.text.lower() not in ("it", "them")
    ):
        return False
    return verb.item.has(*GEAR_VERBS, "swaps") and not verb.item.has("action")


def _can_object(context: Context, clause: Clause) -> Can | None:
    verb = clause.verb
    return can_do(context, verb) if verb is not None and verb.item.has("waking") else None


def _find_particle(clause: Clause) -> str:
    verb = clause.verb
    words = [part.text.lower() for part in clause.parts if part.kind in ("particle", "prep", "filler")]
    words += [part.prep for part in clause.parts if isinstance(part, Gear)]
    if verb is not None:
        words += verb.text.lower().split()[1:]
    covers = [before.text.lower() for before, part in pairwise(clause.parts) if isinstance(part, Who) and part.body]
    if "off" not in words and any(word in ("over", "on", "onto") for word in covers):
        # "Pulls her hat down over her eyes"
        return "on"
    for word in words:
        if word in ("off", "away", "back off", "down"):
            return "off"
    return "on" if any(word in ("on", "back on") for word in words) else ""


def _tell_verb(context: Context, telling: Telling, verb: Verb) -> None:
    clause = telling.clause
    wakes = verb.item.has("waking") and bool(telling.direct)
    lit = any(part.kind == "light_change" for part in clause.parts)
    before = clause.parts[: clause.split]
    scenery = any(part.kind == "other" and part.value in _THINGS for part in before) or _is_thing(before, verb)
    if scenery and not clause.subjects and not _is_natural(context, telling, verb):
        context.not_shown(clause.text)
        telling.shown, telling.subjects, context.nobody = True, [], clause.sentence
        return
    if not (telling.subjects or telling.gears or wakes or lit):
        known_subject = bool(clause.subjects)
        if (
            not known_subject
            and not context.people.cast
            and not any(isinstance(part, (Place, Who)) for part in clause.parts)
        ):
            context.not_shown(clause.text, "who does it is not said")
            telling.shown = True
        return
    if tell_gear(context, telling, verb) or tell_deed(context, telling, verb):
        return
    if not any(part.kind == "reversal" for part in clause.parts):
        _tell_other_verb(context, telling, verb)


def _is_thing(before: list[Chunk], verb: Verb) -> bool:
    """Tell "the ball jumps away" and "a bee flies" from "on the bench sits Mia"."""
    spot = len(before) - 1
    while spot > 0 and before[spot].kind in ("filler", "mark"):
        spot -= 1
    thing = spot >= 0 and before[spot].kind == "other" and before[spot].value == "noun" and verb.finite
    return thing and verb.item.has("action", "ending", "halting", "stops") and not in_prepositional(before, spot)


def _is_natural(context: Context, telling: Telling, verb: Verb) -> bool:
    """Tell "the wind blows her hat off", which takes it off, and "the sunlight wakes her"."""
    it = bool(context.last) and any(who.text.lower() in ("it", "them") for _, who, _ in telling.objects)
    wakes = verb.item.has("waking") and bool(telling.direct)
    return wakes or ((bool(telling.gears) or it) and verb.item.has("shifts", "loses", "takes") and not verb.negated)


def _tell_other_verb(context: Context, telling: Telling, verb: Verb) -> None:
    clause, item, people = telling.clause, verb.item, context.people
    places = [part for part in clause.parts if isinstance(part, Place)]
    states = any(part.kind == "state" for part in clause.parts)
    names = " and ".join(people.name(index) for index in telling.subjects)
    if item.has("vanishes") and not places:
        context.not_shown(clause.text, f"{names} stays in the picture")
    elif item.has("appears") and not places and not telling.objects and not item.has("mute"):
        if context.stage.now.told:
            context.note(f'"{clause.text}": {names} is in the picture from the first moment.')
    elif item.has("moves", "appears", "vanishes") and places:
        _arrive(context, telling)
        if item.has("mute") and all(place.mode == "at" for place in places):
            context.note(f'"{verb.text}" is shown as being there.')
    elif item.has("moves", "appears") and not item.has("mute", "stays"):
        if telling.direct or not (telling.objects or states):
            context.not_shown(clause.text)
    elif (
        (item.has(*PLAIN_BEINGS) and not item.has("mute"))
        or states
        or (item.has("starts", "looks") and telling.changes)
    ):
        _tell_being(context, telling, verb)
        return
    else:
        context.not_shown(clause.text)
    telling.shown = True
    telling.moving = True


def _tell_being(context: Context, telling: Telling, verb: Verb) -> None:
    parts = telling.clause.parts
    kinds = {part.kind for part in parts}
    useful = kinds & {"place", "state", "light", "light_change", "position", "relation", "gear", "who"}
    if not useful and not telling.gears and verb.item.has("be", "have"):
        odd = [part.text for part in parts if part.kind in ("unknown", "other", "colour")]
        if odd:
            context.not_shown(telling.clause.text)
    telling.shown = True


def _arrive(context: Context, telling: Telling) -> None:
    """Who goes somewhere else does not sleep or sit there."""
    for index in telling.subjects:
        if context.stage.now.get((index, "action")) not in ("", context.rest(index)):
            telling.add(Change((index, "action"), context.rest(index), weak=True))
