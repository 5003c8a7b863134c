"""``d2plan bench`` on the command line: bad input, and what it shows while it runs."""

import io

import pytest
import yaml

from d2plan.cli.bench import _Lines, _summarise
from d2plan.cli.main import main
from d2plan.workflows.benching.bench import BenchOutcome
from tests.bench.report.synthetic import KINDS, make_results
from tests.bench.toys import SUITE


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["spatial", "--methods", "isp-dislora,gone"], "there is no 'gone'"),
        (["spatial", "--suite", "gone.yaml"], "neither quick nor paper"),
        (["ablation", "--methods", "mix-of-show"], "choose from all, full"),
        (["spatial", "--methods", ""], "--methods: is empty; write names, or leave it out."),
        (["ablation", "--tune"], "an ablation is not tuned"),
        (["report", "gone"], "gone"),
        (["spatial", "--methods", "isp-lora", "--suite", "slips.yaml"], "did you mean steps"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slips.yaml").write_text(yaml.safe_dump({**SUITE, "settings": {"stepz": 0.1}}), encoding="utf-8")
    if arguments[0] != "report":
        arguments = [*arguments, "--out", "out"]
    with pytest.raises(SystemExit) as leaving:
        main(["bench", *arguments])
    told = capsys.readouterr().err
    assert leaving.value.code == 2
    assert message in told
    assert told.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_refused(tmp_path, capsys):
    (tmp_path / "diary.txt").write_text("mine")
    with pytest.raises(SystemExit) as leaving:
        main(["bench", "spatial", "--out", str(tmp_path)])
    assert leaving.value.code == 2
    assert "holds no benchmark" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["spatial", "ablation"])
def test_both_kinds_of_benchmark_hand_on_all_that_was_said(tmp_path, monkeypatch, kind):
    asked = []
    monkeypatch.setattr("d2plan.workflows.benching.bench.run_bench", lambda *given: asked.append(given) or 1 / 0)
    options = "--suite paper -m a,b -m c --seed 3 --clip none --no-judge --redo a --retry --settings s.yaml".split()
    with pytest.raises(ZeroDivisionError):
        main(["bench", kind, "-o", str(tmp_path), *options])
    ((request, out, _),) = asked
    assert (request.kind, request.suite, request.methods, request.seed) == (kind, "paper", ("a", "b", "c"), 3)
    assert (request.panel.clip, request.panel.judge, request.panel.dino) == ("none", False, "mini-vit")
    assert (request.redo, request.retry, request.settings, request.tune) == (("a",), True, "s.yaml", False)
    assert out == tmp_path


def test_a_summary_tells_what_failed_apart_from_what_is_to_come():
    results = make_results(methods={name: KINDS[name] for name in ("isp-dislora", "mix-of-show")})
    first, second = results.methods
    cut = second.model_copy(update={"pictures": second.pictures[:40]})
    lines = list(_summarise(results.model_copy(update={"methods": (first, cut)})))
    assert lines[0].startswith("ISP + DisLoRA  63 of 63 pictures, identity")
    assert lines[1].startswith("Mix-of-Show    40 of 63 pictures, 9 failed, 14 not drawn yet, identity")
    assert ", text_scaled " in lines[0]
    assert lines[2].strip().startswith("failed to join man-7 and woman-11")


@pytest.mark.parametrize(
    ("also", "told"), [([], "The same command"), (["--redo", "omg"], "The same command without --redo")]
)
def test_a_stopped_benchmark_ends_as_every_stopped_command_does(tmp_path, monkeypatch, capsys, also, told):
    outcome = BenchOutcome(make_results(), tmp_path / "results.json", tmp_path / "report.html", stopped=True)
    monkeypatch.setattr("d2plan.workflows.benching.bench.run_bench", lambda *given: outcome)
    with pytest.raises(SystemExit) as leaving:
        main(["bench", "spatial", "-o", str(tmp_path), *also])
    assert leaving.value.code == 130
    shown = capsys.readouterr()
    assert "results.json" in shown.out
    assert shown.err.endswith(f"{told} goes on from here.\nd2plan: stopped.\n")


def test_lines_tell_each_stage_once_and_the_time_that_is_left():
    stream = io.StringIO()
    lines = _Lines(stream, "all")
    lines.take("all", 60, 180)
    for number in range(3):
        lines.take("toy: learning: rex", number, 4)
    lines.take("toy: drawing: rex", 1, 4)
    lines.take("stopping after this (at once: Ctrl-C again): toy: drawing: rex", 1, 4)
    assert stream.getvalue().splitlines() == [
        "toy: learning: rex 0%; 1 min 0 s done, about 2 min 0 s left",
        "toy: drawing: rex 25%; 1 min 0 s done, about 2 min 0 s left",
        "stopping after this (at once: Ctrl-C again): toy: drawing: rex 25%; 1 min 0 s done, about 2 min 0 s left",
    ]
