import numpy as np
import pytest
from PIL import Image

from d2plan.cli.main import main
from d2plan.config import load_defaults
from d2plan.dislora.data import read_concept_folder
from d2plan.media.images import read_image


def leave(*arguments):
    with pytest.raises(SystemExit) as caught:
        main(["world", *map(str, arguments)])
    return caught.value.code or 0


def test_a_concept_folder_can_be_learnt_from_at_once(tmp_path, capsys):
    out = tmp_path / "dog"
    assert leave("concept", "--class", "dog", "--seed", "7", "-o", out) == 0
    assert capsys.readouterr().out == f"16 pictures of a dog in {out}\n"
    data = read_concept_folder(out, 128, 128)
    assert data.summary == "16 pictures, 16 captions, 16 masks"
    assert data.words.class_word == "dog"
    assert data.notes == ()
    assert [image.shape for image in data.images] == [(128, 128, 3)] * 16


def test_every_output_has_a_sheet(tmp_path):
    assert leave("scenes", "--count", "5", "--size", "64", "--out", tmp_path / "scenes") == 0
    assert leave("concept", "--class", "cat", "--count", "5", "--size", "64", "--out", tmp_path / "cat") == 0
    assert leave("clip", "--frames", "9", "--size", "64", "--out", tmp_path / "clip") == 0
    sizes = {}
    for name, path in (("scenes", "sheet.png"), ("cat", "preview/sheet.png"), ("clip", "sheet.png")):
        with Image.open(tmp_path / name / path) as sheet:
            sizes[name] = sheet.size
            assert np.asarray(sheet).std() > 20
    assert sizes["scenes"] == sizes["cat"] == (8 + 4 * 72, sizes["cat"][1])
    assert sizes["clip"][0] == 8 + 8 * 72


def test_an_unknown_class_names_the_nearest(tmp_path, capsys):
    assert leave("concept", "--class", "dgo", "-o", tmp_path / "x") == 2
    assert capsys.readouterr().err == "d2plan: class: the world has no 'dgo'; did you mean 'dog'?\n"
    assert not (tmp_path / "x").exists()


def test_a_folder_in_use_is_left_alone_until_overwrite_is_said(tmp_path, capsys):
    out = tmp_path / "clip"
    assert leave("clip", "--frames", "3", "--size", "32", "-o", out) == 0
    before = (out / "world.json").read_bytes()
    assert leave("clip", "--frames", "3", "--size", "32", "--seed", "1", "-o", out) == 2
    assert "is not empty" in capsys.readouterr().err
    assert (out / "world.json").read_bytes() == before
    assert leave("clip", "--frames", "3", "--size", "32", "--seed", "1", "--overwrite", "-o", out) == 0
    assert (out / "world.json").read_bytes() != before


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("scenes", "--count", "0"), "count: 0"),
        (("scenes", "--seed", "-1"), "-1 is negative"),
        (("clip", "--frames", "1"), "frames: 1"),
        (("concept", "--class", "dog", "--seed", "123456"), "seed: 123456"),
        (("scenes", "--size", "5"), "size: 5"),
    ],
)
def test_a_wrong_number_is_one_sentence_and_code_2(tmp_path, capsys, arguments, word):
    assert leave(*arguments, "-o", tmp_path / "x") == 2
    shown = capsys.readouterr()
    assert word in shown.err
    assert shown.err.count("\n") == 1
    assert shown.out == ""
    assert not list(tmp_path.iterdir())


def test_the_help_lists_the_three_kinds(capsys):
    assert leave("--help") == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("scenes", "concept", "clip"))


def test_a_base_gives_the_size_of_the_pictures(tiny_folder, tmp_path, capsys):
    assert leave("concept", "--class", "dog", "--count", "1", "--base", tiny_folder, "-o", tmp_path / "dog") == 0
    defaults = load_defaults(tiny_folder)
    assert read_image(tmp_path / "dog" / "00.png").shape[:2] == (defaults.height, defaults.width)
    assert leave("clip", "--base", tmp_path / "none", "-o", tmp_path / "clip") == 2
    assert "is not a folder" in capsys.readouterr().err


def test_a_seed_out_of_range_is_told_with_a_remedy(tmp_path, capsys):
    assert leave("concept", "--class", "dog", "--seed", "-1", tmp_path / "dog") == 2
    assert capsys.readouterr().err == "d2plan: seed: -1 is outside 0..99999; choose a number in between.\n"
