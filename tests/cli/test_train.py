import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from d2plan.adapter.file import load_adapter
from d2plan.cli.main import main
from d2plan.cli.train import LossLines
from d2plan.dislora.checkpoint import last_step
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
    assert "2 pictures" in told.err
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


@pytest.mark.parametrize("option", ["--class", "--identifier", "--name", "--base"])
def test_an_empty_value_is_not_one_that_was_not_given(
    option: str, pictures: Path, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--base", tiny_folder, "--class", "dog", option, " ")
    assert _run("train", pictures, "--out", tmp_path / "x.safetensors", *asked) == 2
    assert capsys.readouterr().err == f"d2plan: {option} is empty; write what it shall be, or leave the option away.\n"
    assert not list(tmp_path.glob("x*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_stop_ends_with_130_and_resume_goes_on_from_the_step_it_ended(
    number: signal.Signals, pictures: Path, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "adapters" / "rex.safetensors"
    source = Path(__file__).resolve().parents[2] / "src"
    command = [sys.executable, "-m", "d2plan", "train", str(pictures), "--out", str(out), "--class", "dog"]
    process = subprocess.Popen(
        [*command, "--base", str(tiny_folder), "--steps", "100000", "--batch-size", "1"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(source)},
    )
    assert process.stderr is not None
    log = out.parent / "rex.train" / "log.jsonl"
    while process.poll() is None and not (log.is_file() and log.read_text().count("\n") >= 2):
        time.sleep(0.05)
    process.send_signal(number)
    _, rest = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in rest and "stopping after what runs now (at once: Ctrl-C again)" in rest
    assert [path.name for path in out.parent.iterdir()] == ["rex.train"]
    done = last_step(out.parent / "rex.train")
    assert done >= 1 and f"stopped after step {done} of 100000; go on with --resume" in rest

    asked = ("--base", tiny_folder, "--steps", done + 1, "--batch-size", 1, "--class", "dog")
    assert _run("train", pictures, "--out", out, *asked) == 2
    assert _run("train", pictures, "--out", out, *asked, "--resume") == 0
    told = capsys.readouterr().err
    assert f"going on after step {done} of {done + 1}" in told and load_adapter(out).class_word == "dog"


def test_losses_are_told_about_ten_times(capsys: pytest.CaptureFixture[str]) -> None:
    lines = LossLines()
    for step in range(1, 101):
        lines.take(StepReport(step, 100, float(step), 1.0, 2.0, 0.5, 7.0))
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 10
    assert told[0] == "step 10/100: loss 5.5000 (denoising 1.0000, token 2.0000, attention 0.5000), 7.0 images/s"


@pytest.mark.parametrize("device", ["foo", "meta", "", "cuda:99"])
def test_a_device_that_is_not_there_is_told(
    device: str, pictures: Path, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--base", tiny_folder, "--class", "dog", "--device", device)
    assert _run("train", pictures, "--out", tmp_path / "x.safetensors", *asked) == 2
    assert f'device: "{device}" does not work here' in capsys.readouterr().err


def test_no_photo_is_replaced_by_a_thumbnail(
    pictures: Path, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (pictures / "1.png").read_bytes()
    out = pictures / ".." / "rex" / "1.safetensors"
    assert _run("train", pictures, "--out", out, "--base", tiny_folder, "--class", "dog", "--overwrite") == 2
    assert "among the pictures" in capsys.readouterr().err
    assert (pictures / "1.png").read_bytes() == before and len(list(pictures.iterdir())) == 2


@pytest.mark.parametrize("name", ["x" * 101, "\x1b[31m"])
def test_a_name_that_cannot_be_shown_is_told(
    name: str, pictures: Path, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--base", tiny_folder, "--class", "dog", "--name", name)
    assert _run("train", pictures, "--out", tmp_path / "x.safetensors", *asked) == 2
    assert "name is" in capsys.readouterr().err


def test_a_file_name_too_long_is_told(
    pictures: Path, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / ("x" * 250 + ".safetensors")
    assert _run("train", pictures, "--out", out, "--base", tiny_folder, "--class", "dog") == 2
    assert "File name too long" in capsys.readouterr().err


def test_a_sheet_never_takes_an_adapters_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    adapter = tmp_path / "rex.safetensors"
    adapter.write_bytes(b"precious")
    assert _run("concepts", tmp_path, "--out", adapter, "--overwrite") == 2
    assert "end it in .png" in capsys.readouterr().err and adapter.read_bytes() == b"precious"


def test_concepts_keeps_what_cannot_be_used_out_of_its_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"short")
    assert _run("concepts", tmp_path) == 0
    told = capsys.readouterr()
    assert told.out.startswith(f"No adapters in {tmp_path}") and "identifier" not in told.out
    assert told.err.startswith(f"Cannot be used: {tmp_path / 'broken.safetensors'} is no complete safetensors file")


def test_what_a_training_writes_tells_nobody_where_or_by_whom_it_was_made(
    pictures: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    info, exif = PngInfo(), Image.Exif()
    info.add_text("Author", "somebody")
    exif[0x013B] = "somebody"
    with Image.open(pictures / "0.png") as picture:
        picture.save(pictures / "0.png", pnginfo=info, exif=exif)
    out = tmp_path / "adapters" / "rex.safetensors"
    asked = ("--base", tiny_folder, "--class", "dog", "--steps", 1, "--batch-size", 1, "--preview")
    assert _run("train", pictures, "--out", out, *asked) == 0
    written = sorted(out.parent.iterdir())
    assert len(written) == 5
    for path in written:
        content = path.read_bytes()
        assert not [word for word in (str(tmp_path), str(tiny_folder.parent), "somebody") if word.encode() in content]
        if path.suffix == ".png":
            with Image.open(path) as picture:
                assert picture.info == {} and not picture.getexif()
