"""The benchmarks still run on the embedded base, and name what their committed results name."""

import json
import sys
from pathlib import Path

import pytest
import torch

from tests.scripts.loading import load_scripts

NAMES = ("compose_step", "train_step", "compose_full", "compose_memory", "load_concept")
BENCHMARKS = dict(zip(NAMES, load_scripts("../benchmarks", *NAMES), strict=True))
RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run a benchmark with options as short as they may be; gives what it wrote."""

    def run_it(name, *options):
        out = tmp_path / "numbers.json"
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *options, "--out", str(out)])
        BENCHMARKS[name].main()
        return json.loads(out.read_text(encoding="utf-8"))

    return run_it


def read(name):
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def test_a_composing_step_is_timed_beside_the_same_rivals(run):
    found, kept = run("compose_step", "--base", "mini", "--rounds", "1", "--steps", "1"), read("compose_step")
    assert found["mini"].keys() == kept["mini"].keys()
    assert found["mini"]["methods"].keys() == kept["mini"]["methods"].keys() == kept["middle"]["methods"].keys()
    assert found["mini"]["weights"] == kept["mini"]["weights"]
    assert all(one["seconds"] > 0 for one in found["mini"]["methods"].values())


def test_a_training_step_is_timed_beside_the_same_loop(run):
    found, kept = run("train_step", "--batch", "1", "--rounds", "1"), read("train_step_mini")
    assert [row["method"] for row in found["rows"]] == [row["method"] for row in kept["rows"]]
    assert all(row["seconds_a_step"] > 0 for row in found["rows"])


def test_a_concept_of_sdxl_size_is_opened(run):
    found, kept = run("load_concept", "--rank", "2", "--rounds", "1"), read("load_concept")
    assert found.keys() == kept.keys()
    assert found["layers"] == kept["layers"]
    assert found["seconds"] > 0


def test_whole_pictures_are_timed_beside_the_pipeline(run):
    options = ("--base", "mini", "--device", "cpu", "--precision", "fp32", "--most", "2", "--steps", "3", "--rank", "2")
    rows = run("compose_full", *options)["rows"]
    assert [row["concepts"] for row in rows] == [1, 2]
    assert all(row["seconds_a_picture"] > 0 and row["times_the_pipeline"] > 0 and row["tflops"] > 0 for row in rows)


def test_a_picture_of_two_steps_has_none_to_time(run, capsys):
    with pytest.raises(SystemExit) as leaving:
        run("compose_full", "--steps", "2")
    assert leaving.value.code == 2
    assert "give 3 or more" in capsys.readouterr().err


def test_a_peak_of_before_is_forgotten():
    memory = BENCHMARKS["compose_memory"]
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("/proc is not there, so no peak can be set back")
    assert read("compose_memory")["ways"].keys() == {memory.BARE, *memory.WAYS}
    big = torch.ones(150_000_000)
    before = memory._read_peak()
    del big
    memory._forget_peak()
    assert memory._read_peak() < before - 500_000_000
    assert memory.measure_peak("low", 1)["adapters"] > 0


def test_the_picture_of_the_speeds_is_drawn(monkeypatch, tmp_path):
    pytest.importorskip("matplotlib", reason="the extra d2plan[plots] is not installed")
    (draw,) = load_scripts("../benchmarks", "draw")
    monkeypatch.setattr(sys, "argv", ["draw.py", "--out", str(tmp_path / "speed.webp")])
    draw.main()
    assert (tmp_path / "speed.webp").stat().st_size > 1000
