"""Different adapters for each row of a batch, each merged into a copy of the weights; the base's own never change.

One copy for each different load, made once; a row then costs what it costs in the base. Equal to updates beside the
weights but for rounding: 1e-4 of the values' range in float32, 2e-2 in bfloat16. No gradient flows.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial

import torch
from torch import Tensor, nn

from d2plan.adapter.file import Delta
from d2plan.adapter.rows import Load, RowChoice, Site, adapter_rows
from d2plan.errors import ShapeError


def merged_rows(
    module: nn.Module,
    prefix: str,
    adapters: Sequence[Load],
    strengths: Sequence[float] | None = None,
    only: Callable[[str], bool] | None = None,
) -> AbstractContextManager[RowChoice]:
    """Put adapters on the rows of every batch as ``adapter_rows`` does, by merged copies of the updated layers."""
    return adapter_rows(module, prefix, adapters, strengths, only, put_merged)


def put_merged(site: Site, choice: RowChoice) -> Callable[[], object]:
    """Let a layer compute with merged copies of its weight, until the function that is given back is called."""
    # An attribute of the instance hides the class's method; taking it away brings that back.
    own = vars(site.layer)
    own["forward"] = _make_forward(site, choice)
    return partial(own.pop, "forward")


def merge_weight(weight: Tensor, terms: Sequence[tuple[Delta, float]]) -> Tensor:
    """Add low-rank updates to a copy of a weight, in float32, rounded once.

    Args:
        weight: ``[out, in]``; not changed.
        terms: updates and their factors.

    Returns:
        W + sum of factor (alpha / rank) up down, ``[out, in]``.
    """
    merged = weight.detach().float().clone()
    for delta, factor in terms:
        down, up = (half.to(weight.device, torch.float32) for half in (delta.down, delta.up))
        merged.addmm_(up, down, alpha=delta.scale * factor)
    return merged.to(weight.dtype)


def _make_forward(site: Site, choice: RowChoice) -> Callable[[Tensor], Tensor]:
    layer = site.layer
    keys = [tuple((id(delta), factor) for delta, factor in terms) for terms in site.terms]
    weights = {key: merge_weight(layer.weight, terms) for key, terms in zip(keys, site.terms, strict=True) if key}
    # As [in, out], the way the product reads them.
    matrices = {(): layer.weight.detach().T, **{key: weight.T for key, weight in weights.items()}}
    plans: dict[tuple[int, ...], list[tuple[slice, Tensor]]] = {}

    @torch.no_grad()
    def forward(states: Tensor) -> Tensor:
        rows = choice.rows
        if states.shape[0] != len(rows):
            raise ShapeError(
                f"{site.path} got a batch of {states.shape[0]} rows, but adapters were given for {len(rows)}."
            )
        if rows not in plans:
            plans[rows] = [(run, matrices[key]) for run, key in _split_by_key([keys[row] for row in rows])]
        output = states.new_empty(*states.shape[:-1], layer.out_features)
        for run, matrix in plans[rows]:
            flat, target = states[run].flatten(0, -2), output[run].flatten(0, -2)
            if layer.bias is None:
                torch.mm(flat, matrix, out=target)
            else:
                torch.addmm(layer.bias, flat, matrix, out=target)
        return output

    return forward


def _split_by_key(keys: Sequence[tuple[tuple[int, float], ...]]) -> list[tuple[slice, tuple[tuple[int, float], ...]]]:
    runs: list[tuple[slice, tuple[tuple[int, float], ...]]] = []
    for row, key in enumerate(keys):
        if runs and runs[-1][1] == key:
            runs[-1] = (slice(runs[-1][0].start, row + 1), key)
        else:
            runs.append((slice(row, row + 1), key))
    return runs
