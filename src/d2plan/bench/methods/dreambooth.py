"""DreamBooth: the whole U-Net learns the concept, and pictures of its class that the base drew hold the class in place.

Source: Ruiz et al. 2023, "DreamBooth: Fine Tuning Text-to-Image Diffusion Models for Subject-Driven Generation", in the
form of the diffusers program and of the Mix-of-Show authors' comparison: text encoders frozen, AdamW at a constant
rate of 5e-6, 800 steps of 2 pictures, prior preservation of weight 1 with 200 class images, prompts with "identifier
class word". Several concepts are learnt jointly, on their pictures together, from the base, as Custom Diffusion
(Kumari et al. 2023) does it for its comparison.

What was scaled: the rate is 1/60 of the base's own rate for adapters, as 5e-6 is of SDXL's 3e-4, times a setting (the
first makes up for the fewer steps); three quarters of the steps that the base's adapters need, times the number of
concepts for joint training, with half of each batch for class images; 8 of these for a concept instead of 200.
Captions and masks are used, as by all methods here. The state is the difference to the base in float16.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from d2plan.backbone.load import Backbone
from d2plan.bench.protocol import BenchConcept, Drawing, Learned, Setting, Shot, State
from d2plan.bench.shared.drawing import draw_shots
from d2plan.bench.shared.learning import LearnOptions, Rated, borrow, count_prior_steps, learn_steps
from d2plan.bench.shared.settings import count_steps
from d2plan.errors import InputError

# 5e-6 of the published recipe to the 3e-4 at which adapters learn on the same base.
RATE_TO_ADAPTERS = 1 / 60
STEPS, PRIOR_IMAGES = 0.75, 8


@dataclass(frozen=True)
class DreamBooth:
    """DreamBooth with prior preservation.

    Attributes:
        name: in commands and files.
        title: in tables.
        source: the paper.
        settings: "rate" is a multiple of the published rate.
        takes: "steps" is a multiple of the scaled number of steps; less than 1 draws class images in fewer steps, too.
    """

    name: str = "dreambooth"
    title: str = "DreamBooth"
    source: str = "Ruiz et al. 2023"
    settings: tuple[Setting, ...] = ({"rate": 4.0}, {"rate": 1.0}, {"rate": 10.0}, {"rate": 20.0})
    takes: ClassVar[tuple[str, ...]] = ("steps",)

    def learn(
        self, backbone: Backbone, concept: BenchConcept, setting: Setting, seed: int
    ) -> Generator[float, None, State]:
        """Train the U-Net on one concept."""
        return _train(backbone, [concept], setting, seed)

    def join(
        self, backbone: Backbone, learned: Sequence[Learned], setting: Setting, seed: int
    ) -> Generator[float, None, State]:
        """Train it on all concepts together; one alone is learnt already."""
        if len(learned) == 1:
            yield from ()
            return {}
        return (yield from _train(backbone, [one.concept for one in learned], setting, seed))

    def draw(
        self, backbone: Backbone, learned: Sequence[Learned], joined: State, shots: Sequence[Shot], drawing: Drawing
    ) -> list[NDArray[np.uint8]]:
        """Draw each joint prompt with the changed U-Net."""
        state = joined if len(learned) != 1 else learned[0].state
        with add_difference(backbone, state):
            return draw_shots(backbone, shots, drawing)


@contextmanager
def add_difference(backbone: Backbone, state: State) -> Iterator[None]:
    """Change the U-Net's weights while the block runs; afterwards it has its own back, bit for bit.

    Args:
        backbone: the base.
        state: parameter name to what is added.

    Yields:
        Nothing.

    Raises:
        InputError: a name or a shape is not the U-Net's.
    """
    parameters = dict(backbone.unet.named_parameters())
    for name, difference in state.items():
        if name not in parameters or parameters[name].shape != difference.shape:
            raise InputError(f"{name} in the learnt state is no parameter of this base; learn the concept on it again.")
    before = {name: parameters[name].data for name in state}
    try:
        for name, difference in state.items():
            own = before[name]
            parameters[name].data = (own.float() + difference.to(own.device).float()).to(own.dtype)
        yield
    finally:
        for name, own in before.items():
            parameters[name].data = own


def _train(
    backbone: Backbone, concepts: Sequence[BenchConcept], setting: Setting, seed: int
) -> Generator[float, None, dict[str, Tensor]]:
    defaults = backbone.defaults
    options = LearnOptions(
        steps=count_steps(STEPS * defaults.train_steps, setting) * len(concepts),
        # As many class images come on top; every concept has a picture in each step.
        batch_size=max(len(concepts), defaults.batch_size // 2),
        prior_weight=1.0,
        prior_images=PRIOR_IMAGES,
        prior_steps=count_prior_steps(backbone, setting),
    )
    rate = defaults.unet_rate * RATE_TO_ADAPTERS * setting.get("rate", 1.0)
    before = {name: parameter.data for name, parameter in backbone.unet.named_parameters()}
    with borrow(backbone.unet.parameters()) as learnt:
        yield from learn_steps(backbone, concepts, [Rated(learnt, rate)], options, seed)
        with torch.no_grad():
            return {
                name: (parameter.data - before[name].float()).half().cpu()
                for name, parameter in backbone.unet.named_parameters()
            }


METHOD = DreamBooth()
