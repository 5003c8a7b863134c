"""LoRA Merge: the updates of all concepts summed into the weights, then plain sampling.

Source: "merge" of Multi-LoRA Composition for Image Generation (Zhong et al. 2024), compose_lora.py: ``set_adapters`` of
all LoRAs, each with weight 1 and the scale 0.8 on U-Net and text encoders, the row without a prompt too; the same sum
as in diffusers and in every program that loads several LoRAs. Two U-Net rows a step, whatever the number of concepts.

Scaled to the base: rank, rates and steps of the LoRAs are the base's own (the source takes LoRAs from the web); all
pictures shown with "identifier class word" (``joint``) are tried as for ISP; sampler, steps and
guidance are those of all methods (the source: DPM++ with 100 steps at 7, or 200 at 10).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from d2plan.backbone.load import Backbone
from d2plan.bench.protocol import Drawing, Setting, Shot
from d2plan.bench.shared.drawing import draw_shots
from d2plan.bench.shared.loras import Loads, LoraMethod, merge_loads


class LoraMerge(LoraMethod):
    """All LoRAs at once on all weights."""

    name = "lora-merge"
    title = "LoRA Merge"
    source = (
        "Zhong et al. 2024 (Multi-LoRA Composition), merge: updates summed, each times 0.8. Scaled: plain LoRAs of the "
        "base's own rank and steps; the sampler, steps and guidance of all methods."
    )
    settings: tuple[Setting, ...] = (
        {"strength": 0.8},
        {"strength": 1.0},
        {"strength": 1.0, "joint": 1.0},
        {"strength": 0.8, "joint": 1.0},
    )

    def draw_loads(
        self, backbone: Backbone, loads: Loads, setting: Setting, shots: Sequence[Shot], drawing: Drawing
    ) -> list[NDArray[np.uint8]]:
        """Draw joint prompts with the sum of all LoRAs."""
        return draw_shots(backbone, shots, drawing, load=merge_loads(loads))


METHOD = LoraMerge()
