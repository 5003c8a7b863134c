"""Slips of the pen: an unknown word that is near to exactly one known word is read as that one, and told."""

import re
from collections.abc import Sequence
from functools import cache

from d2plan.etp.grammar.lexicon import load_lexicon
from d2plan.etp.plan import KnownConcept

_WORD = re.compile(r"\"[^\"]*\"|<[^<>\s]*>|[^\W_]+(?:['-][^\W_]+)*")
_DOUBLE = re.compile(r"(.)\1+")
_SMALL = ("determiner", "pronoun", "possessive", "mark", "join", "everyone", "be")
_SHORTEST = 4
# Words of their own that doubling would turn into others.
_MEANT = frozenset({"hoping", "hoped", "caring", "staring", "planed", "planing", "price", "steak", "union"})


@cache
def _known_words() -> frozenset[str]:
    return frozenset(word for phrase in load_lexicon().phrases for word in phrase if word.isalpha())


@cache
def _without_doubles() -> dict[str, tuple[str, ...]]:
    plain: dict[str, tuple[str, ...]] = {}
    for word in sorted(_known_words()):
        short = _DOUBLE.sub(r"\1", word)
        plain[short] = (*plain.get(short, ()), word)
    return plain


def correct_words(story: str, concepts: Sequence[KnownConcept]) -> tuple[str, list[str]]:
    """Correct unknown words that are near to exactly one known word.

    >>> correct_words("Max is slepping in the forrest", ())
    ('Max is sleeping in the forest', ['"slepping" is read as "sleeping".', '"forrest" is read as "forest".'])

    Args:
        story: one line.
        concepts: who is known; their names are never corrected.

    Returns:
        The story with corrections, and a note about each.
    """
    names = {word.lower() for concept in concepts for word in _WORD.findall(concept.name)}
    notes: list[str] = []
    parts, last, before = [], 0, ""
    for found in _WORD.finditer(story):
        meant = _correct(found.group(), names, _begins_sentence(story, found.start()))
        meant = meant or _correct_colour(found.group(), _WORD.match(story, found.end() + 1))
        meant = meant or (_correct_deed(found.group()) if before.lower() in (*names, "he", "she", "it") else "")
        before = found.group()
        if meant:
            notes.append(f'"{found.group()}" is read as "{meant}".')
            parts += [story[last : found.start()], meant]
            last = found.end()
    return "".join([*parts, story[last:]]), list(dict.fromkeys(notes))


def _begins_sentence(story: str, place: int) -> bool:
    before = story[:place].rstrip(" \"'")
    return not before or before[-1] in ".!?;:"


def _correct(word: str, names: set[str], begins: bool) -> str:
    """Find the known word that is meant; empty where the word is right, a name, or near to several."""
    low = word.lower()
    if len(low) < _SHORTEST - 1 or not (low.isascii() and low.isalpha()) or low in _known_words() or low in names:
        return ""
    # A capital within a sentence is a name; at its beginning only a small word can be told from one.
    if word != low and not (begins and word == low.capitalize()):
        return ""
    found = _nearest(low)
    if found and word != low:
        entry = load_lexicon().phrases.get((found,))
        return found.capitalize() if entry is not None and set(_SMALL) & set(entry.senses) else ""
    return found


def _correct_colour(word: str, following: re.Match[str] | None) -> str:
    """Find the colour that "grean" means in "a grean hat", where one letter is another."""
    phrases = load_lexicon().phrases
    noun = phrases.get((following.group().lower(),)) if following else None
    low = word.lower()
    if noun is None or "gear" not in noun.senses or not low.isalpha() or low in _known_words():
        return ""
    near = [
        known[0]
        for known, entry in phrases.items()
        if len(known) == 1 and "colour" in entry.senses and len(known[0]) == len(low) > _SHORTEST
        if sum(one != other for one, other in zip(low, known[0], strict=True)) == 1
    ]
    return near[0] if len(near) == 1 else ""


def _correct_deed(word: str) -> str:
    """Find the verb that "wavs" means in "he wavs", with one inner letter more."""
    if len(word) != _SHORTEST or word in _known_words():
        return ""
    near = [
        known[0]
        for known, entry in load_lexicon().phrases.items()
        if len(known) == 1 and "action" in entry.senses and "s" in entry.forms
        if word in {known[0][:spot] + known[0][spot + 1 :] for spot in range(1, len(known[0]) - 1)}
    ]
    return near[0] if len(near) == 1 else ""


def _nearest(low: str) -> str:
    """Find the one known word that doubled letters, a swap of two neighbours, or one letter more make of it.

    Other slips are left alone: one letter turns too many real words into others, such as "horse" into "house".
    """
    if low in _MEANT:
        return ""
    doubled = _without_doubles().get(_DOUBLE.sub(r"\1", low), ())
    if doubled:
        return doubled[0] if len(doubled) == 1 else ""
    swapped = {low[:i] + low[i + 1] + low[i] + low[i + 2 :] for i in range(len(low) - 1)} & _known_words()
    return _only(low, swapped or _with_one_more(low))


@cache
def _shortened() -> dict[str, tuple[str, ...]]:
    """List the known words by what is left of them without one inner letter."""
    short: dict[str, tuple[str, ...]] = {}
    for word in sorted(_known_words()):
        for cut in {word[:i] + word[i + 1 :] for i in range(1, len(word) - 1)} if len(word) > _SHORTEST + 1 else ():
            short[cut] = (*short.get(cut, ()), word)
    return short


def _with_one_more(low: str) -> set[str]:
    """Find known words with one letter more, such as "wearing" for "wering"; the ends must be the same."""
    return set(_shortened().get(low, ())) if len(low) > _SHORTEST else set()


def _only(low: str, near: set[str]) -> str:
    """Give the one word that is near; forms of one verb, such as "smile" and "smiles", are one."""
    phrases = load_lexicon().phrases
    senses = [phrases[word,].senses if (word,) in phrases else {"": word} for word in sorted(near)]
    if not senses or any(sense != senses[0] for sense in senses):
        return ""
    return max(sorted(near), key=lambda word: (word[-1] == low[-1], len(word)))
