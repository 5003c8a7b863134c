"""``d2plan video``: what a person types, and what is told on the way."""

import json

import pytest
import yaml

from d2plan.cli.main import main
from d2plan.media.video import read_video
from tests.workflows.concept_files import concepts
from tests.workflows.filming.test_video import PLAN

__all__ = ["concepts"]
# Nobody answers there: whoever asks it fails with another sentence.
_SERVER = ("--planner", "server", "--llm-url", "http://127.0.0.1:9/v1", "--llm-model", "none")


@pytest.fixture
def plan(concepts, tiny_folder, tmp_path):
    """A plan of two beats in a folder of its own."""
    instances = [{**item, "concept": str(concepts / item["concept"])} for item in PLAN["instances"]]
    path = tmp_path / "plan.yaml"
    content = {**PLAN, "base": str(tiny_folder), "instances": instances, "beats": PLAN["beats"][:2]}
    path.write_text(yaml.safe_dump(content))
    return path


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return ended.value.code or 0


def test_a_plan_becomes_a_video_and_a_page_with_everything_told_in_order(plan, tmp_path, capsys):
    out = tmp_path / "story.gif"
    assert run("video", plan, "-o", out, "--interpolator", "blend", "--steps", "1", "--fps", "10") == 0
    told = capsys.readouterr()
    assert told.out.splitlines()[-2:] == [
        f"Video: {out} (4 frames)",
        f"Page: {tmp_path / 'story.video' / 'index.html'}",
    ]
    places = [
        told.err.index(word) for word in ("planning", "storyboard of 2 beats", "segment 1 of 1", "writing the video")
    ]
    assert places == sorted(places)
    video = read_video(out)
    assert float(video.rate) == 10 and json.loads(video.text)["plan"]["seed"] == 3
    assert run("video", plan, "-o", out, "--interpolator", "blend", "--steps", "1", "--overwrite") == 0
    assert "Segments: 0 made, 1 kept" in capsys.readouterr().out


def test_what_the_base_will_hardly_show_is_told_by_plan_and_before_the_work_by_video(plan, tmp_path, capsys):
    plan.write_text(plan.read_text().replace("dog sitting", "dog pondering"))
    note = 'Note: beats[1].sub_prompts.Rex: the base has never seen "pondering"'
    assert run("plan", plan) == 0
    assert note in capsys.readouterr().err
    assert run("video", plan, "-o", tmp_path / "a.gif", "--interpolator", "blend", "--steps", "1") == 0
    told = capsys.readouterr().err
    assert told.count(note) == 1 and told.index(note) < told.index("opening the base")


def test_what_is_wrong_is_one_sentence(plan, tmp_path, capsys):
    for arguments, said in (
        ((plan, "-o", tmp_path / "a.avi"), "ends in one of"),
        ((plan, "-o", tmp_path / "a.gif", "--interpolator", "wan"), "weights is missing"),
        ((plan, "-o", tmp_path / "a.gif", "--planner", "oracle"), "oracle"),
        ((tmp_path / "none.yaml", "-o", tmp_path / "a.gif"), "none.yaml"),
        (("Rex runs.", "-o", tmp_path / "a.gif", "--planner", "server", "--llm-seconds", "9"), "--llm-model"),
        (("Rex runs.", "-o", tmp_path / "a.gif", *_SERVER, "--frames", "1"), "the options: frames"),
        (("Rex runs.", "-o", tmp_path / "a.gif", *_SERVER, "--interpolator", "blend", "--frames", "1001"), "frames"),
    ):
        assert run("video", *arguments) == 2
        told = capsys.readouterr().err.strip().splitlines()[-1]
        assert said in told and "Traceback" not in told
    assert not (tmp_path / "a.gif").exists() and not (tmp_path / "a.video").exists()
