"""A film's frames are measured apart from its keyframes, each against the beats around it."""

import csv
import json

import numpy as np
import pytest

from d2plan.documents import AdapterUse, Instance, MaskReport, RunRecord, Scene
from d2plan.errors import FileError
from d2plan.eval.encoders import open_encoder
from d2plan.eval.temporal import consistency_adjacent, frame_steps
from d2plan.media.images import write_png
from d2plan.media.video import write_video
from d2plan.workflows.runs.film import write_film
from d2plan.workflows.scoring.folders import score_folders
from d2plan.workflows.scoring.report import list_rows, summarise_set, write_scores
from d2plan.workflows.scoring.sources import ScoreRequest, find_sources
from d2plan.world.cast import identity_from_seed
from d2plan.world.folders import write_concept
from d2plan.world.scene import sample_scene
from d2plan.world.seeds import stream_rng
from d2plan.world.truth import render
from tests.eval.tiny_encoders import write_tiny_clip, write_tiny_dino

BLANK = np.full((128, 128, 3), 120, np.uint8)
SAID = ("wearing a red hat, running", "wearing a red hat, sitting", "wearing a blue hat, sitting")


def draw(seed):
    rng = stream_rng("heldout", 971, seed)
    return render(sample_scene(rng, [identity_from_seed("dog", 7)])).image


def write_beat(folder, image, said):
    concept = str(folder.parents[1] / "rex.safetensors")
    instance = Instance(concept=concept, class_word="dog", sub_prompt=f"a photo of a <v1> dog {said}")
    record = RunRecord(
        scene=Scene(global_prompt="a photo of a dog on the beach", instances=(instance,)),
        base_fingerprint="0",
        adapters=(AdapterUse(path=concept, name="rex", sha256="0", class_word="dog", identifier="<v1>"),),
        masks=MaskReport(route="attention", confidence=1.0),
        unet_calls=1,
        unet_rows=3,
        seed=0,
        shared_start=True,
    )
    folder.mkdir(parents=True)
    write_png(folder / "image.png", image)
    (folder / "run.json").write_text(record.model_dump_json())


@pytest.fixture
def film(tmp_path):
    """Three beats and four frames a segment; in one frame of the second segment nobody is there."""
    folder = tmp_path / "k.video"
    keyframes, images = [], [draw(number) for number in range(3)]
    for number, (image, said) in enumerate(zip(images, SAID, strict=True), start=1):
        keyframes.append(folder / "keyframes" / "scene-1" / f"beat-0{number}")
        write_beat(keyframes[-1], image, said)
    between = [[draw(3), draw(4)], [draw(5), BLANK]]
    segments = []
    for number, parts in enumerate(between):
        (folder / "segments").mkdir(exist_ok=True)
        segments.append(folder / "segments" / f"{number}.png")
        # An interpolator's own picture of a keyframe is not in the film.
        write_video(segments[-1], np.stack([BLANK, *parts, BLANK]), 8)
    write_film(folder, '{"d2plan": "1"}', keyframes, segments)
    frames = np.stack([images[0], *between[0], images[1], *between[1], images[2]])
    return folder, frames


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    root = tmp_path_factory.mktemp("others")
    write_tiny_clip(root / "clip")
    write_tiny_dino(root / "vit")
    write_concept(root / "rex", "dog", 7, count=4)
    return root


def ask(others, *paths, **changes):
    return ScoreRequest(
        **{
            "paths": paths,
            "clip": f"clip:{others / 'clip'}",
            "dino": f"dino:{others / 'vit'}",
            "references": {"rex": others / "rex"},
            "lineups": False,
            **changes,
        }
    )


def values_of(scored, name):
    return [row[3] for row in list_rows(scored, name)]


def test_frames_are_counted_apart_and_who_is_gone_in_one_is_missing_there(film, others):
    scored = score_folders(ask(others, film[0]))
    (keyframes,), (frames,) = scored.sets, scored.films
    assert values_of(keyframes, "subject_missing") == [0, 0, 0]
    assert values_of(frames, "subject_missing") == [0, 0, 0, 1]
    assert [item.name for item in frames.items][1:3] == ["segment-01/frame-0002", "segment-02/frame-0001"]
    assert len(values_of(frames, "identity")) == 4 and values_of(frames, "identity")[3] == 0
    assert any("frames between keyframes: no instance of rex is found in 1 of 4" in note for note in scored.notes)
    assert summarise_set(frames)["subject_missing"].mean == pytest.approx(1 / 4)


def test_a_frame_must_show_only_what_both_beats_say(film, others):
    first, _, last, _ = score_folders(ask(others, film[0])).films[0].items
    said = [
        (one.accessory, one.accessory_colour, one.action)
        for one in (*first.expected.instances, *last.expected.instances)
    ]
    assert said == [("hat", "red", None), ("hat", None, "sitting")]
    assert (first.text, first.phrases) == ("a photo of a dog on the beach", (None,))


def test_the_film_as_a_whole_is_measured_with_its_keyframes_in_their_places(film, others):
    folder, frames = film
    ((whole,),) = [one.series for one in score_folders(ask(others, folder)).films]
    clip = open_encoder(f"clip:{others / 'clip'}").embed_images(list(frames))
    assert whole.values["consistency_adjacent"] == pytest.approx(consistency_adjacent(clip), abs=1e-6)
    assert whole.values["consistency_least"] == pytest.approx(
        min(consistency_adjacent(clip[place : place + 2]) for place in range(6)), abs=1e-6
    )
    assert whole.values["largest_step"] == pytest.approx(frame_steps(frames).max() / 255)
    assert {"consistency_all", "scene_kept", "scene_kept_adjacent"} <= set(whole.values)


def test_the_files_of_scores_hold_both(film, others, tmp_path):
    request = ask(others, film[0], against=(film[0],), clip="none", dino="none")
    scored = score_folders(request)
    write_scores(tmp_path / "s.json", request, scored)
    content = json.loads((tmp_path / "s.json").read_text())
    assert [len(one["pictures"]) for one in (*content["sets"], *content["films"])] == [3, 3, 4, 4]
    assert content["films"][0]["series"][0]["values"]["largest_step"] > 0
    assert content["film_differences"]["subject_missing"]["mean"] == 0
    write_scores(tmp_path / "s.csv", request, scored)
    lines = [line for line in csv.DictReader((tmp_path / "s.csv").open()) if line["name"] == "largest_step"]
    assert {(line["of"], line["encoder"]) for line in lines} == {("mean", ""), ("difference", ""), ("series", "")}


def test_what_a_film_was_before_is_left_out_and_missing_frames_are_told(film, others):
    folder, _ = film
    write_beat(folder / "keyframes" / "scene-1" / "beat-04", BLANK, "running")
    told = find_sources(ask(others, folder))
    assert [len(items) for items in told.sets.values()] == [3] and len(told.films) == 1
    assert any("1 pictures of what the film was before" in note for note in told.notes)
    (folder / "segments" / "1.png").unlink()
    told = find_sources(ask(others, folder))
    assert not told.films and any("only the film's keyframes are scored" in note for note in told.notes)
    write_video(folder / "segments" / "1.png", np.stack([BLANK] * 4), 8)
    assert len(find_sources(ask(others, folder)).films) == 1
    write_png(folder / "keyframes" / "scene-1" / "beat-02" / "image.png", BLANK)
    assert not find_sources(ask(others, folder)).films
    (folder / "video.json").write_text('{"d2plan": "0.1"}')
    told = find_sources(ask(others, folder))
    assert [len(items) for items in told.sets.values()] == [4] and not told.films


def test_a_damaged_segment_and_a_record_of_something_else_are_told_before_anybody_looks(film, others):
    folder, _ = film
    (folder / "segments" / "1.png").write_bytes(b"\x89PNG")
    with pytest.raises(FileError, match=r"1\.png"):
        score_folders(ask(others, folder))
    for content in (
        "[]",
        '{"keyframes": {"../a": ""}, "segments": []}',
        '{"keyframes": {}, "segments": []}',
        "{",
        '{"segments": 1}',
    ):
        (folder / "video.json").write_text(content)
        with pytest.raises(FileError, match=r"video\.json: is no record"):
            find_sources(ask(others, folder))


def test_who_has_no_references_is_told_how_to_give_them(film, others):
    scored = score_folders(ask(others, film[0], references={}, clip="none", dino="none"))
    told = [note for note in scored.notes if "-r rex=FOLDER" in note]
    assert len(told) == 1 and "identity and visual_confusion are not measured of rex" in told[0]
    assert not any("count as 0" in note for note in scored.notes)
    assert any("no instance of rex is found in 1 of 4 pictures; they are left out" in note for note in scored.notes)
    with_own = score_folders(ask(others, film[0], clip="none", dino="none"))
    assert not any("FOLDER" in note for note in with_own.notes)
