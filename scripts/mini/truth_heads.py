"""Heads that ask the model while it trains for what the world knows, and that are thrown away afterwards.

The text encoders are asked at each word of an instance what is said of it, and at the caption's end for its setting.
The U-Net is asked inside for each instance's class per pixel. Both learn meaning from far fewer images than from the
noise alone: the idea of REPA (Yu et al. 2025) with exact truth in the place of a teacher.
"""

from __future__ import annotations

import torch
from models import Size
from torch import Tensor, nn
from words import ANSWERS

from d2plan.world.cast import CLASSES


class TruthHeads(nn.Module):
    """One linear answer a question for each text encoder's states, and one class map for the U-Net's 16x16 features."""

    def __init__(self, size: Size) -> None:
        """Make all heads."""
        super().__init__()
        self.widths = list(size.text)
        self.text = nn.ModuleList(
            nn.ModuleList(nn.Linear(width, len(answers)) for answers in ANSWERS.values()) for width in size.text
        )
        self.classes = nn.Linear(size.blocks[1], len(CLASSES) + 1)

    def text_loss(self, states: Tensor, truth: Tensor, keep: Tensor) -> Tensor:
        """Give the mean cross-entropy of what is asked of ``states [b, n, d]``; truth ``[b, questions, n]``.

        A question that no token asks counts for nothing; nothing here waits for the device.
        """
        right = torch.where((keep > 0)[:, None, None], truth.long(), -1)
        counts = (right >= 0).sum((0, 2))
        total = states.new_zeros((), dtype=torch.float32)
        for heads, part in zip(self.text, states.split(self.widths, -1), strict=True):
            for question, head in enumerate(heads):
                answers = head(part).float().flatten(0, 1)
                wrong = nn.functional.cross_entropy(
                    answers, right[:, question].flatten(), ignore_index=-1, reduction="sum"
                )
                total = total + wrong / counts[question].clamp(min=1)
        return total / (len(self.text) * (counts > 0).sum().clamp(min=1))

    def map_loss(self, features: Tensor, masks: Tensor, classes: Tensor) -> Tensor:
        """Give the cross-entropy of the class per cell; features ``[b, d, h, w]``, masks ``[b, 4, h w]`` in 0..1."""
        answers = self.classes(features.flatten(2).transpose(1, 2)).float().log_softmax(-1)
        wanted = torch.zeros_like(answers)
        index = classes.clamp(min=0).long()[:, None, :].expand(-1, masks.shape[2], -1)
        wanted.scatter_add_(2, index, masks.transpose(1, 2) * (classes >= 0)[:, None, :])
        wanted[..., -1] = (1 - wanted.sum(-1)).clamp(min=0)
        return -(wanted * answers).sum(-1).mean()
