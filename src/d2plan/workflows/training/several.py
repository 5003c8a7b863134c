"""Learn several concepts from one YAML file, each with an identifier of its own, so that they can meet in a scene."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Unpack

from pydantic import Field

from d2plan.adapter.file import SUFFIX
from d2plan.backbone.load import Backbone, find_base, open_base
from d2plan.config import BaseDefaults, load_defaults
from d2plan.dislora.data import ConceptWords, read_concept_folder, read_concept_words
from d2plan.dislora.processes import Processes, open_processes
from d2plan.dislora.request import TrainRequest, check_request
from d2plan.errors import InputError
from d2plan.fields import Document, FolderName, PathText, Seed, Text, Word
from d2plan.media.images import make_folder
from d2plan.parsing import load_document
from d2plan.workflows.training.folder import work_folder
from d2plan.workflows.training.options import TrainOptions, check_options, choose_buckets, make_request
from d2plan.workflows.training.train import Task, check_place, check_target, is_finished, train_concept
from d2plan.workflows.training.words import share_identifiers

LIST_SUFFIXES = (".yaml", ".yml")
# Of which kind each value is, is checked with the option that it is for.
Choices = dict[str, object]
# What is told while it runs, and what belongs to the whole list, stands in no file.
_NOT_IN_A_LIST = ("on_step", "on_note", "device", "precision", "resume", "resume_changed", "overwrite")


class ListedConcept(Document):
    """One concept of a list.

    Attributes:
        folder: its pictures, from the list's own folder on.
        class_word: what it is; without it what the folder's ``concept.yaml`` says.
        identifier: the word that names it; without it the folder's, else the base's next one that no adapter beside it
            has.
        out: the adapter's name without its ending; the folder's name without it.
        seed: of its training; the list's without it.
        options: of its training alone, by the names of ``TrainOptions``.
    """

    folder: PathText
    class_word: Word | None = None
    identifier: Word | None = None
    out: FolderName | None = None
    seed: Seed | None = None
    options: Choices = {}

    @property
    def stem(self) -> str:
        """The adapter's name without its ending."""
        return self.out or Path(self.folder).name


class ConceptList(Document):
    """Concepts to learn, one after the other.

    Attributes:
        concepts: at least one.
        base: "mini", a folder or a hub id.
        seed: of every training.
        options: of every training, by the names of ``TrainOptions``.
    """

    concepts: Annotated[tuple[ListedConcept, ...], Field(min_length=1, max_length=1000)]
    base: Text = "mini"
    seed: Seed = 0
    options: Choices = {}


def train_list(
    source: str | Path,
    out: str | Path,
    base: str | Path | None = None,
    seed: int | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
    **options: Unpack[TrainOptions],
) -> list[Path]:
    """Learn all concepts of a list with one base.

    Args:
        source: the YAML file; see ``ConceptList``.
        out: the folder of the adapters; made if it is missing.
        base: instead of the list's.
        seed: instead of the list's.
        on_progress: is told what is happening; each text begins with the concept's name.
        **options: for every concept, instead of the list's.

    Returns:
        The adapters' paths, in the list's order. With "resume" those that are finished are left as they are.

    Raises:
        InputError: the list or a value in it cannot be used; nothing was begun.
        FileError: a folder cannot be read, or a file is there already.
    """
    path = Path(os.path.expanduser(source))
    listed = load_document(ConceptList, path)
    place, name = Path(os.path.expanduser(out)), listed.base if base is None else base
    if place.suffix == SUFFIX:
        raise InputError(f"out is {place}; name a folder, since the list {path} makes several adapters.")
    merged = [_merge(path, listed, concept, options) for concept in listed.concepts]
    _refuse_doubles(path, "out", [concept.stem for concept in listed.concepts])
    defaults = load_defaults(find_base(name))
    targets = [place / (concept.stem + SUFFIX) for concept in listed.concepts]
    resume = options.get("resume", False) or options.get("resume_changed", False)
    words = _give_identifiers(path, listed, targets, defaults.identifiers, resume)
    jobs = [
        _Job(
            f"{concept.stem} ({number}/{len(targets)})",
            _find(path, concept),
            target,
            known,
            next(one for one in (seed, concept.seed, listed.seed) if one is not None),
            its,
        )
        for number, (concept, target, known, its) in enumerate(
            zip(listed.concepts, targets, words, merged, strict=True), start=1
        )
    ]
    # All of them are looked at before the first one is learnt.
    together = open_processes(options.get("device", "cpu"))
    requests = [_check(path, job, defaults, together) for job in jobs]
    backbone = open_base(name, together.device, options.get("precision"))
    for job, request in zip(jobs, requests, strict=True):
        _check_data(path, job, request, backbone, together)
    together.wait()
    make_folder(place)
    return [_train(job, backbone, on_progress or _ignore) for job in jobs]


@dataclass(frozen=True)
class _Job:
    """One concept's training."""

    label: str
    folder: Path
    target: Path
    words: ConceptWords
    seed: int
    options: TrainOptions


def _check(path: Path, job: _Job, defaults: BaseDefaults, together: Processes) -> TrainRequest:
    """Look at all of a concept that needs no base."""
    try:
        request = make_request(job.words, job.target.stem, defaults, job.seed, job.options)
    except InputError as error:
        raise InputError(f"{path}: {job.target.stem}: {error}") from error
    check_target(job.target, job.options)
    check_place(job.target, job.folder, job.options, together.leads)
    return request


def _check_data(path: Path, job: _Job, request: TrainRequest, backbone: Backbone, together: Processes) -> None:
    """Look at a concept's pictures and captions, and at what shall be gone on with; nothing of it is kept."""
    data = read_concept_folder(job.folder, *backbone.size, choose_buckets(backbone, job.options))
    task = Task(backbone, data, request, work_folder(job.target), together, _ignore, job.options)
    changed = job.options.get("resume_changed", False)
    resume = job.options.get("resume", False) or changed
    if resume and job.target.exists() and is_finished(task, job.target, check_target(job.target, job.options)):
        return
    try:
        check_request(backbone, data, request, task.place if resume else None, together, changed)
    except InputError as error:
        raise InputError(f"{path}: {job.target.stem}: {error}") from error


def _train(job: _Job, backbone: Backbone, report: Callable[[str, int, int], None]) -> Path:
    def tell(what: str, done: int, total: int) -> None:
        report(f"{job.label}: {what}", done, total)

    named = job.words.class_word, job.words.identifier
    return train_concept(job.folder, job.target, *named, backbone, job.seed, tell, **job.options)


def _find(path: Path, concept: ListedConcept) -> Path:
    return path.parent / os.path.expanduser(concept.folder)


def _merge(path: Path, listed: ConceptList, concept: ListedConcept, options: TrainOptions) -> TrainOptions:
    where = f"{path}: {concept.stem}"
    written = {**listed.options, **concept.options}
    known = [key for key in TrainOptions.__annotations__ if key not in _NOT_IN_A_LIST]
    for key in written:
        if key not in known:
            raise InputError(f"{where}: {key} is no option in a list; use {', '.join(known)}.")
    merged = TrainOptions(**{**written, **options})  # type: ignore[typeddict-item]
    try:
        return check_options(merged, 0)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _give_identifiers(
    path: Path, listed: ConceptList, targets: list[Path], reserved: tuple[str, ...], resume: bool
) -> list[ConceptWords]:
    words = []
    for concept in listed.concepts:
        read = read_concept_words(_find(path, concept))
        identifier, class_word = concept.identifier or read.identifier, concept.class_word or read.class_word
        words.append(replace(read, identifier=identifier, class_word=class_word))
    shared = share_identifiers([known.identifier for known in words], targets, reserved, resume)
    _refuse_doubles(path, "identifier", [word for word in shared if word is not None])
    return [replace(known, identifier=word) for known, word in zip(words, shared, strict=True)]


def _refuse_doubles(path: Path, field: str, values: list[str]) -> None:
    # As some systems read the names of files, and tokenizers words.
    plain = [value.casefold() for value in values]
    twice = [value for index, value in enumerate(values) if plain[index] in plain[:index]]
    if twice:
        raise InputError(f"{path}: {field} {twice[0]} stands twice; give each concept its own.")


def _ignore(*_: object) -> None:
    """Nobody asked to be told."""
