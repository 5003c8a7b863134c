"""From letters to items: the longest phrases of the lexicon, the names of the known concepts, and what is left."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from d2plan.etp.grammar.lexicon import Lexicon, Senses, load_lexicon
from d2plan.etp.plan import KnownConcept

_TOKEN = re.compile(r"\"[^\"]*\"|->|=>|<[^<>\s]*>|[^\W_]+(?:['-][^\W_]+)*|[^\w\s]")
_LATER = re.compile(
    r"\b(?:just |only |about )?(?:\d+|a|an|one|two|three|five|ten|a few|few|several|some|many) "
    r"(?:seconds?|minutes?|hours?|days?|moments?|weeks?|years?|while) (?:later|after that|afterwards)\b",
    re.IGNORECASE,
)
_EARLIER = re.compile(_LATER.pattern.rpartition("(?:later")[0] + r"(?:earlier|before that|ago)\b", re.IGNORECASE)
_SCENE = r"(?:day|scene|shot|part|frame|beat|picture|clip|step|act|chapter|panel|keyframe) (?:no\.? ?|#)?"
_KIND = r"(?:scene|shot|part|frame|beat|picture|clip|step|act|chapter|panel|keyframe|image|slide)"
_HEAD = r"(?:(?<=^)|(?<=[.!?;] ))"
_FIRST_SCENE = re.compile(
    rf"{_HEAD}(?:start|beginning|opening|before|first) ?: |"
    rf"\b{_SCENE}(?:1|one|i)\b ?[:.)-]*|\b(?:in the |the )?(?:first|1st|opening) {_KIND}\b ?[:,]",
    re.IGNORECASE,
)
_NEXT_SCENE = re.compile(
    rf"{_HEAD}(?:end|ending|middle|after|later|next|last|finish) ?: |"
    rf"\b(?:in )?{_SCENE}(?:\d+|two|three|four|five|six|seven|eight|ii|iii|iv)\b ?[:.)-]*|"
    rf"\b(?:in the |the )?(?:second|2nd|third|3rd|fourth|4th|fifth|5th|sixth|next|last|final) {_KIND}\b ?[:,]",
    re.IGNORECASE,
)
_NUMBERED = re.compile(r"(?:(?:(?<=^)|(?<=[.!?;,:] ))\(?(\d)[.):] (?=[A-Za-z])|(?<= )\(?(\d)\) (?=[A-Z]))")
_SHORT = {
    "n't": ("not",),
    "'re": ("are",),
    "'ll": ("will",),
    "'ve": ("have",),
    "'m": ("am",),
    "'d": ("would",),
}
_NOT_WHOLE = {
    "can't": ("can", "not"),
    "won't": ("will", "not"),
    "cannot": ("can", "not"),
    "let's": ("let",),
    "it's": ("it", "is"),
    "thats": ("that", "'s"),
    "dont": ("do", "not"),
    "cant": ("can", "not"),
    "wont": ("will", "not"),
    "hes": ("he", "'s"),
    "shes": ("she", "'s"),
    **{f"{verb}nt": (verb, "not") for verb in ("does", "did", "is", "was", "are", "were", "has", "had")},
}


@dataclass(frozen=True)
class Item:
    """A phrase of the story.

    Attributes:
        text: as it stands there.
        senses: what it may be.
        forms: of its verb.
        start: number of its first word.
    """

    text: str
    senses: Senses = field(default_factory=dict)
    forms: frozenset[str] = frozenset()
    start: int = 0

    def has(self, *kinds: str) -> bool:
        """Say whether it may be of one of the kinds."""
        return any(kind in self.senses for kind in kinds)

    def value(self, kind: str) -> str:
        """Give which one of a kind it is."""
        return self.senses[kind]


def read_words(story: str) -> list[str]:
    """Split a story into words and marks, with short forms written out.

    >>> read_words("Rex's hat doesn't fall, he's asleep.")
    ['Rex', "'s", 'hat', 'does', 'not', 'fall', ',', 'he', "'s", 'asleep', '.']

    Args:
        story: one line.

    Returns:
        The words; a text in double quotes is one word.
    """
    words: list[str] = []
    story = _NUMBERED.sub(_read_number, story)
    story = _NEXT_SCENE.sub(" then ", _FIRST_SCENE.sub(" ", story))
    tokens = _TOKEN.findall(_EARLIER.sub(" earlier ", _LATER.sub(" later ", story)))
    for found, following in pairwise([*tokens, ""]):
        had = found.lower().endswith("'d") and _is_participle(following.lower())
        words += (found[:-2], "had") if had else _split(found)
    return words


def _read_number(found: re.Match[str]) -> str:
    """Read the 2 of "1. Rex runs. 2. He sits." and of "1) Rex runs 2) He sits" as the next sentence."""
    first = "1" in found.groups()
    return ("" if first else ". then ") if found.group(2) else "" if first else "then "


def _is_participle(word: str) -> bool:
    """Tell "she'd slept" from "she'd sleep"."""
    entry = load_lexicon().phrases.get((word,))
    return entry is not None and "part" in entry.forms and "base" not in entry.forms


def _split(word: str) -> tuple[str, ...]:
    low = word.lower()
    if low in _NOT_WHOLE:
        return _NOT_WHOLE[low]
    for ending, tail in _SHORT.items():
        if low.endswith(ending) and len(low) > len(ending):
            return (word[: -len(ending)], *tail)
    if low.endswith("'s") and len(low) > 2:
        return word[:-2], "'s"
    return (word,)


def find_items(story: str, concepts: Sequence[KnownConcept]) -> list[Item]:
    """Find the phrases of a story, longest first.

    Args:
        story: one line.
        concepts: whose names are words here; a name that is also a common word counts only with its capitals.

    Returns:
        The items in order; one with no sense is not understood.
    """
    lexicon = load_lexicon()
    words = read_words(story)
    low = [word.lower() for word in words]
    names = _list_names(concepts)
    classes = {str(index): concept.class_word for index, concept in enumerate(concepts)}
    items, place = [], 0
    while place < len(words):
        length, item = _find_name(words, low, place, names, lexicon)
        if item is None:
            length, item = _find_phrase(words, low, place, lexicon)
        else:
            item.senses["named_class"] = classes[item.value("name")]
        items.append(item)
        place += length
    return items


def _list_names(concepts: Sequence[KnownConcept]) -> list[tuple[tuple[str, ...], str]]:
    names = [(tuple(read_words(concept.name)), str(index)) for index, concept in enumerate(concepts)]
    return sorted(names, key=lambda entry: -len(entry[0]))


def _find_name(
    words: list[str], low: list[str], place: int, names: list[tuple[tuple[str, ...], str]], lexicon: Lexicon
) -> tuple[int, Item | None]:
    for name, index in names:
        spoken = words[place : place + len(name)]
        if [word.lower() for word in name] != [word.lower() for word in spoken] or not spoken:
            continue
        common = tuple(low[place : place + len(name)]) in lexicon.phrases
        careless = (
            words == low and not lexicon.phrases[tuple(low[place : place + len(name)])].forms if common else False
        )
        if common and not careless and (tuple(spoken) != name or name == tuple(word.lower() for word in name)):
            continue
        return len(name), Item(" ".join(spoken), {"name": index}, start=place)
    return 0, None


def _find_phrase(words: list[str], low: list[str], place: int, lexicon: Lexicon) -> tuple[int, Item]:
    for length in range(min(lexicon.longest, len(words) - place), 0, -1):
        entry = lexicon.phrases.get(tuple(low[place : place + length]))
        if entry is not None and not (
            _takes_preposition(low, place, length, lexicon) or _runs_on(low, place, length, lexicon)
        ):
            text = " ".join(words[place : place + length])
            return length, Item(text, dict(entry.senses), frozenset(entry.forms), place)
    return 1, _read_other(words[place], place)


def _runs_on(low: list[str], place: int, length: int, lexicon: Lexicon) -> bool:
    """Tell "on her own head", "and next to it", "and all of them" from "on her own", "and next", "and all"."""
    last, following = low[place + length - 1], low[place + length : place + length + 1]
    body = lexicon.phrases.get(tuple(following))
    owns = last == "own" and body is not None and "body" in body.senses
    everybody = low[place : place + length] == ["and", "all"] and bool(following) and following[0].isalpha()
    back = low[place : place + length] == ["and", "back"] and bool(following) and following[0].isalpha()
    return length > 1 and (owns or everybody or back or (last == "next" and following == ["to"]))


def _takes_preposition(low: list[str], place: int, length: int, lexicon: Lexicon) -> bool:
    """Tell "sleeps in the rain" from "sleeps in" and "sleeps on"."""
    last, following = low[place + length - 1], low[place + length : place + length + 1]
    if length < 2 or last not in ("in", "on", "at", "over", "up") or not following or not following[0].isalpha():
        return False
    whole, verb = (lexicon.phrases.get(tuple(low[place : place + size])) for size in (length, length - 1))
    acts = whole and verb and "action" in whole.senses and whole.senses["action"] == verb.senses.get("action")
    # "Walks in her orange scarf" is no coming in.
    same = acts or (last == "in" and whole and verb and "appears" in whole.senses and bool(verb.forms))
    behind = any(
        tuple(low[place + length - 1 : place + length + size]) in lexicon.phrases for size in range(1, lexicon.longest)
    )
    noun = lexicon.phrases.get((following[0],))
    return bool(same) and (behind or (noun is not None and bool({"determiner", "possessive"} & set(noun.senses))))


def _read_other(word: str, place: int) -> Item:
    if word in ".!?;:":
        return Item(word, {"stop": ""}, start=place)
    if word in ",()[]-/*•":
        return Item(word, {"comma": ""}, start=place)
    if word == "'s":
        return Item(word, {"owner": "", "be": ""}, frozenset({"s"}), place)
    if word == "'":
        return Item(word, {"owner": ""}, start=place)
    if word.startswith('"'):
        return Item(word, {"quote": ""}, start=place)
    if word.lower().endswith("ly") and word.islower() and len(word) > 3:
        return Item(word, {"adverb": ""}, start=place)
    return Item(word, start=place)
