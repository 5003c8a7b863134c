"""The column tap: read and replace columns of the cross-attention maps while the U-Net runs.

A plan says which columns; ``tap_columns`` puts it on all cross-attention layers and takes it off again. Nothing of
the size pixels x tokens x heads outlives a layer: only the columns asked for do, as means over heads.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0
from torch import Tensor
from torch.nn import functional

from d2plan.errors import InputError


class ColumnRead(NamedTuple):
    """A map to collect: the columns of ``positions`` of one row of the batch, summed.

    Attributes:
        row: of the batch.
        positions: tokens.
    """

    row: int
    positions: tuple[int, ...]


class ColumnSwap(NamedTuple):
    """One instance of eq. (7): columns k of the global row give way to columns j of a sub row.

    The sub row's columns are summed and each of the global row's takes an equal share.

    Attributes:
        row: the global row r of the batch.
        positions: k, the class word's tokens.
        source: the sub row.
        source_positions: j, the identifier's tokens.
    """

    row: int
    positions: tuple[int, ...]
    source: int
    source_positions: tuple[int, ...]


@dataclass(frozen=True)
class TapPlan:
    """What to do with the columns of one batch; several scenes may share it, each with rows of its own.

    Attributes:
        swaps: columns to replace, eq. (7).
        reads: maps to collect, as they are before any replacement.
        levels: collect at these levels only (0 is the latent's own size, each next one half of it); None is all.
        values: whose values a replaced column weighs, the global row's (eq. 7) or the sub row's.
    """

    swaps: tuple[ColumnSwap, ...] = ()
    reads: tuple[ColumnRead, ...] = ()
    levels: frozenset[int] | None = None
    values: Literal["global", "sub"] = "global"

    def __post_init__(self) -> None:
        """Refuse a plan that no batch can follow."""
        taken: set[tuple[int, int]] = set()
        for swap in self.swaps:
            cells = {(swap.row, position) for position in swap.positions}
            if not swap.positions or not swap.source_positions:
                raise InputError(f"The swap into row {swap.row} names no tokens; give positions and source_positions.")
            if cells & taken or len(cells) != len(swap.positions):
                raise InputError(f"Two swaps replace a same column of row {swap.row}; give each instance its own word.")
            taken |= cells
        if any(not read.positions for read in self.reads):
            raise InputError("A read names no tokens; give it positions.")


class _Columns(NamedTuple):
    """A plan as index tensors, for one batch shape.

    ``rows`` are the rows whose softmax is needed, ``picks`` their columns' weights ``[rows, n, c]``; ``reads`` and
    ``sources`` say where in ``[rows, c]`` each entry stands; ``targets``, ``shares`` ``[swaps, n]`` and ``keep``
    ``[b, 1, n, 1]`` serve the replacement.
    """

    rows: Tensor
    picks: Tensor
    reads: tuple[Tensor, Tensor]
    sources: tuple[Tensor, Tensor]
    targets: Tensor
    source_rows: Tensor
    source_weights: Tensor
    shares: Tensor
    keep: Tensor


@dataclass
class ColumnTap:
    """The maps that a tap has collected since it was put on, or since ``clear``.

    Attributes:
        plan: what it follows.
    """

    plan: TapPlan
    _sums: dict[int, Tensor] = field(default_factory=dict)
    _counts: dict[int, int] = field(default_factory=dict)
    _columns: dict[tuple[object, ...], _Columns] = field(default_factory=dict)

    @property
    def levels(self) -> tuple[int, ...]:
        """The levels at which maps have been collected, ascending."""
        return tuple(sorted(self._sums))

    def maps(self, level: int) -> Tensor:
        """Give the collected maps of one level.

        Args:
            level: 0 is the latent's own size, each next one half of it.

        Returns:
            ``[reads, q]``: attention probability 0..1 of each read's tokens together, at each of q pixels (row by
            row), mean over heads, layers and U-Net calls, float32; gradient flows if it was on in the call.

        Raises:
            InputError: nothing was collected there.
        """
        if level not in self._sums:
            raise InputError(
                f"No maps were collected at level {level}, only at {list(self.levels)}; choose one of them."
            )
        return self._sums[level] / self._counts[level]

    def clear(self) -> None:
        """Forget what was collected."""
        self._sums.clear()
        self._counts.clear()

    def _collects(self, level: int) -> bool:
        return bool(self.plan.reads) and (self.plan.levels is None or level in self.plan.levels)

    def _add(self, level: int, columns: Tensor) -> None:
        mean = columns.float().mean(dim=1)
        self._sums[level] = self._sums[level] + mean if level in self._sums else mean
        self._counts[level] = self._counts.get(level, 0) + 1

    def _prepare(self, batch: int, tokens: int, like: Tensor, collect: bool) -> _Columns:
        key = (batch, tokens, like.device, like.dtype, collect)
        if key not in self._columns:
            reads = self.plan.reads if collect else ()
            self._columns[key] = _index_plan(self.plan.swaps, reads, (batch, tokens), like)
        return self._columns[key]


@contextmanager
def tap_columns(unet: UNet2DConditionModel, plan: TapPlan) -> Iterator[ColumnTap]:
    """Follow a plan in every cross-attention layer while the block runs; afterwards the U-Net is as before.

    Paper: eq. (7), and the maps of eq. (4).

    Args:
        unet: the denoiser; self-attention is left alone.
        plan: for the batch that is passed through it.

    Yields:
        The tap, which holds the collected maps.

    Raises:
        InputError: a layer does not run plain attention (another tap, or an IP-Adapter, is on).
    """
    tap = ColumnTap(plan)
    layers = list(_cross_attention_layers(unet))
    before = [layer.processor for _, layer, _ in layers]
    for (name, _, _), processor in zip(layers, before, strict=True):
        if type(processor) not in (AttnProcessor, AttnProcessor2_0):
            raise InputError(f"{name} runs {type(processor).__name__}; take that off before reading attention.")
    try:
        for _, layer, level in layers:
            layer.set_processor(_TapProcessor(tap, level))
        yield tap
    finally:
        for (_, layer, _), processor in zip(layers, before, strict=True):
            layer.set_processor(processor)


def level_size(latent_size: tuple[int, int], level: int) -> tuple[int, int]:
    """Say how large a level's maps are.

    >>> level_size((33, 32), 1)
    (17, 16)

    Args:
        latent_size: height and width of the latents, cells.
        level: how often it is halved.

    Returns:
        Height and width, cells.
    """
    height, width = latent_size
    for _ in range(level):
        height, width = (height + 1) // 2, (width + 1) // 2
    return height, width


def attention_levels(unet: UNet2DConditionModel) -> tuple[int, ...]:
    """Name the levels that have cross-attention.

    Args:
        unet: the denoiser.

    Returns:
        Ascending; 0 is the latent's own size.
    """
    return tuple(sorted({level for _, _, level in _cross_attention_layers(unet)}))


def coarsest_level(unet: UNet2DConditionModel, latent_size: tuple[int, int], least: int = 8) -> int:
    """Choose the level whose maps eq. (4) compares: the coarsest that still shows where things are.

    On SDXL at 1024 px these are the 32x32 maps, as in the paper's description of its layers.

    Args:
        unet: the denoiser.
        latent_size: height and width of the latents, cells.
        least: cells that the shorter side must have.

    Returns:
        A level with cross-attention; the finest one when all are smaller than ``least``.
    """
    levels = attention_levels(unet)
    fine = [level for level in levels if min(level_size(latent_size, level)) >= least]
    return fine[-1] if fine else levels[0]


def attend_with_columns(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    plan: TapPlan,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Run cross-attention with some columns replaced and some read.

    Exact, and without the global row's probability matrix: with value rows k set to zero the fused attention leaves
    those columns out (the softmax's denominator stays), and a_s[:, j] v_k is added; a_s is materialised for the
    rows that are read, then dropped.

    Paper: eq. (7).

    Args:
        query: ``[b, heads, q, d]``.
        key: ``[b, heads, n, d]``.
        value: ``[b, heads, n, d]``.
        plan: its rows are this batch's, its positions are below n; ``levels`` does not matter here.
        mask: added to the scores, broadcast to ``[b, heads, q, n]``.

    Returns:
        The output ``[b, heads, q, d]``, and the columns read, ``[reads, heads, q]`` in float32, 0..1.

    Raises:
        InputError: a row or position lies outside.
    """
    columns = _index_plan(plan.swaps, plan.reads, (query.shape[0], key.shape[2]), query)
    return _attend(query, key, value, columns, plan.values, mask)


class _TapProcessor:
    """diffusers' plain attention with the columns of a plan; one for each layer."""

    def __init__(self, tap: ColumnTap, level: int) -> None:
        self._tap = tap
        self._level = level

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        if attn.norm_cross:
            context = attn.norm_encoder_hidden_states(context)
        query, key, value = attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context)
        query, key, value = (_split(states, attn.heads) for states in (query, key, value))
        batch, tokens = key.shape[0], key.shape[2]
        if attention_mask is not None:
            attention_mask = attn.prepare_attention_mask(attention_mask, tokens, batch)
            attention_mask = attention_mask.view(batch, attn.heads, -1, tokens)
        collect = self._tap._collects(self._level)
        columns = self._tap._prepare(batch, tokens, query, collect)
        states, read = _attend(query, key, value, columns, self._tap.plan.values, attention_mask)
        if collect:
            self._tap._add(self._level, read)
        states = states.transpose(1, 2).flatten(2).to(query.dtype)
        states = attn.to_out[1](attn.to_out[0](states))
        if attn.residual_connection:
            states = states + hidden_states
        return states / attn.rescale_output_factor


def _attend(
    query: Tensor, key: Tensor, value: Tensor, columns: _Columns, values: str, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    swapped = columns.targets.numel() > 0
    kept = value * columns.keep if swapped else value
    output = functional.scaled_dot_product_attention(query, key, kept, attn_mask=mask)
    if columns.rows.numel() == 0:
        return output, query.new_zeros((0, *query.shape[1:3]), dtype=torch.float32)
    scores = query[columns.rows] @ key[columns.rows].transpose(2, 3) * query.shape[-1] ** -0.5
    if mask is not None:
        scores = scores + mask.expand(query.shape[0], -1, -1, -1)[columns.rows]
    probabilities = scores.float().softmax(dim=-1)
    sums = (probabilities @ columns.picks[:, None]).permute(0, 3, 1, 2)
    read = sums[columns.reads]
    if not swapped:
        return output, read
    if values == "global":
        shared = torch.einsum("sn,shnd->shd", columns.shares, value[columns.targets].float())
        added = sums[columns.sources][..., None] * shared[:, :, None]
    else:
        weighed = value[columns.source_rows].float() * columns.source_weights[:, None, :, None]
        places = columns.sources[0]
        added = probabilities[places] @ weighed
    return output.index_add(0, columns.targets, added.to(output.dtype)), read


def _index_plan(
    swaps: tuple[ColumnSwap, ...], reads: tuple[ColumnRead, ...], shape: tuple[int, int], like: Tensor
) -> _Columns:
    batch, tokens = shape
    entries = [(swap.source, swap.source_positions) for swap in swaps] + [(read.row, read.positions) for read in reads]
    _check_inside([*entries, *((swap.row, swap.positions) for swap in swaps)], batch, tokens)
    rows = sorted({row for row, _ in entries})
    places: list[tuple[int, int]] = []
    used = [0] * len(rows)
    for row, _ in entries:
        index = rows.index(row)
        places.append((index, used[index]))
        used[index] += 1
    picks = torch.zeros(len(rows), tokens, max(used, default=0))
    for (index, column), (_, positions) in zip(places, entries, strict=True):
        picks[index, list(positions), column] = 1
    shares, weights, keep = torch.zeros(len(swaps), tokens), torch.zeros(len(swaps), tokens), torch.ones(batch, tokens)
    for index, swap in enumerate(swaps):
        shares[index, list(swap.positions)] = 1 / len(swap.positions)
        weights[index, list(swap.source_positions)] = 1
        keep[swap.row, list(swap.positions)] = 0
    return _Columns(
        rows=_indices(rows, like),
        picks=picks.to(like.device),
        reads=_pairs(places[len(swaps) :], like),
        sources=_pairs(places[: len(swaps)], like),
        targets=_indices([swap.row for swap in swaps], like),
        source_rows=_indices([swap.source for swap in swaps], like),
        source_weights=weights.to(like.device),
        shares=shares.to(like.device),
        keep=keep[:, None, :, None].to(like.device, like.dtype),
    )


def _check_inside(entries: Iterable[tuple[int, tuple[int, ...]]], batch: int, tokens: int) -> None:
    for row, positions in entries:
        if not 0 <= row < batch:
            raise InputError(f"The plan names row {row}, but the batch has {batch} rows; count from 0.")
        if not all(0 <= position < tokens for position in positions):
            raise InputError(f"The plan names the tokens {positions}, but there are {tokens}; count from 0.")


def _indices(values: list[int], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.long, device=like.device)


def _pairs(places: list[tuple[int, int]], like: Tensor) -> tuple[Tensor, Tensor]:
    return _indices([row for row, _ in places], like), _indices([column for _, column in places], like)


def _split(states: Tensor, heads: int) -> Tensor:
    return states.unflatten(-1, (heads, -1)).transpose(1, 2)


def _cross_attention_layers(unet: UNet2DConditionModel) -> Iterator[tuple[str, Attention, int]]:
    deepest = len(unet.config.block_out_channels) - 1
    for name, module in unet.named_modules():
        if isinstance(module, Attention) and module.is_cross_attention:
            place, _, rest = name.partition(".")
            block = int(rest.partition(".")[0]) if place != "mid_block" else 0
            yield name, module, {"down_blocks": block, "mid_block": deepest, "up_blocks": deepest - block}[place]
