"""A benchmark whose methods are shared by several processes, and what becomes of it when one stops or dies."""

import multiprocessing

import pytest
import yaml

from d2plan.errors import D2PlanError, InputError
from d2plan.workflows.benching.bench import TITLE, run_bench
from d2plan.workflows.benching.processes import lead
from tests.bench.toys import SUITE
from tests.workflows.bench_requests import request_of
from tests.workflows.benching.toy_serving import serve


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


@pytest.mark.parametrize(
    ("name", "kind", "told"),
    [("dies", D2PlanError, r"one of 2 processes ended \(exit code 7\)"), ("refuses", InputError, "suite: it cannot")],
)
def test_a_process_that_fails_ends_all_with_one_sentence(name, kind, told):
    with pytest.raises(kind, match=told):
        share({"endless": 1, name: 2})
    assert multiprocessing.active_children() == []


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
    lines = [what for what, _, _ in told]
    assert any(" | " in line and "lora-merge: " in line and "textual-inversion: " in line for line in lines)
    assert all(0 <= done <= total for what, done, total in told if what == TITLE)
    monkeypatch.setattr("d2plan.workflows.benching.bench.lead", lambda *_: 1 / 0)
    assert run_bench(shared, tmp_path / "both").results == both
