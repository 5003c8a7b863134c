"""Run a benchmark: methods side by side on a suite, or the ablation of ours, into a folder that can be gone on with."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from d2plan.bench.ablation import VARIANTS, open_variant
from d2plan.bench.prepare import check_folder
from d2plan.bench.protocol import Method
from d2plan.bench.records import Kind, Results
from d2plan.bench.registry import METHODS, open_method
from d2plan.bench.report.page import write_report
from d2plan.bench.runner import Step
from d2plan.bench.store import Store
from d2plan.bench.suites import LoadedSuite, load_suite
from d2plan.dislora.checkpoint import lock_folder
from d2plan.errors import FileError, InputError
from d2plan.workflows.benching.panel import open_panel
from d2plan.workflows.benching.session import BenchRequest as BenchRequest
from d2plan.workflows.benching.session import Session
from d2plan.workflows.runs.timetable import Report, Timetable
from d2plan.workflows.training.folder import stop_gently

TITLE, ALL = "benchmark", "all"
_STOPPING = " (stops after this)"


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

    Ctrl-C ends it after the piece of work that runs; the same request goes on where it was. A method that fails
    somewhere is reported, and the rest goes on.

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
    with _own(root):
        session = Session(request, loaded, tuning, panel, Store(root))
        session.open(methods, _opener(request.kind))
        stopped = _work(session, methods, on_progress or _ignore)
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
        InputError: one of them does not exist, or an ablation was to be tuned.
    """
    ablation = request.kind == "ablation"
    if ablation and request.tune:
        raise InputError("--tune: an ablation is not tuned, it takes the settings of isp-dislora; leave it out.")
    known = tuple(VARIANTS if ablation else METHODS)
    asked = request.methods or (() if ablation else loaded.suite.methods) or (ALL,)
    names = known if ALL in asked else asked
    for name in (*names, *request.redo):
        if name not in known:
            raise InputError(f"methods: there is no '{name}'; choose from {', '.join((ALL, *known))}.")
    ordered = dict.fromkeys((known[0], *names) if ablation else names)
    return {name: _opener(request.kind)(name) for name in ordered}


def _opener(kind: Kind) -> Callable[[str], Method]:
    if kind == "ablation":
        return open_variant
    return open_method


def _work(session: Session, methods: Mapping[str, Method], report: Report) -> bool:
    """Do all that is left; gives whether somebody stopped it."""
    table = Timetable(TITLE, session.plan(methods), report)
    with stop_gently() as asked:
        for name, method in methods.items():
            if not _tell(session.enter(name, method), table, asked):
                return True
            for steps in session.list_work(name):
                if not _tell(steps, table, asked):
                    return True
            session.write()
    table.finish()
    return False


def _tell(steps: Generator[Step, None, None], table: Timetable, asked: Callable[[], bool]) -> bool:
    """Follow some work; gives False where somebody asked to stop and the last result is on the disk."""
    stage, tell = "", None
    with closing(steps):
        for step in steps:
            if tell is None or step.stage != stage:
                stage, tell = step.stage, table.start(step.stage)
            tell(step.what + (_STOPPING if asked() else ""), step.done, step.total)
            if step.kept and asked():
                return False
    return True


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
