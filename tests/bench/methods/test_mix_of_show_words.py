"""ED-LoRA's words: each layer reads vectors of its own where a concept's phrase stands, and nowhere else."""

from pathlib import Path

import pytest
import torch

from d2plan.backbone.sdxl import encode_prompts, tokenize
from d2plan.bench.methods.mix_of_show_words import (
    LayerWords,
    encode_words,
    find_phrase,
    has_grown,
    read_words,
    repeat_layers,
    start_words,
)
from d2plan.bench.methods.p_plus import find_layers
from d2plan.bench.protocol import BenchConcept
from d2plan.bench.shared.words import FIRST, SECOND
from d2plan.errors import InputError

DOG = BenchConcept("rex", "dog", "<v1>", Path("nowhere"))
BEAR = BenchConcept("ted", "teddy bear", "<v2>", Path("nowhere"))


def table_words(base, phrase, count):
    """Vectors for all layers that are the tables' own."""
    vectors = []
    for tokenizer, encoder in zip(base.tokenizers, base.text_encoders, strict=True):
        numbers = tokenizer(phrase, add_special_tokens=False).input_ids
        vectors.append(encoder.get_input_embeddings().weight.detach()[numbers].repeat(count, 1, 1))
    return LayerWords(phrase, *vectors)


def test_the_tables_own_vectors_give_each_layer_what_the_base_reads(tiny):
    prompts = ["a photo of a <v1> dog on the beach", "a cat"]
    count = len(find_layers(tiny.unet))
    with torch.no_grad():
        plain = encode_prompts(tiny, prompts)
        text = encode_words(tiny, prompts, [table_words(tiny, "<v1> dog", count)])
    assert torch.allclose(text.states, repeat_layers(tiny, plain).states, atol=1e-5)
    assert torch.allclose(text.pooled, plain.pooled, atol=1e-5)


def test_only_the_layer_whose_vector_changes_reads_something_else(tiny):
    count = len(find_layers(tiny.unet))
    words, changed = (table_words(tiny, "<v1> dog", count) for _ in range(2))
    changed.first[2, 1] += 1.0
    prompts = ["a photo of a <v1> dog"]
    with torch.no_grad():
        before, after = (encode_words(tiny, prompts, [one]).states.chunk(count, dim=-1) for one in (words, changed))
    differ = [not torch.equal(one, other) for one, other in zip(before, after, strict=True)]
    assert differ == [layer == 2 for layer in range(count)]
    # "dog" is token 6; what stands before it does not change, as the encoders are causal.
    assert torch.equal(before[2][:, :6], after[2][:, :6])


def test_a_class_word_without_its_identifier_keeps_its_own_vector(tiny):
    words = start_words(tiny, DOG, 0)
    prompt = ["a dog and a <v2> dog"]
    with torch.no_grad():
        text = encode_words(tiny, prompt, [words])
        assert torch.allclose(text.states, repeat_layers(tiny, encode_prompts(tiny, prompt)).states, atol=1e-5)


def test_training_begins_with_a_random_word_and_the_class_word(tiny):
    words = start_words(tiny, BEAR, 3)
    count = len(find_layers(tiny.unet))
    for vectors, tokenizer, encoder in zip(words[1:], tiny.tokenizers, tiny.text_encoders, strict=True):
        own = encoder.get_input_embeddings().weight[tokenizer("teddy bear", add_special_tokens=False).input_ids]
        assert vectors.shape == (count, 1 + len(own), own.shape[1])
        assert torch.equal(vectors[:, 1:], own.expand(count, -1, -1))
        assert float(vectors[0, 0].detach().norm()) == pytest.approx(0.93 * float(own.norm(dim=1).mean()), rel=0.35)
        assert vectors.requires_grad
    assert torch.equal(words.first, start_words(tiny, BEAR, 3).first)
    assert not torch.equal(words.first, start_words(tiny, BEAR, 4).first)


def test_gradient_reaches_every_layers_vectors_and_no_weight(tiny):
    words = start_words(tiny, DOG, 0)
    encode_words(tiny, ["a <v1> dog on the beach"], [words]).states.square().sum().backward()
    assert all((vectors.grad.flatten(1).abs().sum(1) > 0).all() for vectors in words[1:])
    assert all(parameter.grad is None for encoder in tiny.text_encoders for parameter in encoder.parameters())
    assert not any(encoder.get_input_embeddings()._forward_hooks for encoder in tiny.text_encoders)


def test_words_have_grown_at_142_percent_of_the_class_words_norm(tiny):
    words = table_words(tiny, "dog dog", 3)
    shorter, longer = (LayerWords("", words.first * scale, words.second * scale) for scale in (1.40, 1.43))
    assert not has_grown(tiny, shorter, "dog")
    assert has_grown(tiny, longer, "dog")


def test_words_are_read_back_from_a_state_and_those_of_another_base_are_refused(tiny):
    words = start_words(tiny, DOG, 0)
    state = {FIRST: words.first.detach(), SECOND: words.second.detach()}
    again = read_words(tiny, DOG, state)
    assert again.phrase == "<v1> dog"
    assert torch.equal(again.first, words.first)
    with pytest.raises(InputError, match="rex"):
        read_words(tiny, DOG, {**state, SECOND: state[SECOND][1:]})
    with pytest.raises(InputError, match="rex"):
        read_words(tiny, DOG, {})


def test_a_phrase_is_found_in_each_row_where_it_stands(tiny):
    tokenizer = tiny.tokenizers[0]
    numbers = tokenize(tokenizer, ["a <v1> dog and a dog", "a dog", "<v1> dog <v1> dog"])
    phrase = tokenizer("<v1> dog", add_special_tokens=False).input_ids
    assert find_phrase(numbers, phrase) == [(0, 2), (2, 1), (2, 3)]
