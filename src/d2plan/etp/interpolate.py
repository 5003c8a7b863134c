"""Between two keyframes: what every way of making the frames in between takes and gives, and the ways by name."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.utils import logging

from d2plan.backbone.load import Backbone
from d2plan.errors import InputError
from d2plan.media.images import fit_image
from d2plan.shapes import check_shape

Picture = NDArray[np.uint8]
Frames = NDArray[np.uint8]

# Name -> the module whose function `open_interpolator` opens it; each brings libraries that the others do not need.
METHODS = MappingProxyType(
    {
        "seine": "d2plan.etp.seine",
        "wan": "d2plan.etp.clips",
        "ltx": "d2plan.etp.clips",
        "blend": "d2plan.etp.blend",
    }
)
MOST_FRAMES = 1000


@dataclass(frozen=True, eq=False)
class Segment:
    """Two neighbouring keyframes and how to come from one to the other.

    Attributes:
        first: the keyframe at the start, uint8 ``[h, w, 3]``.
        last: the keyframe at the end, of the same size.
        frames: of the segment, both keyframes counted.
        text: what is seen.
        seed: of the noise.
    """

    first: Picture
    last: Picture
    frames: int
    text: str
    seed: int = 0


class SegmentStep(NamedTuple):
    """How far a segment is.

    Attributes:
        index: of the step that was done, from 0.
        total: steps in all.
        frames: uint8 ``[f, h, w, 3]`` with the last step, else None.
    """

    index: int  # type: ignore[assignment]  # a step's number says more here than tuple.index
    total: int
    frames: Frames | None = None


@dataclass(frozen=True)
class Limits:
    """Which segments an interpolator can make.

    Attributes:
        fewest: frames, both keyframes counted.
        most: frames.
        stride: frames are 1 more than a multiple of this.
        unit: height and width are multiples of this, pixels.
        largest: height times width that it was made for, pixels; larger keyframes are made smaller first.
    """

    fewest: int = 3
    most: int = MOST_FRAMES
    stride: int = 1
    unit: int = 1
    largest: int = 2**25


class Interpolator(Protocol):
    """A way of making the frames between two keyframes.

    Attributes:
        name: one of ``METHODS``.
        limits: which segments it can make.
        record: what decides its frames beside the segment: weights, steps and the like, as texts.
    """

    name: str
    limits: Limits
    record: dict[str, str]

    def steps(self, segment: Segment) -> Iterator[SegmentStep]:
        """Make a segment's frames.

        Args:
            segment: within the limits.

        Returns:
            An iterator over the steps; the last one holds the frames.
        """
        ...


@dataclass(frozen=True, eq=False)
class InterpolatorOptions:
    """What to open an interpolator with.

    Attributes:
        base: the base that made the keyframes; the embedded ``seine`` and ``blend`` build on it.
        weights: a file or folder of weights; None is the embedded one where there is one.
        text_model: for the published SEINE weights, the folder of the SD 1.x model with its VAE and text encoder.
        steps: denoising steps; None is the method's own number.
        guidance_scale: w of eq. (2); None is the method's own.
        device: where to put what is loaded, such as "cpu" or "cuda".
        dtype: number format of what is loaded; None is float32 on a CPU, else what the device computes fast.
    """

    base: Backbone | None = None
    weights: Path | None = None
    text_model: Path | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    device: str = "cpu"
    dtype: torch.dtype | None = None


def open_interpolator(name: str, options: InterpolatorOptions) -> Interpolator:
    """Open a way of making frames; nothing else is taken in its place when it cannot be opened.

    Args:
        name: one of ``METHODS``.
        options: what it needs.

    Returns:
        The interpolator.

    Raises:
        InputError: no such name, or an option is missing or wrong.
    """
    if name not in METHODS:
        raise InputError(f'interpolator: "{name}" is not known; use one of {", ".join(METHODS)}.')
    if options.steps is not None and not 1 <= options.steps <= 1000:
        raise InputError(f"steps is {options.steps}, but must be 1..1000.")
    _check_models(name, options)
    with _quietly():
        opened: Interpolator = import_module(METHODS[name]).open_interpolator(name, options)
    return opened


def _check_models(name: str, options: InterpolatorOptions) -> None:
    """Refuse models that a way of making frames would not use."""
    if name == "blend" and options.weights is not None:
        raise InputError("weights: blend has none; leave them out, or choose another interpolator.")
    published = name == "seine" and options.weights is not None and options.weights.is_file()
    if options.text_model is not None and not published:
        raise InputError("text_model: only the published SEINE (weights: its seine.pt) has one; leave it out.")


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep transformers from advising torchvision, which nothing here needs, as soon as it is imported."""
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def interpolate_steps(interpolator: Interpolator, segment: Segment) -> Iterator[SegmentStep]:
    """Make the frames from one keyframe to the next.

    Paper: eq. (10).

    Args:
        interpolator: how.
        segment: what.

    Yields:
        Each step; the last one holds exactly ``segment.frames`` frames of the keyframes' size.

    Raises:
        InputError: the interpolator cannot make such a segment.
    """
    check_segment(interpolator, segment)
    done = False
    for step in interpolator.steps(segment):
        if step.frames is not None:
            done = True
            if step.frames.shape != (segment.frames, *segment.first.shape) or step.frames.dtype != np.uint8:
                raise InputError(
                    f"{interpolator.name} gave {step.frames.dtype} {list(step.frames.shape)} instead of "
                    f"{segment.frames} frames of {segment.first.shape[0]}x{segment.first.shape[1]}; use another one."
                )
        yield step
    if not done:
        raise InputError(f"{interpolator.name} gave no frames; use another interpolator.")


def interpolate(interpolator: Interpolator, segment: Segment) -> Frames:
    """Make the frames from one keyframe to the next, and wait for them.

    Args:
        interpolator: how.
        segment: what.

    Returns:
        uint8 ``[f, h, w, 3]``.
    """
    frames = [step.frames for step in interpolate_steps(interpolator, segment) if step.frames is not None]
    return frames[-1]


def check_segment(interpolator: Interpolator, segment: Segment) -> None:
    """Refuse a segment that an interpolator cannot make, before any work.

    Args:
        interpolator: how.
        segment: what.

    Raises:
        InputError: keyframes of two sizes, or a size, a number of frames or a seed that does not do.
    """
    height, width = check_keyframes(segment)
    check_frames(interpolator, segment.frames)
    unit = interpolator.limits.unit
    for name, pixels in (("height", height), ("width", width)):
        if pixels % unit:
            raise InputError(f"{name} is {pixels}, but {interpolator.name} needs a multiple of {unit} pixels.")


def check_frames(interpolator: Interpolator, frames: int) -> None:
    """Refuse a number of frames that an interpolator cannot make, before any keyframe is made.

    Args:
        interpolator: how.
        frames: of a segment, both keyframes counted.

    Raises:
        InputError: it cannot; the sentence names the nearest number that it can.
    """
    limits = interpolator.limits
    fits = limits.fewest <= frames <= limits.most and (frames - 1) % limits.stride == 0
    if not fits:
        below = (min(max(frames, limits.fewest), limits.most) - 1) // limits.stride * limits.stride + 1
        possible = [count for count in (below, below + limits.stride) if limits.fewest <= count <= limits.most]
        near = min(possible, key=lambda count: (abs(count - frames), -count))
        rule = f", one more than a multiple of {limits.stride}" if limits.stride > 1 else ""
        raise InputError(
            f"frames is {frames}, but {interpolator.name} makes {limits.fewest} to {limits.most} from one keyframe to "
            f"the next{rule}; use {near}."
        )


def check_keyframes(segment: Segment) -> tuple[int, int]:
    """Check that both keyframes are pictures of one size and that the seed can be used.

    Args:
        segment: what to make.

    Returns:
        Height and width, pixels.

    Raises:
        InputError: they are not, or it cannot.
    """
    sizes = check_shape(segment.first, "h w 3", "first keyframe")
    check_shape(segment.last, "h w 3", "last keyframe", sizes)
    if segment.first.dtype != np.uint8 or segment.last.dtype != np.uint8:
        raise InputError("keyframes must be uint8, 0..255.")
    if not 0 <= segment.seed < 2**63:
        raise InputError(f"seed is {segment.seed}, but must be 0..2^63 - 1.")
    return sizes["h"], sizes["w"]


def fit_keyframes(interpolator: Interpolator, keyframes: Sequence[Picture]) -> list[Picture]:
    """Bring keyframes to a size that an interpolator can work at: never larger, and of the same shape within its unit.

    Args:
        interpolator: how.
        keyframes: each ``[h, w, 3]``.

    Returns:
        The keyframes, untouched where they fit already.
    """
    limits, unit = interpolator.limits, interpolator.limits.unit
    fitted = []
    for picture in keyframes:
        height, width = picture.shape[:2]
        scale = min(1.0, (limits.largest / (height * width)) ** 0.5)
        tall, wide = (max(unit, int(side * scale + 1e-6) // unit * unit) for side in (height, width))
        fitted.append(fit_image(picture, tall, wide))
    return fitted


def need_base(options: InterpolatorOptions, name: str) -> Backbone:
    """Give the base that an interpolator builds on.

    Args:
        options: what it was opened with.
        name: the interpolator.

    Returns:
        The base.

    Raises:
        InputError: there is none.
    """
    if options.base is None:
        raise InputError(f"base is missing; {name} needs the base that made the keyframes.")
    return options.base
