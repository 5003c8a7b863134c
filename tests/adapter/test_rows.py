"""A different adapter for each row, against PEFT with one adapter loaded at a time."""

import dataclasses

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from d2plan.adapter.attach import attach_adapter, restore_deltas
from d2plan.adapter.file import Delta
from d2plan.adapter.rows import Weighted, _gather, _plan_updates, adapter_rows, find_sites
from d2plan.backbone.sdxl import TextStates, draw_noise, encode_prompts, predict, time_ids
from d2plan.errors import AdapterError, InputError, ShapeError
from tests.tiny import tiny_adapter

PROMPTS = ("", "a man and a dog", "a <v1> man", "a <v2> dog", "a <v1> man on the beach")


@pytest.fixture
def pair(tiny):
    return tiny_adapter(tiny, seed=1), tiny_adapter(tiny, seed=2)


def call(base, text):
    noise = torch.cat([draw_noise(base, seed) for seed in range(len(text))])
    return predict(base, noise, 400.0, text, time_ids(base, len(text)))


def call_with_peft(base, adapter, text, row):
    """The row alone, with the adapter loaded by PEFT."""
    noise, ids = draw_noise(base, row), time_ids(base, 1)
    if adapter is None:
        return predict(base, noise, 400.0, text[row : row + 1], ids)
    with attach_adapter(base, rank=adapter.rank, alpha=adapter.alpha):
        restore_deltas(base, adapter.deltas)
        return predict(base, noise, 400.0, text[row : row + 1], ids)


@torch.no_grad()
def test_each_row_equals_a_call_of_its_own_with_peft(tiny, pair):
    first, second = pair
    text = encode_prompts(tiny, PROMPTS)
    rows = [None, None, first, second, first]
    with adapter_rows(tiny.unet, "unet", rows):
        together = call(tiny, text)
    alone = torch.cat([call_with_peft(tiny, adapter, text, row) for row, adapter in enumerate(rows)])
    assert torch.allclose(together, alone, atol=1e-5)
    assert not torch.allclose(together, call(tiny, text), atol=1e-3)


@torch.no_grad()
def test_text_rows_equal_encoders_with_peft(tiny, pair):
    first, second = pair
    with (
        adapter_rows(tiny.text_encoders[0], "text_encoder", [None, first, second]),
        adapter_rows(tiny.text_encoders[1], "text_encoder_2", [None, first, second]),
    ):
        together = encode_prompts(tiny, PROMPTS[:3])
    parts = [encode_prompts(tiny, PROMPTS[:1])]
    for row, adapter in ((1, first), (2, second)):
        with attach_adapter(tiny, rank=adapter.rank, alpha=adapter.alpha):
            restore_deltas(tiny, adapter.deltas)
            parts.append(encode_prompts(tiny, PROMPTS[row : row + 1]))
    expected = TextStates(torch.cat([part.states for part in parts]), torch.cat([part.pooled for part in parts]))
    assert torch.allclose(together.states, expected.states, atol=1e-5)
    assert torch.allclose(together.pooled, expected.pooled, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_scattered_rows_and_ranks_of_all_kinds_agree_with_rows_alone(tiny, order):
    kinds = [tiny_adapter(tiny, seed=1, rank=2, alpha=2.0), tiny_adapter(tiny, seed=2, rank=5, alpha=10.0)]
    first, second = (kinds[index] for index in order)
    text = encode_prompts(tiny, PROMPTS)
    rows = [first, None, second, None, first]
    with adapter_rows(tiny.unet, "unet.", rows):
        together = call(tiny, text)
    for row, adapter in enumerate(rows):
        padded = [adapter if index == row else None for index in range(5)]
        with adapter_rows(tiny.unet, "unet", padded):
            assert torch.allclose(call(tiny, text)[row], together[row], atol=1e-5)


@torch.no_grad()
def test_strengths_scale_each_rows_update(tiny, pair):
    first, _ = pair
    text = encode_prompts(tiny, PROMPTS[:3])
    with adapter_rows(tiny.unet, "unet", [first, first, first], [0.0, 0.5, 1.0]):
        weighed = call(tiny, text)
    halved = {path: delta._replace(alpha=delta.alpha / 2) for path, delta in first.deltas.items()}
    half = dataclasses.replace(first, deltas=halved)
    with adapter_rows(tiny.unet, "unet", [None, half, first]):
        expected = call(tiny, text)
    assert torch.allclose(weighed, expected, atol=1e-5)
    assert torch.equal(weighed[0], call(tiny, text)[0])


@torch.no_grad()
def test_rows_without_an_adapter_are_the_bases_bit_for_bit(tiny, pair):
    text = encode_prompts(tiny, PROMPTS[:3])
    plain = call(tiny, text)
    with adapter_rows(tiny.unet, "unet", [None, pair[0], None]):
        mixed = call(tiny, text)
    assert torch.equal(mixed[[0, 2]], plain[[0, 2]])
    assert not torch.equal(mixed[1], plain[1])


@torch.no_grad()
def test_the_component_is_as_before_also_after_an_error(tiny, pair):
    text = encode_prompts(tiny, PROMPTS[:1])
    weights = {name: tensor.clone() for name, tensor in tiny.unet.state_dict().items()}
    plain = call(tiny, text)
    with pytest.raises(RuntimeError, match="stop"), adapter_rows(tiny.unet, "unet", [pair[0]]):
        raise RuntimeError("stop")
    assert torch.equal(call(tiny, text), plain)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in tiny.unet.state_dict().items())
    assert not any(module._forward_hooks for module in tiny.unet.modules())


class Count(TorchDispatchMode):
    """Counts matrix products."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kinds = (torch.ops.aten.bmm, torch.ops.aten.mm, torch.ops.aten.addmm_, torch.ops.aten.baddbmm_)
        self.calls += func.overloadpacket in kinds
        return func(*args, **(kwargs or {}))


def count_products(base, adapters):
    """Products that the adapters add to one call."""
    text = encode_prompts(base, ("a dog",) * len(adapters))
    with adapter_rows(base.unet, "unet", adapters), Count() as counted:
        call(base, text)
    with Count() as plain:
        call(base, text)
    return counted.calls - plain.calls


def halve(adapter):
    """The same adapter in float16."""
    deltas = {path: Delta(delta.down.half(), delta.up.half(), delta.alpha) for path, delta in adapter.deltas.items()}
    return dataclasses.replace(adapter, deltas=deltas)


@torch.no_grad()
def test_matrices_that_must_be_copied_share_one_pair_of_products(tiny):
    layers = sum(path.startswith("unet.") for path in tiny_adapter(tiny).deltas)
    adapters = [tiny_adapter(tiny, seed=seed) for seed in range(3)]
    halves = [halve(item) for item in adapters]
    assert count_products(tiny, halves) == 2 * layers
    assert count_products(tiny, adapters) == 6 * layers
    text = encode_prompts(tiny, PROMPTS[:3])
    with adapter_rows(tiny.unet, "unet", halves):
        stacked = call(tiny, text)
    with adapter_rows(tiny.unet, "unet", adapters):
        assert torch.allclose(stacked, call(tiny, text), atol=2e-2)


def test_adapters_in_the_bases_format_are_used_where_they_lie(tiny, pair):
    path = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    (site,) = find_sites(tiny.unet, "unet", [None, *pair], only=lambda name: name == path)
    pairs, stacks = _gather(site)
    assert not stacks
    for own, adapter in zip(pairs, pair, strict=True):
        assert own.down.data_ptr() == adapter.deltas[path].down.data_ptr()
        assert own.up.data_ptr() == adapter.deltas[path].up.data_ptr()


@pytest.mark.parametrize("ranks", [(2, 2, 2), (2, 3, 3)])
def test_what_must_be_copied_is_copied_once_whatever_rows_a_batch_holds(tiny, ranks):
    path = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    halves = [halve(tiny_adapter(tiny, seed=rank, rank=rank)) for rank in ranks]
    (site,) = find_sites(tiny.unet, "unet", [None, *halves], only=lambda name: name == path)
    pairs, stacks = _gather(site)
    held = [*pairs, *stacks]
    memory = {part.untyped_storage().data_ptr(): part.untyped_storage() for one in held for part in (one.down, one.up)}
    deltas = [one.deltas[path] for one in halves]
    assert sum(map(len, memory.values())) == sum(4 * (d.down.numel() + d.up.numel()) for d in deltas)
    for rows in ((0, 1, 2, 3), (2,), (3, 1), (2, 3)):
        for update in _plan_updates(pairs, stacks, rows):
            assert {part.untyped_storage().data_ptr() for part in (update.down, update.up)} <= set(memory)


@torch.no_grad()
@pytest.mark.parametrize("rows", [(2,), (3, 1), (0, 4), (1, 2, 3), (4, 2, 1, 0)])
def test_copied_rows_are_found_in_any_batch(tiny, rows):
    text = encode_prompts(tiny, PROMPTS)[list(rows)]
    loads = [
        None,
        *(halve(tiny_adapter(tiny, seed=seed, rank=rank)) for seed, rank in ((1, 2), (2, 2), (3, 3), (4, 3))),
    ]
    with adapter_rows(tiny.unet, "unet", loads) as choice:
        choice.choose(rows)
        some = call(tiny, text)
    for place, row in enumerate(rows):
        with adapter_rows(tiny.unet, "unet", [loads[row] if one == place else None for one in range(len(rows))]):
            assert torch.allclose(some[place], call(tiny, text)[place], atol=1e-5)


@torch.no_grad()
def test_a_row_may_carry_the_sum_of_several_adapters(tiny, pair):
    first, second = pair
    text = encode_prompts(tiny, PROMPTS[:3])
    style = (Weighted(second, 0.5),)
    with adapter_rows(tiny.unet, "unet", [style, style, (*style, Weighted(first))]):
        together = call(tiny, text)
    joined = {}
    for path, delta in first.deltas.items():
        other = second.deltas[path]
        up = torch.cat([delta.up * delta.scale, other.up * 0.5 * other.scale], dim=1)
        joined[path] = Delta(torch.cat([delta.down, other.down]), up, float(up.shape[1]))
    both = dataclasses.replace(first, deltas=joined)
    with adapter_rows(tiny.unet, "unet", [second, second, both], [0.5, 0.5, 1.0]):
        assert torch.allclose(together, call(tiny, text), atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("rows", [(2,), (3, 1), (0,), (1, 2, 3)])
def test_a_batch_may_hold_some_of_the_rows_in_any_order(tiny, pair, rows):
    text = encode_prompts(tiny, PROMPTS[:4])[list(rows)]
    loads = [None, pair[0], pair[1], pair[0]]
    with adapter_rows(tiny.unet, "unet", loads) as choice:
        choice.choose(rows)
        some = call(tiny, text)
    with adapter_rows(tiny.unet, "unet", [loads[row] for row in rows]):
        assert torch.allclose(some, call(tiny, text), atol=1e-5)


def test_rows_that_are_not_there_cannot_be_chosen(tiny, pair):
    with adapter_rows(tiny.unet, "unet", [None, pair[0]]) as choice:
        for wrong in ((0, 0), (2,)):
            with pytest.raises(InputError, match="not of 0..1, each once"):
                choice.choose(wrong)


def test_gradient_flows_through_the_rows(tiny, pair):
    text = encode_prompts(tiny, PROMPTS[:2])
    noise = torch.cat([draw_noise(tiny, 0)] * 2).requires_grad_()
    with adapter_rows(tiny.unet, "unet", [None, pair[0]]):
        predict(tiny, noise, 400.0, text, time_ids(tiny, 2)).sum().backward()
    assert noise.grad.abs().sum(dim=(1, 2, 3)).min() > 0


def test_another_number_of_rows_is_refused(tiny, pair):
    text = encode_prompts(tiny, PROMPTS[:3])
    with adapter_rows(tiny.unet, "unet", [None, pair[0]]), pytest.raises(ShapeError, match="3 rows.*for 2"):
        call(tiny, text)
    with pytest.raises(InputError, match="strengths"), adapter_rows(tiny.unet, "unet", [None, pair[0]], [1.0]):
        pass


def test_an_adapter_that_does_not_fit_is_refused(tiny):
    whole, delta = tiny_adapter(tiny), Delta(torch.ones(2, 5), torch.ones(5, 2), 2.0)
    nowhere = "unet.up_blocks.9.attentions.0.transformer_blocks.0.attn2.to_q"
    missing = dataclasses.replace(whole, deltas={nowhere: delta})
    with pytest.raises(AdapterError, match="Rex.*no linear layer"), adapter_rows(tiny.unet, "unet", [missing]):
        pass
    path = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_q"
    wrong = dataclasses.replace(whole, deltas={path: delta})
    with pytest.raises(AdapterError, match="another shape"), adapter_rows(tiny.unet, "unet", [wrong]):
        pass


def test_the_second_encoders_updates_are_not_the_firsts(tiny):
    path = "text_encoder_2.text_model.encoder.layers.99.self_attn.q_proj"
    only_second = dataclasses.replace(tiny_adapter(tiny), deltas={path: Delta(torch.ones(2, 5), torch.ones(5, 2), 2.0)})
    with adapter_rows(tiny.text_encoders[0], "text_encoder", [only_second]):
        assert not any(module._forward_hooks for module in tiny.text_encoders[0].modules())
