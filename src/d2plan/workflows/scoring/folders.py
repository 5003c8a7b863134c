"""Score run folders and folders of pictures by all metrics, alone or against another method's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from d2plan.documents import Score
from d2plan.errors import FileError, InputError
from d2plan.eval.distribution import Distance, measure_distance
from d2plan.eval.lineup import build_lineup
from d2plan.eval.measure import Measured, Shown, Values, measure_pictures, measure_series
from d2plan.eval.panel import Gallery, Panel, build_gallery
from d2plan.eval.score import Lineup
from d2plan.media.decode import Picture
from d2plan.media.images import read_image
from d2plan.workflows.scoring.checks import (
    check_distances,
    check_independent,
    check_measurable,
    check_readable,
    note_foreign_classes,
    note_missing_references,
    note_own_references,
    used_concepts,
)
from d2plan.workflows.scoring.films import BETWEEN, Film, measure_film
from d2plan.workflows.scoring.items import Item, Known
from d2plan.workflows.scoring.panel import open_panel
from d2plan.workflows.scoring.score import Report, read_identity, read_references
from d2plan.workflows.scoring.sources import ScoreRequest, Sources, find_sources
from d2plan.world.cast import CLASSES

_CHUNK = 16


@dataclass(frozen=True, eq=False)
class SeriesValues:
    """What a series of pictures scores: its name, the concepts in it, and its numbers."""

    name: str
    concepts: str
    values: Values


@dataclass(frozen=True, eq=False)
class ScoredSet:
    """One method's pictures with their numbers.

    Attributes:
        title: of the set.
        items: the pictures.
        measured: one an item.
        series: of the pictures that are some.
        distances: kind of encoder to how far the set is from the true kind.
    """

    title: str
    items: tuple[Item, ...]
    measured: tuple[Measured, ...]
    series: tuple[SeriesValues, ...] = ()
    distances: Mapping[str, Distance] = field(default_factory=dict)

    @property
    def judged(self) -> tuple[Score, ...]:
        """What the judge says of each picture that it knows all classes of."""
        return tuple(one.score for one in self.measured if one.score is not None)


@dataclass(frozen=True, eq=False)
class Scored:
    """Everything that was found.

    Attributes:
        sets: the pictures, and those that they are compared with.
        encoders: kind to what it was.
        notes: what a reader should know, a sentence each.
        films: of those sets that hold films, the frames between keyframes, apart from the keyframes; the series are the
            films as a whole.
    """

    sets: tuple[ScoredSet, ...]
    encoders: Mapping[str, str]
    notes: tuple[str, ...]
    films: tuple[ScoredSet, ...] = ()


def score_folders(request: ScoreRequest, report: Report | None = None, sources: Sources | None = None) -> Scored:
    """Score pictures.

    Args:
        request: what to score.
        report: is told what is happening.
        sources: from ``find_sources``; None finds them.

    Returns:
        All numbers.

    Raises:
        FileError: a file is missing, or pictures cannot be read.
        InputError: something does not fit; nothing can be measured; an encoder chose a picture that it shall score.
        MissingExtraError: an extra is not installed.
    """
    sources = sources or find_sources(request)
    report = report or _ignore
    panel, notes = open_panel(request.clip, request.dino, request.face, request.detector, request.judge)
    check_independent(panel, sources.chosen_by)
    check_measurable(panel, sources, request.real is not None)
    if request.real is not None:
        check_distances(panel, sources, request.real)
    check_readable(sources, request.real, report)
    galleries = _open_galleries(panel, sources, request, report)
    real = None if request.real is None else read_references(request.real)
    sets = []
    for title, items in sources.sets.items():
        found = _measure_items(panel, items, galleries, title, report)
        sets.append(
            ScoredSet(
                title,
                items,
                tuple(found),
                tuple(_measure_all_series(items, found)),
                _distances(panel, items, real, request.seed),
            )
        )
    films = [_measure_films(panel, title, found, galleries, report) for title, found in sources.films.items()]
    known_notes = [note for gallery in galleries.values() for note in gallery.notes]
    missing = (*note_foreign_classes(panel, sources), *note_missing_references(sources))
    before = (*notes, *missing, *sources.notes, *note_own_references(sources))
    notes = (*before, *known_notes, *_note_sets(sets, galleries), *_note_sets(films, galleries))
    return Scored(tuple(sets), panel.sources, notes, tuple(films))


def _measure_items(
    panel: Panel, items: Sequence[Item], galleries: Mapping[str, Gallery], title: str, report: Report
) -> list[Measured]:
    what = f"Scoring {title}"
    found: list[Measured] = []
    for start in range(0, len(items), _CHUNK):
        report(what, start, len(items))
        part = items[start : start + _CHUNK]
        shown = [Shown(read_image(one.path), one.text, one.expected, one.phrases, one.name) for one in part]
        found += measure_pictures(panel, shown, galleries)
    report(what, len(items), len(items))
    return found


def _measure_films(
    panel: Panel, title: str, films: Sequence[Film], galleries: Mapping[str, Gallery], report: Report
) -> ScoredSet:
    items: list[Item] = []
    measured: list[Measured] = []
    flows = []
    for film in films:
        own, found, values = measure_film(panel, film, galleries, report)
        items += own
        measured += found
        flows.append(SeriesValues(film.name, film.beats[0].concepts, values))
    return ScoredSet(f"{title}: {BETWEEN}", tuple(items), tuple(measured), tuple(flows))


def _measure_all_series(items: Sequence[Item], measured: Sequence[Measured]) -> list[SeriesValues]:
    pairs = [pair for pair in zip(items, measured, strict=True) if pair[0].series is not None]
    found = []
    for name, group in groupby(sorted(pairs, key=lambda pair: str(pair[0].series)), key=lambda pair: pair[0].series):
        parts = list(group)
        if len(parts) > 1:
            values = measure_series([one for _, one in parts])
            found.append(SeriesValues(Path(str(name)).name, parts[0][0].concepts, values))
    return found


def _open_galleries(panel: Panel, sources: Sources, request: ScoreRequest, report: Report) -> dict[str, Gallery]:
    wanted = used_concepts(sources)
    galleries = {}
    for number, known in enumerate(wanted):
        report("Looking at references", number, len(wanted))
        images = read_references(known.folder)
        lineup = _line_up(panel, known, images, request.seed) if request.lineups else None
        galleries[known.name] = build_gallery(panel, known.name, known.class_word, images, lineup)
    if wanted:
        report("Looking at references", len(wanted), len(wanted))
    return galleries


def _line_up(panel: Panel, known: Known, images: Sequence[Picture], seed: int) -> Lineup | None:
    if panel.judge is None or known.class_word not in CLASSES:
        return None
    try:
        return build_lineup(panel.judge, str(known.class_word), images, read_identity(known.folder), seed)
    except FileError:
        raise
    except InputError as error:
        raise InputError(f"{known.folder}: {error}") from error


def _distances(panel: Panel, items: Sequence[Item], real: Sequence[Picture] | None, seed: int) -> dict[str, Distance]:
    if real is None:
        return {}
    images = [read_image(item.path) for item in items]
    return {kind: measure_distance(one, real, images, seed=seed) for kind, one in panel.pictures.items()}


def _note_sets(sets: Sequence[ScoredSet], known: Container[str]) -> tuple[str, ...]:
    notes = []
    for one in sets:
        missing: dict[str, int] = {}
        faceless: dict[str, int] = {}
        total: dict[str, int] = {}
        pictures: dict[str, int] = {}
        for item, measured in zip(one.items, one.measured, strict=True):
            asked = zip(item.expected.instances, measured.found, measured.instances, strict=True)
            for want, found, values in asked:
                name = want.concept or want.class_word
                unknown = found is not False and values.get("identity_found", 0.0) is None
                pictures[name] = pictures.get(name, 0) + 1
                faceless[name] = faceless.get(name, 0) + unknown
                total[name] = total.get(name, 0) + (found is not None)
                missing[name] = missing.get(name, 0) + (found is False)
        notes += [
            f"{one.title}: no instance of {name} is found in {count} of {total[name]} pictures; they "
            + ("count as 0 in identity and " if name in known else "")
            + "are left out of what compares crops"
            for name, count in missing.items()
            if count
        ]
        notes += [
            f"{one.title}: no face of {name} is found in {count} of {pictures[name]} pictures; they count as 0 in "
            "identity"
            for name, count in faceless.items()
            if count
        ]
        lengths = Counter(item.series for item in one.items if item.series is not None)
        if 1 in lengths.values():
            notes.append(f"{one.title}: a series of one picture has no consistency")
        notes += [f"{one.title}, {kind}: {d.note}" for kind, d in one.distances.items() if d.note]
    names = [{item.key for item in one.items} for one in sets]
    if len(sets) == 2 and names[0] != names[1]:
        notes.append(
            f"{sets[0].title} has {len(sets[0].items)} pictures and {sets[1].title} has {len(sets[1].items)}; "
            f"differences are over the {len(names[0] & names[1])} whose names are in both"
        )
    return tuple(notes)


def _ignore(what: str, done: int, total: int) -> None:
    """Take no note of progress."""
