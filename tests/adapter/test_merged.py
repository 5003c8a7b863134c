"""Merged copies of the weights, against updates beside them."""

import dataclasses

import pytest
import torch

from d2plan.adapter.file import Delta
from d2plan.adapter.merged import merge_weight, merged_rows
from d2plan.adapter.rows import Weighted, adapter_rows
from d2plan.backbone.sdxl import draw_noise, encode_prompts, predict, time_ids
from d2plan.errors import AdapterError, InputError, ShapeError
from tests.tiny import tiny_adapter

PROMPTS = ("", "a man and a dog", "a <v1> man", "a <v2> dog")


def call(base, text):
    noise = torch.cat([draw_noise(base, seed, (64, 64)) for seed in range(len(text))])
    return predict(base, noise, 400.0, text, time_ids(base, len(text), (64, 64)))


@torch.no_grad()
def test_merged_rows_equal_updates_beside_the_weights(tiny):
    first, second = (tiny_adapter(tiny, seed=seed) for seed in (1, 2))
    text = encode_prompts(tiny, PROMPTS)
    loads = [None, (Weighted(first, 0.3),), first, (Weighted(first, 0.3), Weighted(second, 0.8))]
    with adapter_rows(tiny.unet, "unet", loads):
        beside = call(tiny, text)
    with merged_rows(tiny.unet, "unet", loads) as choice:
        merged = call(tiny, text)
        choice.choose((3, 1))
        some = call(tiny, text[[3, 1]])
    assert (merged - beside).abs().max() / beside.abs().max() < 1e-4
    with adapter_rows(tiny.unet, "unet", [loads[3], loads[1]]):
        assert (some - call(tiny, text[[3, 1]])).abs().max() / beside.abs().max() < 1e-4


@torch.no_grad()
def test_text_encoders_with_their_biases_agree_too(tiny):
    adapter = tiny_adapter(tiny, seed=1)
    tokens = tiny.tokenizers[0](PROMPTS[1:3], padding="max_length", return_tensors="pt").input_ids
    encoder = tiny.text_encoders[0]
    with adapter_rows(encoder, "text_encoder", [None, adapter]):
        beside = encoder(tokens).last_hidden_state
    with merged_rows(encoder, "text_encoder", [None, adapter]):
        assert torch.allclose(encoder(tokens).last_hidden_state, beside, atol=1e-4)


def test_the_component_is_as_before_also_after_an_error(tiny):
    weights = {name: tensor.clone() for name, tensor in tiny.unet.state_dict().items()}
    with (
        pytest.raises(RuntimeError, match="stop"),
        merged_rows(tiny.unet, "unet", [tiny_adapter(tiny)]),
    ):
        assert any("forward" in vars(module) for module in tiny.unet.modules())
        raise RuntimeError("stop")
    assert not any("forward" in vars(module) for module in tiny.unet.modules())
    assert all(torch.equal(tensor, weights[name]) for name, tensor in tiny.unet.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_merged_weight_is_rounded_once(dtype):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(12, 8, generator=generator).to(dtype)
    delta = Delta(torch.randn(2, 8, generator=generator), torch.randn(12, 2, generator=generator), 3.0)
    merged = merge_weight(weight, [(delta, 0.5), (delta, 0.25)])
    exact = weight.double() + 0.75 * 1.5 * delta.up.double() @ delta.down.double()
    assert merged.dtype == dtype
    assert torch.allclose(merged, exact.to(dtype), atol=1e-6, rtol=1e-2 if dtype == torch.bfloat16 else 1e-6)


def test_one_copy_serves_all_rows_with_the_same_load(tiny):
    adapter = tiny_adapter(tiny)
    path = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    only = dataclasses.replace(adapter, deltas={f"unet.{path}": adapter.deltas[f"unet.{path}"]})
    layer = tiny.unet.get_submodule(path)
    seen = []
    real = torch.mm
    with merged_rows(tiny.unet, "unet", [None, only, only, None]), pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "mm", lambda a, b, out: (seen.append((a.shape[0], b.data_ptr())), real(a, b, out=out))[1])
        layer(torch.randn(4, 5, layer.in_features))
    assert [rows for rows, _ in seen] == [5, 10, 5]
    assert seen[0][1] == seen[2][1] == layer.weight.data_ptr() != seen[1][1]


def test_what_does_not_fit_is_refused(tiny):
    adapter = tiny_adapter(tiny)
    with pytest.raises(InputError, match="strengths"), merged_rows(tiny.unet, "unet", [None, adapter], [1.0]):
        pass
    path = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_q"
    wrong = dataclasses.replace(adapter, deltas={path: Delta(torch.ones(2, 5), torch.ones(5, 2), 2.0)})
    with pytest.raises(AdapterError, match="another shape"), merged_rows(tiny.unet, "unet", [wrong]):
        pass
    text = encode_prompts(tiny, PROMPTS[:3])
    with merged_rows(tiny.unet, "unet", [None, adapter]), pytest.raises(ShapeError, match="3 rows.*for 2"):
        call(tiny, text)
