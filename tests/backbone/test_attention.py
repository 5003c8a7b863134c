"""The column tap, against attention with all its probabilities written out."""

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor2_0

from d2plan.backbone.attention import (
    ColumnRead,
    ColumnSwap,
    TapPlan,
    attend_with_columns,
    attention_levels,
    coarsest_level,
    level_size,
    tap_columns,
)
from d2plan.backbone.sdxl import draw_noise, encode_prompts, latent_size, predict, time_ids
from d2plan.errors import InputError

SWAPS = (
    ColumnSwap(row=1, positions=(3,), source=2, source_positions=(5,)),
    ColumnSwap(row=1, positions=(6, 7), source=3, source_positions=(2, 4, 8)),
    ColumnSwap(row=5, positions=(4,), source=6, source_positions=(4, 5)),
)
READS = (ColumnRead(1, (3,)), ColumnRead(1, (6, 7)), ColumnRead(6, (4, 5)), ColumnRead(2, (5,)))


def draw_attention(batch=7, heads=2, pixels=16, tokens=12, width=8):
    return tuple(
        torch.randn(batch, heads, count, width, generator=torch.Generator().manual_seed(seed))
        for seed, count in enumerate((pixels, tokens, tokens))
    )


def materialise(query, key):
    return (query @ key.transpose(2, 3) / query.shape[-1] ** 0.5).softmax(dim=-1)


def replace_columns(maps, swaps):
    calibrated = maps.clone()
    for swap in swaps:
        column = maps[swap.source][..., list(swap.source_positions)].sum(dim=-1)
        for position in swap.positions:
            calibrated[swap.row, :, :, position] = column / len(swap.positions)
    return calibrated


def test_replaced_columns_equal_the_written_out_maps_of_equation_7():
    query, key, value = draw_attention()
    output, _ = attend_with_columns(query, key, value, TapPlan(swaps=SWAPS))
    expected = replace_columns(materialise(query, key), SWAPS) @ value
    assert torch.allclose(output, expected, atol=1e-5)


def test_only_the_global_rows_change():
    query, key, value = draw_attention()
    plain, _ = attend_with_columns(query, key, value, TapPlan())
    output, _ = attend_with_columns(query, key, value, TapPlan(swaps=SWAPS))
    changed = {row for row in range(7) if not torch.equal(plain[row], output[row])}
    assert changed == {1, 5}


def test_columns_read_are_the_softmax_before_any_replacement():
    query, key, value = draw_attention()
    _, read = attend_with_columns(query, key, value, TapPlan(swaps=SWAPS, reads=READS))
    maps = materialise(query, key)
    expected = torch.stack([maps[entry.row][..., list(entry.positions)].sum(dim=-1) for entry in READS])
    assert torch.allclose(read, expected, atol=1e-6)


def test_a_column_replaced_by_itself_changes_nothing():
    query, key, value = draw_attention()
    same = query.clone(), key.clone(), value.clone()
    for tensor in same:
        tensor[2] = tensor[1]
    swap = ColumnSwap(1, (3,), 2, (3,))
    output, _ = attend_with_columns(*same, TapPlan(swaps=(swap,)))
    plain, _ = attend_with_columns(*same, TapPlan())
    assert torch.allclose(output, plain, atol=1e-6)


def test_values_of_the_sub_row_are_weighed_by_their_own_columns():
    query, key, value = draw_attention()
    output, _ = attend_with_columns(query, key, value, TapPlan(swaps=SWAPS[1:2], values="sub"))
    maps = materialise(query, key)
    kept = maps[1].clone()
    kept[..., [6, 7]] = 0
    positions = [2, 4, 8]
    expected = kept @ value[1] + maps[3][..., positions] @ value[3][:, positions]
    assert torch.allclose(output[1], expected, atol=1e-5)


def test_a_mask_on_the_scores_is_respected():
    query, key, value = draw_attention()
    mask = torch.zeros(7, 1, 1, 12)
    mask[..., 9:] = float("-inf")
    output, read = attend_with_columns(query, key, value, TapPlan(SWAPS, READS), mask)
    cut, cut_read = attend_with_columns(query, key[:, :, :9], value[:, :, :9], TapPlan(SWAPS, READS))
    assert torch.allclose(output, cut, atol=1e-5)
    assert torch.allclose(read, cut_read, atol=1e-6)


def test_half_precision_is_near_the_written_out_maps():
    query, key, value = draw_attention()
    low = [tensor.to(torch.bfloat16) for tensor in (query, key, value)]
    output, _ = attend_with_columns(*low, TapPlan(swaps=SWAPS))
    exact = replace_columns(materialise(*(t.float() for t in low[:2])), SWAPS) @ low[2].float()
    assert output.dtype == torch.bfloat16
    assert (output.float() - exact).abs().max() < 3e-2


def test_gradient_flows_through_what_is_read_and_replaced():
    query, key, value = (tensor.double().requires_grad_() for tensor in draw_attention(pixels=4))
    output, read = attend_with_columns(query, key, value, TapPlan(SWAPS, READS))
    (output.sin().sum() + (read**2).sum()).backward()
    own = [tensor.grad.clone() for tensor in (query, key, value)]
    for tensor in (query, key, value):
        tensor.grad = None
    maps = materialise(query, key)
    written = torch.stack([maps[entry.row][..., list(entry.positions)].sum(dim=-1) for entry in READS])
    ((replace_columns(maps, SWAPS) @ value).sin().sum() + (written**2).sum()).backward()
    assert all(torch.allclose(a, t.grad, atol=1e-5) for a, t in zip(own, (query, key, value), strict=True))


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (TapPlan(reads=(ColumnRead(7, (1,)),)), "row 7"),
        (TapPlan(reads=(ColumnRead(0, (12,)),)), "12"),
        (TapPlan(swaps=(ColumnSwap(9, (1,), 0, (1,)),)), "row 9"),
        (TapPlan(swaps=(ColumnSwap(1, (1,), 0, (-1,)),)), "-1"),
    ],
)
def test_rows_and_tokens_outside_the_batch_are_refused(plan, message):
    with pytest.raises(InputError, match=message):
        attend_with_columns(*draw_attention(), plan)


def test_plans_that_contradict_themselves_are_refused():
    with pytest.raises(InputError, match="same column"):
        TapPlan(swaps=(ColumnSwap(1, (3, 4), 2, (5,)), ColumnSwap(1, (4,), 3, (5,))))
    with pytest.raises(InputError, match="no tokens"):
        TapPlan(swaps=(ColumnSwap(1, (), 2, (5,)),))
    with pytest.raises(InputError, match="no tokens"):
        TapPlan(reads=(ColumnRead(1, ()),))


def call(base, prompts=("a dog on the beach", "a <v1> dog", "a cat"), latents=None):
    text = encode_prompts(base, list(prompts))
    noise = draw_noise(base, 0) if latents is None else latents
    return predict(base, noise.expand(len(text), -1, -1, -1), 500.0, text, time_ids(base, len(text)))


def record_attention(base):
    """Let every cross-attention layer write its maps out the long way."""
    seen = []

    class Recorder(AttnProcessor2_0):
        def __call__(self, attn, hidden_states, encoder_hidden_states=None, **others):
            query, key = attn.to_q(hidden_states), attn.to_k(encoder_hidden_states)
            query, key = (t.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for t in (query, key))
            seen.append(materialise(query, key))
            return super().__call__(attn, hidden_states, encoder_hidden_states, **others)

    for name, module in base.unet.named_modules():
        if name.endswith("attn2"):
            module.set_processor(Recorder())
    return seen


@torch.no_grad()
def test_the_tap_collects_means_over_heads_and_layers_of_each_level(tiny):
    plan = TapPlan(reads=(ColumnRead(0, (2,)), ColumnRead(1, (2, 3))))
    with tap_columns(tiny.unet, plan) as tap:
        call(tiny)
    seen = record_attention(tiny)
    call(tiny)
    assert tap.levels == attention_levels(tiny.unet) == (1, 2)
    for level, pixels in ((1, 256), (2, 64)):
        layers = [maps for maps in seen if maps.shape[2] == pixels]
        expected = torch.stack([maps.mean(dim=1) for maps in layers]).mean(dim=0)
        assert torch.allclose(tap.maps(level)[0], expected[0, :, 2], atol=1e-6)
        assert torch.allclose(tap.maps(level)[1], expected[1, :, 2:4].sum(dim=-1), atol=1e-6)


@torch.no_grad()
def test_several_calls_are_averaged_until_cleared(tiny):
    plan = TapPlan(reads=(ColumnRead(0, (2,)),), levels=frozenset({2}))
    first, second = draw_noise(tiny, 0), draw_noise(tiny, 1)
    with tap_columns(tiny.unet, plan) as tap:
        maps = []
        for noise in (first, second):
            call(tiny, latents=noise)
            maps.append(tap.maps(2))
            tap.clear()
        for noise in (first, second):
            call(tiny, latents=noise)
        assert torch.allclose(tap.maps(2), (maps[0] + maps[1]) / 2, atol=1e-7)
        assert tap.levels == (2,)
    with pytest.raises(InputError, match="level 1"):
        tap.maps(1)


@torch.no_grad()
def test_an_empty_plan_leaves_the_prediction_bit_for_bit(tiny):
    plain = call(tiny)
    with tap_columns(tiny.unet, TapPlan()):
        assert torch.equal(call(tiny), plain)
    with tap_columns(tiny.unet, TapPlan(reads=(ColumnRead(0, (1,)),))):
        assert torch.equal(call(tiny), plain)


@torch.no_grad()
def test_a_swap_changes_the_prediction_of_the_global_row_alone(tiny):
    plain = call(tiny)
    with tap_columns(tiny.unet, TapPlan(swaps=(ColumnSwap(0, (2,), 1, (2,)),))):
        calibrated = call(tiny)
    assert not torch.allclose(plain[0], calibrated[0], atol=1e-6)
    assert torch.equal(plain[1:], calibrated[1:])


@torch.no_grad()
def test_scenes_in_one_batch_equal_scenes_one_by_one(tiny):
    prompts = ("a dog on the beach", "a <v1> dog", "a man at night", "a <v2> man")
    swaps = (ColumnSwap(0, (2,), 1, (2, 3)), ColumnSwap(2, (2,), 3, (2,)))
    with tap_columns(tiny.unet, TapPlan(swaps=swaps)):
        together = call(tiny, prompts)
    for scene in (0, 1):
        own = swaps[scene]._replace(row=0, source=1)
        with tap_columns(tiny.unet, TapPlan(swaps=(own,))):
            alone = call(tiny, prompts[2 * scene : 2 * scene + 2])
        assert torch.allclose(together[2 * scene : 2 * scene + 2], alone, atol=1e-5)


def test_the_unet_is_as_before_also_after_an_error(tiny):
    before = {name: module for name, module in tiny.unet.attn_processors.items()}
    with pytest.raises(RuntimeError, match="stop"), tap_columns(tiny.unet, TapPlan(reads=(ColumnRead(0, (1,)),))):
        raise RuntimeError("stop")
    after = tiny.unet.attn_processors
    assert before.keys() == after.keys()
    assert all(before[name] is after[name] for name in before)


def test_self_attention_is_left_alone(tiny):
    before = {name: item for name, item in tiny.unet.attn_processors.items() if "attn1" in name}
    with tap_columns(tiny.unet, TapPlan()):
        inside = tiny.unet.attn_processors
        assert all(inside[name] is item for name, item in before.items())


def test_two_taps_at_once_are_refused(tiny):
    with (
        tap_columns(tiny.unet, TapPlan()),
        pytest.raises(InputError, match="attn2"),
        tap_columns(tiny.unet, TapPlan()),
    ):
        pass


def test_gradient_reaches_the_weights_through_collected_maps(tiny):
    tiny.unet.requires_grad_(True)
    plan = TapPlan(reads=(ColumnRead(1, (2,)),), levels=frozenset({2}))
    with tap_columns(tiny.unet, plan) as tap:
        call(tiny)
        (tap.maps(2) ** 2).sum().backward()
    weight = tiny.unet.mid_block.attentions[0].transformer_blocks[0].attn2.to_k.weight
    assert weight.grad is not None
    assert weight.grad.abs().sum() > 0


@torch.no_grad()
def test_a_tap_keeps_only_small_maps(tiny):
    plan = TapPlan(swaps=(ColumnSwap(0, (2,), 1, (2,)),), reads=(ColumnRead(0, (2,)),))
    with tap_columns(tiny.unet, plan) as tap:
        call(tiny)
    kept = [tensor for level in tap._sums.values() for tensor in level.values()]
    assert sum(tensor.numel() for tensor in kept) == 256 + 64


def test_levels_follow_the_halving_of_the_latents(tiny):
    assert attention_levels(tiny.unet) == (1, 2)
    assert level_size((32, 32), 2) == (8, 8)
    assert level_size((33, 32), 1) == (17, 16)
    assert coarsest_level(tiny.unet, (32, 32)) == 2
    assert coarsest_level(tiny.unet, (24, 40)) == 1
    assert coarsest_level(tiny.unet, (8, 8)) == 1


@torch.no_grad()
def test_maps_of_an_odd_size_have_the_pixels_that_their_level_says(tiny):
    cells = latent_size(tiny, (100, 132))
    with tap_columns(tiny.unet, TapPlan(reads=(ColumnRead(0, (1,)),))) as tap:
        call(tiny, latents=draw_noise(tiny, 0, (100, 132)))
    for level in tap.levels:
        height, width = level_size(cells, level)
        assert tap.maps(level).shape == (1, height * width)
