from decimal import Decimal

from d2plan.bench.registry import METHODS
from d2plan.bench.report.paper import PAPER_ROW_OF, PAPER_TITLES, TABLE_2, TABLE_3, PaperCell


def test_table_2_holds_four_wrong_differences_and_table_3_one():
    found = [(method, metric, str(cell.difference)) for method, metric, cell in TABLE_2.list_errors()]
    assert found == [
        ("textual-inversion", "image", "-0.071"),
        ("p-plus", "consistency", "-0.103"),
        ("custom-diffusion", "image", "-0.028"),
        ("isp-dislora", "identity", "-0.013"),
    ]
    assert [(m, k, str(c.difference)) for m, k, c in TABLE_3.list_errors()] == [
        ("textual-inversion", "consistency", "-0.005")
    ]


def test_every_row_has_every_metric_and_a_title():
    for table in (TABLE_2, TABLE_3):
        for method, cells in table.rows.items():
            assert method in PAPER_TITLES
            assert list(cells) == list(table.metrics)


def test_the_rows_are_methods_of_the_bench():
    assert set(PAPER_ROW_OF) <= set(METHODS)
    assert set(PAPER_ROW_OF.values()) == set(TABLE_2.rows)


def test_a_difference_is_exact_in_decimals():
    cell = PaperCell("0.705", "0.692", "+0.013")
    assert cell.difference == Decimal("-0.013")
    assert cell.is_wrong
    assert not PaperCell("0.538", "0.538", "+0.000").is_wrong
