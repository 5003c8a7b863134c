"""Open the detector that a scene names: the judge's segmenter, Grounding DINO with SAM, or a user's own."""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from d2plan.errors import FileError, InputError
from d2plan.eval.grouping import group_instances
from d2plan.eval.judge import to_pixels
from d2plan.eval.networks import load_networks, run_segmenter
from d2plan.isp.grounded import DINO, SAM, GroundedSam
from d2plan.isp.segment import Detection, Detector
from d2plan.world.cast import CLASSES

JUDGE, GROUNDED = "judge", "grounded"
PLUGIN_MARK = "d2plan_detector"
# Said in every result of that route: what makes the masks must not score them unnoticed.
JUDGE_SOURCE = "the judge's own segmenter, so the judge's numbers for this picture are not independent of its masks"

_PLUGIN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
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


def open_detector(name: str | None, base: str = "mini", device: str = "cpu") -> Detector:
    """Open a detector by what a scene's ``detector`` says.

    Args:
        name: "judge", the embedded judge's segmenter; "grounded", Grounding DINO and SAM from the hub; "A,B", those
            two by folder or hub name; a folder that holds both as ``grounding-dino`` and ``sam``;
            "package.module:factory", a user's own; None is the judge's on the embedded base and "grounded" elsewhere.
        base: the scene's base.
        device: where it runs.

    Returns:
        The detector.

    Raises:
        InputError: the name means nothing, or a user's own is not marked as a detector.
        FileError: its files cannot be read.
    """
    name = name or (JUDGE if base == "mini" else GROUNDED)
    if name == JUDGE:
        return JudgeDetector(device=device)
    if name == GROUNDED:
        return GroundedSam(DINO, SAM, device)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return GroundedSam(folder / "grounding-dino", folder / "sam", device)
    if _PLUGIN.fullmatch(name):
        return _open_plugin(name, device)
    finder, comma, drawer = (part.strip() for part in name.partition(","))
    if comma and finder and drawer and "," not in drawer:
        return GroundedSam(finder, drawer, device)
    if folder.is_absolute() or name.startswith((".", "~")):
        raise FileError(f"detector: the folder {name} is not there; give one that holds grounding-dino and sam.")
    raise InputError(
        f'detector: "{name}" is none; write judge, grounded, a folder, two names as "DINO,SAM", '
        'or "package.module:factory".'
    )


def _open_plugin(name: str, device: str) -> Detector:
    """Make a user's own detector.

    A scene may come from a stranger, so it can only start what its author marked for this: the factory carries the
    attribute ``d2plan_detector = True``.
    """
    place, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(place)
    except ImportError as error:
        raise InputError(f'detector: "{name}" cannot be imported ({error}); install the package {place}.') from error
    factory = getattr(module, attribute, None)
    if not callable(factory):
        raise InputError(f'detector: "{place}" holds nothing to call named {attribute}.')
    if getattr(factory, PLUGIN_MARK, False) is not True:
        raise InputError(
            f'detector: "{name}" is not marked as a detector; write `{attribute}.{PLUGIN_MARK} = True` below it.'
        )
    detector = factory(device)
    if not callable(getattr(detector, "detect", None)):
        raise InputError(
            f'detector: "{name}" gave a {type(detector).__name__}, which has no detect(image, class_words).'
        )
    return detector
