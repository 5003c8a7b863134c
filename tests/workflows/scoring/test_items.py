import json

import numpy as np
import pytest

from d2plan.errors import FileError, InputError
from d2plan.eval.score import Expected
from d2plan.media.images import write_png
from d2plan.workflows.scoring.items import Known, describe_pictures, gather_known, holds_runs, plain_text, read_known


@pytest.fixture
def folder(tmp_path):
    """Three pictures without captions."""
    root = tmp_path / "mine"
    root.mkdir()
    for number in range(3):
        write_png(root / f"{number}.png", np.full((8, 8, 3), 40 * number, np.uint8))
    return root


def known(*names):
    words = {"rex": ("dog", "<v1>"), "bo": ("dog", "sks"), "tom": ("man", None), "blob": (None, None)}
    return {name: Known(name, *words[name], folder=None) for name in names}


def test_captions_beside_the_pictures_are_their_prompts(folder):
    (folder / "0.txt").write_text("a photo of a dog running on the beach")
    (folder / "metadata.jsonl").write_text('{"file_name": "1.png", "text": "a man"}\n')
    first, second, third = describe_pictures(folder, known("rex", "tom"))
    assert first.expected.instances == (Expected("dog", action="running", concept="rex"),)
    assert first.expected.place == "beach"
    assert (first.name, first.key, first.concepts) == ("0.png", "0", "rex")
    assert second.concepts == "tom"
    assert third.text is None and third.concepts == "rex+tom"


def test_one_prompt_serves_all(folder):
    items = describe_pictures(folder, known("rex"), "a photo of a <v1> dog wearing a red hat")
    assert {item.text for item in items} == {"a photo of a dog wearing a red hat"}
    assert items[0].expected.instances == (Expected("dog", "hat", "red", concept="rex"),)


def test_a_line_a_picture_in_the_order_of_their_names(folder, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a dog\n\na cat\n a man \n")
    assert [item.text for item in describe_pictures(folder, {}, prompts)] == ["a dog", "a cat", "a man"]


def test_unequal_numbers_of_prompts_and_pictures_are_told(folder, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a dog\na cat\n")
    with pytest.raises(InputError, match="has 2 prompts, but .*mine has 3 pictures; write one line for each"):
        describe_pictures(folder, {}, prompts)


def test_a_table_of_prompts_names_every_picture(folder, tmp_path):
    table = tmp_path / "prompts.jsonl"
    rows = [{"file_name": f"{number}.png", "prompt": f"{number} dogs"} for number in (2, 0, 1)]
    table.write_text("\n".join(json.dumps(row) for row in rows))
    assert [item.text for item in describe_pictures(folder, {}, table)] == ["0 dogs", "1 dogs", "2 dogs"]
    table.write_text(json.dumps(rows[0]))
    with pytest.raises(InputError, match="names no prompt for 0.png of .* and 1 more"):
        describe_pictures(folder, {}, table)


def test_the_order_of_the_prompts_two_of_a_class_goes_to_the_concepts_in_turn(folder):
    items = describe_pictures(folder, known("rex", "bo"), "a dog running and a dog sitting")
    assert [(one.concept, one.action) for one in items[0].expected.instances] == [("rex", "running"), ("bo", "sitting")]


def test_a_name_or_identifier_in_the_prompt_chooses_the_concepts(folder):
    both = known("rex", "bo", "tom")
    assert describe_pictures(folder, both, "a photo of a sks dog")[0].concepts == "bo"
    assert describe_pictures(folder, both, "Rex, a dog, and a man")[0].concepts == "rex+man"
    assert describe_pictures(folder, both, "a castle")[0].concepts == ""


def test_a_concept_of_no_known_class_is_compared_with_every_picture(folder):
    assert describe_pictures(folder, known("blob"), "a castle")[0].expected.instances == (Expected("", concept="blob"),)


@pytest.mark.parametrize(
    ("prompt", "marks", "plain"),
    [
        ("a photo of a <v1> dog", ["<v1>"], "a photo of a dog"),
        ("a <v7> man and a <v2> dog", [None, "<v2>"], "a man and a dog"),
        ("sks dog on a skateboard", ["sks"], "dog on a skateboard"),
        ("two words dog", ["two words"], "dog"),
    ],
)
def test_identifiers_are_taken_out_as_whole_words(prompt, marks, plain):
    assert plain_text(prompt, marks) == plain


def test_a_class_comes_from_the_option_then_the_folder_then_the_name(tmp_path):
    for name in ("rex", "tom", "sue", "dog", "it"):
        (tmp_path / name).mkdir()
    (tmp_path / "rex" / "concept.yaml").write_text('class_word: dog\nidentifier: "<v3>"\n')
    (tmp_path / "tom" / "world.json").write_text('{"class_word": "man", "identity": {}}')
    folders = {"rex": "rex", "wolf:cat": "rex", "tom": "tom", "sue:woman": "sue", "dog": "dog", "it": "it"}
    found = read_known({name: tmp_path / folder for name, folder in folders.items()})
    words = {"rex": "dog", "wolf": "cat", "tom": "man", "sue": "woman", "dog": "dog", "it": None}
    assert {name: one.class_word for name, one in found.items()} == words
    assert found["rex"].identifier == "<v3>"


def test_a_concept_that_is_given_twice_or_without_a_name_is_told(tmp_path):
    for read in (read_known, lambda references: gather_known([], references)):
        with pytest.raises(InputError, match='"rex" is given twice, the second time as "rex:man"'):
            read({"rex": tmp_path, "rex:man": tmp_path})
        with pytest.raises(InputError, match='":man" names no concept'):
            read({":man": tmp_path})


def test_what_is_no_folder_is_told(tmp_path):
    assert holds_runs(tmp_path) is False
    with pytest.raises(FileError, match="is not a folder"):
        holds_runs(tmp_path / "gone")
