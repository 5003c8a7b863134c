"""The whole benchmark on a tiny base: a folder that is gone on with, and what stands in it."""

import os
import signal

import pytest
import yaml

from d2plan.bench.store import read_results
from d2plan.bench.suites import load_suite
from d2plan.errors import InputError
from d2plan.workflows.benching.bench import TITLE, WRITING, BenchRequest, open_methods, run_bench
from d2plan.workflows.benching.panel import PanelChoice, open_panel, tell_small_world
from d2plan.workflows.benching.stopping import Stop
from tests.bench.toys import SUITE, Toy
from tests.eval.tiny_encoders import write_tiny_dino
from tests.workflows.bench_requests import MiddleOfThePicture, request_of


def test_a_benchmark_ends_with_scored_results_and_a_report_and_is_then_done(place, tmp_path):
    told = []
    outcome = run_bench(request_of(place), tmp_path / "out", lambda *step: told.append(step))
    record = outcome.results.methods[0]
    assert outcome.results.finished
    assert not outcome.stopped
    assert read_results(outcome.path) == outcome.results
    assert all(picture.values["dino"] is not None for picture in record.pictures)
    assert len(record.series) == 3
    assert set(record.series[0].values) == {"scene_kept", "scene_kept_adjacent"}
    assert set(outcome.results.encoders) == {"dino"}
    assert outcome.page.is_file()
    assert {what for what, _, _ in told} >= {TITLE, "toy: learning: rex", "toy: drawing: tom+rex", "toy: scoring"}
    again = []
    assert run_bench(request_of(place), tmp_path / "out", lambda *step: again.append(step)).results == outcome.results
    assert {what for what, _, _ in again} == {TITLE, WRITING}


def test_a_method_that_comes_later_joins_those_that_are_there(place, tmp_path):
    run_bench(request_of(place), tmp_path / "out")
    outcome = run_bench(request_of(place, methods=("other",)), tmp_path / "out")
    assert [method.name for method in outcome.results.methods] == ["toy", "other"]
    assert outcome.results.finished


def test_a_folder_keeps_to_its_number_format(place, tmp_path):
    results = run_bench(request_of(place, precision="bf16"), tmp_path / "out").results
    assert results.finished and not results.methods[0].failures and results.drawing.precision == "bfloat16"
    with pytest.raises(InputError, match=r"\(precision bfloat16 there, precision float32 asked for\)"):
        run_bench(request_of(place), tmp_path / "out")
    (tmp_path / "new").mkdir()
    (tmp_path / "out" / "learned").rename(tmp_path / "new" / "learned")
    told = []
    run_bench(request_of(place), tmp_path / "new", lambda *step: told.append(step[0]))
    assert "toy: learning: rex" in told  # what was learnt in another format is not taken for the same


def test_a_number_format_that_does_not_exist_is_refused_before_anything_is_written(place, tmp_path):
    with pytest.raises(InputError, match="precision is 'half', but must be one of fp32, bf16, fp16"):
        run_bench(request_of(place, precision="half"), tmp_path / "out")
    assert not (tmp_path / "out" / "bench.json").exists()


def test_another_encoder_scores_all_methods_of_the_folder_anew(place, tmp_path):
    run_bench(request_of(place), tmp_path / "out")
    write_tiny_dino(tmp_path / "dino", seed=1)
    panel = PanelChoice(clip="none", dino=f"dino:{tmp_path / 'dino'}", judge=False)
    told = []

    def stop(what, done, total):
        told.append(what)
        if what == "toy: scoring":
            os.kill(os.getpid(), signal.SIGINT)

    request = request_of(place, methods=("other",), panel=panel)
    cut = run_bench(request, tmp_path / "out", stop).results
    assert not cut.finished and "Not scored yet by these encoders: toy." in cut.notes
    whole = run_bench(request, tmp_path / "out").results
    assert whole.finished and not any("Not scored" in note for note in whole.notes)
    toy, other = whole.methods
    assert all(picture.values["dino"] is not None for picture in (*toy.pictures, *other.pictures))
    assert len(toy.series) == len(other.series) == 3


@pytest.mark.parametrize(
    ("when", "learnt", "drawn"),
    [("toy: learning: tom", 1, 0), ("toy: drawing: rex", 2, 0), ("toy: drawing: tom", 2, 4)],
)
def test_ctrl_c_ends_within_a_step_and_the_same_request_goes_on(place, tmp_path, when, learnt, drawn):
    told = []

    def stop(what, done, total):
        told.append(what)
        if what == when and when not in told[:-1]:
            os.kill(os.getpid(), signal.SIGINT)

    outcome = run_bench(request_of(place), tmp_path / "out", stop)
    assert outcome.stopped
    assert not outcome.results.finished
    (record,) = outcome.results.methods
    assert (len(record.learned), len(record.pictures)) == (learnt, drawn)
    assert record.failures == ()
    # What is waited for is told at once, and nothing else begins.
    assert told[told.index(when) :] == [when, f"stopping after this (at once: Ctrl-C again): {when}", WRITING]
    assert run_bench(request_of(place), tmp_path / "out").results.finished


def test_a_second_ctrl_c_ends_at_once_and_leaves_what_is_finished(place, tmp_path):
    pressed = []

    def stop_twice(what, done, total):
        if what.endswith("toy: drawing: tom") and len(pressed) < 2:
            pressed.append(what)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_bench(request_of(place), tmp_path / "out", stop_twice)
    finished = {path: path.read_bytes() for path in (tmp_path / "out" / "learned").rglob("*") if path.is_file()}
    finished |= {path: path.read_bytes() for path in (tmp_path / "out" / "methods").rglob("*.png")}
    assert len([path for path in finished if path.suffix == ".png"]) == 4
    told = []
    outcome = run_bench(request_of(place), tmp_path / "out", lambda *step: told.append(step[0]))
    assert outcome.results.finished
    assert all(path.read_bytes() == content for path, content in finished.items())
    assert "toy: drawing: tom" in told and not {"toy: learning: rex", "toy: drawing: rex"} & set(told)


def test_a_stop_is_heard_only_while_somebody_listens():
    stop, heard = Stop(), []
    before = signal.getsignal(signal.SIGINT)
    with stop.listen(lambda: heard.append(stop())):
        assert not stop()
        os.kill(os.getpid(), signal.SIGINT)
        assert stop()
        assert heard == [True]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is before
    assert not stop()
    assert signal.getsignal(signal.SIGINT) is before


def test_tuning_finds_a_setting_on_other_concepts_and_writes_it_down(place, tmp_path, monkeypatch):
    monkeypatch.setattr("d2plan.bench.tuning.COMPARED", ("dino",))
    tuning = {
        **SUITE,
        "name": "development",
        "concepts": [{**one, "seed": one["seed"] + 10} for one in SUITE["concepts"]],
    }
    (tmp_path / "tuning.yaml").write_text(yaml.safe_dump(tuning), encoding="utf-8")
    request = request_of(place, tune=True, tuning=str(tmp_path / "tuning.yaml"))
    record = run_bench(request, tmp_path / "out").results.methods[0]
    assert record.chosen == "tuned here"
    assert [one.setting for one in record.tuning] == [{"level": 1.0}, {"level": 2.0}]
    best = max(record.tuning, key=lambda one: one.value)
    assert record.setting == best.setting
    outcome = run_bench(request_of(place), tmp_path / "out")
    assert outcome.results.methods[0].tuning == record.tuning
    found = request_of(place, settings=str(tmp_path / "out" / "tuned.yaml"))
    assert run_bench(found, tmp_path / "new").results.methods[0].setting == best.setting


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ("gone",)}, "there is no 'gone'; choose from all, isp-dislora"),
        ({"kind": "ablation", "methods": ("toy",)}, "there is no 'toy'; choose from all, full"),
        ({"kind": "ablation", "methods": (), "tune": True}, "an ablation is not tuned"),
        ({"redo": ("gone",)}, "--redo: there is no 'gone'"),
        ({"redo": ("toy", "other")}, "--redo: other is none of the methods of this call"),
        ({"methods": ("isp-disLora",)}, "there is no 'isp-disLora'; did you mean isp-dislora?"),
        ({"panel": PanelChoice(clip="none", dino="none", judge=False)}, "nobody is left to look"),
        ({"panel": PanelChoice(clip="none", dino="judge", judge=False)}, "judge is a judge encoder"),
        ({"panel": PanelChoice(clip="none", dino="foo", judge=False)}, "there is no 'foo'"),
        ({"panel": PanelChoice(clip="none", dino="none", faces="judge")}, "is no face encoder"),
        ({"panel": PanelChoice(clip="none", detector="nonsense")}, '"nonsense" is none'),
        ({"panel": PanelChoice(clip="none", judge=True, detector="grounded")}, "leave --judge out"),
        ({"base": "nowhere"}, "nowhere is not a folder"),
    ],
)
def test_what_cannot_be_done_is_told_before_anything_is_written(place, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        run_bench(request_of(place, **changes), tmp_path / "out")
    assert not (tmp_path / "out" / "bench.json").exists()


def test_the_suites_methods_compete_where_nobody_names_others(place):
    loaded = load_suite("quick")
    assert list(open_methods(BenchRequest(), loaded)) == list(loaded.suite.methods)
    assert list(open_methods(BenchRequest(kind="ablation", methods=("no-cac",)), loaded)) == ["full", "no-cac"]
    assert list(open_methods(BenchRequest(methods=("toy", "toy")), loaded)) == ["toy"]


def test_tuning_and_results_say_what_really_ran(place, tmp_path, monkeypatch):
    monkeypatch.setattr("d2plan.bench.tuning.COMPARED", ("dino",))
    monkeypatch.setattr(Toy, "settings", ({"level": 1.0}, {"level": 1.0, "steps": 2.0}))
    suite = with_suite(tmp_path, settings={"steps": 0.5})
    request = request_of(place, suite=suite, tune=True, tuning=str(place / "suite.yaml"))
    record = run_bench(request, tmp_path / "out").results.methods[0]
    assert [one.setting for one in record.tuning] == [{"level": 1.0}, {"level": 1.0, "steps": 2.0}]
    assert [one.ran for one in record.tuning] == [{"level": 1.0, "steps": 0.5}, {"level": 1.0, "steps": 1.0}]
    best = max(record.tuning, key=lambda one: one.value)
    assert record.setting == best.ran
    found = request_of(place, suite=suite, settings=str(tmp_path / "out" / "tuned.yaml"))
    assert run_bench(found, tmp_path / "new").results.methods[0].setting == best.ran


def with_suite(folder, **changes):
    path = folder / "changed.yaml"
    path.write_text(yaml.safe_dump({**SUITE, **changes}), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("kind", ["spatial", "ablation"])
def test_the_suites_own_methods_are_checked_also_where_others_are_named(tmp_path, kind):
    suite = with_suite(tmp_path, methods=["isp-dislora", "isp-loro"])
    methods = ("toy",) if kind == "spatial" else ("full",)
    with pytest.raises(InputError, match="methods: there is no 'isp-loro'; did you mean isp-lora") as caught:
        run_bench(BenchRequest(kind=kind, suite=suite, methods=methods), tmp_path / "out")
    assert str(caught.value).startswith(suite)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "methods", "told"),
    [
        ("stepz", ("dreambooth", "toy"), r"no method has 'stepz'; did you mean steps \(of dreambooth\)\?"),
        ("stregth", ("isp-lora", "lora-merge", "omg"), r"did you mean strength \(of lora-merge, omg\)\?"),
        ("colour", ("toy", "lora-merge"), "toy takes level; lora-merge takes strength, joint, rate, steps"),
    ],
)
def test_a_misspelt_name_in_a_suites_settings_is_refused_with_the_nearest_one(tmp_path, name, methods, told):
    suite = with_suite(tmp_path, settings={name: 0.1})
    with pytest.raises(InputError, match=told) as caught:
        run_bench(BenchRequest(suite=suite, methods=methods), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_suites_settings_are_for_the_methods_that_know_them(place, tmp_path):
    # "turn" is for a method that does not compete here.
    suite = with_suite(tmp_path, settings={"level": 5.0, "turn": 2.0})
    results = run_bench(request_of(place, suite=suite), tmp_path / "out").results
    assert results.methods[0].setting == {"level": 5.0}
    assert "toy knows no turn, so the suite's setting is not for it" in results.notes


def test_redo_throws_results_away_only_when_nothing_can_be_refused_any_more(place, tmp_path):
    run_bench(request_of(place), tmp_path / "out")
    kept = sorted(path for path in (tmp_path / "out" / "methods").rglob("*") if path.is_file())
    kept += sorted((tmp_path / "out" / "learned").rglob("*.safetensors"))
    assert len(kept) > 10
    (tmp_path / "tuned.yaml").write_text(yaml.safe_dump({"bases": {"another": {}}}))
    refused = [
        {"suite": with_suite(tmp_path, steps=3)},
        {"settings": str(tmp_path / "tuned.yaml")},
        {"base": "nowhere"},
        {"tune": True, "tuning": "gone.yaml"},
        {"redo": ("toy", "gone")},
        {"methods": ("toy", "gone")},
    ]
    for changes in refused:
        with pytest.raises(InputError):
            run_bench(request_of(place, **{"redo": ("toy",), **changes}), tmp_path / "out")
        assert all(path.is_file() for path in kept)
    # Nothing else refused them: they are thrown away, also where they were of other code.
    path = tmp_path / "out" / "methods" / "toy" / "method.json"
    path.write_text(path.read_text().replace('"code": "', '"code": "0'))
    with pytest.raises(InputError, match="its code changed"):
        run_bench(request_of(place), tmp_path / "out")
    told = []
    outcome = run_bench(request_of(place, redo=("toy",)), tmp_path / "out", lambda *step: told.append(step))
    assert outcome.results.finished
    assert {what for what, _, _ in told} >= {"toy: learning: rex", "toy: drawing: rex"}


def test_methods_that_were_not_begun_are_told(place, tmp_path):
    def stop(what, done, total):
        if what == "toy: learning: rex":
            os.kill(os.getpid(), signal.SIGINT)

    outcome = run_bench(request_of(place, methods=("toy", "other")), tmp_path / "out", stop)
    assert "Not begun yet: other." in outcome.results.notes
    assert "Not begun yet: other." in outcome.page.read_text(encoding="utf-8")


def test_the_judge_looks_at_the_worlds_own_concepts_alone(place):
    choice = PanelChoice(clip="none", dino=f"dino:{place / 'dino'}")
    assert open_panel(choice, [load_suite("quick")]).judge is not None


def test_embedded_encoders_before_a_persons_own_pictures_are_told(place, photographs):
    own, worlds = load_suite(str(photographs)), load_suite("quick")
    (note,) = tell_small_world(PanelChoice(), [own])
    assert note.startswith("Measured by the embedded mini-clip, mini-vit") and "name --clip, --dino." in note
    assert tell_small_world(PanelChoice(), [worlds]) == []
    assert tell_small_world(PanelChoice(clip="none", dino=f"dino:{place / 'dino'}"), [own]) == []


def see_the_middle(device):
    return MiddleOfThePicture()


see_the_middle.d2plan_detector = True


def test_with_a_detector_photographs_are_scored_by_crops_of_instances_too(place, photographs, tmp_path):
    def measure(name, out):
        panel = PanelChoice(clip="none", dino=f"dino:{place / 'dino'}", detector=name)
        return run_bench(request_of(place, suite=str(photographs), panel=panel), tmp_path / out).results

    results, without = measure(f"{__name__}:see_the_middle", "out"), measure("none", "blind")
    assert results.encoders["finder"] == f"{__name__}:see_the_middle"
    assert results.encoders["identity"].startswith("crops in ")
    assert "judge" not in results.encoders
    for picture in results.methods[0].pictures:
        first, *others = picture.instances
        assert first.values["present"] == 1
        assert all(one.values["present"] == one.values["identity"] == 0 for one in others)
        assert first.values["dino_instance"] is not None and first.values["identity"] > 0
    assert set(without.encoders) == {"dino"}
    blind = [value for one in without.methods[0].pictures for part in one.instances for value in part.values.items()]
    assert all(value is None for name, value in blind if name in ("dino_instance", "identity", "present"))


def see_dogs(device):
    return Dogs()


class Dogs(MiddleOfThePicture):
    """A detector that sees nobody but dogs."""

    def detect(self, image, class_words):
        return super().detect(image, ["dog"]) if "dog" in class_words else []


see_dogs.d2plan_detector = True


def test_references_in_which_nobody_is_found_are_told(place, photographs, tmp_path):
    panel = PanelChoice(clip="none", dino=f"dino:{place / 'dino'}", detector=f"{__name__}:see_dogs")
    results = run_bench(request_of(place, suite=str(photographs), panel=panel), tmp_path / "out").results
    assert "tom: no man is found in 2 of 2 references" in results.notes
