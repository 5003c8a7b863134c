"""Temporal metrics, on cases whose answer is known."""

import numpy as np
import pytest

from d2plan.errors import InputError, ShapeError
from d2plan.eval.temporal import (
    consistency_adjacent,
    consistency_all,
    consistency_by_frame,
    cross_fade,
    frame_steps,
    jump_rate,
    kept_psnr,
    largest_jump,
    masked_error,
    moving_area,
    psnr,
)


def make_clip(*levels, size=4):
    return np.stack([np.full((size, size, 3), level, np.uint8) for level in levels])


def test_frames_that_turn_by_sixty_degrees_are_half_alike_to_neighbours_and_less_to_all():
    angles = np.radians([0, 60, 120])
    vectors = np.stack([np.cos(angles), np.sin(angles)], 1) * [[1], [5], [0.1]]
    assert consistency_adjacent(vectors) == pytest.approx(0.5)
    assert consistency_all(vectors) == pytest.approx((0.5 + 0.5 - 0.5) / 3)


def test_each_frame_is_compared_with_one_vector():
    vectors = np.array([[2.0, 0], [0, 3], [-1, 0], [1, 1]])
    assert consistency_by_frame(vectors, np.array([7.0, 0])) == pytest.approx([1, 0, -1, 0.5**0.5])


def test_vectors_that_point_nowhere_are_refused():
    with pytest.raises(InputError, match="points nowhere"):
        consistency_adjacent(np.array([[1.0, 0], [0, 0]]))
    with pytest.raises(InputError, match="points nowhere"):
        consistency_all(np.array([[1.0, 0], [np.nan, 0]]))
    with pytest.raises(InputError, match="2 frames"):
        consistency_all(np.ones((1, 2)))


def test_the_largest_jump_is_the_largest_step():
    clip = make_clip(10, 13, 13, 53, 50)
    assert frame_steps(clip).tolist() == [3, 0, 40, 3]
    assert largest_jump(clip) == 40


def test_clips_count_as_jumping_above_the_true_clips_percentile():
    true = np.arange(101.0)
    assert jump_rate(np.array([99.0, 99.5, 100, 1]), true) == 0.5
    assert jump_rate(np.array([99.0, 99.5, 100, 1]), true, percentile=0) == 1.0
    with pytest.raises(InputError, match="no clip"):
        jump_rate(np.array([]), true)


def test_the_error_counts_only_inside_the_mask_and_not_at_the_given_frames():
    truth = make_clip(0, 0, 0, 0)
    frames = truth.copy()
    frames[0], frames[3] = 200, 200
    frames[1, 0, 0], frames[1, 3, 3] = 30, 99
    mask = np.zeros((4, 4), bool)
    mask[0, 0] = True
    assert masked_error(frames, truth, mask) == pytest.approx((30**2 / 2) ** 0.5)
    by_frame = np.zeros((4, 4, 4), bool)
    by_frame[1, 0, 0] = True
    assert masked_error(frames, truth, by_frame) == pytest.approx(30)


def test_an_error_over_nothing_is_refused():
    clip = make_clip(0, 0, 0)
    with pytest.raises(InputError, match="nothing to measure"):
        masked_error(clip, clip, np.zeros((4, 4), bool))
    with pytest.raises(InputError, match="nothing to measure"):
        masked_error(clip[:2], clip[:2], np.ones((4, 4), bool))
    with pytest.raises(ShapeError):
        masked_error(clip, clip[:2], np.ones((4, 4), bool))


def test_only_instances_that_move_make_the_moving_area():
    masks = np.zeros((3, 2, 4, 4), bool)
    masks[:, 0, 0, 0] = True
    for frame in range(3):
        masks[frame, 1, 3, frame] = True
    area = moving_area(masks)
    assert np.argwhere(area).tolist() == [[3, 0], [3, 1], [3, 2]]
    assert not moving_area(masks[:, :1]).any()


def test_psnr_follows_its_definition():
    first = make_clip(100)[0]
    assert psnr(first, first) == np.inf
    assert psnr(first, first + 5) == pytest.approx(20 * np.log10(255 / 5))
    with pytest.raises(InputError, match="compared"):
        psnr(first, first[:2])
    assert kept_psnr(make_clip(100, 0, 105), first, first) == (np.inf, psnr(first, first + 5))


def test_a_cross_fade_begins_and_ends_with_its_pictures_and_is_half_way_in_the_middle():
    first, last = make_clip(0)[0], make_clip(200)[0]
    frames = cross_fade(first, last, 5)
    assert frames[:, 0, 0, 0].tolist() == [0, 50, 100, 150, 200]
