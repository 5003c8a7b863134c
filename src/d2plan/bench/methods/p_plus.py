"""P+ (extended Textual Inversion): the identifier has vectors of its own for every cross-attention layer of the U-Net.

Source: Voynov et al. 2023, "P+: Extended Textual Conditioning in Text-to-Image Generation" (XTI): begun with the class
word's vector, AdamW, 5e-3, 500 steps of 8 pictures (the Mix-of-Show authors' comparison takes 1e-3), one vector for
each of the 16 layers of Stable Diffusion 1. Concepts stand side by side in one prompt.

What was scaled: SDXL has two token tables, so each layer has a pair of vectors, and one more pair is for the pooled
vector, which the paper's base does not have. The rates are multiples of the tables' own deviation, as in
``textual_inversion``; steps and batch are the base's own. Prompts say "identifier class word", and captions are used,
as by all methods here; the loss counts all pixels.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from numpy.typing import NDArray
from torch import Tensor, nn

from d2plan.backbone.load import Backbone
from d2plan.backbone.sdxl import TextStates, encode_prompts, null_states
from d2plan.bench.protocol import BenchConcept, Drawing, Learned, Setting, Shot, State
from d2plan.bench.shared.drawing import draw_shots, guide_plainly
from d2plan.bench.shared.joining import JoinsNothing
from d2plan.bench.shared.learning import LearnOptions, learn_steps
from d2plan.bench.shared.settings import count_steps
from d2plan.bench.shared.words import (
    WordVectors,
    put_words,
    rate_vectors,
    read_vectors,
    start_vectors,
    write_vectors,
)
from d2plan.errors import InputError


@dataclass(frozen=True)
class PPlus(JoinsNothing):
    """Extended Textual Inversion on both text encoders.

    Attributes:
        name: in commands and files.
        title: in tables.
        source: the paper.
        settings: "rate" as published, for CLIP's tables; "steps" is a multiple of the base's.
    """

    name: str = "p-plus"
    title: str = "P+"
    source: str = "Voynov et al. 2023"
    settings: tuple[Setting, ...] = ({"rate": 5e-3}, {"rate": 1e-3}, {"rate": 2e-2}, {"rate": 5e-3, "steps": 2.0})

    def learn(
        self, backbone: Backbone, concept: BenchConcept, setting: Setting, seed: int
    ) -> Generator[float, None, State]:
        """Train the identifier's vectors for all layers."""
        count = len(find_layers(backbone.unet)) + 1
        start = start_vectors(backbone, concept.class_word)
        vectors = WordVectors(*(vector.detach().repeat(count, 1).requires_grad_(True) for vector in start))
        options = LearnOptions(
            steps=count_steps(backbone.defaults.train_steps, setting), batch_size=backbone.defaults.batch_size
        )

        def encode(prompts: Sequence[str]) -> TextStates:
            return encode_layers(backbone, prompts, {concept.identifier: vectors})

        with feed_layers(backbone.unet):
            rated = rate_vectors(backbone, vectors, setting["rate"])
            yield from learn_steps(backbone, [concept], rated, options, seed, encode)
        return write_vectors(vectors)

    def draw(
        self, backbone: Backbone, learned: Sequence[Learned], joined: State, shots: Sequence[Shot], drawing: Drawing
    ) -> list[NDArray[np.uint8]]:
        """Draw each joint prompt, every layer reading the learnt words in its own way."""
        words = {one.concept.identifier: read_vectors(backbone, one) for one in learned}
        with torch.no_grad():
            text = encode_layers(backbone, [shot.joint_prompt for shot in shots], words)
        null = null_states(backbone, 1)
        nothing = TextStates(null.states.repeat(1, 1, len(find_layers(backbone.unet))), null.pooled)
        with feed_layers(backbone.unet):
            return draw_shots(backbone, shots, drawing, predict=guide_plainly(backbone, text, nothing))


def find_layers(unet: UNet2DConditionModel) -> list[Attention]:
    """List the cross-attention layers.

    Args:
        unet: the denoiser.

    Returns:
        In the order of its modules.
    """
    return [module for module in unet.modules() if isinstance(module, Attention) and module.is_cross_attention]


def encode_layers(backbone: Backbone, prompts: Sequence[str], words: dict[str, WordVectors]) -> TextStates:
    """Read prompts once for each cross-attention layer, with that layer's vectors for some words.

    Source: Voynov et al. 2023, section 3.1 (the space P+).

    Args:
        backbone: the base.
        prompts: b texts.
        words: identifier to vectors, ``[layers + 1, d]`` for each table; the last pair is for the pooled vector.

    Returns:
        The layers' states side by side, ``[b, n, layers * d]``, for ``feed_layers``; gradient flows to the vectors.

    Raises:
        InputError: a word has vectors for another number of layers.
    """
    count = len(find_layers(backbone.unet))
    rows = {}
    for word, vectors in words.items():
        if any(len(vector) != count + 1 for vector in vectors):
            raise InputError(
                f"{word} has vectors for {len(vectors.first) - 1} layers, but this base has {count}; "
                "learn the concept on it again."
            )
        rows[word] = WordVectors(*(vector.repeat_interleave(len(prompts), dim=0) for vector in vectors))
    with put_words(backbone, rows):
        text = encode_prompts(backbone, list(prompts) * (count + 1))
    states = text.states.unflatten(0, (count + 1, len(prompts)))
    pooled = text.pooled.unflatten(0, (count + 1, len(prompts)))
    return TextStates(torch.cat(list(states[:count]), dim=-1), pooled[count])


@contextmanager
def feed_layers(unet: UNet2DConditionModel) -> Iterator[None]:
    """Let every cross-attention layer read its own part of the text states while the block runs.

    Args:
        unet: the denoiser; calls pass states of all layers side by side, ``[b, n, layers * d]``.

    Yields:
        Nothing; afterwards the U-Net is as before.
    """
    layers = find_layers(unet)
    with ExitStack() as stack:
        for place, layer in enumerate(layers):
            handle = layer.register_forward_pre_hook(_Part(place, len(layers)), with_kwargs=True)
            stack.callback(handle.remove)
        yield


class _Part:
    """Cuts a layer's part out of what all layers are to read."""

    def __init__(self, place: int, count: int) -> None:
        self._place = place
        self._count = count

    def __call__(
        self, layer: nn.Module, given: tuple[Tensor, ...], named: dict[str, Tensor]
    ) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        whole = named["encoder_hidden_states"]
        return given, {**named, "encoder_hidden_states": whole.chunk(self._count, dim=-1)[self._place]}


METHOD = PPlus()
