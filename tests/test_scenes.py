"""What scenes and series may say: places, strengths, styles, controls, variants."""

from pathlib import Path

import pytest
import yaml

from d2plan.documents import (
    Scene,
    Series,
    list_files,
    list_scenes,
    load_run,
    load_scene,
    load_series,
    parse_document,
)
from d2plan.errors import InputError

DOG = {"concept": "rex.safetensors", "class_word": "dog", "sub_prompt": "a <v2> dog"}
SCENE = {"global_prompt": "a dog on the beach", "instances": [DOG]}
CONTROL = {"model": "maker/pose", "image": "pose.png"}
SERIES = {**SCENE, "variants": [{"name": "one"}, {"name": "two", "sub_prompts": ["a <v2> dog sitting"]}]}


def _scene(**changes: object) -> Scene:
    return parse_document(Scene, {**SCENE, **changes}, "here")


def _instance(**changes: object) -> Scene:
    return _scene(instances=[{**DOG, **changes}])


def test_what_is_left_out_changes_nothing() -> None:
    scene = _scene()
    (dog,) = scene.instances
    assert (dog.strength, dog.trigger, dog.box, dog.point, dog.mask) == (1.0, None, None, None, None)
    assert (scene.style, scene.controls, scene.masks, scene.missing, scene.scheduler) == (
        (),
        (),
        None,
        "error",
        "base",
    )
    control = _scene(controls=[CONTROL]).controls[0]
    assert (control.strength, control.start, control.end, control.rows) == (1.0, 0.0, 1.0, "global")


WRONG = {
    "box and point": ({"box": [0, 0, 1, 1], "point": [0.5, 0.5]}, "box and point say where it is more than once"),
    "point and mask": ({"mask": "m.png", "point": [0.5, 0.5]}, "point and mask say where it is more than once"),
    "a point outside": ({"point": [0.5, 1.5]}, r"instances\[0\]\.point\[1\]: must be 1"),
    "a point of one": ({"point": [0.5]}, r"instances\[0\]\.point\[1\] is missing"),
    "too strong": ({"strength": 2.5}, r"instances\[0\]\.strength: must be 2"),
    "against": ({"strength": -1}, r"instances\[0\]\.strength: must be 0"),
    "no number": ({"strength": float("nan")}, r"instances\[0\]\.strength"),
    "a trigger elsewhere": ({"trigger": "ohwx"}, 'does not hold the trigger "ohwx"'),
    "nowhere": ({"position": "above"}, r"instances\[0\]\.position: must be 'left', 'middle' or 'right'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_instance_is_told(case: str) -> None:
    changes, sentence = WRONG[case]
    with pytest.raises(InputError, match=sentence):
        _instance(**changes)


WRONG_SCENES = {
    "a control that ends first": ({"controls": [{**CONTROL, "start": 0.5, "end": 0.5}]}, "start must be less than end"),
    "unknown rows": ({"controls": [{**CONTROL, "rows": "some"}]}, r"controls\[0\]\.rows: must be 'global' or 'all'"),
    "a misspelt control": ({"controls": [{**CONTROL, "strenght": 1}]}, "did you mean strength"),
    "a detector unasked": ({"detector": "judge"}, "masks is not detect"),
    "unknown masks": ({"masks": "sam"}, "masks: must be 'attention', 'columns' or 'detect'"),
    "too many styles": ({"style": [{"adapter": "a"}] * 9}, "style holds more than 8"),
    "a word for yes": ({"other_base": "yes"}, "other_base: must be true or false, without quotes"),
    "a variant of fewer": ({"variant_of": [DOG, DOG]}, "variant_of has other instances than the scene; name as many"),
    "a variant of one elsewhere": ({"variant_of": [{**DOG, "position": "left"}]}, "in the same places"),
    "a variant without a prompt": (
        {"instances": [DOG, DOG], "variant_of": [DOG, {"concept": "max", "class_word": "dog"}]},
        "variant_of has an instance whose sub_prompt is missing",
    ),
    "a style without a file": ({"style": [{"strength": 1}]}, r"style\[0\]\.adapter is missing"),
}


@pytest.mark.parametrize("case", WRONG_SCENES)
def test_a_wrong_scene_is_told(case: str) -> None:
    changes, sentence = WRONG_SCENES[case]
    with pytest.raises(InputError, match=sentence) as caught:
        _scene(**changes)
    assert "\n" not in str(caught.value)


def test_every_path_is_taken_from_the_files_folder(tmp_path: Path) -> None:
    (tmp_path / "pose").mkdir()
    content = {
        **SERIES,
        "instances": [{**DOG, "mask": "m.png"}],
        "style": [{"adapter": "oil.safetensors"}],
        "controls": [CONTROL, {"model": "pose", "image": "/far/pose.png"}, {"model": "./net", "image": "p.png"}],
        "masks": "detect",
        "detector": "./eyes",
        "variants": [{"name": "one", "concepts": ["max.safetensors"]}, {"name": "two", "concepts": [None]}],
    }
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(content))
    series = load_series(tmp_path / "a.yaml")
    assert (series.instances[0].concept, series.instances[0].mask) == (
        str(tmp_path / "rex.safetensors"),
        str(tmp_path / "m.png"),
    )
    assert series.style[0].adapter == str(tmp_path / "oil.safetensors")
    assert [(one.model, one.image) for one in series.controls] == [
        ("maker/pose", str(tmp_path / "pose.png")),
        (str(tmp_path / "pose"), "/far/pose.png"),
        (str(tmp_path / "net"), str(tmp_path / "p.png")),
    ]
    assert series.detector == str(tmp_path / "eyes")
    assert [variant.concepts for variant in series.variants] == [(str(tmp_path / "max.safetensors"),), (None,)]
    (tmp_path / "b.yaml").write_text(yaml.safe_dump({**SCENE, "masks": "detect", "detector": "judge"}))
    assert load_scene(tmp_path / "b.yaml").detector == "judge"
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({**SCENE, "instances": [DOG], "variant_of": [DOG]}))
    assert load_scene(tmp_path / "c.yaml").variant_of[0].concept == str(tmp_path / "rex.safetensors")


def test_the_files_of_a_scene_are_named_by_their_fields() -> None:
    scene = _scene(instances=[{**DOG, "mask": "/m.png"}], controls=[CONTROL], masks="detect", detector="/eyes")
    assert list_files(scene) == {
        "instances[0].mask": "/m.png",
        "controls[0].model": "maker/pose",
        "controls[0].image": "pose.png",
        "detector": "/eyes",
    }
    assert list_files(_scene(masks="detect", detector="judge")) == {}


def test_a_variant_changes_what_it_says_and_keeps_the_rest() -> None:
    cat = {"concept": "tom.safetensors", "class_word": "cat", "sub_prompt": "a <v1> cat", "strength": 0.5}
    content = {
        "global_prompt": "a dog and a cat",
        "instances": [DOG, cat],
        "seed": 5,
        "steps": 9,
        "variants": [
            {"name": "as it is"},
            {"name": "sit", "sub_prompts": [None, "a <v1> cat sitting"]},
            {"name": "max", "concepts": ["max.safetensors", None]},
        ],
    }
    one, two, three = list_scenes(parse_document(Series, content, "here"))
    assert one == parse_document(Scene, {name: value for name, value in content.items() if name != "variants"}, "here")
    assert [item.sub_prompt for item in two.instances] == ["a <v2> dog", "a <v1> cat sitting"]
    assert [item.concept for item in three.instances] == ["max.safetensors", "tom.safetensors"]
    assert two.instances[1].strength == 0.5 and {scene.seed for scene in (one, two, three)} == {5}


WRONG_SERIES = {
    "no variants": ({"variants": []}, "variants holds fewer than 1; write more"),
    "variants missing": ({"variants": None}, "variants"),
    "two of one name": ({"variants": [{"name": "a"}, {"name": "A"}]}, 'two variants are named "A"'),
    "a folder elsewhere": ({"variants": [{"name": "../a"}]}, r"variants\[0\]\.name"),
    "a hidden folder": ({"variants": [{"name": ".a"}]}, r"variants\[0\]\.name"),
    "a device of Windows": ({"variants": [{"name": "Con"}]}, r"variants\[0\]\.name: no folder can have this name"),
    "a dot that Windows drops": ({"variants": [{"name": "a."}]}, r"variants\[0\]\.name: no folder can have this name"),
    "too few": ({"variants": [{"name": "a", "sub_prompts": ["x", "y"]}]}, r'"a" holds 2, but there are 1 instances'),
    "too many": ({"variants": [{"name": "a", "concepts": ["x", "y"]}]}, r"concepts of \"a\" holds 2"),
    "nobody": ({"instances": []}, "instances is empty, so there is nothing that a series could change"),
    "a misspelt field": ({"variants": [{"nam": "a"}]}, "did you mean name"),
    "an empty prompt": ({"variants": [{"name": "a", "sub_prompts": [""]}]}, r"sub_prompts\[0\]: is empty"),
}


@pytest.mark.parametrize("case", WRONG_SERIES)
def test_a_wrong_series_is_told(case: str) -> None:
    changes, sentence = WRONG_SERIES[case]
    with pytest.raises(InputError, match=sentence) as caught:
        parse_document(Series, {**SERIES, **changes}, "here")
    assert "\n" not in str(caught.value)


def test_a_series_is_no_scene() -> None:
    with pytest.raises(InputError, match="variants is not a field"):
        parse_document(Scene, SERIES, "here")
    assert not issubclass(Series, Scene)


def test_a_variants_trigger_must_stand_in_its_own_prompt() -> None:
    content = {**SERIES, "instances": [{**DOG, "sub_prompt": "an ohwx dog", "trigger": "ohwx"}]}
    with pytest.raises(InputError, match='variant "two": .*does not hold the trigger'):
        list_scenes(parse_document(Series, content, "here"))


OTHERS = {
    "a series as a scene": (load_scene, SERIES, "is a series; give it to `d2plan series`"),
    "a scene as a series": (load_series, SCENE, "is a scene; give it to `d2plan compose`"),
    "a plan as a scene": (load_scene, {**SCENE, "beats": []}, "is a plan; give it to `d2plan video`"),
    "a list as a series": (load_series, {"concepts": []}, "is a list of concepts; give it to `d2plan train`"),
    "a scene as a record": (load_run, SCENE, "is a scene; give it to `d2plan compose`"),
    "a record as a scene": (load_scene, {"scene": SCENE, "base_fingerprint": ""}, "is the record of a run; give its"),
    "a slip of the pen": (load_series, {**SCENE, "variant": []}, "variant is not a field; did you mean variants?"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_another_kind_of_file_is_told_with_the_command_that_takes_it(case: str, tmp_path: Path) -> None:
    load, content, sentence = OTHERS[case]
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=sentence.replace("?", r"\?")) as caught:
        load(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_a_document_without_other_base_is_written_as_before_the_field() -> None:
    scene = Scene.model_validate(SCENE)
    assert not scene.other_base and "other_base" not in scene.model_dump()
    allowed = scene.model_copy(update={"other_base": True})
    assert Scene.model_validate_json(allowed.model_dump_json()) == allowed
