"""Videos in and out: mp4 through PyAV, GIF, WebP and animated PNG without it; what made them is kept inside."""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from d2plan.errors import FileError, InputError, MissingExtraError
from d2plan.media.animation import check_pace, join_animation, list_pauses
from d2plan.media.images import write_file, write_png
from d2plan.shapes import check_shape

SUFFIXES = (".mp4", ".gif", ".webp", ".png", ".apng")
KEYWORD = "d2plan"
MOST_FRAMES = 100_000
MAX_BYTES = 512 * 2**20
MAX_PIXELS = 32_000_000
MAX_MEMORY = 4 * 2**30
_FRAME = re.compile(r"[0-9]{4,}\.png")
_CODEC = "libx264"
_QUALITY = "17"  # x264's constant rate factor: no loss that one sees

Frames = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Video:
    """A video that was read.

    Attributes:
        frames: uint8 ``[f, h, w, 3]``.
        rate: frames a second.
        text: what was kept inside; empty when nothing was.
    """

    frames: Frames
    rate: Fraction
    text: str = ""


def check_video_path(path: str | Path) -> Path:
    """Refuse the name of a video before any work is done for it.

    Args:
        path: the file's name.

    Returns:
        The path.

    Raises:
        InputError: no format goes by its ending, or it is an mp4 and PyAV was built without its encoder.
        MissingExtraError: it is an mp4, and PyAV is not installed.
    """
    target = Path(path)
    suffix = target.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{target}: a video's name ends in one of {', '.join(SUFFIXES)}.")
    if suffix == ".mp4" and _CODEC not in need_av(target).codec.codecs_available:
        raise InputError(f"{target}: the PyAV that is installed has no {_CODEC}; name a .gif, .webp or .png instead.")
    return target


def has_av() -> bool:
    """Say whether mp4 files can be written here."""
    return find_spec("av") is not None


def need_av(path: Path) -> ModuleType:
    """Import PyAV.

    Args:
        path: the mp4 that needs it.

    Returns:
        The module.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return import_module("av")
    except ImportError as error:
        raise MissingExtraError(
            f"{path}: mp4 needs PyAV; install it with `pip install 'd2plan[video]'`, or name a .gif, .webp or .png."
        ) from error


def write_video(path: str | Path, frames: Frames, rate: float | Fraction, text: str = "") -> None:
    """Write a video, whole or not at all; exactly the frames given, at exactly the rate given.

    An mp4 of an odd height or width loses its last row or column, because H.264 halves the colours' resolution. A
    GIF's frames start on hundredths of a second and a WebP's on thousandths, the nearest to the true moment.

    Args:
        path: the file's final name, ending in one of ``SUFFIXES``; replaced when it is there.
        frames: uint8 ``[f, h, w, 3]``, at least one.
        rate: frames a second, above 0 and at most 1000.
        text: what made the video, kept inside.

    Raises:
        InputError: the name, the frames or the rate cannot be used.
        MissingExtraError: an mp4 without PyAV.
        FileError: the file cannot be written.
    """
    target = check_video_path(path)
    sizes = check_shape(frames, "f h w 3", "frames")
    if frames.dtype != np.uint8 or not sizes["f"]:
        raise InputError(
            f"{target}: a video is uint8 frames, at least one; this is {frames.dtype} {list(frames.shape)}."
        )
    suffix = target.suffix.lower()
    exact = check_rate(rate, suffix)
    if suffix == ".mp4":
        write_file(target, _encode_mp4(target, frames, exact, text))
    else:
        write_file(target, join_animation(frames, exact, text, suffix, KEYWORD))


def check_rate(rate: float | Fraction, suffix: str = "") -> Fraction:
    """Give a rate as an exact fraction.

    >>> check_rate(12.5)
    Fraction(25, 2)

    Args:
        rate: frames a second.
        suffix: of the file that shall hold it, in small letters; empty asks no format.

    Returns:
        The nearest fraction with a denominator up to 1001, which holds 24000/1001 too.

    Raises:
        InputError: it is no number above 0 and at most 1000, or too high for the format.
    """
    if not 0 < rate <= 1000:
        raise InputError(f"rate is {rate}, but must be above 0 and at most 1000 frames a second.")
    exact = Fraction(rate).limit_denominator(1001)
    if exact <= 0:
        raise InputError(f"rate is {rate}, which is too slow; one frame in a thousand seconds is the slowest.")
    check_pace(exact, suffix)
    return exact


def read_video(path: str | Path) -> Video:
    """Read a video that `write_video` wrote, or another of the same formats.

    Args:
        path: an mp4, GIF, WebP or PNG file.

    Returns:
        Its frames, its rate and the text that was kept inside.

    Raises:
        FileError: it is missing, too large or damaged.
        MissingExtraError: an mp4 without PyAV.
    """
    source = Path(path)
    try:
        if source.stat().st_size > MAX_BYTES:
            raise FileError(f"{source}: is larger than {MAX_BYTES // 2**20} MiB; make it smaller.")
        content = source.read_bytes()
    except OSError as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"{source}: cannot be read ({error.strerror or error}).") from error
    return _decode_mp4(source, content) if content[4:8] == b"ftyp" else _decode_animation(source, content)


def write_frames(folder: Path, frames: Frames) -> list[Path]:
    """Write a video's frames as pictures, for other programs to read; those of an earlier video go.

    Args:
        folder: made where it is missing.
        frames: uint8 ``[f, h, w, 3]``.

    Returns:
        The files ``0000.png``, ``0001.png`` and so on, in order.

    Raises:
        FileError: the folder cannot be written into.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{folder}: cannot be written ({error.strerror or error}).") from error
    paths = [folder / f"{index:04d}.png" for index in range(len(frames))]
    for path, frame in zip(paths, frames, strict=True):
        write_png(path, frame)
    clear_frames(folder, len(frames))
    return paths


def clear_frames(folder: Path, first: int = 0) -> None:
    """Take away frames that ``write_frames`` wrote; other files are left alone.

    Args:
        folder: where they lie; need not be there.
        first: index of the first one to take away.

    Raises:
        FileError: one cannot be taken away.
    """
    for path in folder.glob("*.png"):
        if _FRAME.fullmatch(path.name) and int(path.stem) >= first:
            try:
                path.unlink()
            except OSError as error:
                raise FileError(f"{path}: cannot be taken away ({error.strerror or error}).") from error


def _encode_mp4(target: Path, frames: Frames, rate: Fraction, text: str) -> bytes:
    av = need_av(target)
    height, width = (side - side % 2 for side in frames.shape[1:3])
    if not height or not width:
        raise InputError(f"{target}: mp4 needs frames of 2x2 pixels or more; name a .gif, .webp or .png.")
    buffer = io.BytesIO()
    try:
        # Text under its own name would be dropped without this flag; "comment" is shown by players too.
        with av.open(buffer, "w", format="mp4", options={"movflags": "use_metadata_tags"}) as container:
            container.metadata[KEYWORD] = text
            container.metadata["comment"] = text
            stream = container.add_stream(_CODEC, rate=rate, options={"crf": _QUALITY, "preset": "medium"})
            stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
            stream.time_base = 1 / rate
            for index, picture in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[:height, :width]), format="rgb24")
                frame.pts, frame.time_base = index, 1 / rate
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    except (av.FFmpegError, OSError, ValueError) as error:
        raise FileError(f"{target}: the encoder failed ({error}); name a .gif, .webp or .png instead.") from error
    return buffer.getvalue()


def _decode_mp4(source: Path, content: bytes) -> Video:
    av = need_av(source)
    try:
        with av.open(io.BytesIO(content)) as container:
            stream = container.streams.video[0]
            _check_size(source, stream.width, stream.height, stream.frames)
            pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
            text = container.metadata.get(KEYWORD, container.metadata.get("comment", ""))
            rate = Fraction(stream.average_rate)
    except (av.FFmpegError, IndexError, ValueError, TypeError) as error:
        raise FileError(f"{source}: is damaged or no video; make it again.") from error
    if not pictures:
        raise FileError(f"{source}: holds no frames; make it again.")
    return Video(np.stack(pictures), rate, text)


def _decode_animation(source: Path, content: bytes) -> Video:
    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "GIF", "WEBP")) as image:
            _check_size(source, *image.size, getattr(image, "n_frames", 1))
            text = _find_text(image)
            pauses = list_pauses(image)
            frames = np.stack(list(_each_frame(image, len(pauses))))
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, EOFError) as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"{source}: is damaged or no video; make it again.") from error
    total = sum(pauses)
    rate = Fraction(len(pauses) * 1000 / total).limit_denominator(1001) if total > 0 else Fraction(1)
    return Video(frames, rate, text)


def _each_frame(image: Image.Image, count: int) -> Iterator[Frames]:
    for index in range(count):
        image.seek(index)
        yield np.asarray(image.convert("RGB"))


def _find_text(image: Image.Image) -> str:
    for key in (KEYWORD, "comment", "xmp"):
        found = image.info.get(key)
        if found:
            return found.decode("utf-8", "replace") if isinstance(found, bytes) else str(found)
    return ""


def _check_size(source: Path, width: int, height: int, count: int) -> None:
    if width * height > MAX_PIXELS or count > MOST_FRAMES:
        raise FileError(f"{source}: is {count} frames of {width} x {height} pixels, too much; make it smaller.")
    if width * height * count * 3 > MAX_MEMORY:
        raise FileError(f"{source}: is {count} frames of {width} x {height} pixels, too much for memory; cut it.")
