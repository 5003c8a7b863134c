"""``d2plan bench`` on the command line: bad input, and what it shows while it runs."""

import io

import pytest

from d2plan.cli.bench import _Lines
from d2plan.cli.main import main


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["spatial", "--methods", "isp-dislora,gone"], "there is no 'gone'"),
        (["spatial", "--suite", "gone.yaml"], "neither quick nor paper"),
        (["ablation", "--methods", "mix-of-show"], "choose from all, full"),
        (["report", "gone"], "gone"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
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


def test_lines_tell_each_stage_once_and_the_time_that_is_left():
    stream = io.StringIO()
    lines = _Lines(stream, "all")
    lines.take("all", 60, 180)
    for number in range(3):
        lines.take("toy: learning: rex", number, 4)
    lines.take("toy: drawing: rex", 1, 4)
    assert stream.getvalue().splitlines() == [
        "toy: learning: rex 0%; 1 min 0 s done, about 2 min 0 s left",
        "toy: drawing: rex 25%; 1 min 0 s done, about 2 min 0 s left",
    ]
