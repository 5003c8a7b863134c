"""Open the detector that a scene names: the judge's segmenter, Grounding DINO with SAM, or a user's own."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

from d2plan.bench.shared.figures import JUDGE_SOURCE as JUDGE_SOURCE
from d2plan.bench.shared.figures import JudgeDetector as JudgeDetector
from d2plan.errors import FileError, InputError
from d2plan.isp.grounded import DINO, SAM, GroundedSam
from d2plan.isp.segment import Detector

JUDGE, GROUNDED = "judge", "grounded"
PLUGIN_MARK = "d2plan_detector"

_PLUGIN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


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
