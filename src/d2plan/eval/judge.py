"""The judge: says what a picture shows - place, instances, what they wear and do, and who they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from d2plan.errors import InputError
from d2plan.eval.grouping import Found, group_instances
from d2plan.eval.networks import (
    HEADS,
    NONE,
    PLACE_SIZE,
    SIZE,
    WHOLE_HEADS,
    Networks,
    crop_instances,
    hide_background,
    load_networks,
    run_segmenter,
    split_heads,
)
from d2plan.world.cast import ACTIONS, CLASSES

Picture = NDArray[np.uint8]
_BATCH = 16


@dataclass(frozen=True, eq=False)
class Seen:
    """One instance that the judge sees.

    Attributes:
        class_word: its class.
        mask: ``[h w]`` bool, the picture's own size.
        box: x0, y0, x1, y1 around the mask, pixels of the picture.
        accessory: what it wears, or None.
        accessory_colour: the colour of that, or None.
        action: what it does, one of its class's actions.
        embedding: ``[64]`` float32 of length 1; characters that look alike lie close together.
        confidence: how sure the class is, 0..1.
    """

    class_word: str
    mask: NDArray[np.bool_]
    box: tuple[float, float, float, float]
    accessory: str | None
    accessory_colour: str | None
    action: str
    embedding: NDArray[np.float32]
    confidence: float

    @property
    def x(self) -> float:
        """The middle of its box, pixels from the left."""
        return (self.box[0] + self.box[2]) / 2


@dataclass(frozen=True)
class Verdict:
    """What the judge says of a picture.

    Attributes:
        place: one of the world's places.
        light: one of its lights.
        instances: from left to right.
    """

    place: str
    light: str
    instances: tuple[Seen, ...]

    @property
    def count(self) -> int:
        """How many instances there are."""
        return len(self.instances)


@dataclass(frozen=True, eq=False)
class Judge:
    """Looks at pictures; holds the networks and where they run."""

    networks: Networks
    device: str = "cpu"
    dtype: torch.dtype = torch.float32

    def judge(self, image: Picture) -> Verdict:
        """Judge one picture ``[h w 3]``, 0..255."""
        return self.judge_many([image])[0]

    def judge_many(self, images: Sequence[Picture]) -> list[Verdict]:
        """Judge pictures; same verdicts as one by one.

        Args:
            images: each ``[h w 3]`` uint8, of any size.

        Returns:
            A verdict for each.

        Raises:
            InputError: an array is no picture.
        """
        for image in images:
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise InputError(f"a picture to judge is uint8 [h w 3], this is {image.dtype} {list(image.shape)}.")
        verdicts: list[Verdict] = []
        start = 0
        while start < len(images):
            stop = start + 1
            while stop < min(start + _BATCH, len(images)) and images[stop].shape == images[start].shape:
                stop += 1
            verdicts += self._judge_alike(images[start:stop])
            start = stop
        return verdicts

    @torch.no_grad()
    def _judge_alike(self, images: Sequence[Picture]) -> list[Verdict]:
        """Judge pictures of one size in one pass."""
        pixels = torch.stack([to_pixels(image) for image in images]).to(self.device, self.dtype)
        dense = run_segmenter(self.networks.segmenter, pixels).float().cpu()
        found = [group_instances(part) for part in dense]
        whole = self._read_whole(pixels)
        numbers = [number for number, parts in enumerate(found) for _ in parts]
        seen: list[list[Seen]] = [[] for _ in images]
        if numbers:
            parts = [part for group in found for part in group]
            readings = self._read_instances(pixels[numbers], parts)
            for number, part, reading in zip(numbers, parts, readings, strict=True):
                seen[number].append(_describe(part, reading, images[number].shape[:2]))
        ordered = [tuple(sorted(group, key=lambda one: one.x)) for group in seen]
        return [Verdict(place, light, group) for (place, light), group in zip(whole, ordered, strict=True)]

    def _read_whole(self, pixels: Tensor) -> list[tuple[str, str]]:
        small = shrink_whole(pixels)
        heads = split_heads(self.networks.place(small).logits.float().cpu(), WHOLE_HEADS)
        choices = {name: logits.argmax(-1).tolist() for name, logits in heads.items()}
        pairs = zip(choices["place"], choices["light"], strict=True)
        return [(WHOLE_HEADS["place"][place], WHOLE_HEADS["light"][light]) for place, light in pairs]

    def _read_instances(self, pixels: Tensor, parts: Sequence[Found]) -> list[_Reading]:
        masks = torch.stack([part.mask for part in parts]).to(pixels)
        boxes = torch.tensor([part.box for part in parts]).to(pixels)
        crops = crop_instances(pixels, masks, boxes)
        # Nothing that is asked for tells left from right, so the mirrored crop is a second opinion.
        crops = torch.cat([crops, crops.flip(-1)])
        logits = self.networks.attributes(crops).logits.float().unflatten(0, (2, -1)).mean(dim=0).cpu()
        heads = split_heads(logits, HEADS)
        views = functional.normalize(self.networks.identity(hide_background(crops)).logits.float(), dim=-1)
        embeddings = functional.normalize(views.unflatten(0, (2, -1)).sum(dim=0), dim=-1).cpu()
        return [
            _Reading({name: logits[number].log_softmax(-1) for name, logits in heads.items()}, embeddings[number])
            for number in range(len(parts))
        ]


@dataclass(frozen=True, eq=False)
class _Reading:
    """Log-probabilities of an instance's heads and its embedding."""

    heads: dict[str, Tensor]
    embedding: Tensor


def load_judge(folder: Path | None = None, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Judge:
    """Open the judge.

    Args:
        folder: of its networks; None takes those of the package.
        device: where it runs.
        dtype: what it computes in.

    Returns:
        The judge.

    Raises:
        FileError: a network is missing.
        InputError: the networks belong to another world.
    """
    folder = folder or Path(str(files("d2plan"))) / "assets" / "judge"
    return Judge(load_networks(folder, device, dtype), device, dtype)


def to_pixels(image: Picture) -> Tensor:
    """Bring a picture to the judge's size.

    Args:
        image: ``[h w 3]``, 0..255.

    Returns:
        ``[3 h w]`` -1..1; the shorter side is 128, both are multiples of 32.
    """
    height, width = image.shape[:2]
    scale = SIZE / min(height, width)
    goal = (max(SIZE, round(width * scale / 32) * 32), max(SIZE, round(height * scale / 32) * 32))
    if goal != (width, height):
        image = np.asarray(Image.fromarray(image).resize(goal, Image.Resampling.LANCZOS))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div(127.5).sub(1)


def shrink_whole(pixels: Tensor) -> Tensor:
    """Bring whole pictures ``[b 3 h w]`` to the place network's size."""
    return functional.interpolate(pixels, (PLACE_SIZE, PLACE_SIZE), mode="area")


def _describe(part: Found, reading: _Reading, size: tuple[int, int]) -> Seen:
    """Join what the segmenter and the heads say of an instance; both have a say in its class."""
    votes = part.class_scores + reading.heads["class"]
    class_word = CLASSES[int(votes.argmax())]
    allowed = [HEADS["action"].index(word) for word in ACTIONS[class_word]]
    action = HEADS["action"][max(allowed, key=lambda number: float(reading.heads["action"][number]))]
    accessory = HEADS["accessory"][int(reading.heads["accessory"].argmax())]
    colour = HEADS["accessory_colour"][int(reading.heads["accessory_colour"].argmax())]
    mask = functional.interpolate(part.mask[None, None], size, mode="bilinear")[0, 0] > 0.5
    scale = (size[1] / part.mask.shape[1], size[0] / part.mask.shape[0])
    x0, y0, x1, y1 = part.box
    return Seen(
        class_word=class_word,
        mask=mask.numpy(),
        box=(x0 * scale[0], y0 * scale[1], x1 * scale[0], y1 * scale[1]),
        accessory=None if accessory == NONE else accessory,
        accessory_colour=None if accessory == NONE else colour,
        action=action,
        embedding=reading.embedding.numpy(),
        confidence=float(votes.softmax(-1).max()),
    )
