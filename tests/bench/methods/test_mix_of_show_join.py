"""Gradient fusion through the whole tiny base: what each stage sees, and whose answers the fused layers give."""

from contextlib import closing

import pytest
import torch

from d2plan.adapter.file import Adapter, Delta
from d2plan.backbone.sdxl import encode_prompts
from d2plan.bench.methods import mix_of_show_join as join
from d2plan.bench.methods.mix_of_show_words import LayerWords, encode_words
from d2plan.bench.methods.p_plus import find_layers
from d2plan.errors import AdapterError
from tests.bench.small import digest_base, finish, halve
from tests.tiny import tiny_adapter

READERS = ("attn2.to_k", "attn2.to_v")


@pytest.fixture
def base(tiny, monkeypatch):
    monkeypatch.setattr(join, "DRAWN_STEPS", 2)
    monkeypatch.setattr(join, "TEXT_ITERATIONS", 4)
    monkeypatch.setattr(join, "UNET_ITERATIONS", 4)
    return halve(tiny)


def tuned(base, place, identifier, class_word, only=""):
    """Random updates of the layers whose paths hold ``only``, and words that are other words of the base."""
    adapter = tiny_adapter(base, seed=place)
    deltas = {path: delta for path, delta in adapter.deltas.items() if only in path}
    kept = Adapter(f"{class_word}-{place}", class_word, identifier, base.fingerprint, 3, 6.0, deltas)
    count = len(find_layers(base.unet))
    vectors = []
    for tokenizer, encoder in zip(base.tokenizers, base.text_encoders, strict=True):
        numbers = tokenizer(("red dog", "blue cat")[place], add_special_tokens=False).input_ids
        vectors.append(encoder.get_input_embeddings().weight.detach()[numbers].repeat(count, 1, 1))
    return join.Tuned(LayerWords(f"{identifier} {class_word}", *vectors), kept)


def features(base, part):
    """What each cross-attention layer reads of "<v> class" and the end behind it."""
    count = len(find_layers(base.unet))
    with torch.no_grad():
        states = encode_words(base, [part.words.phrase], [part.words]).states
    return [one[0, 1:4] for one in states.chunk(count, dim=-1)]


def test_every_layer_of_every_lora_is_fused_and_the_base_is_as_before(base):
    parts = [tuned(base, 0, "<v1>", "dog"), tuned(base, 1, "<v2>", "cat")]
    before = digest_base(base)
    shares, fused = finish(join.fuse_adapters(base, parts, 0))
    assert digest_base(base) == before
    assert fused.keys() == parts[0].adapter.deltas.keys()
    assert len(shares) > len(fused)
    assert shares[0] == 0
    assert shares == sorted(shares)
    assert shares[-1] == 1
    for path, weight in fused.items():
        assert weight.shape == join.open_layer(base, path).weight.shape
        assert not torch.equal(weight, join.open_layer(base, path).weight)


def test_the_encoders_of_one_concept_alone_read_its_words_as_before(base, monkeypatch):
    monkeypatch.setattr(join, "TEXT_ITERATIONS", 300)
    part = tuned(base, 0, "<v1>", "dog", only="text_encoder.")
    _, fused = finish(join.fuse_adapters(base, [part], 0))
    prompt = [join.TEMPLATE.format(part.words.phrase)]
    with torch.no_grad():
        with join.put_weights(base, join.merge_layers(base, part.adapter)):
            own = encode_words(base, prompt, [part.words]).states[:, :7]
        plain = encode_words(base, prompt, [part.words]).states[:, :7]
        with join.put_weights(base, fused):
            alone = encode_words(base, prompt, [part.words]).states[:, :7]
    assert (alone - own).norm() < 0.02 * (plain - own).norm()


def test_fused_keys_and_values_answer_as_each_concepts_own(base, monkeypatch):
    monkeypatch.setattr(join, "TEXT_ITERATIONS", 200)
    only = "up_blocks.0.attentions.0.transformer_blocks.0.attn2.to_"
    parts = [tuned(base, 0, "<v1>", "dog", only), tuned(base, 1, "<v2>", "cat", only)]
    _, fused = finish(join.fuse_adapters(base, parts, 0))
    numbers = {id(one): number for number, layer in enumerate(find_layers(base.unet))
               for one in (layer.to_k, layer.to_v)}  # fmt: skip
    for part in parts:
        own = join.merge_layers(base, part.adapter, [path for path in fused if path.endswith(READERS)])
        given = features(base, part)
        for path, weight in own.items():
            words = given[numbers[id(join.open_layer(base, path))]]
            assert torch.allclose(words @ fused[path].T, words @ weight.T, atol=2e-3)


def test_one_concept_alone_is_given_back_where_it_was_seen(base, monkeypatch):
    monkeypatch.setattr(join, "UNET_ITERATIONS", 50)
    part = tuned(base, 0, "<v1>", "dog", only="up_blocks.0.attentions.0.transformer_blocks.0.attn1")
    _, fused = finish(join.fuse_adapters(base, [part], 0))
    own = join.merge_layers(base, part.adapter)
    answers = join._watch_unet(base, [part], list(own), {}, 0)
    for path, weight in own.items():
        start = float(answers[path].measure(join.open_layer(base, path).weight.detach().double())[0])
        assert float(answers[path].measure(fused[path].double())[0]) < 0.02 * start
        assert float(answers[path].measure(weight.double())[0]) == pytest.approx(0, abs=1e-9)


def test_a_fusion_closed_at_any_stage_leaves_the_base_alone(base):
    parts = [tuned(base, 0, "<v1>", "dog", "to_"), tuned(base, 1, "<v2>", "cat", "to_")]
    before = digest_base(base)
    with closing(join.fuse_adapters(base, parts, 0)) as run:
        # Past keys and values, into the layers that were watched while drawing.
        assert any(share > 0.6 for share in run)
    assert digest_base(base) == before


def test_weights_are_put_on_for_the_block_alone_and_must_fit(base):
    path = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"
    layer = join.open_layer(base, path)
    before, kept = layer.weight.data, layer.weight.detach().clone()
    with torch.no_grad():
        plain = encode_prompts(base, ["a dog"]).states
        with join.put_weights(base, {path: 2 * kept}):
            assert not torch.equal(encode_prompts(base, ["a dog"]).states, plain)
    assert layer.weight.data is before or torch.equal(layer.weight, kept)
    assert layer.weight.data_ptr() == before.data_ptr()
    with pytest.raises(AdapterError, match="another shape"), join.put_weights(base, {path: kept[1:]}):
        pass
    with pytest.raises(AdapterError, match="no linear layer unet.nowhere"):
        join.open_layer(base, "unet.nowhere")


def test_an_adapter_is_merged_as_its_update_says(base):
    layer = join.open_layer(base, "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q")
    down, up = torch.ones(1, layer.in_features), torch.ones(layer.out_features, 1)
    path = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    adapter = Adapter("", "", "", "", 1, 0.5, {path: Delta(down, up, 0.5)})
    assert torch.equal(join.merge_layers(base, adapter)[path], layer.weight + 0.5)
