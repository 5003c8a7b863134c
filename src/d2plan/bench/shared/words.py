"""Vectors of their own for words, as Textual Inversion learns them, in the place of what the encoders' tables hold."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple
from zlib import crc32

import torch
from torch import Tensor, nn

from d2plan.backbone.load import Backbone
from d2plan.bench.protocol import BenchConcept, Learned
from d2plan.bench.shared.learning import Rated
from d2plan.errors import InputError

FIRST, SECOND = "text_encoder.vectors", "text_encoder_2.vectors"
# What the numbers in CLIP's token tables deviate by, for which published rates hold.
_CLIP_DEVIATION = 0.014


class WordVectors(NamedTuple):
    """What a word is to each of the two text encoders.

    Attributes:
        first: of the first encoder's token table, ``[d_1]``, or ``[b d_1]`` for each row of the batch its own.
        second: of the second's, ``[d_2]`` or ``[b d_2]``.
    """

    first: Tensor
    second: Tensor


def start_vectors(backbone: Backbone, word: str) -> WordVectors:
    """Copy what the encoders' tables hold for a word, to learn from there.

    Source: Gal et al. 2022 (Textual Inversion) begin with the class's own word.

    Args:
        backbone: the base.
        word: such as the class word; of several tokens the mean is taken.

    Returns:
        Leaves in float32, on the base's device, that ask for gradients.
    """
    vectors = []
    for tokenizer, encoder in zip(backbone.tokenizers, backbone.text_encoders, strict=True):
        numbers = tokenizer(word, add_special_tokens=False).input_ids
        table = encoder.get_input_embeddings().weight.detach()
        vectors.append(table[numbers].float().mean(dim=0).requires_grad_(True))
    return WordVectors(*vectors)


def start_rare(backbone: Backbone, concept: BenchConcept, seed: int) -> WordVectors:
    """Make the vectors of a word that no caption has, but as long as those of ordinary words.

    Source: DreamBooth's and Custom Diffusion's rare tokens ("sks", "ktn"), whose vectors in CLIP's tables are as long
    as all others; a base's words for concepts may be nearly zero, so that no encoder notices them.

    Args:
        backbone: the base.
        concept: whose class word's length is taken.
        seed: of the direction, with the identifier.

    Returns:
        Leaves in float32, on the base's device, that ask for gradients.
    """
    generator = seed_word(concept.identifier, seed)
    vectors = []
    for own in start_vectors(backbone, concept.class_word):
        random = torch.randn(own.shape, generator=generator).to(own.device)
        vectors.append((random * (own.detach().norm() / random.norm())).requires_grad_(True))
    return WordVectors(*vectors)


def seed_word(identifier: str, seed: int) -> torch.Generator:
    """Make chance of its own for a word, so that two concepts never begin as one.

    Args:
        identifier: the word.
        seed: of the learning, which is the same for all concepts.

    Returns:
        A generator on the CPU.
    """
    return torch.Generator("cpu").manual_seed(seed + crc32(identifier.encode()))


def rate_vectors(backbone: Backbone, vectors: WordVectors, rate: float) -> list[Rated]:
    """Say how fast vectors learn: a rate that was published for CLIP's tables, scaled to each table's own numbers.

    Args:
        backbone: the base.
        vectors: what learns.
        rate: AdamW's, for vectors whose numbers deviate by 0.014.

    Returns:
        One group for each table, without weight decay.
    """
    deviations = [
        float(encoder.get_input_embeddings().weight.detach().float().std()) for encoder in backbone.text_encoders
    ]
    return [
        Rated([vector], rate * deviation / _CLIP_DEVIATION, 0.0)
        for vector, deviation in zip(vectors, deviations, strict=True)
    ]


def write_vectors(vectors: WordVectors) -> dict[str, Tensor]:
    """Write a word's vectors as a state, of which ``read_vectors`` makes them.

    Args:
        vectors: what was learnt.

    Returns:
        Both, on the CPU, without gradients.
    """
    return {name: vector.detach().cpu() for name, vector in zip((FIRST, SECOND), vectors, strict=True)}


def read_vectors(backbone: Backbone, learned: Learned) -> WordVectors:
    """Take the identifier's vectors out of a learnt state.

    Args:
        backbone: the base that they were learnt on.
        learned: the concept.

    Returns:
        Both, on the base's device.

    Raises:
        InputError: the state holds none, or of another width.
    """
    widths = [encoder.get_input_embeddings().weight.shape[1] for encoder in backbone.text_encoders]
    found = [learned.state.get(name) for name in (FIRST, SECOND)]
    if any(vector is None or vector.shape[-1] != width for vector, width in zip(found, widths, strict=True)):
        raise InputError(
            f"{learned.path} holds no vectors for this base; remove it and let the concept be learnt again."
        )
    first, second = (vector.to(backbone.device) for vector in found if vector is not None)
    return WordVectors(first, second)


def find_numbers(backbone: Backbone, word: str) -> tuple[int, int]:
    """Find a word's token in both tables.

    Args:
        backbone: the base.
        word: an identifier.

    Returns:
        Its number for each tokenizer.

    Raises:
        InputError: it is not one token.
    """
    numbers = []
    for tokenizer in backbone.tokenizers:
        found = tokenizer(word, add_special_tokens=False).input_ids
        if len(found) != 1:
            raise InputError(f"identifier {word} is {len(found)} tokens, but this method needs one; choose another.")
        numbers.append(int(found[0]))
    return numbers[0], numbers[1]


@contextmanager
def put_words(backbone: Backbone, words: Mapping[str, WordVectors]) -> Iterator[None]:
    """Let both encoders read some words as given vectors while the block runs; no weight is touched.

    Args:
        backbone: the base.
        words: identifier to vectors, one each; gradient flows to them.

    Yields:
        Nothing; afterwards the base is as before.

    Raises:
        InputError: an identifier is not one token.
    """
    numbers = {word: find_numbers(backbone, word) for word in words}
    with ExitStack() as stack:
        for place, encoder in enumerate(backbone.text_encoders):
            rows = [(numbers[word][place], vectors[place]) for word, vectors in words.items()]
            handle = encoder.get_input_embeddings().register_forward_hook(_Swap(rows))
            stack.callback(handle.remove)
        yield


class _Swap:
    """Puts vectors where certain tokens stand; a hook of a token table."""

    def __init__(self, rows: Sequence[tuple[int, Tensor]]) -> None:
        self._rows = tuple(rows)

    def __call__(self, table: nn.Module, given: tuple[Tensor, ...], found: Tensor) -> Tensor:
        for number, vector in self._rows:
            own = vector.to(found) if vector.ndim == 1 else vector.to(found)[:, None]
            found = torch.where((given[0] == number)[..., None], own, found)
        return found
