import re
from decimal import Decimal

import pytest

from d2plan.bench.report.tables import (
    GLUE,
    MINUS,
    Cell,
    Column,
    Table,
    escape_markdown,
    list_groups,
    round_number,
    write_estimate,
    write_markdown,
    write_number,
)
from d2plan.eval.metrics import Estimate

TABLE = Table(
    "one",
    "A | title",
    "A note.",
    (Column("Method", words=True), Column("Single", "Identity"), Column("Multi", "Identity"), Column("n")),
    ((Cell("a|b <v1>"), Cell("0.700", "0.600 … 0.800", strong=True), Cell("0.600"), Cell("–")),),
)


def split_row(line: str) -> list[str]:
    return re.split(r"(?<!\\)\|", line)[1:-1]


@pytest.mark.parametrize(
    ("value", "signed", "text"),
    [(-0.0714, False, f"{MINUS}0.071"), (0.0304, True, "+0.030"), (-0.0004, True, "0.000"), (1.0, False, "1.000")],
)
def test_numbers_have_three_digits_and_a_true_minus(value, signed, text):
    assert write_number(value, signed=signed) == text


def test_rounding_is_exact_in_decimals():
    assert round_number(0.0005) == Decimal("0.000")
    assert round_number(0.0015) == Decimal("0.002")
    assert round_number(0.1 + 0.2) == Decimal("0.300")


def test_every_row_of_markdown_has_as_many_cells_as_columns():
    lines = [line for line in write_markdown(TABLE).splitlines() if line.startswith("|")]
    assert [len(split_row(line)) for line in lines] == [4, 4, 4]
    assert lines[1] == "| :-- | --: | --: | --: |"


def test_markdown_keeps_what_users_wrote_and_marks_the_best():
    text = write_markdown(TABLE)
    assert r"a\|b &lt;v1&gt;" in text
    assert "**0.700**<br><sub>0.600 … 0.800</sub>" in text
    assert "Identity: Single" in text
    assert text.startswith("### A \\| title")
    assert "A note." in text


def test_a_table_without_rows_says_so():
    assert "Nothing to show." in write_markdown(Table("x", "X", "", (Column("a"),), ()))


def test_groups_span_their_columns():
    assert list(list_groups(TABLE)) == [("", 1), ("Identity", 2), ("", 1)]


def test_an_estimate_shows_its_interval_and_its_absence_a_dash():
    cell = write_estimate(Estimate(0.5, 0.4, 0.6, 3), strong=True)
    assert (cell.text, cell.below, cell.strong) == ("0.500", f"0.400{GLUE}…{GLUE}0.600", True)
    assert write_estimate(None).text == "–"


def test_line_breaks_and_marks_do_not_leave_a_cell():
    assert escape_markdown("a\nb * _c_ `d` [e](f)") == r"a b \* \_c\_ \`d\` \[e\](f)"


def test_a_wide_table_is_whole_without_intervals_and_has_them_group_by_group():
    columns = (Column("Method", words=True), *(Column(f"c{n}", f"G{n // 4}") for n in range(12)))
    row = (Cell("ours"), *(Cell(f"{n}.0", "1 … 2") for n in range(12)))
    text = write_markdown(Table("wide", "Wide", "A note.", columns, (row,)))
    assert text.count("\n#### G") == 3
    assert text.count("<sub>") == 12
    assert text.count("A note.") == 1
    whole, *parts = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert len(split_row(whole.splitlines()[0])) == 13
    assert [len(split_row(part.splitlines()[2])) for part in parts] == [5, 5, 5]
