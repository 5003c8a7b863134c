"""The list of equations says where each one lives, and the docstring there says which one it is."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROWS = re.findall(
    r"^\| \((\d+)\)[^|]*\|[^|]*\| `([\w.]+)` \|$", (ROOT / "docs" / "equations.md").read_text(), re.MULTILINE
)


def test_the_list_holds_every_equation_that_is_built():
    assert {number for number, _ in ROWS} == {"1", "2", "3", "4", "7", "8", "9", "10"}


@pytest.mark.parametrize(("number", "home"), ROWS)
def test_each_equation_is_cited_where_it_lives(number: str, home: str):
    module, name = home.rsplit(".", 1)
    docstring = getattr(importlib.import_module(module), name).__doc__
    assert re.search(rf"eq\. \({number}\)|eq\. .*\({number}\)", docstring)
