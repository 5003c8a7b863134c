"""From keyframes to the frames of a video: segment after segment, each kept in a file, so that none is made twice."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from d2plan.errors import FileError, InputError
from d2plan.etp.interpolate import Frames, Interpolator, Picture, Segment, check_segment, interpolate_steps
from d2plan.media.images import make_folder
from d2plan.media.video import read_video, write_video
from d2plan.shapes import check_shape

SUFFIX = ".png"  # animated and without loss: what was made is what is read back, and a browser shows it
_RATE = 8


class FilmStep(NamedTuple):
    """How far a film is.

    Attributes:
        segment: the one in hand, from 0.
        segments: how many there are.
        index: of its step that was done, from 0.
        total: its steps.
        frames: of the segment, with its last step.
        kept: it was made before, and was read from its file.
    """

    segment: int
    segments: int
    index: int  # type: ignore[assignment]  # a step's number says more here than tuple.index
    total: int
    frames: Frames | None = None
    kept: bool = False


@dataclass(frozen=True)
class Tempo:
    """How keyframes follow each other.

    Attributes:
        frames: of each segment, both keyframes counted.
        texts: what is seen in each segment.
        seed: of the noise of every segment: one that moves to another place in the film stays the same.
    """

    frames: int
    texts: tuple[str, ...]
    seed: int = 0


def plan_segments(keyframes: Sequence[Picture], tempo: Tempo) -> list[Segment]:
    """Pair neighbouring keyframes.

    Args:
        keyframes: two or more of one size, in order.
        tempo: with one text for each pair.

    Returns:
        One segment fewer than keyframes.

    Raises:
        InputError: fewer than two keyframes, or another number of texts than pairs.
    """
    if len(keyframes) < 2:
        raise InputError(f"keyframes: there are {len(keyframes)}, but a video needs 2 or more.")
    if len(tempo.texts) != len(keyframes) - 1:
        raise InputError(f"texts: there are {len(tempo.texts)} for {len(keyframes) - 1} segments; give one for each.")
    pairs = zip(keyframes, keyframes[1:], strict=False)
    return [
        Segment(first, last, tempo.frames, text, tempo.seed)
        for (first, last), text in zip(pairs, tempo.texts, strict=True)
    ]


def film_steps(interpolator: Interpolator, segments: Sequence[Segment], folder: Path) -> Iterator[FilmStep]:
    """Make all segments, or read those that were made before from the same keyframes in the same way.

    Stopped at any moment and started again, it goes on with the first segment that is not finished.

    Args:
        interpolator: how.
        segments: in order.
        folder: where each finished segment is kept, as an animated PNG named by its fingerprint: wherever it stands in
            the film, and whatever stands before it, it is found again.

    Yields:
        Each step; ``frames`` comes with the last one of each segment.

    Raises:
        InputError: the interpolator cannot make one of the segments; nothing is begun then.
        FileError: the folder cannot be written into.
    """
    for segment in segments:
        check_segment(interpolator, segment)
    make_folder(folder)
    for number, segment in enumerate(segments):
        mark = fingerprint_segment(interpolator.record, segment)
        path = folder / name_segment(interpolator.record, segment)
        found = read_segment(path, mark, segment)
        if found is not None:
            yield FilmStep(number, len(segments), 0, 1, found, True)
            continue
        for step in interpolate_steps(interpolator, segment):
            if step.frames is not None:
                write_video(path, step.frames, _RATE, json.dumps({"fingerprint": mark, **interpolator.record}))
            yield FilmStep(number, len(segments), step.index, step.total, step.frames)


def fingerprint_segment(record: Mapping[str, str], segment: Segment) -> str:
    """Tell a segment and the way it is made from all others.

    Args:
        record: of the interpolator.
        segment: what is made.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    plain = [sorted(record.items()), segment.frames, segment.text, segment.seed, segment.first.shape]
    digest.update(json.dumps(plain).encode())
    digest.update(np.ascontiguousarray(segment.first).tobytes())
    digest.update(np.ascontiguousarray(segment.last).tobytes())
    return digest.hexdigest()[:16]


def name_segment(record: Mapping[str, str], segment: Segment) -> str:
    """Name the file that keeps a segment.

    Args:
        record: of the interpolator.
        segment: what is made.

    Returns:
        The fingerprint with the file's ending.
    """
    return fingerprint_segment(record, segment) + SUFFIX


def read_segment(path: Path, mark: str, segment: Segment) -> Frames | None:
    """Read a segment that was finished before.

    Args:
        path: where it would lie.
        mark: its fingerprint, which stands inside too.
        segment: what it must be.

    Returns:
        Its frames; None where there is no such file, or one that is damaged or of something else.
    """
    if not path.is_file():
        return None
    try:
        video = read_video(path)
        told = json.loads(video.text).get("fingerprint")
    except (FileError, ValueError, AttributeError):
        return None
    fits = told == mark and video.frames.shape == (segment.frames, *segment.first.shape)
    return video.frames if fits else None


def chain_segments(parts: Sequence[Frames]) -> Frames:
    """Put segments one after the other; the keyframe that two share is there once.

    Args:
        parts: each ``[f, h, w, 3]``, in order.

    Returns:
        ``[sum f - (segments - 1), h, w, 3]``; the shared frame is that of the earlier segment.

    Raises:
        InputError: there is no segment.
        ShapeError: the sizes differ.
    """
    if not parts:
        raise InputError("segments: there is none to put together.")
    sizes = {key: size for key, size in check_shape(parts[0], "f h w 3", "segment 1").items() if key != "f"}
    for number, part in enumerate(parts):
        check_shape(part, "f h w 3", f"segment {number + 1}", sizes)
    return np.concatenate([parts[0], *(part[1:] for part in parts[1:])])


def set_keyframes(frames: Frames, keyframes: Sequence[Picture]) -> Frames:
    """Put the keyframes themselves where an interpolator gave its own picture of them.

    Args:
        frames: chained, ``[f, h, w, 3]``; the keyframes are evenly spread over them.
        keyframes: all of them, of the same size.

    Returns:
        A copy of the frames with the keyframes in it.

    Raises:
        InputError: the keyframes cannot stand evenly among so many frames.
    """
    gaps = len(keyframes) - 1
    if gaps < 1 or (len(frames) - 1) % gaps:
        raise InputError(f"keyframes: {len(keyframes)} do not stand evenly among {len(frames)} frames.")
    result = frames.copy()
    result[:: (len(frames) - 1) // gaps] = np.stack(list(keyframes))
    return result
