"""Beats keep their pictures when their numbers change."""

import itertools

import pytest

from d2plan.documents import Instance, Series, Variant
from d2plan.workflows.filming.keyframes import move_beats, name_beat


def make_series(said):
    instance = Instance(concept="rex.safetensors", sub_prompt="a photo of a <v2> dog")
    variants = tuple(Variant(name=name_beat(number), sub_prompts=(one,)) for number, one in enumerate(said))
    return Series(global_prompt="a photo of a dog", instances=(instance,), variants=variants)


def lay(folder, said):
    (folder / "series.json").write_text(make_series(said).model_dump_json())
    for number, one in enumerate(said):
        (folder / name_beat(number)).mkdir()
        (folder / name_beat(number) / "run.json").write_text(one)


def read(folder):
    return {path.parent.name: path.read_text() for path in folder.glob("*/run.json")}


@pytest.mark.parametrize(
    "after", [*itertools.permutations("abc"), "abxc", "xabc", "ac", "c", "aabc", "cxa", "xyz", "abc"]
)
def test_each_picture_goes_to_its_beat_and_none_is_lost(tmp_path, after):
    lay(tmp_path, "abc")
    move_beats(make_series(after), tmp_path)
    there = read(tmp_path)
    assert sorted(there.values()) == ["a", "b", "c"]
    for one in set(after) & set("abc"):
        assert one in [there.get(name_beat(number)) for number, said in enumerate(after) if said == one]
    assert not list(tmp_path.glob(".*"))


def test_two_beats_that_say_the_same_keep_a_picture_each(tmp_path):
    lay(tmp_path, "aba")
    move_beats(make_series("xaba"), tmp_path)
    there = read(tmp_path)
    assert [there[name_beat(number)] for number in (1, 2, 3)].count("a") == 2
    assert there["beat-02"] == "a" and there["beat-03"] == "b"


def test_a_folder_without_a_series_is_left_alone(tmp_path):
    move_beats(make_series("ab"), tmp_path / "none")
    (tmp_path / "series.json").write_text("{")
    move_beats(make_series("ab"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["series.json"]
