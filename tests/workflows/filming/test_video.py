"""A plan in, a video and its page out: what lies where, what is made once, what is refused before any work."""

import dataclasses
import json
import re
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import yaml

from d2plan.errors import FileError, InputError
from d2plan.etp.plan import load_plan
from d2plan.media.images import read_image
from d2plan.media.video import read_video
from d2plan.workflows.filming.keyframes import Keyframes
from d2plan.workflows.filming.page import VideoFacts, _write_plan, write_video_page
from d2plan.workflows.filming.video import VideoOptions, make_video
from d2plan.workflows.scoring.sources import ScoreRequest, find_sources
from tests.etp.seine_models import write_embedded
from tests.tiny import write_tiny
from tests.workflows.concept_files import concepts, opened, read_all

__all__ = ["concepts", "opened"]
PLAN = {
    "story": "Rex runs & then <sits>",
    "global_prompt": "a photo of a man and a dog on the beach",
    "instances": [{"name": "John", "concept": "john.safetensors"}, {"name": "Rex", "concept": "rex.safetensors"}],
    "beats": [
        {"sub_prompts": {"John": "a photo of a <v1> man standing", "Rex": f"a photo of a <v2> dog {action}"}}
        for action in ("running", "sitting", "jumping")
    ],
    "frames": 4,
    "steps": 2,
    "height": 64,
    "width": 64,
    "seed": 3,
}
BLEND = VideoOptions(interpolator="blend", interpolation_steps=2, overwrite=True)


def write_plan(concepts: Path, base: Path, **changes: object) -> Path:
    """Write a plan beside the concepts."""
    path = concepts / f"plan-{len(list(concepts.iterdir()))}.yaml"
    path.write_text(yaml.safe_dump({**PLAN, "base": str(base), **changes}), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def made(concepts, tiny_folder, tmp_path_factory):
    """A video of three beats, and what was told of it."""
    out = tmp_path_factory.mktemp("video") / "story.png"
    seen, shown = [], []
    result = make_video(
        str(write_plan(concepts, tiny_folder)),
        out,
        VideoOptions(interpolator="blend", interpolation_steps=2, keep_frames=True, rate=12.5),
        lambda *step: seen.append(step),
        lambda plan, sheet: shown.append((len(plan.beats), sheet.is_file(), seen[-1][0])),
    )
    return result, seen, shown


def test_the_video_holds_all_segments_with_the_shared_keyframe_once(made):
    result, _, _ = made
    video = read_video(result.video)
    assert (len(video.frames), result.frames, float(video.rate)) == (7, 7, 12.5)
    keyframes = [read_image(result.folder / "keyframes" / "scene-1" / f"beat-0{n}" / "image.png") for n in (1, 2, 3)]
    assert np.array_equal(video.frames[[0, 3, 6]], np.stack(keyframes))
    assert (result.made, result.kept) == (2, 0)


def test_everything_lies_beside_the_video(made):
    result, _, _ = made
    names = sorted(path.name for path in result.folder.iterdir())
    assert names == [
        "frames", "index.html", "keyframes", "plan.yaml", "segments", "storyboard.png", "strip.png", "video.json"
    ]  # fmt: skip
    assert result.folder.name == "story.video" and len(list((result.folder / "frames").iterdir())) == 7


def test_plan_and_settings_stand_inside_the_video_without_this_machines_folders(made, concepts):
    result, _, _ = made
    text = read_video(result.video).text
    told = json.loads(text)
    assert told["plan"]["beats"] == PLAN["beats"] and told["plan"]["seed"] == 3
    assert [item["concept"] for item in told["plan"]["instances"]] == ["john.safetensors", "rex.safetensors"]
    assert told["interpolation"]["interpolator"] == "blend" and told["rate"] == "25/2"
    assert str(concepts) not in text and str(result.folder.parent) not in text


def test_the_page_shows_files_that_are_there_and_tells_the_story_as_text(made):
    result, _, _ = made
    page = result.page.read_text()
    links = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(links) >= 7
    assert all((result.folder / unquote(unescape(link))).is_file() for link in links)
    assert "Rex runs &amp; then &lt;sits&gt;" in page and "$" not in page
    assert "<code>d2plan video story.video/plan.yaml -o story.png --overwrite --fps 12.5 --interpolator blend" in page
    assert page.count("<figure>") == 3 and "a photo of a &lt;v2&gt; dog jumping" in page


def test_names_and_words_of_adapters_are_text_on_the_page(concepts: Path, tiny_folder: Path) -> None:
    bold, (john, rex) = "<b>Rex</b>", PLAN["instances"]
    beats = [{"sub_prompts": {"John": "a man", bold: f"a <i>dog</i> {action}"}} for action in ("running", "sitting")]
    instances = [john, {**rex, "name": bold, "class_word": "dog", "identifier": "<script>"}]
    page = _write_plan(load_plan(write_plan(concepts, tiny_folder, instances=instances, beats=beats)))
    assert "&lt;b&gt;Rex&lt;/b&gt;" in page and "&lt;script&gt; dog" in page and "a &lt;i&gt;dog&lt;/i&gt;" in page
    assert not any(mark in page for mark in ("<b>", "<i>", "<script>"))


def test_what_a_planner_wrote_is_text_on_the_page(concepts: Path, tiny_folder: Path, tmp_path: Path) -> None:
    scene, note = "a photo of a man and a dog <b>here</b>", "Not shown: <script>"
    plan = load_plan(write_plan(concepts, tiny_folder, global_prompt=scene, notes=[note]))
    frames, nothing = np.zeros((2, 8, 8, 3), np.uint8), Keyframes((), (), (), ("<i>",))
    facts = VideoFacts(plan, nothing, frames, 8.0, tmp_path / "s.gif", (("interpolator", "<u>"),), "<code>")
    page = write_video_page(tmp_path, facts).read_text()
    assert all(told in page for told in ("dog &lt;b&gt;here", "Not shown: &lt;script&gt;", "&lt;i&gt;", "&lt;u&gt;"))
    assert not any(mark in page for mark in ("<b>", "<script>", "<i>", "<u>"))


def test_who_scores_a_film_finds_its_keyframes_and_the_frames_between(made):
    result, _, _ = made
    told = find_sources(ScoreRequest(paths=(result.folder,)))
    assert [[item.name for item in items] for items in told.sets.values()] == [
        [f"keyframes/scene-1/beat-0{number}" for number in (1, 2, 3)]
    ]
    ((film,),) = told.films.values()
    assert [item.name for item in film.beats] == [f"keyframes/scene-1/beat-0{number}" for number in (1, 2, 3)]
    frames = [read_video(path).frames for path in film.segments]
    assert np.array_equal(
        np.concatenate([part[1:-1] for part in frames]), read_video(result.video).frames[[1, 2, 4, 5]]
    )


def test_the_storyboard_is_there_before_the_long_part_starts(made):
    _, seen, shown = made
    assert shown[0][:2] == (3, True)
    stages = list(dict.fromkeys(what for what, _, _ in seen))
    assert stages[0] == "planning" and shown[0][2] in stages
    assert stages.index(shown[0][2]) < stages.index("segment 1 of 2") < stages.index("segment 2 of 2")
    assert stages[-1] == "writing the video"


def test_a_finished_video_is_made_again_without_computing_a_picture(made):
    result, _, _ = made
    before = read_all(result.folder)
    seen = []
    again = make_video(str(result.folder / "plan.yaml"), result.video, BLEND, lambda *step: seen.append(step[0]))
    assert (again.made, again.kept) == (0, 2)
    assert not [what for what in seen if what.startswith("composing")]
    after = read_all(result.folder)
    assert all(
        after[name] == before[name] for name in before if name.startswith(("keyframes/scene-1/beat", "segments"))
    )


def test_a_changed_beat_leaves_the_others_byte_for_byte_and_makes_only_its_segments(concepts, tiny_folder, tmp_path):
    first = make_video(str(write_plan(concepts, tiny_folder)), tmp_path / "s.gif", BLEND)
    before = read_all(first.folder / "keyframes")
    beats = [
        *PLAN["beats"][:2],
        {"sub_prompts": {**PLAN["beats"][2]["sub_prompts"], "Rex": "a photo of a <v2> dog left"}},
    ]
    second = make_video(str(write_plan(concepts, tiny_folder, beats=beats)), tmp_path / "s.gif", BLEND)
    after = read_all(second.folder / "keyframes")
    other = {name.split("/")[1] for name in after if after[name] != before.get(name)}
    assert other == {"beat-03", "series.json", "sheet.png"}
    assert (second.made, second.kept) == (1, 1)


@pytest.mark.parametrize(("place", "action"), [(1, "left"), (2, "right"), (3, "waving")])
def test_a_beat_more_or_less_keeps_every_other_one_and_its_segments(made, concepts, tiny_folder, place, action):
    result, _, _ = made
    before = {path: path.read_bytes() for path in (result.folder / "segments").iterdir()}
    beats = list(PLAN["beats"])
    beats.insert(place, {"sub_prompts": {**beats[0]["sub_prompts"], "Rex": f"a photo of a <v2> dog {action}"}})
    seen = []
    plan = str(write_plan(concepts, tiny_folder, beats=beats))
    more = make_video(plan, result.video, BLEND, lambda *step: seen.append(step[0]))
    assert (more.made, more.kept) == ((2, 1) if place < 3 else (1, 2))
    composed = {what for what in seen if what.startswith("composing")}
    assert composed == {f'composing "beat-0{place + 1}", 1 of 1'}
    seen.clear()
    fewer = make_video(str(write_plan(concepts, tiny_folder)), result.video, BLEND, lambda *step: seen.append(step[0]))
    assert (fewer.made, fewer.kept) == (0, 2)
    assert not [what for what in seen if what.startswith("composing")]
    assert {path: path.read_bytes() for path in before} == before


def test_a_video_that_was_stopped_goes_on_where_it_stopped(concepts, tiny_folder, tmp_path):
    plan = write_plan(concepts, tiny_folder)

    def stop(what, done, total):
        if what == "segment 2 of 2":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_video(str(plan), tmp_path / "s.gif", BLEND, stop)
    assert not (tmp_path / "s.gif").exists()
    seen = []
    result = make_video(str(plan), tmp_path / "s.gif", BLEND, lambda *step: seen.append(step[0]))
    assert (result.made, result.kept) == (1, 1) and result.video.is_file()
    assert not [what for what in seen if what.startswith("composing")]


def test_a_change_of_scene_makes_a_series_of_its_own(concepts, tiny_folder, tmp_path):
    beats = [dict(beat) for beat in PLAN["beats"]]
    beats[1]["global_prompt"] = "a photo of a man and a dog in the snow"
    result = make_video(str(write_plan(concepts, tiny_folder, beats=beats)), tmp_path / "s.gif", BLEND)
    found = sorted(str(path.parent.relative_to(result.folder)) for path in result.folder.rglob("image.png"))
    assert found == ["keyframes/scene-1/beat-01", "keyframes/scene-1/beat-03", "keyframes/scene-2/beat-02"]
    assert "in the snow" in result.page.read_text()


def test_the_video_model_makes_the_frames_between(concepts, tiny_folder, tmp_path, opened):
    weights = write_embedded(tmp_path / "weights", opened["backbone"])
    options = VideoOptions(interpolator="seine", weights=weights)
    beats = PLAN["beats"][:2]
    result = make_video(str(write_plan(concepts, tiny_folder, beats=beats)), tmp_path / "s.webp", options)
    assert len(read_video(result.video).frames) == 4
    assert json.loads((result.folder / "video.json").read_text())["interpolation"]["interpolator"] == "seine"


def test_frames_and_seed_may_be_chosen_anew(concepts, tiny_folder, tmp_path):
    options = VideoOptions(interpolator="blend", interpolation_steps=1, frames=3, seed=9)
    beats = PLAN["beats"][:2]
    result = make_video(str(write_plan(concepts, tiny_folder, beats=beats)), tmp_path / "s.gif", options)
    plan = yaml.safe_load((result.folder / "plan.yaml").read_text())
    assert (plan["frames"], plan["seed"], result.frames) == (3, 9, 3)


def test_what_cannot_be_made_is_refused_before_anything_is_written(concepts, tiny_folder, tmp_path):
    plan = str(write_plan(concepts, tiny_folder))
    for options, said in (
        (VideoOptions(interpolator="film"), "film"),
        (VideoOptions(interpolator="blend", frames=1), "frames|greater"),
        (VideoOptions(interpolator="seine", weights=tmp_path), "scripts/seine"),
        (VideoOptions(interpolator="blend", rate=0), "rate"),
        (VideoOptions(interpolator="blend", rate=60), "a GIF shows at most 50"),
    ):
        with pytest.raises((InputError, FileError, ValueError), match=said):
            make_video(plan, tmp_path / "s.gif", options)
    with pytest.raises(InputError, match="ends in one of"):
        make_video(plan, tmp_path / "s.avi", BLEND)
    assert list(tmp_path.iterdir()) == []


class Unasked:
    """A language model whose time is not to be spent."""

    name = "unasked"

    def plan(self, request):
        raise AssertionError("the planner was asked")


@pytest.mark.parametrize(("frames", "said"), [(1, "the options: frames"), (1001, "the options: frames"), (99, "use ")])
def test_a_number_of_frames_that_cannot_be_made_is_refused_before_anybody_plans(
    concepts, tiny_folder, tmp_path, opened, frames, said
):
    weights = write_embedded(tmp_path / "weights", opened["backbone"])
    options = VideoOptions(concepts, Unasked(), str(tiny_folder), frames, interpolator="seine", weights=weights)
    with pytest.raises(InputError, match=f"frames.*{said}" if said == "use " else said):
        make_video("The dog sleeps next to the man, then it runs.", tmp_path / "s.gif", options)
    assert not (tmp_path / "s.video").exists()


def test_a_video_that_is_there_and_a_folder_of_something_else_are_left_alone(concepts, tiny_folder, tmp_path):
    plan = str(write_plan(concepts, tiny_folder))
    (tmp_path / "s.gif").write_text("mine")
    with pytest.raises(FileError, match="--overwrite"):
        make_video(plan, tmp_path / "s.gif", VideoOptions(interpolator="blend"))
    (tmp_path / "t.video").mkdir()
    (tmp_path / "t.video" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="other things"):
        make_video(plan, tmp_path / "t.gif", BLEND)
    assert (tmp_path / "s.gif").read_text() == "mine"


def test_what_fails_before_the_video_is_there_does_not_stand_in_the_way(concepts, tiny_folder, tmp_path, monkeypatch):
    plan = str(write_plan(concepts, tiny_folder))
    options = VideoOptions(interpolator="blend", interpolation_steps=2)

    def fail(path, *rest):
        raise FileError(f"{path}: cannot be written (No space left on device).")

    with monkeypatch.context() as full, pytest.raises(FileError, match="No space"):
        full.setattr("d2plan.workflows.filming.page.write_png", fail)
        make_video(plan, tmp_path / "s.gif", options)
    result = make_video(plan, tmp_path / "s.gif", options)
    assert (result.made, result.kept) == (0, 2) and result.video.is_file() and result.page.is_file()


@pytest.mark.parametrize("damage", ["deleted", "cut off"])
def test_a_damaged_keyframe_is_made_again_and_its_segments_are_kept(concepts, tiny_folder, tmp_path, damage):
    plan = str(write_plan(concepts, tiny_folder))
    made = make_video(plan, tmp_path / "s.gif", BLEND)
    picture = made.folder / "keyframes" / "scene-1" / "beat-02" / "image.png"
    before = read_image(picture)
    if damage == "deleted":
        picture.unlink()
    else:
        picture.write_bytes(picture.read_bytes()[:200])
    again = make_video(plan, tmp_path / "s.gif", BLEND)
    assert np.array_equal(read_image(picture), before) and (again.made, again.kept) == (0, 2)


def test_concepts_of_other_weights_are_filmed_only_when_asked_for(concepts, tmp_path):
    plan = write_plan(concepts, write_tiny(tmp_path / "other", seed=5), beats=PLAN["beats"][:2], frames=2)
    with pytest.raises(InputError, match="take them with --other-base"):
        make_video(str(plan), tmp_path / "story.gif", BLEND)
    result = make_video(str(plan), tmp_path / "story.gif", dataclasses.replace(BLEND, other_base=True))
    assert any("rex.safetensors was learnt on the base" in note for note in result.notes)
    assert "other_base: true" in (result.folder / "plan.yaml").read_text()
    assert make_video(str(result.folder / "plan.yaml"), tmp_path / "story.gif", BLEND).kept == 1
