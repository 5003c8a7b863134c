"""One command makes all embedded weights, gives few small files, and goes on from them."""

import importlib
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image
from safetensors import safe_open

from d2plan.eval.encoders import open_clip, open_encoder

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
MIB = 2**20
TINY = "--serial --size-of-unet tiny --size-of-vae tiny --renders 16 --shard 8 --scenes 6 --groups 11"
TINY += " --pairs 4 --cutouts 8 --clips 1 --workers 1"
NAMES = [f"D2PLAN_{name}_WORK" for name in ("MINI", "JUDGE", "ENCODERS", "SEINE")] + ["PYTHONPATH", "PYTHONUNBUFFERED"]


@pytest.fixture(scope="module")
def scripts():
    """The two modules, in surroundings that are put back afterwards."""
    kept = {name: os.environ.get(name) for name in (*NAMES, "OMP_NUM_THREADS", "TOKENIZERS_PARALLELISM")}
    threads = torch.get_num_threads()
    sys.path.insert(0, str(SCRIPTS))
    yield importlib.import_module("train_all"), importlib.import_module("packing")
    sys.path.remove(str(SCRIPTS))
    torch.set_num_threads(threads)
    for name, value in kept.items():
        os.environ.pop(name, None)
        os.environ.update({name: value} if value is not None else {})


@pytest.fixture(scope="module")
def runs(scripts, tmp_path_factory):
    """A first run, and one that goes on from what it gave; each with its working folder."""
    folder = tmp_path_factory.mktemp("train_all")
    options = [*TINY.split(), "--minutes", "20", "--preview-steps", "1"]
    first, second = (options + ["--out", str(folder / f"out{n}"), "--work", str(folder / f"work{n}")] for n in (1, 2))
    assert scripts[0].main([*first, "--steps", "2"]) == 0
    start = ["--start", str(folder / "out1"), "--cool", "--parts", "unet,judge,clip,vit,seine"]
    assert scripts[0].main([*second, *start, "--steps", "3"]) == 0
    return folder


def steps_of(folder):
    with safe_open(folder / "weights-1.safetensors", "pt") as file:
        facts = json.loads(file.metadata()["facts"])
    return {name: part["step"] for name, part in facts.items() if "step" in part}


@pytest.mark.parametrize("out", ["out1", "out2"])
def test_what_comes_back_is_at_most_eight_small_files_with_plain_names(runs, out):
    files = list((runs / out).iterdir())
    assert {"weights-1.safetensors", "sheet.png", "log.txt"} <= {path.name for path in files}
    assert len(files) <= 8 and all(path.is_file() and path.stat().st_size <= 15 * MIB for path in files)
    assert all(set(path.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-") for path in files)
    assert "encode.txt" in (runs / out / "log.txt").read_text()
    with Image.open(runs / out / "sheet.png") as sheet:
        assert sheet.width >= 512


def test_a_second_run_goes_on_from_the_first_and_leaves_the_autoencoder_as_it_was(runs, scripts):
    beside = (*scripts[1].JUDGES, "clip", "vit")
    assert steps_of(runs / "out1") == {"vae": 2, "unet": 2, **dict.fromkeys(beside, 2)}
    assert steps_of(runs / "out2") == {"vae": 2, "unet": 3, **dict.fromkeys(beside, 3), "seine": 3}
    (before, _), (after, facts) = (scripts[1].read_pack(runs / out) for out in ("out1", "out2"))
    assert facts["run"]["round"] == 1
    same = [name for name in before if name.startswith(("vae/", "latents/"))]
    assert len(same) > 50 and all(torch.equal(before[name], after[name]) for name in same)
    moved = [name for name in before if name.startswith("unet/average/unet") and before[name].numel() > 16]
    assert any(not torch.equal(before[name], after[name]) for name in moved)


def test_the_encoders_go_on_from_what_came_back_and_open_as_they_are_exported(runs, scripts, monkeypatch, tmp_path):
    (before, first), (after, second) = (scripts[1].read_pack(runs / out) for out in ("out1", "out2"))
    for part in ("clip", "vit"):
        assert second[part]["seconds"]["cpu"] > first[part]["seconds"]["cpu"] > 0
        moved = [name for name in before if name.startswith(f"{part}/average/") and before[name].numel() > 16]
        assert any(not torch.equal(before[name], after[name]) for name in moved)
    assert before["vit/extra/place"] > 0 and before["clip/extra/patches.1.weight"].abs().sum() > 0
    assert set(scripts[1].unpack(runs / "out2", tmp_path)) >= {"clip", "vit"}
    monkeypatch.setenv("D2PLAN_ENCODERS_WORK", str(tmp_path / "encoders"))
    for name, kind, opened in (("clip", "clip", open_clip), ("vit", "dino", open_encoder)):
        options = ["--steps", "0", "--export", "--assets", str(tmp_path / "assets" / name)]
        assert scripts[0].run_here(SCRIPTS / "encoders" / f"train_{name}.py", options, tmp_path / "log.txt", 0)
        encoder = opened(f"{kind}:{tmp_path / 'assets' / name}")
        assert encoder.embed_images([np.zeros((40, 60, 3), np.uint8)]).shape[0] == 1


@pytest.mark.parametrize(("earlier", "left_out"), [(None, {"seine"}), ("out1", {"vae"})])
def test_a_run_without_parts_makes_all_that_it_can(scripts, runs, earlier, left_out, tmp_path, monkeypatch):
    for name in NAMES:
        monkeypatch.setenv(name, os.environ.get(name, ""))
    start = ["--start", str(runs / earlier)] if earlier else []
    choice = scripts[0].read_choice(["--out", str(tmp_path / "out"), *start])
    parts = scripts[0].begin(choice, tmp_path / "work").choice.parts
    assert set(scripts[0].PARTS) - set(parts) == left_out


def test_each_run_renders_other_scenes_beside_the_shard_that_measures(runs):
    names = [{path.stem for path in (runs / work / "mini" / "data").glob("*.done")} for work in ("work1", "work2")]
    assert names == [{"base-00000", "base-00001"}, {"base-00000", "base-00003"}]


def test_the_base_that_comes_out_opens_as_a_diffusers_pipeline(runs):
    pipeline = StableDiffusionXLPipeline.from_pretrained(runs / "work2" / "base", torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline("a photo of a dog", num_inference_steps=1, height=128, width=128, output_type="np").images[0]
    assert image.shape == (128, 128, 3)


def test_a_pack_that_lacks_a_file_is_refused(runs, scripts, tmp_path):
    needed = {f"unet/average/{n}": torch.zeros(4 * MIB) for n in range(6)}
    work = tmp_path / "work"
    (work / "mini").mkdir(parents=True)
    torch.save({"average": {n: v for n, v in needed.items()}, "model": {}, "step": 1}, work / "mini" / "unet.pt")
    files = scripts[1].pack(work, tmp_path / "out")
    assert len(files) == 6 and all(path.stat().st_size <= 15 * MIB for path in files)
    files[3].unlink()
    with pytest.raises(SystemExit, match="no whole pack"):
        scripts[1].read_pack(tmp_path / "out")


def test_the_raw_weights_stay_behind_where_they_do_not_fit(scripts, tmp_path):
    (tmp_path / "mini").mkdir()
    weights = {f"layer.{n}": torch.ones(MIB) for n in range(20)}
    torch.save({"average": weights, "model": weights, "step": 1}, tmp_path / "mini" / "unet.pt")
    scripts[1].pack(tmp_path, tmp_path / "out")
    assert not any("/model/" in name for name in scripts[1].read_pack(tmp_path / "out")[0])


@pytest.mark.parametrize("size", ["small", "wide"])
def test_every_size_fits_into_thirty_megabytes(scripts, size):
    sys.path.insert(0, str(SCRIPTS / "mini"))
    try:
        vae, unet = (importlib.import_module(name) for name in ("autoencoder", "train_unet"))
        parts = [vae.make_vae(size), *list(unet.Bundle(unet.make_tokenizer(), size).children())[:2]]
    finally:
        sys.path.remove(str(SCRIPTS / "mini"))
        scripts[0].take_modules()
    assert 2 * sum(one.numel() for part in parts for one in part.parameters()) < 29.5e6
