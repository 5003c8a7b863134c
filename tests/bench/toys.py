"""Toy methods for tests of the runner: they learn one number and paint flat pictures, and some of them fail."""

import functools

import numpy as np
import torch

from d2plan.backbone.load import Backbone
from d2plan.backbone.sdxl import encode_prompts, predict, time_ids
from d2plan.bench.job import Job
from d2plan.bench.prepare import prepare_job
from d2plan.bench.store import Store
from d2plan.bench.suites import LoadedSuite, Suite
from tests.tiny import tiny_backbone

SUITE = {
    "name": "toy",
    "images": 3,
    "concepts": [
        {"name": "rex", "class_word": "dog", "seed": 7},
        {"name": "tom", "class_word": "man", "seed": 8},
    ],
    "groups": [["tom", "rex"]],
    "single": [
        {"name": "one-beach", "scene": "on the beach", "images": 2},
        {"name": "one-snow", "scene": "in the snow", "variants": [[""], ["wearing a red hat"]]},
    ],
    "multi": [{"name": "more-snow", "scene": "in the snow", "variants": [["", ""], ["wearing a red hat", "running"]]}],
    "steps": 2,
}


class Toy:
    """Learns a random number per concept; paints it, mixed with the seed."""

    name = "toy"
    title = "Toy"
    source = "nothing"
    settings = ({"level": 1.0}, {"level": 2.0})

    def __init__(self, **faults: object) -> None:
        self.faults = faults
        self.learnt: list[str] = []
        self.drawn: list[str] = []

    def learn(self, backbone, concept, setting, seed):
        self.learnt.append(concept.name)
        call_unet(backbone, 3)
        for share in (0.25, 0.5, 1.0):
            if self.faults.get("learn") == concept.name:
                raise ValueError("no luck today")
            yield share
        if self.faults.get("dirt") == concept.name:
            with torch.no_grad():
                next(backbone.unet.parameters()).add_(1)
        return {"number": torch.rand(1) * setting["level"]}

    def join(self, backbone, learned, setting, seed):
        yield from ()
        return {}

    def draw(self, backbone, learned, joined, shots, drawing):
        self.drawn += [shot.joint_prompt for shot in shots]
        if self.faults.get("draw") == len(learned):
            raise RuntimeError("the brush broke")
        call_unet(backbone, 2 * len(shots))
        level = sum(float(one.state["number"]) for one in learned)
        values = [int(100 * level + shot.seed) % 256 for shot in shots]
        return [np.full((drawing.height, drawing.width, 3), value, np.uint8) for value in values]


@functools.cache
def shared_backbone() -> Backbone:
    """Open the tiny base once, for tests that leave it as it is."""
    return tiny_backbone()


def call_unet(backbone: Backbone, rows: int) -> None:
    """Run so many rows through the U-Net."""
    latents = torch.zeros(rows, 4, 16, 16, dtype=backbone.dtype)
    with torch.no_grad():
        predict(
            backbone,
            latents,
            torch.tensor(1),
            encode_prompts(backbone, ["a dog"] * rows),
            time_ids(backbone, rows, (64, 64)),
        )


def toy_job(folder, suite=None, backbone=None, **options) -> Job:
    """Make a job of the toy suite on the tiny base."""
    backbone = backbone or shared_backbone()
    loaded = LoadedSuite(Suite.model_validate(suite or SUITE), folder, "toy.yaml")
    job, _ = prepare_job("spatial", loaded, backbone, "tiny", Store(folder / "out"), tiny_backbone, **options)
    return job


TOY = Toy()
OTHER = Toy()
