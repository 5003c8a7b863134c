"""Adapter files by path: told, checked, converted, with what stands beside them."""

import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors.torch import save_file

from d2plan.adapter.file import load_adapter, read_metadata, save_adapter
from d2plan.errors import AdapterError, FileError, InputError
from d2plan.media.images import read_image, write_png
from d2plan.workflows.shelf.adapters import convert_adapter, inspect_adapter, report_json, verify_adapter
from tests.adapter.files import SPELLINGS, write_layers
from tests.adapter.test_inventory import CONVOLUTIONS
from tests.tiny import tiny_adapter


@pytest.fixture
def rex(tiny, tmp_path):
    path = tmp_path / "rex.safetensors"
    save_adapter(path, tiny_adapter(tiny))
    write_png(path.with_suffix(".png"), np.full((8, 8, 3), 7, dtype=np.uint8))
    return path


@pytest.mark.parametrize("naming", ["diffusers", "peft"])
def test_a_conversion_there_and_back_gives_the_same_bytes(rex, naming):
    there = convert_adapter(rex, naming)
    assert there.adapter.path == rex.with_name(f"rex.{naming}.safetensors")
    back = convert_adapter(there.adapter.path, "kohya", rex.with_name("back.safetensors"))
    assert back.adapter.path.read_bytes() == rex.read_bytes()
    assert back.left_out == 0


def test_sgm_is_refused_where_its_numbers_mean_other_layers_and_nothing_is_written(rex):
    before = sorted(rex.parent.iterdir())
    with pytest.raises(AdapterError, match=r"rex\.sgm\.safetensors: sgm numbers blocks of two layers.*as kohya"):
        convert_adapter(rex, "sgm")
    assert sorted(rex.parent.iterdir()) == before


def test_the_sidecar_and_the_thumbnail_go_along(rex):
    done = convert_adapter(rex, "peft", rex.parent / "deep" / "other.safetensors")
    assert [path.name for path in done.beside] == ["other.json", "other.png"]
    assert json.loads(done.beside[0].read_text())["activation text"] == "<v1> dog"
    assert (read_image(done.beside[1]) == 7).all()


def test_a_damaged_thumbnail_is_told_before_anything_is_written(rex):
    rex.with_suffix(".png").write_bytes(b"no picture")
    before = sorted(rex.parent.iterdir())
    with pytest.raises(FileError, match=rf"{rex.stem}\.png"):
        convert_adapter(rex, "peft")
    assert sorted(rex.parent.iterdir()) == before


def test_nothing_is_replaced_unasked_and_nothing_written_then(rex):
    out = rex.with_name("out.safetensors")
    out.with_suffix(".json").write_text("mine")
    with pytest.raises(FileError, match="overwrite"):
        convert_adapter(rex, "peft", out)
    assert not out.exists()
    assert out.with_suffix(".json").read_text() == "mine"
    convert_adapter(rex, "peft", out, overwrite=True)
    assert "activation text" in out.with_suffix(".json").read_text()


@pytest.mark.parametrize(
    ("naming", "out", "message"),
    [
        ("comfy", None, "must be one of kohya, sgm, diffusers, peft"),
        ("peft", "rex.safetensors", "is the file that is read"),
        ("peft", "rex.pt", "end it in .safetensors"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(rex, naming, out, message):
    before = rex.read_bytes()
    with pytest.raises(InputError, match=message):
        convert_adapter(rex, naming, rex.with_name(out) if out else None, overwrite=True)
    assert rex.read_bytes() == before


def test_a_locon_leaves_its_convolutions_behind_only_when_asked(tmp_path):
    path = tmp_path / "locon.safetensors"
    save_file(write_layers(path, SPELLINGS["sd-scripts"][0]) | CONVOLUTIONS, path)
    with pytest.raises(AdapterError, match="LoCon"):
        convert_adapter(path, "kohya", tmp_path / "plain.safetensors")
    done = convert_adapter(path, "kohya", tmp_path / "plain.safetensors", linear_only=True)
    assert (done.left_out, len(done.adapter.deltas)) == (4, 3)
    assert len(load_adapter(tmp_path / "plain.safetensors").deltas) == 3


def test_a_foreign_file_keeps_its_words(tmp_path):
    path = tmp_path / "found.safetensors"
    write_layers(path, SPELLINGS["sd-scripts"][0], words={"ss_tag_frequency": '{"a": {"sks": 1}}'})
    done = convert_adapter(path, "diffusers")
    assert read_metadata(done.adapter.path)["ss_tag_frequency"] == '{"a": {"sks": 1}}'


def test_reports_are_written_where_they_shall_be(rex, tiny):
    out = rex.with_name("report.json")
    report = verify_adapter(rex, lambda: tiny, out)
    content = json.loads(out.read_text())
    assert content == json.loads(report_json(report))
    assert content["parts"][0]["attention"] == content["parts"][0]["whole"] > 0
    with pytest.raises(FileError, match="is there already"):
        inspect_adapter(rex, out=out)


def test_a_file_that_is_none_is_told_before_the_base_is_opened(tmp_path):
    opened = []
    with pytest.raises(FileError, match=r"none\.safetensors"):
        verify_adapter(tmp_path / "none.safetensors", lambda: opened.append(1))
    assert opened == []


def test_a_base_that_it_does_not_fit_stops_a_conversion(tiny, tmp_path):
    path = tmp_path / "found.safetensors"
    write_layers(path, SPELLINGS["sd-scripts"][0])
    with pytest.raises(AdapterError, match="fits only 0 of its 3 layers"):
        convert_adapter(path, "peft", open_base=lambda: tiny)
    assert sorted(tmp_path.iterdir()) == [path]


def test_looking_at_a_file_loads_no_model_library(rex):
    code = (
        "import sys; from d2plan.workflows.shelf.adapters import inspect_adapter, convert_adapter; "
        f"inspect_adapter({str(rex)!r}); convert_adapter({str(rex)!r}, 'peft'); "
        "sys.exit(any(name in sys.modules for name in ('diffusers', 'transformers', 'peft')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
