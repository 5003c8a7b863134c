"""Mix-of-Show's joining of concepts: each linear layer in turn is fused from what all concepts' own layers answer.

Source: Gu et al. 2023 (Mix-of-Show), section 3.3, and the authors' ``gradient_fusion.py``: first the text encoders,
then keys and values of cross-attention on what the fused encoders say of the concepts' words, then the U-Net's other
layers on what they see while each concept is drawn.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from d2plan.adapter.file import Adapter
from d2plan.adapter.merged import merge_weight
from d2plan.adapter.names import COMPONENTS, find_layer
from d2plan.backbone.load import Backbone
from d2plan.backbone.sdxl import null_states, tokenize
from d2plan.bench.methods.mix_of_show_fusion import Answers, match_answers, watch_answers
from d2plan.bench.methods.mix_of_show_words import LayerWords, encode_words, find_phrase, repeat_layers
from d2plan.bench.methods.p_plus import feed_layers, find_layers
from d2plan.bench.protocol import Drawing, Shot, State
from d2plan.bench.shared.drawing import denoise_shots, guide_plainly
from d2plan.bench.shared.steps import follow
from d2plan.errors import AdapterError

TEMPLATE = "photo of a {}"
TEXT_ITERATIONS = 500
UNET_ITERATIONS = 50
DRAWN_STEPS = 20
_READERS = ("attn2.to_k", "attn2.to_v")

Weights = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Tuned:
    """What a concept has learnt alone.

    Attributes:
        words: its vectors.
        adapter: its ED-LoRA.
    """

    words: LayerWords
    adapter: Adapter


@contextmanager
def put_weights(backbone: Backbone, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Give layers other weights while the block runs; afterwards they have their own back, bit for bit.

    Args:
        backbone: the base.
        weights: by the layer's path, its component first.

    Yields:
        Nothing.

    Raises:
        AdapterError: the base has no such linear layer, or of another shape.
    """
    layers = {path: open_layer(backbone, path) for path in weights}
    for path, layer in layers.items():
        if layer.weight.shape != weights[path].shape:
            raise AdapterError(f"{path} has another shape in this base; learn the concept on it again.")
    before = {path: layer.weight.data for path, layer in layers.items()}
    try:
        for path, layer in layers.items():
            layer.weight.data = weights[path].to(before[path])
        yield
    finally:
        for path, layer in layers.items():
            layer.weight.data = before[path]


def open_layer(backbone: Backbone, path: str) -> nn.Linear:
    """Find a linear layer.

    Args:
        backbone: the base.
        path: as in an adapter, its component first.

    Returns:
        The layer.

    Raises:
        AdapterError: there is none.
    """
    component, _, rest = path.partition(".")
    models = dict(zip(COMPONENTS, (backbone.unet, *backbone.text_encoders), strict=True))
    layer = find_layer(models[component], rest) if component in models else None
    if not isinstance(layer, nn.Linear):
        raise AdapterError(f"the base has no linear layer {path}; learn the concept on it again.")
    return layer


def merge_layers(backbone: Backbone, adapter: Adapter, paths: Sequence[str] | None = None) -> Weights:
    """Add an adapter's updates to copies of the base's weights.

    Args:
        backbone: the base, as it is.
        adapter: the updates.
        paths: of the layers; all that the adapter updates without it.

    Returns:
        Weights by path.
    """
    wanted = adapter.deltas if paths is None else paths
    return {
        path: merge_weight(open_layer(backbone, path).weight, [(adapter.deltas[path], 1.0)])
        for path in wanted
        if path in adapter.deltas
    }


def fuse_adapters(backbone: Backbone, parts: Sequence[Tuned], seed: int) -> Generator[float, None, State]:
    """Fuse concepts into one set of weights.

    Args:
        backbone: the base; as it was between steps and afterwards.
        parts: the concepts.
        seed: of the pictures in whose drawing the U-Net's layers are watched.

    Returns:
        A generator that gives the share that is done, 0..1, often while a layer is fused, and at its end the fused
        weights by path, in the base's number format.
    """
    return _fuse_stages(backbone, parts, seed)


def _fuse_stages(backbone: Backbone, parts: Sequence[Tuned], seed: int) -> Generator[float, None, State]:
    """Fuse encoders, then what reads them, then the rest, each on what was fused before."""
    paths = sorted({path for part in parts for path in part.adapter.deltas})
    text = [path for path in paths if not path.startswith("unet.")]
    readers = [path for path in paths if path.endswith(_READERS)]
    others = [path for path in paths if path not in {*text, *readers}]
    fused: Weights = {}
    stages = (
        (lambda: _watch_encoders(backbone, parts, text), TEXT_ITERATIONS),
        (lambda: _watch_readers(backbone, parts, readers, fused), TEXT_ITERATIONS),
        (lambda: _watch_unet(backbone, parts, others, fused, seed), UNET_ITERATIONS),
    )
    for watch, iterations in stages:
        yield len(fused) / len(paths)
        with torch.no_grad():
            answers = watch()
        for path, seen in answers.items():
            matching = match_answers(open_layer(backbone, path).weight, seen, iterations)
            fused[path] = yield from follow(matching, lambda share: (len(fused) + share) / len(paths))
            yield len(fused) / len(paths)
    return fused


def _watch_encoders(backbone: Backbone, parts: Sequence[Tuned], paths: Sequence[str]) -> dict[str, Answers]:
    """Let each concept's own encoders read its words."""
    answers: dict[str, Answers] = {}
    layers = {path: open_layer(backbone, path) for path in paths}
    for part in parts:
        with put_weights(backbone, merge_layers(backbone, part.adapter, paths)):
            for prompt in _write_prompts(part):
                length = len(backbone.tokenizers[0](prompt).input_ids)
                with watch_answers(layers, answers, length):
                    encode_words(backbone, [prompt], [part.words])
    return answers


def _watch_readers(
    backbone: Backbone, parts: Sequence[Tuned], paths: Sequence[str], fused: Weights
) -> dict[str, Answers]:
    """Let each concept's own keys and values read what the fused encoders say of its words and of the end."""
    numbers = {
        id(linear): number
        for number, layer in enumerate(find_layers(backbone.unet))
        for linear in (layer.to_k, layer.to_v)
    }
    answers: dict[str, Answers] = {}
    for part in parts:
        with put_weights(backbone, fused):
            by_layer = _read_features(backbone, part)
        for path, weight in merge_layers(backbone, part.adapter, paths).items():
            seen = answers.setdefault(path, Answers(weight.shape[1], weight.shape[0]))
            given = by_layer[numbers[id(open_layer(backbone, path))]]
            seen.add(given, given @ weight.T)
    return answers


def _watch_unet(
    backbone: Backbone, parts: Sequence[Tuned], paths: Sequence[str], fused: Weights, seed: int
) -> dict[str, Answers]:
    """Let each concept's own layers draw it, without guidance, on top of the fused encoders, keys and values."""
    answers: dict[str, Answers] = {}
    layers = {path: open_layer(backbone, path) for path in paths}
    drawing = Drawing(DRAWN_STEPS, 1.0, *backbone.size)
    null = repeat_layers(backbone, null_states(backbone, 1))
    for part in parts:
        prompt = TEMPLATE.format(part.words.phrase)
        shot = Shot(prompt, (prompt,), prompt, (part.adapter.name,), ((0.0, 0.0, 1.0, 1.0),), seed)
        with put_weights(backbone, {**fused, **merge_layers(backbone, part.adapter, paths)}):
            plain = guide_plainly(backbone, encode_words(backbone, [prompt], [part.words]), null)
            with feed_layers(backbone.unet), watch_answers(layers, answers):
                denoise_shots(backbone, [shot], drawing, predict=plain)
    return answers


def _read_features(backbone: Backbone, part: Tuned) -> list[Tensor]:
    """Give what each cross-attention layer reads of a concept's tokens and of the end, ``[s d]`` each."""
    prompts = _write_prompts(part)
    count = len(find_layers(backbone.unet))
    states = encode_words(backbone, prompts, [part.words]).states.unflatten(-1, (count, -1))
    tokenizer = backbone.tokenizers[0]
    phrase = tokenizer(part.words.phrase, add_special_tokens=False).input_ids
    found = []
    for row, (prompt, numbers) in enumerate(zip(prompts, tokenize(tokenizer, prompts), strict=True)):
        places = [start + offset for _, start in find_phrase(numbers[None], phrase) for offset in range(len(phrase))]
        found.append(states[row, [*places, len(tokenizer(prompt).input_ids) - 1]])
    return list(torch.cat(found).unbind(1))


def _write_prompts(part: Tuned) -> list[str]:
    return [TEMPLATE.format(part.words.phrase), part.words.phrase]
