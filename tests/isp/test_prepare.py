"""A prepared scene: defaults, and each prompt read by its own model."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from d2plan.adapter.rows import adapter_rows
from d2plan.backbone.load import Backbone
from d2plan.backbone.sdxl import encode_prompts
from d2plan.config import IspSettings
from d2plan.documents import Instance, Scene, Style
from d2plan.errors import AdapterError, InputError
from d2plan.isp.prepare import Extras, prepare_scene
from tests.isp.concepts import man_and_dog, random_adapter, two_men


def test_what_a_scene_leaves_open_is_the_bases_own(tiny: Backbone) -> None:
    scene = prepare_scene(tiny, Scene(global_prompt="a dog")).scene
    assert (scene.steps, scene.warmup, scene.guidance_scale, scene.height, scene.width) == (4, 1, 5.0, 128, 128)


def test_the_class_word_comes_from_the_adapter_unless_the_scene_names_one(tiny: Backbone) -> None:
    prepared = man_and_dog(tiny)
    assert [instance.class_word for instance in prepared.scene.instances] == ["man", "dog"]
    scene = Scene(
        global_prompt="a bear", instances=(Instance(concept="a", class_word="bear", sub_prompt="a <v1> bear"),)
    )
    assert prepare_scene(tiny, scene, [random_adapter(tiny, "dog", "<v1>")]).regions[0].class_word == "bear"


def test_sub_prompts_are_read_with_their_own_adapter_and_the_rest_without(tiny: Backbone) -> None:
    prepared = man_and_dog(tiny)
    assert len(prepared.text) == 4
    assert not prepared.text.states[0].any() and not prepared.text.pooled[0].any()
    with torch.no_grad():
        bare = encode_prompts(tiny, [prepared.scene.global_prompt])
        sub = prepared.scene.instances[1].sub_prompt
        with (
            adapter_rows(tiny.text_encoders[0], "text_encoder", prepared.adapters[1:]),
            adapter_rows(tiny.text_encoders[1], "text_encoder_2", prepared.adapters[1:]),
        ):
            own = encode_prompts(tiny, [sub])
        without = encode_prompts(tiny, [sub])
    assert torch.equal(prepared.text.states[1:2], bare.states)
    assert torch.allclose(prepared.text.states[3:], own.states, atol=1e-5)
    assert torch.allclose(prepared.text.pooled[3:], own.pooled, atol=1e-5)
    assert not torch.allclose(own.states, without.states, atol=1e-3)


def test_a_negative_prompt_takes_the_place_of_the_null(tiny: Backbone) -> None:
    prepared = man_and_dog(tiny, negative_prompt="a red hat")
    with torch.no_grad():
        assert torch.equal(prepared.text.states[:1], encode_prompts(tiny, ["a red hat"]).states)


def test_an_unknown_word_is_a_warning_with_a_near_one(tiny: Backbone) -> None:
    (warning,) = prepare_scene(tiny, Scene(global_prompt="a photo of a beech")).warnings
    assert "beech" in warning and "beach" in warning


def test_an_adapter_of_another_base_is_an_error(tiny: Backbone) -> None:
    scene = Scene(global_prompt="a dog", instances=(Instance(concept="a", sub_prompt="a <v1> dog"),))
    with pytest.raises(AdapterError, match="trained on the base"):
        prepare_scene(tiny, scene, [replace(random_adapter(tiny, "dog", "<v1>"), base_fingerprint="0" * 16)])


def test_other_weights_are_taken_when_asked_for_and_another_architecture_never(tiny: Backbone) -> None:
    instances = (Instance(concept="a", sub_prompt="a <v1> dog"),)
    scene = Scene(global_prompt="a dog", instances=instances, other_base=True)
    rex = replace(random_adapter(tiny, "dog", "<v1>"), base_fingerprint="0" * 16)
    (note,) = prepare_scene(tiny, scene, [rex]).warnings
    assert note.startswith(f"instances[0]: a dog was learnt on the base {'0' * 16}, not on {tiny.fingerprint}")
    path, delta = next(iter(rex.deltas.items()))
    wide = replace(rex, deltas={**rex.deltas, path: delta._replace(down=torch.ones(2, 7))})
    with pytest.raises(AdapterError, match="1 have another width"):
        prepare_scene(tiny, scene, [wide])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"steps": 3, "warmup": 4}, "warmup is 4"),
        ({"warmup": 5}, "warmup is 5"),
        ({"instances": ()}, "0 instances, but 2 adapters"),
    ],
)
def test_a_scene_that_does_not_hold_together_is_an_error(tiny: Backbone, changes: dict, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        man_and_dog(tiny, **changes)


def test_the_end_of_a_prompt_that_is_not_read_is_told(tiny: Backbone) -> None:
    length = tiny.tokenizers[0].model_max_length - 2
    fits = " ".join(["dog"] * length)
    assert prepare_scene(tiny, Scene(global_prompt=fits)).warnings == ()
    (warning,) = prepare_scene(tiny, Scene(global_prompt=f"{fits} red hat")).warnings
    assert warning.startswith('global_prompt: it is too long, and "red hat" at its end is not read')
    (warning,) = prepare_scene(tiny, Scene(global_prompt=f"{fits} {'red ' * 200}hat")).warnings
    begin = " ".join(["red"] * 8)
    assert warning == f'global_prompt: it is too long, and its end from "{begin}" on is not read; shorten it.'


def test_trigger_words_stand_for_the_identifier_that_a_file_does_not_state(tiny: Backbone) -> None:
    foreign = replace(random_adapter(tiny, "dog", ""), header={"modelspec.trigger_phrase": "red dog"})
    prompt = "a photo of a blue teddy bear and a red dog"

    def columns(**fields: object) -> tuple[int, ...]:
        instance = Instance(concept="a", class_word="dog", sub_prompt=prompt, **fields)
        scene = Scene(global_prompt="a photo of a dog", instances=(instance,))
        return prepare_scene(tiny, scene, [foreign]).columns[0].identifier_positions

    words = prompt.split()
    assert columns(trigger="teddy bear") == (words.index("teddy") + 1, words.index("bear") + 1)
    assert columns() == (words.index("red") + 1, words.index("dog") + 1)
    silent = Scene(global_prompt="a dog", instances=(Instance(concept="a", sub_prompt="a dog"),))
    prepared = prepare_scene(tiny, silent, [replace(foreign, header={})])
    assert prepared.columns[0].identifier_positions == (2,)
    assert any("states no identifier" in warning for warning in prepared.warnings)


def test_what_a_scene_asks_for_without_any_effect_is_told(tiny: Backbone) -> None:
    assert not man_and_dog(tiny).warnings
    (late,) = man_and_dog(tiny, warmup=4, steps=4).warnings
    assert "warmup is 4" in late and "no instance is composed" in late
    john = random_adapter(tiny, "man", "<v1>", scale=0.0)
    scene = Scene(
        global_prompt="a man",
        instances=(Instance(concept="john", sub_prompt="a <v1> man"),),
        style=(Style(adapter="look"),),
    )
    warnings = prepare_scene(tiny, scene, [john], extras=Extras(styles=[replace(john, name="look")])).warnings
    assert [warning.split(":")[0] for warning in warnings] == ["instances[0]", "style[0]"]
    assert all("has no effect" in warning for warning in warnings)


def test_instances_of_one_class_at_the_same_position_are_told(tiny: Backbone) -> None:
    (warning,) = two_men(tiny, position=("left", "left")).warnings
    assert warning.startswith('instances[0] and instances[1] are all "man" at the position left; the order')
    assert not two_men(tiny, position=("left", "right")).warnings
    assert not two_men(tiny, position=("left", "left"), box=((0, 0, 0.4, 1), None)).warnings
    assert not two_men(tiny, position=("right", "right"), point=(None, (0.2, 0.5))).warnings


def test_an_unknown_word_of_the_negative_prompt_is_told_too(tiny: Backbone) -> None:
    (warning,) = man_and_dog(tiny, negative_prompt="a photo of a beech").warnings
    assert warning.startswith('negative_prompt: the base has never seen "beech"')


def test_rows_read_the_whole_scene_where_the_scene_asks_for_it(tiny: Backbone) -> None:
    alone, subs, every = (man_and_dog(tiny, weave=weave) for weave in ("none", "subs", "all"))
    written = alone.scene.global_prompt
    assert man_and_dog(tiny).read == alone.read and alone.scene.weave == "none"
    assert (alone.read.global_prompt, subs.read.global_prompt) == (written, written)
    assert every.read.global_prompt == "a photo of a man wearing sunglasses and a dog running on the beach"
    assert subs.read.sub_prompts == every.read.sub_prompts
    assert subs.read.sub_prompts[1] == "a photo of a <v2> dog running and a <v2> dog running on the beach"
    assert every.scene.instances == alone.scene.instances, "a record says what was asked for"
    torch.testing.assert_close(every.text.states[0], alone.text.states[0])
    assert not torch.equal(every.text.states[1], alone.text.states[1])
    # k of "dog": behind two words more; j: of the second "<v2>", which stands where the dog does.
    assert every.columns[1].class_positions[0] == alone.columns[1].class_positions[0] + 2
    assert every.columns[1].identifier_positions == every.columns[1].class_positions


def test_a_woven_prompt_that_is_too_long_gives_way_to_the_written_one(tiny: Backbone) -> None:
    long = "a photo of a man and a dog on the beach" + " and the sea" * 9
    prepared = man_and_dog(tiny, weave="all", global_prompt=long)
    assert prepared.read.global_prompt == long
    assert prepared.read.sub_prompts == tuple(item.sub_prompt for item in prepared.scene.instances)
    assert any("too long" in warning for warning in prepared.warnings)


def test_a_sub_prompt_that_cannot_be_woven_in_is_told(tiny: Backbone) -> None:
    said = ("a photo of a <v1> man wearing sunglasses", "a photo of a <v2> dog running and a man")
    concepts = ("john.safetensors", "rex.safetensors")
    both = tuple(Instance(concept=one, sub_prompt=text) for one, text in zip(concepts, said, strict=True))
    prepared = man_and_dog(tiny, weave="all", instances=both)
    assert prepared.read.sub_prompts[1] == said[1]
    (warning,) = prepared.warnings
    assert warning.startswith("instances[1].sub_prompt is read as it is written")
    assert not man_and_dog(tiny, weave="none", instances=both).warnings


def test_a_scene_of_one_class_or_drawn_by_hand_may_have_a_warm_up_of_its_own(tiny: Backbone) -> None:
    settings = IspSettings(steps=10, warmup_fraction=0.3, short_warmup_fraction=0.1)
    both = man_and_dog(tiny)
    man, dog = both.adapters
    scene = both.scene.model_copy(update={"warmup": None, "steps": None})
    alone = scene.model_copy(update={"instances": scene.instances[:1]})
    prompt = "a photo of a man and a man on the beach"
    alike = scene.model_copy(update={"global_prompt": prompt, "instances": scene.instances[:1] * 2})
    assert prepare_scene(tiny, scene, [man, dog], settings).warmup == 3
    assert prepare_scene(tiny, alone, [man], settings).warmup == 3
    assert prepare_scene(tiny, alike, [man, man], settings).warmup == 1
    assert prepare_scene(tiny, alike, [man, man], replace(settings, short_warmup_fraction=None)).warmup == 3
    first, second = scene.instances
    left = first.model_copy(update={"box": (0.0, 0.0, 0.5, 1.0)})
    right = second.model_copy(update={"box": (0.5, 0.0, 1.0, 1.0)})
    for members, warmup in (((left, right), 1), ((left, second), 3)):
        drawn = scene.model_copy(update={"instances": members})
        assert prepare_scene(tiny, drawn, [man, dog], settings).warmup == warmup


@pytest.mark.parametrize("field", ["global_prompt", "negative_prompt"])
@pytest.mark.parametrize("identifier", ["<v2>", "<v9>"])
def test_an_identifier_outside_of_the_sub_prompts_is_refused(tiny: Backbone, field: str, identifier: str) -> None:
    with pytest.raises(InputError, match=f"{field} holds the identifier {identifier}, which only an adapter knows"):
        man_and_dog(tiny, **{field: f"a photo of a man and a {identifier} dog on the beach"})


def test_trigger_words_may_stand_in_the_global_prompt(tiny: Backbone) -> None:
    foreign = replace(random_adapter(tiny, "dog", "brown"), header={})
    instance = Instance(concept="a", trigger="brown", sub_prompt="a photo of a brown dog")
    scene = Scene(global_prompt="a photo of a brown dog", instances=(instance,))
    assert prepare_scene(tiny, scene, [foreign]).scene.global_prompt == scene.global_prompt


def test_notes_name_files_without_their_folders(tiny: Backbone) -> None:
    john = replace(random_adapter(tiny, "man", "", scale=0.0), path=Path("/home/me/secret/john.safetensors"))
    scene = Scene(global_prompt="a man", instances=(Instance(concept="a", class_word="man", sub_prompt="a man"),))
    silent, idle = prepare_scene(tiny, scene, [john]).warnings
    assert silent.startswith("instances[0]: john.safetensors states no identifier")
    assert idle.startswith("instances[0]: john.safetensors has no effect")


def test_an_action_of_the_global_prompt_gives_way_to_the_sub_prompts_or_is_told(tiny: Backbone) -> None:
    prompt = "a photo of a man and a running dog{} on the beach".format
    prepared = man_and_dog(tiny, weave="all", global_prompt=prompt(""))
    assert prepared.read.global_prompt == "a photo of a man wearing sunglasses and a dog running on the beach"
    assert not prepared.warnings
    (note,) = man_and_dog(tiny, weave="all", global_prompt=prompt(" in a red hat sitting")).warnings
    assert note.startswith('instances[1]: global_prompt says "sitting" behind "dog"')


def test_an_identifier_that_is_the_class_word_is_refused(tiny: Backbone) -> None:
    scene = Scene(global_prompt="a dog", instances=(Instance(concept="rex.safetensors", sub_prompt="a Dog"),))
    with pytest.raises(InputError, match=r"rex.safetensors has the identifier Dog, which is its class word too"):
        prepare_scene(tiny, scene, [random_adapter(tiny, "dog", "Dog")])
