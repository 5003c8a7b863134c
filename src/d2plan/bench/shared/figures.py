"""Find the figures of the small world in a picture, by the judge's segmenter, for methods that need a detector."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from d2plan.backbone.load import MINI, Backbone
from d2plan.eval.grouping import group_instances
from d2plan.eval.judge import to_pixels
from d2plan.eval.networks import load_networks, run_segmenter
from d2plan.isp.segment import Detection, Detector
from d2plan.world.cast import CLASSES

# Said in every result of that route: what makes the masks must not score them unnoticed.
JUDGE_SOURCE = "the judge's own segmenter, so the judge's numbers for this picture are not independent of its masks"

_LEAST = 0.15  # a class of less likelihood is not what a figure is


class JudgeDetector:
    """The segmenter of the embedded judge: small, quick, and at home in the embedded base's small world alone."""

    def __init__(self, folder: Path | None = None, device: str = "cpu") -> None:
        """Open the segmenter.

        Args:
            folder: of the judge's networks; None takes those of the package.
            device: where it runs.

        Raises:
            FileError: a network is missing.
        """
        self._device = device
        self._segmenter = load_networks(folder or Path(str(files("d2plan"))) / "assets" / "judge", device).segmenter

    @torch.no_grad()
    def detect(self, image: NDArray[np.uint8], class_words: Sequence[str]) -> list[Detection]:
        """Find the figures of the classes asked for.

        Args:
            image: ``[h w 3]``, 0..255.
            class_words: what to look for; words that are no classes of the small world are not found.

        Returns:
            Each figure once, as the likeliest of the words, from left to right.
        """
        known = {word.casefold(): word for word in class_words if word.casefold() in CLASSES}
        if not known:
            return []
        dense = run_segmenter(self._segmenter, to_pixels(image)[None].to(self._device))[0].float().cpu()
        found = []
        for figure in sorted(group_instances(dense), key=lambda figure: figure.box[0] + figure.box[2]):
            likely = figure.class_scores.exp()
            word = max(known, key=lambda name: float(likely[CLASSES.index(name)]))
            score = float(likely[CLASSES.index(word)])
            if score >= _LEAST:
                large = torch.nn.functional.interpolate(figure.mask[None, None], image.shape[:2], mode="bilinear")
                found.append(Detection(known[word], min(1.0, score), large[0, 0].clamp(0, 1).numpy(), JUDGE_SOURCE))
        return found


def find_detector(backbone: Backbone) -> Detector | None:
    """Open the detector that knows what a base draws.

    Args:
        backbone: the base.

    Returns:
        The judge's segmenter for the embedded base; None for any other.
    """
    return JudgeDetector(device=str(backbone.device)) if backbone.name == MINI else None
