import functools
from statistics import fmean

from d2plan.bench.records import METRICS, Results
from d2plan.bench.report.cost_tables import (
    make_drawing_costs,
    make_encoders,
    make_failures,
    make_learning_costs,
    make_settings,
    make_sources,
    make_unmeasured,
)
from d2plan.bench.report.paper import TABLE_2
from d2plan.bench.report.paper_tables import make_beside, make_corrections
from d2plan.bench.report.tables import MINUS
from tests.bench.report.synthetic import KINDS, make_results


@functools.cache
def spatial() -> Results:
    return make_results()


def texts(row) -> list[str]:
    return [cell.text for cell in row]


def test_a_picture_costs_rows_seconds_and_memory():
    table = make_drawing_costs(spatial())
    assert texts(table.rows[0]) == ["ISP + DisLoRA", "105", "4.20", "140", "4.20", "900"]
    assert "a made-up processor" in table.note


def test_a_concept_costs_training_and_where_needed_joining():
    table = make_learning_costs(spatial())
    expected = fmean(one.cost.seconds for one in spatial().methods[0].learned)
    assert table.rows[0][1].text == f"{expected:.1f}"
    assert texts(table.rows[0])[5:] == ["–", "–", "–"]
    assert table.rows[-1][5].text == "31.0"


def test_costs_of_two_machines_are_told_apart():
    def at(one, machine):
        return one.model_copy(update={"cost": one.cost.model_copy(update={"machine": machine})})

    def measured(*machines):
        methods = [
            method.model_copy(
                update={
                    "learned": tuple(at(one, machine) for one in method.learned),
                    "pictures": tuple(at(one, machine) for one in method.pictures),
                }
            )
            for method, machine in zip(spatial().methods, machines, strict=False)
        ]
        results = spatial().model_copy(update={"methods": tuple(methods)})
        return make_drawing_costs(results).note, make_learning_costs(results).note

    for note in measured("an EPYC, 1 cores, cpu", "an EPYC, 1 cores, cpu"):
        assert "Measured on an EPYC, 1 cores, cpu." in note
    for note in measured("an EPYC, 1 cores, cpu", "an EPYC, 2 cores, cpu", "an EPYC, 1 cores, cpu", ""):
        assert "compare only within one of the places where they were measured" in note
        assert (
            "an EPYC, 1 cores, cpu: ISP + DisLoRA, LoRA merge; an EPYC, 2 cores, cpu: ISP + LoRA; where nobody" in note
        )


def test_what_was_learnt_by_another_method_is_said():
    first, *rest = spatial().methods
    shared = tuple(one.model_copy(update={"shared_from": "lora-merge"}) for one in first.learned)
    results = spatial().model_copy(update={"methods": (first.model_copy(update={"learned": shared}), *rest)})
    assert "ISP + DisLoRA took what LoRA merge had learnt" in make_learning_costs(results).note


def test_failures_name_method_stage_concepts_and_reason():
    table = make_failures(spatial())
    reason = "the matrix of the fusion is singular"
    assert texts(table.rows[0]) == ["Mix-of-Show †".removesuffix(" †"), "joining", "man-7 + woman-11", "9", reason]
    assert make_failures(make_results(methods={"isp-dislora": KINDS["isp-dislora"]})).rows == ()


def test_what_could_not_be_measured_is_counted():
    rows = {row[0].text: texts(row) for row in make_unmeasured(spatial()).rows}
    assert rows["Mix-of-Show †"][1:4] == ["54 of 63", "9", "0"]
    lost = sum(
        one.values["identity_found"] is None for picture in spatial().methods[4].pictures for one in picture.instances
    )
    assert lost > 0
    assert rows["Textual Inversion °"][6] == f"{lost} of 90"


def test_where_nobody_looked_nothing_is_counted():
    results = spatial()
    first = results.methods[0]
    blind = [
        picture.model_copy(
            update={"instances": tuple(one.model_copy(update={"values": {"text": 0.2}}) for one in picture.instances)}
        )
        for picture in first.pictures
    ]
    results = results.model_copy(update={"methods": (first.model_copy(update={"pictures": tuple(blind)}),)})
    assert texts(make_unmeasured(results).rows[0])[5:] == ["–", "–"]


def test_what_has_not_run_yet_costs_not_run_yet_and_not_nothing():
    first, second, *_ = spatial().methods
    cut = first.model_copy(update={"pictures": first.pictures[:36]})
    idle = second.model_copy(update={"pictures": (), "learned": ()})
    results = spatial().model_copy(update={"methods": (cut, idle), "finished": False})
    drawing, learning = make_drawing_costs(results), make_learning_costs(results)
    assert texts(drawing.rows[0]) == ["ISP + DisLoRA …", "105", "4.20", "not run yet", "not run yet", "900"]
    assert set(texts(drawing.rows[1])[1:]) == set(texts(learning.rows[1])[1:]) == {"not run yet"}
    assert texts(learning.rows[0])[5:] == ["not run yet"] * 3
    assert texts(make_unmeasured(results).rows[0])[1:4] == ["36 of 63", "0", "27"]
    assert make_failures(results).rows == ()


def test_every_metric_says_which_encoder_made_it():
    rows = {row[0].text[:-2]: texts(row) for row in make_encoders(spatial()).rows}
    assert len(rows) == len(METRICS)
    assert rows["DINO"][2] == "mini-vit 3d4e5f"
    without = spatial().model_copy(update={"encoders": {}})
    assert {row[2].text for row in make_encoders(without).rows} == {"none: not measured"}


def test_a_detector_in_the_judges_place_is_named_where_it_found_what_was_measured():
    def made(**encoders):
        own = {"clip": "clip 1", "dino": "dino 2", "finder": "grounded", **encoders}
        table = make_encoders(spatial().model_copy(update={"encoders": own}))
        return {row[0].text[:-2]: row[2].text for row in table.rows}

    crops = made(identity="crops in dino 2")
    assert crops["Present"] == "grounded"
    assert crops["DINO"] == "dino 2"
    assert crops["DINO (instance)"] == "dino 2, found by grounded"
    assert crops["Identity alignment"] == crops["Swapped"] == "crops in dino 2, found by grounded"
    assert crops["First of 20"] == crops["Attributes bound"] == "none: not measured"
    assert made(identity="face:sface 3")["Identity alignment"] == "face:sface 3"
    assert made()["Swapped"] == "none: not measured"


def test_settings_tell_what_was_tried_and_what_failed():
    row = texts(make_settings(spatial()).rows[0])
    assert row[1:3] == ["rate 1", "tuned here"]
    assert row[3] == "rate 1: 0.700; rate 3: the loss is not finite"
    assert all(row[1].text for row in make_sources(spatial()).rows)


def test_the_papers_rows_stand_beside_ours_with_right_differences():
    table = make_beside(spatial())
    rows = {row[0].text: texts(row) for row in table.rows}
    assert rows["ISP + DisLoRA"][1] == "mini"
    assert rows["ISP + DisLoRA, paper"][1] == "SDXL"
    assert rows["ISP + DisLoRA, paper"][8:11] == ["0.705", "0.692", f"{MINUS}0.013 ‡"]
    assert sum(name.endswith(", paper") for name in rows) == len(TABLE_2.rows)
    assert "another base model" in table.note


def test_the_corrections_are_the_five_that_are_wrong():
    table = make_corrections()
    assert [row[-1].text for row in table.rows] == [
        f"{MINUS}0.071", f"{MINUS}0.103", f"{MINUS}0.028", f"{MINUS}0.013", f"{MINUS}0.005"
    ]  # fmt: skip


def test_the_claim_that_the_right_difference_turns_around_is_right():
    lost = {name: cells["identity"].difference for name, cells in TABLE_2.rows.items()}
    ours = lost.pop("isp-dislora")
    less = sorted(name for name, value in lost.items() if value > ours)
    assert less == ["dreambooth", "mix-of-show", "p-plus", "textual-inversion"]
