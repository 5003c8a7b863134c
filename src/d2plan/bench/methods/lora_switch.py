"""LoRA Switch: one LoRA at a time, in turn, a new one every few steps.

Source: Multi-LoRA Composition for Image Generation (Zhong et al. 2024), section 3.2 (LoRA-s) and its program's
compose_lora.py and callbacks.py: the LoRA of step t is number floor((t - 1) mod (k tau) / tau) of k, tau = 5, in the
order given; scale 0.8; the LoRA acts on the row without a prompt too; the prompt is read once, with the first LoRA on
the text encoders (``own_text`` 0). Two U-Net rows a step. The program's own count is one step late at its first turn;
here it is the paper's.

Scaled to the base: tau = 5 belongs to 100 steps and more, so that tau = 2 is tried beside it, and so is reading the
prompt for each turn with that turn's LoRA (``own_text`` 1), because a later concept's identifier means little to
encoders that carry another one's LoRA. LoRAs, their rates and prompts, sampler, steps and guidance are those of
``lora_merge``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from d2plan.backbone.load import Backbone
from d2plan.bench.protocol import Drawing, Setting, Shot
from d2plan.bench.shared.drawing import Moment, draw_shots, group_places, guide_plainly, on_unet
from d2plan.bench.shared.loras import Loads, LoraMethod, read_prompts


class LoraSwitch(LoraMethod):
    """One LoRA a step."""

    name = "lora-switch"
    title = "LoRA Switch"
    source = (
        "Zhong et al. 2024 (Multi-LoRA Composition), LoRA Switch: the LoRAs take turns every 5 steps, times 0.8. "
        "Scaled: plain LoRAs of the base's own rank and steps; turns of 2 steps, and reading the prompt anew for each "
        "turn, are tried too; the sampler, steps and guidance of all methods."
    )
    settings: tuple[Setting, ...] = (
        {"strength": 0.8, "turn": 5, "own_text": 0},
        {"strength": 1.0, "turn": 2, "own_text": 1},
        {"strength": 1.0, "turn": 2, "own_text": 1, "rate": 2.0},
        {"strength": 1.0, "turn": 2, "own_text": 1, "joint": 1.0},
    )

    def draw_loads(
        self, backbone: Backbone, loads: Loads, setting: Setting, shots: Sequence[Shot], drawing: Drawing
    ) -> list[NDArray[np.uint8]]:
        """Draw joint prompts, the LoRAs in turn; the first concept's begins."""
        prompts = [shot.joint_prompt for shot in shots]
        readers = loads if setting["own_text"] > 0 else loads[:1] * len(loads)
        most = 2 * len(group_places(len(shots), drawing.most_rows, 2)[0])
        with on_unet(backbone, [load for load in loads for _ in range(most)]) as choice:
            turns = [
                guide_plainly(backbone, text, null, choice, number * most)
                for number, (null, text) in enumerate(read_prompts(backbone, prompts, readers))
            ]

            def predict(moment: Moment) -> Tensor:
                return turns[find_turn(moment.index, max(1, round(setting["turn"])), len(turns))](moment)

            return draw_shots(backbone, shots, drawing, predict=predict)


def find_turn(index: int, length: int, count: int) -> int:
    """Say whose turn a step is.

    >>> [find_turn(index, 2, 3) for index in range(8)]
    [0, 0, 1, 1, 2, 2, 0, 0]

    Args:
        index: of the step, from 0.
        length: of a turn, steps.
        count: of the LoRAs.

    Returns:
        The LoRA's place.
    """
    return index // length % count


METHOD = LoraSwitch()
