"""docs/benchmark.md names every field of a suite and of a method, and no other."""

import re
from pathlib import Path

import pytest

from d2plan.bench.protocol import Method
from d2plan.bench.registry import METHODS, open_method
from d2plan.bench.shared.settings import list_names
from d2plan.bench.suites import Suite, SuiteConcept, SuitePrompt

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "benchmark.md").read_text(encoding="utf-8")
SOURCES = [path.read_text(encoding="utf-8") for path in (ROOT / "src" / "d2plan" / "bench").rglob("*.py")]


def rows_after(sentence):
    """Read the table below a sentence: the names in its first column, and the last cell of each."""
    table = re.search(rf"{re.escape(sentence)}\n\n((?:\|.*\n)+)", TEXT).group(1).splitlines()[2:]
    cells = [line.strip("|").split(" | ") for line in table]
    return {name: own[-1].strip(" |") for own in cells for name in re.findall(r"`(\w+)`", own[0])}


@pytest.mark.parametrize(
    ("sentence", "document"),
    [("Of the suite:", Suite), ("Of a concept:", SuiteConcept), ("Of a prompt:", SuitePrompt)],
)
def test_every_field_of_a_suite_is_explained_with_what_counts_without_it(sentence, document):
    rows = rows_after(sentence)
    assert set(rows) == set(document.model_fields)
    for name, field in document.model_fields.items():
        assert (rows[name] == "must be there") == field.is_required(), name
        if isinstance(field.default, int | str) and field.default != "" and name != "kind":
            assert str(field.default) in rows[name], name


def test_every_attribute_of_a_method_is_explained():
    asked = {name for text in SOURCES for name in re.findall(r'(?:get|has)attr\([\w.]*method, "(\w+)"', text)}
    own = set(Method.__annotations__) | {name for name in vars(Method) if not name.startswith("_")}
    assert asked >= {"learns_as", "learns_from", "learns_by", "takes"}
    rows = rows_after("These are all that a method's object may have; what is optional can be left out:")
    assert set(rows) == own | asked
    told = (ROOT / "src/d2plan/bench/protocol.py").read_text(encoding="utf-8")
    assert all(f"``{name}``" in told for name in asked - own)


def test_the_number_of_a_suites_settings_that_the_page_names_is_one_that_methods_know():
    (named,) = re.findall(r"`\{(\w+): 0\.1\}`", TEXT)
    assert all(named in list_names(open_method(name)) for name in METHODS)
