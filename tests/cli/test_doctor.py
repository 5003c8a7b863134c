"""What `d2plan doctor` finds: packages, bases and networks, whole, in part or damaged."""

import json
import shutil

import pytest

from d2plan.cli import doctor
from d2plan.cli.doctor import look_at_base
from d2plan.errors import D2PlanError
from tests.cli.test_main import leave, run_without


def test_doctor_tells_every_finding_and_writes_them(tmp_path, capsys):
    out = tmp_path / "findings.json"
    code = leave(["doctor", "--out", str(out)])
    findings = {finding["name"]: finding for finding in json.loads(out.read_text())}
    looked = ["python", "torch", "machine", "disk", "device", "base", "judge", "encoders", "seine", "av", "onnxruntime"]
    assert set(looked) <= set(findings)
    assert findings["torch"]["state"] == "ok"
    assert findings["device"]["state"] == "ok"
    assert code == int(any(finding["state"] == "missing" for finding in findings.values()))
    shown = capsys.readouterr().out
    assert all(name in shown for name in looked)


def test_doctor_names_what_a_base_lacks(tmp_path, capsys):
    (tmp_path / "unet").mkdir()
    (tmp_path / "model_index.json").write_text("{}")
    assert leave(["doctor", "--base", str(tmp_path)]) == 1
    assert "lacks unet/config.json, unet/*.safetensors, vae, text_encoder, text_encoder_2" in capsys.readouterr().out


def test_doctor_says_where_it_cannot_write(tmp_path, capsys):
    assert leave(["doctor", "--out", str(tmp_path)]) == 2
    assert "is a folder" in capsys.readouterr().err


def test_doctor_replaces_nothing_unasked(tmp_path, capsys):
    out = tmp_path / "mine.json"
    out.write_text("mine")
    assert leave(["doctor", "--out", str(out)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert out.read_text() == "mine"


@pytest.mark.parametrize("seed", ["-1", str(2**64)])
def test_doctor_refuses_a_seed_out_of_range(seed, capsys):
    assert leave(["doctor", "--seed", seed]) == 2
    assert "--seed" in capsys.readouterr().err


def test_doctor_names_a_base_that_is_not_there(tmp_path, capsys):
    assert leave(["doctor", "--base", str(tmp_path / "none")]) == 1
    assert "is not a folder" in capsys.readouterr().out


PARTS = ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")


def test_doctor_takes_no_empty_folders_for_a_base(tmp_path, capsys):
    for part in PARTS:
        (tmp_path / part).mkdir()
    assert leave(["doctor", "--base", str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    assert "lacks model_index.json, unet/config.json, unet/*.safetensors, vae/config.json" in shown
    assert "tokenizer_2/tokenizer.json, scheduler/scheduler_config.json; copy or download it again" in shown


@pytest.fixture
def base(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder, tmp_path / "base")


def test_a_whole_base_is_ok(base):
    assert look_at_base(str(base)).state == "ok"


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "text_encoder_2"])
def test_doctor_names_weights_that_are_cut_off(part, base, capsys):
    (file,) = (base / part).glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-1])
    assert leave(["doctor", "--base", str(base)]) == 1
    assert f"MISSING  base           {file} is no complete safetensors file" in capsys.readouterr().out


def test_doctor_names_settings_that_are_damaged(base):
    (base / "vae" / "config.json").write_text("{")
    with pytest.raises(D2PlanError, match=r"vae/config\.json cannot be read .*; copy or download it again"):
        look_at_base(str(base))


def test_doctor_names_a_part_of_the_weights_that_is_not_there(base):
    (file,) = (base / "unet").glob("*.safetensors")
    places = {"weight_map": {"a": file.name, "b": "other.safetensors"}}
    (base / "unet" / "model.safetensors.index.json").write_text(json.dumps(places))
    finding = look_at_base(str(base))
    assert (finding.state, finding.text) == (
        "missing",
        f"{base} lacks unet/other.safetensors; copy or download it again.",
    )


def test_networks_that_not_everybody_needs_are_no_failure(tmp_path, monkeypatch, capsys):
    whole = doctor._asset_folder(".")
    (tmp_path / "judge").mkdir()
    (tmp_path / "mini").symlink_to(whole / "mini")
    shutil.copytree(whole / "seine", tmp_path / "seine")
    (tmp_path / "seine" / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    monkeypatch.setattr(doctor, "_asset_folder", lambda name: tmp_path / name)
    assert leave(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert (
        "note     judge          judge/segmenter, judge/attributes, judge/identity, judge/place not installed" in shown
    )
    assert "note     encoders       encoders/clip, encoders/vit not installed" in shown
    assert "note     seine" in shown and "git-lfs pointer" in shown


@pytest.mark.parametrize(
    ("modules", "said"),
    [
        (["PIL"], "MISSING  Pillow"),
        (["numpy"], "MISSING  numpy"),
        (["packaging", "packaging.requirements"], "MISSING  packaging      not installed"),
        (["torch"], "MISSING  torch"),
        (["yaml"], "MISSING  PyYAML"),
    ],
)
def test_doctor_says_which_package_is_missing(modules, said):
    done = run_without(modules, "doctor")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert said in done.stdout and "; run `pip install" in done.stdout


def test_an_extra_that_is_missing_is_no_failure():
    done = run_without(["av", "tensorboard"], "doctor")
    assert done.returncode == 0
    assert "note     av " in done.stdout and "run `pip install 'd2plan[video]'` if you want it" in done.stdout
    assert "note     tensorboard" in done.stdout
