"""Masks from a picture: what a detector finds, how it plugs in, and which of its finds stand for which instances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from d2plan.errors import InputError
from d2plan.isp.overrides import Region

_SAME = 0.6  # two finds of one class whose areas overlap more than that are one thing found twice
_LEAST_SCORE = 0.05


@dataclass(frozen=True, eq=False)
class Detection:
    """One thing that a detector found in a picture.

    Attributes:
        class_word: what it is, one of the words that were asked for.
        score: how sure that is, 0..1.
        mask: how much of each pixel belongs to it, ``[h w]``, 0..1, the picture's own size.
        source: how the result calls who found it, such as "Grounding DINO and SAM".
    """

    class_word: str
    score: float
    mask: NDArray[np.float32] = field(repr=False)
    source: str = ""


class Detector(Protocol):
    """Whatever finds things in a picture by their class words."""

    def detect(self, image: NDArray[np.uint8], class_words: Sequence[str]) -> list[Detection]:
        """Find everything that one of the words names, several of one class each by itself.

        Args:
            image: ``[h w 3]``, 0..255.
            class_words: what to look for, each once.

        Returns:
            What was found, in any order.
        """
        ...


def detect_regions(detector: Detector, image: NDArray[np.uint8], regions: Sequence[Region]) -> list[Detection]:
    """Let a detector look for the instances whose place nobody has drawn, and check what it says.

    Args:
        detector: anything with a ``detect`` like that of ``Detector``.
        image: the picture of the global prompt alone, ``[h w 3]``, 0..255.
        regions: the instances.

    Returns:
        The detections, strongest first; nothing is asked where every instance has a box or a mask.

    Raises:
        InputError: the detector gives something that is no detection of this picture.
    """
    words = list(dict.fromkeys(region.class_word for region in regions if not region.drawn))
    if not words:
        return []
    name = type(detector).__name__
    found = detector.detect(image, words)
    if not isinstance(found, (list, tuple)):
        raise InputError(
            f"The detector {name} gave a {type(found).__name__}; its detect must give a list of Detection."
        )
    for detection in found:
        _check(detection, image.shape[:2], words, name)
    strong = [detection for detection in found if detection.score >= _LEAST_SCORE]
    return sorted(strong, key=lambda detection: -detection.score)


def scale_detections(detections: Sequence[Detection], size: tuple[int, int]) -> list[Tensor]:
    """Bring the masks of detections to the size of the latents.

    Args:
        detections: of one picture.
        size: height and width, latent cells.

    Returns:
        For each the cells that are at least half covered, bool ``[height, width]``.
    """
    scaled = []
    for detection in detections:
        mask = torch.nan_to_num(torch.from_numpy(np.array(detection.mask, dtype=np.float32)))
        scaled.append(functional.interpolate(mask[None, None], size=size, mode="area")[0, 0] >= 0.5)
    return scaled


def drop_doubles(areas: Sequence[Tensor]) -> list[int]:
    """Keep one of each thing that was found several times.

    Args:
        areas: bool ``[h, w]`` each, the one to keep first.

    Returns:
        The places of those to keep.
    """
    kept: list[int] = []
    for place, area in enumerate(areas):
        if area.any() and all(_overlap(area, areas[other]) <= _SAME for other in kept):
            kept.append(place)
    return kept


def _overlap(one: Tensor, other: Tensor) -> float:
    return float((one & other).sum() / (one | other).sum().clamp(min=1))


def _check(detection: object, size: tuple[int, ...], words: list[str], name: str) -> None:
    try:
        word, score, mask = detection.class_word, float(detection.score), np.asarray(detection.mask)  # type: ignore[attr-defined]
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(f"The detector {name} gave {detection!r:.80}, which is no Detection.") from error
    if word not in words:
        raise InputError(f'The detector {name} found "{word}", but was asked for {", ".join(words)}.')
    if not (math.isfinite(score) and 0 <= score <= 1):
        raise InputError(f'The detector {name} gives "{word}" the score {score}; a score is 0..1.')
    if mask.shape != tuple(size) or mask.dtype.kind not in "fbiu":
        raise InputError(
            f'The detector {name} gives "{word}" a mask {list(mask.shape)} of {mask.dtype}; '
            f"a mask is float {list(size)}, as large as the picture."
        )
