"""Weave a scene's prompts together, so that a row reads the whole scene and not its own part of it alone."""

import re
from collections.abc import Sequence
from itertools import permutations
from typing import NamedTuple

from d2plan.backbone.text import count_word, find_characters
from d2plan.isp.tokens import Naming, count_before
from d2plan.world.cast import ACCESSORIES, ACTIONS

# What may stand before a noun phrase, as in "a photo of a", and up to two adjectives behind it.
_BEFORE = re.compile(r"\s*(?:(?:an?|the)\s+)?(?:[\w-]+\s+of\s+)?(?:(?:an?|the)\s+)?", re.IGNORECASE)
_ADJECTIVES = re.compile(r"(?:(?!(?:an?|the|of|in|on|with|and|wearing)\b)[\w-]+\s+){0,2}", re.IGNORECASE)
_LAST_ARTICLE = re.compile(r"\ban?(\s+)$", re.IGNORECASE)
_STOPS = re.compile(r"\b(?:an?|the|of|in|on|with|and|wearing)\b|[^\w\s<>-]", re.IGNORECASE)
_ACTION = rf"(?<![\w-])(?:{'|'.join(sorted({action for own in ACTIONS.values() for action in own}))})(?![\w-])"
_SIDE = r"(?P<side>\s+(?:on the (?:left|right)|in the middle))?"
# Where an action is surely that of the one beside it: right before its noun, or behind it and behind where it stands.
_ACTION_BEFORE = re.compile(rf"{_ACTION}\s+$", re.IGNORECASE)
_ACTION_BEHIND = re.compile(rf"{_SIDE}\s+(?:(?:who\s+)?is\s+)?{_ACTION}", re.IGNORECASE)
# In a sub-prompt also at the end, behind what it wears.
_ACTION_LAST = re.compile(rf"{_SIDE}\s+(?:wearing|with)\s.*{_ACTION}$", re.IGNORECASE)
# How a global prompt tells of looks: an adjective, or what one wears or holds; a place behind it is the scene's.
_PLAIN_BEFORE = re.compile(
    r"(?:^|[^\w\s<>-]|\b(?:an?|the|another|one|my|our|his|her|its|their|of|and|with|beside|by|to|behind|near))\s*$",
    re.IGNORECASE,
)
_LOOKS_BEHIND = re.compile(
    rf"{_SIDE},?\s+(?:(?:wearing|with|who|whose|that|holding|dressed)\b|in\s+(?:[\w-]+\s+){{1,3}}?(?:{'|'.join(ACCESSORIES)})s?\b)",
    re.IGNORECASE,
)
# Between two class words it is looks as well: the scene's place comes at the end.
_LOOKS_BETWEEN = re.compile(rf"{_SIDE},?\s+in\s+(?:an?|his|her|its|the)\b", re.IGNORECASE)
_LEAST_REPEATED = 2  # words at the end of a phrase that the global prompt ends with too, such as "the beach"


class Woven(NamedTuple):
    """What the rows read.

    Attributes:
        global_prompt: c_g, in which every class word is followed by what its sub-prompt says of it.
        sub_prompts: the same for each instance, with its own identifier; its sub-prompt where that cannot be woven in.
        alone: the places of those whose sub-prompt could not.
        mentions: of each instance, which mention of its name stands where it is called in the global prompt, from 0.
    """

    global_prompt: str
    sub_prompts: tuple[str, ...]
    alone: tuple[int, ...] = ()
    mentions: tuple[int, ...] = ()


def weave_prompts(global_prompt: str, namings: Sequence[Naming]) -> Woven:
    """Write into the global prompt what each sub-prompt says of its instance, once without identifiers and once each.

    A sub-model that reads its sub-prompt alone knows one figure and no place, and wants that figure large and in the
    middle; a global model that reads only class words settles poses that no sub-prompt asked for. The paper leaves
    both as they are; this is the project's own.

    An instance's row knows nobody else: all figures are the instance itself there. Its row paints in its own mask
    alone, so that nothing of the others can come into it, and it is what stands there wherever the layout put it. A
    figure that the global prompt itself describes ("a man in a hat") stays who it is. Of two of one class the global
    row cannot say which figure does what: it says neither.

    Where both prompts name an action of one instance, its sub-prompt's counts; what both say before its name is said
    once.

    >>> man, dog = Naming("man", "<v1>", "a photo of a <v1> man waving"), Naming("dog", "<v2>", "a <v2> dog")
    >>> woven = weave_prompts("a photo of a man and a dog on the beach", [man, dog])
    >>> woven.global_prompt
    'a photo of a man waving and a dog on the beach'
    >>> woven.sub_prompts[1]
    'a photo of a <v2> dog and a <v2> dog on the beach'

    Args:
        global_prompt: c_g; mentions the class word of every instance.
        namings: the instances. One that has no identifier, or whose sub-prompt speaks of others too or says something
            of it before its name, keeps its sub-prompt as it is; all do where one class word is part of another.

    Returns:
        The prompts.
    """
    count = len(namings)
    written = Woven(global_prompt, tuple(one.sub_prompt for one in namings), tuple(range(count)), (0,) * count)
    words = {naming.class_word.casefold() for naming in namings}
    if any(count_word(one, other) for one, other in permutations(words, 2)):
        return written
    phrases = [_find_phrase(naming, namings) for naming in namings]
    places = _find_places(global_prompt, namings)
    classes = [naming.class_word.casefold() for naming in namings]

    def is_own(index: int, own: int | None) -> bool:
        """Say whether an instance's mention is, in the row of one, that one itself."""
        return own is not None and (index == own or not _is_described(global_prompt, places, index))

    def say(index: int, own: int | None) -> str | None:
        """Say what stands for an instance's mention in a row; None is the bare class word."""
        if own is not None and is_own(index, own):
            return phrases[own]
        phrase = phrases[index]
        if phrase is None or classes.count(classes[index]) > 1:
            return None
        return _leave_out_name(phrase, namings[index])

    def write(own: int | None) -> str:
        text = global_prompt
        for index in sorted(range(len(namings)), key=lambda one: -places[one][0]):
            begin, end = places[index]
            said = say(index, own)
            if said is None:
                continue
            speaker = own if own is not None and is_own(index, own) else index
            before, behind, written_behind = text[:begin], text[end:], global_prompt[end:]
            # What the global prompt lets another one do is not what the row's own does.
            if speaker != index or _names_action(phrases[speaker], namings[speaker]):
                before, behind = _drop_actions(before, behind)
                _, written_behind = _drop_actions("", written_behind)
            said = _drop_adjectives(said, phrases[speaker], namings[speaker], before)
            # What was woven in behind it is not what the global prompt says there.
            said = _drop_repeated(said, namings[speaker].class_word, written_behind)
            text = fit_article(before, said) + said + behind
        return text

    texts = [write(index) for index in range(len(namings))]
    # A name that others use as a word would be looked for in the wrong place.
    alone = tuple(
        index
        for index, (text, naming) in enumerate(zip(texts, namings, strict=True))
        if phrases[index] is None
        or count_word(text, naming.identifier) != sum(is_own(other, index) for other in range(len(namings)))
    )
    subs = (written.sub_prompts[index] if index in alone else text for index, text in enumerate(texts))
    mentions = tuple(
        0 if own in alone else sum(is_own(index, own) and place < places[own] for index, place in enumerate(places))
        for own in range(len(namings))
    )
    return Woven(write(None), tuple(subs), alone, mentions)


def tell_actions(global_prompt: str, namings: Sequence[Naming]) -> list[str]:
    """Tell where woven prompts say two actions of one instance, because nobody could tell whose the global one is.

    >>> dog = Naming("dog", "<v2>", "a <v2> dog sitting")
    >>> tell_actions("a dog running on the beach", [dog]), len(tell_actions("a dog in a hat running", [dog]))
    ([], 1)

    Args:
        global_prompt: c_g; mentions the class word of every instance.
        namings: the instances.

    Returns:
        Sentences for the reader of the result.
    """
    notes, places = [], _find_places(global_prompt, namings)
    for index, (naming, (begin, end)) in enumerate(zip(namings, places, strict=True)):
        phrase = _find_phrase(naming, namings)
        stop = min((other for other, _ in places if other > begin), default=len(global_prompt))
        behind = global_prompt[end:stop]
        if _names_action(phrase, naming):
            _, behind = _drop_actions(global_prompt[:begin], behind)
        said, left = (re.findall(_ACTION, text, re.IGNORECASE) for text in (phrase or "", behind))
        if said and left:
            notes.append(
                f'instances[{index}]: global_prompt says "{" ".join(left)}" behind "{naming.class_word}", and its '
                f'sub_prompt says "{" ".join(said)}"; if both are meant of it, keep one of them.'
            )
    return notes


def _find_places(global_prompt: str, namings: Sequence[Naming]) -> list[tuple[int, int]]:
    return [
        find_characters(global_prompt, naming.class_word, count_before(namings, index))
        for index, naming in enumerate(namings)
    ]


def _find_phrase(naming: Naming, namings: Sequence[Naming]) -> str | None:
    """Give what a sub-prompt says of its instance, without "a photo of a" before it; None where that is unclear."""
    text, word = " ".join(naming.sub_prompt.split()), naming.class_word
    others = [other.class_word for other in namings if other.class_word.casefold() != word.casefold()]
    if not naming.identifier or not count_word(text, naming.identifier):
        return None
    begin, end = find_characters(text, naming.identifier)
    if any(count_word(text, other) for other in others) or count_word(text[:begin], word):
        return None
    if count_word(text[end:], word) > 1:
        return None
    before = _BEFORE.match(text)
    first = before.end() if before and before.end() <= begin else 0
    if not _ADJECTIVES.fullmatch(text, first, begin):
        return None
    return text[first:].rstrip(" .,;:!")


def _leave_out_name(phrase: str, naming: Naming) -> str:
    """Take the identifier out of a phrase; the class word stands for it where it is not there anyway."""
    begin, end = find_characters(phrase, naming.identifier)
    rest = f"{phrase[:begin]} {phrase[end:]}"
    stand_in = "" if count_word(rest, naming.class_word) else naming.class_word
    return " ".join(f"{phrase[:begin]} {stand_in} {phrase[end:]}".split())


def _is_described(global_prompt: str, places: Sequence[tuple[int, int]], index: int) -> bool:
    """Say whether a global prompt tells how one looks, beside the class word and but for an action."""
    begin, end = places[index]
    before, behind = _drop_actions(global_prompt[:begin], global_prompt[end:])
    between = any(other > begin for other, _ in places) and _LOOKS_BETWEEN.match(behind)
    return not _PLAIN_BEFORE.search(before) or bool(_LOOKS_BEHIND.match(behind) or between)


def _drop_actions(before: str, behind: str) -> tuple[str, str]:
    """Leave out of the global prompt, split at a class word, what that one does."""
    found = _ACTION_BEHIND.match(behind)
    return _ACTION_BEFORE.sub("", before), (found["side"] or "") + behind[found.end() :] if found else behind


def _names_action(phrase: str | None, naming: Naming) -> bool:
    """Say whether a phrase says what its instance does."""
    if phrase is None:
        return False
    begin, end = find_characters(phrase, naming.identifier)
    rest = phrase[end:]
    if count_word(rest, naming.class_word):
        rest = rest[find_characters(rest, naming.class_word)[1] :]
    return any((_ACTION_BEFORE.search(phrase[:begin]), _ACTION_BEHIND.match(rest), _ACTION_LAST.match(rest)))


def _drop_adjectives(said: str, phrase: str | None, naming: Naming, before: str) -> str:
    """Leave out what a phrase says before its name, where the global prompt says it before the class word."""
    own = len(phrase[: find_characters(phrase, naming.identifier)[0]].split()) if phrase else 0
    there = _STOPS.split(before.casefold())[-1].split()
    words = said.split()
    return " ".join([*(word for word in words[:own] if word.casefold() not in there), *words[own:]])


def _drop_repeated(phrase: str, class_word: str, rest: str) -> str:
    """Leave out of a phrase what the global prompt goes on with, or ends with, behind the class word."""
    head, said = phrase, ""
    if count_word(phrase, class_word):
        _, end = find_characters(phrase, class_word)
        head, said = phrase[:end], phrase[end:].strip()
    if said and count_word(rest[: len(said) + 2], said):
        return head
    own, others = said.split(), rest.split()
    same = 0
    while same < min(len(own), len(others)) and own[-1 - same].casefold() == others[-1 - same].casefold():
        same += 1
    return " ".join([head, *own[: len(own) - same]]) if same >= _LEAST_REPEATED else phrase


def fit_article(text: str, phrase: str) -> str:
    """Let "a" or "an" at the end of a text fit the word that comes.

    >>> fit_article("a photo of a ", "elephant")
    'a photo of an '

    Args:
        text: what comes first.
        phrase: what comes behind it.

    Returns:
        The text.
    """
    found = _LAST_ARTICLE.search(text)
    if not found or not phrase:
        return text
    article = text[found.start()] + ("n" if phrase[0].casefold() in "aeiou" else "")
    return text[: found.start()] + article + found[1]
