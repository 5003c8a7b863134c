"""What of a clause no rule took: its words go into the notes."""

from itertools import pairwise

from d2plan.etp.grammar.chunks import Chunk
from d2plan.etp.grammar.lexicon import load_lexicon
from d2plan.etp.grammar.subjects import GEAR_DEEDS
from d2plan.etp.grammar.telling import Context, Telling
from d2plan.etp.grammar.verbs import takes_nobody

_NEAR = "behind,in front of,on top of,under,between,above,over,below,underneath,on,onto".split(",")


def keep_leftovers(context: Context, telling: Telling) -> None:
    """Keep for the notes what no rule took from a clause.

    Args:
        context: the story so far.
        telling: the clause, with all its changes.
    """
    takes_off = any(change.value is None for change in telling.changes)
    if not takes_off and any(part.kind == "particle" and part.value == "off" for part in telling.clause.parts):
        context.left_out.append("off")
    for part in telling.clause.parts:
        if part.kind == "unknown":
            context.strange.append(part.text)
        elif part.kind == "quote" or (part.kind == "other" and not _is_seen(telling, part)):
            context.left_out.append(part.text)
    for text in [*_find_stray(telling), *_find_lost_subjects(telling)]:
        context.note(f'"{text}": what "{telling.clause.text}" says of them is not understood.')
    for prep, who, found in telling.objects:
        if prep in ("as", "unlike", "like") and found:
            context.not_shown(f"{prep} {who.text}", "nobody is compared")
        if prep in _NEAR and found:
            used = telling.clause.verb is not None and telling.clause.verb.item.has(*GEAR_DEEDS)
            if not (used or who.body):
                context.not_shown(f"{prep} {who.text}", "only left, right and middle can be planned")


def _is_seen(telling: Telling, part: Chunk) -> bool:
    """Say whether a small word needs no note: scenery of what is shown, and "happily" of who smiles."""
    entry = load_lexicon().phrases.get(tuple(part.text.lower().split()))
    verb = telling.clause.verb
    if entry is None or verb is None or "implied" not in entry.senses:
        return part.value == "scenery" and telling.shown
    return not verb.negated and verb.item.senses.get("action") == entry.senses["implied"]


def _find_stray(telling: Telling) -> list[str]:
    """List who stands behind a verb that is done to nobody: "waves the girl" was read wrongly."""
    verb = telling.clause.verb
    if verb is None or not takes_nobody(verb):
        return []
    parts = telling.clause.parts
    led = [part for before, part in pairwise(parts) if before.kind in ("filler", "particle", "prep")]
    strays = [who for prep, who, found in telling.objects if found and not (prep or who.described or who.body)]
    strays = [who for who in strays if not any(who is part for part in led)]
    return [who.text for who in strays if not who.text.lower().endswith(("self", "selves", "other", "another"))]


def _find_lost_subjects(telling: Telling) -> list[str]:
    """List "he" and "she" that stand where nobody can act: "and he on Ben" was read wrongly."""
    heads = [who for _, who, _ in telling.objects if who.text.lower() in ("he", "she", "they")]
    return [who.text for who in heads if not who.described]
