import io
from pathlib import Path

import pytest
from rich.console import Console

from d2plan.cli.main import main
from d2plan.cli.score import parse_references, pictures_table
from d2plan.documents import InstanceScore, Score
from d2plan.errors import InputError


def test_references_are_read_as_pairs():
    assert parse_references(["rex=photos/rex", "dog = a=b"]) == {"rex": Path("photos/rex"), "dog": Path("a=b")}


@pytest.mark.parametrize("pair", ["rex", "=folder", "rex="])
def test_a_half_pair_is_told(pair):
    with pytest.raises(InputError, match="CONCEPT=FOLDER"):
        parse_references([pair])


def test_the_table_says_what_was_found():
    one = InstanceScore(class_word="dog", concept="rex", present=True, attributes=False, similarity=0.734, rank=2)
    score = Score(
        picture="run-1",
        place=True,
        expected_count=1,
        seen_count=2,
        seen_place="beach",
        seen_light="day",
        instances=(one,),
    )
    stream = io.StringIO()
    Console(file=stream, width=140).print(pictures_table([score]))
    row = next(line for line in stream.getvalue().splitlines() if "run-1" in line)
    cells = [cell.strip() for cell in row.strip("│┃").split("│")]
    assert cells == ["run-1", "yes", "2 of 1", "rex (dog)", "yes", "NO", "-", "0.73", "2"]


def test_a_folder_without_a_run_ends_with_code_two(tmp_path, capsys):
    with pytest.raises(SystemExit) as leaving:
        main(["score", str(tmp_path), "--out", str(tmp_path / "scores.json")])
    assert leaving.value.code == 2
    assert "holds no run" in capsys.readouterr().err


def test_an_out_folder_that_is_missing_is_told_first(tmp_path, capsys):
    with pytest.raises(SystemExit) as leaving:
        main(["score", str(tmp_path), "--out", str(tmp_path / "gone" / "scores.json")])
    assert leaving.value.code == 2
    assert "does not exist" in capsys.readouterr().err


def test_scores_that_are_there_are_replaced_only_when_that_is_allowed(tmp_path, capsys):
    (tmp_path / "scores.json").write_text("mine")
    for options, told in (((), "--overwrite"), (("--overwrite",), "holds no run")):
        with pytest.raises(SystemExit) as leaving:
            main(["score", str(tmp_path), "--out", str(tmp_path / "scores.json"), *options])
        assert leaving.value.code == 2
        assert told in capsys.readouterr().err
    assert (tmp_path / "scores.json").read_text() == "mine"
