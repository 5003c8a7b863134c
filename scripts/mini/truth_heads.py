"""Heads that ask the model while it trains for what the world knows, and that are thrown away afterwards.

The text encoders are asked at each word of an instance what is said of it, and at the caption's end for its setting.
The U-Net is asked inside for each instance's class per pixel. Both learn meaning from far fewer images than from the
noise alone: the idea of REPA (Yu et al. 2025) with exact truth in the place of a teacher.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from common import MAP
from models import WIDTHS, make_unet
from torch import Tensor, nn

from d2plan.world.cast import ACCESSORIES, ACTIONS, CLASSES, COLOURS
from d2plan.world.scenery import LIGHTS, PLACES

_ANSWERS = {
    "class_word": tuple(CLASSES),
    "accessory": tuple(ACCESSORIES),
    "accessory_colour": tuple(COLOURS),
    "action": tuple(sorted({action for actions in ACTIONS.values() for action in actions})),
    "place": tuple(PLACES),
    "light": tuple(LIGHTS),
}
_OF_SCENE = ("place", "light")


def token_truth(line: dict[str, Any], offsets: list[tuple[int, int]], owner: Tensor) -> np.ndarray:
    """Give the right answer of each question at each token, ``[questions, n]``, -1 where nothing is asked."""
    asked = np.full((len(_ANSWERS), len(offsets)), -1, np.int8)
    scene = line["scene"]
    end = max(place for place, (start, stop) in enumerate(offsets) if stop > start) + 1
    for question, (name, answers) in enumerate(_ANSWERS.items()):
        if name in _OF_SCENE:
            asked[question, min(end, len(offsets) - 1)] = answers.index(scene[name])
            continue
        for number, figure in enumerate(scene["figures"]):
            said = name == "class_word" or name in line["said"][number]
            if not said:
                continue
            told = figure["identity"]["class_word"] if name == "class_word" else figure[name]
            start = line["class_words"][number][0]
            mine = [p for p, (low, _) in enumerate(offsets) if owner[p] == number and low >= start]
            asked[question, mine] = answers.index(told)
    return asked


def figure_classes(line: dict[str, Any]) -> list[int]:
    """Give the class of each of the four possible figures, -1 where there is none."""
    found = [_ANSWERS["class_word"].index(figure["identity"]["class_word"]) for figure in line["scene"]["figures"]]
    return (found + [-1] * 4)[:4]


class TruthHeads(nn.Module):
    """One linear answer a question for each text encoder's states, and one class map for the U-Net's 16x16 features."""

    def __init__(self, unet_width: int | None = None) -> None:
        """Make all heads."""
        super().__init__()
        self.text = nn.ModuleList(
            nn.ModuleList(nn.Linear(width, len(answers)) for answers in _ANSWERS.values()) for width in WIDTHS
        )
        width = unet_width or make_unet().config.block_out_channels[1]
        self.classes = nn.Linear(width, len(CLASSES) + 1)

    def text_loss(self, states: Tensor, truth: Tensor, keep: Tensor) -> Tensor:
        """Give the mean cross-entropy of what is asked of ``states [b, n, d]``; truth ``[b, questions, n]``."""
        losses = []
        parts = states.split(list(WIDTHS), -1)
        for question in range(truth.shape[1]):
            asked = (truth[:, question] >= 0) & (keep > 0)[:, None]
            if asked.any():
                right = truth[:, question][asked].long()
                losses += [
                    nn.functional.cross_entropy(heads[question](part[asked]).float(), right)
                    for heads, part in zip(self.text, parts, strict=True)
                ]
        return torch.stack(losses).mean() if losses else states.sum() * 0

    def map_loss(self, features: Tensor, masks: Tensor, classes: Tensor) -> Tensor:
        """Give the cross-entropy of the class per pixel; features ``[b, d, 16, 16]``, masks ``[b, 4, 256]`` in 0..1."""
        answers = self.classes(features.flatten(2).transpose(1, 2)).float().log_softmax(-1)
        wanted = torch.zeros_like(answers)
        index = classes.clamp(min=0).long()[:, None, :].expand(-1, MAP * MAP, -1)
        wanted.scatter_add_(2, index, masks.transpose(1, 2) * (classes >= 0)[:, None, :])
        wanted[..., -1] = (1 - wanted.sum(-1)).clamp(min=0)
        return -(wanted * answers).sum(-1).mean()
