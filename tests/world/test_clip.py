"""Clips go softly from one true state to another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d2plan.errors import InputError
from d2plan.world.clip import Clip, clip_frames, ease, sample_clip, scene_between
from d2plan.world.scene import Figure
from d2plan.world.seeds import stream_rng
from d2plan.world.truth import render

seeds = st.integers(0, 2**31)
SHARES = np.linspace(0, 1, 41).tolist()


def sample(seed: int) -> Clip:
    return sample_clip(stream_rng("heldout", seed))


def change_of(clip: Clip) -> str:
    before, after = clip.start.figures[0], clip.end.figures[0]
    if before.action != after.action:
        return "action"
    return "position" if before.x != after.x else "accessory"


def doing(figure: Figure) -> tuple[str, str | None, str | None, int]:
    return figure.action, figure.accessory, figure.accessory_colour, figure.facing


@settings(max_examples=25)
@given(seeds)
def test_the_two_states_differ_in_one_thing_of_one_figure(seed: int) -> None:
    clip = sample(seed)
    assert clip == sample(seed)
    before, after = clip.start.figures[0], clip.end.figures[0]
    assert replace(clip.start, figures=()) == replace(clip.end, figures=())
    assert clip.start.figures[1:] == clip.end.figures[1:]
    changed = {
        "action": before.action != after.action,
        "position": before.x != after.x,
        "accessory": (before.accessory, before.accessory_colour) != (after.accessory, after.accessory_colour),
    }
    assert sum(changed.values()) == 1
    same = {"action": after.action, "x": after.x, "accessory": after.accessory}
    assert replace(before, **same, accessory_colour=after.accessory_colour) == after


def test_every_kind_of_change_turns_up_and_captions_tell_it() -> None:
    clips = [sample(seed) for seed in range(40)]
    assert {change_of(clip) for clip in clips} == {"action", "position", "accessory"}
    for clip in clips:
        told = clip.caption_start.text != clip.caption_end.text
        # Where a figure stands is told only beside another one.
        assert told or (change_of(clip) == "position" and len(clip.start.figures) == 1)
        for caption, scene in ((clip.caption_start, clip.start), (clip.caption_end, clip.end)):
            words = [caption.text[start:end] for start, end in caption.class_words]
            assert words == [figure.class_word for figure in scene.figures]


@settings(max_examples=25)
@given(seeds)
def test_motion_is_smooth_and_only_the_actor_moves(seed: int) -> None:
    clip = sample(seed)
    states = [scene_between(clip, share) for share in SHARES]
    assert states[0] == clip.start
    assert states[-1] == clip.end
    assert all(state.figures[1:] == clip.start.figures[1:] for state in states)
    actor = [state.figures[0] for state in states]
    steps = np.diff([[figure.x, figure.ground, figure.height] for figure in actor], axis=0)
    assert np.abs(steps).max() < 0.06
    across = steps[:, 0] * np.sign(actor[-1].x - actor[0].x)
    assert (across >= 0).all()
    assert across[[0, -1]].max() <= across.max() / 10
    # The drawing order of the figures never jumps.
    assert all(figure.ground > other.ground - 1e-9 for figure in actor for other in clip.start.figures[1:])


@settings(max_examples=25)
@given(seeds)
def test_a_figure_switches_once_and_in_the_air_unless_it_walks(seed: int) -> None:
    clip = sample(seed)
    actor = [scene_between(clip, share).figures[0] for share in SHARES]
    switches = [place for place in range(1, len(actor)) if doing(actor[place]) != doing(actor[place - 1])]
    if change_of(clip) == "position":
        assert len(switches) in (0, 2)
        assert clip.start.figures[0].facing == np.sign(actor[-1].x - actor[0].x)
        return
    assert len(switches) == 1
    at = actor[switches[0]]
    assert at.ground < actor[0].ground - 0.04 * at.height


def test_those_who_cross_the_picture_are_seen_whole_on_both_sides() -> None:
    clips = [clip for clip in map(sample, range(60)) if change_of(clip) == "position"]
    assert len(clips) > 8
    for clip in clips:
        for scene in (clip.start, clip.end):
            mask = render(scene, 64).masks[0] > 0.5
            assert mask.any()
            assert not mask[:, [0, -1]].any()


def test_the_first_and_last_frames_are_the_drawn_states() -> None:
    clip = sample(3)
    frames = clip_frames(clip, 5, 48)
    assert (frames.shape, frames.dtype) == ((5, 48, 48, 3), np.uint8)
    assert np.array_equal(frames[0], render(clip.start, 48).image)
    assert np.array_equal(frames[2], render(scene_between(clip, 0.5), 48).image)
    assert np.array_equal(frames[-1], render(clip.end, 48).image)
    assert not np.array_equal(frames[0], frames[-1])


@pytest.mark.parametrize("count", [1, 0, -3, 1001])
def test_too_few_or_too_many_frames_are_refused(count: int) -> None:
    with pytest.raises(InputError, match=f"frames: {count} is outside 2..1000"):
        clip_frames(sample(0), count)


def test_easing_starts_and_ends_at_rest() -> None:
    way = np.array([ease(share) for share in np.linspace(0, 1, 101)])
    assert (way[0], way[50], way[-1]) == (0, pytest.approx(0.5), 1)
    assert (np.diff(way) > 0).all()
    assert way[1] < 1e-4
    assert np.allclose(way, 1 - way[::-1])
