"""The identifiers that SDXL gets when nobody names one, against CLIP's own vocabulary."""

import gzip
from pathlib import Path

import pytest
from transformers import CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from d2plan.backbone.text import find_span
from d2plan.config import RARE_WORDS, BaseDefaults

SIZE = 49_152


@pytest.fixture(scope="module")
def tokenizers(outside_data: Path) -> list[CLIPTokenizer]:
    """SDXL's two, which differ in what they pad with."""
    path = outside_data / "clip_bpe" / "bpe_simple_vocab_16e6.txt.gz"
    if not path.is_file():
        pytest.skip(f"outside data: {path} is not there")
    lines = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")
    merges = [tuple(line.split()) for line in lines[1 : SIZE - 256 - 2 + 1]]
    letters = list(bytes_to_unicode().values())
    specials = ["<|startoftext|>", "<|endoftext|>"]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges), *specials]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return [CLIPTokenizer(vocab=vocabulary, merges=merges, pad_token=pad) for pad in ("<|endoftext|>", "!")]


def test_the_vocabulary_is_clips(tokenizers: list[CLIPTokenizer]) -> None:
    # The numbers that everybody knows who ever printed a prompt's tokens.
    assert tokenizers[0]("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]


@pytest.mark.parametrize("word", RARE_WORDS)
def test_a_rare_word_is_one_token_of_both(tokenizers: list[CLIPTokenizer], word: str) -> None:
    for tokenizer in tokenizers:
        (token,) = tokenizer(word, add_special_tokens=False).input_ids
        # The later a token came into the vocabulary, the rarer it is: the last quarter.
        assert token > 36_000 and tokenizer.convert_ids_to_tokens(token) == f"{word}</w>"
    assert find_span(tokenizers, f"a photo of a {word} dog", word) == (5,)


def test_there_are_twenty_different_ones_and_sdxl_has_them() -> None:
    assert len(set(RARE_WORDS)) == 20 and BaseDefaults().identifiers == RARE_WORDS
    assert all(word.isascii() and word.isalpha() and word.islower() for word in RARE_WORDS)
