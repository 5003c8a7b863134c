"""``d2plan adapter``: what a person reads, and the exit codes."""

import json

import pytest
from typer.main import get_command

from d2plan.adapter.file import save_adapter
from d2plan.backbone.load import load_backbone
from d2plan.cli.adapter import app
from d2plan.cli.main import main
from tests.adapter.files import SPELLINGS, write_layers
from tests.tiny import tiny_adapter


def leave(arguments):
    with pytest.raises(SystemExit) as left:
        main(["adapter", *map(str, arguments)])
    return left.value.code


@pytest.fixture
def rex(tiny_folder, tmp_path):
    return save_adapter(tmp_path / "rex.safetensors", tiny_adapter(load_backbone(tiny_folder))).path


def test_inspect_says_what_a_file_holds(rex, capsys):
    assert leave(["inspect", rex]) == 0
    shown = capsys.readouterr().out
    for text in ("Kohya", "written by d2plan", "Identifier: <v1>", "Class word: dog", "text encoder 1: 12", "SHA-256"):
        assert text in shown


def test_inspect_says_why_a_file_cannot_be_used(tmp_path, capsys):
    path = tmp_path / "a.safetensors"
    write_layers(path, ("lora_unet_double_blocks_0_img_attn_proj",))
    assert leave(["inspect", path]) == 0
    assert "Cannot be used" in (shown := capsys.readouterr().out)
    assert "Flux" in shown


def test_inspect_shows_no_command_that_a_terminal_would_take(tmp_path, capsys):
    path = tmp_path / "a.safetensors"
    words = {"modelspec.trigger_phrase": "\x1b[31mred\n" + "x" * 5000}
    write_layers(path, SPELLINGS["sd-scripts"][0], words=words)
    assert leave(["inspect", path]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert max(len(line) for line in shown.splitlines()) < 400


def test_json_is_for_programs(rex, capsys):
    assert leave(["inspect", rex, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["words"]["identifier"] == "<v1>"


def test_verify_ends_with_two_when_a_file_cannot_be_used(rex, tiny_folder, tmp_path, capsys):
    assert leave(["verify", rex, "--base", tiny_folder]) == 0
    assert f"can be used with {tiny_folder}." in capsys.readouterr().out
    path = tmp_path / "a.safetensors"
    write_layers(path, SPELLINGS["sd-scripts"][0])
    assert leave(["verify", path]) == 0
    assert leave(["verify", path, "--base", tiny_folder]) == 2
    assert "fits only 0 of its 3 layers" in capsys.readouterr().err
    rex.write_bytes(rex.read_bytes()[:-5])
    assert leave(["verify", rex]) == 2
    assert "no complete safetensors file" in capsys.readouterr().err


def test_convert_says_what_it_wrote(rex, capsys):
    assert leave(["convert", rex, "--to", "diffusers"]) == 0
    shown = capsys.readouterr().out
    assert "rex.diffusers.safetensors" in shown
    assert "rex.diffusers.json" in shown
    assert leave(["convert", rex, "--to", "diffusers"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert leave(["convert", rex, "--to", "lyco"]) == 2
    assert "must be one of" in capsys.readouterr().err


def test_every_command_takes_out_base_and_seed():
    for command in get_command(app).commands.values():
        options = {option for parameter in command.params for option in parameter.opts}
        assert {"--out", "--base", "--seed"} <= options, command.name
