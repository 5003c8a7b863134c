"""The list of metrics names every number that results hold, and where each one is computed."""

import importlib
import re
from pathlib import Path

import pytest

from d2plan.eval.names import MEASURES

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "metrics.md").read_text()
NAMES = {
    name for cell in re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", TEXT, re.MULTILINE) for name in re.findall(r"\w+", cell)
}
ROOMS = "alignment|criteria|films|identity|matching|metrics|measure|score|temporal|distribution"
HOMES = set(re.findall(rf"`((?:{ROOMS})\.\w+)`", TEXT))


def test_every_number_is_explained_and_no_other():
    assert set(MEASURES) == NAMES


@pytest.mark.parametrize("home", sorted(HOMES))
def test_each_home_is_there(home: str):
    module, name = home.split(".")
    assert callable(getattr(importlib.import_module(f"d2plan.eval.{module}"), name))
