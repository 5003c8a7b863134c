"""Run a benchmark: methods side by side on a suite, or the ablation of ours, into a folder that can be gone on with."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

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
from d2plan.errors import FileError, InputError
from d2plan.workflows.benching.panel import open_panel
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
        stopped: somebody stopped it; the same command goes on.
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
    loaded = load_suite(request.suite)
    methods = open_methods(request, loaded)
    tuning = load_suite(request.tuning) if request.tune else None
    root = Path(os.path.expanduser(out))
    check_folder(root)
    panel = open_panel(request.panel, [loaded] + ([tuning] if tuning is not None else []), request.device)
    report, stop = on_progress or _ignore, Stop()
    with _own(root):
        session = Session(request, loaded, tuning, panel, Store(root), stop)
        session.open(methods, _opener(request.kind))
        stopped = _work(session, methods, report, stop)
        report(WRITING, 0, 0)
        results, path = session.write()
        page = write_report(root).page
    return BenchOutcome(results, path, page, stopped)


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
    last = ("", 0, 0)

    def say(what: str, done: int, total: int) -> None:
        nonlocal last
        if what != TITLE:
            last = (what, done, total)
        report(what, done, total)

    def tell_stop() -> None:
        report(_STOPPING + last[0], *last[1:])

    table = Timetable(TITLE, session.plan(methods), say)
    try:
        with stop.listen(tell_stop):
            for name, method in methods.items():
                _tell(session.enter(name, method), table, stop)
                for steps in session.list_work(name):
                    _tell(steps, table, stop)
                session.write()
            for steps in session.list_rescoring():
                _tell(steps, table, stop)
    except Stopped:
        return True
    table.finish()
    return False


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
