"""The sums of the fused kernels, and the way back where they do not tell."""

import pytest
import torch
from torch.nn import functional

from d2plan.backbone import fused
from d2plan.backbone.columns import ColumnRead, ColumnSwap, TapPlan, attend_with_columns, index_columns
from d2plan.backbone.columns import attend as attend_apart
from d2plan.backbone.fused import attend_with_sums
from d2plan.errors import InputError

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
PLAN = TapPlan(
    swaps=(ColumnSwap(1, (3,), 2, (5,)), ColumnSwap(1, (6, 7), 3, (2, 4, 8))),
    reads=(ColumnRead(1, (3, 6)), ColumnRead(1, (7,))),
)


def draw(dtype=torch.float32, batch=4, heads=2, pixels=16, tokens=12, width=8):
    return tuple(
        torch.randn(batch, heads, count, width, generator=torch.Generator().manual_seed(seed)).to(dtype)
        for seed, count in enumerate((pixels, tokens, tokens))
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_output_is_the_public_calls_bit_for_bit_and_the_sums_are_right(dtype):
    query, key, value = draw(dtype)
    output, sums = attend_with_sums(query, key, value)
    assert torch.equal(output, functional.scaled_dot_product_attention(query, key, value))
    expected = (query.float() @ key.float().transpose(2, 3) / 8**0.5).logsumexp(dim=-1)
    assert sums.dtype == torch.float32 and torch.allclose(sums, expected, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", DTYPES)
def test_cuda_kernels_give_the_same_sums(dtype):
    query, key, value = (tensor.cuda() for tensor in draw(dtype, pixels=100, tokens=77, width=64))
    output, sums = attend_with_sums(query, key, value)
    assert torch.equal(output, functional.scaled_dot_product_attention(query, key, value))
    expected = (query.float() @ key.float().transpose(2, 3) / 8).logsumexp(dim=-1)
    assert sums is None or torch.allclose(sums, expected, atol=2e-2)


@pytest.mark.parametrize("break_it", ["choice", "kernel", "shape", "refusal"])
def test_where_the_kernel_does_not_tell_the_maps_are_written_out(monkeypatch, break_it):
    query, key, value = draw()
    expected, read = attend_with_columns(query, key, value, PLAN)
    if break_it == "choice":
        monkeypatch.delattr(torch, "_fused_sdp_choice")
    elif break_it == "kernel":
        monkeypatch.setattr(fused, "_on_cpu", lambda *_: fused._call_private("no_such_kernel", query, key, value))
    elif break_it == "shape":
        monkeypatch.setattr(fused, "_on_cpu", lambda *_: (query, torch.zeros(3)))
    else:
        monkeypatch.setattr(fused, "_on_cpu", lambda *_: (_ for _ in ()).throw(RuntimeError("not these sizes")))
    assert attend_with_sums(query, key, value)[1] is None
    output, other = attend_with_columns(query, key, value, PLAN)
    assert torch.allclose(output, expected, atol=1e-6) and torch.allclose(read, other, atol=1e-6)


def test_with_gradient_the_public_call_is_used():
    query, key, value = (tensor.requires_grad_() for tensor in draw())
    output, sums = attend_with_sums(query, key, value)
    assert sums is None and output.requires_grad
    with torch.no_grad():
        assert attend_with_sums(query, key, value)[1] is not None


@pytest.mark.parametrize("values", ["global", "sub"])
@pytest.mark.parametrize("order", [((2,), (3,), (1,), (0,)), ((2, 3), (0, 1)), ((3, 2, 1), (0,))])
def test_rows_that_come_apart_give_what_they_give_together(values, order):
    query, key, value = draw()
    plan = TapPlan(PLAN.swaps, PLAN.reads, values=values)
    together, read = attend_with_columns(query, key, value, plan)
    store, found, columns = {}, {}, {}
    for rows in order:
        picked = [tensor[list(rows)] for tensor in (query, key, value)]
        index = index_columns(plan, rows, 12, query)
        output, own = attend_apart(*picked, index, values, store=store)
        found |= dict(zip(rows, output, strict=True))
        columns |= {number: column for (number, _), column in zip(index.reads, own, strict=True)}
    assert not store
    assert torch.allclose(torch.stack([found[row] for row in range(4)]), together, atol=1e-6)
    assert torch.allclose(torch.stack([columns[0], columns[1]]), read, atol=1e-6)


def test_the_global_row_before_its_sub_rows_is_refused():
    query, key, value = (tensor[:1] for tensor in draw())
    with pytest.raises(InputError, match="run the sub rows first"):
        attend_apart(query, key, value, index_columns(PLAN, (1,), 12, query), "global", store={})


def test_columns_are_more_exact_in_half_precision_than_written_out_maps():
    query, key, value = (tensor.to(torch.bfloat16) for tensor in draw(pixels=64, width=64))
    exact = (query.double() @ key.double().transpose(2, 3) / 8).softmax(dim=-1)
    wanted = torch.stack([exact[1, :, :, [3, 6]].sum(dim=-1), exact[1, :, :, 7]])
    _, read = attend_with_columns(query, key, value, PLAN)
    coarse = (query @ key.transpose(2, 3) / 8).float().softmax(dim=-1)
    written = torch.stack([coarse[1, :, :, [3, 6]].sum(dim=-1), coarse[1, :, :, 7]])
    assert (read - wanted).abs().max() < (written - wanted).abs().max()
