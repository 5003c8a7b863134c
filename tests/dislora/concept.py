"""A concept of four small pictures and what training tests ask for it."""

from dataclasses import replace

import numpy as np
import torch

from d2plan.adapter.file import Adapter
from d2plan.backbone.load import Backbone
from d2plan.config import DisLoRASettings
from d2plan.dislora.data import ConceptData
from d2plan.dislora.lessons import LessonChoices, Lessons, prepare_lessons
from d2plan.dislora.request import TrainRequest

CAPTIONS = ("a photo of a dog running on the beach", None, "a red dog on the left", "a car in the snow")
CHOICES = LessonChoices("dog", "<v1>", masked=True)
SETTINGS = DisLoRASettings(rank=2, unet_rate=1e-2, text_rate=1e-2, steps=2, batch_size=2)


def make_data(size: int = 64, captions: tuple[str | None, ...] = CAPTIONS) -> ConceptData:
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (len(captions), 8, 8, 3), dtype=np.uint8)
    images = blocks.repeat(size // 8, 1).repeat(size // 8, 2)
    mask = np.zeros((size, size), dtype=np.float32)
    mask[:, : size // 4] = 1
    names = tuple(f"{number}.png" for number in range(len(captions)))
    return ConceptData(names, images, captions, (mask, *[None] * (len(captions) - 1)))


def make_request(seed: int = 0, **changes: object) -> TrainRequest:
    return TrainRequest("rex", CHOICES, replace(SETTINGS, **changes), seed)


def make_lessons(backbone: Backbone, prior_images: int = 0, **changes: object) -> Lessons:
    return prepare_lessons(backbone, make_data(), replace(CHOICES, **changes), prior_images)


def same(first: Adapter, second: Adapter) -> bool:
    """Whether no bit differs."""
    return first.deltas.keys() == second.deltas.keys() and all(
        torch.equal(first.deltas[path].down, second.deltas[path].down)
        and torch.equal(first.deltas[path].up, second.deltas[path].up)
        for path in first.deltas
    )
