"""What the judge's training writes into the package."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch

from d2plan.eval.networks import PARTS, load_networks

ROOT = Path(__file__).resolve().parents[2]
JUDGE = ROOT / "src" / "d2plan" / "assets" / "judge"


def test_networks_without_a_checkpoint_stay_as_the_folder_has_them(tmp_path):
    folder, work = tmp_path / "judge", tmp_path / "work"
    shutil.copytree(JUDGE, folder)
    work.mkdir()
    before = {name: (JUDGE / name / "model.safetensors").read_bytes() for name in PARTS}
    taught = load_networks(JUDGE).attributes.state_dict()
    bias = next(key for key in taught if key.endswith("bias"))
    taught[bias] = taught[bias] + 1
    torch.save({"average": taught, "extra": {}}, work / "attributes.pt")

    command = [sys.executable, str(ROOT / "scripts" / "judge" / "train.py"), "--steps", "0", "--export"]
    surroundings = os.environ | {"D2PLAN_JUDGE_WORK": str(work)}
    subprocess.run([*command, "--assets", str(folder)], env=surroundings, capture_output=True, check=True)

    after = {name: (folder / name / "model.safetensors").read_bytes() for name in PARTS}
    assert [name for name in PARTS if after[name] != before[name]] == ["attributes"]
    assert torch.allclose(load_networks(folder).attributes.state_dict()[bias], taught[bias], atol=1e-2)
