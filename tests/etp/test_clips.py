"""Wan and LTX, tiny and with random weights: the keyframes reach the model, and the answer is frames."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from d2plan.errors import FileError, InputError, MissingExtraError
from d2plan.etp.clips import follow, open_interpolator
from d2plan.etp.interpolate import InterpolatorOptions, Segment, interpolate, interpolate_steps
from tests.etp.video_models import write_ltx, write_wan

pytest.importorskip("ftfy")  # Wan's pipeline reads prompts with it


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {"wan": write_wan(root / "wan"), "ltx": write_ltx(root / "ltx")}


def make_segment(frames=9, seed=0, last=200, text="a dog runs"):
    first = np.full((32, 32, 3), 60, np.uint8)
    return Segment(first, np.full_like(first, last), frames, text, seed)


@pytest.fixture(scope="module", params=["wan", "ltx"])
def clips(request, folders):
    options = InterpolatorOptions(weights=folders[request.param], steps=2, guidance_scale=2.0)
    return open_interpolator(request.param, options)


def test_a_segment_gives_its_frames_and_a_step_for_each_denoising_step(clips):
    steps = list(interpolate_steps(clips, make_segment()))
    assert [(step.index, step.total) for step in steps] == [(0, 2), (1, 2)]
    assert steps[-1].frames.shape == (9, 32, 32, 3) and steps[-1].frames.dtype == np.uint8


def test_the_same_seed_gives_the_same_frames_and_seed_last_frame_and_text_each_change_them(clips):
    frames = interpolate(clips, make_segment())
    assert np.array_equal(frames, interpolate(clips, make_segment()))
    for changed in (make_segment(seed=1), make_segment(last=20), make_segment(text="the beach")):
        assert not np.array_equal(frames, interpolate(clips, changed))


def test_a_number_of_frames_that_the_model_cannot_make_is_refused_with_the_nearest(clips):
    nearest = {"wan": "use 17", "ltx": "use 17"}[clips.name]
    with pytest.raises(InputError, match=nearest):
        interpolate(clips, make_segment(frames=16))


def test_what_the_frames_depend_on_is_recorded(clips):
    assert clips.record["interpolator"] == clips.name
    assert clips.record["steps"] == "2" and clips.record["weights"] == clips.name


def test_a_wan_model_that_takes_no_last_frame_is_refused(tmp_path):
    folder = write_wan(tmp_path / "i2v", last_frame=False)
    with pytest.raises(InputError, match="takes no last frame"):
        open_interpolator("wan", InterpolatorOptions(weights=folder))


def test_weights_that_are_not_there_say_how_to_get_them(tmp_path):
    with pytest.raises(InputError, match="Wan-AI"):
        open_interpolator("wan", InterpolatorOptions())
    with pytest.raises(InputError, match="hf download someone/something"):
        open_interpolator("ltx", InterpolatorOptions(weights=Path("someone/something")))
    with pytest.raises(InputError, match="model_index.json"):
        open_interpolator("ltx", InterpolatorOptions(weights=tmp_path))
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(FileError, match="cannot be opened as a ltx model"):
        open_interpolator("ltx", InterpolatorOptions(weights=tmp_path))


def test_wan_without_ftfy_names_the_extra(folders, monkeypatch):
    monkeypatch.setattr("d2plan.etp.clips.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"d2plan\[video\]"):
        open_interpolator("wan", InterpolatorOptions(weights=folders["wan"]))


def test_an_error_within_reaches_the_reader_and_a_reader_who_leaves_ends_the_work():
    def fail(watch):
        watch(1)
        raise InputError("no")

    steps = follow(fail, 3)
    assert next(steps).index == 0
    with pytest.raises(InputError, match="no"):
        next(steps)

    counted = itertools.count()

    def count(watch):
        for done in range(1, 1_000_000):
            next(counted)
            watch(done)

    steps = follow(count, 1_000_000)
    next(steps)
    steps.close()
    assert next(counted) < 999_999
