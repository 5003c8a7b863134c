"""The example of docs/benchmark.md is a method: one file, one line, and it learns, draws and is found by its name."""

import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from d2plan.bench import registry
from d2plan.bench.shared.settings import override
from d2plan.bench.suites import Suite
from tests.bench.small import ALONE, DRAWING, PAIR, digest_base, finish, halve, learn, small_concept

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "benchmark.md").read_text(encoding="utf-8")
CODE, LINE = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
SUITE = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)[0]


@pytest.fixture
def method(tmp_path, monkeypatch):
    name, place = re.fullmatch(r'\s*"([\w-]+)": "d2plan\.bench\.methods\.([\w:]+)",\s*', LINE).groups()
    module = place.partition(":")[0]
    (tmp_path / f"{module}.py").write_text(CODE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    monkeypatch.setitem(registry.METHODS, name, place)
    yield registry.open_method(name)
    sys.modules.pop(module, None)


def test_the_example_has_about_twenty_lines_of_code():
    assert len([line for line in CODE.splitlines() if line.strip()]) <= 20


def test_the_example_learns_and_draws_and_leaves_the_base_as_it_was(method, tiny, tmp_path):
    base = halve(tiny)
    before = digest_base(base)
    rex = learn(method, base, small_concept(tmp_path, seed=1), tmp_path)
    tom = learn(method, base, small_concept(tmp_path, "tom", "cat", "<v2>", seed=2), tmp_path)
    shares, joined = finish(method.join(base, (rex, tom), method.settings[0], 0))
    assert shares[-1] == 1.0
    (together,) = method.draw(base, (rex, tom), joined, [PAIR], DRAWING)
    (alone,) = method.draw(base, (rex,), joined, [ALONE], DRAWING)
    assert together.shape == alone.shape == (64, 64, 3)
    assert together.dtype == np.uint8
    assert digest_base(base) == before


def test_a_suites_own_steps_reach_the_example(method):
    assert override(method, method.settings[1], {"steps": 0.7}) == {"rate": 0.5, "steps": 0.7}


def test_the_example_suite_can_be_read():
    suite = Suite.model_validate(yaml.safe_load(SUITE))
    assert [concept.name for concept in suite.concepts] == ["rex", "anna"]


def test_the_text_names_what_is_there():
    for module, names in re.findall(r"^\| `bench\.([\w.]+)\.(\w+)`", TEXT, re.MULTILINE):
        assert hasattr(importlib.import_module(f"d2plan.bench.{module}"), names)
    assert set(re.findall(r"-m ([\w,-]+) ", TEXT)) >= {"all", "isp-dislora,isp-lora,lora-mean"}
