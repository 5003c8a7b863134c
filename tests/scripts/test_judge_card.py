"""The judge's card: what it says of the training comes from the logs."""

import importlib
import json
import sys
from pathlib import Path

import pytest

from d2plan.eval.networks import PARTS

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
NAMES = "augment autoencoder card common data lessons measure models render tokenizer train words".split()


@pytest.fixture
def card(monkeypatch):
    """The script as a module; other scripts have files of the same names."""
    kept = {name: sys.modules.pop(name) for name in NAMES if name in sys.modules}
    monkeypatch.setattr(sys, "path", [str(SCRIPTS / "judge"), str(SCRIPTS / "mini"), *sys.path])
    yield importlib.import_module("card")
    for name in NAMES:
        sys.modules.pop(name, None)
    sys.modules.update(kept)


def test_steps_are_whole_numbers_and_seconds_add_up_over_all_runs(card, monkeypatch, tmp_path):
    monkeypatch.setattr(card, "WORK", tmp_path)
    # The log writes every number as one with a point.
    lines = [{"step": 100.0, "cpu_seconds": 20.0}, {"step": 5150.0, "cpu_seconds": 1500.4}]
    for name in PARTS:
        (tmp_path / f"{name}.log.jsonl").write_text("\n".join(map(json.dumps, lines)))
    rows = card.describe_training()[2:]
    assert len(rows) == len(PARTS)
    assert all("| 5150 |" in row and row.endswith("| 1,500 |") for row in rows)
