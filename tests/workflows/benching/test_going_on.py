"""A results folder that is gone on with: tuned, joined with another, damaged, or after failures."""

import json
import shutil
from dataclasses import replace

import pytest
import yaml

from d2plan.bench.report.comparison import count_missing
from d2plan.bench.store import PLAN, read_plan
from d2plan.errors import InputError
from d2plan.workflows.benching import session
from d2plan.workflows.benching.bench import TITLE, WRITING, run_bench
from d2plan.workflows.benching.panel import PanelChoice
from d2plan.workflows.scoring.folders import score_folders
from d2plan.workflows.scoring.sources import ScoreRequest
from tests.bench.toys import OTHER, SUITE, TOY
from tests.workflows.bench_requests import MiddleOfThePicture, request_of


@pytest.fixture
def tuned(place, tmp_path, monkeypatch):
    """A request that tunes first, on concepts of its own."""
    monkeypatch.setattr("d2plan.bench.tuning.COMPARED", ("dino",))
    concepts = [{**one, "seed": one["seed"] + 10} for one in SUITE["concepts"]]
    (tmp_path / "tuning.yaml").write_text(yaml.safe_dump({**SUITE, "concepts": concepts}), encoding="utf-8")
    return request_of(place, tune=True, tuning=str(tmp_path / "tuning.yaml"))


def test_a_tuning_of_results_that_are_not_tuned_is_refused_before_it_begins(place, tuned, tmp_path):
    run_bench(request_of(place), tmp_path / "out")
    told = []
    with pytest.raises(InputError, match="this tuning did not choose; go on with them without --tune, .*--redo toy"):
        run_bench(replace(tuned, methods=("other", "toy")), tmp_path / "out", lambda *step: told.append(step))
    assert told == []
    # Nor does the folder ask for what was refused from now on.
    assert read_plan(tmp_path / "out" / PLAN)["methods"] == ["toy"]
    assert run_bench(replace(tuned, redo=("toy",)), tmp_path / "out").results.methods[0].chosen == "tuned here"
    assert run_bench(tuned, tmp_path / "out").results.finished


def test_a_stop_between_a_tuning_and_its_method_goes_on(place, tuned, tmp_path, monkeypatch):
    # Both learn alike; the other one has learnt with the setting that the tuning then does not choose.
    monkeypatch.setattr(TOY, "learns_as", "family", raising=False)
    monkeypatch.setattr(OTHER, "learns_as", "family", raising=False)
    run_bench(request_of(place, methods=("other",)), tmp_path / "out")
    monkeypatch.setattr(session, "choose_setting", lambda tried: {"level": 2.0} if tried else None)
    with monkeypatch.context() as patch:
        patch.setattr(session, "write_tuned", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_bench(tuned, tmp_path / "out")
    assert not (tmp_path / "out" / "methods" / "toy" / "method.json").exists()
    told = []
    outcome = run_bench(tuned, tmp_path / "out", lambda *step: told.append(step[0]))
    assert outcome.results.methods[1].setting == {"level": 2.0} and outcome.results.finished
    assert "toy: learning: rex" in told and "toy: tuning" not in {what[:11] for what in told}


def test_pictures_of_an_edited_suite_are_drawn_anew_until_something_is_learnt_from_them(place, tmp_path, monkeypatch):
    out, suite = tmp_path / "out", tmp_path / "suite.yaml"

    def write(seed, images):
        concepts = [{**SUITE["concepts"][0], "seed": seed}, SUITE["concepts"][1]]
        suite.write_text(yaml.safe_dump({**SUITE, "concepts": concepts, "images": images}), encoding="utf-8")

    request = request_of(place, suite=str(suite))
    write(7, 3)
    with monkeypatch.context() as patch:
        patch.setattr(session, "claim_folder", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_bench(request, out)
    assert (out / "concepts" / "rex").is_dir() and not (out / PLAN).exists()
    write(9, 2)
    record = run_bench(request, out).results.suite.concepts[0]
    assert json.loads((out / "concepts" / "rex" / "world.json").read_text())["seed"] == record.seed == 9
    assert record.images == len([*(out / "concepts" / "rex").glob("0?.png")]) == 2
    kept = (out / "concepts" / "rex" / "00.png").read_bytes()
    for seed, images in ((7, 2), (9, 4)):
        write(seed, images)
        with pytest.raises(
            InputError, match=f"rex: holds 2 pictures of dog 9 at 128 px, but this call asks for {images} of dog {seed}"
        ):
            run_bench(request, out)
    assert (out / "concepts" / "rex" / "00.png").read_bytes() == kept


def test_what_a_kill_left_behind_does_not_make_a_folder_somebody_elses(place, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".bench.json.x7.part").write_text("{", encoding="utf-8")
    assert run_bench(request_of(place), tmp_path / "out").results.finished
    assert not [*(tmp_path / "out").glob(".*.part")]


def test_what_two_folders_found_apart_is_joined_by_copying(place, tuned, tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    run_bench(tuned, one)
    apart = run_bench(replace(tuned, methods=("other",)), other).results.methods[0]
    for name in ("methods", "learned", "tuning"):
        shutil.copytree(other / name, one / name, dirs_exist_ok=True)
    told = []
    outcome = run_bench(replace(tuned, methods=("toy", "other")), one, lambda *step: told.append(step[0]))
    assert set(told) == {TITLE, WRITING}
    assert outcome.results.finished
    assert outcome.results.methods[1] == apart
    assert apart.tuning and apart.chosen == "tuned here"
    assert yaml.safe_load((one / "tuned.yaml").read_text())["bases"][outcome.results.base.fingerprint].keys() == {
        "toy",
        "other",
    }


class Moody(MiddleOfThePicture):
    """A detector that cannot look at groups, while it is in a mood."""

    mood = True

    def detect(self, image, class_words):
        if self.mood and len(class_words) > 1:
            raise RuntimeError("not today")
        return super().detect(image, class_words)


def see_or_not(device):
    return Moody()


see_or_not.d2plan_detector = True


def test_what_cannot_be_scored_is_a_failure_and_the_rest_goes_on(place, photographs, tmp_path, monkeypatch):
    panel = PanelChoice(clip="none", dino=f"dino:{place / 'dino'}", detector=f"{__name__}:see_or_not")
    request = request_of(place, suite=str(photographs), panel=panel, methods=("toy", "other"))
    results = run_bench(request, tmp_path / "out").results
    for record in results.methods:
        (failure,) = record.failures
        assert (failure.stage, failure.concepts) == ("score", ("tom", "rex"))
        assert failure.message.startswith("RuntimeError: not today")
        scored = {picture.shot for picture in record.pictures if picture.values}
        assert (len(record.pictures), len(scored), count_missing(results, record)) == (10, 8, (2, 0))
        assert not scored & set(failure.shots)
    told = []
    assert run_bench(request, tmp_path / "out", lambda *step: told.append(step[0])).results == results
    assert set(told) == {TITLE, WRITING}
    # Tried again it may fail again, and work later.
    again = replace(request, retry=True)
    assert run_bench(again, tmp_path / "out").results == results
    monkeypatch.setattr(Moody, "mood", False)
    mended = run_bench(again, tmp_path / "out").results
    assert all(not record.failures and all(one.values for one in record.pictures) for record in mended.methods)


def test_a_damaged_picture_without_scores_is_drawn_anew_and_scored(place, tmp_path):
    whole = run_bench(request_of(place), tmp_path / "out").results
    run = tmp_path / "out" / "methods" / "toy" / "runs" / "rex.one-beach.00"
    (run / "scores.json").unlink()
    (run / "image.png").write_bytes((run / "image.png").read_bytes()[:50])
    again = run_bench(request_of(place), tmp_path / "out").results
    values = [[one.values for one in results.methods[0].pictures] for results in (whole, again)]
    assert values[0] == values[1]


def test_a_failure_that_comes_again_when_it_is_tried_again_stays_listed(place, tmp_path, monkeypatch):
    monkeypatch.setitem(TOY.faults, "draw", 2)
    for retry in (False, True, True):
        record = run_bench(request_of(place, retry=retry), tmp_path / "out").results.methods[0]
        assert [failure.stage for failure in record.failures] == ["draw"]


def test_score_compares_the_pictures_with_the_same_texts(place, tmp_path):
    panel = PanelChoice(clip="mini-clip", dino="none", judge=False)
    record = run_bench(request_of(place, panel=panel), tmp_path / "out").results.methods[0]
    runs = tmp_path / "out" / "methods" / "toy" / "runs"
    (scored,) = score_folders(ScoreRequest((runs,), clip="mini-clip", dino="none", lineups=False)).sets
    values = {item.name: one.values["text"] for item, one in zip(scored.items, scored.measured, strict=True)}
    assert values == {one.shot: pytest.approx(one.values["text"], abs=1e-6) for one in record.pictures}
