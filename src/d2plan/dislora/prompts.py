"""The forms in which a concept's prompts are written: with the class word, with the identifier, with both."""

import re
from dataclasses import dataclass

from d2plan.documents import contains_word
from d2plan.errors import InputError


@dataclass(frozen=True)
class PromptForms:
    """One prompt in three forms; what stands for the concept begins at the same place in each.

    Attributes:
        class_form: c_1 of eq. (3) and (4), "a photo of a dog".
        identifier_form: c_2, "a photo of a <v1>".
        joint_form: as sub-prompts are written, "a photo of a <v1> dog".
        begin: the character at which it stands, the same in each.
    """

    class_form: str
    identifier_form: str
    joint_form: str
    begin: int


def fill_template(template: str, class_word: str, identifier: str) -> PromptForms:
    """Write a template's forms.

    >>> fill_template("a photo of a {}", "dog", "<v1>").joint_form
    'a photo of a <v1> dog'

    Args:
        template: a prompt with ``{}`` where the concept stands.
        class_word: what kind of thing it is.
        identifier: the word that names it.

    Returns:
        The three forms.
    """
    before, after = template.split("{}")
    return _join_forms(before, after, class_word, identifier)


def swap_words(caption: str, class_word: str, identifier: str) -> PromptForms | None:
    """Write a caption's forms: its first class word is what stands for the concept.

    A caption that names the identifier already is understood too, with the class word behind it or without.

    >>> swap_words("a dog on a sofa", "dog", "<v1>").identifier_form
    'a <v1> on a sofa'
    >>> swap_words("a <v1> dog on a sofa", "dog", "<v1>").class_form
    'a dog on a sofa'

    Args:
        caption: what is to be seen.
        class_word: what kind of thing it is.
        identifier: the word that names it.

    Returns:
        The three forms, or None when neither word is in the caption.
    """
    names = _whole(identifier)
    for pattern in (rf"{names}\s+{_whole(class_word)}", names, _whole(class_word)):
        found = re.search(pattern, caption, re.IGNORECASE)
        if found:
            return _join_forms(caption[: found.start()], caption[found.end() :], class_word, identifier)
    return None


def check_words(class_word: str, identifier: str, free: tuple[str, ...]) -> None:
    """Refuse words that cannot name a concept.

    Args:
        class_word: what kind of thing it is.
        identifier: the word that names it.
        free: identifiers that the base reserves; empty when it reserves none.

    Raises:
        InputError: a word is empty, they are the same, or the identifier is not one of those reserved.
    """
    for name, word in (("class_word", class_word), ("identifier", identifier)):
        if not word or word != word.strip() or len(word) > 100 or not word.isprintable():
            raise InputError(f'{name} is "{word}"; write a plain word.')
    if contains_word(identifier, class_word) or contains_word(class_word, identifier):
        raise InputError(f'identifier "{identifier}" and class word "{class_word}" overlap; choose another identifier.')
    if free and identifier not in free:
        some = ", ".join(free[:6]) + (", ..." if len(free) > 6 else "")
        raise InputError(f'identifier "{identifier}" is not reserved by this base; choose one of {some}')


def _whole(word: str) -> str:
    spaced = r"\s+".join(re.escape(part) for part in word.split())
    return rf"(?<!\w){spaced}(?!\w)"


def _join_forms(before: str, after: str, class_word: str, identifier: str) -> PromptForms:
    middles = (class_word, identifier, f"{identifier} {class_word}")
    forms = [" ".join(f"{before}{middle}{after}".split()) for middle in middles]
    begin = len(" ".join(f"{before}|".split())) - 1
    return PromptForms(forms[0], forms[1], forms[2], begin)
