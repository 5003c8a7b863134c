"""What the demo's page is made of, and where it lies in the demo's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from d2plan.documents import Score
from d2plan.workflows.demo.scenes import Character, Row

PAGE, SHEET, SCORES = "index.html", "sheet.png", "scores.json"
FILM = "film.gif"
PICTURES, CONCEPTS, ADAPTERS, SCENES = "pictures", "concepts", "adapters", "scenes"


@dataclass(frozen=True)
class Facts:
    """What the page tells beside the pictures.

    Attributes:
        made: when, in words.
        base: the base's name.
        fingerprint: of its weights.
        seed: that the demo was asked for.
        machine: what it ran on.
        seconds: that all of it took.
        stages: seconds by stage.
    """

    made: str
    base: str
    fingerprint: str
    seed: int
    machine: str
    seconds: float
    stages: Mapping[str, float]


class Trained(NamedTuple):
    """What learning a character cost.

    Attributes:
        seconds: of the training.
        steps: of the optimiser.
        size: of the adapter's file, bytes.
    """

    seconds: float
    steps: int
    size: int


@dataclass(frozen=True)
class Scored:
    """What the judge says.

    Attributes:
        scores: by picture.
        trouble: why there are none; empty when there are.
    """

    scores: Mapping[str, Score] = field(default_factory=dict)
    trouble: str = ""


@dataclass(frozen=True)
class Film:
    """The film at the end.

    Attributes:
        video: its file; None when there is none.
        page: of plan, keyframes and frames.
        trouble: why there is none; empty when there is one.
        story: what the film was planned from.
        beats: of the plan, in order: the keyframe's picture, and what each one does then.
    """

    video: Path | None = None
    page: Path | None = None
    trouble: str = ""
    story: str = ""
    beats: tuple[tuple[Path, str], ...] = ()


@dataclass(frozen=True)
class Gallery:
    """All that the page shows.

    Attributes:
        folder: the demo's own.
        characters: both that were learnt live, and the guests.
        rows: of pictures; each shot lies composed in ``pictures/<name>``.
        facts: about the demo.
        trained: by the character's name, of those who were learnt live.
        scored: by the judge.
        film: with both.
    """

    folder: Path
    characters: tuple[Character, ...]
    rows: Sequence[Row]
    facts: Facts
    trained: Mapping[str, Trained]
    scored: Scored
    film: Film = Film()


def list_references(folder: Path, who: Character) -> list[Path]:
    """List the pictures that a character was learnt from.

    Args:
        folder: the demo's.
        who: the character.

    Returns:
        Their paths, in order; masks are left out.
    """
    found = sorted((folder / CONCEPTS / who.stem).glob("*.png"))
    return [path for path in found if not path.stem.endswith(".mask")]


def link_to(gallery: Gallery, path: Path) -> str:
    """Write the address of a file in the demo's folder, as the page names it.

    Args:
        gallery: the demo.
        path: of the file.

    Returns:
        Relative to the page, ready for an attribute.
    """
    return escape(quote(path.relative_to(gallery.folder).as_posix()))
