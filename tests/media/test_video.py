"""Videos hold exactly the frames, the rate and the text that they were written with."""

import sys
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from d2plan.errors import FileError, InputError, MissingExtraError
from d2plan.media.animation import spread_pauses
from d2plan.media.video import check_rate, check_video_path, read_video, write_frames, write_video

TEXT = '{"story": "Rex läuft, then sleeps", "long": "' + "x" * 2000 + '"}'
LOSSLESS = (".png", ".apng")
ANIMATED = (*LOSSLESS, ".gif", ".webp")


def make_frames(count=7, height=24, width=32):
    """Smooth pictures, two neighbours alike, all others different."""
    rows, columns = np.mgrid[0:height, 0:width]
    planes = [(columns * 7 + 3 * at, rows * 9 + 5 * at, rows + columns + 20 * at) for at in range(count)]
    frames = np.stack([np.stack(plane, -1) for plane in planes])
    frames = frames.clip(0, 255).astype(np.uint8)
    frames[2] = frames[1]
    return frames


@pytest.mark.parametrize("suffix", [*ANIMATED, ".mp4"])
@pytest.mark.parametrize("rate", [8, 24, Fraction(24000, 1001)])
def test_a_video_keeps_count_rate_and_text_even_where_frames_are_alike(tmp_path, suffix, rate):
    if suffix == ".mp4":
        pytest.importorskip("av")
    frames = make_frames()
    write_video(tmp_path / f"clip{suffix}", frames, rate, TEXT)
    video = read_video(tmp_path / f"clip{suffix}")
    assert video.frames.shape == frames.shape
    assert video.text == TEXT
    tolerance = {".gif": 0.05, ".webp": 0.005}.get(suffix, 1e-5)
    assert float(video.rate) == pytest.approx(float(rate), rel=tolerance)
    if suffix in LOSSLESS:
        assert np.array_equal(video.frames, frames)
    else:
        assert np.abs(video.frames.astype(int) - frames).mean() < 8


@pytest.mark.parametrize("suffix", ANIMATED)
def test_frames_that_are_all_alike_are_all_kept(tmp_path, suffix):
    frames = np.full((5, 8, 8, 3), 90, np.uint8)
    write_video(tmp_path / f"still{suffix}", frames, 10)
    assert read_video(tmp_path / f"still{suffix}").frames.shape == frames.shape


def test_a_gif_of_few_colours_keeps_them_exactly(tmp_path):
    frames = np.zeros((3, 8, 8, 3), np.uint8)
    frames[0, :, :4], frames[1, :4], frames[2] = (255, 0, 0), (0, 0, 255), (1, 2, 3)
    write_video(tmp_path / "flat.gif", frames, 5)
    assert np.array_equal(read_video(tmp_path / "flat.gif").frames, frames)


def test_frames_begin_at_the_unit_nearest_to_their_moment():
    pauses = spread_pauses(48, Fraction(24), 100)
    begins = np.cumsum([0, *pauses])
    assert begins[-1] == 200
    assert np.abs(begins - np.arange(49) * 100 / 24).max() <= 0.5 + 1e-9


def test_every_mp4_frame_stands_at_its_exact_moment(tmp_path):
    av = pytest.importorskip("av")
    write_video(tmp_path / "clip.mp4", make_frames(), Fraction(25, 2))
    with av.open(str(tmp_path / "clip.mp4")) as container:
        moments = [frame.pts * frame.time_base for frame in container.decode(video=0)]
        assert container.streams.video[0].average_rate == Fraction(25, 2)
    assert moments == [Fraction(2 * index, 25) for index in range(7)]


def test_an_mp4_of_odd_size_loses_one_row_and_column(tmp_path):
    pytest.importorskip("av")
    write_video(tmp_path / "odd.mp4", make_frames(height=25, width=33), 8)
    assert read_video(tmp_path / "odd.mp4").frames.shape == (7, 24, 32, 3)


def test_an_mp4_without_pyav_names_the_extra_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtraError, match=r"d2plan\[video\]"):
        check_video_path(tmp_path / "a.mp4")
    assert check_video_path(tmp_path / "a.gif").name == "a.gif"


def test_an_mp4_without_its_encoder_is_told_before_any_work(tmp_path, monkeypatch):
    av = pytest.importorskip("av")
    monkeypatch.setattr(av.codec, "codecs_available", av.codec.codecs_available - {"libx264"})
    with pytest.raises(InputError, match=r"has no libx264; name a \.gif"):
        check_video_path(tmp_path / "a.mp4")


@pytest.mark.parametrize("name", ["story.avi", "story", "story.jpg"])
def test_a_name_without_a_known_format_is_refused(tmp_path, name):
    with pytest.raises(InputError, match="ends in one of"):
        check_video_path(tmp_path / name)


@pytest.mark.parametrize("rate", [0, -3, 1e9, float("nan"), 1e-9])
def test_a_rate_that_cannot_be_is_refused(rate):
    with pytest.raises(InputError, match="rate"):
        check_rate(rate)


def test_wrong_frames_leave_no_file(tmp_path):
    for frames in (np.zeros((0, 8, 8, 3), np.uint8), np.zeros((2, 8, 8, 3)), np.zeros((2, 8, 8, 4), np.uint8)):
        with pytest.raises(InputError):
            write_video(tmp_path / "x.gif", frames, 8)
    with pytest.raises(InputError, match="GIF"):
        write_video(tmp_path / "x.gif", make_frames(), 60)
    assert not list(tmp_path.iterdir())


def test_a_video_that_is_damaged_or_missing_is_a_clear_error(tmp_path):
    write_video(tmp_path / "clip.webp", make_frames(), 8)
    content = (tmp_path / "clip.webp").read_bytes()
    (tmp_path / "cut.webp").write_bytes(content[: len(content) // 2])
    (tmp_path / "noise.gif").write_bytes(b"no video at all")
    for name in ("cut.webp", "noise.gif", "absent.png"):
        with pytest.raises(FileError, match=name):
            read_video(tmp_path / name)


def test_a_folder_that_is_not_there_is_a_clear_error(tmp_path):
    with pytest.raises(FileError, match="cannot be written"):
        write_video(tmp_path / "none" / "clip.gif", make_frames(), 8)


def test_frames_are_written_in_order(tmp_path):
    frames = make_frames(3)
    paths = write_frames(tmp_path / "frames", frames)
    assert [path.name for path in paths] == ["0000.png", "0001.png", "0002.png"]
    (tmp_path / "frames" / "mine.png").write_bytes(b"mine")
    write_frames(tmp_path / "frames", frames[:2])
    assert sorted(path.name for path in (tmp_path / "frames").iterdir()) == ["0000.png", "0001.png", "mine.png"]
    write_frames(tmp_path / "frames", frames)
    assert all(np.array_equal(np.asarray(Image.open(path)), frame) for path, frame in zip(paths, frames, strict=True))


@pytest.mark.parametrize(("rate", "suffix"), [(60, ".gif"), (999.999, ".png"), (999.999, ".apng")])
def test_a_rate_that_the_format_cannot_hold_is_refused_before_there_are_frames(rate, suffix):
    check_rate(rate)
    with pytest.raises(InputError, match="rate"):
        check_rate(rate, suffix)
