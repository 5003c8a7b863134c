"""What a frame between two beats must show, and how a film goes on."""

import numpy as np
import pytest

from d2plan.errors import InputError
from d2plan.eval.films import expect_between, expect_frames, measure_flow
from d2plan.eval.score import Expectation, Expected

RUNS = Expectation(
    (Expected("dog", "hat", "red", "running", "left", "rex"), Expected("man", action="waving", concept="john")),
    "beach",
    "night",
)
SITS = Expectation(
    (Expected("dog", "hat", "blue", "sitting", "left", "rex"), Expected("man", action="waving", concept="john")),
    "beach",
)


def test_between_two_beats_only_what_both_say_is_expected():
    assert expect_between(RUNS, SITS) == Expectation(
        (Expected("dog", "hat", None, None, "left", "rex"), Expected("man", action="waving", concept="john")), "beach"
    )
    assert expect_between(RUNS, RUNS) == RUNS


def test_every_frame_has_its_expectation_and_each_keyframe_its_own():
    between = expect_between(RUNS, SITS)
    assert expect_frames([RUNS, SITS, RUNS], 4) == [RUNS, between, between, SITS, between, between, RUNS]
    assert expect_frames([RUNS, SITS], 2) == [RUNS, SITS]


def test_beats_of_others_are_refused():
    with pytest.raises(InputError, match="different instances"):
        expect_between(RUNS, Expectation(RUNS.instances[::-1]))


def test_a_cut_shows_in_the_least_alike_neighbours_and_the_largest_step():
    first, last = np.eye(2)
    rows = np.stack([first, first, last, last])
    values = measure_flow({"clip": rows, "dino": rows[:, ::-1]}, np.array([0.0, 51.0, 0.0]))
    assert values["consistency_adjacent"] == values["scene_kept_adjacent"] == pytest.approx(2 / 3)
    assert values["consistency_all"] == values["scene_kept"] == pytest.approx(1 / 3)
    assert values["consistency_least"] == 0.0
    assert values["largest_step"] == pytest.approx(0.2)
    assert set(measure_flow({}, np.array([1.0]))) == {"largest_step"}
