"""Score run folders and folders of pictures by all metrics, alone or against another method's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from d2plan.documents import RunRecord, Score
from d2plan.errors import FileError, InputError
from d2plan.eval.distribution import Distance, measure_distance
from d2plan.eval.encoders import JUDGE
from d2plan.eval.lineup import build_lineup
from d2plan.eval.measure import Measured, Shown, Values, measure_pictures, measure_series
from d2plan.eval.panel import Gallery, Panel, build_gallery
from d2plan.eval.score import Lineup
from d2plan.media.decode import Picture
from d2plan.media.images import read_image
from d2plan.workflows.runs.detectors import JUDGE_SOURCE
from d2plan.workflows.scoring.items import (
    Item,
    Known,
    describe_pictures,
    describe_run,
    gather_known,
    has_pictures,
    holds_runs,
    list_runs,
    read_known,
)
from d2plan.workflows.scoring.panel import open_panel
from d2plan.workflows.scoring.score import Report, check_references, read_identity, read_references
from d2plan.world.cast import CLASSES

_CHUNK = 16


@dataclass(frozen=True)
class ScoreRequest:
    """What to score, with what, by whom.

    Attributes:
        paths: run folders, folders that hold some, or folders of pictures.
        against: the same of another method, to compare with.
        references: a concept's name, or NAME:CLASS, to the folder of its own pictures.
        prompts: one prompt for all pictures, or a file of prompts; None takes captions. Runs bring their own.
        series: each folder of pictures is a series.
        real: folder of pictures of the true kind, for distances of sets.
        clip: see ``open_panel``, as the next three.
        dino: the self-supervised encoder.
        face: the face encoder.
        detector: who finds instances.
        judge: folder of the judge's networks; None takes the embedded ones.
        lineups: rank each figure of the small world among 20, which takes seconds for each concept.
        base: only runs of this base; empty takes all.
        seed: of the intervals and line-ups.
    """

    paths: tuple[Path, ...]
    against: tuple[Path, ...] = ()
    references: Mapping[str, Path] = field(default_factory=dict)
    prompts: Path | str | None = None
    series: bool = False
    real: Path | None = None
    clip: str | None = None
    dino: str | None = None
    face: str | None = None
    detector: str | None = None
    judge: Path | None = None
    lineups: bool = True
    base: str = ""
    seed: int = 0


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
    """

    sets: tuple[ScoredSet, ...]
    encoders: Mapping[str, str]
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Sources:
    """What was found in the folders before anybody looks.

    Attributes:
        sets: title to the pictures of each set.
        known: concepts with pictures of their own, by name.
        chosen_by: encoders that chose some of the pictures, each with one of them.
        notes: what a reader should know.
    """

    sets: Mapping[str, tuple[Item, ...]]
    known: Mapping[str, Known]
    chosen_by: Mapping[str, str]
    notes: tuple[str, ...] = ()


def find_sources(request: ScoreRequest) -> Sources:
    """Find the pictures, their prompts and their concepts; nothing is looked at, so what is missing is told at once.

    Args:
        request: what to score.

    Returns:
        The sources.

    Raises:
        FileError: a folder or file is missing.
        InputError: prompts, references or a base do not fit the pictures.
    """
    groups = [group for group in (request.paths, request.against) if group]
    runs = {path: holds_runs(path) for group in groups for path in group}
    for folder in (*request.references.values(), *([] if request.real is None else [request.real])):
        if not folder.is_dir() or not has_pictures(folder):
            raise FileError(f"{folder}: is no folder with PNG, JPEG or WebP pictures; give one.")
    by_path = {path: list_runs(path, request.base) for path, is_run in runs.items() if is_run}
    pairs = [pair for found in by_path.values() for pair in found]
    if by_path and not pairs:
        raise InputError(f"--base {request.base}: none of the runs was made with it; leave it out or give other runs.")
    known = gather_known(pairs, request.references)
    if not all(runs.values()):
        known.update(read_known(request.references))
    else:
        _check_runs_alone(request, pairs)
    sets: dict[str, tuple[Item, ...]] = {}
    for group in groups:
        items: dict[Path, Item] = {}
        for path in group:
            found = (
                [describe_run(run, record, path) for run, record in by_path[path]]
                if runs[path]
                else _describe_own(path, known, request)
            )
            items.update({item.path.resolve(): item for item in found})
        sets[_title(group, sets)] = tuple(items.values())
    notes = _note_unused(known, sets, request.references)
    if any(JUDGE_SOURCE in note for _, record in pairs for note in record.masks.notes):
        notes = (*notes, f"some masks were drawn by {JUDGE_SOURCE}")
    chosen = {record.choice.encoder: str(run) for run, record in pairs if record.choice is not None}
    return Sources(sets, known, chosen, notes)


def _describe_own(folder: Path, known: Mapping[str, Known], request: ScoreRequest) -> list[Item]:
    if not has_pictures(folder):
        raise FileError(
            f"{folder}: holds no run (image.png with run.json) and no PNG, JPEG or WebP picture; give what "
            "`d2plan compose` wrote, or a folder of pictures."
        )
    return describe_pictures(folder, known, request.prompts, request.series)


def _check_runs_alone(request: ScoreRequest, pairs: Sequence[tuple[Path, RunRecord]]) -> None:
    if request.prompts is not None or request.series:
        raise InputError("--prompt, --prompts and --series are for folders of pictures; runs know their own.")
    check_references(_without_class(request.references), _concepts_of(pairs))


def score_folders(request: ScoreRequest, report: Report | None = None, sources: Sources | None = None) -> Scored:
    """Score pictures.

    Args:
        request: what to score.
        report: is told what is happening.
        sources: from ``find_sources``; None finds them.

    Returns:
        All numbers.

    Raises:
        FileError: a file is missing or cannot be read.
        InputError: something does not fit; an encoder chose a picture that it shall score.
        MissingExtraError: an extra is not installed.
    """
    sources = sources or find_sources(request)
    report = report or _ignore
    panel, notes = open_panel(request.clip, request.dino, request.face, request.detector, request.judge)
    _check_independent(panel, sources.chosen_by)
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
    known_notes = [note for gallery in galleries.values() for note in gallery.notes]
    all_notes = (*notes, *sources.notes, *known_notes, *_note_unknown(panel, sources), *_note_sets(sets))
    return Scored(tuple(sets), panel.sources, all_notes)


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
    used = {one.concept for items in sources.sets.values() for item in items for one in item.expected.instances}
    wanted = [known for name, known in sources.known.items() if name in used]
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


def _check_independent(panel: Panel, chosen_by: Mapping[str, str]) -> None:
    """Refuse an encoder that chose a picture as the one with the best score of its own."""
    looking = {JUDGE} if panel.judge is not None else set()
    looking |= {one.name for one in panel.pictures.values()}
    looking |= {
        f"clip:{Path(one.name.partition(':')[2]).name}" for one in panel.pictures.values() if one.kind == "clip"
    }
    for encoder, run in chosen_by.items():
        if encoder in looking:
            who = "the judge" if encoder == JUDGE else encoder
            raise InputError(
                f"{run}: {who} chose this picture among several, so it may not score it; leave the picture out, "
                "compose it without --candidates, or score with others."
            )


def _note_unused(
    known: Mapping[str, Known], sets: Mapping[str, Sequence[Item]], references: Mapping[str, Path]
) -> tuple[str, ...]:
    used = {one.concept for items in sets.values() for item in items for one in item.expected.instances}
    asked = {key.partition(":")[0].strip() for key in references}
    return tuple(
        f"{name}: no prompt names it or its class, so no picture is compared with it"
        for name in known
        if name in asked and name not in used
    )


def _note_unknown(panel: Panel, sources: Sources) -> tuple[str, ...]:
    if panel.judge is None:
        return ()
    words = {one.class_word for items in sources.sets.values() for item in items for one in item.expected.instances}
    foreign = sorted(word for word in words if word and word not in CLASSES)
    return tuple(
        f"the judge does not know what a {word} is, so no {word} is looked for; name --detector" for word in foreign
    )


def _note_sets(sets: Sequence[ScoredSet]) -> tuple[str, ...]:
    notes = []
    for one in sets:
        missing: dict[str, int] = {}
        total: dict[str, int] = {}
        for item, measured in zip(one.items, one.measured, strict=True):
            for want, found in zip(item.expected.instances, measured.found, strict=True):
                name = want.concept or want.class_word
                total[name] = total.get(name, 0) + (found is not None)
                missing[name] = missing.get(name, 0) + (found is False)
        notes += [
            f"{one.title}: no instance of {name} is found in {count} of {total[name]} pictures; they count as 0 in "
            "identity and are left out of what compares crops"
            for name, count in missing.items()
            if count
        ]
        notes += [f"{one.title}, {kind}: {d.note}" for kind, d in one.distances.items() if d.note]
    if len(sets) == 2 and len(sets[0].items) != len(sets[1].items):
        both = {item.key for item in sets[0].items} & {item.key for item in sets[1].items}
        notes.append(
            f"{sets[0].title} has {len(sets[0].items)} pictures and {sets[1].title} has {len(sets[1].items)}; "
            f"differences are over the {len(both)} whose names are in both"
        )
    return tuple(notes)


def _concepts_of(pairs: Sequence[tuple[Path, RunRecord]]) -> list[tuple[str, str, str]]:
    return [
        (use.name, use.path, instance.class_word or use.class_word)
        for _, record in pairs
        for use, instance in zip(record.adapters, record.scene.instances, strict=True)
    ]


def _without_class(references: Mapping[str, Path]) -> dict[str, Path]:
    return {key.partition(":")[0].strip(): folder for key, folder in references.items()}


def _title(group: Sequence[Path], taken: Mapping[str, object]) -> str:
    """Name a set by its folders, so that two sets never share a name."""
    name = " + ".join(path.name or str(path.resolve().name) for path in group[:3]) + (" ..." if len(group) > 3 else "")
    return f"{name} (against)" if name in taken else name


def _ignore(what: str, done: int, total: int) -> None:
    """Take no note of progress."""
