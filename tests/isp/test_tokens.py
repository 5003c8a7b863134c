"""Which tokens are exchanged: k in the global prompt, j in the sub-prompt."""

import pytest

from d2plan.backbone.load import Backbone
from d2plan.errors import InputError
from d2plan.isp.tokens import Naming, find_columns


def test_k_is_the_class_word_and_j_the_identifier(tiny: Backbone) -> None:
    namings = [Naming("man", "<v1>", "a <v1> man"), Naming("dog", "<v2>", "a photo of a <v2> dog")]
    man, dog = find_columns(tiny.tokenizers, "a photo of a man and a dog", namings)
    assert man == ((5,), (2,)) and dog == ((8,), (5,))


def test_the_second_instance_of_a_class_is_its_second_mention(tiny: Backbone) -> None:
    namings = [Naming("man", "<v1>", "a <v1> man"), Naming("Man", "<v2>", "a <v2> man")]
    columns = find_columns(tiny.tokenizers, "a man and a man", namings)
    assert [pair.class_positions for pair in columns] == [(2,), (5,)]


def test_an_adapter_without_identifier_is_called_by_its_class_word(tiny: Backbone) -> None:
    (columns,) = find_columns(tiny.tokenizers, "a dog", [Naming("dog", "", "a red dog")])
    assert columns == ((2,), (3,))


@pytest.mark.parametrize(
    ("prompt", "namings", "sentence"),
    [
        ("a cat", [Naming("dog", "<v1>", "a <v1> dog")], r"instances\[0\].class_word .* global_prompt"),
        ("a dog", [Naming("dog", "<v1>", "a dog")], r"instances\[0\].sub_prompt: .*<v1>"),
        ("a man", [Naming("man", "<v1>", "a <v1> man")] * 2, r'mentions "man" 1 time, but 2 instances'),
        (
            "a man and a dog",
            [Naming("man and a dog", "<v1>", "a <v1> dog"), Naming("dog", "<v2>", "a <v2> dog")],
            r'instances\[1\].class_word "dog" and that of instances\[0\], "man and a dog", are the same place',
        ),
        ("a " * 60 + "dog", [Naming("dog", "<v1>", "a <v1> dog")], r"instances\[0\].class_word: .*shorten"),
    ],
)
def test_a_word_that_cannot_be_found_is_an_error(
    tiny: Backbone, prompt: str, namings: list[Naming], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        find_columns(tiny.tokenizers, prompt, namings)
