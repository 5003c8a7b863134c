"""What every interpolator is held to, whatever it is."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from transformers.utils import logging

from d2plan.errors import FileError, InputError, ShapeError
from d2plan.etp.interpolate import (
    METHODS,
    InterpolatorOptions,
    Limits,
    Segment,
    SegmentStep,
    check_frames,
    fit_keyframes,
    interpolate,
    interpolate_steps,
    open_interpolator,
)


class Fade:
    """Fades in pixels; wrong on demand."""

    name = "fade"
    record = {"interpolator": "fade"}

    def __init__(self, limits=None, change=lambda frames: frames):
        self.limits, self.change, self.calls = limits or Limits(), change, 0

    def steps(self, segment):
        self.calls += 1
        share = np.linspace(0, 1, segment.frames)[:, None, None, None]
        yield SegmentStep(0, 2)
        frames = (segment.first * (1 - share) + segment.last * share).astype(np.uint8)
        yield SegmentStep(1, 2, self.change(frames))


def make_segment(frames=5, size=(8, 12), **changes):
    first, last = np.zeros((*size, 3), np.uint8), np.full((*size, 3), 200, np.uint8)
    return Segment(**{"first": first, "last": last, "frames": frames, "text": "a dog", **changes})


def test_steps_come_one_by_one_and_the_frames_with_the_last():
    steps = list(interpolate_steps(Fade(), make_segment()))
    assert [(step.index, step.total, step.frames is None) for step in steps] == [(0, 2, True), (1, 2, False)]
    assert interpolate(Fade(), make_segment())[:, 0, 0, 0].tolist() == [0, 50, 100, 150, 200]


WRONG = (lambda frames: frames[1:], lambda frames: frames[:, 1:], lambda frames: frames / 255.0, lambda frames: None)


@pytest.mark.parametrize("change", WRONG)
def test_other_frames_than_asked_for_never_pass(change):
    with pytest.raises(InputError, match="gave"):
        interpolate(Fade(change=change), make_segment())


@pytest.mark.parametrize(("frames", "near"), [(4, 5), (6, 5), (7, 9), (8, 9), (14, 13), (1, 5), (999, 13)])
def test_a_number_of_frames_that_cannot_be_made_names_the_nearest_that_can(frames, near):
    interpolator = Fade(Limits(fewest=5, most=13, stride=4))
    with pytest.raises(InputError, match=f"use {near}\\."):
        interpolate(interpolator, make_segment(frames))
    assert interpolator.calls == 0
    check_frames(interpolator, near)


def test_keyframes_that_do_not_go_together_are_refused_before_any_work():
    interpolator = Fade(Limits(unit=8))
    with pytest.raises(InputError, match="width is 12"):
        interpolate(interpolator, make_segment())
    with pytest.raises(ShapeError):
        interpolate(Fade(), make_segment(last=np.zeros((8, 8, 3), np.uint8)))
    with pytest.raises(InputError, match="uint8"):
        interpolate(Fade(), make_segment(last=np.zeros((8, 12, 3))))
    with pytest.raises(InputError, match="seed"):
        interpolate(Fade(), make_segment(seed=-1))
    assert interpolator.calls == 0


def test_keyframes_are_made_smaller_to_fit_and_never_larger():
    wide = np.zeros((100, 200, 3), np.uint8)
    assert fit_keyframes(Fade(Limits(unit=8)), [wide])[0].shape == (96, 200, 3)
    assert fit_keyframes(Fade(Limits(unit=8, largest=50 * 100)), [wide])[0].shape == (48, 96, 3)
    fitting = np.zeros((64, 64, 3), np.uint8)
    assert fit_keyframes(Fade(Limits(unit=16, largest=64 * 64)), [fitting])[0] is fitting


def test_an_unknown_name_lists_those_that_are_known_and_nothing_else_is_taken():
    with pytest.raises(InputError, match=", ".join(METHODS)):
        open_interpolator("film", InterpolatorOptions())
    for name in METHODS:
        with pytest.raises(InputError, match="missing|base"):
            open_interpolator(name, InterpolatorOptions())


def test_nothing_that_transformers_advises_comes_before_the_one_sentence(monkeypatch, caplog):
    logger = logging.get_logger("transformers.advice")

    def refuse(name, options):
        logger.warning("install torchvision")
        raise InputError("weights is missing")

    monkeypatch.setitem(sys.modules, "advising", SimpleNamespace(open_interpolator=refuse))
    monkeypatch.setattr("d2plan.etp.interpolate.METHODS", {"wan": "advising"})
    with pytest.raises(InputError, match="weights"):
        open_interpolator("wan", InterpolatorOptions())
    assert "torchvision" not in caplog.text
    logger.warning("others are heard")
    assert "others" in caplog.text


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("blend", {"weights": Path("seine.pt")}, "weights: blend has none; leave them out"),
        (
            "seine",
            {"text_model": Path("sd14")},
            "text_model: only the published SEINE",
        ),
        ("wan", {"weights": Path("wan"), "text_model": Path("sd14")}, "text_model: only the published SEINE"),
        ("seine", {"weights": Path("nope.pt"), "base": SimpleNamespace()}, "nope.pt: is not there; give a seine.pt"),
    ],
)
def test_a_model_that_would_not_be_used_is_refused(name, options, told):
    with pytest.raises((InputError, FileError), match=told):
        open_interpolator(name, InterpolatorOptions(**options))
