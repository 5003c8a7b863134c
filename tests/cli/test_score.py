import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from d2plan.cli.main import main
from d2plan.cli.score import parse_references
from d2plan.cli.score_tables import MOST_ROWS, alignment_table, film_table, judged_table, summary_table
from d2plan.documents import InstanceScore, Score
from d2plan.errors import InputError
from d2plan.eval.measure import Measured
from d2plan.eval.names import MEASURES
from d2plan.eval.score import Expectation, Expected
from d2plan.media.images import write_png
from d2plan.workflows.scoring.folders import ScoredSet
from d2plan.workflows.scoring.items import Item
from tests.eval.tiny_encoders import write_tiny_clip


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
    Console(file=stream, width=140).print(judged_table([score]))
    row = next(line for line in stream.getvalue().splitlines() if "run-1" in line)
    cells = [cell.strip() for cell in row.strip("│┃").split("│")]
    assert cells == ["run-1", "yes", "2 of 1", "rex (dog)", "yes", "NO", "-", "0.73", "2"]


def test_a_folder_without_pictures_ends_with_code_two(tmp_path, capsys):
    with pytest.raises(SystemExit) as leaving:
        main(["score", str(tmp_path), "--out", str(tmp_path / "scores.json")])
    assert leaving.value.code == 2
    assert "holds no run (image.png with run.json) and no PNG" in capsys.readouterr().err


@pytest.fixture
def pictures(tmp_path):
    """Two methods with two pictures each, and tiny encoders."""
    write_tiny_clip(tmp_path / "clip")
    for name, shade in (("mine", 60), ("theirs", 200)):
        (tmp_path / name).mkdir()
        for number in range(2):
            noise = np.random.default_rng(number).integers(0, shade, size=(16, 16, 3), dtype=np.uint8)
            write_png(tmp_path / name / f"{number}.png", noise)
    return tmp_path


def leave(*arguments):
    with pytest.raises(SystemExit) as leaving:
        main([str(argument) for argument in arguments])
    return leaving.value.code or 0


def score_pictures(folder, *options):
    encoders = ("--clip", f"clip:{folder / 'clip'}", "--dino", "none", "--detector", "none")
    return leave("score", folder / "mine", *encoders, "--out", folder / "scores.json", *options)


def test_pictures_of_any_folder_are_scored_in_a_table(pictures, capsys):
    assert score_pictures(pictures, "--prompt", "a dog", "--against", pictures / "theirs") == 0
    shown = capsys.readouterr().out
    row = next(line for line in shown.splitlines() if "text alignment, cosine" in line)
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    content = json.loads((pictures / "scores.json").read_text())
    means = [f"{one['summary']['text']['mean']:.3f}" for one in content["sets"]]
    assert cells[0] == "text"
    assert [cells[2], cells[5]] == means
    assert cells[8] == f"{content['differences']['text']['mean']:+.3f}"
    assert f"clip: {pictures / 'clip'}" in shown.replace("\n", "")


def test_what_is_scored_is_checked_before_where_the_scores_go(pictures, capsys):
    (pictures / "scores.json").write_text("mine")
    assert leave("score", pictures / "gone", "--out", pictures / "scores.json") == 2
    assert "is not a folder" in capsys.readouterr().err
    assert score_pictures(pictures) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (pictures / "scores.json").read_text() == "mine"
    assert leave("score", pictures / "mine", "--out", pictures / "gone" / "scores.json") == 2
    assert "does not exist" in capsys.readouterr().err


def test_a_second_score_of_the_same_pictures_replaces_its_own_file(pictures, capsys):
    assert score_pictures(pictures, "--prompt", "a dog") == 0
    first = (pictures / "scores.json").read_bytes()
    assert score_pictures(pictures, "--prompt", "a dog") == 0
    assert (pictures / "scores.json").read_bytes() == first
    assert score_pictures(pictures, "--prompt", "a cat") == 2
    assert "--overwrite" in capsys.readouterr().err
    assert score_pictures(pictures, "--prompt", "a cat", "--overwrite") == 0


def test_two_ways_to_say_the_prompts_are_one_too_many(pictures, capsys):
    assert score_pictures(pictures, "--prompt", "a", "--prompts", pictures / "p.txt") == 2
    assert "give one of them" in capsys.readouterr().err


def test_a_concept_that_is_given_twice_is_told(pictures, capsys):
    for second in ("rex", "rex:man"):
        folders = [f"--references={name}={pictures / 'theirs'}" for name in ("rex", second)]
        assert score_pictures(pictures, "--prompt", "a dog", *folders) == 2
        assert '"rex" is given twice' in capsys.readouterr().err


def test_a_file_that_is_there_is_told_in_the_commands_own_words(pictures, capsys):
    (pictures / "scores.json").write_text("mine")
    assert score_pictures(pictures, "--prompt", "a dog") == 2
    told = capsys.readouterr().err
    assert "scores.json: is there already" in told and "--out" in told and "--overwrite" in told
    assert "overwrite=True" not in told


def test_pictures_that_are_the_references_themselves_are_told(pictures, capsys):
    (pictures / "rex").mkdir()
    shutil.copy(pictures / "mine" / "1.png", pictures / "rex" / "photo.png")
    shutil.copy(pictures / "theirs" / "0.png", pictures / "rex" / "other.png")
    for folder, told in (("rex", "mine: 1 of 2 pictures of rex are"), ("mine", "mine: 2 of 2 pictures of rex are")):
        options = ("--references", f"rex:dog={pictures / folder}", "--prompt", "a dog", "--overwrite")
        assert score_pictures(pictures, *options) == 0
        assert told in capsys.readouterr().out
    assert score_pictures(pictures, "-r", f"rex:dog={pictures / 'theirs'}", "--prompt", "a dog", "--overwrite") == 0
    assert "references themselves" not in capsys.readouterr().out


def test_nothing_is_said_of_detection_where_nobody_shall_detect(pictures, capsys):
    for name in ("rex:dog", "rex:dragon", "rex"):
        options = ("--references", f"{name}={pictures / 'theirs'}", "--prompt", "rex runs", "--overwrite")
        assert score_pictures(pictures, *options) == 0
        assert "note:" not in capsys.readouterr().out


def test_two_sets_without_a_common_picture_are_refused(pictures, capsys):
    for number in range(2):
        (pictures / "theirs" / f"{number}.png").rename(pictures / "theirs" / f"other-{number}.png")
    against = ("--prompt", "a dog", "--against", pictures / "theirs")
    assert score_pictures(pictures, *against) == 2
    assert "no picture of mine has the name of one of theirs (0 and other-0, for example)" in capsys.readouterr().err
    assert not (pictures / "scores.json").exists()


def test_sets_of_which_each_has_a_picture_more_are_told(pictures, capsys):
    (pictures / "theirs" / "1.png").rename(pictures / "theirs" / "2.png")
    assert score_pictures(pictures, "--prompt", "a dog", "--against", pictures / "theirs") == 0
    assert "differences are over the 1 whose names are in both" in capsys.readouterr().out


def test_a_run_that_could_measure_nothing_is_refused(pictures, capsys):
    off = ("--clip", "none", "--dino", "none", "--detector", "none", "--out", pictures / "scores.json")
    assert leave("score", pictures / "mine", "--prompt", "a dog", *off) == 2
    assert "nobody is left to measure anything" in capsys.readouterr().err
    assert score_pictures(pictures) == 2
    assert "there is nothing that clip could compare the pictures with" in capsys.readouterr().err
    assert not (pictures / "scores.json").exists()
    assert score_pictures(pictures, "--series") == 0


def test_all_broken_pictures_are_named_before_anybody_looks(pictures, capsys):
    (pictures / "mine" / "2.png").write_bytes((pictures / "mine" / "0.png").read_bytes()[:-30])
    (pictures / "mine" / "3.png").write_text("<html>")
    (pictures / "theirs" / "5.png").write_bytes(b"")
    assert score_pictures(pictures, "--references", f"rex={pictures / 'theirs'}") == 2
    told = capsys.readouterr().err
    assert "3 of 7 pictures cannot be read. " in told
    assert "2.png: is damaged" in told and "3.png: is a text" in told and "5.png: is empty" in told
    assert "Looking at references" not in told and "Scoring" not in told


def test_scores_can_be_a_table_with_a_line_a_number(pictures, capsys):
    ways = ("--prompt", "a dog", "--against", pictures / "theirs", "--references", f"rex:dog={pictures / 'theirs'}")
    assert score_pictures(pictures, *ways) == 0
    content = json.loads((pictures / "scores.json").read_text())
    out = pictures / "Scores.CSV"
    assert score_pictures(pictures, *ways, "--out", out) == 0
    lines = list(csv.DictReader(out.open(newline="")))
    means = {(line["set"], line["name"]): float(line["value"]) for line in lines if line["of"] == "mean"}
    for one in content["sets"]:
        assert {name: mean for (title, name), mean in means.items() if title == one["title"]} == {
            name: value["mean"] for name, value in one["summary"].items()
        }
    texts = [line for line in lines if (line["set"], line["of"], line["name"]) == ("mine", "picture", "text")]
    assert [float(line["value"]) for line in texts] == [one["values"]["text"] for one in content["sets"][0]["pictures"]]
    assert [(line["item"], line["concept"], line["prompt"]) for line in texts] == [
        ("0", "rex", "a dog"), ("1", "rex", "a dog")
    ]  # fmt: skip
    assert {line["encoder"] for line in texts} == {content["encoders"]["clip"]}
    difference = next(line for line in lines if (line["of"], line["name"]) == ("difference", "text"))
    assert difference["set"] == "mine - theirs" and int(difference["count"]) == 2
    assert float(difference["value"]) == content["differences"]["text"]["mean"]
    assert score_pictures(pictures, *ways, "--out", out) == 2
    assert "--overwrite" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["scores.txt", "scores", "scores.json.gz"])
def test_a_file_of_another_kind_is_refused(pictures, capsys, name):
    assert score_pictures(pictures, "--prompt", "a dog", "--out", pictures / name) == 2
    assert "ends in neither .json (all that is known) nor .csv (a line a number)" in capsys.readouterr().err


def make_set(title, values, count=1):
    item = Item("0.png", Path("0.png"), "a dog", Expectation((Expected("dog", concept="rex"),)), (), "a dog")
    instance = {"identity": values.get("identity")}
    measured = Measured({"text": values.get("text")}, (instance,), (instance["identity"] is not None,))
    return ScoredSet(title, (item,) * count, (measured,) * count)


def show(table):
    stream = io.StringIO()
    Console(file=stream, width=200).print(table)
    return stream.getvalue()


def test_an_instance_that_is_not_found_is_marked_and_has_no_number():
    shown = show(alignment_table(make_set("mine", {"text": 0.25})))
    row = next(line for line in shown.splitlines() if "0.png" in line)
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells == ["0.png", "0.250", "-", "-", "rex (not found)", "-", "-", "-", "-"]


def test_columns_have_the_names_that_stand_in_the_file():
    stream = io.StringIO()
    Console(file=stream, width=120).print(alignment_table(make_set("mine", {"text": 0.25})))
    head = next(line for line in stream.getvalue().splitlines() if "picture" in line)
    cells = [cell.strip() for cell in head.strip("┃").split("┃")]
    names = [name for name in cells if name not in ("picture", "instance")]
    assert names == ["text", "image", "dino", "text_instance", "image_instance", "dino_instance", "identity"]
    assert set(names) <= set(MEASURES)
    assert "text_scaled, 2.5 times text" in stream.getvalue()


def test_one_value_alone_has_no_interval():
    shown = show(summary_table([make_set("mine", {"identity": 0.5})]))
    row = next(line for line in shown.splitlines() if "identity" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")][2:] == ["0.500", "-", "1"]


def test_long_sets_are_cut_and_say_so():
    shown = show(alignment_table(make_set("[red]mine", {"text": 0.1}, MOST_ROWS + 3)))
    assert "3 more pictures are in the file of scores" in shown
    assert "[red]mine" in shown


def test_the_frames_of_a_film_have_a_line_a_segment_with_the_four_faults():
    item = replace(make_set("k", {}).items[0], prompt="segment-01")
    shown = [Measured({}, ({"subject_missing": gone, "action_misbinding": None, "identity": 0.5},)) for gone in (0, 1)]
    other = Measured({}, ({"subject_missing": 0.0},))
    stream = io.StringIO()
    table = film_table(ScoredSet("film", (item, item, replace(item, prompt="segment-02")), (*shown, other)))
    Console(file=stream, width=120).print(table)
    head, *rows = (line for line in stream.getvalue().splitlines() if "segment" in line)
    names = [cell.strip() for cell in head.strip("┃").split("┃")]
    assert names == [
        "segment", "frames",
        "subject_missing", "visual_confusion", "attribute_misbinding", "action_misbinding", "identity",
    ]  # fmt: skip
    assert [[cell.strip() for cell in row.strip("│").split("│")] for row in rows] == [
        ["segment-01", "2", "0.500", "-", "-", "-", "0.500"],
        ["segment-02", "1", "0.000", "-", "-", "-", "-"],
    ]
