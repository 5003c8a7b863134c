"""Two processes that learn together, started by ``accelerate launch`` as a user would."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from d2plan.adapter.file import load_adapter
from d2plan.dislora.processes import Processes, open_processes
from d2plan.errors import InputError
from d2plan.workflows.training.train import train_concept

SOURCE = Path(__file__).resolve().parents[2] / "src"
LOSSES = ("loss", "ldm", "token", "attention")


def test_two_processes_learn_what_one_with_twice_the_batch_does(tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "rex"
    folder.mkdir()
    for number, block in enumerate(np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)):
        Image.fromarray(block.repeat(16, 0).repeat(16, 1)).save(folder / f"{number}.png")
    launcher = "accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no"
    launcher += f" --dynamo_backend no --main_process_port 0 -m d2plan train {folder} --base {tiny_folder}"
    asked = "--class dog --identifier <v1> --steps 3 --rate 0.01 --batch-size 2"
    done = subprocess.run(
        [sys.executable, "-m", *launcher.split(), *asked.split(), "--out", str(tmp_path / "two.safetensors")],
        check=False, capture_output=True, text=True, timeout=280,
        env={**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("Adapter:") == 1 and done.stderr.count("step 3/3") == 1
    train_concept(
        folder, tmp_path / "one.safetensors", "dog", "<v1>", base=tiny_folder, steps=3, unet_rate=0.01, batch_size=4
    )
    one, two = (
        [json.loads(line) for line in (tmp_path / f"{name}.log.jsonl").read_text().splitlines()][1:]
        for name in ("one", "two")
    )
    for here, there in zip(one, two, strict=True):
        for name in LOSSES:
            assert there[name] == pytest.approx(here[name], rel=2e-3, abs=2e-6), name
    first, second = (load_adapter(tmp_path / f"{name}.safetensors") for name in ("one", "two"))
    for path, delta in first.deltas.items():
        torch.testing.assert_close(delta.up, second.deltas[path].up, atol=2e-3, rtol=2e-2)


def test_alone_a_process_averages_nothing() -> None:
    alone = open_processes("cpu")
    assert alone == Processes(0, 1, "cpu") and alone.leads
    values = torch.tensor([1.0, 2.0])
    assert alone.mean(values) is values
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.grad = torch.tensor([3.0, 4.0])
    alone.average_gradients([parameter])
    assert parameter.grad.tolist() == [3.0, 4.0]


def test_several_processes_are_not_put_on_one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="say cuda"):
        open_processes("cuda:1")


def test_a_launch_that_started_one_process_of_several_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASTER_PORT", "29500")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    with pytest.raises(InputError, match="--multi_gpu"):
        open_processes("cpu")
