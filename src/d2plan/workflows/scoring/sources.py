"""Find what is to be scored, its prompts and its concepts, before anybody looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from d2plan.documents import RunRecord
from d2plan.errors import D2PlanError, FileError, InputError
from d2plan.media.png_text import read_record
from d2plan.workflows.runs.detectors import JUDGE_SOURCE
from d2plan.workflows.scoring.films import Film, find_films
from d2plan.workflows.scoring.items import (
    Item,
    Known,
    describe_pictures,
    describe_run,
    folders_by_name,
    gather_known,
    has_pictures,
    holds_runs,
    list_runs,
    read_known,
)
from d2plan.workflows.scoring.score import check_references


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
class Sources:
    """What was found in the folders before anybody looks.

    Attributes:
        sets: title to the pictures of each set.
        known: concepts with pictures of their own, by name.
        chosen_by: encoders that chose some of the pictures, each with one of them.
        notes: what a reader should know.
        films: title of a set to the films whose keyframes are among its pictures; a set without any is left out.
    """

    sets: Mapping[str, tuple[Item, ...]]
    known: Mapping[str, Known]
    chosen_by: Mapping[str, str]
    notes: tuple[str, ...] = ()
    films: Mapping[str, tuple[Film, ...]] = field(default_factory=dict)


def find_sources(request: ScoreRequest) -> Sources:
    """Find the pictures, their prompts and their concepts; nothing is looked at, so what is missing is told at once.

    Args:
        request: what to score.

    Returns:
        The sources.

    Raises:
        FileError: a folder or file is missing.
        InputError: prompts, references or a base do not fit the pictures, or two sets have no picture in common.
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
    films: dict[str, dict[Path, Film]] = {}
    told: list[str] = []
    for group in groups:
        title = _title(group, sets)
        items: dict[Path, Item] = {}
        for path in group:
            if runs[path]:
                own, shown, notes = _describe_runs(path, by_path[path])
                films.setdefault(title, {}).update({film.beats[0].path.resolve(): film for film in shown})
                told += notes
            else:
                own = _describe_own(path, known, request)
            items.update({item.path.resolve(): item for item in own})
        sets[title] = tuple(items.values())
    if request.real is None:
        _check_shared(sets)
    notes = (*_note_unused(known, sets, request.references), *dict.fromkeys(told))
    if any(JUDGE_SOURCE in note for _, record in pairs for note in record.masks.notes):
        notes = (*notes, f"some masks were drawn by {JUDGE_SOURCE}")
    chosen = {record.choice.encoder: str(run) for run, record in pairs if record.choice is not None}
    # A picture that was taken out of its run still says how it was chosen.
    pictures = [item.path for title in sets.values() for item in title]
    chosen |= {encoder: str(path) for path in pictures if (encoder := _read_chooser(path))}
    return Sources(sets, known, chosen, notes, {title: tuple(own.values()) for title, own in films.items() if own})


def _read_chooser(path: Path) -> str:
    try:
        choice = read_record(path).choice if path.suffix.lower() == ".png" else None
    except D2PlanError:
        return ""
    return choice.encoder if choice else ""


def _describe_runs(
    path: Path, runs: Sequence[tuple[Path, RunRecord]]
) -> tuple[list[Item], tuple[Film, ...], tuple[str, ...]]:
    """Give a folder's pictures without those that a film consists of no longer, its films, and what is to be told."""
    every = [describe_run(run, record, path) for run, record in runs]
    found = find_films(path, every)
    return [item for item in every if item.path.parent not in found.stale], found.films, found.notes


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
    concepts = _concepts_of(pairs)
    check_references(folders_by_name(request.references), concepts)
    for key in request.references:
        name, _, given = (part.strip() for part in key.partition(":"))
        words = {word for concept, path, word in concepts if name in (concept, Path(path).stem, word)}
        if given and given not in words:
            raise InputError(
                f'references: "{key}", but in these runs {name} is a {" or a ".join(sorted(words))}; runs '
                f"know their classes, so write {name}=FOLDER."
            )


def _check_shared(sets: Mapping[str, Sequence[Item]]) -> None:
    """Refuse two sets without anything to pair; distances to true pictures alone need no pairs."""
    if len(sets) < 2:
        return
    names = [
        {item.key for item in items} | {Path(item.series).name for item in items if item.series is not None}
        for items in sets.values()
    ]
    if not names[0] & names[1]:
        first, second = sets
        raise InputError(
            f"--against: no picture of {first} has the name of one of {second} ({min(names[0])} and {min(names[1])}, "
            "for example), so there is nothing to compare; give the pictures of one prompt and seed the same name in "
            "both folders, or score each without --against."
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


def _concepts_of(pairs: Sequence[tuple[Path, RunRecord]]) -> list[tuple[str, str, str]]:
    return [
        (use.name, use.path, instance.class_word or use.class_word)
        for _, record in pairs
        for use, instance in zip(record.adapters, record.scene.instances, strict=True)
    ]


def _title(group: Sequence[Path], taken: Mapping[str, object]) -> str:
    """Name a set by its folders, so that two sets never share a name."""
    name = " + ".join(path.name or str(path.resolve().name) for path in group[:3]) + (" ..." if len(group) > 3 else "")
    return f"{name} (against)" if name in taken else name
