"""Tune a method: all of its settings on the development concepts, and the best one wins.

What is compared is (identity + text alignment) / 2: whether it is who it shall be and does what it shall, with one
concept and with several weighing the same. The concepts of the benchmark itself take no part.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import yaml
from pydantic import Field

from d2plan.bench.assemble import assemble
from d2plan.bench.job import Entry, Job, make_entry
from d2plan.bench.protocol import Method, Setting
from d2plan.bench.records import METRICS, Part, TunedSetting, Values
from d2plan.bench.runner import Runner, Step
from d2plan.bench.scoring import Scorer, score_method
from d2plan.bench.shared.settings import override
from d2plan.bench.store import make_key, read_record, remove_tree, write_record
from d2plan.bench.validity import mean_of
from d2plan.errors import InputError
from d2plan.fields import Document
from d2plan.media.images import write_file
from d2plan.parsing import parse_document
from d2plan.yaml_file import read_yaml

TUNING, TUNED = "tuning.json", "tuned.yaml"
PARTS: tuple[Part, ...] = ("single", "multi")
COMPARED = ("identity", "text_scaled")
_BUILT_IN = Path(__file__).resolve().parent.parent / "assets" / "suites" / TUNED
_FINE = 1000


class _Tried(Document):
    """All settings of a method, as they lie on the disk."""

    settings: tuple[TunedSetting, ...]


class TunedFile(Document):
    """Settings that were found before, by the base that they were found on.

    Attributes:
        bases: fingerprint to method to setting.
    """

    bases: dict[str, dict[str, dict[str, float]]] = Field(default_factory=dict)


class Tuner:
    """Tunes methods.

    Args:
        job: the development concepts.
        scorer: who scores them.
        override: numbers that are put into every setting.
    """

    def __init__(self, job: Job, scorer: Scorer, override: Mapping[str, float] | None = None) -> None:
        self.job = job
        self.scorer = scorer
        self.override = dict(override or {})

    def read(self, name: str, method: Method) -> tuple[TunedSetting, ...]:
        """Read what was found before; empty where nothing was."""
        found = read_record(self._path(name), _Tried, self._key(name, method))
        return found.settings if found is not None else ()

    def tune(self, name: str, method: Method) -> Iterator[Step]:
        """Try all settings of a method; ``read`` gives what came of it.

        Args:
            name: of the method.
            method: the method.

        Yields:
            How far it is.
        """
        tried = []
        total = len(method.settings) * _FINE
        for number, setting in enumerate(method.settings):
            entry = make_entry(name, method, override(method, setting, self.override))
            job = replace(self.job, store=self.job.store.tuning(name, number))
            for step in self._run(job, entry):
                share = (number + 0.98 * step.done / max(1, step.total)) * _FINE
                what = f"setting {number + 1} of {len(method.settings)}" + (f", {step.what}" if step.what else "")
                yield Step(f"{name}: tuning", what, int(share), total)
            tried.append(self._weigh(job, entry, setting))
        write_record(self._path(name), _Tried(settings=tuple(tried)), self._key(name, method))
        self._clear(name, method)
        yield Step(f"{name}: tuning", "", total, total)

    def _run(self, job: Job, entry: Entry) -> Iterator[Step]:
        """Learn, draw and score; of a setting, learning counts for four fifths of the way, scoring for a twentieth."""
        runner = Runner(job)
        try:
            for step in runner.learn(entry):
                yield step._replace(done=int(step.done * 0.8))
            for step in runner.draw(entry):
                yield step._replace(done=int(step.total * 0.8 + step.done * 0.15))
        finally:
            # A method may have broken the base.
            self.job = replace(self.job, backbone=runner.job.backbone)
        for _ in self.scorer.look():
            yield Step("", "", 95, 100)
        for done, count in score_method(runner.job, entry, self.scorer):
            yield Step("", "", 95 * count + 5 * done, 100 * count)

    def _weigh(self, job: Job, entry: Entry, setting: Setting) -> TunedSetting:
        record = assemble(job, [entry], self.scorer).methods[0]
        # Without an encoder for one of them, the others decide.
        measured = [name for name in COMPARED if METRICS[name].encoder in self.scorer.panel.sources]
        values: Values = {
            f"{part} {metric}": mean_of(job.suite, record, metric, part) for part in PARTS for metric in measured
        }
        costs = [one.cost for one in (*record.learned, *record.joined)] + [one.cost for one in record.pictures]
        seconds = sum(cost.seconds for cost in costs)
        trouble = record.failures[0].message if record.failures else ""
        known = [value for value in values.values() if value is not None]
        # A setting that fails on some pictures must not win by the others.
        value = sum(known) / len(known) if known and len(known) == len(values) and not trouble else None
        if value is None and not trouble:
            trouble = "nothing could be measured"
        return TunedSetting(
            setting=dict(setting),
            ran=dict(entry.setting),
            value=value,
            values=values,
            seconds=round(seconds, 2),
            trouble=trouble,
        )

    def _clear(self, name: str, method: Method) -> None:
        """Take away what was learnt for this alone; a large base's states are large."""
        if not hasattr(method, "learns_as"):
            remove_tree(self.job.store.tuning(name, 0).learned / name)
        for number in range(len(method.settings)):
            remove_tree(self.job.store.tuning(name, number).method(name) / "joined")

    def _path(self, name: str) -> Path:
        return self.job.store.tuning(name, 0).root.parent / TUNING

    def _key(self, name: str, method: Method) -> str:
        entry = make_entry(name, method)
        settings = [dict(setting) for setting in method.settings]
        parts = (entry.code, settings, self.override, self.job.suite.digest, self.job.base.fingerprint, self.job.seed)
        return make_key("tune", *parts, self.job.drawn.model_dump(), self.scorer.key)


def choose_setting(tried: tuple[TunedSetting, ...]) -> dict[str, float] | None:
    """Give the best setting, the first of equals.

    Args:
        tried: what each gave.

    Returns:
        The setting; None where none gave a value.
    """
    known = [one for one in tried if one.value is not None]
    return dict(max(known, key=lambda one: one.value or 0.0).setting) if known else None


def read_tuned(path: str | Path | None, fingerprint: str) -> dict[str, dict[str, float]]:
    """Read settings that were found before.

    Args:
        path: a ``tuned.yaml`` that a tuning wrote; None reads the package's own, where there is one.
        fingerprint: of the base.

    Returns:
        Method to setting; empty where nothing was found on this base.

    Raises:
        FileError: the file cannot be read.
        InputError: it holds something else, or nothing for this base.
    """
    if path is None:
        return (
            parse_document(TunedFile, read_yaml(_BUILT_IN), TUNED).bases.get(fingerprint, {})
            if _BUILT_IN.is_file()
            else {}
        )
    file = Path(os.path.expanduser(path))
    bases = parse_document(TunedFile, read_yaml(file), str(file)).bases
    if fingerprint not in bases:
        raise InputError(f"{file}: holds no settings for this base ({fingerprint}); tune again with --tune.")
    return bases[fingerprint]


def write_tuned(path: Path, fingerprint: str, found: Mapping[str, Mapping[str, float]]) -> None:
    """Add settings to a ``tuned.yaml``.

    Args:
        path: the file; made where it is missing.
        fingerprint: of the base that they were found on.
        found: method to setting.

    Raises:
        FileError: it cannot be written.
        InputError: it is there and holds something else.
    """
    bases = dict(parse_document(TunedFile, read_yaml(path), str(path)).bases) if path.is_file() else {}
    bases[fingerprint] = {**bases.get(fingerprint, {}), **{name: dict(setting) for name, setting in found.items()}}
    write_file(path, yaml.safe_dump({"bases": bases}, sort_keys=True).encode())
