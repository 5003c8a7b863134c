"""Small concepts, shots and states for tests of compared methods on the tiny base."""

import hashlib
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from d2plan.backbone.load import Backbone
from d2plan.backbone.sdxl import encode_prompts
from d2plan.bench.protocol import BenchConcept, Drawing, Learned, Method, Setting, Shot, State

DRAWING = Drawing(steps=2, guidance_scale=3.0, height=64, width=64)
PAIR = Shot(
    "a photo of a dog and a cat on the beach",
    ("a photo of a <v1> dog running", "a photo of a <v2> cat wearing a red hat"),
    "a photo of a <v1> dog running and a <v2> cat wearing a red hat on the beach",
    ("rex", "tom"),
    ((0.0, 0.2, 0.5, 1.0), (0.5, 0.2, 1.0, 1.0)),
    3,
)
ALONE = Shot("a photo of a dog", ("a photo of a <v1> dog",), "a photo of a <v1> dog", ("rex",), ((0, 0, 1, 1),), 5)


def halve(backbone: Backbone) -> Backbone:
    """The same base for pictures of half the size, which is enough for tests."""
    return replace(backbone, defaults=replace(backbone.defaults, height=64, width=64))


def small_concept(
    folder: Path, name: str = "rex", class_word: str = "dog", identifier: str = "<v1>", count: int = 2, seed: int = 0
) -> BenchConcept:
    """Write a folder of blocky pictures, the first with a caption and a mask."""
    folder = folder / name
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for number in range(count):
        blocks = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(blocks.repeat(16, 0).repeat(16, 1)).save(folder / f"{number}.png")
    (folder / "0.txt").write_text(f"a {class_word} running in the snow", encoding="utf-8")
    mask = np.zeros((128, 128), dtype=np.uint8)
    mask[:, :64] = 255
    Image.fromarray(mask).save(folder / "0.mask.png")
    return BenchConcept(name, class_word, identifier, folder)


def digest_base(backbone: Backbone) -> str:
    """Digest all that a base holds: names, numbers, what learns, hooks."""
    with torch.no_grad():
        # transformers puts hooks of its own on an encoder during its first call.
        encode_prompts(backbone, ["a dog"])
    digest = hashlib.sha256()
    for model in (backbone.unet, *backbone.text_encoders, backbone.vae):
        for name, parameter in model.named_parameters():
            digest.update(f"{name} {parameter.dtype} {parameter.requires_grad} {parameter.grad is None}".encode())
            digest.update(parameter.detach().float().numpy().tobytes())
        for name, module in model.named_modules():
            hooks = (len(module._forward_hooks), len(module._forward_pre_hooks))
            digest.update(f"{name} {type(module).__name__} {hooks}".encode())
    return digest.hexdigest()


def finish(run: Generator[float, None, State]) -> tuple[list[float], State]:
    """Run to the end; gives the shares and the state."""
    shares = []
    while True:
        try:
            shares.append(next(run))
        except StopIteration as end:
            return shares, end.value


def learn(
    method: Method, backbone: Backbone, concept: BenchConcept, folder: Path, setting: Setting | None = None
) -> Learned:
    """Learn a concept and keep it as the runner does: through a file."""
    _, state = finish(method.learn(backbone, concept, setting or method.settings[0], 0))
    path = folder / f"{method.name}-{concept.name}.safetensors"
    save_file(dict(state), path)
    return Learned(concept, load_file(path), path)
