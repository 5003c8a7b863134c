"""Where a word stands among a prompt's tokens, and which words a base does not know."""

import difflib
import re
from collections.abc import Iterable, Sequence

from transformers import CLIPTokenizer

from d2plan.backbone.load import Backbone
from d2plan.errors import InputError

_MOST_QUOTED = 80
_WORD = re.compile(r"<[^<>\s]+>|[^\W\d_]+(?:['’-][^\W\d_]+)*")


def find_span(
    tokenizers: CLIPTokenizer | Sequence[CLIPTokenizer], prompt: str, word: str, occurrence: int = 0
) -> tuple[int, ...]:
    """Find the token positions of a whole word, k or j of eq. (7).

    Whole means that "cat" is not found in "category"; capitals do not matter.

    Args:
        tokenizers: one, or both of a base; both must put the word at the same positions, because the U-Net reads
            the two encoders' states side by side.
        prompt: the text.
        word: one or several words, such as "dog", "teddy bear" or "<v1>".
        occurrence: which of several, from 0.

    Returns:
        Ascending positions in the encoders' output, the start token counted.

    Raises:
        InputError: the word is missing, or lies behind the encoder's length, or has no tokens of its own, or the
            tokenizers disagree.
    """
    several = list(tokenizers) if isinstance(tokenizers, (list, tuple)) else [tokenizers]
    begin, end = find_characters(prompt, word, occurrence)
    spans = [_find_tokens(tokenizer, prompt, begin, end) for tokenizer in several]
    if any(span != spans[0] for span in spans):
        raise InputError(
            f'"{word}" stands at the tokens {spans[0]} for one tokenizer and {spans[1]} for the other in '
            f'"{quote_prompt(prompt, begin)}"; use words before it that both split alike.'
        )
    return spans[0]


def find_characters(prompt: str, word: str, occurrence: int = 0) -> tuple[int, int]:
    """Find where a whole word stands in a prompt; capitals do not matter.

    >>> find_characters("a category and a cat", "cat")
    (17, 20)

    Args:
        prompt: the text.
        word: one or several words.
        occurrence: which of several, from 0.

    Returns:
        Its first character, and the one behind its last.

    Raises:
        InputError: the word is missing, or stands there less often.
    """
    found = _matches(prompt, word)
    if not found:
        raise InputError(
            f'"{word}" is not in the prompt "{quote_prompt(prompt)}"; write it there as a word of its own.'
        )
    if not 0 <= occurrence < len(found):
        raise InputError(
            f'"{word}" stands {len(found)} times in the prompt "{quote_prompt(prompt)}", but number {occurrence + 1} '
            "is needed; write it once for each instance."
        )
    return found[occurrence].span()


def quote_prompt(prompt: str, place: int = 0) -> str:
    """Quote a prompt in an error, of a long one only what stands around a place.

    >>> quote_prompt("a dog"), quote_prompt("a dog " * 99, 300)
    ('a dog', '...dog a dog a dog a dog a dog a dog a dog a dog a dog a dog a dog a dog a dog a do...')

    Args:
        prompt: the text.
        place: a character of it.

    Returns:
        Eighty characters at most, and dots where something is left out.
    """
    begin = max(0, min(place - _MOST_QUOTED // 2, len(prompt) - _MOST_QUOTED))
    end = begin + _MOST_QUOTED
    return f"{'...' if begin else ''}{prompt[begin:end]}{'...' if end < len(prompt) else ''}"


def count_word(prompt: str, word: str) -> int:
    """Count how often a whole word stands in a prompt.

    >>> count_word("a cat and a Cat in a category", "cat")
    2

    Args:
        prompt: the text.
        word: one or several words.

    Returns:
        0 or more.
    """
    return len(_matches(prompt, word))


def unknown_words(prompt: str, backbone: Backbone) -> list[tuple[str, tuple[str, ...]]]:
    """Name the words of a prompt that a base never saw in its training.

    Args:
        prompt: the text.
        backbone: the base; one without a list of words knows every word, as far as can be told.

    Returns:
        Each unknown word once, in order, with up to three known ones that look like it.
    """
    return find_unknown(prompt, (*backbone.words, *backbone.defaults.identifiers)) if backbone.words else []


def find_unknown(prompt: str, words: Iterable[str]) -> list[tuple[str, tuple[str, ...]]]:
    """Name the words of a prompt that are not among known ones.

    Args:
        prompt: the text.
        words: the known ones.

    Returns:
        As ``unknown_words``.
    """
    known = {word.lower() for word in words}
    parts = {part for word in known for part in word.split()}
    missing: dict[str, tuple[str, ...]] = {}
    for match in _WORD.finditer(prompt.lower()):
        word = match.group()
        if word in known or word in parts or word.removesuffix("'s") in known:
            continue
        missing[word] = tuple(difflib.get_close_matches(word, sorted(known), n=3, cutoff=0.6))
    return list(missing.items())


def find_cut(prompt: str, backbone: Backbone) -> str:
    """Find what of a prompt a base does not read, because it lies behind its encoders' length.

    Args:
        prompt: the text.
        backbone: the base.

    Returns:
        Its end from the first word that is cut; empty when all is read.
    """
    longest = min(tokenizer.model_max_length for tokenizer in backbone.tokenizers)
    words = prompt.split()
    if len(backbone.tokenizers[0](prompt, verbose=False).input_ids) <= longest:
        return ""
    fitting = [
        count
        for count in range(min(len(words), longest))
        if all(len(one(" ".join(words[:count]), verbose=False).input_ids) <= longest for one in backbone.tokenizers)
    ]
    return " ".join(words[max(fitting) :])


def _matches(prompt: str, word: str) -> list[re.Match[str]]:
    parts = word.split()
    if not parts:
        raise InputError("The word to find is empty; write one.")
    before = r"(?<!\w)" if re.match(r"\w", parts[0]) else ""
    after = r"(?!\w)" if re.search(r"\w$", parts[-1]) else ""
    pattern = before + r"\s+".join(re.escape(part) for part in parts) + after
    return list(re.finditer(pattern, prompt, flags=re.IGNORECASE))


def _find_tokens(tokenizer: CLIPTokenizer, prompt: str, begin: int, end: int) -> tuple[int, ...]:
    # Tokens never cross a word's border, so the pieces' tokens one after the other are the prompt's; where
    # punctuation glues pieces together they are not, and no column belongs to the word alone.
    before, inside, after = (_tokens(tokenizer, piece) for piece in (prompt[:begin], prompt[begin:end], prompt[end:]))
    word = prompt[begin:end]
    if before + inside + after != _tokens(tokenizer, prompt) or not inside:
        raise InputError(
            f'"{word}" shares a token with what stands beside it in "{quote_prompt(prompt, begin)}"; put spaces around '
            "it."
        )
    whole = tokenizer(prompt, verbose=False).input_ids
    start = int(whole[0] == tokenizer.bos_token_id)
    span = tuple(range(start + len(before), start + len(before) + len(inside)))
    last = tokenizer.model_max_length - 2
    if span[-1] > last:
        raise InputError(
            f'"{word}" is token {span[-1]} of "{quote_prompt(prompt, begin)}", but this base reads only {last}; '
            "shorten what is before it."
        )
    return span


def _tokens(tokenizer: CLIPTokenizer, text: str) -> list[int]:
    # Silent where transformers warns of a text too long for the encoder: whoever asks sees to that.
    return list(tokenizer(text, add_special_tokens=False, verbose=False).input_ids)
