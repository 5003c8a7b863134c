"""A single concept: of its two prompts one is enough, and a class word that the file does not know is told."""

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from d2plan.adapter.file import save_adapter
from d2plan.documents import Instance, Scene, Series, load_run, parse_document
from d2plan.errors import InputError
from d2plan.workflows.composing.compose import compose
from d2plan.workflows.composing.reproduce import reproduce
from d2plan.workflows.composing.requests import read_request
from d2plan.workflows.composing.series import compose_series
from d2plan.workflows.composing.single import complete_prompts
from tests.isp.concepts import random_adapter
from tests.workflows.concept_files import SCENE, concepts, opened, write_request

__all__ = ["concepts", "opened"]
NUMBERS = {key: SCENE[key] for key in ("steps", "warmup", "height", "width", "seed", "missing")}


def _prompts(item: dict[str, str], **more: str) -> tuple[str, str]:
    scene = complete_prompts(parse_document(Scene, {"instances": [item], **more}, "here"))
    return scene.global_prompt, scene.instances[0].sub_prompt


@pytest.mark.parametrize(
    ("name", "sub_prompt", "told"),
    [
        ("rex", "a photo of a <v2> dog running", "a photo of a dog running"),
        ("rex", "a photo of <v2> running", "a photo of dog running"),
        ("rex", "<v2>", "dog"),
        ("rex", "a <v2> dog and the bowl of <v2>", "a dog and the bowl of dog"),
        ("rex", "a photo of a <v2>, smiling", "a photo of a dog, smiling"),
        ("rex", "a <v2> and another dog", "a dog and another dog"),
        ("rex", "a dog running", "a dog running"),
        ("eli", "a photo of a <v3> elephant", "a photo of an elephant"),
    ],
)
def test_the_sub_prompt_without_its_identifier_is_the_global_prompt(name, sub_prompt, told, concepts, opened) -> None:
    save_adapter(concepts / "eli.safetensors", random_adapter(opened["backbone"], "elephant", "<v3>", 9))
    item = {"concept": str(concepts / f"{name}.safetensors"), "sub_prompt": sub_prompt}
    assert _prompts(item) == (told, sub_prompt)


@pytest.mark.parametrize(
    ("more", "prompt", "told"),
    [
        ({"concept": "rex"}, "a photo of a dog on the beach", "a photo of a <v2> dog on the beach"),
        ({"concept": "rex", "class_word": "animal"}, "an animal", "a <v2> animal"),
        ({"concept": "free", "class_word": "man", "trigger": "tall"}, "a man and a tree", "a tall man and a tree"),
    ],
)
def test_the_global_prompt_with_the_identifier_is_the_sub_prompt(more, prompt, told, concepts) -> None:
    item = {**more, "concept": str(concepts / f"{more['concept']}.safetensors")}
    assert _prompts(item, global_prompt=prompt) == (prompt, told)


def test_a_trigger_that_only_the_file_tells_is_the_name(concepts: Path) -> None:
    path = concepts / "zorg.safetensors"
    tensors = load_file(concepts / "free.safetensors")
    save_file(tensors, path, metadata={"modelspec.trigger_phrase": "zorg dog"})
    item = {"concept": str(path), "class_word": "dog"}
    assert _prompts({**item, "sub_prompt": "a zorg dog on the beach"})[0] == "a dog on the beach"
    assert _prompts(item, global_prompt="a dog on the beach")[1] == "a zorg dog on the beach"


def test_what_is_written_stays(concepts: Path) -> None:
    item = {"concept": "nowhere.safetensors", "sub_prompt": "a <v2> dog"}
    assert _prompts(item, global_prompt="a dog") == ("a dog", "a <v2> dog")


WRONG = {
    "no identifier": (
        {"concept": "free", "class_word": "man"},
        "a man",
        r"sub_prompt is missing, and .*free.*; write it",
    ),
    "no class word": ({"concept": "free", "trigger": "tall"}, "a man", r"instances\[0\]\.sub_prompt is missing, and"),
    "another class": ({"concept": "rex"}, "a photo of a cat", 'does not hold "dog", the class word of'),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_made_of_the_other_is_told(case, concepts, tiny_folder, tmp_path, opened) -> None:
    item, prompt, sentence = WRONG[case]
    item = {**item, "concept": f"{item['concept']}.safetensors"}
    scene = write_request(concepts, tiny_folder, {"global_prompt": prompt, "instances": [item]})
    with pytest.raises(InputError, match=sentence):
        compose(scene, tmp_path / "run", **opened)
    assert not (tmp_path / "run").exists()


def test_a_variant_shares_the_global_prompt_of_its_picture(concepts: Path) -> None:
    rex = str(concepts / "rex.safetensors")
    items = [Instance(concept=rex, sub_prompt=f"a <v2> dog {what}") for what in ("sitting", "running")]
    scene = complete_prompts(Scene(instances=items[:1], variant_of=items[1:]))
    assert scene.global_prompt == "a dog running"
    assert [scene.instances, scene.variant_of] == [(items[0],), (items[1],)]


def test_a_short_scene_is_the_long_one(concepts, tiny_folder, tmp_path, opened) -> None:
    rex = {"concept": "rex.safetensors"}
    sub = {**rex, "sub_prompt": "a photo of a <v2> dog"}
    long = {"global_prompt": "a photo of a dog", "instances": [sub]}
    shorts = [{"instances": [sub]}, {"global_prompt": "a photo of a dog", "instances": [rex]}]
    runs = [
        compose(write_request(concepts, tiny_folder, {**NUMBERS, **one}), tmp_path / str(number), seed=3, **opened)
        for number, one in enumerate([long, *shorts])
    ]
    first, *others = [(run / "image.png").read_bytes() for run in runs]
    assert others == [first, first]
    assert load_run(runs[1] / "run.json").scene.global_prompt == "a photo of a dog"
    assert reproduce(runs[1], tmp_path / "again", **opened).same_bytes


def test_a_series_of_one_concept_takes_its_global_prompt_from_it(concepts, tiny_folder, tmp_path, opened) -> None:
    item = {"concept": "rex.safetensors", "sub_prompt": "a photo of a <v2> dog"}
    variants = [{"name": "plain"}, {"name": "sit", "sub_prompts": ["a photo of a <v2> dog sitting"]}]
    series = write_request(concepts, tiny_folder, {**NUMBERS, "instances": [item], "variants": variants})
    result = compose_series(series, tmp_path / "series", **opened)
    records = [load_run(result.folder / name / "run.json") for name in result.made]
    assert [record.scene.global_prompt for record in records] == ["a photo of a dog"] * 2
    # What lies there is a whole series, and is the same one.
    assert read_request(Series, result.folder / "series.json") == read_request(Series, series)
    assert compose_series(series, tmp_path / "series", **opened).kept == ("plain", "sit")


def test_a_class_word_that_the_file_does_not_know_is_told(concepts, tiny_folder, tmp_path, opened) -> None:
    item = {"concept": "john.safetensors", "class_word": "dog", "sub_prompt": "a photo of a <v1> dog"}
    run = compose(write_request(concepts, tiny_folder, {**NUMBERS, "instances": [item]}), tmp_path / "run", **opened)
    told = 'instances[0].class_word is "dog", but john.safetensors was trained on a "man"; write that'
    assert any(note.startswith(told) for note in load_run(run / "run.json").masks.notes)
