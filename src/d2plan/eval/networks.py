"""The judge's networks: small relatives of a detector, two classifiers and a face encoder, in transformers' formats."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from transformers import (
    PreTrainedModel,
    ResNetConfig,
    ResNetForImageClassification,
    UperNetConfig,
    UperNetForSemanticSegmentation,
)
from transformers.utils import logging

from d2plan.errors import FileError, InputError
from d2plan.world.cast import ACCESSORIES, ACTIONS, CLASSES, COLOURS
from d2plan.world.scenery import LIGHTS, PLACES

SIZE = 128
CELL = 4
CROP = 96
PLACE_SIZE = 64
EMBEDDING = 64
OFFSET_UNIT = 8.0

NONE = "none"
SEGMENT_LABELS = (NONE, *CLASSES)
# Beyond the classes, the segmenter's channels say where an instance's centre is and how far away it lies.
DENSE_LABELS = (*SEGMENT_LABELS, "centre", "offset_y", "offset_x")
HEADS: dict[str, tuple[str, ...]] = {
    "class": CLASSES,
    "accessory": (NONE, *ACCESSORIES),
    "accessory_colour": tuple(COLOURS),
    "action": tuple(dict.fromkeys(word for words in ACTIONS.values() for word in words)),
}
WHOLE_HEADS: dict[str, tuple[str, ...]] = {"place": tuple(PLACES), "light": tuple(LIGHTS)}
PARTS = ("segmenter", "attributes", "place", "identity")


@dataclass(frozen=True, eq=False)
class Networks:
    """The judge's four networks.

    Attributes:
        segmenter: ``[b 3 h w]`` -1..1 to the channels of DENSE_LABELS; see ``run_segmenter``.
        attributes: ``[b 4 96 96]`` (crop and mask) to the logits of HEADS, one after the other.
        place: ``[b 3 64 64]`` to the logits of WHOLE_HEADS.
        identity: ``[b 4 96 96]`` (masked crop and mask) to ``[b 64]``, not yet of length 1.
    """

    segmenter: UperNetForSemanticSegmentation
    attributes: ResNetForImageClassification
    place: ResNetForImageClassification
    identity: ResNetForImageClassification

    def parts(self) -> dict[str, PreTrainedModel]:
        """Give the networks by their folders' names."""
        return {name: getattr(self, name) for name in PARTS}


def _named(labels: tuple[str, ...]) -> dict[str, object]:
    return {"id2label": dict(enumerate(labels)), "label2id": {label: number for number, label in enumerate(labels)}}


def head_labels(heads: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Name every logit of a classifier with several heads, such as ``action: running``."""
    return tuple(f"{head}: {label}" for head, labels in heads.items() for label in labels)


def _classifier(
    channels: int, widths: list[int], depths: list[int], labels: tuple[str, ...]
) -> ResNetForImageClassification:
    config = ResNetConfig(
        num_channels=channels,
        embedding_size=widths[0],
        hidden_sizes=widths,
        depths=depths,
        layer_type="basic",
        **_named(labels),
    )
    return ResNetForImageClassification(config)


def build_networks(seed: int = 0) -> Networks:
    """Make the networks with random weights.

    Args:
        seed: of the weights.

    Returns:
        The networks, in training mode.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        widths = [24, 48, 80, 112]
        backbone = ResNetConfig(
            embedding_size=widths[0],
            hidden_sizes=widths,
            depths=[1, 1, 1, 1],
            layer_type="basic",
            out_features=["stage1", "stage2", "stage3", "stage4"],
        )
        segmenter = UperNetForSemanticSegmentation(
            UperNetConfig(
                backbone_config=backbone,
                hidden_size=24,
                pool_scales=[1, 2],
                use_auxiliary_head=False,
                **_named(DENSE_LABELS),
            )
        )
        features = tuple(f"feature {number}" for number in range(EMBEDDING))
        return Networks(
            segmenter,
            _classifier(4, [32, 48, 96, 128], [1, 1, 2, 1], head_labels(HEADS)),
            _classifier(3, [16, 32, 64, 96], [1, 1, 1, 1], head_labels(WHOLE_HEADS)),
            _classifier(4, [32, 48, 96, 128], [1, 1, 2, 1], features),
        )


def save_networks(networks: Networks, folder: Path) -> None:
    """Write the networks as transformers folders in half precision.

    Args:
        networks: what to write.
        folder: gets one folder a network, each with config.json and model.safetensors.
    """
    for name, network in networks.parts().items():
        kind = type(network)
        copy = kind(network.config)
        copy.load_state_dict(network.state_dict())
        copy.half().save_pretrained(folder / name)
        (folder / name / "model.safetensors").chmod(0o644)


@contextmanager
def _no_bars() -> Iterator[None]:
    """Keep transformers from showing a bar for weights that load in milliseconds."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def load_networks(folder: Path, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Networks:
    """Read the networks.

    Args:
        folder: what ``save_networks`` wrote.
        device: where they run.
        dtype: what they compute in.

    Returns:
        The networks, in evaluation mode.

    Raises:
        FileError: a network is missing or unreadable.
        InputError: a network was trained for another world (its labels differ).
    """
    wanted = {
        "segmenter": DENSE_LABELS,
        "attributes": head_labels(HEADS),
        "place": head_labels(WHOLE_HEADS),
    }
    loaded = {}
    for name in PARTS:
        kind = UperNetForSemanticSegmentation if name == "segmenter" else ResNetForImageClassification
        path = folder / name / "config.json"
        try:
            labels = json.loads(path.read_text(encoding="utf-8"))["id2label"]
            with _no_bars():
                network = kind.from_pretrained(folder / name, dtype=dtype)
        except (OSError, ValueError, KeyError) as error:
            raise FileError(f"{path.parent}: no network of the judge can be read here; install the weights.") from error
        found = tuple(labels[str(number)] for number in range(len(labels)))
        if name in wanted and found != wanted[name]:
            raise InputError(f"{path}: was trained for another world (its labels differ); train the judge again.")
        loaded[name] = network.to(device).eval().requires_grad_(False)
    return Networks(**loaded)


def run_segmenter(segmenter: UperNetForSemanticSegmentation, pixels: Tensor) -> Tensor:
    """Run the segmenter at its own resolution: its ``forward`` would only blow the same output up to the picture's.

    Args:
        segmenter: the network.
        pixels: ``[b 3 h w]`` -1..1, sides multiples of 32.

    Returns:
        ``[b 15 h/4 w/4]``, the channels of DENSE_LABELS.
    """
    return segmenter.decode_head(segmenter.backbone(pixels).feature_maps)


def split_heads(logits: Tensor, heads: dict[str, tuple[str, ...]]) -> dict[str, Tensor]:
    """Cut a classifier's logits ``[b n]`` into its heads."""
    parts = logits.split([len(labels) for labels in heads.values()], dim=-1)
    return dict(zip(heads, parts, strict=True))


def crop_instances(images: Tensor, masks: Tensor, boxes: Tensor, size: int = CROP, room: float = 1.2) -> Tensor:
    """Cut a square around each instance and scale it.

    Args:
        images: ``[n 3 h w]`` -1..1, one for each instance.
        masks: ``[n h w]`` 0..1.
        boxes: ``[n 4]`` x0, y0, x1, y1, pixels.
        size: side of the crops, pixels.
        room: side of the square against the box's longer side.

    Returns:
        ``[n 4 size size]``: the crop, grey beyond the picture, and its mask 0..1.
    """
    height, width = images.shape[-2:]
    half = (boxes[:, 2:] - boxes[:, :2]).amax(1).clamp(min=8.0) * room / 2
    centre = (boxes[:, 2:] + boxes[:, :2]) / 2
    span = images.new_tensor([width, height])
    theta = images.new_zeros(len(images), 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = 2 * half / width, 2 * half / height
    theta[:, :, 2] = 2 * centre / span - 1
    grid = functional.affine_grid(theta, [len(images), 4, size, size], align_corners=False)
    stack = torch.cat([images, masks[:, None]], 1)
    return functional.grid_sample(stack, grid, align_corners=False)


def hide_background(crops: Tensor) -> Tensor:
    """Turn what lies outside the mask grey; crops ``[n 4 s s]``."""
    mask = crops[:, 3:].clamp(0, 1)
    return torch.cat([crops[:, :3] * mask, mask], 1)
