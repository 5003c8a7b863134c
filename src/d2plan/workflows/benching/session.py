"""One call of ``d2plan bench``: the base, the jobs, the methods' settings, and what is left to do."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from d2plan.backbone.load import open_base
from d2plan.bench.assemble import UNSCORED, WAITING, assemble
from d2plan.bench.entries import (
    EntryRecord,
    enter,
    enter_others,
    forget_failures,
    forget_method,
    read_entry,
    read_tunings,
    refuse_changes,
)
from d2plan.bench.job import Chosen, Entry, Job, check_setting, make_entry
from d2plan.bench.prepare import claim_folder, plan_folder, prepare_job
from d2plan.bench.protocol import Method
from d2plan.bench.records import Kind, Results, TunedSetting
from d2plan.bench.runner import Runner, Step
from d2plan.bench.scoring import Scorer, list_unscored, score_method
from d2plan.bench.shared.settings import list_names, override
from d2plan.bench.store import Store
from d2plan.bench.suites import LoadedSuite
from d2plan.bench.surroundings import read_commit
from d2plan.bench.tuning import TUNED, Tuner, choose_setting, read_tuned, write_tuned
from d2plan.errors import InputError
from d2plan.eval.panel import Panel
from d2plan.workflows.benching.panel import PanelChoice, tell_small_world

# Seconds on two cores to begin with; what is measured on the way takes their place.
_LEARN, _DRAW, _SCORE = 40.0, 2.0, 0.3
_OURS = "isp-dislora"


@dataclass(frozen=True)
class BenchRequest:
    """What a benchmark shall do.

    Attributes:
        kind: "spatial": methods side by side; "ablation": ISP without its parts.
        suite: "quick", "paper", or a YAML file.
        methods: names; empty takes the suite's, and all where it names none.
        base: "mini", a folder in the diffusers SDXL layout, or a hub id.
        seed: of learning.
        device: such as "cpu" or "cuda".
        precision: number format of U-Net and text encoders, "fp32", "bf16" or "fp16"; the device decides without it.
        most_rows: of one U-Net call.
        panel: who scores.
        tune: try all settings of each method on the development concepts first.
        tuning: the suite of the development concepts.
        settings: a file of settings that were found before; None takes the package's own.
        redo: methods whose results are thrown away first.
        retry: try again what failed before.
        processes: that share the methods; more than there are methods are of no use.
    """

    kind: Kind = "spatial"
    suite: str = "quick"
    methods: tuple[str, ...] = ()
    base: str = "mini"
    seed: int = 0
    device: str = "cpu"
    precision: str | None = None
    most_rows: int = 32
    panel: PanelChoice = PanelChoice()
    tune: bool = False
    tuning: str = "tuning"
    settings: str | None = None
    redo: tuple[str, ...] = ()
    retry: bool = False
    processes: int = 1


class Session:
    """Holds what a call needs, once it is open.

    Args:
        request: what to do.
        loaded: the suite.
        tuning: the suite of the development concepts; None does not tune.
        panel: who scores.
        store: the results' folder.
        asked: whether somebody asked to stop.
        leads: writes what belongs to the whole folder; one of several processes that share it does.
    """

    def __init__(  # noqa: PLR0913  (what one call is made of)
        self,
        request: BenchRequest,
        loaded: LoadedSuite,
        tuning: LoadedSuite | None,
        panel: Panel,
        store: Store,
        asked: Callable[[], bool],
        leads: bool = True,
    ) -> None:
        self.request = request
        self.loaded = loaded
        self.tuning = tuning
        self.panel = panel
        self.store = store
        self.asked = asked
        self.leads = leads
        self.entries: dict[str, Entry] = {}
        self.notes: tuple[str, ...] = ()

    def open(self, methods: Mapping[str, Method], open_one: Callable[[str], Method]) -> None:
        """Open the base, draw the concepts, and find out whether the folder is for this.

        Args:
            methods: that compete.
            open_one: gives any other method that is in the folder already.

        Raises:
            FileError: a file cannot be read or written.
            InputError: something does not belong together.
        """
        request = self.request
        reopen = partial(open_base, request.base, request.device, request.precision)
        backbone = reopen()
        # A folder's own name says enough, and no path of this machine stands in results.
        folder = Path(os.path.expanduser(request.base))
        base = folder.resolve().name if folder.is_dir() else request.base
        make = partial(prepare_job, backbone=backbone, base=base, reopen=reopen, seed=request.seed)
        make = partial(make, most_rows=request.most_rows)
        kept = {name: method for name, method in methods.items() if name not in request.redo}
        for name, method in kept.items():
            refuse_changes(self.store, make_entry(name, method), ("code",))
        job, notes = make(request.kind, self.loaded, store=self.store)
        job = replace(job, asked=self.asked, processes=request.processes)
        self.tuned = self._read_tuned(backbone.fingerprint)
        plan = plan_folder(job, list(methods), read_commit())
        # What is to be thrown away is as good as gone, but goes last, when nothing can be refused any more.
        there = [name for name in plan.methods if name not in methods and name not in request.redo]
        others, self.left_out = enter_others(self.store, there, open_one)
        if len(plan.commits) > 1:
            notes.append(f"Made by {len(plan.commits)} versions of d2plan: {', '.join(plan.commits)}.")
        notes += tell_small_world(request.panel, [self.loaded])
        notes += [
            f"{name} knows no {', '.join(unknown)}, so the suite's setting is not for it"
            for name, method in methods.items()
            if (unknown := [one for one in self.loaded.suite.settings if one not in list_names(method)])
        ]
        self.notes = (*notes, *self.left_out.values())
        self.others = others
        self.order = plan.methods
        self.runner = Runner(job)
        self.scorer = Scorer(job, self.panel)
        self.tuner: Tuner | None = None
        if self.tuning is not None:
            development, _ = make("spatial", self.tuning, store=Store(self.store.root / "tuning"))
            development = replace(development, store=self.store, asked=self.asked, processes=request.processes)
            scorer = Scorer(replace(development, store=Store(self.store.root / "tuning")), self.panel)
            self.tuner = Tuner(development, scorer, self.loaded.suite.settings)
        self._refuse_settings(methods)
        if not self.leads:
            return
        claim_folder(self.store, plan)
        for name in request.redo:
            forget_method(self.store, name)
        for name in methods if request.retry else ():
            forget_failures(self.store, name)
        for name, method in methods.items():
            if self._find(name) is not None:  # what is there counts, also where this call never comes to it
                deque(self.enter(name, method), maxlen=0)

    @property
    def job(self) -> Job:
        """What to do, with the base as it is now."""
        return self.runner.job

    def plan(self, methods: Mapping[str, Method]) -> dict[str, float]:
        """Guess how long each stage takes, of those with something left to do.

        Args:
            methods: that compete.

        Returns:
            Stage to seconds, in order.
        """
        planned: dict[str, float] = {}
        for name, method in methods.items():
            tried = self.tuner.read(name, method) if self.tuner is not None else ()
            untuned = self.tuner is not None and not tried
            if untuned and self.tuner is not None:
                own = self.tuner.job
                once = _LEARN * len(own.concepts) + (_DRAW + _SCORE) * len(own.suite.shots)
                planned[f"{name}: tuning"] = once * len(method.settings)
            entry = self._foresee(name, method, choose_setting(tried))
            learn = self.runner.unlearnt(entry)
            draw = sum(len(unit.shots) for _, unit in self.runner.undrawn(entry))
            # Pictures that are still to be drawn are then to be scored.
            score = draw + self._count_unscored(entry)
            for stage, seconds in (
                ("learning", _LEARN * len(learn)),
                ("drawing", _DRAW * draw),
                ("scoring", _SCORE * score),
            ):
                if seconds or untuned:
                    planned[f"{name}: {stage}"] = max(seconds, _SCORE)
        for entry in self.others:
            if count := self._count_unscored(entry):
                planned[f"{entry.name}: scoring"] = _SCORE * count
        return planned

    def enter(self, name: str, method: Method) -> Generator[Step, None, None]:
        """Find a method's setting and enter it, tuned first where that was asked for.

        Args:
            name: of the method.
            method: the method.

        Yields:
            How far the tuning is.

        Raises:
            InputError: the folder holds results of other code or of another setting.
        """
        tried: tuple[TunedSetting, ...] = ()
        if self.tuner is not None:
            tried = self.tuner.read(name, method)
            if not tried:
                self.tuner.job = replace(self.tuner.job, backbone=self.job.backbone)
                yield from self.tuner.tune(name, method)
                tried = self.tuner.read(name, method)
                if self.tuner.job.backbone is not self.job.backbone:
                    self.runner.guard.adopt(self.tuner.job.backbone)
            best = choose_setting(tried)
            if best is not None and self.leads:
                write_tuned(self.store.root / TUNED, self.job.base.fingerprint, {name: best})
        wanted = self._choose(name, method, choose_setting(tried))
        self.entries[name] = enter(self.store, name, method, wanted, tried)

    def work(self, name: str, method: Method) -> Generator[Step, None, None]:
        """Do all that is left to do for a method.

        Args:
            name: of the method.
            method: the method.

        Yields:
            How far it is.

        Raises:
            InputError: the folder holds results of other code or of another setting.
        """
        yield from self.enter(name, method)
        yield from self.runner.learn(self.entries[name])
        yield from self.runner.draw(self.entries[name])
        yield from self._score(self.entries[name])

    def name_learning(self, name: str, method: Method) -> Hashable:
        """Name what a method learns; two that learn the same share what is learnt."""
        entry = self._foresee(name, method)
        # What a tuning chooses, and so learns, is not known yet.
        return entry.family if self.tuner is not None else (entry.family, repr(entry.learning))

    def list_rescoring(self) -> Iterator[Generator[Step, None, None]]:
        """Give what the folder's other methods lack: scores by these encoders, so that all stay comparable.

        Yields:
            Pieces of work, one after the other.
        """
        yield from map(self._score, self.others)

    def write(self) -> tuple[Results, Path]:
        """Write ``results.json`` with all that is there.

        Returns:
            The results and the file.
        """
        there = {entry.name: entry for entry in (*self.others, *self.entries.values())}
        entries = [there[name] for name in self.order if name in there]
        tunings = read_tunings(self.store, entries)
        waiting = [name for name in self.order if name not in there and name not in self.left_out]
        unscored = [entry.name for entry in entries if self._count_unscored(entry)]
        notes = (*self.notes, f"{WAITING}{', '.join(waiting)}.") if waiting else self.notes
        notes += (f"{UNSCORED}{', '.join(unscored)}.",) if unscored else ()
        results = assemble(self.job, entries, self.scorer, tunings, notes)
        if unscored or any(name not in there for name in self.order):
            results = results.model_copy(update={"finished": False})
        return results, self.store.write_results(results)

    def _score(self, entry: Entry) -> Generator[Step, None, None]:
        stage = f"{entry.name}: scoring"
        units = list_unscored(self.job, entry, self.scorer)
        if not units:
            return
        for done, total in self.scorer.look():
            count = sum(len(unit.shots) for unit in units)
            yield Step(stage, f"references of concept {done + 1} of {total}", 0, count)
        for done, total in score_method(self.job, entry, self.scorer):
            yield Step(stage, "", done, total)

    def _count_unscored(self, entry: Entry) -> int:
        return sum(len(unit.shots) for unit in list_unscored(self.job, entry, self.scorer))

    def _refuse_settings(self, methods: Mapping[str, Method]) -> None:
        """Refuse, before anything is learnt or tuned, to mix a method's results with those of another setting."""
        tried = {name: self.tuner.read(name, method) for name, method in methods.items()} if self.tuner else {}
        untuned = [name for name, found in tried.items() if not found and self._find(name) is not None]
        if untuned:
            raise InputError(
                f"{self.store.root}: holds results of {', '.join(untuned)} with settings that this tuning did not "
                f"choose; go on with them without --tune, throw them away with --redo {','.join(untuned)}, or name "
                "another --out."
            )
        for name, method in methods.items():
            entry = self._foresee(name, method, choose_setting(tried.get(name, ())))
            if name not in self.request.redo:
                refuse_changes(self.store, entry)

    def _foresee(self, name: str, method: Method, best: Mapping[str, float] | None = None) -> Entry:
        wanted = self._choose(name, method, best)
        found = self._find(name)
        if wanted is None and found is not None:
            wanted = found.setting, found.chosen
        return make_entry(name, method, *(wanted or (None,)))

    def _find(self, name: str) -> EntryRecord | None:
        """Read how a method competes here, of those whose results stay."""
        return None if name in self.request.redo else read_entry(self.store, name)

    def _choose(
        self, name: str, method: Method, best: Mapping[str, float] | None
    ) -> tuple[Mapping[str, float], Chosen] | None:
        """Give a method's setting; None keeps the folder's, else takes the first as it is."""
        change = partial(override, method, numbers=self.loaded.suite.settings)
        if best is not None:
            return change(best), "tuned here"
        if self.request.kind == "ablation":
            ours = self.tuned.get(_OURS)
            return change({**(ours or {}), **method.settings[0]}), "tuned before" if ours else "first"
        there = self._find(name) is not None and self.request.settings is None
        if name in self.tuned and not there:
            check_setting(method, self.tuned[name], f"settings of {name}")
            return change(self.tuned[name]), "tuned before"
        return None if there else (change(method.settings[0]), "first")

    def _read_tuned(self, fingerprint: str) -> dict[str, dict[str, float]]:
        try:
            return read_tuned(self.request.settings, fingerprint)
        except InputError:
            if self.request.settings is None:
                return {}
            raise
