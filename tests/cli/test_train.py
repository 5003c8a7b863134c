import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from d2plan.adapter.file import load_adapter
from d2plan.cli.main import main
from d2plan.cli.train import LossLines
from d2plan.dislora.train import StepReport


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "rex"
    folder.mkdir()
    blocks = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    for number, block in enumerate(blocks):
        Image.fromarray(block.repeat(16, 0).repeat(16, 1)).save(folder / f"{number}.png")
    return folder


def _run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return int(caught.value.code or 0)


def test_train_then_concepts_shows_what_was_learnt(
    pictures: Path, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "adapters" / "rex.safetensors"
    asked = ("--class", "dog", "--identifier", "<v3>", "--steps", 2, "--batch-size", 1, "--rank", 3, "--seed", 5)
    assert _run("train", pictures, "--out", out, "--base", tiny_folder, *asked) == 0
    told = capsys.readouterr()
    assert str(out) in told.out
    assert "2 pictures, 0 captions, 0 masks" in told.err
    assert "step 2/2: loss" in told.err and "token" in told.err and "images/s" in told.err
    adapter = load_adapter(out)
    assert (adapter.class_word, adapter.identifier, adapter.rank) == ("dog", "<v3>", 3)

    assert _run("concepts", out.parent, "-o", tmp_path / "sheet.png") == 0
    listed = capsys.readouterr().out
    assert "rex" in listed and "<v3>" in listed and "dog" in listed and "tiny" in listed
    assert (tmp_path / "sheet.png").is_file()
    assert _run("concepts", out.parent, "-o", tmp_path / "sheet.png") == 2
    assert "overwrite" in capsys.readouterr().err


def test_wrong_input_is_one_sentence_and_exit_code_2(
    pictures: Path, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "rex.safetensors"
    for arguments in (
        (pictures, "--out", out, "--base", tiny_folder),
        (pictures, "--out", out, "--base", tiny_folder, "--class", "dog", "--identifier", "zzz"),
        (tmp_path / "none", "--out", out, "--base", tiny_folder, "--class", "dog"),
    ):
        assert _run("train", *arguments) == 2
        told = capsys.readouterr().err.strip()
        assert told.startswith("d2plan: ") and "Traceback" not in told and "\n" not in told
    assert not out.exists()


def test_ctrl_c_ends_with_130_and_leaves_no_file(pictures: Path, tiny_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "adapters" / "rex.safetensors"
    source = Path(__file__).resolve().parents[2] / "src"
    command = [sys.executable, "-m", "d2plan", "train", str(pictures), "--out", str(out), "--class", "dog"]
    process = subprocess.Popen(
        [*command, "--base", str(tiny_folder), "--steps", "100000", "--batch-size", "1"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(source)},
        # A test run in the background of a shell inherits an ignored Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - nothing else happens there
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("training"):
            break
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in rest
    assert list(out.parent.iterdir()) == []


def test_losses_are_told_about_ten_times(capsys: pytest.CaptureFixture[str]) -> None:
    lines = LossLines()
    for step in range(1, 101):
        lines.take(StepReport(step, 100, float(step), 1.0, 2.0, 0.5, 7.0))
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 10
    assert told[0] == "step 10/100: loss 5.5000 (denoising 1.0000, token 2.0000, attention 0.5000), 7.0 images/s"
