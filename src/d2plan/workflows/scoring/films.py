"""The frames of films: which parts belong to a film, what each frame must show, and what it shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from d2plan.etp.segments import set_keyframes
from d2plan.eval.films import expect_between, measure_flow
from d2plan.eval.measure import Measured, Shown, Values, measure_pictures
from d2plan.eval.panel import Gallery, Panel
from d2plan.eval.temporal import frame_steps
from d2plan.media.images import fit_image, read_image
from d2plan.media.video import Frames, read_video
from d2plan.workflows.runs.film import RECORD, read_film
from d2plan.workflows.scoring.items import Item

BETWEEN = "frames between keyframes"
_CHUNK = 16
WHOLE = "film"  # how a film is called where nothing else was given


@dataclass(frozen=True)
class Film:
    """A film whose frames can be scored.

    Attributes:
        name: within what was given, the same for the same film of another method.
        beats: its keyframes, in order.
        segments: the files with the frames from each keyframe to the next.
    """

    name: str
    beats: tuple[Item, ...]
    segments: tuple[Path, ...]


@dataclass(frozen=True)
class FoundFilms:
    """What a folder holds of films.

    Attributes:
        films: those whose frames can be scored.
        stale: run folders that belong to what a film was before.
        notes: what a reader should know.
    """

    films: tuple[Film, ...]
    stale: frozenset[Path]
    notes: tuple[str, ...]


def find_films(root: Path, items: Sequence[Item]) -> FoundFilms:
    """Find the films in a folder.

    Args:
        root: the folder that was given.
        items: the pictures of all run folders in it.

    Returns:
        The films; one whose frames are not there is told, and its keyframes are scored alone.

    Raises:
        FileError: a film's record cannot be used.
    """
    films, stale, notes = [], set(), []
    for folder in sorted(path.parent for path in root.rglob(RECORD)):
        own = {item.path.parent: item for item in items if item.path.is_relative_to(folder)}
        if not own:
            continue
        parts = read_film(folder)
        if parts is None or not parts.whole or parts.keyframes.keys() - own.keys():
            notes.append(
                f"{folder}: only the film's keyframes are scored, because the frames between them are not there, "
                "or belong to what it was before; film its plan again"
            )
            continue
        if old := own.keys() - parts.keyframes.keys():
            stale |= old
            notes.append(f"{folder}: {len(old)} pictures of what the film was before are left out")
        name = WHOLE if folder == root else folder.relative_to(root).as_posix()
        films.append(Film(name, tuple(own[path] for path in parts.keyframes), parts.segments))
    return FoundFilms(tuple(films), frozenset(stale), tuple(notes))


def measure_film(
    panel: Panel, film: Film, galleries: Mapping[str, Gallery], report: Callable[[str, int, int], None]
) -> tuple[list[Item], list[Measured], Values]:
    """Measure the frames between a film's keyframes, and how the whole film goes on.

    Who takes part is expected in every frame; what somebody wears and does, the place and the light where the beats
    before and after say the same (``eval.films.expect_between``).

    Args:
        panel: who looks.
        film: the film.
        galleries: by concept.
        report: is told what is happening.

    Returns:
        The frames between, the numbers of each, and those of the film with its keyframes (``eval.films.measure_flow``).

    Raises:
        FileError: a picture or segment cannot be read.
    """
    items: list[Item] = []
    measured: list[Measured] = []
    rows: dict[str, list[np.ndarray]] = {kind: [] for kind in panel.pictures}
    steps: list[np.ndarray] = []
    for number, (path, ends) in enumerate(zip(film.segments, pairwise(film.beats), strict=True)):
        report(f"Scoring frames of {film.name}", number, len(film.segments))
        frames = _read_segment(path, ends)
        steps.append(frame_steps(frames))
        own = list(_describe_between(film, number, ends, len(frames)))
        found = _measure_frames(panel, own, frames[1:-1], galleries)
        for kind, encoder in panel.pictures.items():
            rows[kind] += [encoder.embed_images([frames[0]])[0], *(one.vectors[kind] for one in found)]
            if number == len(film.segments) - 1:
                rows[kind].append(encoder.embed_images([frames[-1]])[0])
        items += own
        measured += found
    report(f"Scoring frames of {film.name}", len(film.segments), len(film.segments))
    vectors = {kind: np.stack(one) for kind, one in rows.items()}
    return items, measured, measure_flow(vectors, np.concatenate(steps))


def _read_segment(path: Path, ends: tuple[Item, Item]) -> Frames:
    """Read a segment as it stands in the film: the keyframes themselves are its first and last frame."""
    frames = read_video(path).frames
    height, width = frames.shape[1:3]
    return set_keyframes(frames, [fit_image(read_image(one.path), height, width) for one in ends])


def _describe_between(film: Film, number: int, ends: tuple[Item, Item], count: int) -> Iterator[Item]:
    before, after = ends
    expected = expect_between(before.expected, after.expected)
    text = before.text if before.text == after.text else None
    phrases = tuple(one if one == other else None for one, other in zip(before.phrases, after.phrases, strict=True))
    segment = "" if film.name == WHOLE else f"{film.name}/"
    segment += f"segment-{number + 1:02d}"
    for place in range(1, count - 1):
        name = f"{segment}/frame-{place:04d}"
        yield Item(name, film.segments[number], text, expected, phrases, segment)


def _measure_frames(
    panel: Panel, items: Sequence[Item], frames: Frames, galleries: Mapping[str, Gallery]
) -> list[Measured]:
    found: list[Measured] = []
    for start in range(0, len(items), _CHUNK):
        pairs = zip(frames[start : start + _CHUNK], items[start : start + _CHUNK], strict=True)
        shown = [Shown(image, one.text, one.expected, one.phrases, one.name) for image, one in pairs]
        found += measure_pictures(panel, shown, galleries)
    return found
