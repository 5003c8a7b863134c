"""A benchmark whose methods are shared by several processes, and what becomes of it when one stops or dies."""

import multiprocessing
import os
import shutil
import signal
import time
from dataclasses import replace
from multiprocessing.context import SpawnProcess

import pytest
import yaml

from d2plan.bench.store import read_results
from d2plan.errors import D2PlanError, InputError
from d2plan.workflows.benching.bench import TITLE, run_bench
from d2plan.workflows.benching.processes import lead
from tests.bench.toys import SUITE
from tests.workflows.bench_requests import request_of
from tests.workflows.benching.toy_serving import die, serve


def share(methods, stop=lambda heard: False):
    heard = []
    with lead(serve, 2) as helpers:
        stopped = helpers.share_out(methods, lambda *told: heard.append(told), lambda: stop(heard))
    assert multiprocessing.active_children() == []
    return heard, stopped


def test_processes_share_methods_and_nobody_learns_what_another_is_learning():
    heard, stopped = share({"one": "lora", "two": "lora", "three": "words"})
    assert not stopped
    assert sorted(name for name, step in heard if step is None) == ["one", "three", "two"]
    assert len({step.what for _, step in heard if step is not None}) == 2
    stages = [step.stage for _, step in heard if step is not None]
    assert stages.index("two: learning") > stages.index("one: drawing")


def test_a_stop_reaches_those_that_work_and_nothing_else_begins():
    heard, stopped = share({"endless": 1, "two": 2, "three": 3}, lambda heard: ("two", None) in heard)
    assert stopped
    assert {name for name, _ in heard} == {"endless", "two"}


def test_a_signal_that_reaches_all_of_them_is_a_stop_and_no_death():
    pids = []

    def stop(heard):
        if not pids and ("two", None) in heard:
            pids.extend(process.pid for process in multiprocessing.active_children())
            for pid in pids:
                os.kill(pid, signal.SIGTERM)
                os.kill(pid, signal.SIGINT)
            time.sleep(0.5)
            assert len(multiprocessing.active_children()) == 2
        return bool(pids)

    _, stopped = share({"endless": 1, "two": 2}, stop)
    assert stopped


@pytest.mark.parametrize(
    ("name", "kind", "told"),
    [("dies", D2PlanError, r"one of 2 processes ended \(exit code 7\)"), ("refuses", InputError, "suite: it cannot")],
)
def test_a_process_that_fails_ends_all_with_one_sentence(name, kind, told):
    with pytest.raises(kind, match=told):
        share({"endless": 1, name: 2})
    assert multiprocessing.active_children() == []


def test_processes_that_cannot_all_be_started_end_with_one_sentence(monkeypatch):
    start, started = SpawnProcess.start, []

    def start_one(process):
        if started:
            raise BlockingIOError("Resource temporarily unavailable")
        started.append(process)
        start(process)

    monkeypatch.setattr(SpawnProcess, "start", start_one)
    with pytest.raises(D2PlanError, match="2 processes cannot be started .*; use fewer --processes"):
        share({"one": 1, "two": 2})
    assert not started[0].is_alive()


def test_what_two_processes_left_when_stopped_one_goes_on_with(place, tmp_path):
    pressed = []

    def stop(what, done, total):
        if "lora-merge: drawing" in what and not pressed:
            pressed.append(what)
            os.kill(os.getpid(), signal.SIGINT)

    (tmp_path / "short.yaml").write_text(yaml.safe_dump({**SUITE, "settings": {"steps": 0.01}}), encoding="utf-8")
    request = request_of(
        place, methods=("lora-merge", "textual-inversion"), processes=2, suite=str(tmp_path / "short.yaml")
    )
    cut = run_bench(request, tmp_path / "out", stop)
    assert cut.stopped and not cut.results.finished
    there = {path: path.read_bytes() for path in (tmp_path / "out" / "learned").rglob("*") if path.is_file()}
    there |= {path: path.read_bytes() for path in (tmp_path / "out" / "methods").rglob("*.png")}
    assert there
    assert run_bench(replace(request, processes=1), tmp_path / "out").results.finished
    assert all(path.read_bytes() == content for path, content in there.items())


def test_two_processes_find_what_one_finds_and_then_nothing_is_left_to_do(place, tmp_path, monkeypatch):
    methods, told = ("lora-merge", "textual-inversion"), []
    (tmp_path / "short.yaml").write_text(yaml.safe_dump({**SUITE, "settings": {"steps": 0.01}}), encoding="utf-8")
    suite = str(tmp_path / "short.yaml")
    shared = request_of(place, methods=methods, processes=2, suite=suite)
    both = run_bench(shared, tmp_path / "both", lambda *step: told.append(step)).results
    alone = run_bench(request_of(place, methods=methods, suite=suite), tmp_path / "alone").results
    assert both.finished
    for one, other in zip(both.methods, alone.methods, strict=True):
        assert (one.name, one.setting, one.failures) == (other.name, other.setting, ())
        assert [(its.shot, its.values) for its in one.pictures] == [(its.shot, its.values) for its in other.pictures]
        assert len(one.learned) == 2
        assert {its.cost.machine for its in one.pictures} == {f"{other.pictures[0].cost.machine}, 1 of 2 processes"}
    lines = [what for what, _, _ in told]
    assert any(" | " in line and "lora-merge: " in line and "textual-inversion: " in line for line in lines)
    assert all(0 <= done <= total for what, done, total in told if what == TITLE)
    with monkeypatch.context() as patch:
        patch.setattr("d2plan.workflows.benching.bench.lead", lambda *_: 1 / 0)
        assert run_bench(shared, tmp_path / "both").results == both
    shutil.rmtree(tmp_path / "both" / "methods" / "lora-merge" / "runs")
    monkeypatch.setattr("d2plan.workflows.benching.bench.serve", die)
    with pytest.raises(D2PlanError, match="exit code 7"):
        run_bench(shared, tmp_path / "both")
    left = read_results(tmp_path / "both")
    assert [len(method.pictures) for method in left.methods] == [0, len(both.methods[1].pictures)]
