"""The U-Net's training aims at what its scheduler takes a prediction for, by every recipe."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.scripts.loading import load_scripts

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts" / "mini"
models, train_unet = load_scripts("mini", "models", "train_unet")
RECIPES = [
    models.Recipe(),
    models.Recipe(zero_snr=False),
    models.Recipe("epsilon", zero_snr=False),
    models.Recipe(schedule="squaredcos_cap_v2"),
    models.Recipe("epsilon", "linear", zero_snr=False),
]


@pytest.mark.parametrize("recipe", RECIPES)
def test_who_predicts_what_training_aims_at_draws_the_clean_picture(recipe):
    generator = torch.Generator().manual_seed(0)
    clean, noise = (torch.randn((2, 4, 8, 8), generator=generator) for _ in range(2))
    scheduler = models.make_scheduler(recipe)
    scheduler.set_timesteps(10)
    latents = clean + scheduler.sigmas[0] * noise
    for moment, sigma in zip(scheduler.timesteps, scheduler.sigmas[:-1], strict=True):
        alpha = (1 / (sigma.double() ** 2 + 1)).float().expand(2)
        found = ((latents.double() - clean) / sigma).float()
        target, weight = train_unet.aim(recipe, clean, found, alpha)
        assert weight.isfinite().all() and (weight > 0).all()
        scheduler.scale_model_input(latents, moment)
        latents = scheduler.step(target, moment, latents).prev_sample
    assert (latents - clean).abs().max() < 2e-2


@pytest.mark.parametrize("schedule", [{}, {"schedule": "squaredcos_cap_v2", "zero_snr": False}])
def test_noise_is_not_asked_from_pure_noise(schedule):
    with pytest.raises(SystemExit, match="--no-zero-snr"):
        models.Recipe("epsilon", **schedule)


def run(work: Path, program: str, *options: str) -> str:
    surroundings = {**os.environ, "D2PLAN_MINI_WORK": str(work), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPTS / program), *options]
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_training_keeps_its_recipe_and_its_pictures_are_judged(tmp_path):
    run(tmp_path, "render.py", "--count", "16", "--shard", "8")
    run(tmp_path, "train_vae.py", "--size", "tiny", "--steps", "1")
    run(tmp_path, "encode.py")
    tiny = ("--size-of-unet", "tiny", "--size", "64", "--batch", "2", "--preview-steps", "1")
    run(tmp_path, "train_unet.py", *tiny, "--steps", "1", "--prediction", "epsilon", "--no-zero-snr")
    run(tmp_path, "train_unet.py", *tiny, "--steps", "2")
    kept = torch.load(tmp_path / "unet.pt", weights_only=True)
    assert (kept["step"], kept["recipe"]["prediction"]) == (2, "epsilon")
    table = run(tmp_path, "compare.py", str(tmp_path), "--captions", "4", "--steps", "1", "--guidance", "1", "3")
    names = [line.split("|")[1].strip() for line in table.splitlines()[2:]]
    assert names == ["true", f"{tmp_path.name} w 1", f"{tmp_path.name} w 3"]
    result = json.loads((tmp_path / "compared" / "compared.json").read_text())
    assert [len(row["scores"]) for row in result.values()] == [4, 4, 4]
