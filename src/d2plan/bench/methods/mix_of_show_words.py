"""ED-LoRA's words: "identifier class word" has vectors of its own for every cross-attention layer, in both tables."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from d2plan.backbone.load import Backbone
from d2plan.backbone.sdxl import TextStates, encode_prompts, tokenize
from d2plan.bench.methods.p_plus import find_layers
from d2plan.bench.protocol import BenchConcept, State
from d2plan.bench.shared.words import FIRST, SECOND, find_numbers, seed_word
from d2plan.errors import InputError

# <rand-0.013> of the published recipe, and the norm at which the vectors stop learning, 0.55, as parts of what words
# have in the first of CLIP's tables: numbers that deviate by about 0.014, so a norm of about 0.014 sqrt(768).
_RANDOM_NORM = 0.013 / 0.014
_STOP_NORM = 0.55 / (0.014 * 768**0.5)


class LayerWords(NamedTuple):
    """A concept's words for each of the L cross-attention layers.

    Attributes:
        phrase: "identifier class word".
        first: vectors of its k tokens for the first encoder, ``[L, k, d_1]``.
        second: for the second, ``[L, k, d_2]``.
    """

    phrase: str
    first: Tensor
    second: Tensor


def start_words(backbone: Backbone, concept: BenchConcept, seed: int) -> LayerWords:
    """Make the vectors that training begins with: a random word for the identifier, the class word as it is.

    Source: Gu et al. 2023 (Mix-of-Show), V_rand and V_class; the same for all layers.

    Args:
        backbone: the base.
        concept: what to learn; a class word of several tokens gets as many vectors.
        seed: of the random word, with the identifier.

    Returns:
        Leaves in float32, on the base's device, that ask for gradients.

    Raises:
        InputError: the identifier is not one token.
    """
    find_numbers(backbone, concept.identifier)
    generator = seed_word(concept.identifier, seed)
    count = len(find_layers(backbone.unet))
    vectors = []
    for own in _class_vectors(backbone, concept.class_word):
        random = torch.randn(own.shape[1], generator=generator).to(own)
        random *= _RANDOM_NORM * own.norm(dim=1).mean() / own.shape[1] ** 0.5
        whole = torch.cat([random[None], own])
        vectors.append(whole.repeat(count, 1, 1).requires_grad_(True))
    return LayerWords(f"{concept.identifier} {concept.class_word}", vectors[0], vectors[1])


def read_words(backbone: Backbone, concept: BenchConcept, state: State) -> LayerWords:
    """Take a concept's vectors out of a learnt state.

    Args:
        backbone: the base that they were learnt on.
        concept: whose.
        state: what was learnt.

    Returns:
        The vectors on the base's device.

    Raises:
        InputError: the state has none, or for other layers.
    """
    layers = len(find_layers(backbone.unet))
    vectors = []
    for name, own in zip((FIRST, SECOND), _class_vectors(backbone, concept.class_word), strict=True):
        shape = (layers, 1 + len(own), own.shape[1])
        if name not in state or tuple(state[name].shape) != shape:
            raise InputError(f"{concept.name}: its state holds no vectors for this base; learn the concept again.")
        vectors.append(state[name].to(own))
    return LayerWords(f"{concept.identifier} {concept.class_word}", vectors[0], vectors[1])


def has_grown(backbone: Backbone, words: LayerWords, class_word: str) -> bool:
    """Say whether the vectors have become so long that they stop learning, so that prompts can still change them.

    Source: the Mix-of-Show authors' program, ``emb_norm_threshold`` 0.55, here by the norm of the class word.

    Args:
        backbone: the base.
        words: as they are now.
        class_word: whose norm measures.

    Returns:
        Whether their mean norm is 1.42 times that of the class word, mean over both tables.
    """
    with torch.no_grad():
        pairs = zip((words.first, words.second), _class_vectors(backbone, class_word), strict=True)
        grown = [float(vector.norm(dim=-1).mean() / own.norm(dim=-1).mean()) for vector, own in pairs]
    return sum(grown) / len(grown) >= _STOP_NORM


def encode_words(backbone: Backbone, prompts: Sequence[str], words: Sequence[LayerWords]) -> TextStates:
    """Read prompts once for each cross-attention layer, with that layer's vectors where a concept's phrase stands.

    A class word without its identifier keeps its own vector.

    Source: Gu et al. 2023 (Mix-of-Show), ED-LoRA; for SDXL as Concept-Conductor's ``trainer_edlora_sdxl.py``, which
    takes the pooled vector of the first layer's words.

    Args:
        backbone: the base; adapters on its encoders take part.
        prompts: b texts.
        words: of the concepts.

    Returns:
        The layers' states side by side, ``[b, n, L * d]``, for ``p_plus.feed_layers``; gradient flows to the vectors.
    """
    count = len(find_layers(backbone.unet))
    with _put_layers(backbone, prompts, words, count):
        text = encode_prompts(backbone, [prompt for prompt in prompts for _ in range(count)])
    # Rows are [prompt, layer]; a layer's states follow each other along the last axis.
    states = text.states.unflatten(0, (len(prompts), count)).transpose(1, 2).flatten(2)
    return TextStates(states, text.pooled[::count])


def repeat_layers(backbone: Backbone, text: TextStates) -> TextStates:
    """Let all layers read the same.

    Args:
        backbone: the base.
        text: ``[b, n, d]``.

    Returns:
        ``[b, n, L * d]``.
    """
    return TextStates(text.states.repeat(1, 1, len(find_layers(backbone.unet))), text.pooled)


def find_phrase(numbers: Tensor, phrase: Sequence[int]) -> list[tuple[int, int]]:
    """Find a run of tokens.

    >>> find_phrase(torch.tensor([[1, 7, 8, 2], [7, 8, 7, 8]]), (7, 8))
    [(0, 1), (1, 0), (1, 2)]

    Args:
        numbers: of tokens, ``[b, n]``.
        phrase: the run.

    Returns:
        Row and first position of each place.
    """
    windows = numbers.unfold(1, len(phrase), 1)
    wanted = torch.tensor(phrase, device=numbers.device)
    found = (windows == wanted).all(dim=-1).nonzero().tolist()
    return [(row, place) for row, place in found]


@contextmanager
def _put_layers(backbone: Backbone, prompts: Sequence[str], words: Sequence[LayerWords], count: int) -> Iterator[None]:
    with ExitStack() as stack:
        for which, (tokenizer, encoder) in enumerate(zip(backbone.tokenizers, backbone.text_encoders, strict=True)):
            numbers = tokenize(tokenizer, prompts)
            places: dict[tuple[int, int], Tensor] = {}
            for one in words:
                phrase = tokenizer(one.phrase, add_special_tokens=False).input_ids
                vectors = (one.first, one.second)[which]
                for row, start in find_phrase(numbers, phrase):
                    places |= {(row, start + offset): vectors[:, offset] for offset in range(len(phrase))}
            handle = encoder.get_input_embeddings().register_forward_hook(_Put(places, count))
            stack.callback(handle.remove)
        yield


class _Put:
    """Puts vectors at places of prompts, for each layer its own; a hook of a token table."""

    def __init__(self, places: Mapping[tuple[int, int], Tensor], count: int) -> None:
        self._places = places
        self._count = count

    def __call__(self, table: nn.Module, given: tuple[Tensor, ...], found: Tensor) -> Tensor:
        if not self._places:
            return found
        rows = torch.tensor([row for row, _ in self._places], device=found.device)
        columns = torch.tensor([column for _, column in self._places], device=found.device)
        by_prompt = found.unflatten(0, (-1, self._count))
        own = torch.stack(list(self._places.values())).to(found)
        layers = torch.arange(self._count, device=found.device)
        places = (rows[:, None], layers[None], columns[:, None])
        return by_prompt.index_put(places, own).flatten(0, 1)


def _class_vectors(backbone: Backbone, class_word: str) -> list[Tensor]:
    vectors = []
    for tokenizer, encoder in zip(backbone.tokenizers, backbone.text_encoders, strict=True):
        numbers = tokenizer(class_word, add_special_tokens=False).input_ids
        vectors.append(encoder.get_input_embeddings().weight.detach()[numbers].float())
    return vectors
