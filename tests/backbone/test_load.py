"""Opening a base: from the disk alone, with clear sentences for what is not there."""

import json
import pickle
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from d2plan.backbone import load
from d2plan.backbone.load import choose_dtype, find_base, fingerprint_base, load_backbone
from d2plan.errors import D2PlanError, FileError, InputError


def test_a_base_opens_with_its_own_defaults_and_words(tiny, tiny_folder):
    assert (tiny.name, tiny.folder, tiny.latent_scale) == ("tiny", tiny_folder, 4)
    assert (tiny.size, tiny.defaults.steps, tiny.defaults.rank) == ((128, 128), 4, 4)
    assert len(tiny.defaults.identifiers) == 32
    assert tiny.zero_null
    assert {"dog", "beach"} <= set(tiny.words)
    assert (tiny.device.type, tiny.dtype) == ("cpu", torch.float32)


def test_components_neither_learn_nor_drop_out(tiny):
    parts = (tiny.unet, *tiny.text_encoders, tiny.vae)
    assert not any(part.training for part in parts)
    assert not any(parameter.requires_grad for part in parts for parameter in part.parameters())


def test_opening_prints_nothing(tiny_folder, capfd):
    load_backbone(tiny_folder)
    assert capfd.readouterr() == ("", "")


def test_the_fingerprint_tells_weights_apart_and_ignores_their_precision(tiny_folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_folder, copy)
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    save_file({name: tensor.half() for name, tensor in tensors.items()}, weights)
    same = fingerprint_base(copy)
    tensors["conv_in.bias"] = tensors["conv_in.bias"] + 0.01
    save_file(tensors, weights)
    other = fingerprint_base(copy)

    assert same == fingerprint_base(tiny_folder)
    assert other != same
    assert len(same) == 16
    assert int(same, 16) >= 0


@pytest.mark.parametrize(("part", "stem"), [("text_encoder", "model"), ("text_encoder_2", "model")])
def test_the_fingerprint_tells_text_encoders_apart_too(tiny_folder: Path, tmp_path: Path, part: str, stem: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_folder, copy)
    weights = copy / part / f"{stem}.safetensors"
    tensors = load_file(weights)
    name = next(name for name in sorted(tensors) if name.endswith("final_layer_norm.bias"))
    save_file(tensors | {name: tensors[name] + 0.01}, weights)
    assert fingerprint_base(copy) != fingerprint_base(tiny_folder)


def test_half_precision_weights_under_the_usual_names_open_as_float32(tiny_folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_folder, copy)
    for part, stem in (("unet", "diffusion_pytorch_model"), ("text_encoder", "model"), ("text_encoder_2", "model")):
        weights = copy / part / f"{stem}.safetensors"
        half = {name: tensor.half() for name, tensor in load_file(weights).items()}
        weights.unlink()
        save_file(half, weights.with_name(f"{stem}.fp16.safetensors"), metadata={"format": "pt"})
    opened = load_backbone(copy)
    assert opened.dtype == torch.float32
    assert opened.text_encoders[1].dtype == torch.float32
    assert opened.fingerprint == fingerprint_base(tiny_folder)


@pytest.mark.parametrize("base", ["no/such/folder", "nowhere", "someone/not-downloaded"])
def test_a_missing_base_is_one_sentence_that_names_it(base):
    with pytest.raises(InputError, match="base: .*" + base):
        load_backbone(base)


def test_a_folder_of_another_layout_is_refused(tiny_folder, tmp_path):
    with pytest.raises(InputError, match="model_index.json"):
        find_base(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(tiny_folder, copy)
    shutil.rmtree(copy / "text_encoder_2")
    with pytest.raises(InputError, match="text_encoder_2"):
        find_base(copy)


def test_a_unet_without_sdxl_conditioning_is_refused(tiny_folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_folder, copy)
    path = copy / "unet" / "config.json"
    config = json.loads(path.read_text())
    config |= {"addition_embed_type": None, "addition_time_embed_dim": None}
    path.write_text(json.dumps(config))
    with pytest.raises(InputError, match="no SDXL"):
        load_backbone(copy)


def test_damaged_weights_are_a_file_error(tiny_folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_folder, copy)
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(FileError, match="cannot be opened"):
        load_backbone(copy)


class Canary:
    """Makes a file when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[object, ...]:
        return open, (str(self.place), "w")


@pytest.mark.parametrize(
    ("part", "stem", "pickled"),
    [
        ("unet", "diffusion_pytorch_model", "diffusion_pytorch_model.bin"),
        ("vae", "diffusion_pytorch_model", "diffusion_pytorch_model.bin"),
        ("text_encoder", "model", "pytorch_model.bin"),
        ("text_encoder_2", "model", "pytorch_model.bin"),
    ],
)
def test_damaged_weights_are_not_replaced_by_the_pickle_beside_them(
    tiny_folder: Path, tmp_path: Path, part: str, stem: str, pickled: str
) -> None:
    copy, written = tmp_path / "copy", tmp_path / "written"
    shutil.copytree(tiny_folder, copy)
    weights = copy / part / f"{stem}.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    (copy / part / pickled).write_bytes(pickle.dumps({"conv_in.weight": Canary(written)}))
    with pytest.raises(FileError, match="cannot be opened"):
        load_backbone(copy)
    assert not written.exists()


def test_an_open_base_does_not_see_its_files_change(tiny_folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_folder, copy)
    # In a process of its own: a page that is no longer there ends it.
    code = (
        "import os, sys; from pathlib import Path; from d2plan.backbone.load import load_backbone\n"
        "base = load_backbone(sys.argv[1]); parts = (base.unet, base.vae, *base.text_encoders)\n"
        "count = lambda: [float(x.double().sum()) for part in parts for x in part.state_dict().values()]\n"
        "before = count()\n"
        "for path in Path(sys.argv[1]).rglob('*.safetensors'): os.truncate(path, 10)\n"
        "assert count() == before"
    )
    subprocess.run([sys.executable, "-c", code, copy], check=True, capture_output=True)


def test_pickled_weights_are_never_opened(tiny_folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_folder, copy)
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(InputError, match="safetensors"):
        load_backbone(copy)


@pytest.mark.parametrize("foreign", ["custom_pipeline", "unet", "auto_map"])
def test_code_that_a_base_brings_is_never_run(tiny_folder, tmp_path, monkeypatch, foreign):
    copy, written = tmp_path / "copy", tmp_path / "written"
    shutil.copytree(tiny_folder, copy)
    canary = f"open({str(written)!r}, 'w').close()\nclass Evil: pass\n"
    for folder in (copy, copy / "unet", copy / "text_encoder", copy / "tokenizer"):
        (folder / "canary.py").write_text(canary)
    classes = {name: "canary.Evil" for name in ("AutoModel", "AutoConfig", "AutoTokenizer")}
    changes = {
        "custom_pipeline": {"model_index.json": {"custom_pipeline": "canary", "_class_name": ["canary", "Evil"]}},
        "unet": {"model_index.json": {"unet": ["canary", "Evil"]}},
        "auto_map": {
            "unet/config.json": {"auto_map": classes},
            "text_encoder/config.json": {"auto_map": classes},
            "tokenizer/tokenizer_config.json": {"auto_map": classes | {"AutoTokenizer": ["canary.Evil", None]}},
        },
    }
    for name, change in changes[foreign].items():
        path = copy / name
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
    monkeypatch.syspath_prepend(copy)
    with suppress(D2PlanError):
        assert load_backbone(copy).fingerprint == fingerprint_base(tiny_folder)
    assert not [name for name in sys.modules if name.rpartition(".")[2] == "canary"] and not written.exists()


def test_a_vae_that_overflows_stays_in_float32(tiny_folder):
    assert json.loads((tiny_folder / "vae" / "config.json").read_text())["force_upcast"]
    base = load_backbone(tiny_folder, dtype=torch.float16)
    assert (base.dtype, base.vae.dtype) == (torch.float16, torch.float32)
    assert {encoder.dtype for encoder in base.text_encoders} == {torch.float16}


def test_a_cpu_computes_in_float32():
    assert choose_dtype("cpu") == torch.float32


def test_a_missing_embedded_base_says_how_it_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(load, "_ASSETS", tmp_path)
    with pytest.raises(FileError, match="scripts/mini"):
        load_backbone("mini")
