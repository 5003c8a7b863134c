"""Prompts woven together: what each row reads, and what is left as it was written."""

import pytest

from d2plan.isp.tokens import Naming
from d2plan.isp.weave import weave_prompts

MAN = Naming("man", "<v1>", "a photo of a <v1> man wearing sunglasses")
DOG = Naming("dog", "<v2>", "a photo of a <v2> dog running")
BOTH = "a photo of a man and a dog on the beach"


def test_the_global_row_reads_what_each_does_and_a_sub_row_names_its_own_concept_alone() -> None:
    woven = weave_prompts(BOTH, [MAN, DOG])
    assert woven.global_prompt == "a photo of a man wearing sunglasses and a dog running on the beach"
    assert woven.sub_prompts == (
        "a photo of a <v1> man wearing sunglasses and a dog running on the beach",
        "a photo of a man wearing sunglasses and a <v2> dog running on the beach",
    )


def test_the_order_of_the_instances_changes_nothing() -> None:
    woven, turned = weave_prompts(BOTH, [MAN, DOG]), weave_prompts(BOTH, [DOG, MAN])
    assert turned.global_prompt == woven.global_prompt and turned.sub_prompts[::-1] == woven.sub_prompts


def test_the_row_of_one_who_was_drawn_by_hand_knows_nobody_else() -> None:
    woven = weave_prompts(BOTH, [MAN, DOG._replace(drawn=True)])
    assert woven.global_prompt == "a photo of a man wearing sunglasses and a dog running on the beach"
    assert woven.sub_prompts == (
        "a photo of a <v1> man wearing sunglasses and a dog running on the beach",
        "a photo of a <v2> dog running and a <v2> dog running on the beach",
    )
    assert not woven.alone


def test_of_two_of_one_class_a_row_knows_its_own_alone() -> None:
    first, second = Naming("man", "<v1>", "a <v1> man waving"), Naming("man", "<v3>", "a <v3> man in a hat")
    woven = weave_prompts("a man, a man and a dog on the beach", [first, second, DOG])
    assert woven.global_prompt == "a man, a man and a dog running on the beach"
    assert woven.sub_prompts == (
        "a <v1> man waving, a <v1> man waving and a dog running on the beach",
        "a <v3> man in a hat, a <v3> man in a hat and a dog running on the beach",
        "a man, a man and a <v2> dog running on the beach",
    )
    assert not woven.alone
    assert weave_prompts("a man and a man", [second, first]).sub_prompts[1] == "a <v1> man waving and a <v1> man waving"


@pytest.mark.parametrize(
    ("sub_prompt", "read"),
    [
        ("photo of <v2> with a bow", "a man and a <v2> with a bow in the snow"),
        ("a picture of the tall <v2> dog", "a man and a tall <v2> dog in the snow"),
        ("<v2> dog", "a man and a <v2> dog in the snow"),
        ("a <v2> dog in the snow", "a man and a <v2> dog in the snow"),
        ("a <v2> dog running, in the snow.", "a man and a <v2> dog running, in the snow"),
        ("a photo of an old <v2> dog", "a man and an old <v2> dog in the snow"),
        ("a <v2> dog beside a man", "a <v2> dog beside a man"),
        ("wearing a hat, a <v2> dog", "wearing a hat, a <v2> dog"),
        ("a dog in a hat, <v2>", "a dog in a hat, <v2>"),
        ("a <v2> dog and a dog", "a <v2> dog and a dog"),
    ],
)
def test_a_sub_prompt_is_woven_in_or_left_as_it_is(sub_prompt: str, read: str) -> None:
    namings = [Naming("man", "", "a man"), Naming("dog", "<v2>", sub_prompt)]
    woven = weave_prompts("a man and a dog in the snow", namings)
    assert woven.sub_prompts == ("a man", read)
    assert "<v2>" not in woven.global_prompt and woven.global_prompt.count("dog") == 1


def test_a_trigger_that_holds_the_class_word_leaves_the_class_word_to_the_other_rows() -> None:
    namings = [Naming("man", "old man", "a photo of an old man waving"), DOG]
    woven = weave_prompts(BOTH, namings)
    assert woven.global_prompt == "a photo of a man waving and a dog running on the beach"
    assert woven.sub_prompts[0] == "a photo of an old man waving and a dog running on the beach"


def test_a_name_that_another_one_uses_as_a_word_is_not_looked_for_in_a_woven_prompt() -> None:
    namings = [Naming("man", "boy", "a boy waving"), Naming("dog", "<v2>", "a <v2> dog beside a boy")]
    assert weave_prompts("a dog and a man", namings).sub_prompts[0] == "a boy waving"


def test_class_words_within_each_other_leave_all_prompts_as_they_are() -> None:
    namings = [Naming("teddy bear", "<v1>", "a <v1> teddy bear"), Naming("bear", "<v2>", "a <v2> bear")]
    woven = weave_prompts("a teddy bear and a bear", namings)
    assert woven == ("a teddy bear and a bear", ("a <v1> teddy bear", "a <v2> bear"), (0, 1))
