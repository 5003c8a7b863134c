"""From the files of a results' folder to ``results.json``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from d2plan.bench.job import Entry, Job
from d2plan.bench.records import (
    BaseRecord,
    LearnRecord,
    MethodRecord,
    PictureRecord,
    Results,
    SuiteRecord,
    TunedSetting,
)
from d2plan.bench.runner import read_failures
from d2plan.bench.scoring import Scorer, read_picture, read_score_failures, read_series
from d2plan.bench.store import read_record
from d2plan.bench.surroundings import describe_machine, read_commit
from d2plan.bench.validity import judge_methods

# Notes of results that are not complete.
WAITING, UNSCORED = "Not begun yet: ", "Not scored yet by these encoders: "
_JUST_A_SETTING = 1024
Tunings = dict[str, tuple[TunedSetting, ...]]


def assemble(
    job: Job,
    entries: Sequence[Entry],
    scorer: Scorer | None,
    tunings: Tunings | None = None,
    notes: Sequence[str] = (),
) -> Results:
    """Gather all that is there.

    Args:
        job: the benchmark.
        entries: the methods.
        scorer: whose scores; None leaves them out.
        tunings: by method, what was tried.
        notes: what a reader should know.

    Returns:
        The results.
    """
    records = [_gather(job, entry, scorer, (tunings or {}).get(entry.name, ())) for entry in entries]
    plain, judged = judge_methods(job.kind, job.suite, records)
    return Results(
        kind=job.kind,
        suite=job.suite,
        base=BaseRecord(name=job.base.name, fingerprint=job.base.fingerprint),
        drawing=job.drawn,
        machine=describe_machine(job.backbone),
        commit=read_commit(),
        encoders=dict(scorer.panel.sources) if scorer is not None else {},
        finished=all(is_finished(job.suite, one) for one in judged),
        notes=(*notes, *(scorer.notes if scorer is not None else ())),
        plain=plain,
        methods=judged,
    )


def is_finished(suite: SuiteRecord, record: MethodRecord) -> bool:
    """Say whether each picture of a suite was drawn by a method, or could not be."""
    missing = {name for failure in record.failures for name in failure.shots}
    return len({picture.shot for picture in record.pictures} | missing) == len(suite.shots)


def _gather(job: Job, entry: Entry, scorer: Scorer | None, tuning: tuple[TunedSetting, ...]) -> MethodRecord:
    pictures: list[PictureRecord] = []
    for cast in job.casts:
        for chunk in cast.chunks:
            key = job.draw_key(entry, cast, chunk)
            found = (read_picture(job, entry, shot, key, scorer) for shot in chunk)
            pictures += [picture for picture in found if picture is not None]
    order = {shot.name: number for number, shot in enumerate(job.suite.shots)}
    return MethodRecord(
        name=entry.name,
        title=getattr(entry.method, "title", entry.name),
        source=getattr(entry.method, "source", ""),
        code=entry.code,
        setting=dict(entry.setting),
        chosen=entry.chosen,
        tuning=tuning,
        learned=tuple(_read_learned(job, entry)),
        joined=tuple(_read_joined(job, entry)),
        pictures=tuple(sorted(pictures, key=lambda picture: order[picture.shot])),
        series=tuple(read_series(job, entry, scorer)) if scorer is not None else (),
        failures=(*read_failures(job, entry), *(read_score_failures(job, entry, scorer) if scorer is not None else ())),
    )


def _read_learned(job: Job, entry: Entry) -> Iterator[LearnRecord]:
    for concept in job.suite.concepts:
        path = job.state_path(entry, concept.name).with_suffix(".json")
        record = read_record(path, LearnRecord, job.state_key(entry, concept.name))
        if record is not None:
            # The first of a family that ran says so; the others took over what it had learnt.
            first = record.shared_from
            yield record.model_copy(update={"shared_from": None if first == entry.name else first})


def _read_joined(job: Job, entry: Entry) -> Iterator[LearnRecord]:
    for cast in job.casts:
        path = job.store.joined(entry.name, cast.label).with_suffix(".json")
        record = read_record(path, LearnRecord, job.cast_key(entry, cast))
        # A method that needs no joining leaves an empty state, or no more than its setting.
        if record is not None and (record.cost.unet_rows or record.state_bytes > _JUST_A_SETTING):
            yield record
