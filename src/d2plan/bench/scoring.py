"""Score what methods drew: every picture by every encoder, once, with series together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from d2plan.bench.guard import Unit, has_failed, note_failure, read_failure
from d2plan.bench.job import Cast, Entry, Job
from d2plan.bench.records import (
    ConceptRecord,
    Failure,
    InstanceValues,
    PictureRecord,
    SeriesRecord,
    ShotRecord,
    Values,
)
from d2plan.bench.runs import read_drawn
from d2plan.bench.store import IMAGE, make_key, read_record, write_record
from d2plan.bench.surroundings import digest_module
from d2plan.documents import Document
from d2plan.errors import FileError, InputError
from d2plan.eval.judge import Picture
from d2plan.eval.lineup import build_lineup
from d2plan.eval.measure import Measured, Shown, measure_pictures, measure_series
from d2plan.eval.panel import Gallery, Panel, build_gallery
from d2plan.eval.score import Expectation, Expected, Lineup, expect_prompt, read_phrase
from d2plan.media.images import read_image
from d2plan.world.cast import CLASSES, identity_from_seed

SCORES, REFERENCES = "scores.json", "references.json"
_MOST_REFERENCES = 64
_MASK = ".mask"
# Rooms whose code decides a score; look-alikes for a line-up are drawn by the world.
_LOOKERS = ("eval", "world")


class _Scores(Document):
    """What a picture scored, as it lies beside it."""

    values: Values
    instances: tuple[InstanceValues, ...] = ()


class _References(Document):
    """What a reader should know of the concepts' own pictures, as it lies on the disk."""

    notes: tuple[str, ...]


class Scorer:
    """Who scores, and what is known of each concept.

    Args:
        job: the benchmark.
        panel: who looks.
    """

    def __init__(self, job: Job, panel: Panel) -> None:
        self.panel = panel
        digests = [(concept.name, concept.digest) for concept in job.suite.concepts]
        self.key = make_key("score", dict(panel.sources), digests, digest_module(__name__, _LOOKERS))
        self._job = job
        self._galleries: dict[str, Gallery] = {}

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know; known once the references were looked at."""
        found = read_record(self._path, _References, self.key)
        return found.notes if found is not None else ()

    @property
    def galleries(self) -> Mapping[str, Gallery]:
        """By concept; empty until the references were looked at."""
        return self._galleries

    def look(self) -> Iterator[tuple[int, int]]:
        """Let the panel look at the concepts' own pictures, once.

        Yields:
            How many concepts are done, and how many there are.

        Raises:
            FileError: a picture cannot be read.
            InputError: the judge finds a concept's class in none of its pictures.
        """
        if self._galleries:
            return
        concepts = self._job.suite.concepts
        notes: list[str] = []
        for number, concept in enumerate(concepts):
            yield number, len(concepts)
            images = [read_image(path) for path in list_references(self._job.concepts[concept.name].folder)]
            try:
                lineup = self._line_up(concept, images)
            except FileError:
                raise
            except InputError as error:
                lineup = None
                notes.append(f"{concept.name}: {error}")
            gallery = build_gallery(self.panel, concept.name, concept.class_word, images, lineup)
            notes += gallery.notes
            self._galleries[concept.name] = gallery
        write_record(self._path, _References(notes=tuple(notes)), self.key)

    @property
    def _path(self) -> Path:
        return self._job.store.root / REFERENCES

    def _line_up(self, concept: ConceptRecord, images: Sequence[Picture]) -> Lineup | None:
        if self.panel.judge is None or concept.class_word not in CLASSES:
            return None
        identity = None if concept.seed is None else identity_from_seed(concept.class_word, concept.seed)
        return build_lineup(self.panel.judge, concept.class_word, images, identity)


def score_unit(job: Job, entry: Entry, cast: Cast, place: int, scorer: Scorer) -> Unit:
    """Describe the work of scoring the pictures of one call."""
    chunk = cast.chunks[place]
    key = make_key(job.draw_key(entry, cast, chunk), scorer.key)
    return Unit(entry, "score", cast.names, f"score-{cast.label}-{place}", key, chunk)


def list_unscored(job: Job, entry: Entry, scorer: Scorer) -> list[Unit]:
    """List the calls with pictures that have no scores yet; those whose scoring failed before are not tried again."""
    found = []
    for cast in job.casts:
        for place, chunk in enumerate(cast.chunks):
            unit, key = score_unit(job, entry, cast, place, scorer), job.draw_key(entry, cast, chunk)
            drawn = tuple(shot for shot in chunk if read_drawn(job, entry, shot, key) is not None)
            if not all(_has_scores(job, unit, shot) for shot in drawn) and not has_failed(job, unit):
                found.append(replace(unit, shots=drawn))
    return found


def score_method(job: Job, entry: Entry, scorer: Scorer) -> Iterator[tuple[int, int]]:
    """Score the pictures of a method that have no scores yet; what cannot be scored is written down.

    Args:
        job: the benchmark.
        entry: the method.
        scorer: who scores.

    Yields:
        Pictures that are done, and how many there are; what is told is on the disk.

    Raises:
        FileError: the results' folder cannot be read or written.
    """
    for _ in scorer.look():
        pass
    units, done = list_unscored(job, entry, scorer), 0
    total = sum(len(unit.shots) for unit in units)
    for unit in units:
        try:
            _score_chunk(job, unit, scorer)
        except Exception as error:  # noqa: BLE001  (an encoder may fail in any way)
            note_failure(job, unit, error)
        done += len(unit.shots)
        yield done, total


def read_score_failures(job: Job, entry: Entry, scorer: Scorer) -> Iterator[Failure]:
    """Give the pictures that could not be scored, and why."""
    for cast in job.casts:
        for place in range(len(cast.chunks)):
            failure = read_failure(job, score_unit(job, entry, cast, place, scorer))
            if failure is not None:
                yield failure


def read_picture(job: Job, entry: Entry, shot: ShotRecord, key: str, scorer: Scorer | None) -> PictureRecord | None:
    """Read a picture's record with its scores.

    Args:
        job: the benchmark.
        entry: who drew it.
        shot: what was asked.
        key: of what decides the picture.
        scorer: whose scores; None reads none.

    Returns:
        The record; None where there is no such picture.
    """
    record = read_drawn(job, entry, shot, key)
    if record is None or scorer is None:
        return record
    scores = read_record(job.store.run(entry.name, shot.name) / SCORES, _Scores, make_key(key, scorer.key))
    if scores is None:
        return record
    return record.model_copy(update={"values": scores.values, "instances": scores.instances})


def read_series(job: Job, entry: Entry, scorer: Scorer) -> Iterator[SeriesRecord]:
    """Read what a method's series scored.

    Args:
        job: the benchmark.
        entry: the method.
        scorer: whose scores.

    Yields:
        Records in the order of the suite.
    """
    for cast in job.casts:
        for chunk in cast.chunks:
            key = make_key(job.draw_key(entry, cast, chunk), scorer.key)
            for name in dict.fromkeys(shot.series for shot in chunk if shot.series):
                record = read_record(job.store.series(entry.name, name), SeriesRecord, key)
                if record is not None:
                    yield record


def list_references(folder: Path) -> list[Path]:
    """List a concept's own pictures.

    Args:
        folder: of the concept.

    Returns:
        At most 64 in the order of their names, without masks.
    """
    suffixes = (".png", ".jpg", ".jpeg", ".webp")
    paths = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in suffixes]
    return [path for path in paths if Path(path.stem).suffix != _MASK and path.name[0] != "."][:_MOST_REFERENCES]


def expect_shot(job: Job, shot: ShotRecord) -> Expectation:
    """Say what a picture was asked to show, as the judge checks it."""
    classes = {concept.name: concept.class_word for concept in job.suite.concepts}
    spoken = expect_prompt(shot.plain_prompt)
    instances = []
    for name, prompt in zip(shot.concepts, shot.sub_prompts, strict=True):
        read = read_phrase(classes[name], prompt)
        instances.append(Expected(read.class_word, read.accessory, read.accessory_colour, read.action, None, name))
    return Expectation(tuple(instances), spoken.place, spoken.light)


def _has_scores(job: Job, unit: Unit, shot: ShotRecord) -> bool:
    return read_record(job.store.run(unit.entry.name, shot.name) / SCORES, _Scores, unit.key) is not None


def _score_chunk(job: Job, unit: Unit, scorer: Scorer) -> None:
    entry, shots = unit.entry, unit.shots
    identifiers = {concept.name: concept.identifier for concept in job.suite.concepts}
    shown = [
        Shown(
            image=read_image(job.store.run(entry.name, shot.name) / IMAGE),
            text=shot.plain_prompt,
            expected=expect_shot(job, shot),
            phrases=tuple(
                " ".join(prompt.replace(identifiers[name], "").split())
                for name, prompt in zip(shot.concepts, shot.sub_prompts, strict=True)
            ),
            name=shot.name,
        )
        for shot in shots
    ]
    found = measure_pictures(scorer.panel, shown, scorer.galleries)
    measured = {shot.name: one for shot, one in zip(shots, found, strict=True)}
    # The series first: pictures with scores are not looked at again.
    for name in dict.fromkeys(shot.series for shot in shots if shot.series):
        parts = [shot for shot in shots if shot.series == name]
        _write_series(job, entry, parts, [measured[shot.name] for shot in parts], unit.key)
    for shot in shots:
        own_values = measured[shot.name]
        instances = [
            InstanceValues(concept=concept, values=values)
            for concept, values in zip(shot.concepts, own_values.instances, strict=True)
        ]
        scores = _Scores(values=own_values.averaged, instances=tuple(instances))
        write_record(job.store.run(entry.name, shot.name) / SCORES, scores, unit.key)


def _write_series(job: Job, entry: Entry, shots: Sequence[ShotRecord], measured: Sequence[Measured], key: str) -> None:
    first = shots[0]
    expected = sum(shot.series == first.series for shot in job.suite.shots)
    if len(shots) < 2 or len(shots) < expected:
        return
    values = measure_series(measured)
    record = SeriesRecord(series=str(first.series), part=first.part, concepts=first.concepts, values=values)
    write_record(job.store.series(entry.name, str(first.series)), record, key)
