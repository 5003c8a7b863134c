"""Learn a concept: a folder of pictures in, an adapter file out."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Unpack

import torch

from d2plan.adapter.file import SUFFIX, Adapter, read_metadata, save_adapter
from d2plan.adapter.sidecar import SIDECAR_SUFFIX, write_sidecar
from d2plan.adapter.words import read_settings
from d2plan.backbone.load import Backbone, find_base, open_base, read_precision
from d2plan.backbone.text import unknown_words
from d2plan.config import DisLoRASettings, load_defaults
from d2plan.dislora.checkpoint import last_step
from d2plan.dislora.data import DEFAULT_TEMPLATE, ConceptData, read_concept_folder, read_concept_words
from d2plan.dislora.processes import Processes, open_processes
from d2plan.dislora.prompts import fill_template
from d2plan.dislora.request import TrainRequest, describe_request
from d2plan.dislora.train import Keeping, StepReport, train_steps
from d2plan.errors import InputError
from d2plan.fields import is_reserved
from d2plan.media.images import Picture, check_output, fit_image, make_folder, write_file, write_png
from d2plan.media.png_text import hash_file
from d2plan.workflows.training.board import open_board
from d2plan.workflows.training.folder import (
    LOG_FILE,
    PREVIEW_FOLDER,
    TrainingLog,
    check_work,
    is_marked,
    mark_finished,
    open_work,
    stop_gently,
    work_folder,
)
from d2plan.workflows.training.options import (
    TrainOptions,
    check_options,
    choose_buckets,
    make_request,
)
from d2plan.workflows.training.previews import Previews
from d2plan.workflows.training.words import share_identifiers

Report = Callable[[str, int, int], None]

LOG_SUFFIX, THUMBNAIL_SUFFIX, PREVIEW_SUFFIX = ".log.jsonl", ".png", ".preview.png"
THUMBNAIL_SIDE = 256
CHECKPOINT_EVERY = 100
_STOPPING = "stopping after what runs now (at once: Ctrl-C again)"


def train_concept(
    folder: str | Path,
    out: str | Path,
    class_word: str | None = None,
    identifier: str | None = None,
    base: str | Path | Backbone = "mini",
    seed: int = 0,
    on_progress: Report | None = None,
    **options: Unpack[TrainOptions],
) -> Path:
    """Learn a concept from a folder of pictures and write its adapter.

    Beside the adapter ``rex.safetensors`` appear ``rex.json`` and ``rex.png`` (what other programs show),
    ``rex.log.jsonl`` (the request, then a line a step) and, if asked for, ``rex.preview.png``; all of them when the
    training has ended. While it runs, its state lies in ``rex.train``; after a stop it goes on from there.

    Args:
        folder: the pictures, with captions, masks and ``concept.yaml`` if there are any.
        out: the adapter's file, ending in ".safetensors"; its folder is made if it is missing.
        class_word: what kind of thing it is; without it what ``concept.yaml`` says.
        identifier: the word that shall name it; without it what ``concept.yaml`` says, else the base's first that no
            adapter beside ``out`` has. A training that goes on keeps its own.
        base: "mini", a folder in the diffusers SDXL layout, a downloaded model's hub id, or one that is open already.
        seed: of all that is random.
        on_progress: is told what is happening: a text, how much is done, and how much there is.
        **options: see ``TrainOptions``.

    Returns:
        The adapter's path.

    Raises:
        InputError: a word, number or option cannot be used.
        FileError: the folder or a file cannot be read, or ``out`` exists or cannot be written, or another training
            is at work on it.
        KeyboardInterrupt: somebody asked to stop; what was learnt is saved.
    """
    options = check_options(options, seed)
    together = open_processes(base.device.type if isinstance(base, Backbone) else options.get("device", "cpu"))
    target = Path(os.path.expanduser(out))
    resume = options.get("resume", False) or options.get("resume_changed", False)
    # Where another process writes the files, they may be there already.
    finals = check_target(target, options if together.leads else {**options, "overwrite": True})
    check_place(target, folder, options, together.leads)
    words = read_concept_words(folder)
    defaults = base.defaults if isinstance(base, Backbone) else load_defaults(find_base(base))
    named = identifier or words.identifier
    (chosen,) = share_identifiers([named], [target], defaults.identifiers, resume)
    given = replace(words, class_word=class_word or words.class_word, identifier=chosen)
    request = make_request(given, target.stem, defaults, seed, options)
    note = options.get("on_note", _ignore) if together.leads else _ignore
    report = on_progress if on_progress is not None and together.leads else _ignore
    report("opening the base", 0, 1)
    backbone = open_base(base, together.device, options.get("precision"))
    report("opening the base", 1, 1)
    data = read_concept_folder(folder, *backbone.size, choose_buckets(backbone, options))
    task = Task(backbone, data, request, work_folder(target), together, report, options)
    if resume and target.exists() and is_finished(task, target, finals):
        note(f"{target} is finished already; nothing was done.")
        return target
    make_folder(target.parent)
    with ExitStack() as stack:
        if together.leads:
            keep, overwrite = options.get("keep_checkpoints", False), options.get("overwrite", False)
            stack.enter_context(open_work(task.place, resume, overwrite, keep))
        if resume and not last_step(task.place):
            note("nothing to go on from; beginning anew")
        unknown = _warn_of_words(backbone, f"{request.choices.class_word} {request.choices.template or ''}")
        for text in (*data.report.lines(), *unknown):
            note(text)
        if named is None:
            note(f"its identifier is {chosen}, as in a photo of a {chosen} {request.choices.class_word}")
        _learn(task, target, finals, [*data.notes, *unknown])
        # Before the checkpoints go: a process that is late goes on from them.
        together.wait()
    return target


@dataclass(frozen=True, eq=False)
class Task:
    """A training with all that belongs to it."""

    backbone: Backbone
    data: ConceptData
    request: TrainRequest
    place: Path
    together: Processes
    report: Report
    options: TrainOptions

    def note(self, text: str) -> None:
        """Tell the person something, once for all processes."""
        if self.together.leads:
            self.options.get("on_note", _ignore)(text)

    def settings(self) -> dict[str, str]:
        """What the training adds to the request's own settings in the adapter's header."""
        height, width = self.backbone.size
        return {
            "base": self.backbone.name,
            "pictures": str(len(self.data.names)),
            "pictures_fingerprint": self.data.fingerprint,
            "precision": self.backbone.dtype_name,
            "file_precision": self.options.get("file_precision", "fp32"),
            "resolution": f"{width}x{height}",
            "prediction_type": self.backbone.scheduler.config.prediction_type,
        }


def is_finished(task: Task, target: Path, finals: Mapping[str, Path]) -> bool:
    """Say whether an adapter that is there is what a training to be resumed gives.

    Args:
        task: the training.
        target: the adapter's file.
        finals: the files beside it.

    Returns:
        False where there are checkpoints to go on from, if only to the files, or where it may be replaced.

    Raises:
        InputError: it is of another training, there is nothing to go on from, and nobody said to replace it.
        AdapterError: it cannot be read.
    """
    step = last_step(task.place)
    ended = step == task.request.settings.steps and is_marked(task.place, hash_file(target))
    if step and not ended:
        return False
    told = _compare(task, target)
    if PREVIEW_SUFFIX in finals and not finals[PREVIEW_SUFFIX].is_file():
        told.append("it has no previews")
    if told and not step and not task.options.get("overwrite"):
        raise InputError(
            f"{target} is finished already, and {', '.join(told[:3])}; name another out, learn anew with overwrite, or "
            "go on from checkpoints, which keep_checkpoints keeps."
        )
    return not told


def _compare(task: Task, target: Path) -> list[str]:
    """List how an adapter was not learnt as is asked for now."""
    header = read_metadata(target)
    found = read_settings(target, header.get("d2plan.settings", "{}"))
    if not found:
        return ["no training of d2plan wrote it"]
    told = []
    if header.get("d2plan.base_fingerprint") != task.backbone.fingerprint:
        told.append("it was learnt on another base")
    if found.get("pictures_fingerprint", task.data.fingerprint) != task.data.fingerprint:
        told.append("it was learnt from other pictures")
    # What was no setting yet when it was written had its default.
    usual = {name: str(value) for name, value in asdict(DisLoRASettings()).items()}
    wanted = describe_request(task.request)
    made = {name: value for name, value in task.settings().items() if name in ("precision", "file_precision")}
    there = {**usual, **made, **found, "name": header.get("d2plan.name")}
    here = {"template": None, **wanted, **made, "name": task.request.name}
    differing = [name for name in here if there.get(name) != here[name]]
    return told + [f"{name} is {there.get(name)} there and {here[name]} here" for name in differing]


def check_place(target: Path, folder: str | Path, options: TrainOptions, leads: bool) -> None:
    """Refuse an adapter's place among its pictures, or where its training's folder cannot be had.

    Args:
        target: the adapter's file.
        folder: the pictures.
        options: "resume" goes on from a stopped training, "overwrite" forgets it.
        leads: this process writes the files.

    Raises:
        InputError: the adapter's thumbnail would be one of the pictures.
        FileError: another training holds the folder, a stopped one lies there, or something else.
    """
    if target.parent.resolve() == Path(folder).resolve():
        raise InputError(
            f"out: {target} lies among the pictures, where its thumbnail would be one; name another folder."
        )
    resume = options.get("resume", False) or options.get("resume_changed", False)
    if leads:
        check_work(work_folder(target), resume, options.get("overwrite", False))


def check_target(target: Path, options: TrainOptions) -> dict[str, Path]:
    """Refuse an adapter's name before any work is done for it.

    Args:
        target: the adapter's file.
        options: "overwrite" lets files be there; "resume" does where a training or an adapter is there, whose they are.

    Returns:
        The files that appear beside it, by what is appended to its name.

    Raises:
        InputError: it does not end in ".safetensors".
        FileError: a file is there already, or cannot be written.
    """
    if target.suffix != SUFFIX or not target.stem:
        raise InputError(f"out is {target}; name the adapter's file, ending in {SUFFIX}, such as rex{SUFFIX}.")
    if is_reserved(target.stem):
        raise InputError(f"out is {target}; no file can have this name on Windows, so choose another.")
    previews = options.get("preview") or options.get("preview_every")
    beside = [LOG_SUFFIX, THUMBNAIL_SUFFIX, SIDECAR_SUFFIX] + ([PREVIEW_SUFFIX] if previews else [])
    finals = {ending: target.with_name(target.stem + ending) for ending in beside}
    resume = options.get("resume") or options.get("resume_changed")
    ours = resume and (target.exists() or last_step(work_folder(target)) > 0)
    for path in (target, *finals.values()):
        check_output(path, bool(ours or options.get("overwrite")))
    return finals


def _warn_of_words(backbone: Backbone, text: str) -> list[str]:
    return [
        f'the base has never seen the word "{word}"' + (f"; known words like it: {', '.join(near)}" if near else "")
        for word, near in unknown_words(text, backbone)
    ]


def _learn(task: Task, target: Path, finals: dict[str, Path], notes: list[str]) -> None:
    adapter, log = _train(task, notes)
    if not task.together.leads:
        return
    settings = {**adapter.settings, **task.settings()}
    dtype = read_precision(task.options.get("file_precision", "fp32"), "file_precision")
    adapter = _convert(replace(adapter, settings=settings), dtype)
    write_file(finals[LOG_SUFFIX], log.content(task.request.settings.steps))
    write_png(finals[THUMBNAIL_SUFFIX], _make_thumbnail(task.data))
    if PREVIEW_SUFFIX in finals:
        write_png(finals[PREVIEW_SUFFIX], _make_previews(task).sheet(task.request.settings.steps))
    elif task.options.get("overwrite"):
        # It shows the adapter that is replaced.
        target.with_name(target.stem + PREVIEW_SUFFIX).unlink(missing_ok=True)
    write_sidecar(target, adapter)
    # The adapter comes last: where it is, everything that belongs to it is complete.
    mark_finished(task.place, save_adapter(target, adapter).sha256)


def _train(task: Task, notes: list[str]) -> tuple[Adapter, TrainingLog]:
    options, request = task.options, task.request
    settings = {**asdict(request.choices), **asdict(request.settings), "seed": request.seed, **task.settings()}
    head: dict[str, object] = {
        "name": request.name,
        "settings": settings,
        "data": task.data.report.record(),
        "notes": notes,
    }
    log, previews = TrainingLog(task.place / LOG_FILE, head), _make_previews(task)
    on_step = options.get("on_step", _ignore)

    def write(done: StepReport) -> None:
        row = {key: round(value, 6) for key, value in asdict(done).items()}
        for book in (log, board) if task.together.leads else ():
            book.add(row)

    def draw(step: int) -> None:
        # A stop may have come between the checkpoint and the pictures of its step.
        if task.together.leads and _is_drawn(task, step) and not previews.has(step):
            previews.draw(step)

    with _until_stopped(task) as stop, open_board(options.get("tensorboard"), task.together) as board:
        keeping = Keeping(
            task.place,
            options.get("checkpoint_every", CHECKPOINT_EVERY),
            "any" if options.get("resume_changed") else "same" if options.get("resume") else "no",
            stop,
            task.note,
            draw,
            write,
        )
        steps = train_steps(task.backbone, task.data, request, keeping, task.together, task.report)
        if options.get("preview_every") and task.together.leads and not last_step(task.place):
            previews.draw(0)
        task.report("training", last_step(task.place), request.settings.steps)
        # Closing takes the adapter off the base also when the person stops the training.
        with closing(steps):
            while True:
                try:
                    done = next(steps)
                except StopIteration as end:
                    return end.value, log
                if task.together.leads:
                    task.report("training", done.step, done.total)
                    if _is_drawn(task, done.step):
                        previews.draw(done.step)
                    to_come = sum(_is_drawn(task, step) for step in range(done.step + 1, done.total + 1))
                    on_step(replace(done, seconds_left=done.seconds_left + to_come * previews.seconds))


def _is_drawn(task: Task, step: int) -> bool:
    every, last = task.options.get("preview_every", 0), step == task.request.settings.steps
    return bool((every and step % every == 0) or (last and (every or task.options.get("preview"))))


@contextmanager
def _until_stopped(task: Task) -> Iterator[Callable[[], bool]]:
    try:
        with stop_gently(lambda: task.note(_STOPPING)) as stop:
            yield stop
    except KeyboardInterrupt:
        step = last_step(task.place)
        if step:
            task.note(f"stopped after step {step} of {task.request.settings.steps}; go on with --resume")
        raise


def _make_previews(task: Task) -> Previews:
    choices = task.request.choices
    template = choices.template or DEFAULT_TEMPLATE
    prompt = fill_template(template, choices.class_word, choices.identifier).joint_form
    return Previews(task.backbone, task.request, prompt, task.place / PREVIEW_FOLDER, task.report)


def _make_thumbnail(data: ConceptData) -> Picture:
    height, width = data.images[0].shape[:2]
    factor = min(1.0, THUMBNAIL_SIDE / max(height, width))
    return fit_image(data.images[0], round(height * factor), round(width * factor))


def _convert(adapter: Adapter, dtype: torch.dtype) -> Adapter:
    deltas = {
        path: delta._replace(down=delta.down.to(dtype), up=delta.up.to(dtype)) for path, delta in adapter.deltas.items()
    }
    return replace(adapter, deltas=deltas)


def _ignore(*_: object) -> None:
    """Nobody asked to be told."""
