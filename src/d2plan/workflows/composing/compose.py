"""Scenes in, run folders out."""

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, TypedDict, TypeVar, Unpack

from d2plan.backbone.load import Backbone, open_base, read_precision
from d2plan.documents import Scene
from d2plan.errors import InputError
from d2plan.isp.engine import EngineOptions
from d2plan.isp.loop import Progress, Run, compose_steps
from d2plan.isp.prepare import PreparedScene, prepare_scene
from d2plan.workflows.composing.provenance import record_run
from d2plan.workflows.composing.requests import (
    AdapterShelf,
    ExtrasShelf,
    Request,
    check_identifiers,
    open_request,
    read_request,
)
from d2plan.workflows.runs.folder import open_run, write_run

# What is happening, how much of it is done, and how much there is; 0 where nobody knows.
Report = Callable[[str, int, int], None]
Result = TypeVar("Result")
Memory = Literal["rows", "low", "merged"]


class RunOptions(TypedDict, total=False):
    """How a run is computed; what it shows does not change beyond rounding.

    Attributes:
        device: such as "cpu" or "cuda".
        precision: number format of U-Net and encoders, "fp32", "bf16" or "fp16"; the device decides without it.
        memory: "rows" puts all rows into one U-Net call; "low" makes a call for each; "merged" keeps a merged copy
            of the attention weights for each concept, which takes memory and saves time.
        backbone: the base when it is open already; what the scene names as its base is not looked at then.
    """

    device: str
    precision: str | None
    memory: Memory
    backbone: Backbone


def compose(
    scene: Scene | str | Path,
    out: str | Path,
    base: str | None = None,
    seed: int | None = None,
    overwrite: bool = False,
    on_progress: Report | None = None,
    **options: Unpack[RunOptions],
) -> Path:
    """Make the picture that a scene asks for.

    Args:
        scene: a scene, or the path of a scene file.
        out: the run's folder, new or empty; it gets ``image.png``, ``masks.png``, ``masks/`` and ``run.json``.
        base: replaces the scene's.
        seed: replaces the scene's.
        overwrite: replace the run that the folder holds; other files stay, and a folder without a run is refused.
        on_progress: called with (what is happening, steps done, steps in all).
        **options: see ``RunOptions``.

    Returns:
        The run's folder.

    Raises:
        InputError: the scene, an adapter, or the folder cannot be used; nothing was written.
        FileError: a file cannot be read or written.
    """
    check_options(options)
    report = on_progress or say_nothing
    request = open_request(read_request(Scene, scene, base, seed), AdapterShelf())
    with open_run(out, overwrite) as folder:
        backbone = open_scenes_base([request.scene], report, options)
        (composition,) = drain(run_requests(backbone, [request], options), report)
        memory = options.get("memory", "rows")
        write_run(folder, composition, record_run(composition, backbone, request.styles, memory=memory))
    return Path(os.path.expanduser(out))


def compose_all(
    scenes: Sequence[Scene | str | Path],
    outs: Sequence[str | Path],
    base: str | None = None,
    seed: int | None = None,
    overwrite: bool = False,
    on_progress: Report | None = None,
    backbone: Backbone | None = None,
) -> list[Path]:
    """Make the pictures of many scenes of one base, those that are alike together in one U-Net batch.

    Everything is checked before anything is computed. A batch rounds otherwise than one picture alone, so the bytes
    of a picture may depend on what was composed with it; ``compose`` gives the same ones each time.

    Args:
        scenes: scenes, or paths of scene files.
        outs: one run folder a scene.
        base: replaces that of every scene.
        seed: replaces that of every scene.
        overwrite: replace the runs that the folders hold, as ``compose`` does.
        on_progress: called with (what is happening, steps done, steps in all).
        backbone: the base when it is open already; ``base`` does not matter then.

    Returns:
        The run folders.

    Raises:
        InputError: a scene, an adapter or a folder cannot be used, or the scenes are of several bases.
        FileError: a file cannot be read or written.
    """
    if len(scenes) != len(outs) or len({Path(out).resolve() for out in outs}) != len(outs):
        raise InputError(f"{len(scenes)} scenes need as many different output folders, not {len(set(outs))}.")
    report = on_progress or say_nothing
    shelf = AdapterShelf()
    with ExitStack() as runs:
        wanted = [read_request(Scene, scene, base, seed) for scene in scenes]
        folders = [runs.enter_context(open_run(out, overwrite)) for out in outs]
        requests = [open_request(scene, shelf) for scene in wanted]
        backbone = backbone or open_scenes_base(wanted, report)
        found = drain(run_requests(backbone, requests), report)
        for folder, request, composition in zip(folders, requests, found, strict=True):
            write_run(folder, composition, record_run(composition, backbone, request.styles))
    return [Path(os.path.expanduser(out)) for out in outs]


def check_options(options: RunOptions) -> None:
    """Refuse options that are none.

    Args:
        options: as given.

    Raises:
        InputError: a name or a value is unknown.
    """
    unknown = sorted(options.keys() - RunOptions.__annotations__)
    if unknown:
        raise InputError(f"{unknown[0]} is no option; use {', '.join(RunOptions.__annotations__)}.")
    if options.get("memory", "rows") not in ("rows", "low", "merged"):
        raise InputError(f'memory is "{options["memory"]}", but must be rows, low or merged.')
    if (precision := options.get("precision")) is not None:
        read_precision(precision, "precision")


def choose_memory(low: bool, merged: bool) -> Memory:
    """Say how to run by two wishes that exclude each other.

    Args:
        low: as little memory as possible.
        merged: as fast as possible.

    Returns:
        The memory option.

    Raises:
        InputError: both were given.
    """
    if low and merged:
        raise InputError("--low-memory and --merged exclude each other; give one of them.")
    return "low" if low else "merged" if merged else "rows"


def run_requests(backbone: Backbone, requests: Sequence[Request], options: RunOptions | None = None) -> Run:
    """Check requests against their base, encode their prompts, and give the loop that composes them.

    Args:
        backbone: the base.
        requests: from ``open_request``.
        options: how to run.

    Returns:
        The loop, with one composition a request at its end.

    Raises:
        InputError: a request cannot be composed on this base.
    """
    shelf = ExtrasShelf(backbone)
    for request in requests:
        check_identifiers(request, backbone)
    prepared = [prepare_request(backbone, request, shelf) for request in requests]
    return compose_steps(backbone, prepared, options=engine_options(options or {}))


def prepare_request(backbone: Backbone, request: Request, shelf: ExtrasShelf) -> PreparedScene:
    """Encode a request's prompts, and open what it names.

    Args:
        backbone: the base.
        request: from ``open_request``.
        shelf: keeps what was opened.

    Returns:
        What the loop takes.
    """
    kept = shelf.prepare_kept(request)
    # Its warm-up may hang on the classes in it, and a variant begins as its picture did.
    scene = request.scene.model_copy(update={"warmup": kept.scene.warmup}) if kept else request.scene
    return prepare_scene(backbone, scene, request.adapters, extras=shelf.open(request), kept=kept)


def engine_options(options: RunOptions) -> EngineOptions:
    """Give the engine's part of the options.

    Args:
        options: how to run.

    Returns:
        How the U-Net is run.
    """
    return EngineOptions(options.get("memory", "rows"))


def drain(run: Generator[Progress, None, Result], report: Report, what: str = "composing") -> Result:
    """Run a loop to its end.

    Args:
        run: from ``compose_steps`` or ``warm_up_steps``.
        report: called after each step.
        what: how the display calls it.

    Returns:
        What the loop gives.
    """
    while True:
        try:
            step = next(run)
        except StopIteration as end:
            return end.value
        report(what, step.step, step.total)


def open_scenes_base(scenes: Sequence[Scene], report: Report, options: RunOptions | None = None) -> Backbone:
    """Open the base that all scenes name.

    Args:
        scenes: at least one.
        report: is told when it begins and ends.
        options: where to put it.

    Returns:
        The base.

    Raises:
        InputError: they name several, or one that cannot be opened, or the one that is open has another precision.
        FileError: its files cannot be read.
    """
    options = options or {}
    asked = options.get("precision")
    if "backbone" in options:
        return open_base(options["backbone"], precision=asked)
    bases = sorted({scene.base for scene in scenes})
    if len(bases) != 1:
        raise InputError(f"The scenes are of {len(bases)} bases ({', '.join(bases)}); compose those of one at a time.")
    report("opening the base", 0, 1)
    backbone = open_base(os.path.expanduser(bases[0]), options.get("device", "cpu"), asked)
    report("opening the base", 1, 1)
    return backbone


def say_nothing(what: str, done: int, total: int) -> None:
    """Take no note of progress."""
    del what, done, total
