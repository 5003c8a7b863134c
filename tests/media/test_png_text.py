"""What a picture says of itself, as A1111 and d2plan read it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from d2plan.documents import AdapterUse, Control, FileUse, Instance, MaskReport, RunRecord, Scene, Style
from d2plan.errors import FileError, InputError
from d2plan.media.images import write_png
from d2plan.media.png_text import hash_file, read_record, read_texts, write_parameters, write_texts

# How A1111's own reader takes the last line apart (modules/infotext_utils.py).
A1111 = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')


def _record(**changes: object) -> RunRecord:
    scene = Scene(
        base="/home/me/models/sdxl",
        global_prompt="a man and a dog, on the beach",
        negative_prompt="rain, fog: both",
        instances=(
            Instance(concept="/home/me/john.safetensors", class_word="man", sub_prompt='a <v1> man, "smiling": wide'),
            Instance(concept="/home/me/rex.safetensors", class_word="dog", sub_prompt="a <v2> dog", mask="/home/m.png"),
        ),
        style=(Style(adapter="/home/me/oil.safetensors"),),
        steps=30,
        guidance_scale=7.5,
        height=64,
        width=128,
        seed=7,
    ).model_copy(update=changes)
    uses = [
        AdapterUse(path=f"/home/me/{name}.safetensors", name=name, sha256=digit * 64, class_word="", identifier="")
        for name, digit in (("john", "a"), ("rex", "b"), ("oil", "c"))
    ]
    return RunRecord(
        scene=scene,
        base_fingerprint="0123456789abcdef",
        adapters=tuple(uses[:2]),
        styles=(uses[2],),
        masks=MaskReport(route="attention", confidence=0.5),
        timings={"compose": 3.0},
        unet_calls=30,
        unet_rows=111,
        versions={"d2plan": "0.1.0"},
        settings={"sampler": "EulerDiscreteScheduler"},
        seed=7,
    )


def test_the_parameters_are_read_as_a1111_reads_them() -> None:
    prompt, negative, last = write_parameters(_record()).split("\n")
    assert (prompt, negative) == ("a man and a dog, on the beach", "Negative prompt: rain, fog: both")
    found = {key: json.loads(value) if value.startswith('"') else value for key, value in A1111.findall(last)}
    assert found == {
        "Steps": "30",
        "Sampler": "Euler",
        "CFG scale": "7.5",
        "Seed": "7",
        "Size": "128x64",
        "Model hash": "0123456789abcdef",
        "Model": "sdxl",
        "Lora hashes": "john: aaaaaaaaaa, rex: bbbbbbbbbb, oil: cccccccccc",
        "Sub-prompt 1": 'a <v1> man, "smiling": wide',
        "Sub-prompt 2": "a <v2> dog",
        "Version": "d2plan 0.1.0",
    }


def test_a_prompt_of_several_lines_cannot_pass_for_settings() -> None:
    lines = write_parameters(_record(global_prompt="a man, a dog\nSteps: 1, Sampler: x", negative_prompt=None)).split(
        "\n"
    )
    assert len(lines) == 2 and lines[0] == "a man, a dog Steps: 1, Sampler: x" and lines[1].startswith("Steps: 30")


def test_a_record_comes_back_from_its_picture_without_folders_and_costs(tmp_path: Path) -> None:
    record = _record()
    write_png(tmp_path / "a.png", np.zeros((64, 128, 3), np.uint8), write_texts(record))
    found = read_record(tmp_path / "a.png")
    assert [item.concept for item in found.scene.instances] == ["john.safetensors", "rex.safetensors"]
    assert (found.scene.instances[1].mask, found.scene.style[0].adapter) == ("m.png", "oil.safetensors")
    assert (found.scene.base, found.timings, found.unet_rows) == ("sdxl", {}, 0)
    assert found.scene.model_dump(exclude={"instances", "style", "base"}) == record.scene.model_dump(
        exclude={"instances", "style", "base"}
    )
    assert "/home" not in json.dumps(read_texts(tmp_path / "a.png"))


def test_folders_are_left_out_of_relative_paths_too_and_names_on_the_hub_stay() -> None:
    controls = tuple(Control(model=model, image="mine/pose.png") for model in ("mine/nets/pose", "maker/pose"))
    record = _record(controls=controls)
    uses = (("controls[0].model", "mine/nets/pose", "d" * 64), ("controls[1].model", "maker/pose", ""))
    uses += (("instances[1].mask", "mine/m.png", "e" * 64),)
    files = tuple(FileUse(field=field, path=path, sha256=sha256) for field, path, sha256 in uses)
    content = json.loads(write_texts(record.model_copy(update={"files": files}))["d2plan"])
    assert [use["path"] for use in content["files"]] == ["pose", "maker/pose", "m.png"]
    assert [item["model"] for item in content["scene"]["controls"]] == ["pose", "maker/pose"]


def test_a_hub_name_stays_whole() -> None:
    assert "Model: maker/sdxl-turbo" in write_parameters(_record(base="maker/sdxl-turbo"))
    assert json.loads(write_texts(_record(base="mini"))["d2plan"])["scene"]["base"] == "mini"


def test_two_runs_of_one_request_say_the_same() -> None:
    one = _record()
    two = one.model_copy(update={"timings": {"compose": 9.0}, "unet_rows": 90, "unet_calls": 90})
    assert write_texts(one) == write_texts(two)


def test_a_text_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("d2plan", "x" * 80_000_000, zip=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "bomb.png", pnginfo=info)
    assert (tmp_path / "bomb.png").stat().st_size < 200_000
    with pytest.raises((FileError, InputError), match=r"bomb\.png: (is damaged|holds no)"):
        read_record(tmp_path / "bomb.png")


@pytest.mark.parametrize("cut", [0, 7, 40, 200])
def test_a_file_that_was_cut_off_is_told(tmp_path: Path, cut: int) -> None:
    write_png(tmp_path / "a.png", np.zeros((64, 64, 3), np.uint8), write_texts(_record()))
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:cut])
    with pytest.raises(FileError, match=r"b\.png"):
        read_record(tmp_path / "b.png")


def test_a_hash_is_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert hash_file(tmp_path / "a").startswith("ba7816bf8f01cfea")
    with pytest.raises(FileError):
        hash_file(tmp_path / "none")
