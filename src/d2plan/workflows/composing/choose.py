"""Compose a scene with several seeds and keep the picture whose instances are most like their concepts."""

import importlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Unpack

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from d2plan.backbone.load import MINI, Backbone
from d2plan.documents import Choice, Document, RunRecord, Scene
from d2plan.errors import InputError
from d2plan.eval.encoders import open_faces
from d2plan.eval.judge import load_judge
from d2plan.eval.likeness import (
    ClipEncoder,
    FaceIdentityEncoder,
    IdentityEncoder,
    JudgeEncoder,
    Place,
    describe_references,
    measure_likeness,
)
from d2plan.isp.loop import Composition, compose_steps
from d2plan.isp.prepare import PreparedScene
from d2plan.media.images import contact_sheet, make_folder, write_file, write_png
from d2plan.media.png_text import write_texts
from d2plan.workflows.composing.compose import (
    Report,
    RunOptions,
    check_options,
    drain,
    engine_options,
    open_scenes_base,
    prepare_request,
    say_nothing,
)
from d2plan.workflows.composing.provenance import record_run
from d2plan.workflows.composing.requests import (
    AdapterShelf,
    ExtrasShelf,
    Request,
    check_identifiers,
    open_request,
    read_request,
)
from d2plan.workflows.runs.folder import (
    CANDIDATE_REPORT,
    CANDIDATE_SHEET,
    CANDIDATES,
    open_run,
    size_for_sheet,
    write_run,
)
from d2plan.workflows.scoring.score import JUDGE, check_references, find_references, read_references

MOST_CANDIDATES = 64
NOT_FOUND = -1.0
CLIP, FACE = "clip:", "face:"
_PLUGIN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_COLUMNS = 4


class Candidate(Document):
    """One of several pictures of a scene.

    Attributes:
        seed: its own.
        likeness: of each instance to its concept, -1..1; None for one that is not found.
        least: the smallest of these, -1 where one is not found; the picture with the largest is kept.
        chosen: it was kept.
        problem: why there is no picture; empty where there is one.
    """

    seed: int
    likeness: tuple[float | None, ...] = ()
    least: float = NOT_FOUND
    chosen: bool = False
    problem: str = ""


class CandidateReport(Document):
    """All pictures that one was chosen from.

    Attributes:
        encoder: what compared them.
        instances: what the numbers of ``likeness`` belong to.
        candidates: in the order of their seeds.
        note: what the numbers must not be used for.
    """

    encoder: str
    instances: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    note: str = "what chooses does not score: publish no score of the kept picture by this encoder"

    @property
    def complete(self) -> bool:
        """Whether every instance was found in the kept picture."""
        return any(one.chosen and one.least > NOT_FOUND for one in self.candidates)


@dataclass(frozen=True)
class ChoiceRequest:
    """How to choose.

    Attributes:
        count: pictures to make, with the seeds from the scene's on.
        references: a concept's name, file stem or class word to the folder of its own pictures; without one, the
            folder beside the adapter that is named like it.
        encoder: "judge", "clip:FOLDER", or "package.module:factory"; None is the judge on the embedded base.
    """

    count: int
    references: Mapping[str, Path]
    encoder: str | None = None


def compose_best(
    scene: Scene | str | Path,
    out: str | Path,
    choice: ChoiceRequest,
    base: str | None = None,
    seed: int | None = None,
    overwrite: bool = False,
    on_progress: Report | None = None,
    **options: Unpack[RunOptions],
) -> tuple[Path, CandidateReport]:
    """Make a scene's picture with several seeds, and keep the one whose least alike instance is most alike.

    The kept picture is the one that ``compose`` makes with its seed. The run folder holds all of them beside it, on
    ``candidates.png`` side by side and in ``candidates.json`` by their numbers.

    Args:
        scene: a scene, or the path of a scene file.
        out: the run's folder, new or empty.
        choice: how many, and who compares.
        base: replaces the scene's.
        seed: of the first picture, in the place of the scene's.
        overwrite: replace the run that the folder holds, as ``compose`` does.
        on_progress: called with (what is happening, steps done, steps in all).
        **options: see ``RunOptions``.

    Returns:
        The run's folder, and the numbers.

    Raises:
        InputError: the request cannot be used, a concept has no pictures to compare with, or none of the candidates
            could be made.
        FileError: a file cannot be read or written.
    """
    check_options(options)
    report = on_progress or say_nothing
    request = open_request(read_request(Scene, scene, base, seed), AdapterShelf())
    check_choice(request.scene, choice.count)
    folders = [find_pictures(request, place, choice.references) for place in range(len(request.adapters))]
    check_references(
        choice.references,
        (
            (adapter.name, str(adapter.path or instance.concept), instance.class_word or adapter.class_word)
            for adapter, instance in zip(request.adapters, request.scene.instances, strict=True)
        ),
    )
    encoder = open_encoder(choice.encoder, request.scene.base, options.get("device", "cpu"))
    references = _describe_all(encoder, request, folders, report)
    with open_run(out, overwrite) as folder:
        backbone = open_scenes_base([request.scene], report, options)
        work = _Work(backbone, request, encoder, references, options)
        found = work.compose_all(choice.count, report)
        if all(one.composition is None for one in found):
            raise InputError(f"None of the {len(found)} candidates could be made; the first: {found[0].problem}")
        result = _choose(work, found)
        _write_all(folder, work, found, result)
    return Path(os.path.expanduser(out)), result


def check_choice(scene: Scene, count: int) -> None:
    """Refuse to choose where there is nothing to choose by.

    Args:
        scene: what is asked for.
        count: of the candidates.

    Raises:
        InputError: the count is out of range, or the scene has no instances.
    """
    if not 2 <= count <= MOST_CANDIDATES:
        raise InputError(f"candidates is {count}, but must be 2..{MOST_CANDIDATES}.")
    if not scene.instances:
        raise InputError("instances is empty, so there is nothing to choose a candidate by; name one at least.")
    if scene.seed + count > 2**63:
        raise InputError(f"seed is {scene.seed}, which leaves no room for {count} candidates; choose a smaller one.")


def open_encoder(name: str | None, base: str, device: str = "cpu") -> IdentityEncoder:
    """Open what compares pictures.

    Args:
        name: "judge", "clip:FOLDER", "face:sface:FOLDER", "face:arcface:FILE", or "package.module:factory" of an
            installed package, called with the device; None is the judge on the embedded base.
        base: the scene's base.
        device: where it runs.

    Returns:
        The encoder.

    Raises:
        InputError: the name means nothing, or none was given for another base.
        FileError: its files cannot be read.
        MissingExtraError: faces are asked for, and their extra is not installed.
    """
    if name is None and base != MINI:
        raise InputError(
            f'encoder: the judge knows the small world of "{MINI}" alone; for {base} give --encoder clip:FOLDER, '
            'face:sface:FOLDER, face:arcface:FILE, or "package.module:factory".'
        )
    if name in (None, JUDGE):
        return JudgeEncoder(load_judge(device=device))
    if name.startswith(CLIP) and len(name) > len(CLIP):
        return ClipEncoder(os.path.expanduser(name.removeprefix(CLIP)), device)
    if name.startswith(FACE):
        return FaceIdentityEncoder(open_faces(name))
    if not _PLUGIN.fullmatch(name):
        raise InputError(
            f'encoder: "{name}" is none; write judge, clip:FOLDER, face:sface:FOLDER, face:arcface:FILE, '
            'or "package.module:factory".'
        )
    place, _, attribute = name.partition(":")
    try:
        factory = getattr(importlib.import_module(place), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(f'encoder: "{name}" cannot be imported ({error}); install the package {place}.') from error
    encoder = factory(device)
    if not (callable(getattr(encoder, "describe", None)) and isinstance(getattr(encoder, "name", None), str)):
        raise InputError(f'encoder: "{name}" gave a {type(encoder).__name__} without a name and describe().')
    return encoder


def find_pictures(request: Request, place: int, references: Mapping[str, Path]) -> Path:
    """Find the folder of an instance's own pictures.

    Args:
        request: the request.
        place: of the instance.
        references: folders by concept.

    Returns:
        The folder.

    Raises:
        InputError: there is none.
    """
    adapter, instance = request.adapters[place], request.scene.instances[place]
    word = instance.class_word or adapter.class_word
    found = find_references(adapter.name, str(adapter.path or instance.concept), word, references)
    if found is None:
        raise InputError(
            f"instances[{place}]: {instance.concept} has no pictures to compare with; "
            f"give their folder with --references {Path(instance.concept).stem}=FOLDER."
        )
    return found


@dataclass(frozen=True, eq=False)
class _Made:
    """A candidate: its picture, or why there is none."""

    seed: int
    composition: Composition | None
    likeness: tuple[float | None, ...] = ()
    problem: str = ""

    @property
    def least(self) -> float:
        return min((NOT_FOUND if one is None else one for one in self.likeness), default=NOT_FOUND)

    @property
    def rank(self) -> tuple[bool, float, float]:
        # Where none shows every instance, the one that shows most of them comes first.
        return self.composition is not None, self.least, sum(NOT_FOUND if one is None else one for one in self.likeness)


@dataclass(frozen=True, eq=False)
class _Work:
    """All that candidates are made and compared with."""

    backbone: Backbone
    request: Request
    encoder: IdentityEncoder
    references: Sequence[NDArray[np.float32]]
    options: RunOptions

    def compose_all(self, count: int, report: Report) -> list[_Made]:
        """Make every candidate, each alone, so that it is the picture that ``compose`` makes with its seed."""
        check_identifiers(self.request, self.backbone)
        prepared = prepare_request(self.backbone, self.request, ExtrasShelf(self.backbone))
        seeds = range(prepared.scene.seed, prepared.scene.seed + count)
        scenes = [_sow(prepared, seed) for seed in seeds]
        return [
            self._compose(scene, report, f"candidate {number} of {count}") for number, scene in enumerate(scenes, 1)
        ]

    def _compose(self, scene: PreparedScene, report: Report, what: str) -> _Made:
        try:
            loop = compose_steps(self.backbone, [scene], options=engine_options(self.options))
            (composition,) = drain(loop, report, what)
        except InputError as error:
            # An instance without an area, or values that are no numbers: another seed may do better.
            return _Made(scene.scene.seed, None, problem=str(error))
        masks = composition.partition.masks[1:].float().cpu().numpy()
        places = [
            Place(item.class_word or "", _fit(mask, composition.image.shape[:2]))
            for item, mask in zip(scene.scene.instances, masks, strict=True)
        ]
        likeness = measure_likeness(self.encoder, composition.image, places, self.references)
        return _Made(scene.scene.seed, composition, likeness)

    def record(self, composition: Composition, choice: Choice | None = None) -> RunRecord:
        """Write down one candidate's run."""
        memory = self.options.get("memory", "rows")
        return record_run(composition, self.backbone, self.request.styles, choice, memory)


def _describe_all(
    encoder: IdentityEncoder, request: Request, folders: Sequence[Path], report: Report
) -> list[NDArray[np.float32]]:
    found = []
    for place, folder in enumerate(folders):
        report("reading the concepts' own pictures", place, len(folders))
        word = request.scene.instances[place].class_word or request.adapters[place].class_word
        try:
            found.append(describe_references(encoder, word, read_references(folder)))
        except InputError as error:
            raise InputError(f"{folder}: {error}") from error
    report("reading the concepts' own pictures", len(folders), len(folders))
    return found


def _choose(work: _Work, found: Sequence[_Made]) -> CandidateReport:
    best = max(found, key=lambda one: one.rank)
    candidates = tuple(
        Candidate(seed=one.seed, likeness=one.likeness, least=one.least, chosen=one is best, problem=one.problem)
        for one in found
    )
    names = tuple(
        f"{adapter.name} ({item.class_word or adapter.class_word})"
        for item, adapter in zip(work.request.scene.instances, work.request.adapters, strict=True)
    )
    return CandidateReport(encoder=work.encoder.name, instances=names, candidates=candidates)


def _write_all(folder: Path, work: _Work, found: Sequence[_Made], result: CandidateReport) -> None:
    """Write the run folder of the kept picture with all candidates in it; the record comes last."""
    make_folder(folder / CANDIDATES)
    choice = Choice(
        candidates=len(found),
        encoder=result.encoder,
        seeds=tuple(one.seed for one in found),
        likeness=tuple(one.least for one in found),
    )
    images, labels = [], []
    kept: tuple[Composition, RunRecord] | None = None
    for one, candidate in zip(found, result.candidates, strict=True):
        if one.composition is None:
            continue
        record = work.record(one.composition, choice if candidate.chosen else None)
        write_png(folder / CANDIDATES / f"{one.seed}.png", one.composition.image, write_texts(record))
        images.append(size_for_sheet(one.composition.image))
        labels.append(f"{'KEPT ' if candidate.chosen else ''}seed {one.seed}: {_say(one.likeness)}")
        kept = (one.composition, record) if candidate.chosen else kept
    write_png(folder / CANDIDATE_SHEET, contact_sheet(images, _COLUMNS, labels))
    write_file(folder / CANDIDATE_REPORT, (result.model_dump_json(indent=2) + "\n").encode())
    if kept is not None:
        write_run(folder, *kept)


def _say(likeness: Sequence[float | None]) -> str:
    return " ".join("none" if one is None else f"{one:.2f}" for one in likeness)


def _fit(mask: NDArray[np.float32], size: Sequence[int]) -> NDArray[np.float32]:
    scaled = Image.fromarray(mask).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(scaled, dtype=np.float32).clip(0, 1)


def _sow(prepared: PreparedScene, seed: int) -> PreparedScene:
    """Give a scene another seed, and the same to the picture that it keeps."""
    kept = _sow(prepared.kept, seed) if prepared.kept else None
    return replace(prepared, scene=prepared.scene.model_copy(update={"seed": seed}), kept=kept)
