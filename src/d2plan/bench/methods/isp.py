"""D2Plan's own way: adapters composed by noise and attention calibration; with DisLoRA, or with plain LoRA.

Source: the paper's sections 4.1 and 4.2, run by the product's own code (``dislora.train``, ``isp.loop``).

What was scaled: rank, rates, steps and batch are the base's own, as everywhere in d2plan. The settings
multiply the rates, or show all pictures with "identifier class word" and none with the identifier alone; they are the
same for both kinds of adapter, which differ by L_token and L_atten alone.
ISP is told no boxes; its masks are the base's own: columns in the order of mention, or the attention maps. Its rows
read prompts that are woven together where the base asks for it (``weave``). Columns and weaving are d2plan's own
additions, which the report says (``source``); "isp-paper" is without them, with the paper's warm-up too.
"""

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2plan.adapter.file import Adapter
from d2plan.backbone.load import Backbone
from d2plan.bench.protocol import BenchConcept, Drawing, Learned, Setting, Shot, State
from d2plan.bench.shared.adapters import (
    DISLORA_FROM,
    LORA_FROM,
    choose_training,
    learn_adapter,
    learn_lora,
    read_adapter,
)
from d2plan.bench.shared.joining import JoinsNothing
from d2plan.config import BaseDefaults
from d2plan.documents import Instance, Scene
from d2plan.isp.loop import compose_many
from d2plan.isp.prepare import PreparedScene, prepare_scene

# How the paper composes: what a base says of its own on it does not count.
PAPER: Mapping[str, Any] = {
    name: getattr(BaseDefaults, name)
    for name in ("warmup_fraction", "short_warmup_fraction", "mask_margin", "weave", "masks")
}
_ADDITIONS = (
    "where the base asks for it, as the embedded one does, with d2plan's own additions: woven prompts (weave), columns "
    "as masks, a shorter warm-up and wider masks"
)
SETTINGS: tuple[Setting, ...] = ({"rate": 1.0}, {"rate": 0.5}, {"rate": 2.0}, {"rate": 1.0, "joint": 1.0})


@dataclass(frozen=True)
class Isp(JoinsNothing):
    """ISP with one kind of adapter; it needs no joint training, which is its point.

    Attributes:
        name: in commands and files.
        title: in tables.
        source: the paper.
        losses: train with L_token and L_atten.
        changes: which of the base's defaults are others for composing.
        settings: what may be tuned.
        learns_as: where learnt states lie; methods that learn alike share them.
        learns_from: what of a setting decides them.
        learns_by: the module whose code learns them.
    """

    name: str
    title: str
    source: str
    losses: bool
    changes: Mapping[str, Any] = field(default_factory=dict, hash=False)
    settings: tuple[Setting, ...] = SETTINGS
    learns_as: str = "dislora"
    learns_from: Mapping[str, float | None] = field(default_factory=lambda: DISLORA_FROM, hash=False)
    learns_by: str = learn_lora.__module__

    def learn(
        self, backbone: Backbone, concept: BenchConcept, setting: Setting, seed: int
    ) -> Generator[float, None, State]:
        """Train the concept's adapter."""
        if self.losses:
            return learn_adapter(backbone, concept, choose_training(backbone, setting), seed)
        return learn_lora(backbone, concept, setting, seed)

    def draw(
        self, backbone: Backbone, learned: Sequence[Learned], joined: State, shots: Sequence[Shot], drawing: Drawing
    ) -> list[NDArray[np.uint8]]:
        """Compose all shots together, each from its global prompt and its sub-prompts."""
        backbone = replace(backbone, defaults=replace(backbone.defaults, **self.changes))
        adapters = [read_adapter(backbone, one) for one in learned]
        settings = replace(backbone.defaults.composing(), most_rows=drawing.most_rows)
        keeps = settings.weave == "all" and settings.compose
        often = Counter((shot.global_prompt, shot.seed) for shot in shots)
        # Pictures of a series share prompt and noise: what they say alike stays as the first of them has it.
        first: dict[tuple[str, int], PreparedScene] = {}
        scenes = []
        for shot in shots:
            key = (shot.global_prompt, shot.seed)
            if keeps and often[key] > 1:
                if key not in first:
                    first[key] = _prepare(backbone, shot, adapters, drawing)
                scenes.append(_prepare(backbone, shot, adapters, drawing, first[key]))
            else:
                scenes.append(_prepare(backbone, shot, adapters, drawing))
        return [composition.image for composition in compose_many(backbone, scenes, settings)]


def _prepare(
    backbone: Backbone,
    shot: Shot,
    adapters: Sequence[Adapter],
    drawing: Drawing,
    kept: PreparedScene | None = None,
) -> PreparedScene:
    instances = tuple(
        Instance(concept=str(adapter.path), class_word=adapter.class_word, sub_prompt=prompt)
        for adapter, prompt in zip(adapters, shot.sub_prompts, strict=True)
    )
    scene = Scene(
        global_prompt=shot.global_prompt,
        instances=instances,
        # An instance without an area is a picture like others here: it is scored, not left out.
        missing="mark",
        steps=drawing.steps,
        guidance_scale=drawing.guidance_scale,
        height=drawing.height,
        width=drawing.width,
        seed=shot.seed,
    )
    return prepare_scene(backbone, scene, adapters, kept=kept)


ISP_DISLORA = Isp("isp-dislora", "ISP + DisLoRA", f"D2Plan, sections 4.1 and 4.2; {_ADDITIONS}", losses=True)
ISP_PAPER = Isp(
    "isp-paper",
    "ISP + DisLoRA, as in the paper",
    "D2Plan, sections 4.1 and 4.2: prompts as written, masks from attention, composing from step 0.3 on",
    losses=True,
    changes=PAPER,
)
ISP_LORA = Isp(
    "isp-lora",
    "ISP + LoRA",
    f"D2Plan, section 4.2, with adapters of Hu et al. 2022; {_ADDITIONS}",
    losses=False,
    # As all methods that use plain LoRAs say it.
    learns_as="lora",
    learns_from=LORA_FROM,
)
