import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from d2plan.documents import (
    Instance,
    MaskReport,
    RunRecord,
    Scene,
    contains_word,
    load_run,
    load_scene,
    parse_document,
    revise,
)
from d2plan.errors import D2PlanError, FileError, InputError

FULL = """
base: mini
global_prompt: a photo of a man and a dog on the beach
instances:
  - {concept: john.safetensors, class_word: man, sub_prompt: a photo of a <v1> man wearing sunglasses}
  - {concept: rex.safetensors, class_word: dog, sub_prompt: a photo of a <v2> dog running}
steps: 30
guidance_scale: 7.5
seed: 7
"""


@pytest.fixture
def write(tmp_path):
    def write_scene(text):
        path = tmp_path / "scene.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write_scene


def test_the_scene_of_the_readme_is_read_whole(write, tmp_path):
    assert load_scene(write(FULL)) == Scene(
        base="mini",
        global_prompt="a photo of a man and a dog on the beach",
        instances=(
            Instance(
                concept=str(tmp_path / "john.safetensors"),
                class_word="man",
                sub_prompt="a photo of a <v1> man wearing sunglasses",
            ),
            Instance(
                concept=str(tmp_path / "rex.safetensors"), class_word="dog", sub_prompt="a photo of a <v2> dog running"
            ),
        ),
        steps=30,
        guidance_scale=7.5,
        seed=7,
    )


def test_a_prompt_alone_is_a_scene_and_leaves_the_rest_to_the_base(write):
    scene = load_scene(write("global_prompt: a photo of a castle"))
    assert (scene.base, scene.instances, scene.seed) == ("mini", (), 0)
    assert (scene.steps, scene.warmup, scene.guidance_scale, scene.height, scene.width) == (None,) * 5


def test_paths_are_taken_from_the_scene_files_folder_unless_absolute(write, tmp_path):
    text = "base: ./model\nglobal_prompt: a dog\ninstances:\n- {concept: %s, sub_prompt: a <v1> dog}\n"
    assert load_scene(write(text % "sub/rex.safetensors")).instances[0].concept == str(
        tmp_path / "sub" / "rex.safetensors"
    )
    assert load_scene(write(text % "/far/rex.safetensors")).instances[0].concept == "/far/rex.safetensors"
    assert load_scene(write(text % "~/rex.safetensors")).instances[0].concept == str(Path.home() / "rex.safetensors")
    assert load_scene(write(text % "x")).base == str(tmp_path / "model")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("global_promt: a dog", "global_promt is not a field; did you mean global_prompt?"),
        (FULL.replace("sub_prompt: a photo of a <v2>", "sub_promt: a photo of a <v2>"), "did you mean sub_prompt?"),
        (FULL.replace("guidance_scale", "guidance"), "guidance is not a field; did you mean guidance_scale?"),
        (FULL + "classword: dog\n", "classword is not a field; did you mean class_word, which belongs into instances?"),
        (FULL + "null: 1\n", ": null is not a field; use"),
        (FULL + "on: 1\n", ": on is not a field"),
        (FULL + "2026-01-01: 1\n", ": 2026-01-01 is not a field; use"),
        (FULL.replace("global_prompt: ", 'negative_prompt: "a\\0b"\nglobal_prompt: '), "negative_prompt: holds a NUL"),
        (FULL + "zzz: 1", "zzz is not a field; use base, global_prompt, instances"),
        ("base: mini", "global_prompt is missing"),
        ("instances: [{concept: a}]", "global_prompt is missing; write it."),
        (FULL.replace("global_prompt", "negative_prompt"), "global_prompt is missing; write it."),
        (
            "global_prompt: a\ninstances: [{concept: a, sub_prompt: b}, {concept: c}]",
            "instances[1].sub_prompt is missing",
        ),
        ("global_prompt: a\nconcept: rex.safetensors", "concept belongs into instances; write it there."),
        ("sub_prompt: a dog", "sub_prompt belongs into instances; write it there."),
        ("global_prompt: a\nimage: pose.png", "image belongs into controls; write it there."),
        ("global_prompt: ''", "global_prompt: is empty; write it"),
        ("global_prompt: 5", "global_prompt: must be text"),
        ("global_prompt: a\nsteps: '7'", "steps: must be a whole number, without quotes"),
        ("global_prompt: a\nseed: -1", "seed: must be 0 or more"),
        ("global_prompt: a\ninstances: [5]", "instances[0]: must be fields, written as `name: value`"),
        ("global_prompt: a\ninstances: x", "instances: must be a list"),
        (FULL + "seed: 8", '"seed" is written twice'),
        ("- a\n- b", "holds no fields"),
        ("", "holds no fields"),
        ("a: [", "not readable as YAML: line 1"),
        ("a: !!python/object:os.system x", "not readable as YAML"),
        (b"global_prompt: \xff\xfe", "not text in UTF-8"),
        ("[" * 3_000, "nested too deeply"),
        ("a: " + "9" * 5000, "not readable as YAML"),
        ("x" * 1_000_001, "larger than 1000000 bytes"),
        (FULL.replace("class_word: man", "class_word: cat"), '"cat", which does not stand as a word in global_prompt'),
        (FULL.replace("class_word: man", "class_word: ma"), "instances[0].class_word"),
    ],
)
def test_a_wrong_scene_is_one_sentence_that_names_file_and_field(write, text, told):
    path = write(text)
    with pytest.raises(InputError) as caught:
        load_scene(path)
    message = str(caught.value)
    assert told in message
    assert message.startswith(str(path))
    assert "\n" not in message
    assert message[-1] in ".?"


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("steps", [0, 1001, "30", 3.5, True]),
        ("warmup", [-1, 31]),
        ("guidance_scale", [-0.1, 100.5, float("nan"), float("inf"), "7"]),
        ("seed", [-1, 2**63, 1.5, True]),
        ("height", [0, 63, 100, 4104, 128.0]),
        ("width", [56, 129]),
        ("negative_prompt", ["x" * 4001, 3]),
    ],
)
def test_values_outside_their_range_are_refused_by_name(field, wrong):
    for value in wrong:
        with pytest.raises(InputError, match=field):
            parse_document(Scene, {"global_prompt": "a dog", "steps": 30, field: value}, "here")


@pytest.mark.parametrize(
    ("field", "right"),
    [
        ("steps", [1, 1000]),
        ("warmup", [0, 30]),
        ("guidance_scale", [0, 0.0, 100]),
        ("seed", [0, 2**63 - 1]),
        ("height", [64, 72, 4096]),
        ("negative_prompt", ["", "rain"]),
    ],
)
def test_values_at_the_ends_of_their_range_are_taken(field, right):
    for value in right:
        scene = parse_document(Scene, {"global_prompt": "a dog", "steps": 30, field: value}, "here")
        assert getattr(scene, field) == value


@pytest.mark.parametrize("box", [[0, 0, 0, 1], [0.5, 0, 0.4, 1], [0, 0, 1.1, 1], [0, 0, 1], [0, float("nan"), 1, 1]])
def test_a_box_without_an_area_in_the_picture_is_refused(box):
    content = {"global_prompt": "a dog", "instances": [{"concept": "r", "sub_prompt": "a <v1> dog", "box": box}]}
    with pytest.raises(InputError, match=r"instances\[0\]"):
        parse_document(Scene, content, "here")


def test_sixteen_instances_are_taken_and_seventeen_refused():
    one = {"concept": "r", "sub_prompt": "a <v1> dog"}
    assert len(parse_document(Scene, {"global_prompt": "dogs", "instances": [one] * 16}, "here").instances) == 16
    with pytest.raises(InputError, match="instances holds more than 16"):
        parse_document(Scene, {"global_prompt": "dogs", "instances": [one] * 17}, "here")


def test_a_scene_cannot_be_changed_but_revised_and_is_checked_again():
    scene = Scene(global_prompt="a dog", steps=30)
    with pytest.raises(ValidationError):
        scene.steps = 10
    assert revise(scene, {"seed": 5}, "the options") == Scene(global_prompt="a dog", steps=30, seed=5)
    with pytest.raises(InputError, match="the options: steps: "):
        revise(scene, {"steps": 0}, "the options")
    assert scene.seed == 0


def test_a_missing_file_and_a_folder_are_file_errors(tmp_path):
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(FileError, match="cannot be read") as caught:
            load_scene(path)
        assert str(path) in str(caught.value)
        assert isinstance(caught.value, OSError)


def test_a_mark_of_byte_order_is_no_part_of_the_first_field(write):
    assert load_scene(write(b"\xef\xbb\xbfglobal_prompt: a dog")).global_prompt == "a dog"


def test_a_run_record_comes_back_from_its_file_as_it_was(tmp_path):
    record = RunRecord(
        scene=Scene(global_prompt="a dog", steps=30, seed=3),
        base_fingerprint="0123456789abcdef",
        adapters=(),
        masks=MaskReport(route="attention", confidence=0.5, areas=(0.25,), notes=("small",)),
        timings={"compose": 3.25},
        unet_calls=30,
        unet_rows=90,
        versions={"torch": "2.13.0"},
        seed=3,
    )
    path = tmp_path / "run.json"
    path.write_text(record.model_dump_json(indent=2))
    assert load_run(path) == record
    path.write_text(json.dumps(json.loads(path.read_text()) | {"timings": {"compose": -1}}))
    with pytest.raises(InputError, match="timings"):
        load_run(path)


def test_whole_words_count_and_parts_of_words_do_not():
    assert contains_word("a man, a dog.", "dog")
    assert contains_word("Dog", "dog")
    assert contains_word("a teddy  bear", "teddy bear")
    assert not contains_word("a woman", "man")
    assert not contains_word("dogs", "dog")
    assert contains_word("a <v1> dog", "<v1>")


yaml_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
field_names = st.sampled_from([*Scene.model_fields, *Instance.model_fields]) | st.text(max_size=6)


@given(st.dictionaries(field_names, yaml_values, max_size=5))
def test_any_content_gives_a_scene_or_one_sentence(content):
    try:
        scene = parse_document(Scene, content, "here")
    except D2PlanError as error:
        assert str(error).startswith("here")
    else:
        assert scene.global_prompt


def test_a_path_of_nobodys_home_or_with_a_nul_is_told(tmp_path):
    path = tmp_path / "scene.yaml"
    path.write_text("global_prompt: a dog\ninstances: [{concept: ~no-such-user/x.safetensors, sub_prompt: a dog}]")
    assert load_scene(path).instances[0].concept == str(tmp_path / "~no-such-user" / "x.safetensors")
    path.write_text('global_prompt: a dog\ninstances: [{concept: "a\\0b", sub_prompt: a dog}]')
    with pytest.raises(InputError, match=r"instances\[0\].concept: a path cannot hold a NUL"):
        load_scene(path)


def test_a_folder_whose_name_is_not_utf_8_is_told(tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    (folder / "s.yaml").write_text("global_prompt: a dog\ninstances: [{concept: x.safetensors, sub_prompt: a dog}]")
    with pytest.raises(InputError, match="rename the folder"):
        load_scene(folder / "s.yaml")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(FileError, match="not a regular file"):
        load_scene(tmp_path / "pipe.yaml")
