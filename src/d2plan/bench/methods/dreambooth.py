"""DreamBooth: the whole U-Net learns the concept, and pictures of its class that the base drew hold the class in place.

Source: Ruiz et al. 2023, "DreamBooth: Fine Tuning Text-to-Image Diffusion Models for Subject-Driven Generation", in the
form of the diffusers program and of the Mix-of-Show authors' comparison: AdamW at a constant rate of 5e-6, 800 steps of
2 pictures, prior preservation of weight 1 with 200 class images, prompts with "identifier class word". The program also
trains without a prior (400 steps), with text encoders that learn, too, which it recommends, and at rates that go down.
Several concepts are learnt jointly, on their pictures together, from the base, as Custom Diffusion (Kumari et al. 2023)
does it for its comparison.

What was scaled: the rate is 1/60 of the base's own rate for adapters, as 5e-6 is of SDXL's 3e-4, times a setting (which
makes up for the fewer steps); as many steps as the base's adapters need, times the number of concepts for joint
training, with half of each batch for class images, where there are any; 8 of these for a concept instead of 200.
The prior's weight is a setting, since at 1 nothing is learnt on the embedded base (docs/lab-notebook.md, 2026-11-29):
its identifiers are next to nothing to its text encoders, unlike the rare words of CLIP, so that the prior takes back
what the concept teaches; the text encoders learn in some settings for the same reason. Captions are used, as by all
methods here; the loss counts all pixels. The state is the difference to the base in float16.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from d2plan.adapter.names import COMPONENTS
from d2plan.backbone.load import Backbone
from d2plan.bench.protocol import BenchConcept, Drawing, Learned, Setting, Shot, State
from d2plan.bench.shared.drawing import draw_shots
from d2plan.bench.shared.learning import LearnOptions, Rated, borrow, count_prior_steps, learn_steps
from d2plan.bench.shared.settings import count_steps
from d2plan.errors import InputError

# 5e-6 of the published recipe to the 3e-4 at which adapters learn on the same base.
RATE_TO_ADAPTERS = 1 / 60
STEPS, PRIOR_IMAGES = 1.0, 8


@dataclass(frozen=True)
class DreamBooth:
    """DreamBooth with prior preservation or without, with frozen text encoders or not.

    Attributes:
        name: in commands and files.
        title: in tables.
        source: the paper.
        settings: "rate" is a multiple of the published rate, "text" that of the text encoders as a part of the U-Net's
            (0: frozen), "prior" the weight of prior preservation (0: no class images); with "decay" rates go down to 0.
        takes: "steps" is a multiple of the scaled number of steps; less than 1 draws class images in fewer steps, too.
    """

    name: str = "dreambooth"
    title: str = "DreamBooth"
    source: str = (
        "Ruiz et al. 2023, as in diffusers (also without a prior, with text encoders that learn, with falling rates). "
        "Scaled: rate and steps to the base's adapters, 8 class images of the base; the sampler, steps and guidance of "
        "all methods."
    )
    settings: tuple[Setting, ...] = (
        {"rate": 1.0, "prior": 1.0, "text": 1.0, "decay": 0},
        {"rate": 20.0, "prior": 0.0, "text": 0.5, "decay": 1},
        {"rate": 10.0, "prior": 0.0, "text": 1.0, "decay": 0},
        {"rate": 20.0, "prior": 0.1, "text": 0.5, "decay": 1},
    )
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
        """Draw each joint prompt with the changed weights."""
        state = joined if len(learned) != 1 else learned[0].state
        with add_difference(backbone, state):
            return draw_shots(backbone, shots, drawing)


@contextmanager
def add_difference(backbone: Backbone, state: State) -> Iterator[None]:
    """Change the base's weights while the block runs; afterwards it has its own back, bit for bit.

    Args:
        backbone: the base.
        state: what is added, by the names of ``list_parameters``.

    Yields:
        Nothing.

    Raises:
        InputError: a name or a shape is not the base's.
    """
    parameters = list_parameters(backbone)
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


def list_parameters(backbone: Backbone) -> dict[str, nn.Parameter]:
    """Name the weights of the denoiser and of the text encoders.

    Args:
        backbone: the base.

    Returns:
        The U-Net's by their own names, the encoders' behind "text_encoder." and "text_encoder_2.".
    """
    named = dict(backbone.unet.named_parameters())
    for component, encoder in zip(COMPONENTS[1:], backbone.text_encoders, strict=True):
        named |= {f"{component}.{name}": parameter for name, parameter in encoder.named_parameters()}
    return named


def _train(
    backbone: Backbone, concepts: Sequence[BenchConcept], setting: Setting, seed: int
) -> Generator[float, None, dict[str, Tensor]]:
    defaults, prior = backbone.defaults, setting.get("prior", 1.0)
    size = defaults.batch_size // 2 if prior > 0 else defaults.batch_size
    options = LearnOptions(
        steps=count_steps(STEPS * defaults.train_steps, setting) * len(concepts),
        # As many class images come on top; every concept has a picture in each step.
        batch_size=max(len(concepts), size),
        prior_weight=prior,
        prior_images=PRIOR_IMAGES,
        prior_steps=count_prior_steps(backbone, setting),
        linear_decay=setting.get("decay", 0.0) > 0,
    )
    rate = defaults.unet_rate * RATE_TO_ADAPTERS * setting.get("rate", 1.0)
    text_rate = rate * setting.get("text", 0.0)
    count = len(list(backbone.unet.parameters()))
    learns = dict(list(list_parameters(backbone).items())[: None if text_rate > 0 else count])
    before = {name: parameter.data for name, parameter in learns.items()}
    with borrow(learns.values()) as learnt:
        rated = [Rated(learnt[:count], rate), Rated(learnt[count:], text_rate)]
        yield from learn_steps(backbone, concepts, rated, options, seed)
        with torch.no_grad():
            return {name: (parameter.data - before[name].float()).half().cpu() for name, parameter in learns.items()}


METHOD = DreamBooth()
