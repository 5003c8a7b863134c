"""LoRA Composite: every LoRA predicts the whole picture, and the guided predictions are averaged.

Source: Multi-LoRA Composition for Image Generation (Zhong et al. 2024), section 3.3 (LoRA-c), its weights 1/k, and its
program's pipeline_0.26.3.py: the mean over LoRAs of the predictions without the prompt and of those with it, then
guidance, which is the mean of the guided predictions; scale 0.8; the prompt is read once, with all LoRAs summed on the
text encoders (``own_text`` 0). 2 k U-Net rows a step for k LoRAs; the source makes k calls, here they are one.

Scaled to the base: LoRAs, their rates and prompts, sampler, steps and guidance are those of ``lora_merge``; reading the
prompt for each LoRA with that one alone on the encoders (``own_text`` 1) is tried too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from d2plan.backbone.load import Backbone
from d2plan.backbone.sdxl import guide
from d2plan.bench.protocol import Drawing, Setting, Shot
from d2plan.bench.shared.drawing import Moment, call_unet, draw_shots, group_places, on_unet, spread
from d2plan.bench.shared.loras import Loads, LoraMethod, merge_loads, read_prompts


class LoraComposite(LoraMethod):
    """All LoRAs at every step, each by itself."""

    name = "lora-composite"
    title = "LoRA Composite"
    source = (
        "Zhong et al. 2024 (Multi-LoRA Composition), LoRA Composite: the mean of the guided predictions of each LoRA, "
        "times 0.8. Scaled: plain LoRAs of the base's own rank and steps; reading the prompt for each LoRA by itself "
        "is tried too; the sampler, steps and guidance of all methods."
    )
    settings: tuple[Setting, ...] = (
        {"strength": 0.8, "own_text": 0},
        {"strength": 1.0, "own_text": 1},
        {"strength": 1.0, "own_text": 1, "rate": 2.0},
        {"strength": 1.0, "own_text": 1, "joint": 1.0},
    )

    def draw_loads(
        self, backbone: Backbone, loads: Loads, setting: Setting, shots: Sequence[Shot], drawing: Drawing
    ) -> list[NDArray[np.uint8]]:
        """Draw joint prompts by the mean of the LoRAs' predictions; their order does not matter."""
        prompts = [shot.joint_prompt for shot in shots]
        readers = loads if setting["own_text"] > 0 else (merge_loads(loads),) * len(loads)
        pairs = read_prompts(backbone, prompts, readers)
        rows = 2 * len(loads)
        most = len(group_places(len(shots), drawing.most_rows, rows)[0])
        # Rows of a LoRA lie side by side, so that its updates are one product for all of them.
        with on_unet(backbone, [load for load in loads for _ in range(2 * most)]) as choice:

            def predict(moment: Moment) -> Tensor:
                count = len(moment.places)
                kinds = [kind for null, text in pairs for kind in (spread(null, count), text[moment.places])]
                carried = [number * 2 * most + row for number in range(len(loads)) for row in range(2 * count)]
                found = torch.stack(call_unet(backbone, moment, kinds, choice, carried))
                return guide(found[0::2].mean(dim=0), found[1::2].mean(dim=0), moment.guidance_scale)

            return draw_shots(backbone, shots, drawing, predict=predict, rows=rows)


METHOD = LoraComposite()
