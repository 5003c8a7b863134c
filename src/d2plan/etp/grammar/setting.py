"""What a clause says of place, light, and who stands where."""

from dataclasses import replace

from d2plan.errors import InputError
from d2plan.etp.grammar.chunks import Chunk, Place, Weather, Who
from d2plan.etp.grammar.clauses import Clause
from d2plan.etp.grammar.stage import SCENE, Change
from d2plan.etp.grammar.telling import Context, Telling
from d2plan.world.scenery import ALLOWED_LIGHTS, PLACES

_STILL = (
    "it is",
    "it was",
    "it rain",
    "the sun is",
    "the sun was",
    "the sun sh",
    "the moon sh",
    "the stars sh",
    "rain is",
)
_COMING = (
    "come",
    "came",
    "fall",
    "fell",
    "arriv",
    "set",
    "rise",
    "rose",
    "begin",
    "began",
    "break",
    "broke",
    "pour",
    "go",
    "went",
)
# The storm blows a hat off, and wakes somebody.
_DRIVEN = ("shifts", "loses", "takes", "causes", "waking", "gives", "be", "have")
_IS = ("it is", "it was", "the sun is", "the sun was", "the moon is", "the stars are", "rain is", "the rain is")
_ENDS = (
    "stop",
    "end",
    "over",
    "pass",
    "clear",
    "lets up",
    "let up",
    "eases",
    "dies",
    "goes away",
    "gone",
    "more",
    "longer",
)
_BEGINNING = (
    "getting becoming growing starting beginning again setting rising going over gone coming sinking stopping already "
    "almost nearly"
).split()


def find_weather(clause: Clause) -> Chunk | None:
    """Read "night lies upon the harbour", in which the subject is a light.

    Args:
        clause: as found.

    Returns:
        What changes the light; None where something else is told.
    """
    verb = clause.verb
    if verb is None or clause.subjects or verb.negated or verb.unreal or verb.ing or verb.item.has(*_DRIVEN):
        return None
    before = [part for part in clause.parts[: clause.split] if part.kind not in ("filler", "comma", "join", "mark")]
    nouns = [part for part in before if isinstance(part, Weather)]
    if not nouns and verb.item.text.lower().startswith(_COMING):
        # "Now comes the night."
        behind = [part for part in clause.parts[clause.split :] if part.kind != "filler"]
        nouns = [part for part in behind[:1] if isinstance(part, Weather)]
    if not nouns or any(part.kind != "other" for part in before) or clause.text.lower().startswith(_STILL):
        return None
    ends = verb.item.has("stops", "vanishes", "ending", "halting") or verb.item.text.lower().startswith("leav")
    return Chunk("light_change", f"{nouns[-1].text} {verb.text}", ("day" if ends else nouns[-1].light) + ":about")


def is_pouring(clause: Clause) -> bool:
    """Tell "it starts to pour", which may be the rain."""
    it = len(clause.subjects) == 1 and clause.subjects[0].text.lower() == "it"
    return it and clause.verb is not None and clause.verb.item.senses.get("action") == "pouring"


def tell_setting(context: Context, telling: Telling) -> None:
    """Read where and in which light a clause happens.

    Args:
        context: the story so far.
        telling: the clause; changes are added to it.

    Raises:
        InputError: the light does not exist in that place.
    """
    clause, stage = telling.clause, context.stage
    moves = clause.verb is not None and clause.verb.item.has("moves", "appears", "vanishes", "action")
    found, source = "", False
    for part in clause.parts:
        if isinstance(part, Place) and _is_denied(clause, part):
            context.not_shown(clause.text, "a picture shows no place where somebody is not")
        elif isinstance(part, Place):
            if not part.value or (part.mode == "bare" and not moves):
                found = _take_liked(context, telling, part) or found
            elif part.mode == "here" and (SCENE, "place") in stage.ever:
                context.left_out.append(part.text)
            elif found and found != part.value and source and part.mode == "to":
                telling.changes = [change for change in telling.changes if change.dimension != (SCENE, "place")]
                telling.changes = [_already(context, change) for change in telling.changes]
                telling.add(Change((SCENE, "place"), part.value, before=found))
                telling.moving = True
            elif found and found != part.value:
                context.not_shown(part.text, f'the place is "{PLACES[found][0]}" already')
            else:
                found, source = part.value, part.mode == "from"
                _go(context, telling, part)
        elif part.kind in ("light", "light_change"):
            _light(context, telling, part)
    if is_pouring(clause) and not telling.subjects:
        _light(context, telling, Chunk("light_change", clause.text, "rain"))
    _check_light(context, telling)


def _is_denied(clause: Clause, place: Place) -> bool:
    """Tell "Ingrid is not on the beach" from "she does not run on the beach" and "not on the beach but in the city"."""
    spot = next(spot for spot, part in enumerate(clause.parts) if part is place)
    behind = [part for part in clause.parts[:spot] if part.kind != "filler"][-1:]
    verb = clause.verb
    denied = verb is not None and verb.negated and verb.item.has("be", "stays") and not verb.item.has("action")
    denied = denied or (verb is not None and verb.negated and place.mode == "to")
    return denied or any(part.kind == "negation" for part in behind)


def _take_liked(context: Context, telling: Telling, part: Place) -> str:
    """Take "the snow" that they love for the place, where none was told; gives it, or leaves it out."""
    if not _is_liked(context, telling, part):
        context.left_out += [part.text] if part.value else []
        return ""
    context.note(f'"{part.text}" is taken as the place.')
    _go(context, telling, part)
    return part.value


def _is_liked(context: Context, telling: Telling, part: Place) -> bool:
    """Say whether "they love the snow" is all that was said of where they are."""
    verb, known = telling.clause.verb, (SCENE, "place") in context.stage.ever
    return bool(part.value) and " " in part.text and verb is not None and not (known or verb.negated or verb.unreal)


def _check_light(context: Context, telling: Telling) -> None:
    light, place = context.stage.now.light, context.stage.now.place
    for change in telling.changes:
        light = str(change.value) if change.dimension == (SCENE, "light") else light
        place = str(change.value) if change.dimension == (SCENE, "place") else place
    if place and light and light not in ALLOWED_LIGHTS[place]:
        text = telling.clause.text
        raise InputError(f'"{text}": it is never "{light}" {PLACES[place][0]}; choose another place or light.')


def _already(context: Context, change: Change) -> Change:
    """Let who "flies from the forest to the castle" fly in the forest already."""
    going = change.dimension[1] == "action" and not change.needs_before and change.dimension not in context.stage.ever
    return replace(change, before=change.value) if going else change


def _go(context: Context, telling: Telling, part: Place) -> None:
    stage, dimension = context.stage, (SCENE, "place")
    telling.shown = True
    if part.about and stage.now.place != part.value:
        context.note(f'"{part.text}" is shown as "{PLACES[part.value][0]}".')
    context.left_out += part.extras
    if part.mode == "from":
        if dimension not in stage.ever:
            telling.add(Change(dimension, part.value, state=True))
        return
    if stage.now.place == part.value:
        return
    still = part.mode == "at" and not _goes(telling) and context.people.cast == telling.subjects
    if dimension in stage.ever and still and all(who == SCENE for moment in stage.moments for who, _ in moment.told):
        # "It rains in the city. John stands under the Eiffel Tower": nobody was anywhere else.
        for moment in stage.moments:
            moment.put(dimension, part.value)
        return
    if dimension in stage.ever:
        _change_place(context, telling, part)
        return
    # "Tom sleeps. He runs through the city."
    acted = any((index, "action") in stage.now.told for index in telling.subjects)
    follows = telling.clause.later or (acted and telling.moving and telling.clause.link == "sentence")
    if (len(stage.moments) > 1 or (follows and stage.now.told)) and part.mode != "here":
        context.note(f'Where the story begins is not said; all of it is shown "{PLACES[part.value][0]}".')
    telling.add(Change(dimension, part.value, state=True))


def _change_place(context: Context, telling: Telling, part: Place) -> None:
    if part.mode == "at" and telling.clause.verb is not None and not _goes(telling):
        context.note(f'"{part.text}": the place changes here.')
    rest = [index for index in context.people.cast if index not in telling.subjects]
    if rest and telling.subjects:
        names = " and ".join(context.people.name(index) for index in rest)
        context.note(f'"{part.text}": the place changes for all, so {names} comes along.')
    telling.add(Change((SCENE, "place"), part.value))
    telling.moving = True


def _goes(telling: Telling) -> bool:
    verb = telling.clause.verb
    return telling.clause.later or (verb is not None and verb.item.has("moves", "appears"))


def _light(context: Context, telling: Telling, part: Chunk) -> None:
    light, _, about = part.value.partition(":")
    stage, dimension = context.stage, (SCENE, "light")
    telling.shown = True
    if stage.now.light == light and dimension in stage.ever:
        return
    if about:
        context.note(f'"{part.text}" is shown as "{light}".')
    if part.kind == "light_change" and dimension not in stage.ever and _ends_rain(part.text.lower()):
        telling.add(Change(dimension, light, before="rain"))
        telling.moving = True
        return
    if part.kind == "light_change" and _goes_on(context, telling, part):
        telling.clause.same = True
        telling.add(Change(dimension, light, state=len(stage.moments) == 1))
        return
    still = len(stage.moments) == 1 and stage.now.setting and part.text.lower().startswith(_STILL)
    begun = bool(stage.now.told) and not still
    if part.kind == "light_change" and begun:
        before = "" if dimension not in stage.ever else "?"
        telling.add(Change(dimension, light, before=before, passes=telling.clause.ends))
        telling.moving = True
    elif dimension in stage.ever or len(stage.moments) > 1 or (begun and _comes_later(telling, part)):
        telling.add(Change(dimension, light))
        telling.moving = True
    else:
        telling.add(Change(dimension, light, state=True))


def _goes_on(context: Context, telling: Telling, part: Chunk) -> bool:
    """Tell "it is raining", which describes the first moment or a new place, from "it rains" that begins."""
    stage, clause, text = context.stage, telling.clause, part.text.lower()
    told = stage.now.told
    if clause.sub == "while" and clause.link != "sentence" and told and not clause.later and not clause.fronted:
        # "Mia jumps while it rains."
        return (SCENE, "light") not in told
    if clause.later or clause.sub or not text.startswith(_IS) or any(word in text for word in _BEGINNING):
        return False
    if (SCENE, "light") in told or (SCENE, "light") in stage.ever or not told or stage.now.setting:
        return False
    context.note(f'"{part.text}" is taken to be so in the moment told before it, not after it.')
    return True


def _comes_later(telling: Telling, part: Chunk) -> bool:
    """Tell "then, at night," and "At night, he sleeps" from "He sleeps at night"; a new place has its own light."""
    clause = telling.clause
    if any(change.dimension == (SCENE, "place") and not change.state for change in telling.changes):
        return True
    return clause.later or (clause.link == "sentence" and part in clause.parts[: clause.split])


def _ends_rain(text: str) -> bool:
    return ("rain" in text or "storm" in text) and any(word in text for word in _ENDS)


def tell_positions(context: Context, telling: Telling) -> None:
    """Read who stands left, right or in the middle.

    Args:
        context: the story so far; its positions change.
        telling: the clause.
    """
    parts = telling.clause.parts
    for place, part in enumerate(parts):
        if part.kind not in ("position", "relation"):
            continue
        telling.shown = True
        context.stage.now.told[(SCENE, "position")] = True
        whose = _whose(telling, parts, place)
        if part.value == "middle" and place < telling.clause.split and not context.people.positions:
            context.note(f'"{part.text}" is taken as a place in the picture, not as the middle of the story.')
        if part.kind == "relation":
            targets = [found for _, who, found in telling.objects if who in parts[place:]][:1]
            opposite = {"left": "right", "right": "left"}[part.value]
            _stand(context, whose, part.value, part.text)
            for found in targets:
                _stand(context, found, opposite, part.text)
        else:
            _stand(context, whose, part.value, part.text)


def _whose(telling: Telling, parts: list[Chunk], place: int) -> list[int]:
    """Find who stands there: an object that it follows at once, else the subject."""
    for part in reversed(parts[:place]):
        if isinstance(part, Who):
            return next((found for _, who, found in telling.objects if who is part), [])
        if part.kind not in ("comma", "filler"):
            break
    return telling.subjects


def _stand(context: Context, whose: list[int], position: str, text: str) -> None:
    for index in whose[:1] if len(whose) == 1 else []:
        known = context.people.positions.get(index)
        if known is None and len(context.stage.moments) == 1:
            context.people.positions[index] = position
        elif known != position:
            context.not_shown(text, f"where {context.people.name(index)} stands is the same in all moments")
    if len(whose) > 1:
        context.not_shown(text, "several cannot stand in one place")
