"""Let a method work, whatever it does: what fails is written down, and the base is whole afterwards."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from d2plan.backbone.load import Backbone
from d2plan.bench.job import Entry, Job
from d2plan.bench.meter import Meter, sample_weights
from d2plan.bench.records import Cost, Failure, ShotRecord, Stage
from d2plan.bench.store import read_record, write_record
from d2plan.documents import Document
from d2plan.errors import D2PlanError, FileError
from d2plan.media.images import write_file

_DIRTY = "it left the base changed; it must put back what it touches"


class MethodError(Exception):
    """A method did not do what its protocol says; carries one sentence."""


class Stopped(BaseException):
    """Somebody asked to stop in the middle of a method's work, which is no failure; what it was at begins anew."""


class _Trouble(Document):
    """A failure as it lies on the disk."""

    failure: Failure


@dataclass(frozen=True)
class Unit:
    """One piece of a method's work.

    Attributes:
        entry: the method.
        stage: which kind of work.
        concepts: that it is about.
        name: of the piece, in file names.
        key: of what decides its result.
        shots: pictures that it draws.
    """

    entry: Entry
    stage: Stage
    concepts: tuple[str, ...]
    name: str
    key: str
    shots: tuple[ShotRecord, ...] = ()


@dataclass
class Work:
    """A piece of work under way.

    Attributes:
        meter: what it costs.
        done: whether it came to its end.
    """

    meter: Meter
    done: bool = field(default=False)

    def cost(self, pictures: int = 1) -> Cost:
        """Give the cost of one of so many pictures."""
        return self.meter.cost(pictures)


class Guard:
    """Watches over methods.

    Args:
        job: what they work on.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self._whole = sample_weights(job.backbone)

    @property
    def backbone(self) -> Backbone:
        """The base, whole."""
        return self.job.backbone

    def adopt(self, backbone: Backbone) -> None:
        """Go on with a base that was opened anew elsewhere."""
        self.job = replace(self.job, backbone=backbone)
        self._whole = sample_weights(backbone)

    @contextmanager
    def watch(self, unit: Unit) -> Iterator[Work]:
        """Let a method work in the block, until somebody asks to stop.

        Everything random is seeded, so that nothing depends on what ran before: a benchmark that was stopped and went
        on gives what one without a stop does. What cannot be written to the disk is no fault of the method and ends
        the benchmark.

        Args:
            unit: the piece of work.

        Yields:
            The work; its ``done`` is to be set at the end of the block, and stays only where all is well.

        Raises:
            FileError: the results' folder cannot be written.
            Stopped: somebody asked to stop, and the method was about to call the U-Net.
        """
        work = Work(Meter(self.backbone, self._heed, self.job.processes))
        devices = [self.backbone.device] if self.backbone.device.type == "cuda" else []
        before = np.random.get_state()
        try:
            with torch.random.fork_rng(devices=devices), work.meter:
                torch.manual_seed(self.job.seed)
                np.random.seed(self.job.seed % 2**32)
                yield work
        except Exception as error:  # noqa: BLE001  (a method under study may fail in any way)
            work.done = False
            note_failure(self.job, unit, error)
        finally:
            np.random.set_state(before)
            # Nothing is drawn with the base any more after a stop, which shall not wait for a look at all weights.
            changed = (work.done or not self.job.asked()) and self._mend()
        if changed and work.done:
            work.done = False
            note_failure(self.job, unit, MethodError(_DIRTY))

    def _heed(self) -> None:
        if self.job.asked():
            raise Stopped

    def _mend(self) -> bool:
        if sample_weights(self.backbone) == self._whole:
            return False
        self.adopt(self.job.reopen())
        return True


def note_failure(job: Job, unit: Unit, error: Exception) -> None:
    """Write down what went wrong with a piece of work, so that the rest can go on.

    Args:
        job: the benchmark.
        unit: the piece.
        error: what it raised.

    Raises:
        FileError: it was the results' folder that cannot be written, which is no fault of the work.
    """
    owned = tuple(f"{own}{mark}" for own in (job.store.root, job.store.learned) for mark in (os.sep, ":"))
    if isinstance(error, FileError) and str(error).startswith(owned):
        raise error
    names = tuple(shot.name for shot in unit.shots)
    failure = Failure(stage=unit.stage, concepts=unit.concepts, shots=names, message=tell_error(error))
    path = write_record(_failure_path(job, unit), _Trouble(failure=failure), unit.key)
    if not isinstance(error, D2PlanError | MethodError):
        trace = "".join(traceback.format_exception(error))
        write_file(path.with_suffix(".txt"), trace.encode("utf-8", errors="replace"))


def has_failed(job: Job, unit: Unit) -> bool:
    """Say whether a piece of work failed before, and so is not tried again."""
    return read_record(_failure_path(job, unit), _Trouble, unit.key) is not None


def read_failure(job: Job, unit: Unit) -> Failure | None:
    """Read what went wrong with a piece of work.

    Args:
        job: the benchmark.
        unit: the piece.

    Returns:
        The failure with all pictures that are missing because of it; None where nothing went wrong.
    """
    trouble = read_record(_failure_path(job, unit), _Trouble, unit.key)
    if trouble is None or trouble.failure.shots:
        return None if trouble is None else trouble.failure
    lost = set(unit.concepts)
    by_stage: Callable[[ShotRecord], bool] = (
        (lambda shot: bool(lost & set(shot.concepts)))
        if unit.stage == "learn"
        else (lambda shot: unit.concepts == shot.concepts)
    )
    shots = tuple(shot.name for shot in job.suite.shots if by_stage(shot))
    return trouble.failure.model_copy(update={"shots": shots})


def _failure_path(job: Job, unit: Unit) -> Path:
    return job.store.failure(unit.entry.name, unit.name)


def tell_error(error: Exception) -> str:
    """Say in one sentence what went wrong; of a fault in a method's code, where.

    Args:
        error: any.

    Returns:
        The sentence.
    """
    if isinstance(error, D2PlanError | MethodError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}{': ' if text else ''}{text}{place}"
