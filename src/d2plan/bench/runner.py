"""Run methods on a suite: learn, join, draw, one small piece after the other, each on the disk before the next begins.

What is there is not done again. What fails is written down, and the rest goes on.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from d2plan.bench.guard import Guard, MethodError, Unit, has_failed, read_failure
from d2plan.bench.job import Cast, Entry, Job, make_shot
from d2plan.bench.protocol import Drawing, Learned, State
from d2plan.bench.records import Cost, Failure, LearnRecord
from d2plan.bench.runs import read_drawn, write_picture
from d2plan.bench.shared.steps import follow
from d2plan.bench.store import holds_state, read_record, read_state, write_record, write_state

# Parts that a concept or a picture is told in.
_FINE = 1000
Loaded = tuple[list[Learned], State]


class Step(NamedTuple):
    """How far a benchmark is.

    Attributes:
        stage: such as "mix-of-show: learning".
        what: what it is busy with.
        done: how much of the stage is done.
        total: how much there is.
    """

    stage: str
    what: str
    done: int
    total: int


class Runner:
    """Runs the methods of a job.

    Args:
        job: what to do.
    """

    def __init__(self, job: Job) -> None:
        self.guard = Guard(job)

    @property
    def job(self) -> Job:
        """What to do, with the base as it is now."""
        return self.guard.job

    def learn(self, entry: Entry) -> Iterator[Step]:
        """Let a method learn the concepts that it has not learnt yet.

        Args:
            entry: the method.

        Yields:
            How far it is; nothing where nothing is left.
        """
        stage, names = f"{entry.name}: learning", self.unlearnt(entry)
        total = len(names) * _FINE
        for number, name in enumerate(names):
            yield Step(stage, name, number * _FINE, total)
            for share in self._learn_one(learn_unit(self.job, entry, name), name):
                yield Step(stage, name, min(int((number + share) * _FINE), total - 1), total)
            yield Step(stage, name, (number + 1) * _FINE, total)

    def unlearnt(self, entry: Entry) -> list[str]:
        """List the concepts that a method has still to learn; those that failed before are not tried again."""
        job = self.job
        missing = [name for name in job.concepts if not has_state(job, entry, name)]
        return [name for name in missing if not has_failed(job, learn_unit(job, entry, name))]

    def _learn_one(self, unit: Unit, name: str) -> Iterator[float]:
        job, entry = self.job, unit.entry
        start = partial(entry.method.learn, job.backbone, job.concepts[name], entry.setting, job.seed)
        with self.guard.watch(unit) as work:
            state = yield from _hold(start())
            content = _check_state(state)
            work.done = True
        if work.done:
            self._keep(unit, job.state_path(entry, name), content, work.cost())

    def draw(self, entry: Entry) -> Iterator[Step]:
        """Let a method draw the pictures that are missing, of whose concepts it has learnt.

        Args:
            entry: the method.

        Yields:
            How far it is; nothing where nothing is left.
        """
        units = self.undrawn(entry)
        stage, total, done = f"{entry.name}: drawing", sum(len(unit.shots) for _, unit in units) * _FINE, 0
        last, loaded = None, None
        for cast, unit in units:
            yield Step(stage, cast.label, done, total)
            if cast is not last:
                loaded = yield from self._prepare(entry, cast, Step(stage, "", done, total))
                last = cast
            done += len(unit.shots) * _FINE
            if loaded is not None:
                self._draw_chunk(unit, loaded)
            yield Step(stage, cast.label, done, total)

    def undrawn(self, entry: Entry) -> list[tuple[Cast, Unit]]:
        """List the calls whose pictures a method has still to draw; those that failed before are not tried again."""
        job, missing = self.job, []
        for cast in job.casts:
            for place, chunk in enumerate(cast.chunks):
                unit = draw_unit(job, entry, cast, place)
                drawn = all(read_drawn(job, entry, shot, unit.key) is not None for shot in chunk)
                if not drawn and not has_failed(job, unit):
                    missing.append((cast, unit))
        return missing

    def _prepare(self, entry: Entry, cast: Cast, step: Step) -> Generator[Step, None, Loaded | None]:
        """Read what a cast needs, and join it where that was not done; None where something is missing."""
        job = self.job
        learned = list(_read_learned(job, entry, cast))
        if len(learned) < len(cast.names):
            return None
        unit, path = join_unit(job, entry, cast), job.store.joined(entry.name, cast.label)
        if read_record(path.with_suffix(".json"), LearnRecord, unit.key) is not None:
            joined = read_state(path)
            if joined is not None:
                return learned, joined
        if has_failed(job, unit):
            return None
        with self.guard.watch(unit) as work:
            shares = _hold(entry.method.join(job.backbone, learned, entry.setting, job.seed))
            state = yield from follow(
                shares, lambda share: step._replace(what=f"{cast.label}: joining {100 * share:.0f} %")
            )
            content = _check_state(state)
            work.done = True
        if not work.done:
            return None
        self._keep(unit, path, content, work.cost())
        yield step._replace(what=cast.label)
        return learned, content

    def _draw_chunk(self, unit: Unit, loaded: Loaded) -> None:
        job, entry, chunk = self.job, unit.entry, unit.shots
        with self.guard.watch(unit) as work:
            shots = [make_shot(record) for record in chunk]
            pictures = entry.method.draw(job.backbone, *loaded, shots, job.drawing)
            _check_pictures(pictures, len(chunk), job.drawing)
            work.done = True
        if work.done:
            for record, picture in zip(chunk, pictures, strict=True):
                write_picture(job, entry, record, picture, work.cost(len(chunk)), unit.key)

    def _keep(self, unit: Unit, path: Path, state: State, cost: Cost) -> None:
        size = write_state(path, state)
        # What is joined is the method's own; what is learnt may serve others, so it says whose it is.
        first = unit.entry.name if unit.stage == "learn" else None
        record = LearnRecord(concepts=unit.concepts, cost=cost, state_bytes=size, shared_from=first)
        write_record(path.with_suffix(".json"), record, unit.key)


def learn_unit(job: Job, entry: Entry, name: str) -> Unit:
    """Describe the work of learning a concept."""
    return Unit(entry, "learn", (name,), f"learn-{name}", job.state_key(entry, name))


def join_unit(job: Job, entry: Entry, cast: Cast) -> Unit:
    """Describe the work of joining concepts."""
    return Unit(entry, "join", cast.names, f"join-{cast.label}", job.cast_key(entry, cast))


def draw_unit(job: Job, entry: Entry, cast: Cast, place: int) -> Unit:
    """Describe the work of drawing the pictures of one call."""
    chunk = cast.chunks[place]
    return Unit(entry, "draw", cast.names, f"draw-{cast.label}-{place}", job.draw_key(entry, cast, chunk), chunk)


def has_state(job: Job, entry: Entry, name: str) -> bool:
    """Say whether a method has learnt a concept already, and the file of it can be read."""
    path = job.state_path(entry, name)
    record = read_record(path.with_suffix(".json"), LearnRecord, job.state_key(entry, name))
    return record is not None and holds_state(path)


def read_failures(job: Job, entry: Entry) -> tuple[Failure, ...]:
    """Give what did not work.

    Args:
        job: the benchmark.
        entry: the method.

    Returns:
        Failures of this code and setting, with all pictures that are missing because of them.
    """
    units = [learn_unit(job, entry, name) for name in job.concepts]
    for cast in job.casts:
        units.append(join_unit(job, entry, cast))
        units += [draw_unit(job, entry, cast, place) for place in range(len(cast.chunks))]
    found = (read_failure(job, unit) for unit in units)
    return tuple(failure for failure in found if failure is not None)


def _read_learned(job: Job, entry: Entry, cast: Cast) -> Iterator[Learned]:
    for name in cast.names:
        path = job.state_path(entry, name)
        state = read_state(path) if has_state(job, entry, name) else None
        if state is not None:
            yield Learned(job.concepts[name], state, path)


def _hold(steps: Generator[float, None, State]) -> Generator[float, None, State]:
    """Pass a method's shares on, held to 0..1."""
    return follow(steps, lambda share: min(1.0, max(0.0, float(share))))


def _check_state(state: State | None) -> State:
    """Copy a state out of reach of the method, so that it can be written."""
    try:
        return {str(name): tensor.detach().cpu().contiguous().clone() for name, tensor in (state or {}).items()}
    except AttributeError as error:
        raise MethodError("what it learnt must be tensors by name; it gave something else") from error


def _check_pictures(pictures: Sequence[NDArray[np.uint8]], count: int, drawing: Drawing) -> None:
    wanted = (drawing.height, drawing.width, 3)
    if len(pictures) != count:
        raise MethodError(f"it drew {len(pictures)} pictures, but {count} were asked for")
    if any(getattr(one, "shape", None) != wanted or one.dtype != np.uint8 for one in pictures):
        raise MethodError(f"a picture must be uint8 {list(wanted)}; it drew something else")
