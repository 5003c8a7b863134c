import dataclasses

import pytest
import torch
from safetensors.torch import load_file, save_file

from d2plan.backbone.sdxl import encode_prompts
from d2plan.bench.protocol import BenchConcept, Learned
from d2plan.bench.shared.words import (
    FIRST,
    SECOND,
    WordVectors,
    find_numbers,
    put_words,
    rate_vectors,
    read_vectors,
    start_rare,
    start_vectors,
)
from d2plan.errors import InputError


def same(one, other):
    return torch.equal(one.states, other.states) and torch.equal(one.pooled, other.pooled)


@torch.no_grad()
def test_an_identifier_with_the_class_words_vectors_is_the_class_word(tiny):
    with put_words(tiny, {"<v1>": start_vectors(tiny, "dog")}):
        found = encode_prompts(tiny, ["a photo of a <v1> running", "a photo of a <v2> running"])
    assert same(found, encode_prompts(tiny, ["a photo of a dog running", "a photo of a <v2> running"]))


def test_a_rare_word_is_as_long_as_the_class_word_and_each_one_is_another(tiny, tmp_path):
    words = [BenchConcept("x", "dog", identifier, tmp_path) for identifier in ("<v1>", "<v2>", "<v1>")]
    one, other, again = (start_rare(tiny, word, 0) for word in words)
    for vector, own, same_again, dog in zip(one, other, again, start_vectors(tiny, "dog"), strict=True):
        assert torch.allclose(vector.norm(), dog.norm())
        assert torch.equal(vector, same_again)
        assert abs(float(torch.cosine_similarity(vector.detach(), own.detach(), dim=0))) < 0.7
        assert vector.is_leaf
        assert vector.requires_grad


@torch.no_grad()
def test_rows_of_a_batch_may_have_vectors_of_their_own(tiny):
    dog, cat = start_vectors(tiny, "dog"), start_vectors(tiny, "cat")
    both = WordVectors(*(torch.stack(pair) for pair in zip(dog, cat, strict=True)))
    with put_words(tiny, {"<v1>": both}):
        found = encode_prompts(tiny, ["a <v1> on the beach", "the red <v1>"])
    wanted = encode_prompts(tiny, ["a dog on the beach", "the red cat"])
    assert same(found, wanted)


@torch.no_grad()
def test_afterwards_the_word_means_what_it_meant(tiny):
    before = encode_prompts(tiny, ["a <v1>"])
    with pytest.raises(RuntimeError), put_words(tiny, {"<v1>": start_vectors(tiny, "dog")}):
        raise RuntimeError
    assert same(encode_prompts(tiny, ["a <v1>"]), before)


def test_gradient_reaches_both_vectors_and_no_weight(tiny):
    vectors = start_vectors(tiny, "dog")
    with put_words(tiny, {"<v1>": vectors}):
        text = encode_prompts(tiny, ["a <v1>"])
    (text.states.square().sum() + text.pooled.sum()).backward()
    assert all(vector.grad.abs().max() > 0 for vector in vectors)
    assert all(parameter.grad is None for encoder in tiny.text_encoders for parameter in encoder.parameters())


def test_a_word_of_several_tokens_starts_with_their_mean_and_is_no_identifier(tiny):
    vectors = start_vectors(tiny, "teddy bear")
    for vector, one, other in zip(vectors, start_vectors(tiny, "teddy"), start_vectors(tiny, "bear"), strict=True):
        assert torch.allclose(vector, (one + other) / 2)
    with pytest.raises(InputError, match="teddy bear is 2 tokens"):
        find_numbers(tiny, "teddy bear")


def test_rates_follow_what_the_tables_deviate_by(tiny):
    vectors = start_vectors(tiny, "dog")
    rated = rate_vectors(tiny, vectors, 5e-3)
    for part, vector, encoder in zip(rated, vectors, tiny.text_encoders, strict=True):
        assert part.parameters == [vector]
        assert part.rate == pytest.approx(5e-3 * encoder.get_input_embeddings().weight.std().item() / 0.014)
        assert part.weight_decay == 0


def test_vectors_come_back_from_their_file_and_others_are_refused(tiny, tmp_path):
    vectors, path = start_vectors(tiny, "dog"), tmp_path / "rex.safetensors"
    save_file({FIRST: vectors.first.detach(), SECOND: vectors.second.detach()}, path)
    learned = Learned(BenchConcept("rex", "dog", "<v1>", tmp_path), load_file(path), path)
    assert all(torch.equal(one, other) for one, other in zip(read_vectors(tiny, learned), vectors, strict=True))
    with pytest.raises(InputError, match="rex.safetensors holds no vectors for this base"):
        read_vectors(tiny, dataclasses.replace(learned, state={FIRST: vectors.first[:5], SECOND: vectors.second}))
