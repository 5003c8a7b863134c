import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("src", "tests", "scripts", "examples", "benchmarks")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
SOURCES = [path for path in FILES if path.is_relative_to(ROOT / "src")]
FILE_LINES, FUNCTION_LINES, PARAMETERS = 400, 60, 8
BANNED = re.compile(r"(^|_)(manager|handler|helper|util|utils|v2|old|new)(_|$)")


def name_of(path):
    return str(path.relative_to(ROOT))


def functions_in(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def lines_without_docstring(function):
    first = function.body[0]
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function, clean=False) is not None:
        lines -= first.end_lineno - first.lineno + 1
    return lines


def words_of(name):
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def test_the_package_was_found():
    assert len(SOURCES) >= 10


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_fits_in_its_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= FILE_LINES


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_functions_are_short_and_take_few_parameters(path):
    for function in functions_in(path):
        taken = function.args
        parameters = [*taken.posonlyargs, *taken.args, *taken.kwonlyargs]
        parameters = [parameter for parameter in parameters if parameter.arg not in ("self", "cls")]
        assert lines_without_docstring(function) <= FUNCTION_LINES, function.name
        # A command's parameters are its options, which issue and documents decide.
        if "cli" not in path.parts:
            assert len(parameters) <= PARAMETERS, function.name


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_names_hold_no_word_that_says_nothing(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    names = [path.stem, *(node.name for node in ast.walk(tree) if isinstance(node, kinds))]
    assert [name for name in names if BANNED.search(words_of(name))] == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_nothing_is_left_for_later(path):
    assert re.search(r"\b(TODO|FIXME|XXX|NotImplementedError)\b", path.read_text(encoding="utf-8")) is None


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_imports_stand_at_the_top_outside_the_command_line(path):
    if "cli" in path.parts:
        return
    for function in functions_in(path):
        assert not [node for node in ast.walk(function) if isinstance(node, ast.Import | ast.ImportFrom)], function.name


def test_init_files_of_sub_packages_are_empty():
    inits = [path for path in SOURCES if path.name == "__init__.py" and path.parent.name != "d2plan"]
    assert inits
    assert [name_of(path) for path in inits if path.read_text(encoding="utf-8").strip()] == []
