import pytest

from d2plan.dislora.prompts import PromptForms, check_words, fill_template, swap_words
from d2plan.errors import InputError


def test_a_template_is_written_in_three_forms() -> None:
    assert fill_template("a photo of a {}", "dog", "<v1>") == PromptForms(
        "a photo of a dog", "a photo of a <v1>", "a photo of a <v1> dog", 13
    )


@pytest.mark.parametrize(
    "caption",
    ["a dog running, a dogsled behind", "a <v1> dog running, a dogsled behind", "a <v1> running, a dogsled behind"],
)
def test_the_class_word_of_a_caption_is_swapped_for_the_identifier(caption: str) -> None:
    assert swap_words(caption, "dog", "<v1>") == PromptForms(
        "a dog running, a dogsled behind", "a <v1> running, a dogsled behind", "a <v1> dog running, a dogsled behind", 2
    )


def test_only_whole_words_and_only_the_first_one_are_swapped() -> None:
    forms = swap_words("a category of Cat and cat", "cat", "<v2>")
    assert forms is not None and forms.identifier_form == "a category of <v2> and cat"
    assert swap_words("a category", "cat", "<v2>") is None


def test_a_class_of_two_words_is_swapped_as_one() -> None:
    forms = swap_words("a teddy  bear in the snow", "teddy bear", "sks")
    assert forms is not None and forms.identifier_form == "a sks in the snow"


def test_what_stands_for_the_concept_begins_at_the_same_place_in_every_form() -> None:
    forms = swap_words("in the snow, a dog running", "dog", "<v1>")
    assert forms is not None
    starts = {forms.class_form.index("dog"), forms.identifier_form.index("<v1>"), forms.joint_form.index("<v1>")}
    assert starts == {forms.begin}


@pytest.mark.parametrize(
    ("class_word", "identifier"), [("dog", "dog"), ("dog", "my dog"), ("", "<v1>"), ("dog", " "), ("dog", "<v\n>")]
)
def test_words_that_cannot_name_a_concept_are_refused(class_word: str, identifier: str) -> None:
    with pytest.raises(InputError):
        check_words(class_word, identifier, ())


def test_an_identifier_that_is_not_reserved_gets_some_that_are() -> None:
    with pytest.raises(InputError, match=r"zzz.*<v1>, <v2>"):
        check_words("dog", "zzz", ("<v1>", "<v2>"))
    check_words("dog", "<v2>", ("<v1>", "<v2>"))
    check_words("dog", "zzz", ())
