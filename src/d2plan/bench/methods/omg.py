"""OMG: a first picture of the bare base gives the layout; a second one blends each concept's own prediction into it.

Source: OMG: Occlusion-friendly Personalized Multi-concept Generation in Diffusion Models (Kong et al. 2024) and its
program, inference_lora.py, src/pipelines/lora_pipeline.py, src/prompt_attention/p2p_attention.py:

- stage 1: the global prompt by the bare base, written twice (a layout row and an edit row, the same then); a detector
  and a segmenter find the instances in the picture.
- stage 2: the same seed and prompt, again both rows; the edit row takes the layout row's cross-attention maps at all
  steps, and its self-attention maps, where they are of a quarter of the latent's width or less, in the first 0.4 of
  the steps, both in the half with the prompt alone (Prompt-to-Prompt).
- stage 2, steps i > 15 of 50: each concept's LoRA, scale 0.8, on U-Net and text encoders, predicts from the edit row's
  latents with its own prompt and without one; both replace the base's predictions inside its mask; then guidance.

U-Net rows a step: 4 in stage 1, and 4, later 4 + 2 m, in stage 2. The source makes m + 1 calls, here they are one.

Scaled to the base, and other than in the source: i > 0.3 of the steps; the detector is the one that knows what the base
draws (the judge's segmenter for the embedded base, so that the judge's numbers are not independent of these masks), and
what it misses, or all on other bases, comes from the attention of the class words as in ISP (the source: YOLO-World or
Grounding DINO with SAM for one "man" and one "woman"); so several of one class are possible here, from left to right.
Where masks overlap each cell has one owner, while the program adds overlapping predictions up. No negative prompts and
no ControlNet, as for all methods. LoRAs are those of ``lora_merge``. Tried as well: prompts that are woven together as
those of ISP are on the embedded base (``woven`` 1: the global prompt says what each instance wears and does, and each
sub-prompt the whole scene), which is d2plan's own addition, with a blend that begins as early as ISP's can there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from d2plan.backbone.attention import level_size
from d2plan.backbone.load import Backbone
from d2plan.backbone.sampling import latent_size
from d2plan.backbone.sdxl import TextStates, decode_latents, guide, join_states, predict
from d2plan.bench.methods.omg_layout import find_layout, follow_layout, pair_up
from d2plan.bench.protocol import Drawing, Setting, Shot
from d2plan.bench.shared.drawing import Moment, denoise_shots, encode_loaded, encode_null, group_places, on_unet, spread
from d2plan.bench.shared.figures import find_detector
from d2plan.bench.shared.loras import Loads, LoraMethod
from d2plan.isp.tokens import Naming
from d2plan.isp.weave import weave_prompts

_SELF_SHARE = 0.4
_SELF_LEVEL = 2  # 32x32 of SDXL's 128x128 latents


class Reading(NamedTuple):
    """What the rows of a group read.

    Attributes:
        null: the bare base's row without a prompt.
        text: global prompts, a row a shot.
        sub_nulls: each concept's row without a prompt.
        sub_texts: each concept's sub-prompts, a row a shot.
    """

    null: TextStates
    text: TextStates
    sub_nulls: tuple[TextStates, ...]
    sub_texts: tuple[TextStates, ...]


class Omg(LoraMethod):
    """Two stages: layout, then a blend."""

    name = "omg"
    title = "OMG"
    source = (
        "Kong et al. 2024 (OMG): the bare base draws the layout, then each LoRA's own guided prediction is blended in "
        "by masks from step 0.3 on. Scaled: plain LoRAs of the base's own rank and steps; masks by the judge's "
        "segmenter on the embedded base (the judge's numbers are not independent of them), elsewhere by attention; "
        "several of one class are told apart from left to right; overlaps have one owner; prompts woven as ISP's are "
        "on the embedded base are tried too."
    )
    settings: tuple[Setting, ...] = (
        {"strength": 0.8, "start": 0.3},
        {"strength": 1.0, "start": 0.3, "joint": 1.0},
        {"strength": 1.0, "start": 0.15, "woven": 1, "joint": 1.0},
        {"strength": 1.0, "start": 0.05, "woven": 1, "joint": 1.0},
    )

    def draw_loads(
        self, backbone: Backbone, loads: Loads, setting: Setting, shots: Sequence[Shot], drawing: Drawing
    ) -> list[NDArray[np.uint8]]:
        """Draw global prompts, each concept's sub-prompt blended in; boxes are not used."""
        words = [load[0].adapter.class_word for load in loads]
        if setting.get("woven", 0) > 0:
            shots = [weave_shot(shot, loads) for shot in shots]
        detector = find_detector(backbone)
        images: list[NDArray[np.uint8]] = []
        for group in group_places(len(shots), drawing.most_rows, 4 + 2 * len(loads)):
            own = [shots[place] for place in group]
            reading = read_group(backbone, own, loads)
            masks = find_layout(backbone, own, drawing, reading.text, words, detector)
            latents = blend_shots(backbone, own, drawing, reading, loads, masks, setting["start"])
            images += list(decode_latents(backbone, latents))
        return images


def weave_shot(shot: Shot, loads: Loads) -> Shot:
    """Write a shot's prompts into each other, as ISP does it where a base asks for ``weave: all``.

    Args:
        shot: as all methods are given it.
        loads: of its concepts, which tell their words.

    Returns:
        The shot with other prompts.
    """
    adapters = [load[0].adapter for load in loads]
    namings = [
        Naming(adapter.class_word, adapter.identifier, prompt)
        for adapter, prompt in zip(adapters, shot.sub_prompts, strict=True)
    ]
    woven = weave_prompts(shot.global_prompt, namings)
    return replace(shot, global_prompt=woven.global_prompt, sub_prompts=woven.sub_prompts)


def read_group(backbone: Backbone, shots: Sequence[Shot], loads: Loads) -> Reading:
    """Read all prompts of a group, each sub-prompt with its concept's LoRA on the encoders.

    Args:
        backbone: the base.
        shots: of the group.
        loads: of the concepts.

    Returns:
        What the rows read.
    """
    return Reading(
        encode_null(backbone),
        encode_loaded(backbone, [shot.global_prompt for shot in shots], [None] * len(shots)),
        tuple(encode_null(backbone, load) for load in loads),
        tuple(
            encode_loaded(backbone, [shot.sub_prompts[number] for shot in shots], [load] * len(shots))
            for number, load in enumerate(loads)
        ),
    )


def blend_shots(
    backbone: Backbone,
    shots: Sequence[Shot],
    drawing: Drawing,
    reading: Reading,
    loads: Loads,
    masks: Tensor,
    start: float,
) -> Tensor:
    """Do stage 2.

    Args:
        backbone: the base.
        shots: of one group.
        drawing: how to draw.
        reading: of the group.
        loads: of the concepts.
        masks: of the background and each concept, sum 1, ``[shots, m + 1, h, w]``.
        start: the steps later than this part of them blend.

    Returns:
        x_0 of the edit rows, ``[shots, c, h, w]``.
    """
    count = len(shots)
    pairs, paired = pair_up(shots, drawing)
    height, width = level_size(latent_size(backbone, (drawing.height, drawing.width)), _SELF_LEVEL)
    plain = [spread(reading.null, 2 * count), reading.text, reading.text]
    subs = [
        part
        for null, text in zip(reading.sub_nulls, reading.sub_texts, strict=True)
        for part in (spread(null, count), text)
    ]
    rows = [*[None] * 4 * count, *(load for load in loads for _ in range(2 * count))]
    with on_unet(backbone, rows) as choice, follow_layout(backbone.unet, count, height * width) as following:

        def predict_both(moment: Moment) -> Tensor:
            blends = moment.index > start * moment.total
            following.self_maps = moment.index < int(_SELF_SHARE * moment.total)
            text = join_states([*plain, *subs] if blends else plain)
            states = [*[moment.latents] * 2, *([moment.latents[count:]] * len(subs) if blends else ())]
            if choice is not None:
                choice.choose(range(len(text)))
            ids = moment.ids[:1].expand(len(text), -1)
            found = predict(backbone, torch.cat(states), moment.timestep, text, ids)
            base = found[: 4 * count].unflatten(0, (2, 2 * count))
            if blends:
                base = blend_edits(base, found[4 * count :].unflatten(0, (len(loads), 2, count)), masks)
            return guide(base[0], base[1], moment.guidance_scale)

        return denoise_shots(backbone, pairs, paired, predict=predict_both, rows=1)[count:]


def blend_edits(base: Tensor, subs: Tensor, masks: Tensor) -> Tensor:
    """Put the concepts' predictions in place of the base's, each inside its mask, in the edit rows alone.

    Args:
        base: without and with the prompt, layouts before edits, ``[2, 2 * shots, c, h, w]``.
        subs: of each concept, without and with its prompt, ``[m, 2, shots, c, h, w]``.
        masks: of the background and each concept, sum 1, ``[shots, m + 1, h, w]``.

    Returns:
        ``[2, 2 * shots, c, h, w]``.
    """
    layout, edit = base.chunk(2, dim=1)
    weights = masks.unsqueeze(2).to(base)
    blended = edit * weights[:, 0]
    for number, own in enumerate(subs, 1):
        blended = blended + own * weights[:, number]
    return torch.cat([layout, blended], dim=1)


METHOD = Omg()
