"""A detector for any base: Grounding DINO finds what the class words name, SAM draws around it; both of transformers.

They stand in for the paper's Detectron2 and EfficientViT-SAM, which no package index carries.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import (
    AutoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoProcessor,
    PreTrainedModel,
    ProcessorMixin,
    SamModel,
    SamProcessor,
)
from transformers.utils import logging

from d2plan.backbone.load import find_folder
from d2plan.errors import FileError, InputError
from d2plan.isp.segment import Detection

DINO = "IDEA-Research/grounding-dino-tiny"
SAM = "facebook/sam-vit-base"

_SOURCE = "Grounding DINO and SAM"
_THRESHOLD = 0.25  # of a box's score, the default of transformers
_SAME_BOX = 0.7  # two boxes of one class that overlap more are one thing
_MOST = 32  # boxes that SAM is given


class GroundedSam:
    """Finds things by their words and draws around them."""

    def __init__(self, finder: str | Path = DINO, drawer: str | Path = SAM, device: str = "cpu") -> None:
        """Open both networks.

        Args:
            finder: Grounding DINO, a folder in transformers' format, or the hub id of one that was downloaded before.
            drawer: SAM, the same.
            device: where they run.

        Raises:
            FileError: one of them is not on this machine, or cannot be read.
            InputError: one of them is another kind of network.
        """
        self._device = device
        finder, drawer = _find_folders({"Grounding DINO": str(finder), "SAM": str(drawer)})
        with _quietly():
            self._finder, self._find_processor = _open(
                finder, "grounding-dino", GroundingDinoForObjectDetection, GroundingDinoProcessor
            )
            self._drawer, self._draw_processor = _open(drawer, "sam", SamModel, SamProcessor)
        self._finder.to(device)
        self._drawer.to(device)

    @torch.no_grad()
    def detect(self, image: NDArray[np.uint8], class_words: Sequence[str]) -> list[Detection]:
        """Find everything that one of the words names.

        Args:
            image: ``[h w 3]``, 0..255.
            class_words: what to look for.

        Returns:
            What was found, each with its outline, strongest first.

        Raises:
            InputError: the words are too many for Grounding DINO to read at once.
        """
        scores, boxes = self._find(image, class_words)
        best, which = scores.max(dim=1)
        kept: list[int] = []
        for place in best.argsort(descending=True, stable=True).tolist():
            if best[place] < _THRESHOLD or len(kept) == _MOST:
                break
            rivals = [other for other in kept if which[other] == which[place]]
            if all(measure_overlap(boxes[place], boxes[other]) <= _SAME_BOX for other in rivals):
                kept.append(place)
        if not kept:
            return []
        masks = self._draw(image, boxes[kept])
        words = list(class_words)
        return [
            Detection(words[int(which[place])], float(best[place]), mask, _SOURCE)
            for place, mask in zip(kept, masks, strict=True)
        ]

    def _find(self, image: NDArray[np.uint8], class_words: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Give each candidate's score for each word ``[n, words]`` and its box ``[n, 4]``, x0, y0, x1, y1, pixels."""
        text, spans = write_query(class_words)
        given = self._find_processor(images=image, text=text, return_tensors="pt").to(self._device)
        most = self._finder.config.max_text_len
        if given["input_ids"].shape[1] > most:
            raise InputError(f"The scene has too many class words for Grounding DINO, which reads {most} tokens.")
        result = self._finder(**given)
        tokens = self._find_processor.tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
        likely = result.logits[0].float().sigmoid().cpu()
        columns = []
        for start, end in spans:
            own = [place for place, (first, last) in enumerate(tokens) if start <= first < last <= end]
            columns.append(likely[:, own].mean(dim=1) if own else torch.zeros(len(likely)))
        middle, sides = result.pred_boxes[0].float().cpu().split(2, dim=1)
        corners = torch.cat([middle - sides / 2, middle + sides / 2], dim=1).clamp(0, 1)
        height, width = image.shape[:2]
        return torch.stack(columns, dim=1), corners * corners.new_tensor([width, height, width, height])

    def _draw(self, image: NDArray[np.uint8], boxes: Tensor) -> list[NDArray[np.float32]]:
        given = self._draw_processor(image, input_boxes=[boxes.tolist()], return_tensors="pt")
        result = self._drawer(
            pixel_values=given["pixel_values"].to(self._device),
            input_boxes=given["input_boxes"].to(self._device, torch.float32),
            multimask_output=False,
        )
        sizes = (given["original_sizes"], given["reshaped_input_sizes"])
        (masks,) = self._draw_processor.post_process_masks(result.pred_masks.cpu(), *sizes)
        return [mask[0].float().numpy() for mask in masks]


def write_query(class_words: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """Write class words as Grounding DINO reads them, and say where each one stands.

    >>> write_query(["man", "Teddy bear"])
    ('man. teddy bear.', [(0, 3), (5, 15)])

    Args:
        class_words: in the order to write them.

    Returns:
        The text, and for each word its first character and the one after its last.
    """
    text, spans = "", []
    for word in class_words:
        plain = " ".join(word.lower().replace(".", " ").split())
        text += " " if text else ""
        spans.append((len(text), len(text) + len(plain)))
        text += f"{plain}."
    return text, spans


def measure_overlap(one: Tensor, other: Tensor) -> float:
    """Measure two boxes' intersection over union.

    Args:
        one: x0, y0, x1, y1, ``[4]``.
        other: the same.

    Returns:
        0..1.
    """
    sides = (torch.minimum(one[2:], other[2:]) - torch.maximum(one[:2], other[:2])).clamp(min=0)
    shared = float(sides.prod())
    both = float((one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod()) - shared
    return shared / both if both > 0 else 0.0


def _find_folders(names: Mapping[str, str]) -> list[Path]:
    """Find both networks on this machine at once; nothing is downloaded, and whoever lacks them is told all of it."""
    found, absent = [], {}
    for what, name in names.items():
        try:
            found.append(find_folder(name, "detector"))
        except InputError:
            absent[what] = name
    if absent:
        verb = "is" if len(absent) == 1 else "are"
        listed = " and ".join(f"{what} ({name})" for what, name in absent.items())
        hub = [name for name in absent.values() if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and name[0] != "."]
        get = f"download with {' and '.join(f'`hf download {name}`' for name in hub)}, or " if hub else ""
        raise FileError(
            f"detector: {listed} {verb} not on this machine, and nothing is downloaded unasked; {get}name the folders "
            "that hold Grounding DINO and SAM, as in `detector: DINO_FOLDER,SAM_FOLDER`."
        )
    return found


def _open(
    folder: Path, model_type: str, network: type[PreTrainedModel], processor: type[ProcessorMixin]
) -> tuple[PreTrainedModel, ProcessorMixin]:
    try:
        found = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False).model_type
        if found != model_type:
            raise InputError(f"The detector {folder} is a {found}, but a {model_type} is needed here.")
        # Weights in safetensors alone: the other formats can run code when they are read.
        opened = network.from_pretrained(folder, use_safetensors=True, dtype=torch.float32, local_files_only=True)
        own = processor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        return opened.eval().requires_grad_(False), own
    except InputError:
        raise
    except (OSError, ValueError, KeyError) as error:
        raise FileError(
            f"The detector {folder} cannot be read; give a folder in transformers' format with a {model_type}, or "
            "download it anew."
        ) from error


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep transformers from showing bars, and from advising torchvision, which nothing here needs."""
    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()
