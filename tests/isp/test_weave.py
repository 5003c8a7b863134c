"""Prompts woven together: what each row reads, and what is left as it was written."""

import pytest

from d2plan.isp.tokens import Naming
from d2plan.isp.weave import tell_actions, weave_prompts

MAN = Naming("man", "<v1>", "a photo of a <v1> man wearing sunglasses")
DOG = Naming("dog", "<v2>", "a photo of a <v2> dog running")
BOTH = "a photo of a man and a dog on the beach"


def test_the_global_row_reads_what_each_does_and_a_sub_row_knows_its_own_concept_alone() -> None:
    woven = weave_prompts(BOTH, [MAN, DOG])
    assert woven.global_prompt == "a photo of a man wearing sunglasses and a dog running on the beach"
    assert woven.sub_prompts == (
        "a photo of a <v1> man wearing sunglasses and a <v1> man wearing sunglasses on the beach",
        "a photo of a <v2> dog running and a <v2> dog running on the beach",
    )
    assert not woven.alone
    assert woven.mentions == (0, 1)
    assert weave_prompts("a dog and a man in a hat", [MAN, DOG]).mentions == (1, 0)
    assert weave_prompts("a dog in a hat and a man", [MAN, DOG]).mentions == (0, 0)


def test_what_is_woven_in_is_not_taken_for_the_global_prompts_own_words() -> None:
    woman = Naming("woman", "<v4>", "a <v4> woman wearing sunglasses")
    woven = weave_prompts("a man and a woman", [MAN, woman])
    assert woven.global_prompt == "a man wearing sunglasses and a woman wearing sunglasses"
    assert woven.sub_prompts[0] == "a <v1> man wearing sunglasses and a <v1> man wearing sunglasses"


@pytest.mark.parametrize(
    ("global_prompt", "read"),
    [
        ("a man in a red hat and a dog", "a man waving in a red hat and a <v2> dog"),
        ("a man wearing a red hat and a dog", "a man waving wearing a red hat and a <v2> dog"),
        ("a man on the left with a bag and a dog", "a man waving on the left with a bag and a <v2> dog"),
        ("a dog and an old man", "a <v2> dog and an old man waving"),
        ("a dog beside a standing man", "a <v2> dog beside a <v2> dog"),
        ("a dog and a man running on the beach", "a <v2> dog and a <v2> dog on the beach"),
        (
            "a man on the left and a dog on the right in a living room",
            "a <v2> dog on the left and a <v2> dog on the right in a living room",
        ),
        ("man, dog and a bench", "<v2> dog, <v2> dog and a bench"),
        ("a man in a suit and a dog", "a man waving in a suit and a <v2> dog"),
        ("a man, wearing a hat, and a dog", "a man waving, wearing a hat, and a <v2> dog"),
        ("a man and his dog", "a <v2> dog and his <v2> dog"),
    ],
)
def test_a_figure_that_the_global_prompt_describes_stays_who_it_is_in_all_rows(global_prompt: str, read: str) -> None:
    namings = [Naming("man", "<v1>", "a <v1> man waving"), Naming("dog", "<v2>", "a <v2> dog")]
    woven = weave_prompts(global_prompt, namings)
    assert woven.sub_prompts[1] == read and not woven.alone


def test_the_order_of_the_instances_changes_nothing() -> None:
    woven, turned = weave_prompts(BOTH, [MAN, DOG]), weave_prompts(BOTH, [DOG, MAN])
    assert turned.global_prompt == woven.global_prompt and turned.sub_prompts[::-1] == woven.sub_prompts


def test_of_two_of_one_class_a_row_knows_its_own_alone() -> None:
    first, second = Naming("man", "<v1>", "a <v1> man waving"), Naming("man", "<v3>", "a <v3> man in a hat")
    woven = weave_prompts("a man, a man and a dog on the beach", [first, second, DOG])
    assert woven.global_prompt == "a man, a man and a dog running on the beach"
    assert woven.sub_prompts == (
        "a <v1> man waving, a <v1> man waving and a <v1> man waving on the beach",
        "a <v3> man in a hat, a <v3> man in a hat and a <v3> man in a hat on the beach",
        "a <v2> dog running, a <v2> dog running and a <v2> dog running on the beach",
    )
    assert not woven.alone
    assert weave_prompts("a man and a man", [second, first]).sub_prompts[1] == "a <v1> man waving and a <v1> man waving"


@pytest.mark.parametrize(
    ("sub_prompt", "read"),
    [
        ("photo of <v2> with a bow", "a tree and a <v2> with a bow in the snow"),
        ("a picture of the tall <v2> dog", "a tree and a tall <v2> dog in the snow"),
        ("<v2> dog", "a tree and a <v2> dog in the snow"),
        ("a <v2> dog in the snow", "a tree and a <v2> dog in the snow"),
        ("a <v2> dog running, in the snow.", "a tree and a <v2> dog running, in the snow"),
        ("a photo of an old <v2> dog", "a tree and an old <v2> dog in the snow"),
        ("a <v2> dog beside a man", "a <v2> dog beside a man"),
        ("wearing a hat, a <v2> dog", "wearing a hat, a <v2> dog"),
        ("a dog in a hat, <v2>", "a dog in a hat, <v2>"),
        ("a <v2> dog and a dog", "a <v2> dog and a dog"),
    ],
)
def test_a_sub_prompt_is_woven_in_or_left_as_it_is(sub_prompt: str, read: str) -> None:
    others = [Naming("man", "", "a man")] if " man" in sub_prompt else []
    woven = weave_prompts(
        "a tree and a dog in the snow" + " beside a man" * len(others), [DOG._replace(sub_prompt=sub_prompt), *others]
    )
    assert woven.sub_prompts[0] == read
    assert "<v2>" not in woven.global_prompt and woven.global_prompt.count("dog") == 1


def test_a_trigger_that_holds_the_class_word_leaves_the_class_word_to_the_other_rows() -> None:
    namings = [Naming("man", "old man", "a photo of an old man waving"), DOG]
    woven = weave_prompts(BOTH, namings)
    assert woven.global_prompt == "a photo of a man waving and a dog running on the beach"
    assert woven.sub_prompts[0] == "a photo of an old man waving and an old man waving on the beach"


def test_a_name_that_another_one_uses_as_a_word_is_not_looked_for_in_a_woven_prompt() -> None:
    namings = [Naming("man", "boy", "a boy waving"), Naming("dog", "<v2>", "a <v2> dog beside a boy")]
    assert weave_prompts("a dog in a hat and a man", namings).sub_prompts[0] == "a boy waving"


def test_class_words_within_each_other_leave_all_prompts_as_they_are() -> None:
    namings = [Naming("teddy bear", "<v1>", "a <v1> teddy bear"), Naming("bear", "<v2>", "a <v2> bear")]
    woven = weave_prompts("a teddy bear and a bear", namings)
    assert woven == ("a teddy bear and a bear", ("a <v1> teddy bear", "a <v2> bear"), (0, 1), (0, 0))


@pytest.mark.parametrize(
    ("global_prompt", "sub_prompt", "read"),
    [
        ("a red man standing and a dog", "a red <v1> man sitting", "a red <v1> man sitting and a dog"),
        ("a tall red man and a dog", "an old red <v1> man", "a tall red old <v1> man and a dog"),
        ("an old man and a dog", "a red <v1> man", "an old red <v1> man and a dog"),
        ("a red hat, a man and a dog", "a red <v1> man", "a red hat, a red <v1> man and a dog"),
        ("a standing man and a dog", "an angry <v1> man sitting", "an angry <v1> man sitting and a dog"),
        ("a man on the left standing and a dog", "a <v1> man sitting", "a <v1> man sitting on the left and a dog"),
        (
            "a man who is standing in the snow and a dog",
            "a <v1> man sitting",
            "a <v1> man sitting in the snow and a dog",
        ),
        ("a man standing and a dog", "a sitting <v1> man", "a sitting <v1> man and a dog"),
        ("a man standing and a dog", "a <v1> man in a hat", "a <v1> man in a hat standing and a dog"),
        ("a man standing and a dog", "a <v1> with a hat waving", "a <v1> with a hat waving and a dog"),
        ("a man standing and a dog", "a <v1> man by a parked car", "a <v1> man by a parked car standing and a dog"),
        ("a man waving and a dog", "a <v1> man waving", "a <v1> man waving and a dog"),
        ("a man and a running dog", "a <v1> man sitting", "a <v1> man sitting and a running dog"),
    ],
)
def test_nothing_is_said_twice_and_an_own_action_counts(global_prompt: str, sub_prompt: str, read: str) -> None:
    woven = weave_prompts(global_prompt, [Naming("man", "<v1>", sub_prompt)])
    assert woven.sub_prompts[0] == read
    bare = read.replace("<v1> man", "man").replace("<v1>", "man")
    assert woven.global_prompt == bare


def test_two_of_one_class_lose_the_global_action_where_their_own_row_reads_them() -> None:
    namings = [Naming("man", "<v1>", "a <v1> man waving"), Naming("man", "<v3>", "a <v3> man in a hat")]
    woven = weave_prompts("a man standing and a man standing", namings)
    assert woven.global_prompt == "a man standing and a man standing"
    assert woven.sub_prompts[0] == "a <v1> man waving and a <v1> man waving"
    assert woven.sub_prompts[1] == "a <v3> man in a hat and a <v3> man in a hat standing"


def test_two_actions_of_which_nobody_knows_whose_they_are_are_told() -> None:
    dog = Naming("dog", "<v2>", "a <v2> dog sitting")
    assert not tell_actions("a man running and a dog standing on the beach", [dog])
    (note,) = tell_actions("a man and a dog in a red hat running", [MAN, dog])
    assert note == (
        'instances[1]: global_prompt says "running" behind "dog", and its sub_prompt says "sitting"; '
        "if both are meant of it, keep one of them."
    )
    assert not tell_actions("a dog in a red hat running", [Naming("dog", "<v2>", "a <v2> dog in the snow")])
