"""Show what is happening and how long it still takes: bars on a terminal, plain lines anywhere else."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

# What is happening, how much of it is done, and how much there is; 0 where nobody knows.
Report = Callable[[str, int, int], None]

LINE_EVERY_SECONDS = 10.0


@contextmanager
def show_progress(stream: TextIO | None = None) -> Iterator[Report]:
    """Open a display of progress and give the function that feeds it.

    Each different text is a stage of its own, with its own bar or lines. Results belong on stdout, so the
    display takes stderr.

    Args:
        stream: where to write; None is stderr.

    Yields:
        ``report(what, done, total)``, to be called after every step.
    """
    stream = stream or sys.stderr
    if stream.isatty():
        with _show_bars(stream) as report:
            yield report
    else:
        yield PlainLines(stream)


@contextmanager
def _show_bars(stream: TextIO) -> Iterator[Report]:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    stages: dict[str, TaskID] = {}
    with Progress(*columns, console=Console(file=stream)) as bars:

        def report(what: str, done: int, total: int) -> None:
            if what not in stages:
                stages[what] = bars.add_task(what, total=total or None)
            bars.update(stages[what], completed=done, total=total or None)

        yield report


class PlainLines:
    """Writes a line when a stage begins, when it ends, and now and then in between.

    Args:
        stream: where the lines go.
        clock: gives the time in seconds.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self.stream = stream
        self.clock = clock
        self._begun: dict[str, float] = {}
        self._ended: set[str] = set()
        self._last = 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        """Take note of a step.

        Args:
            what: the stage.
            done: steps done.
            total: steps there are; 0 where nobody knows.
        """
        now = self.clock()
        ends = total > 0 and done >= total
        first = what not in self._begun
        self._begun.setdefault(what, now)
        if what in self._ended or not (first or ends or now - self._last >= LINE_EVERY_SECONDS):
            return
        self._last = now
        if ends:
            self._ended.add(what)
        self.stream.write(self._write(what, done, total, now - self._begun[what]) + "\n")
        self.stream.flush()

    def _write(self, what: str, done: int, total: int, seconds: float) -> str:
        if total <= 0:
            return f"{what}: {done}" if done else f"{what} ..."
        if done >= total:
            return f"{what}: {done}/{total}, took {write_duration(seconds)}"
        if done <= 0 or seconds <= 0:
            return f"{what}: {done}/{total}"
        return f"{what}: {done}/{total}, about {write_duration(seconds / done * (total - done))} left"


def write_duration(seconds: float) -> str:
    """Write a time in words.

    >>> write_duration(4.2), write_duration(75), write_duration(3700)
    ('4 s', '1 min 15 s', '1 h 1 min')

    Args:
        seconds: how long.

    Returns:
        The words.
    """
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
