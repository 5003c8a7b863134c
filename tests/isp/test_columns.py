"""Columns: who gets which, and when nobody does."""

from dataclasses import replace

import pytest

from d2plan.backbone.load import Backbone
from d2plan.config import IspSettings
from d2plan.isp.columns import deal_columns, tell_columns, wants_columns
from d2plan.isp.prepare import prepare_scene
from d2plan.isp.tokens import Naming
from d2plan.scenes import Control, Instance, Scene
from tests.isp.concepts import man_and_dog

MAN, DOG = Naming("man", "<v1>", "a <v1> man"), Naming("dog", "<v2>", "a <v2> dog")


def scene(prompt: str, *subs: str, **fields: object) -> Scene:
    instances = tuple(Instance(concept=str(place), sub_prompt=text) for place, text in enumerate(subs))
    return Scene(global_prompt=prompt, instances=instances, masks="columns", **fields)


@pytest.mark.parametrize(
    ("prompt", "first", "second", "man_is_left"),
    [
        ("a man and a dog", MAN, DOG, True),
        ("a dog and a man", MAN, DOG, False),
        ("a man on the right and a dog", MAN, DOG, False),
        ("a man and a dog on the left side", MAN, DOG, False),
        ("a man in the middle and a dog on the left", MAN, DOG, False),
        ("a man and a dog", MAN._replace(sub_prompt="a <v1> man on the right"), DOG, False),
        ("a dog sitting on the right and a man standing on the left", MAN, DOG, True),
        ("on the right a man, on the left a dog", MAN, DOG, False),
        ("on the left is a dog and on the right a man", MAN, DOG, False),
        ("a dog and a man", MAN._replace(sub_prompt="a <v1> man with a scar on the left cheek"), DOG, False),
        ("a man and a dog", MAN._replace(sub_prompt="a <v1> man looking to the right"), DOG, True),
    ],
)
def test_columns_follow_the_mentions_and_what_the_prompts_say_of_sides(
    prompt: str, first: Naming, second: Naming, man_is_left: bool
) -> None:
    for namings in ([first, second], [second, first]):
        boxes = deal_columns(scene(prompt, *(one.sub_prompt for one in namings)), namings)
        man = boxes[namings.index(first)]
        assert (man[0] < 0.5) == man_is_left
        assert sorted(box[0] for box in boxes) == [0.05, 0.5] and {box[2] for box in boxes} == {0.5, 0.95}


def test_a_position_counts_more_than_a_mention() -> None:
    asked = scene("a man and a dog", "a <v1> man", "a <v2> dog")
    left = asked.instances[1].model_copy(update={"position": "left"})
    boxes = deal_columns(asked.model_copy(update={"instances": (asked.instances[0], left)}), [MAN, DOG])
    assert boxes[1][0] < boxes[0][0]


@pytest.mark.parametrize(
    ("positions", "order"),
    [
        (("middle", None, None), (1, 0, 2)),
        ((None, None, "middle"), (0, 2, 1)),
        (("left", "right", "middle"), (0, 2, 1)),
        (("right", "left", None), (2, 0, 1)),
        (("left", "left", None), (0, 1, 2)),
        (("middle", "left"), (1, 0)),
        ((None, "middle"), (0, 1)),
        (("right", "middle"), (1, 0)),
    ],
)
def test_each_position_gets_its_column_and_the_others_stand_around(positions: tuple, order: tuple) -> None:
    words = ("man", "dog", "cat")[: len(positions)]
    asked = scene("a man, a dog and a cat", *(f"a <v1> {word}" for word in words))
    namings = [Naming(word, "<v1>", f"a <v1> {word}") for word in words]
    instances = zip(asked.instances, positions, strict=True)
    placed = tuple(item.model_copy(update={"position": position}) for item, position in instances)
    boxes = deal_columns(asked.model_copy(update={"instances": placed}), namings)
    lefts = sorted(box[0] for box in boxes)
    assert tuple(lefts.index(box[0]) for box in boxes) == order


def test_two_at_one_position_are_told() -> None:
    asked = scene("a man and a dog", "a <v1> man", "a <v2> dog")
    left = tuple(item.model_copy(update={"position": "left"}) for item in asked.instances)
    (told,) = tell_columns(asked.model_copy(update={"instances": left}), asked)
    assert told.startswith("instances[0] and instances[1] are all at the position left")
    assert not tell_columns(asked, asked)


def test_nobody_gets_a_column_where_a_place_was_given_or_is_not_needed() -> None:
    asked = scene("a man and a dog", "a man", "a dog")
    assert wants_columns(asked)
    assert not wants_columns(asked.model_copy(update={"masks": "attention"}))
    alone = scene("a man", "a man")
    assert wants_columns(alone)
    sided = alone.instances[0].model_copy(update={"position": "left"})
    assert not wants_columns(alone.model_copy(update={"instances": (sided,)}))
    assert not wants_columns(scene("a castle"))
    assert wants_columns(scene("m", *["a man"] * 4)) and not wants_columns(scene("m", *["a man"] * 5))
    for place in ({"box": (0, 0, 0.5, 1)}, {"mask": "m.png"}, {"point": (0.2, 0.5)}):
        placed = asked.instances[0].model_copy(update=place)
        assert not wants_columns(asked.model_copy(update={"instances": (placed, asked.instances[1])}))
    control = Control(model="net", image="pose.png")
    assert not wants_columns(asked.model_copy(update={"controls": (control,)}))


def test_a_scene_in_columns_is_prepared_as_one_drawn_by_hand(tiny: Backbone) -> None:
    settings = IspSettings(steps=10, warmup_fraction=0.3, short_warmup_fraction=0.1, masks="columns")
    written = man_and_dog(tiny)
    plain = written.scene.model_copy(update={"warmup": None, "steps": None, "masks": None})
    dealt = prepare_scene(tiny, plain, written.adapters, settings)
    boxes = [item.box for item in dealt.scene.instances]
    assert boxes == [(0.05, 0.15, 0.5, 0.95), (0.5, 0.15, 0.95, 0.95)] == [region.box for region in dealt.regions]
    assert (dealt.warmup, dealt.asks, dealt.scene.masks) == (1, False, "columns")
    again = prepare_scene(tiny, dealt.scene, written.adapters, settings)
    assert (again.regions, again.warmup) == (dealt.regions, dealt.warmup), "a record makes the same picture"
    assert again.scene.instances == dealt.scene.instances and again.columns == dealt.columns
    placed = tuple(item.model_copy(update={"box": (0.1, 0.1, 0.4, 0.9)}) for item in plain.instances)
    by_hand = prepare_scene(tiny, plain.model_copy(update={"instances": placed}), written.adapters, settings)
    assert (by_hand.scene.masks, by_hand.warmup) == ("attention", 1), "what is drawn by hand is not softened"
    asked = prepare_scene(tiny, plain.model_copy(update={"masks": "attention"}), written.adapters, settings)
    assert (asked.warmup, asked.asks) == (3, True)
    other = prepare_scene(tiny, plain, written.adapters, replace(settings, masks="attention"))
    assert other.scene.masks == "attention" and other.asks


def test_one_alone_gets_a_column_as_wide_as_all_and_the_whole_warm_up(tiny: Backbone) -> None:
    settings = IspSettings(steps=10, warmup_fraction=0.3, short_warmup_fraction=0.1, masks="columns")
    written = man_and_dog(tiny)
    plain = written.scene.model_copy(update={"warmup": None, "steps": None, "masks": None})
    alone = plain.model_copy(update={"instances": plain.instances[:1], "global_prompt": "a photo of a man"})
    dealt = prepare_scene(tiny, alone, written.adapters[:1], settings)
    assert [region.box for region in dealt.regions] == [(0.05, 0.15, 0.95, 0.95)]
    assert (dealt.warmup, dealt.asks, dealt.scene.masks) == (3, False, "columns")
    again = prepare_scene(tiny, dealt.scene, written.adapters[:1], settings)
    assert (again.regions, again.warmup, again.scene) == (dealt.regions, dealt.warmup, dealt.scene)


def test_a_record_of_two_of_one_class_keeps_who_is_which_mention(tiny: Backbone) -> None:
    settings = IspSettings(steps=10, masks="columns")
    both = man_and_dog(tiny)
    man = both.adapters[0]
    prompt = "a photo of a man on the right and a man on the left"
    instances = tuple(
        item.model_copy(update={"class_word": "man", "sub_prompt": f"a photo of a <v1> man {deed}"})
        for item, deed in zip(both.scene.instances[:1] * 2, ("waving", "sitting"), strict=True)
    )
    fields = {"global_prompt": prompt, "instances": instances, "masks": None, "weave": "all"}
    dealt = prepare_scene(tiny, both.scene.model_copy(update=fields), [man, man], settings)
    assert [item.box[0] for item in dealt.scene.instances] == [0.5, 0.05]
    again = prepare_scene(tiny, dealt.scene, [man, man], settings)
    assert (again.columns, again.read, again.scene) == (dealt.columns, dealt.read, dealt.scene)


def test_boxes_by_hand_are_never_dealt_anew_even_where_they_look_like_columns(tiny: Backbone) -> None:
    settings = IspSettings(steps=10, masks="columns")
    written = man_and_dog(tiny)
    dealt = prepare_scene(tiny, written.scene.model_copy(update={"masks": None}), written.adapters, settings)
    left, right = (item.box for item in dealt.scene.instances)
    exchanged = [
        one.model_copy(update={"box": box}) for one, box in zip(dealt.scene.instances, (right, left), strict=True)
    ]
    for masks, route in ((None, False), ("columns", True)):
        asked = dealt.scene.model_copy(update={"masks": masks, "instances": tuple(exchanged)})
        prepared = prepare_scene(tiny, asked, written.adapters, settings)
        assert [item.box for item in prepared.scene.instances] == [right, left]
        assert [region.dealt for region in prepared.regions] == [route, route]


def test_a_variant_has_the_columns_of_the_kept_picture(tiny: Backbone) -> None:
    settings = IspSettings(steps=10, masks="columns")
    written = man_and_dog(tiny)
    plain = written.scene.model_copy(update={"masks": "columns"})
    kept = prepare_scene(tiny, plain, written.adapters, settings)
    first, second = plain.instances
    moved = (first.model_copy(update={"sub_prompt": "a photo of a <v1> man on the right"}), second)
    variant = prepare_scene(tiny, plain.model_copy(update={"instances": moved}), written.adapters, settings, kept=kept)
    assert [item.box for item in variant.scene.instances] == [item.box for item in kept.scene.instances]
    assert any('instances[0]: "on the right" has no effect' in note for note in variant.warnings)


def test_columns_that_are_not_given_are_told_and_the_ablation_has_none(tiny: Backbone) -> None:
    written = man_and_dog(tiny)
    first, second = written.scene.instances
    boxed = (first.model_copy(update={"box": (0.0, 0.0, 0.3, 1.0)}), second)
    asked = written.scene.model_copy(update={"instances": boxed, "masks": "columns"})
    prepared = prepare_scene(tiny, asked, written.adapters)
    assert prepared.scene.masks == "attention" and any(
        "no columns, which are dealt to up to 4" in note for note in prepared.warnings
    )
    alone = IspSettings(steps=10, masks="columns", compose=False)
    plain = written.scene.model_copy(update={"masks": None})
    assert prepare_scene(tiny, plain, written.adapters, alone).scene.masks == "attention"
