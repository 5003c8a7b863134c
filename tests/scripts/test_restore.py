"""Where no checkpoint is left, training goes on from the committed weights."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]
ASSETS = ROOT / "src" / "d2plan" / "assets"


def restore(folder):
    surroundings = os.environ | {
        f"D2PLAN_{name}_WORK": str(folder / name.lower()) for name in ("MINI", "JUDGE", "ENCODERS")
    }
    command = [sys.executable, str(ROOT / "scripts" / "restore.py")]
    return subprocess.run(command, env=surroundings, capture_output=True, text=True, check=True).stdout.splitlines()


def test_checkpoints_hold_the_committed_weights_and_earlier_ones_stay(tmp_path):
    first = restore(tmp_path)
    torch.save({"mine": 1}, tmp_path / "judge" / "place.pt")
    second = restore(tmp_path)

    vae = torch.load(tmp_path / "mini" / "vae.pt", weights_only=True)
    committed = load_file(ASSETS / "mini" / "vae" / "diffusion_pytorch_model.safetensors")
    unet = torch.load(tmp_path / "mini" / "unet.pt", weights_only=True)
    words = load_file(ASSETS / "mini" / "text_encoder" / "model.safetensors")
    clip = torch.load(tmp_path / "encoders" / "clip.pt", weights_only=True)
    learnt = load_file(ASSETS / "encoders" / "clip" / "model.safetensors")
    name = "embeddings.token_embedding.weight"
    assert all(torch.equal(vae["average"][key], value.float()) for key, value in committed.items())
    assert torch.equal(unet["average"][f"encoders.0.{name}"], words[name].float())
    assert all(torch.equal(clip["average"][key], value.float()) for key, value in learnt.items())
    assert (tmp_path / "encoders" / "vit.pt").exists()
    scale = np.load(tmp_path / "mini" / "latents.npz")["std"]
    assert scale.shape == (4,) and scale.dtype == np.float32
    assert len(first) == 8 and all(line.endswith("written") for line in first)
    assert len(second) == 8 and all(line.endswith("stays") for line in second)
    assert torch.load(tmp_path / "judge" / "place.pt", weights_only=True) == {"mine": 1}
