"""The demo: two characters that the base has never seen, learnt live, composed, judged, and shown on a page."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

import torch
import yaml

from d2plan.adapter.file import load_adapter, save_adapter
from d2plan.backbone.load import Backbone, find_base, load_backbone
from d2plan.config import load_defaults
from d2plan.errors import D2PlanError, FileError, InputError
from d2plan.etp.plan import EventPlan
from d2plan.eval.judge import load_judge
from d2plan.media.images import write_file
from d2plan.workflows.composing.compose import compose_all
from d2plan.workflows.demo.gallery import (
    ADAPTERS,
    CONCEPTS,
    FILM,
    PICTURES,
    SCENES,
    SCORES,
    Facts,
    Film,
    Gallery,
    Scored,
    Trained,
)
from d2plan.workflows.demo.page import write_page, write_sheet
from d2plan.workflows.demo.scenes import (
    CHARACTERS,
    Character,
    Row,
    Shot,
    choose_characters,
    choose_guests,
    plan_gallery,
    tell_film,
)
from d2plan.workflows.filming.keyframes import tell_beat
from d2plan.workflows.filming.video import VideoOptions, make_video
from d2plan.workflows.runs.film import read_film
from d2plan.workflows.runs.folder import IMAGE, check_out
from d2plan.workflows.runs.timetable import Timetable
from d2plan.workflows.scoring.score import score_runs
from d2plan.workflows.training.train import train_concept
from d2plan.world.folders import write_concept

Report = Callable[[str, int, int], None]
TITLE = "whole demo (seconds)"
# What train_concept calls its steps; the rest of what it tells takes no time here.
TRAINING = "training"
# Seconds on two cores; only the time that is said to be left hangs on them.
_DRAW, _TRAIN, _COMPOSE, _SCORE, _FILM, _SHOW = 3.0, 60.0, 50.0, 10.0, 40.0, 3.0
_MOST_SEED = 10**9
# Of the film, from one moment to the next.
_FRAMES = 12
_GUESTS = Path(str(files("d2plan"))) / "assets" / "demo"


@dataclass(frozen=True)
class DemoRequest:
    """All that decides what a demo shows.

    Attributes:
        characters: two of "class" or "class:seed".
        base: "mini", or a folder in the diffusers SDXL layout.
        seed: of the training and of the noise; also of a character that names none.
        steps: of each training; None takes the base's own.
        overwrite: replace what lies in the folder.
    """

    characters: tuple[str, ...] = CHARACTERS
    base: str = "mini"
    seed: int = 0
    steps: int | None = None
    overwrite: bool = False


def check_request(request: DemoRequest) -> tuple[Character, Character]:
    """Find mistakes before anything is written or opened.

    Args:
        request: what to show.

    Returns:
        The characters.

    Raises:
        InputError: a character, the seed or the base cannot be used.
        FileError: the embedded base is missing.
    """
    if not 0 <= request.seed <= _MOST_SEED:
        raise InputError(f"seed is {request.seed}, but must be 0..{_MOST_SEED}.")
    defaults = load_defaults(find_base(request.base))
    return choose_characters(request.characters, defaults.identifiers, request.seed)


def run_demo(request: DemoRequest, folder: Path, report: Report | None = None, judge: Path | None = None) -> Path:
    """Run the demo.

    What is finished lies in the folder at any time: concept folders, adapters, scenes, composed pictures, scores, and
    at last the sheet and the page.

    Args:
        request: what to show.
        folder: where to; made by ``make_demo_folder``.
        report: is told what is happening, for each stage and for the whole.
        judge: folder of its networks; None takes the package's. Without networks the page tells why there are no
            scores.

    Returns:
        The page's path.

    Raises:
        InputError: a character or the base cannot be used.
        FileError: something cannot be read or written.
    """
    live = check_request(request)
    backbone = load_backbone(request.base)
    guests = _find_guests(backbone, live)
    characters = (*live, *guests)
    stages = _name_stages(live)
    train = _TRAIN * (request.steps or backbone.defaults.train_steps) / backbone.defaults.train_steps
    planned = (_DRAW, train, train, _COMPOSE, _SCORE, _FILM, _SHOW)
    table = Timetable(TITLE, dict(zip(stages, planned, strict=True)), report or _ignore)
    _draw_concepts(characters, folder, request, table.start(stages[0]))
    trained = {
        who.name: _learn(backbone, who, folder, request, table.start(stage))
        for stage, who in zip(stages[1:3], live, strict=True)
    }
    for who, adapter in guests.items():
        bring_guest(who, adapter, folder / ADAPTERS)
    # Scene files lie in a folder of their own, and name the adapters from there.
    adapters = [Path("..") / ADAPTERS / f"{who.stem}.safetensors" for who in characters]
    rows = plan_gallery(characters, adapters, _name_base(request.base), request.seed)
    _compose_rows(backbone, rows, folder, request, table.start(stages[3]))
    scored = _judge(characters, rows, folder, judge, table.start(stages[4]))
    film = _film(tell_film(characters), folder, request, table.start(stages[5]))
    show = table.start(stages[6])
    show("", 0, 1)
    facts = Facts(
        made=time.strftime("%Y-%m-%d %H:%M"),
        base=backbone.name,
        fingerprint=backbone.fingerprint,
        seed=request.seed,
        machine=_describe_machine(),
        seconds=table.elapsed(),
        stages={name: table.taken[name] for name in stages[:6]},
    )
    gallery = Gallery(folder, characters, rows, facts, trained, scored, film)
    write_sheet(gallery)
    page = write_page(gallery)
    show("", 1, 1)
    table.finish()
    return page


def make_demo_folder(out: Path | None, overwrite: bool = False) -> Path:
    """Make the folder that a demo writes into, and find out that it can be written.

    Args:
        out: None makes a new one, ``runs/demo-<date>-<time>`` below the current folder.
        overwrite: allow a folder that is not empty.

    Returns:
        The folder.

    Raises:
        InputError: it is not empty and ``overwrite`` is off.
        FileError: it cannot be written.
    """
    folder = Path(os.path.expanduser(out)) if out is not None else _name_folder(Path("runs"))
    check_out(folder, overwrite)
    try:
        for name in (CONCEPTS, ADAPTERS, SCENES, PICTURES):
            (folder / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{folder}: cannot be written ({error.strerror or error}); choose another --out.") from error
    return folder


def _name_folder(parent: Path) -> Path:
    stamp = time.strftime("demo-%Y%m%d-%H%M%S")
    names = (stamp, *(f"{stamp}-{number}" for number in range(2, 100)))
    return next(parent / name for name in names if not (parent / name).exists())


def _name_stages(characters: tuple[Character, Character]) -> list[str]:
    learning = [f"learning {who.name}" for who in characters]
    return ["drawing references", *learning, "composing", "judging", "filming", "the page"]


def _find_guests(backbone: Backbone, live: Sequence[Character]) -> dict[Character, Path]:
    """Find the adapters that come with the package, as far as they are of this base and nobody else has their name."""
    names = {who.name for who in live}
    guests = [who for who in choose_guests(backbone.defaults.identifiers) if who.name not in names]
    found = {who: _GUESTS / f"{who.stem}.safetensors" for who in guests}
    return {
        who: path
        for who, path in found.items()
        if path.is_file() and load_adapter(path).base_fingerprint == backbone.fingerprint
    }


def bring_guest(who: Character, source: Path, folder: Path) -> Path:
    """Copy the adapter of one who was learnt before, named as the page, the masks and the judge call it.

    Args:
        who: the guest.
        source: its adapter's file.
        folder: where to.

    Returns:
        The copy.

    Raises:
        FileError: it cannot be read or written.
    """
    target = folder / f"{who.stem}.safetensors"
    save_adapter(target, replace(load_adapter(source), name=who.name))
    return target


def _name_base(base: str) -> str:
    """Give a base's name as scene files in another folder need it."""
    folder = Path(os.path.expanduser(base))
    return str(folder.resolve()) if folder.is_dir() else base


def _draw_concepts(characters: Sequence[Character], folder: Path, request: DemoRequest, report: Report) -> None:
    for number, who in enumerate(characters):
        report("", number, len(characters))
        write_concept(folder / CONCEPTS / who.stem, who.class_word, who.seed, overwrite=request.overwrite)
    report("", len(characters), len(characters))


def _learn(backbone: Backbone, who: Character, folder: Path, request: DemoRequest, report: Report) -> Trained:
    begun = time.perf_counter()

    def report_training(what: str, done: int, total: int) -> None:
        if what == TRAINING:
            report("", done, total)

    adapter = train_concept(
        folder / CONCEPTS / who.stem,
        folder / ADAPTERS / f"{who.stem}.safetensors",
        who.class_word,
        who.identifier,
        base=backbone,
        seed=request.seed,
        on_progress=report_training,
        name=who.name,
        overwrite=request.overwrite,
        steps=request.steps or backbone.defaults.train_steps,
    )
    return Trained(time.perf_counter() - begun, request.steps or backbone.defaults.train_steps, adapter.stat().st_size)


def _compose_rows(backbone: Backbone, rows: Sequence[Row], folder: Path, request: DemoRequest, report: Report) -> None:
    """Compose row by row, each row in one batch: when somebody stops the demo, whole rows are there."""
    for number, row in enumerate(rows):
        files = [_write_scene(shot, folder / SCENES) for shot in row.shots]
        outs = [folder / PICTURES / shot.name for shot in row.shots]

        def report_row(what: str, done: int, total: int, number: int = number) -> None:
            if total > 1:
                report("", number * total + done, len(rows) * total)

        compose_all(files, outs, overwrite=request.overwrite, on_progress=report_row, backbone=backbone)


def _write_scene(shot: Shot, folder: Path) -> Path:
    content = shot.scene.model_dump(mode="json", exclude_defaults=True)
    target = folder / f"{shot.name}.yaml"
    write_file(target, yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000).encode())
    return target


def _judge(
    characters: Sequence[Character], rows: Sequence[Row], folder: Path, judge: Path | None, report: Report
) -> Scored:
    shots = [shot.name for row in rows for shot in row.shots]
    report("", 0, len(shots))
    try:
        table = score_runs(
            [folder / PICTURES / name for name in shots],
            {who.name: folder / CONCEPTS / who.stem for who in characters},
            load_judge(judge),
            out=folder / SCORES,
            report=lambda what, done, total: report("", done, total),
        )
    except D2PlanError as error:
        # The pictures cost minutes and stand on their own; a judge that cannot work must not lose them.
        return Scored(trouble=f"These pictures were not scored: {error}")
    return Scored({score.picture: score for score in table.scores})


def _film(story: str, folder: Path, request: DemoRequest, report: Report) -> Film:
    base = _name_base(request.base)
    options = VideoOptions(folder / ADAPTERS, base=base, frames=_FRAMES, seed=request.seed, overwrite=True)
    plans: list[EventPlan] = []
    try:
        made = make_video(story, folder / FILM, options, report, lambda plan, _: plans.append(plan))
        parts = read_film(made.folder)
    except D2PlanError as error:
        # As with the judge: another base has no video network, and its pictures are worth having.
        return Film(trouble=f"No film was made: {error}", story=story)
    pictures = [place / IMAGE for place in (parts.keyframes if parts else ())]
    beats = tuple((path, tell_beat(plans[0], index)) for index, path in enumerate(pictures))
    return Film(made.video, made.page, story=story, beats=beats)


def _describe_machine() -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"{platform.machine()}, {cores} core{'s' * (cores > 1)}, torch {torch.__version__.partition('+')[0]}"


def _ignore(what: str, done: int, total: int) -> None:
    del what, done, total
