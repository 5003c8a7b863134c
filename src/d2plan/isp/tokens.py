"""Which columns eq. (7) exchanges: k of the class word in the global prompt, j of the identifier in the sub-prompt."""

from collections.abc import Sequence
from typing import NamedTuple

from transformers import CLIPTokenizer

from d2plan.backbone.text import count_word, find_span
from d2plan.errors import InputError


class Naming(NamedTuple):
    """The words by which prompts call one instance.

    Attributes:
        class_word: its name in the global prompt.
        identifier: its name in the sub-prompt; empty for an adapter that states none.
        sub_prompt: the text that holds it.
        place: how far to the right it was put by hand, 0..1; None where nobody said.
        mention: which mention of the identifier in the sub-prompt is meant, from 0.
    """

    class_word: str
    identifier: str
    sub_prompt: str
    place: float | None = None
    mention: int = 0


class Columns(NamedTuple):
    """Token positions of one instance, the start token counted.

    Attributes:
        class_positions: k, in the global prompt.
        identifier_positions: j, in the sub-prompt.
    """

    class_positions: tuple[int, ...]
    identifier_positions: tuple[int, ...]


def find_columns(
    tokenizers: Sequence[CLIPTokenizer], global_prompt: str, namings: Sequence[Naming]
) -> tuple[Columns, ...]:
    """Find k and j of every instance; the second instance of a class is the second mention of its word.

    Mentions count from left to right: where all instances of a class were put by hand that decides which is the
    first one, whatever their order; else their order does.

    Paper: k and j of eq. (7).

    Args:
        tokenizers: both of a base.
        global_prompt: c_g.
        namings: the instances, in the scene's order.

    Returns:
        One pair an instance. Where an adapter states no identifier, j is the class word in its sub-prompt.

    Raises:
        InputError: a word is missing, mentioned too seldom, part of another instance's, or lies behind what the
            encoders read; the sentence names the field.
    """
    found = tuple(_find(tokenizers, global_prompt, namings, index) for index in range(len(namings)))
    for index, (naming, columns) in enumerate(zip(namings, found, strict=True)):
        for other in range(index):
            if set(columns.class_positions) & set(found[other].class_positions):
                raise InputError(
                    f'instances[{index}].class_word "{naming.class_word}" and that of instances[{other}], '
                    f'"{namings[other].class_word}", are the same place of the global prompt; give each its own word.'
                )
    return found


def count_before(namings: Sequence[Naming], index: int) -> int:
    """Count the instances of the same class whose mention comes before an instance's own.

    Args:
        namings: the instances.
        index: of one of them.

    Returns:
        0 or more.
    """
    word = namings[index].class_word.casefold()
    same = [place for place, naming in enumerate(namings) if naming.class_word.casefold() == word]
    places = [namings[place].place for place in same]
    if None not in places and len(set(places)) == len(places):
        same.sort(key=lambda place: namings[place].place or 0.0)
    return same.index(index)


def _find(tokenizers: Sequence[CLIPTokenizer], global_prompt: str, namings: Sequence[Naming], index: int) -> Columns:
    naming = namings[index]
    _check_mentions(global_prompt, namings, index)
    try:
        class_positions = find_span(tokenizers, global_prompt, naming.class_word, count_before(namings, index))
    except InputError as error:
        raise InputError(f"instances[{index}].class_word: {error}") from error
    try:
        word = naming.identifier or naming.class_word
        return Columns(class_positions, find_span(tokenizers, naming.sub_prompt, word, naming.mention))
    except InputError as error:
        raise InputError(f"instances[{index}].sub_prompt: {error}") from error


def _check_mentions(global_prompt: str, namings: Sequence[Naming], index: int) -> None:
    word = namings[index].class_word
    needed = sum(naming.class_word.casefold() == word.casefold() for naming in namings)
    mentions = count_word(global_prompt, word)
    if mentions == 0:
        raise InputError(
            f'instances[{index}].class_word is "{word}", which does not stand as a word in global_prompt '
            f'"{global_prompt}"; name the instance there by its class word.'
        )
    if mentions < needed:
        raise InputError(
            f'global_prompt mentions "{word}" {mentions} time{"s" * (mentions > 1)}, but {needed} instances are of '
            f'that class; mention it once for each, as in "a {word} and a {word}".'
        )
