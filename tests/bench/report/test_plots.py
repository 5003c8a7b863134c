import functools
import re
from xml.etree import ElementTree

import pytest

from d2plan.bench.records import Results
from d2plan.bench.report import plots
from d2plan.bench.report.plots import check_plots, draw_costs, draw_differences, draw_scores
from d2plan.errors import MissingExtraError
from tests.bench.report.synthetic import KINDS, make_results

FEW = {name: KINDS[name] for name in ("isp-dislora", "lora-merge", "textual-inversion")}


@functools.cache
def spatial() -> Results:
    return make_results(methods=FEW)


@functools.cache
def drawn() -> tuple[plots.Plot, ...]:
    return (*draw_scores(spatial()), *draw_differences(spatial()), *draw_costs(spatial()))


def texts(plot: plots.Plot) -> list[str]:
    return [node.text for node in ElementTree.fromstring(plot.svg).iter("{http://www.w3.org/2000/svg}text")]


def test_there_is_a_plot_for_each_metric_and_cost():
    assert [plot.key for plot in drawn()] == [
        "scores-text_scaled", "scores-image", "scores-identity", "scores-consistency_all",
        "differences-identity", "differences-image", "differences-consistency_all",
        "cost-rows", "cost-seconds", "cost-learning",
    ]  # fmt: skip


def test_names_are_text_so_that_they_can_be_read_and_searched():
    found = texts(drawn()[2])
    assert "ISP + DisLoRA" in found
    assert "Textual Inversion °" in found
    assert {"one concept", "several concepts"} <= set(found)
    assert "not validated" in texts(drawn()[4])


def test_a_title_says_what_the_lines_are_and_a_row_without_any_why():
    assert drawn()[2].title == "Identity alignment ↑: one concept and several concepts"
    first, second, third = spatial().methods
    single = tuple(one for one in second.pictures if one.shot.startswith("single"))
    idle = third.model_copy(update={"pictures": (), "series": (), "learned": ()})
    some = second.model_copy(update={"pictures": single, "series": second.series[:12]})
    results = spatial().model_copy(update={"methods": (first, some, idle), "finished": False})
    for plot in draw_scores(results):
        assert {"not run yet", "several concepts: not run yet"} <= set(texts(plot))
    assert all("not run yet" in texts(plot) for plot in (*draw_differences(results), *draw_costs(results)))
    assert not any("not run yet" in texts(plot) for plot in drawn())


def test_several_plots_fit_on_one_page():
    names = [name for plot in drawn() for name in re.findall(r' id="(\w+)"', plot.svg)]
    assert len(names) == len(set(names))
    assert not any("<style" in plot.svg for plot in drawn())


def test_a_plot_needs_nothing_but_itself():
    for plot in drawn():
        assert not re.search(r'(?:href|src)="(?!#)', plot.svg)
        assert plot.svg.startswith("<svg")


def test_on_a_page_colours_follow_the_page():
    inline = drawn()[0].inline
    assert "var(--one)" in inline
    assert "var(--ink)" in inline
    assert not re.search(r"#(?:20242b|0068a3|9a6400|ffffff)", inline)


def test_the_same_results_give_the_same_bytes():
    assert draw_costs(spatial())[0].svg == drawn()[7].svg


def test_without_ours_there_are_no_differences():
    assert draw_differences(make_results(methods={"lora-merge": KINDS["lora-merge"]})) == []


def test_without_matplotlib_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(plots, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"d2plan\[plots\]"):
        check_plots()
