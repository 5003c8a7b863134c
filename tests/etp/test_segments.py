"""Segments are made once, kept whole, and put together with each shared keyframe once."""

import numpy as np
import pytest

from d2plan.errors import FileError, InputError, ShapeError
from d2plan.etp.segments import (
    Tempo,
    chain_segments,
    film_steps,
    fingerprint_segment,
    name_segment,
    plan_segments,
    set_keyframes,
)
from tests.etp.test_interpolate import Fade, Limits


def make_keyframes(count=4):
    return [np.full((8, 8, 3), 60 * index, np.uint8) for index in range(count)]


def film(interpolator, folder, keyframes=None, **changes):
    keyframes = make_keyframes() if keyframes is None else keyframes
    tempo = Tempo(**{"frames": 5, "texts": ("a dog",) * (len(keyframes) - 1), **changes})
    return list(film_steps(interpolator, plan_segments(keyframes, tempo), folder))


def finished(steps):
    return [(step.segment, step.kept) for step in steps if step.frames is not None]


def test_each_pair_of_neighbours_is_a_segment_and_all_have_the_films_seed():
    segments = plan_segments(make_keyframes(3), Tempo(5, ("to", "fro"), seed=2**63 - 1))
    assert [(part.text, part.frames, part.seed) for part in segments] == [("to", 5, 2**63 - 1), ("fro", 5, 2**63 - 1)]
    assert segments[0].last is segments[1].first


def test_one_keyframe_or_another_number_of_texts_is_refused():
    with pytest.raises(InputError, match="2 or more"):
        plan_segments(make_keyframes(1), Tempo(5, ()))
    with pytest.raises(InputError, match="texts"):
        plan_segments(make_keyframes(3), Tempo(5, ("one",)))


def test_finished_segments_are_read_and_are_what_was_made(tmp_path):
    interpolator = Fade()
    first = film(interpolator, tmp_path)
    assert finished(first) == [(0, False), (1, False), (2, False)] and interpolator.calls == 3
    again = film(interpolator, tmp_path)
    assert finished(again) == [(0, True), (1, True), (2, True)] and interpolator.calls == 3
    pairs = zip(
        [step.frames for step in first if step.frames is not None],
        [step.frames for step in again if step.frames is not None],
        strict=True,
    )
    assert all(np.array_equal(made, read) for made, read in pairs)


def test_a_film_that_was_stopped_goes_on_with_the_segment_that_is_not_finished(tmp_path):
    class Stop(Exception):
        pass

    def stop(frames):
        raise Stop

    interpolator = Fade()
    steps = film_steps(interpolator, plan_segments(make_keyframes(), Tempo(5, ("a",) * 3)), tmp_path)
    for step in steps:
        if step.segment == 1:
            interpolator.change = stop
            break
    with pytest.raises(Stop):
        next(steps)
    assert len(list(tmp_path.iterdir())) == 1
    interpolator = Fade()
    assert finished(film(interpolator, tmp_path, texts=("a",) * 3)) == [(0, True), (1, False), (2, False)]
    assert interpolator.calls == 2


def test_a_changed_keyframe_makes_only_its_own_segments_again(tmp_path):
    film(Fade(), tmp_path)
    changed = make_keyframes()
    changed[3] = changed[3] + 1
    assert finished(film(Fade(), tmp_path, changed)) == [(0, True), (1, True), (2, False)]
    changed[1] = changed[1] + 1
    assert finished(film(Fade(), tmp_path, changed)) == [(0, False), (1, False), (2, True)]
    assert finished(film(Fade(), tmp_path)) == [(0, True), (1, True), (2, True)]


@pytest.mark.parametrize("place", [0, 1, 2, 3, 4])
def test_a_keyframe_more_or_less_keeps_every_segment_whose_ends_stay(tmp_path, place):
    film(Fade(), tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    more = make_keyframes()
    more.insert(place, np.full((8, 8, 3), 7, np.uint8))
    made = [number for number, kept in finished(film(Fade(), tmp_path, more)) if not kept]
    assert made == [number for number in (place - 1, place) if 0 <= number < 4]
    assert {path: path.read_bytes() for path in before} == before
    interpolator = Fade()
    film(interpolator, tmp_path)
    assert interpolator.calls == 0


def test_a_film_that_goes_back_and_forth_makes_each_way_once(tmp_path):
    first, last = make_keyframes(2)
    steps = film(Fade(), tmp_path, [first, last, first, last])
    assert finished(steps) == [(0, False), (1, False), (2, True)]


def test_all_that_decides_a_segment_is_in_its_fingerprint():
    keyframes = make_keyframes(2)
    (segment,) = plan_segments(keyframes, Tempo(5, ("a",)))
    others = [
        plan_segments(keyframes[::-1], Tempo(5, ("a",))),
        plan_segments(keyframes, Tempo(6, ("a",))),
        plan_segments(keyframes, Tempo(5, ("b",))),
        plan_segments(keyframes, Tempo(5, ("a",), seed=1)),
        plan_segments([picture.reshape(4, 16, 3) for picture in keyframes], Tempo(5, ("a",))),
    ]
    marks = [fingerprint_segment({"steps": "2"}, one) for (one,) in others]
    marks += [fingerprint_segment({"steps": "3"}, segment), fingerprint_segment({"steps": "2"}, segment)]
    assert len(set(marks)) == len(marks)


def test_a_damaged_or_foreign_segment_file_is_made_again(tmp_path):
    film(Fade(), tmp_path)
    parts = plan_segments(make_keyframes(), Tempo(5, ("a dog",) * 3))
    first, second, third = (tmp_path / name_segment(Fade.record, part) for part in parts)
    first.write_bytes(first.read_bytes()[:200])
    second.write_bytes(third.read_bytes())
    assert finished(film(Fade(), tmp_path)) == [(0, False), (1, False), (2, True)]


def test_nothing_is_begun_when_one_segment_cannot_be_made(tmp_path):
    interpolator = Fade(Limits(most=4))
    with pytest.raises(InputError, match="use 4"):
        film(interpolator, tmp_path / "parts")
    assert interpolator.calls == 0 and not (tmp_path / "parts").exists()


def test_a_folder_that_is_a_file_is_a_clear_error(tmp_path):
    (tmp_path / "parts").write_text("")
    with pytest.raises(FileError, match="parts"):
        film(Fade(), tmp_path / "parts")


def test_chained_segments_hold_each_shared_keyframe_once():
    parts = [np.full((4, 2, 2, 3), 10 * index, np.uint8) for index in range(3)]
    for index, part in enumerate(parts):
        part[:] += np.arange(4, dtype=np.uint8)[:, None, None, None]
        assert part[0, 0, 0, 0] == 10 * index
    assert chain_segments(parts)[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 11, 12, 13, 21, 22, 23]
    with pytest.raises(ShapeError, match="segment 2"):
        chain_segments([parts[0], parts[1][:, :1]])
    with pytest.raises(InputError, match="none"):
        chain_segments([])


def test_keyframes_are_set_where_they_belong():
    frames, keyframes = np.full((9, 8, 8, 3), 7, np.uint8), make_keyframes(3)
    assert set_keyframes(frames, keyframes)[:, 0, 0, 0].tolist() == [0, 7, 7, 7, 60, 7, 7, 7, 120]
    assert (frames == 7).all()
    with pytest.raises(InputError, match="evenly"):
        set_keyframes(frames[:8], keyframes)
