"""From a suite to a job: concepts drawn or read, shots written down, and a results' folder that belongs to them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from d2plan.backbone.load import Backbone
from d2plan.bench.job import Job, list_casts
from d2plan.bench.protocol import BenchConcept, Drawing
from d2plan.bench.records import FORMAT, BaseRecord, ConceptRecord, DrawingRecord, Kind, SuiteRecord
from d2plan.bench.store import PLAN, Store, read_plan, relative_to, write_record
from d2plan.bench.suites import LoadedSuite, digest_suite, find_pictures, list_shots, name_concepts
from d2plan.dislora.data import ConceptData, read_concept_folder
from d2plan.dislora.prompts import check_words
from d2plan.dislora.request import reserved_identifiers
from d2plan.documents import Document
from d2plan.errors import InputError
from d2plan.world.folders import TRUTH_FILE, write_concept

Notes = list[str]
# What may lie in a folder ahead of its plan, and what a write that was cut off leaves.
_EARLY = ("lock", "concepts", "learned", "tuning")
_LEFT = re.compile(r"\..*\.part")


class Plan(Document):
    """What a results' folder is for; it is refused for anything else.

    Attributes:
        format: of the files.
        kind: methods side by side, or the ablation.
        suite: name of the suite.
        suite_digest: of all that it asks.
        base: the base's fingerprint.
        drawing: how pictures are drawn.
        seed: of learning.
        commits: of d2plan's source, of every version that worked on it.
        methods: that compete here, in the order in which they were asked for.
    """

    format: int = FORMAT
    kind: Kind
    suite: str
    suite_digest: str
    base: str
    drawing: DrawingRecord
    seed: int
    commits: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()


def choose_drawing(backbone: Backbone, loaded: LoadedSuite, most_rows: int) -> Drawing:
    """Say how all methods draw: as the suite says, else as the base does best.

    Args:
        backbone: the base.
        loaded: the suite.
        most_rows: of one U-Net call.

    Returns:
        Steps, guidance and size.
    """
    suite, own = loaded.suite, backbone.defaults
    return Drawing(
        steps=suite.steps or own.steps,
        guidance_scale=own.guidance_scale if suite.guidance_scale is None else suite.guidance_scale,
        height=suite.height or own.height,
        width=suite.width or own.width,
        most_rows=most_rows,
    )


def prepare_job(
    kind: Kind,
    loaded: LoadedSuite,
    backbone: Backbone,
    base: str,
    store: Store,
    reopen: Callable[[], Backbone],
    seed: int = 0,
    most_rows: int = 32,
) -> tuple[Job, Notes]:
    """Make all that a benchmark needs; concepts of the world that are not there yet are drawn.

    Args:
        kind: methods side by side, or the ablation.
        loaded: the suite.
        backbone: the base.
        base: its name as given.
        store: the results' folder.
        reopen: gives the base anew.
        seed: of learning.
        most_rows: of one U-Net call.

    Returns:
        The job, and sentences that a reader should know.

    Raises:
        FileError: a folder cannot be read or written.
        InputError: a concept cannot be learnt from, or the base keeps no identifier for it.
    """
    identifiers = name_concepts(loaded, backbone.defaults.identifiers)
    _check_identifiers(loaded, identifiers, backbone)
    records, concepts, notes = [], {}, []
    for concept in loaded.suite.concepts:
        folder = store.concept(concept.name) if concept.folder is None else find_pictures(concept, loaded.folder)
        if concept.seed is not None:
            wanted = Drawn(concept.class_word, concept.seed, max(backbone.size), loaded.suite.images)
            _draw_concept(folder, wanted, claimed=(store.root / PLAN).exists())
        data = read_concept_folder(folder, *backbone.size)
        notes += [f"{concept.name}: {note}" for note in data.notes]
        record = ConceptRecord(
            name=concept.name,
            class_word=concept.class_word,
            identifier=identifiers[concept.name],
            kind=concept.kind,
            seed=concept.seed,
            images=len(data),
            folder=relative_to(folder, store.root),
            digest=_digest_data(data),
        )
        records.append(record)
        concepts[concept.name] = BenchConcept(concept.name, concept.class_word, record.identifier, folder)
    notes += _compare_counts(records)
    shots = list_shots(loaded, identifiers)
    digest = digest_suite(loaded.suite, records, shots)
    suite = SuiteRecord(name=loaded.suite.name, digest=digest, concepts=tuple(records), shots=shots)
    drawing = choose_drawing(backbone, loaded, most_rows)
    named = BaseRecord(name=base, fingerprint=backbone.fingerprint)
    return Job(kind, backbone, named, suite, concepts, drawing, seed, store, reopen, list_casts(shots)), notes


def _check_identifiers(loaded: LoadedSuite, identifiers: Mapping[str, str], backbone: Backbone) -> None:
    """Refuse at once what every method would fail to learn by."""
    for concept in loaded.suite.concepts:
        try:
            check_words(concept.class_word, identifiers[concept.name], reserved_identifiers(backbone.defaults))
        except InputError as error:
            raise InputError(f"{loaded.source}: {concept.name}: {error}") from error


class Drawn(NamedTuple):
    """What decides the pictures that the world draws of a concept."""

    class_word: str
    seed: int
    size: int
    images: int


def _draw_concept(folder: Path, wanted: Drawn, claimed: bool) -> None:
    """Let the world draw a concept, unless these pictures are there; those of a claimed folder are never replaced."""
    found = _read_drawn(folder / TRUTH_FILE)
    if found == wanted:
        return
    if found is not None and claimed:
        raise InputError(
            f"{folder}: holds {found.images} pictures of {found.class_word} {found.seed} at {found.size} px, but "
            f"this call asks for {wanted.images} of {wanted.class_word} {wanted.seed} at {wanted.size} px; "
            "name another --out."
        )
    write_concept(folder, wanted.class_word, wanted.seed, wanted.images, wanted.size, overwrite=True)


def _read_drawn(path: Path) -> Drawn | None:
    try:
        truth = json.loads(path.read_text(encoding="utf-8"))
        return Drawn(truth["class_word"], truth["seed"], truth["size"], len(truth["images"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def plan_folder(job: Job, methods: Sequence[str], commit: str) -> Plan:
    """Say what a results' folder is for from now on; nothing is written yet, for the rest may still be refused.

    Args:
        job: what it is for.
        methods: that compete.
        commit: of d2plan's source.

    Returns:
        What the folder is for, with the methods that are in it already first.

    Raises:
        InputError: it holds results of something else, or of another version.
    """
    path = job.store.root / PLAN
    wanted = Plan(
        kind=job.kind,
        suite=job.suite.name,
        suite_digest=job.suite.digest,
        base=job.base.fingerprint,
        drawing=job.drawn,
        seed=job.seed,
        commits=(commit,),
        methods=tuple(methods),
    )
    content = read_plan(path)
    if content is not None:
        found = _read_plan(path, content)
        _refuse_other(path.parent, found, wanted)
        commits = found.commits if commit in found.commits else (*found.commits, commit)
        new = [name for name in methods if name not in found.methods]
        wanted = wanted.model_copy(update={"commits": commits, "methods": (*found.methods, *new)})
    return wanted


def claim_folder(store: Store, plan: Plan) -> None:
    """Make a results' folder one's own.

    Args:
        store: the folder.
        plan: from ``plan_folder``.
    """
    write_record(store.root / PLAN, plan)


def check_folder(root: Path) -> None:
    """Refuse a folder that holds something else, before anything is done.

    Args:
        root: the results' folder.

    Raises:
        InputError: it holds other files, or results of another version.
    """
    content = read_plan(root / PLAN)
    if content is not None:
        _read_plan(root / PLAN, content)
    elif root.is_dir() and not all(path.name in _EARLY or _LEFT.fullmatch(path.name) for path in root.iterdir()):
        raise InputError(f"{root}: is not empty and holds no benchmark; name a new folder.")


def _read_plan(path: Path, content: object) -> Plan:
    format_there = content.get("format") if isinstance(content, dict) else None
    if format_there != FORMAT:
        raise InputError(
            f"{path.parent}: holds results in format {format_there}, but this d2plan writes {FORMAT}; name another "
            "--out."
        )
    try:
        return Plan.model_validate(content)
    except ValueError as error:
        raise InputError(f"{path}: is damaged; name another --out.") from error


def _refuse_other(root: Path, found: Plan, wanted: Plan) -> None:
    for field, title in (
        ("kind", "the kind"),
        ("suite", "the suite"),
        ("base", "the base"),
        ("drawing", "how pictures are drawn"),
        ("suite_digest", "the suite's concepts or prompts"),
        ("seed", "the seed"),
    ):
        before, now = getattr(found, field), getattr(wanted, field)
        if before != now:
            told = f" ({_tell(before, now)} there, {_tell(now, before)} asked for)" if field != "suite_digest" else ""
            raise InputError(f"{root}: holds results of another version: {title} changed{told}; name another --out.")


def _tell(one: object, other: object) -> str:
    """Say what something is; of how pictures are drawn only what is not the same in the other."""
    if not isinstance(one, DrawingRecord):
        return str(one)
    differs = {name: value for name, value in one if value != getattr(other, name)}
    return ", ".join(f"{name} {value}" for name, value in differs.items())


def _compare_counts(records: Sequence[ConceptRecord]) -> list[str]:
    counts = {record.images for record in records}
    if len(counts) == 1:
        return []
    told = ", ".join(f"{record.name} {record.images}" for record in records)
    return [f"The concepts have unequal numbers of pictures ({told}); every method learns from the same ones."]


def _digest_data(data: ConceptData) -> str:
    return hashlib.sha256(f"{data.fingerprint} {data.words!r}".encode()).hexdigest()[:16]
