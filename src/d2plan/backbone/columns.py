"""Columns of cross-attention maps: which to read and replace, and attention that does so without the maps.

Paper: eq. (7). ``d2plan.isp.calibration.calibrate_map`` is the same on a written-out map.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from d2plan.backbone.fused import attend_with_sums
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


class Weighed(NamedTuple):
    """What a swap adds to the global row: columns times values.

    Attributes:
        columns: a_s, ``[heads, q, c]`` float32, 0..1.
        values: what they weigh, ``[heads, c, d]``.
    """

    columns: Tensor
    values: Tensor


class _Entry(NamedTuple):
    """Where columns stand among those computed: of the ``place``-th row, from ``start`` to ``stop``."""

    place: int
    start: int
    stop: int


class _Swap(NamedTuple):
    """A swap as one batch sees it; ``entry`` or ``target`` is None when that row is not in the batch."""

    number: int
    positions: tuple[int, ...]
    source_positions: tuple[int, ...]
    entry: _Entry | None
    source: int
    target: int | None


class Columns(NamedTuple):
    """A plan as one batch needs it.

    Attributes:
        rows: whose columns are needed, a slice where they lie side by side, or ``[r]``.
        tokens: which, ``[r, c]``, filled up with the first token.
        reads: by read of the plan that is in the batch, its number and where it stands.
        swaps: those with a row in the batch.
        keep: 0 for a replaced column, else 1, ``[b, 1, n, 1]``; None when none is replaced.
    """

    rows: slice | Tensor
    tokens: Tensor
    reads: tuple[tuple[int, _Entry], ...]
    swaps: tuple[_Swap, ...]
    keep: Tensor | None


def attend_with_columns(
    query: Tensor, key: Tensor, value: Tensor, plan: TapPlan, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Run cross-attention with some columns replaced and some read.

    Exact, and without a probability matrix: with value rows k set to zero the fused attention leaves those columns
    out (the softmax's denominator stays), and a_s[:, j] v_k is added; a single column is exp(score - log sum exp),
    whose sum the fused kernel knows. Where it does not tell (with gradient, or a mask on the scores) the rows that
    are read are written out, one layer at a time.

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
    batch, tokens = query.shape[0], key.shape[2]
    check_plan(plan, batch, tokens)
    columns = index_columns(plan, range(batch), tokens, query)
    output, read = attend(query, key, value, columns, plan.values, mask=mask)
    return output, torch.stack(read) if read else query.new_zeros((0, *query.shape[1:3]), dtype=torch.float32)


def check_plan(plan: TapPlan, count: int, tokens: int) -> None:
    """Make sure that a plan names nothing outside of its rows.

    Args:
        plan: for all rows.
        count: how many these are.
        tokens: n of each.

    Raises:
        InputError: a row or position lies outside.
    """
    entries = [(read.row, read.positions) for read in plan.reads]
    for swap in plan.swaps:
        entries += [(swap.row, swap.positions), (swap.source, swap.source_positions)]
    for row, positions in entries:
        if not 0 <= row < count:
            raise InputError(f"The plan names row {row}, but the batch has {count} rows; count from 0.")
        if not all(0 <= position < tokens for position in positions):
            raise InputError(f"The plan names the tokens {positions}, but there are {tokens}; count from 0.")


def index_columns(
    plan: TapPlan, rows: Sequence[int], tokens: int, like: Tensor, *, reads: bool = True, swaps: bool = True
) -> Columns:
    """Write a plan out for a batch that holds some of its rows.

    Args:
        plan: for all rows, checked by ``check_plan``.
        rows: of the plan, those that the batch holds, in its order.
        tokens: n of each row.
        like: a tensor on the device and in the number format of the attention.
        reads: whether maps are collected.
        swaps: whether columns are replaced.

    Returns:
        The indices.
    """
    places = {row: place for place, row in enumerate(rows)}
    asked_reads, asked_swaps = plan.reads if reads else (), plan.swaps if swaps else ()
    cells: dict[int, list[int]] = {}

    def enter(row: int, positions: tuple[int, ...]) -> _Entry | None:
        if row not in places:
            return None
        known = cells.setdefault(places[row], [])
        known.extend(positions)
        return _Entry(places[row], len(known) - len(positions), len(known))

    entered = [(number, enter(read.row, read.positions)) for number, read in enumerate(asked_reads)]
    held = [
        _Swap(
            number,
            swap.positions,
            swap.source_positions,
            enter(swap.source, swap.source_positions),
            places.get(swap.source, -1),
            places.get(swap.row),
        )
        for number, swap in enumerate(asked_swaps)
        if swap.source in places or swap.row in places
    ]
    needed = sorted(cells)
    width = max((len(positions) for positions in cells.values()), default=0)
    padded = [cells[place] + [0] * (width - len(cells[place])) for place in needed]

    def locate(entry: _Entry | None) -> _Entry | None:
        return None if entry is None else entry._replace(place=needed.index(entry.place))

    keep = torch.ones(len(rows), tokens)
    for swap in held:
        if swap.target is not None:
            keep[swap.target, list(swap.positions)] = 0
    return Columns(
        rows=_as_rows(needed, like.device),
        tokens=torch.tensor(padded, dtype=torch.long, device=like.device).view(len(needed), width),
        reads=tuple((number, found) for number, entry in entered if (found := locate(entry)) is not None),
        swaps=tuple(swap._replace(entry=locate(swap.entry)) for swap in held),
        keep=keep[:, None, :, None].to(like.device, like.dtype) if (keep == 0).any() else None,
    )


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    columns: Columns,
    values: str,
    *,
    store: dict[int, Weighed] | None = None,
    mask: Tensor | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """Run cross-attention as ``attend_with_columns`` does, for a batch that may hold some rows of a scene alone.

    Args:
        query: ``[b, heads, q, d]``.
        key: ``[b, heads, n, d]``.
        value: ``[b, heads, n, d]``.
        columns: from ``index_columns``.
        values: "global" or "sub", as in ``TapPlan``.
        store: keeps what sub rows have to give until the global row comes, by swap; needed when they come apart.
        mask: added to the scores.

    Returns:
        The output ``[b, heads, q, d]``, and the columns read, ``[heads, q]`` float32 each.

    Raises:
        InputError: the global row comes before its sub rows.
    """
    kept = value if columns.keep is None else value * columns.keep
    if not columns.tokens.numel():
        output, found = _plain(query, key, kept, mask), query.new_zeros(0)
    else:
        output, found = _attend_and_find(query, key, kept, columns, mask)
    read = [found[entry.place, :, :, entry.start : entry.stop].sum(dim=-1) for _, entry in columns.reads]
    if any(swap.target is not None for swap in columns.swaps) and output.requires_grad:
        output = output.clone()  # the kernel keeps its output for the way back
    for swap in columns.swaps:
        weighed = _weigh(swap, found, value, values) if swap.entry else _recall(store, swap.number)
        if swap.target is None:
            assert store is not None
            store[swap.number] = weighed
        else:
            _add_columns(output, swap, weighed, value, values)
    return output, read


def _plain(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def _attend_and_find(
    query: Tensor, key: Tensor, value: Tensor, columns: Columns, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Run attention; give also the columns that are needed, ``[r, heads, q, c]`` float32."""
    scale = query.shape[-1] ** -0.5
    picks = columns.tokens[:, None, :, None]
    if mask is None:
        output, sums = attend_with_sums(query, key, value)
        if sums is not None:
            keys = key[columns.rows].gather(2, picks.expand(-1, key.shape[1], -1, key.shape[3])).float()
            scores = query[columns.rows].float() @ keys.transpose(2, 3)
            return output, (scores * scale - sums[columns.rows].unsqueeze(-1)).exp()
    else:
        output = _plain(query, key, value, mask)
    scores = (query[columns.rows] @ key[columns.rows].transpose(2, 3) * scale).float()
    if mask is not None:
        scores = scores + mask.expand(query.shape[0], -1, -1, -1)[columns.rows]
    shape = (*scores.shape[:3], columns.tokens.shape[1])
    return output, scores.softmax(dim=-1).gather(3, columns.tokens[:, None, None, :].expand(shape))


def _weigh(swap: _Swap, found: Tensor, value: Tensor, values: str) -> Weighed:
    """Take what a swap's sub row gives; values of the global row are left to it."""
    assert swap.entry is not None
    own = found[swap.entry.place, :, :, swap.entry.start : swap.entry.stop]
    if values == "sub":
        return Weighed(own, value[swap.source][:, list(swap.source_positions)])
    return Weighed(own.sum(dim=-1, keepdim=True), value[swap.source][:, :0])


def _recall(store: dict[int, Weighed] | None, number: int) -> Weighed:
    if store is None or number not in store:
        raise InputError("The global row came before the sub row whose column it takes; run the sub rows first.")
    return store.pop(number)


def _add_columns(output: Tensor, swap: _Swap, weighed: Weighed, value: Tensor, values: str) -> None:
    assert swap.target is not None
    of = weighed.values if values == "sub" else value[swap.target][:, list(swap.positions)].mean(dim=1, keepdim=True)
    row = output[swap.target]
    if row.dtype == torch.float32 and weighed.columns.shape[-1] == 1:
        row.addcmul_(weighed.columns, of)
    elif row.dtype == torch.float32:
        row.baddbmm_(weighed.columns, of)
    else:
        row += (weighed.columns @ of.float()).to(row.dtype)


def _as_rows(rows: list[int], device: torch.device) -> slice | Tensor:
    if rows and rows == list(range(rows[0], rows[-1] + 1)):
        return slice(rows[0], rows[-1] + 1)
    return torch.tensor(rows, dtype=torch.long, device=device)
