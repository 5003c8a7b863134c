import functools
from dataclasses import replace
from decimal import Decimal

import pytest

from d2plan.bench.records import Results
from d2plan.bench.report.paper_tables import make_beside
from d2plan.bench.report.score_tables import (
    explain_marks,
    make_ablation,
    make_counts,
    make_differences,
    make_kinds,
    make_metric_tables,
    make_overview,
    summarise_aim,
)
from d2plan.bench.report.tables import MINUS, Table
from tests.bench.report.synthetic import ABLATION, KINDS, make_results


@functools.cache
def spatial() -> Results:
    return make_results()


def read(text: str) -> Decimal:
    return Decimal(text.replace(MINUS, "-"))


def row_of(table: Table, name: str) -> list:
    return next(list(row) for row in table.rows if row[0].text.startswith(name))


def test_every_printed_difference_is_that_of_the_printed_numbers():
    table = make_overview(spatial())
    assert len(table.columns) == 13
    for row in table.rows:
        for start in range(1, 13, 3):
            single, multi, difference = (read(cell.text) for cell in row[start : start + 3])
            assert difference == multi - single
            assert "…" in row[start].below


def test_the_best_is_bold_but_never_one_with_gaps_or_without_validation():
    grand = {**KINDS, "mix-of-show": replace(KINDS["mix-of-show"], identity=0.95)}
    grand["textual-inversion"] = replace(KINDS["textual-inversion"], identity=0.9)
    table = make_overview(make_results(methods=grand))
    assert not any(cell.strong for cell in row_of(table, "Textual Inversion"))
    mix = row_of(table, "Mix-of-Show")
    assert mix[7].strong  # it drew every picture with one concept
    assert not mix[8].strong
    assert row_of(table, "ISP + DisLoRA")[8].strong


def test_what_has_not_run_yet_is_told_apart_from_what_failed_and_from_what_was_not_measured():
    first, *rest = spatial().methods
    idle = first.model_copy(update={"name": "idle", "title": "Idle", "pictures": (), "series": ()})
    mix = rest[-1]
    alone = tuple(one for one in mix.pictures if one.shot.startswith("single"))
    lost = mix.failures[0].model_copy(
        update={"shots": tuple(shot.name for shot in spatial().suite.shots if shot.part == "multi")}
    )
    broken = mix.model_copy(update={"pictures": alone, "failures": (lost,)})
    results = spatial().model_copy(update={"methods": (first, idle, broken), "finished": False})
    table = make_overview(results)
    waits, breaks = row_of(table, "Idle"), row_of(table, "Mix-of-Show")
    assert {cell.text for cell in waits[1:]} == {"not run yet"}
    assert waits[0].text == "Idle …"
    assert breaks[0].text == "Mix-of-Show †"
    assert [cell.text for cell in breaks[8:10]] == ["failed", "failed"]
    told = explain_marks(results)
    assert "† pictures that failed, of 63: Mix-of-Show 27." in told
    assert "… pictures not drawn yet, of 63: Idle 63." in told
    several = row_of(make_differences(results)[0], "Idle")
    assert {cell.text for cell in several[1:]} == {"not run yet"}
    assert any("not run yet: Idle; failed: Mix-of-Show" in sentence for sentence in summarise_aim(results))
    beside = next(row for row in make_beside(results).rows if row[0].text.startswith("Idle"))
    assert {cell.text for cell in beside[2:]} == {"not run yet"}


def test_marks_are_explained():
    told = explain_marks(spatial())
    assert "below 80 %" in told
    assert "Mix-of-Show 9" in told
    names = [row[0].text for row in make_overview(spatial()).rows]
    assert "Textual Inversion °" in names
    assert "Mix-of-Show †" in names


def test_without_plain_lora_methods_are_marked_as_not_checked():
    kinds = {name: replace(kind, validated=None) for name, kind in KINDS.items()}
    results = make_results(methods=kinds)
    assert all("?" in row[0].text for row in make_overview(results).rows)
    assert "not checked" in explain_marks(results)
    assert "ahead of 0 of 0 validated rivals" in summarise_aim(results)[0]


@pytest.mark.parametrize(
    ("plain", "drawn"),
    [("isp-lora", "which draws one concept by ISP"), ("lora-merge", "one LoRA at strength 0.8")],
)
def test_the_report_says_whose_pictures_stand_for_plain_lora(plain, drawn):
    results = spatial()
    methods = [
        one.model_copy(update={"setting": {"strength": 0.8} if one.name == "lora-merge" else {}})
        for one in results.methods
    ]
    results = results.model_copy(update={"plain": plain, "methods": tuple(methods)})
    told = f"80 % of plain LoRA's single-concept identity (that of {KINDS[plain].title}, {drawn})"
    assert summarise_aim(results)[-1] == f"Validated: reaches {told}."
    assert f"it stays below {told}, so it" in explain_marks(results)


def test_differences_say_in_words_who_is_ahead():
    multi, change = make_differences(spatial())
    assert row_of(multi, "DreamBooth")[1].text.endswith(" ahead")
    assert row_of(multi, "Textual Inversion")[1].text.endswith(" not validated")
    assert len(multi.rows) == len(change.rows) == 5
    assert row_of(change, "LoRA merge")[1].tone == "good"
    assert change.columns == multi.columns
    assert {len(row) for row in change.rows} == {5}


def test_a_rival_that_wins_is_said_to_win():
    strong = {**KINDS, "dreambooth": replace(KINDS["dreambooth"], identity=0.9, loss=0.0)}
    results = make_results(methods=strong)
    multi, _ = make_differences(results)
    assert row_of(multi, "DreamBooth")[1].text.endswith(" behind")
    sentences = summarise_aim(results)
    assert any("Identity" in one and "behind DreamBooth" in one for one in sentences)
    assert any("DreamBooth changes by" in one for one in sentences)
    strong = {**KINDS, "textual-inversion": replace(KINDS["textual-inversion"], identity=0.9, loss=0.0)}
    assert "; behind Textual Inversion (not validated)" in summarise_aim(make_results(methods=strong))[0]


def test_the_aim_counts_validated_rivals_alone():
    sentences = summarise_aim(spatial())
    assert sentences[0] == "Identity alignment, several concepts: ahead of 3 of 3 validated rivals."
    assert sentences[-1] == "Not validated, so not counted as beaten: Textual Inversion."


def test_without_ours_or_rivals_there_is_nothing_to_compare():
    rivals = {name: kind for name, kind in KINDS.items() if name != "isp-dislora"}
    assert make_differences(make_results(methods=rivals)) == []
    alone = make_results(methods={"isp-dislora": KINDS["isp-dislora"]})
    assert make_differences(alone) == []
    assert summarise_aim(alone) == []


def test_the_full_tables_hold_every_metric_and_say_how_many_values_there_are():
    single, multi = make_metric_tables(spatial())
    assert len(single.rows) == len(multi.rows) == 16
    attributes = row_of(single, "Attributes bound")
    assert attributes[1].below.endswith("n 24/36")
    assert "↓" in row_of(multi, "Swapped")[0].text


def test_the_ablation_compares_each_variant_with_the_full_method():
    single, multi = make_ablation(make_results(methods=ABLATION, kind="ablation"))
    full, no_cnc = row_of(multi, "Full ISP"), row_of(multi, "CNC off")
    assert full[2].text == "–"
    assert no_cnc[2].text.startswith(MINUS)
    assert no_cnc[2].tone == "bad"
    assert "80 %" not in single.note


def test_identity_is_told_by_kind_of_concept():
    table = make_kinds(spatial())
    assert [column.title for column in table.columns] == ["Method", "animal (1)", "person (2)", "thing (1)"]


def test_numbers_of_instances_get_a_table_where_there_are_more_than_two():
    assert make_counts(spatial()) is None
    suite = spatial().suite
    three = suite.shots[-1].model_copy(update={"name": "three", "concepts": ("man-7", "dog-3", "woman-11")})
    results = spatial().model_copy(update={"suite": suite.model_copy(update={"shots": (*suite.shots, three)})})
    table = make_counts(results)
    assert [column.title for column in table.columns[1:4]] == ["N = 1", "N = 2", "N = 3"]
    assert table.rows[0][3].text == "not run yet"
