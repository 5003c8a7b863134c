"""Custom Diffusion: keys and values of cross-attention and the identifier's vector learn, nothing else does.

Source: Kumari et al. 2023, "Multi-Concept Customization of Text-to-Image Diffusion", and the authors' program: to_k and
to_v of all cross-attention layers and a modifier token that begins as a rare word, AdamW at 1e-5 times a batch of 4,
250 steps for one concept, 500 for two, prior preservation of weight 1 with 200 pictures. Two ways to several concepts:

- joint: training from the base on the sets of pictures together, as many steps as all need alone;
- fusion: no training; the layers' weights that say of each concept's words what its own layers say, and change least
  on 200 ordinary captions, in closed form (``custom_diffusion_fusion``). The words are "identifier class word", alone
  and in "a photo of ...", each up to the end token, as in the authors' ``composenW.py``.

What was scaled: the rate of the layers is 4/30 of the base's own rate for adapters, as 4e-5 is of SDXL's 3e-4, or a
multiple of that; that of the vectors is 4e-5 for tables that deviate as CLIP's do, times the same; as many steps as the
base's adapters need. The rare word is a random vector as long as the class word's, since a base's words for concepts
may be next to nothing to its text encoders. The prior's weight is a setting, as for ``dreambooth``, which says why. The
200 pictures are 16 class images that the base draws, and pictures are mirrored but not shown smaller or larger ("far
away", "zoomed in"), words that not every base knows. The captions of the fusion are the world's, in plain words, and
C^T C gets a ridge of 1e-6 of its mean diagonal, since 200 captions need not fill all directions. Captions, sampler,
steps and guidance are those of all methods here (the authors: 200 steps of DDPM at 6). The published loss counts the
mask alone; here it counts all pixels, as for all methods (``shared.learning`` says why).
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, cast

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from numpy.typing import NDArray
from torch import Tensor, nn

from d2plan.backbone.load import Backbone
from d2plan.backbone.sdxl import encode_prompts
from d2plan.bench.methods.custom_diffusion_fusion import find_different, find_directions, fuse_constrained
from d2plan.bench.methods.dreambooth import add_difference
from d2plan.bench.methods.p_plus import find_layers
from d2plan.bench.protocol import BenchConcept, Drawing, Learned, Setting, Shot, State
from d2plan.bench.shared.drawing import draw_shots
from d2plan.bench.shared.learning import LearnOptions, Rated, borrow, count_prior_steps, learn_steps
from d2plan.bench.shared.settings import count_steps
from d2plan.bench.shared.words import (
    FIRST,
    SECOND,
    put_words,
    rate_vectors,
    read_vectors,
    start_rare,
    write_vectors,
)
from d2plan.errors import InputError
from d2plan.world.caption import write_caption
from d2plan.world.scene import sample_scene
from d2plan.world.seeds import stream_rng

PUBLISHED_RATE = 4e-5
# To the 3e-4 at which adapters learn on the same base.
RATE_TO_ADAPTERS = 4 / 30
STEPS_TO_ADAPTERS = 1.0
CLASS_IMAGES = 16
CAPTIONS = 200
RIDGE = 1e-6
_OPENING = "a photo of"
_WEIGHT = ".weight"


@dataclass(frozen=True)
class CustomDiffusion:
    """Custom Diffusion with one of its two ways to several concepts.

    Attributes:
        joint: train on all concepts together; else fuse what each has learnt alone.
        name: in commands and files.
        title: in tables.
        source: the paper.
        settings: "rate" is a multiple of the published rate, "steps" of the scaled number of steps; "prior" is the
            weight of prior preservation (0: no class images).
        learns_as: both ways learn a concept alone alike, and once.
        learns_from: what of a setting decides it.
    """

    joint: bool
    name: str
    title: str
    source: str = (
        "Kumari et al. 2023 (K/V of cross-attention + modifier token, prior preservation). Scaled: rate and steps to "
        "the base's adapters, 16 class images of the base, also a smaller weight of the prior or none; the loss counts "
        "all pixels, not the mask alone; the sampler, steps and guidance of all methods."
    )
    settings: tuple[Setting, ...] = (
        {"rate": 1.0, "prior": 1.0},
        {"rate": 8.0, "prior": 0.0},
        {"rate": 4.0, "prior": 0.0},
        {"rate": 8.0, "prior": 0.1},
    )
    learns_as: ClassVar[str] = "custom-diffusion"
    learns_from: ClassVar[Mapping[str, float]] = {"rate": 1.0, "steps": 1.0, "prior": 1.0}

    def learn(
        self, backbone: Backbone, concept: BenchConcept, setting: Setting, seed: int
    ) -> Generator[float, None, State]:
        """Train layers and vector on one concept."""
        state = yield from _train(backbone, [concept], setting, seed)
        return {name.removeprefix("0."): tensor for name, tensor in state.items()}

    def join(
        self, backbone: Backbone, learned: Sequence[Learned], setting: Setting, seed: int
    ) -> Generator[float, None, State]:
        """Train on all concepts together, or fuse their layers; one alone is learnt already."""
        if len(learned) == 1:
            yield from ()
            return {}
        if self.joint:
            return (yield from _train(backbone, [one.concept for one in learned], setting, seed))
        return (yield from fuse_layers(backbone, learned))

    def draw(
        self, backbone: Backbone, learned: Sequence[Learned], joined: State, shots: Sequence[Shot], drawing: Drawing
    ) -> list[NDArray[np.uint8]]:
        """Draw each joint prompt with the changed layers and the learnt words."""
        state = learned[0].state if len(learned) == 1 else joined
        weights = {name: tensor for name, tensor in state.items() if name.endswith(_WEIGHT)}
        if not weights:
            raise InputError(f"{self.name}: nothing was joined for these concepts; join them before drawing.")
        words = {}
        for place, one in enumerate(learned):
            taught = {name: joined[f"{place}.{name}"] for name in (FIRST, SECOND) if f"{place}.{name}" in joined}
            words[one.concept.identifier] = read_vectors(backbone, replace(one, state=taught or one.state))
        with add_difference(backbone, weights), put_words(backbone, words):
            return draw_shots(backbone, shots, drawing)


def find_readers(unet: UNet2DConditionModel) -> dict[str, nn.Linear]:
    """List the layers that read text: keys and values of cross-attention.

    Args:
        unet: the denoiser.

    Returns:
        By their names in the U-Net.
    """
    chosen = {layer for one in find_layers(unet) for layer in (one.to_k, one.to_v)}
    return {name: module for name, module in unet.named_modules() if module in chosen}


def fuse_layers(backbone: Backbone, learned: Sequence[Learned]) -> Generator[float, None, State]:
    """Fuse what concepts have learnt alone into one set of layers, in closed form.

    Source: Kumari et al. 2023, section 3.2, and the authors' ``composenW.py``.

    Args:
        backbone: the base.
        learned: the concepts.

    Returns:
        A generator that gives the share that is done, 0..1, after each layer, and at its end parameter name to its
        difference from the base's, float32.
    """
    return _fuse_layers(backbone, learned)


def _fuse_layers(backbone: Backbone, learned: Sequence[Learned]) -> Generator[float, None, State]:
    words = {one.concept.identifier: read_vectors(backbone, one) for one in learned}
    with torch.no_grad(), put_words(backbone, words):
        context = torch.cat([read_phrase(backbone, text) for text in write_captions()])
        phrases = [read_concept(backbone, one.concept) for one in learned]
    inputs = torch.cat(phrases)
    kept = find_different(inputs)
    directions = find_directions(context, inputs[kept], RIDGE)
    readers = find_readers(backbone.unet)
    fused = {}
    for number, (name, layer) in enumerate(readers.items(), 1):
        with torch.no_grad():
            base = layer.weight.float()
            told = [
                phrase.to(base) @ (base + one.state[name + _WEIGHT].to(base)).T
                for phrase, one in zip(phrases, learned, strict=True)
            ]
            new = fuse_constrained(base, directions, inputs[kept], torch.cat(told)[kept])
            fused[name + _WEIGHT] = (new - base).cpu()
        yield number / len(readers)
    return fused


def write_captions() -> list[str]:
    """Write ordinary captions that the fusion shall leave alone, each once."""
    rng = stream_rng("base", 0)
    return list(dict.fromkeys(write_caption(sample_scene(rng), rng).text for _ in range(CAPTIONS)))


def read_concept(backbone: Backbone, concept: BenchConcept) -> Tensor:
    """Give what the layers read of a concept's words, alone and in a photo.

    Args:
        backbone: the base, with the identifier's vectors on.
        concept: whose words.

    Returns:
        ``[s d]``.
    """
    named = f"{concept.identifier} {concept.class_word}"
    return torch.cat([read_phrase(backbone, named), read_phrase(backbone, f"{_OPENING} {named}")])


def read_phrase(backbone: Backbone, text: str) -> Tensor:
    """Give what the layers read of a text's tokens: without the start and "a photo of", with the end.

    Source: the authors' ``composenW.py``, ``get_text_embedding``.

    Args:
        backbone: the base.
        text: a caption.

    Returns:
        ``[s d]`` float32.
    """
    tokenizer = backbone.tokenizers[0]
    opening = tokenizer(_OPENING).input_ids[:-1]
    numbers = tokenizer(text, truncation=True).input_ids
    start = len(opening) if numbers[: len(opening)] == opening else 1
    return encode_prompts(backbone, [text]).states[0, start : len(numbers)].float()


def _train(
    backbone: Backbone, concepts: Sequence[BenchConcept], setting: Setting, seed: int
) -> Generator[float, None, dict[str, Tensor]]:
    defaults, rate, prior = backbone.defaults, setting.get("rate", 1.0), setting.get("prior", 1.0)
    # Class images come on top, as many as there are pictures.
    size = defaults.batch_size // 2 if prior > 0 else defaults.batch_size
    options = LearnOptions(
        steps=count_steps(STEPS_TO_ADAPTERS * defaults.train_steps, setting) * len(concepts),
        batch_size=max(2, size),
        prior_weight=prior,
        prior_images=CLASS_IMAGES,
        prior_steps=count_prior_steps(backbone, setting),
    )
    words = {one.identifier: start_rare(backbone, one, seed) for one in concepts}
    readers = {name + _WEIGHT: layer for name, layer in find_readers(backbone.unet).items()}
    before = {name: layer.weight.data for name, layer in readers.items()}
    with borrow([cast(nn.Parameter, layer.weight) for layer in readers.values()]) as learnt, put_words(backbone, words):
        rated = [Rated(learnt, defaults.unet_rate * RATE_TO_ADAPTERS * rate)]
        for vectors in words.values():
            rated += rate_vectors(backbone, vectors, PUBLISHED_RATE * rate)
        yield from learn_steps(backbone, concepts, rated, options, seed)
        state = {name: (layer.weight.data - before[name].float()).cpu() for name, layer in readers.items()}
    for place, one in enumerate(concepts):
        state |= {f"{place}.{name}": vector for name, vector in write_vectors(words[one.identifier]).items()}
    return state


JOINT = CustomDiffusion(True, "custom-diffusion-joint", "Custom Diffusion (joint)")
FUSION = CustomDiffusion(False, "custom-diffusion-fusion", "Custom Diffusion (fusion)")
