import dataclasses

import numpy as np
import pytest
import torch

from d2plan.backbone.attention import ColumnRead, TapPlan, tap_columns
from d2plan.backbone.sdxl import TextStates, decode_latents, encode_prompts, predict, sample_steps, time_ids
from d2plan.bench.methods.p_plus import METHOD, encode_layers, feed_layers, find_layers
from d2plan.bench.protocol import Learned
from d2plan.bench.shared.words import FIRST, SECOND, WordVectors, start_vectors
from d2plan.errors import InputError
from tests.bench.small import ALONE, DRAWING, PAIR, digest_base, finish, halve, learn, small_concept

LAYERS = 11


def repeat(vectors, count=LAYERS + 1):
    return WordVectors(*(vector.detach().repeat(count, 1) for vector in vectors))


def as_state(vectors):
    return {FIRST: vectors.first.detach(), SECOND: vectors.second.detach()}


def plain_picture(base, prompt, seed):
    *_, last = sample_steps(base, prompt, seed, 2, 3.0, (64, 64))
    return decode_latents(base, last.latents)[0]


@torch.no_grad()
def test_each_layer_reads_its_own_part(tiny):
    layers = find_layers(tiny.unet)
    assert len(layers) == LAYERS
    whole, seen = torch.arange(LAYERS).float().repeat_interleave(80).expand(2, 48, -1), {}
    rows = torch.zeros(2, 4, 16, 16)

    def note(place):
        return lambda _, inputs: seen.setdefault(place, inputs[0])

    handles = [layer.to_k.register_forward_pre_hook(note(place)) for place, layer in enumerate(layers)]
    with feed_layers(tiny.unet):
        predict(tiny, rows, 10.0, TextStates(whole, torch.zeros(2, 40)), time_ids(tiny, 2, (64, 64)))
    for handle in handles:
        handle.remove()
    assert {place: set(states.unique().tolist()) for place, states in seen.items()} == {
        place: {float(place)} for place in range(LAYERS)
    }
    assert all(states.shape == (2, 48, 80) for states in seen.values())


@torch.no_grad()
def test_the_same_vectors_in_every_layer_are_one_word(tiny):
    words = {"<v1>": repeat(start_vectors(tiny, "dog"))}
    found = encode_layers(tiny, ["a <v1> running", "the red <v1>"], words)
    wanted = encode_prompts(tiny, ["a dog running", "the red dog"])
    assert found.states.shape == (2, 48, LAYERS * 80)
    for part in found.states.chunk(LAYERS, dim=-1):
        assert torch.allclose(part, wanted.states, atol=1e-6)
    assert torch.allclose(found.pooled, wanted.pooled, atol=1e-6)


@torch.no_grad()
def test_the_last_pair_is_for_the_pooled_vector_and_each_other_for_its_layer(tiny):
    dog, cat = start_vectors(tiny, "dog"), start_vectors(tiny, "cat")
    vectors = repeat(dog)
    for own, other in zip(vectors, cat, strict=True):
        own[2], own[LAYERS] = other, other
    found = encode_layers(tiny, ["a <v1>"], {"<v1>": vectors})
    wanted = {word: encode_prompts(tiny, [f"a {word}"]) for word in ("dog", "cat")}
    assert torch.allclose(found.pooled, wanted["cat"].pooled, atol=1e-6)
    for place, part in enumerate(found.states.chunk(LAYERS, dim=-1)):
        assert torch.allclose(part, wanted["cat" if place == 2 else "dog"].states, atol=1e-6)


def test_vectors_for_other_layers_are_refused(tiny):
    with pytest.raises(InputError, match="has vectors for 3 layers, but this base has 11"):
        encode_layers(tiny, ["a <v1>"], {"<v1>": repeat(start_vectors(tiny, "dog"), 4)})


def test_every_layer_learns_vectors_of_its_own_and_the_base_is_as_before(tiny, tmp_path):
    base, concept = halve(tiny), small_concept(tmp_path)
    before, start = digest_base(base), start_vectors(base, "dog")
    learned = learn(METHOD, base, concept, tmp_path)
    first, second = learned.state[FIRST], learned.state[SECOND]
    assert (first.shape, second.shape) == ((LAYERS + 1, 32), (LAYERS + 1, 48))
    # Both tables move in every row: those of the layers, and that of the pooled vector.
    assert (second - start.second).detach().abs().amax(dim=1).gt(0).all()
    assert (first - start.first).detach().abs().amax(dim=1)[:LAYERS].gt(0).all()
    assert len(first.unique(dim=0)) == LAYERS + 1
    assert digest_base(base) == before


def test_words_that_learnt_nothing_are_plain_guidance(tiny, tmp_path):
    before = digest_base(tiny)
    learned = [
        Learned(small_concept(tmp_path), as_state(repeat(start_vectors(tiny, "red"))), tmp_path),
        Learned(small_concept(tmp_path, "tom", "cat", "<v2>"), as_state(repeat(start_vectors(tiny, "blue"))), tmp_path),
    ]
    assert finish(METHOD.join(tiny, learned, METHOD.settings[0], 0)) == ([], {})
    pictures = METHOD.draw(tiny, learned, {}, [PAIR, dataclasses.replace(PAIR, seed=9)], DRAWING)
    prompt = PAIR.joint_prompt.replace("<v1>", "red").replace("<v2>", "blue")
    for picture, seed in zip(pictures, (PAIR.seed, 9), strict=True):
        assert np.abs(picture.astype(int) - plain_picture(tiny, prompt, seed)).max() <= 1
    assert digest_base(tiny) == before


@torch.no_grad()
def test_maps_can_be_read_meanwhile(tiny):
    whole, rows = torch.randn(1, 48, LAYERS * 80), torch.zeros(1, 4, 16, 16)
    plan = TapPlan(reads=(ColumnRead(0, (2,)),))
    with feed_layers(tiny.unet), tap_columns(tiny.unet, plan) as tap:
        predict(tiny, rows, 10.0, TextStates(whole, torch.zeros(1, 40)), time_ids(tiny, 1, (64, 64)))
    assert tap.maps(tap.levels[0]).isfinite().all()


def test_a_training_that_is_closed_early_leaves_no_trace(tiny, tmp_path):
    base = halve(tiny)
    before = digest_base(base)
    run = METHOD.learn(base, small_concept(tmp_path), METHOD.settings[0], 0)
    assert next(run) == 1 / 6
    run.close()
    assert digest_base(base) == before
    learned = learn(METHOD, base, small_concept(tmp_path, "tom"), tmp_path)
    (picture,) = METHOD.draw(base, [learned], {}, [ALONE], DRAWING)
    (again,) = METHOD.draw(base, [learned], {}, [ALONE], DRAWING)
    assert np.array_equal(picture, again)
