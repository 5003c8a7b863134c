"""Run a benchmark: methods side by side on a suite, or the ablation of ours, into a folder that can be gone on with."""

from __future__ import annotations

import os
import shutil
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from d2plan.bench.ablation import VARIANTS, open_variant
from d2plan.bench.guard import Stopped
from d2plan.bench.prepare import check_folder
from d2plan.bench.protocol import Method
from d2plan.bench.records import Kind, Results
from d2plan.bench.registry import METHODS, open_method
from d2plan.bench.report.page import write_report
from d2plan.bench.runner import Step
from d2plan.bench.shared.settings import list_names
from d2plan.bench.store import Store
from d2plan.bench.suites import LoadedSuite, load_suite
from d2plan.dislora.checkpoint import lock_folder
from d2plan.errors import D2PlanError, FileError, InputError
from d2plan.workflows.benching.panel import open_panel
from d2plan.workflows.benching.processes import lead
from d2plan.workflows.benching.session import BenchRequest as BenchRequest
from d2plan.workflows.benching.session import Session
from d2plan.workflows.benching.stopping import Stop
from d2plan.workflows.runs.timetable import Report, Timetable

TITLE, WRITING, ALL = "benchmark", "writing results and report", "all"
# The remedy stands first: a narrow terminal cuts the end off.
_STOPPING = "stopping after this (at once: Ctrl-C again): "


@dataclass(frozen=True)
class BenchOutcome:
    """What a benchmark left.

    Attributes:
        results: all of it; also in ``path``.
        path: ``results.json``.
        page: the report.
        stopped: somebody stopped it; the same request goes on, without ``redo``.
    """

    results: Results
    path: Path
    page: Path
    stopped: bool


def run_bench(request: BenchRequest, out: str | Path, on_progress: Report | None = None) -> BenchOutcome:
    """Run a benchmark, or go on with one.

    Ctrl-C ends it within a step of whatever runs; what is finished stays, what was under way begins anew when the same
    request goes on. A method that fails somewhere is reported, and the rest goes on.

    Args:
        request: what to do.
        out: the results' folder; new, empty, or one of the same suite and base.
        on_progress: is told what is happening, and of ``TITLE`` the seconds that passed and those it takes in all.

    Returns:
        What there is.

    Raises:
        FileError: a file cannot be read or written.
        InputError: something in the request cannot be used, or the folder holds results of something else.
        MissingExtraError: an encoder needs an extra that is not installed.
    """
    root = Path(os.path.expanduser(out))
    report, stop = on_progress or _ignore, Stop()
    check_folder(root)
    methods, session = _prepare(request, Store(root), stop)
    with _own(root):
        session.open(methods, _opener(request.kind))
        try:
            stopped = _work(session, methods, report, stop)
        except D2PlanError:
            with suppress(D2PlanError):  # such as a full disk
                session.write()
                write_report(root)
            raise
        report(WRITING, 0, 0)
        results, path = session.write()
        page = write_report(root).page
    return BenchOutcome(results, path, page, stopped)


def _prepare(
    request: BenchRequest, store: Store, asked: Callable[[], bool], leads: bool = True
) -> tuple[dict[str, Method], Session]:
    loaded = load_suite(request.suite)
    methods = open_methods(request, loaded)
    tuning = load_suite(request.tuning) if request.tune else None
    panel = open_panel(request.panel, [loaded] + ([tuning] if tuning is not None else []), request.device)
    return methods, Session(request, loaded, tuning, panel, store, asked, leads)


def open_methods(request: BenchRequest, loaded: LoadedSuite) -> dict[str, Method]:
    """Open the methods that compete.

    Args:
        request: what was asked for.
        loaded: the suite.

    Returns:
        Name to method, in order; the whole method leads an ablation, because the others are compared with it.

    Raises:
        InputError: one of them does not exist, or one that the suite names, or no method knows a name in the suite's
            settings; or an ablation was to be tuned.
    """
    ablation = request.kind == "ablation"
    if ablation and request.tune:
        raise InputError("--tune: an ablation is not tuned, it takes the settings of isp-dislora; leave it out.")
    known = tuple(VARIANTS if ablation else METHODS)
    _check_names(f"{loaded.source}: methods", loaded.suite.methods, (ALL, *METHODS))
    _check_names("methods", request.methods, (ALL, *known))
    _check_names("--redo", request.redo, known)
    asked = request.methods or (() if ablation else loaded.suite.methods) or (ALL,)
    names = known if ALL in asked else asked
    ordered = dict.fromkeys((known[0], *names) if ablation else names)
    for name in request.redo:
        if name not in ordered:
            raise InputError(f"--redo: {name} is none of the methods of this call; name it in --methods, too.")
    methods = {name: _opener(request.kind)(name) for name in ordered}
    _check_settings(loaded, methods)
    return methods


def _check_names(where: str, names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            remedy = f"did you mean {near[0]}?" if near else f"choose from {', '.join(known)}."
            raise InputError(f"{where}: there is no '{name}'; {remedy}")


def _check_settings(loaded: LoadedSuite, methods: Mapping[str, Method]) -> None:
    """Refuse a name in a suite's settings that is for none of the methods, those that do not compete now included."""
    own = {name: list_names(method) for name, method in methods.items()}
    for name in loaded.suite.settings:
        if any(name in names for names in own.values()):
            continue
        if not any(name in list_names(open_method(other)) for other in METHODS):
            raise InputError(f"{loaded.source}: settings: no method has '{name}'; {_suggest(name, own)}")


def _suggest(name: str, own: Mapping[str, Sequence[str]]) -> str:
    near = {method: found[0] for method, names in own.items() if (found := get_close_matches(name, names, n=1))}
    if near:
        by_name = {found: [method for method in near if near[method] == found] for found in near.values()}
        told = (f"{found} (of {', '.join(users)})" for found, users in by_name.items())
        return f"did you mean {' or '.join(told)}?"
    return "; ".join(f"{method} takes {', '.join(names)}" for method, names in own.items()) + "."


def _opener(kind: Kind) -> Callable[[str], Method]:
    if kind == "ablation":
        return open_variant
    return open_method


def _work(session: Session, methods: Mapping[str, Method], report: Report, stop: Stop) -> bool:
    """Do all that is left; gives whether somebody stopped it."""
    last = ("opening", 0, 0)

    def say(what: str, done: int, total: int) -> None:
        nonlocal last
        if what != TITLE:
            last = (what, done, total)
        report(what, done, total)

    def tell_stop() -> None:
        report(_STOPPING + last[0], *last[1:])

    planned = session.plan(methods)
    left = {name: method for name, method in methods.items() if any(stage.startswith(f"{name}: ") for stage in planned)}
    table = Timetable(TITLE, planned, say, lanes=session.request.processes)
    try:
        with stop.listen(tell_stop):
            if left and session.request.processes > 1:
                _share(session, left, table, stop)
            for name, method in methods.items():
                _tell(session.work(name, method), table, stop)
                session.write()
            for steps in session.list_rescoring():
                _tell(steps, table, stop)
    except Stopped:
        return True
    table.finish()
    return False


def _share(session: Session, methods: Mapping[str, Method], table: Timetable, stop: Stop) -> None:
    """Let several processes do the work; this one keeps the folder's results, and then finds nothing left to do."""
    running: dict[str, str] = {}
    show, table.show = table.show, lambda what, done, total: _show_all(running, show, what, done, total)
    tell: dict[str, Report] = {}

    def hear(name: str, step: Step | None) -> None:
        if step is not None:
            if step.stage not in tell:
                tell[step.stage] = table.start(step.stage)
            tell[step.stage](step.what, step.done, step.total)
        if name not in session.entries and (step is None or not step.stage.endswith(": tuning")):
            deque(session.enter(name, methods[name]), maxlen=0)
        if step is None:
            running.pop(name, None)
            session.write()

    count = session.request.processes
    # Also where fewer methods are left, so that a stopped run goes on with the same threads.
    threads = max(1, torch.get_num_threads() // count)
    with lead(partial(serve, session.request, session.store.root, threads), min(count, len(methods))) as helpers:
        learnt = {name: session.name_learning(name, method) for name, method in methods.items()}
        stopped = helpers.share_out(learnt, hear, stop)
    table.show = show
    if stopped:
        raise Stopped


def _show_all(running: dict[str, str], show: Report, what: str, done: int, total: int) -> None:
    """Show what all methods under way are at in one line."""
    if what == TITLE:
        show(what, done, total)
        return
    running[what.partition(":")[0]] = f"{what} {done / total:.0%}" if total else what
    show(" | ".join(running.values()), 0, 0)


def serve(request: BenchRequest, root: Path, threads: int, connection: Connection) -> None:
    """Do the methods that the leading process names, one after the other, until it names no more.

    Args:
        request: what to do.
        root: the results' folder, which the leading process holds.
        threads: of torch.
        connection: names come in, steps go out; None when a method is done.
    """
    torch.set_num_threads(threads)
    # Whatever comes while it works, the end of the pipe too, means to stop.
    with suppress(Stopped, EOFError, ConnectionError):
        try:
            request = replace(request, redo=(), retry=False)
            methods, session = _prepare(request, Store(root), connection.poll, leads=False)
            session.open(methods, _opener(request.kind))
            while name := connection.recv():
                with closing(session.work(name, methods[name])) as steps:
                    for step in steps:
                        if connection.poll():
                            raise Stopped
                        connection.send(step)
                connection.send(None)
        except D2PlanError as error:
            connection.send(error)


def _tell(steps: Generator[Step, None, None], table: Timetable, stop: Stop) -> None:
    """Follow some work, until somebody asks to stop."""
    stage, tell = "", None
    with closing(steps):
        for step in steps:
            if stop():
                raise Stopped
            if tell is None or step.stage != stage:
                stage, tell = step.stage, table.start(step.stage)
            tell(step.what, step.done, step.total)


@contextmanager
def _own(root: Path) -> Iterator[None]:
    """Keep others out of a results' folder, and clear away what an interrupted write left in it."""
    lock = lock_folder(root)
    try:
        lock.__enter__()
    except FileError as error:
        raise FileError(str(error).replace("another training", "another benchmark")) from error
    try:
        for path in [*root.rglob(".*.part")]:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        yield
    finally:
        lock.__exit__(None, None, None)


def _ignore(what: str, done: int, total: int) -> None:
    """Take no note of progress."""
