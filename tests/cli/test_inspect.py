from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from typer.main import get_command

from d2plan.adapter.file import save_adapter
from d2plan.backbone.load import Backbone
from d2plan.cli.inspect import app
from d2plan.media.images import read_image
from tests.tiny import tiny_adapter


def test_attention_writes_a_picture_and_says_how_much_words_overlap(
    tiny: Backbone, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_adapter(tmp_path / "rex.safetensors", tiny_adapter(tiny))
    asked = ["attention", "a photo of a <v1> dog", "--out", tmp_path / "a.png", "--word", "<v1>", "-w", "dog"]
    asked += ["--base", tiny_folder, "--concept", tmp_path / "rex.safetensors", "--steps", 1]
    get_command(app).main([str(argument) for argument in asked], standalone_mode=False)
    told = capsys.readouterr().out
    assert "Rex: <v1> and dog overlap by 0." in told and f"Picture: {tmp_path / 'a.png'}" in told
    assert read_image(tmp_path / "a.png").shape[2] == 3


def test_attention_shows_a_file_of_another_program_with_its_class(
    tiny: Backbone, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = save_adapter(tmp_path / "own.safetensors", tiny_adapter(tiny)).path
    save_file(load_file(own), tmp_path / "found.safetensors")
    asked = ["attention", "a photo of a red dog", "--out", tmp_path / "a.png", "-w", "red", "-w", "dog", "--steps", 1]
    asked += ["--base", tiny_folder, "--concept", tmp_path / "found.safetensors", "--class", "dog"]
    asked += ["--identifier", "red"]
    get_command(app).main([str(argument) for argument in asked], standalone_mode=False)
    assert "found: red and dog overlap by 0." in capsys.readouterr().out
