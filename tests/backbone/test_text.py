"""Where words stand among tokens."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d2plan.backbone.load import load_backbone
from d2plan.backbone.text import count_word, find_span, unknown_words
from d2plan.errors import InputError
from tests.tiny import LENGTH, WORDS


@pytest.fixture(scope="module")
def base(tiny_folder):
    return load_backbone(tiny_folder)


def test_a_word_of_one_token_is_found_behind_the_start_token(base):
    assert find_span(base.tokenizers, "a photo of a man and a dog on the beach", "dog") == (8,)
    assert find_span(base.tokenizers[0], "dog", "dog") == (1,)


def test_an_identifier_stands_where_the_class_word_stood(base):
    class_word = find_span(base.tokenizers, "a photo of a dog", "dog")
    assert find_span(base.tokenizers, "a photo of a <v1>", "<v1>") == class_word
    assert find_span(base.tokenizers, "a photo of a <v1> dog", "<v1>") == class_word
    assert find_span(base.tokenizers, "a photo of a <v12> and a <v1>", "<v1>") == (8,)


def test_a_word_of_several_tokens_gives_all_of_them(base):
    span = find_span(base.tokenizers, "a zebra running", "zebra")
    pieces = base.tokenizers[0]("zebra", add_special_tokens=False).input_ids
    assert len(pieces) > 1
    assert span == tuple(range(2, 2 + len(pieces)))
    assert find_span(base.tokenizers, "a teddy bear on the beach", "teddy bear") == (2, 3)


def test_capitals_spaces_and_punctuation_do_not_matter(base):
    assert find_span(base.tokenizers, "A  Photo of a\tDOG, running.", "dog") == (5,)
    assert find_span(base.tokenizers, "a dog's hat", "dog") == (2,)


def test_a_part_of_a_word_is_not_the_word(base):
    assert find_span(base.tokenizers, "a catdog and a cat", "cat")[0] > 3
    with pytest.raises(InputError, match='"cat" is not in the prompt'):
        find_span(base.tokenizers, "a category", "cat")


@pytest.mark.parametrize(
    "prompt", ["a \U0001f600 dog", "a \u202e dog \u202c runs", "\u05d0 dog", "a\u00a0dog", "x" * 40 + " dog"]
)
def test_a_word_is_found_among_signs_of_any_kind(base, prompt):
    tokenizer = base.tokenizers[0]
    ids = tokenizer(prompt).input_ids
    assert tokenizer.decode([ids[at] for at in find_span(base.tokenizers, prompt, "dog")]).strip() == "dog"


def test_the_occurrence_says_which_of_two(base):
    prompt = "a man and a man"
    assert find_span(base.tokenizers, prompt, "man", 0) == (2,)
    assert find_span(base.tokenizers, prompt, "man", 1) == (5,)
    with pytest.raises(InputError, match="stands 2 times"):
        find_span(base.tokenizers, prompt, "man", 2)


def test_a_word_behind_the_encoders_length_is_refused_and_the_last_one_within_is_found(base):
    filling = "a " * (LENGTH - 3)
    assert find_span(base.tokenizers, filling + "dog", "dog") == (LENGTH - 2,)
    with pytest.raises(InputError, match="shorten"):
        find_span(base.tokenizers, filling + "a dog", "dog")


def test_a_word_glued_to_punctuation_is_refused(base):
    with pytest.raises(InputError, match="spaces around"):
        find_span(base.tokenizers, "a photo of a ((!)) dog", "!")


def test_tokenizers_that_disagree_are_refused(tiny):
    tiny.tokenizers[1].add_tokens(["photo of"])
    with pytest.raises(InputError, match="other"):
        find_span(tiny.tokenizers, "a photo of a dog", "dog")


def test_an_empty_word_is_refused(base):
    with pytest.raises(InputError, match="empty"):
        find_span(base.tokenizers[0], "a dog", " ")


@given(st.lists(st.sampled_from(WORDS + ("zebra", "<v3>", "x-ray")), min_size=1, max_size=9), st.data())
@settings(max_examples=60, deadline=None)
def test_the_tokens_found_spell_the_word(base, words, data):
    index = data.draw(st.integers(0, len(words) - 1))
    word, tokenizer = words[index], base.tokenizers[0]
    span = find_span(tokenizer, " ".join(words), word, words[:index].count(word) + _inside(words[:index], word))
    ids = tokenizer(" ".join(words)).input_ids
    assert tokenizer.decode([ids[position] for position in span]).replace(" ", "") == word


def _inside(words, word):
    return sum(count_word(other, word) for other in words if other != word)


def test_whole_words_are_counted():
    assert count_word("a dog, a Dog and a hotdog", "dog") == 2
    assert count_word("a <v1> and a <v11>", "<v1>") == 1


def test_unknown_words_come_with_known_ones_that_look_like_them(base):
    assert unknown_words("a photo of a <v1> dog wearing a scraf on the beach, zzyzx", base) == [
        ("scraf", ("scarf",)),
        ("zzyzx", ()),
    ]
    assert unknown_words("A man's Dog", base) == []


def test_a_base_without_a_list_knows_every_word(base):
    other = type(base)(**(vars(base) | {"words": ()}))
    assert unknown_words("a zyzzyva", other) == []
