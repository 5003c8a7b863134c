"""Open everybody who looks at pictures to score, by the names that a user gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from d2plan.errors import FileError, InputError
from d2plan.eval.crops import box_around
from d2plan.eval.encoders import JUDGE, MINI_CLIP, MINI_VIT, open_clip, open_encoder
from d2plan.eval.faces import FaceEncoder
from d2plan.eval.folders import fingerprint
from d2plan.eval.judge import Judge, Picture, load_judge
from d2plan.eval.panel import Panel, Spot
from d2plan.isp.segment import Detector
from d2plan.workflows.runs.detectors import open_detector

NONE = "none"
_LEAST_SCORE = 0.25
_Opened = TypeVar("_Opened")
SMALL_WORLD = (
    "measured by the embedded {names}, which know nothing but the small world of the embedded base; for other pictures "
    "name {options}"
)


class DetectorFinder:
    """A detector of scenes in the place of the judge.

    Attributes:
        name: what it was asked for by.
    """

    def __init__(self, name: str, detector: Detector) -> None:
        """Wrap a detector.

        Args:
            name: what results call it.
            detector: finds things by their class words.
        """
        self.name = name
        self._detector = detector

    def find(self, image: Picture, class_words: Sequence[str]) -> list[Spot]:
        """Find all instances; what the detector is less than a quarter sure of is left out."""
        found = [one for one in self._detector.detect(image, list(class_words)) if one.score >= _LEAST_SCORE]
        boxes = [(one.class_word, box_around(one.mask)) for one in found]
        return [Spot(word, box) for word, box in boxes if box is not None]


def open_finder(name: str, device: str = "cpu") -> DetectorFinder:
    """Open a detector that finds instances in the judge's place.

    Args:
        name: what a scene's ``detector`` may name.
        device: where it runs.

    Returns:
        The finder; of a folder its name holds a fingerprint of the weights too.

    Raises:
        InputError: the name means nothing, or a user's own is not marked as a detector.
        FileError: its files cannot be read.
    """
    folders = [folder for part in name.split(",") if (folder := Path(part.strip()).expanduser()).is_dir()]
    detector = open_detector(name, device=device)
    return DetectorFinder(" ".join([name, *map(fingerprint, folders)]), detector)


def open_panel(
    clip: str | None = None,
    dino: str | None = None,
    face: str | None = None,
    detector: str | None = None,
    judge: Path | None = None,
) -> tuple[Panel, tuple[str, ...]]:
    """Open a panel.

    Args:
        clip: "none", ``mini-clip``, or ``clip:PATH_OR_ID``; None takes the embedded one where it is there.
        dino: "none", ``mini-vit``, or ``dino:PATH_OR_ID``; None takes the embedded one where it is there.
        face: ``face:sface:FOLDER`` or ``face:arcface:FILE``; None compares no faces.
        detector: "judge" or None, the embedded judge; "none"; or what a scene's ``detector`` may name.
        judge: folder of the judge's networks; None takes the embedded ones.

    Returns:
        The panel, and what a reader should know of it.

    Raises:
        InputError: an encoder is of another kind than its option needs.
        FileError: an encoder cannot be read.
        MissingExtraError: an extra is not installed.
    """
    notes: list[str] = []
    opened_clip = _open(clip, MINI_CLIP, "--clip", open_clip, notes)
    opened_dino = _open(dino, MINI_VIT, "--dino", open_encoder, notes)
    if opened_dino is not None and opened_dino.kind != "dino":
        raise InputError(f"--dino {dino}: is a {opened_dino.kind} encoder; name {MINI_VIT} or dino:PATH_OR_ID.")
    faces = None if face in (None, NONE) else open_encoder(str(face))
    if faces is not None and not isinstance(faces, FaceEncoder):
        raise InputError(f"--face {face}: finds no faces; name face:sface:FOLDER or face:arcface:FILE.")
    seer: Judge | None = None
    finder = None
    if detector in (None, JUDGE):
        seer = load_judge(judge)
    elif detector != NONE:
        finder = open_finder(str(detector))
    source = open_encoder(JUDGE).source if seer is not None and judge is None else f"{JUDGE} {judge or ''}".strip()
    panel = Panel(opened_clip, opened_dino, faces, seer, finder, source)
    small = {one.name: f"--{kind}" for kind, one in panel.pictures.items() if one.name in (MINI_CLIP, MINI_VIT)}
    if seer is not None:
        small[JUDGE] = "--detector"
    if small:
        notes.append(SMALL_WORLD.format(names=", ".join(small), options=", ".join(small.values())))
    return panel, tuple(notes)


def _open(
    name: str | None, embedded: str, option: str, opener: Callable[[str], _Opened], notes: list[str]
) -> _Opened | None:
    """Open what is named, or the embedded one; an embedded one that is not there is told, not an error."""
    if name == NONE:
        return None
    if name is not None:
        return opener(name)
    try:
        return opener(embedded)
    except FileError as error:
        notes.append(f"{option} is not measured, because the embedded encoder is not there ({error})")
        return None
