"""Who scores a benchmark's pictures: encoders by name, and the judge for the small world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from d2plan.bench.suites import LoadedSuite
from d2plan.errors import InputError
from d2plan.eval.encoders import JUDGE, MINI_CLIP, MINI_VIT, ImageEncoder, fingerprint, open_clip, open_encoder
from d2plan.eval.faces import FaceEncoder
from d2plan.eval.judge import load_judge
from d2plan.eval.panel import Panel
from d2plan.workflows.scoring.panel import SMALL_WORLD, DetectorFinder, open_finder
from d2plan.world.cast import CLASSES

NOBODY = "none"
EMBEDDED = (MINI_CLIP, MINI_VIT)


@dataclass(frozen=True)
class PanelChoice:
    """Encoders by their names; "none" leaves one out.

    Attributes:
        clip: for texts and pictures.
        dino: for pictures alone.
        faces: for people's identities, in the judge's place.
        judge: let the judge look; None does where all concepts are the world's and no detector is named.
        detector: finds instances in the judge's place, by what a scene's ``detector`` may name; then crops of instances
            are compared in real photographs too, and without faces "identity" is their likeness by the DINO.
    """

    clip: str = MINI_CLIP
    dino: str = MINI_VIT
    faces: str = NOBODY
    judge: bool | None = None
    detector: str = NOBODY


def open_panel(choice: PanelChoice, loaded: Sequence[LoadedSuite], device: str = "cpu") -> Panel:
    """Open the encoders.

    Args:
        choice: their names.
        loaded: the suites whose pictures they shall score.
        device: where a detector runs.

    Returns:
        The panel.

    Raises:
        FileError: a file of an encoder is missing or damaged.
        InputError: there is none of that name, it is of another kind, or nobody is left to look.
        MissingExtraError: it needs an extra that is not installed.
    """
    clip = None if choice.clip == NOBODY else open_clip(choice.clip)
    dino = None if choice.dino == NOBODY else _open(choice.dino, "dino", ("dino", "clip"))
    faces = None if choice.faces == NOBODY else _open_faces(choice.faces)
    concepts = [concept for one in loaded for concept in one.suite.concepts]
    finder = None if choice.detector == NOBODY else _open_finder(choice, device)
    alone = finder is None and all(concept.seed is not None for concept in concepts)
    judge, source = None, JUDGE
    if alone if choice.judge is None else choice.judge:
        foreign = [concept.name for concept in concepts if concept.class_word not in CLASSES]
        if foreign:
            raise InputError(f"judge: it does not know the class of {foreign[0]}; leave it out with --no-judge.")
        folder = Path(str(files("d2plan"))) / "assets" / "judge"
        judge, source = load_judge(folder), f"judge {fingerprint(folder)}"
    if clip is None and dino is None and faces is None and judge is None:
        raise InputError("encoders: nobody is left to look at the pictures; name a CLIP, a DINO, faces or the judge.")
    return Panel(clip=clip, dino=dino, faces=faces, judge=judge, finder=finder, judge_source=source)


def tell_small_world(choice: PanelChoice, loaded: Sequence[LoadedSuite]) -> list[str]:
    """Tell which embedded encoders shall look at pictures of concepts that are not the small world's.

    Args:
        choice: names of encoders.
        loaded: the suites whose pictures they shall score.

    Returns:
        A sentence for the reader of the results, or none.
    """
    if all(concept.seed is not None for one in loaded for concept in one.suite.concepts):
        return []
    small = {name: option for name, option in ((choice.clip, "--clip"), (choice.dino, "--dino")) if name in EMBEDDED}
    small |= {JUDGE: "--detector"} if choice.judge else {}
    told = SMALL_WORLD.format(names=", ".join(small), options=", ".join(small.values()))
    return [f"{told[0].upper()}{told[1:]}."] if small else []


def _open_finder(choice: PanelChoice, device: str) -> DetectorFinder:
    if choice.judge:
        raise InputError(f"--detector {choice.detector}: finds instances in the judge's place; leave --judge out.")
    return open_finder(choice.detector, device)


def _open(name: str, field: str, kinds: tuple[str, ...]) -> ImageEncoder:
    encoder = open_encoder(name)
    if encoder.kind not in kinds:
        raise InputError(
            f"--{field}: {name} is a {encoder.kind} encoder; name one that starts with {field}: or {MINI_VIT}."
        )
    return encoder


def _open_faces(name: str) -> FaceEncoder:
    encoder = open_encoder(name)
    if not isinstance(encoder, FaceEncoder):
        raise InputError(f"--faces: {name} is no face encoder; name face:sface:FOLDER or face:arcface:FILE.")
    return encoder
