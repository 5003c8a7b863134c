"""Different adapters for each row of a batch, while one copy of the weights stays as it is.

``adapter_rows`` adds the low-rank updates beside the layers' weights; ``d2plan.adapter.merged`` tells it to use merged
copies of them, which is faster and takes more memory.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from d2plan.adapter.file import Adapter, Delta
from d2plan.adapter.names import find_layer
from d2plan.errors import AdapterError, InputError, ShapeError


class Weighted(NamedTuple):
    """An adapter and how strongly it acts.

    Attributes:
        adapter: the update.
        strength: a factor for it.
    """

    adapter: Adapter
    strength: float = 1.0


Load = Adapter | Sequence[Weighted] | None
"""What a row carries: one adapter, the sum of several, or nothing but the base."""


class RowChoice:
    """Says which of the rows the next batches hold; all of them to begin with.

    Args:
        count: rows in all.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.rows: tuple[int, ...] = tuple(range(count))

    def choose(self, rows: Sequence[int]) -> None:
        """Let the next batches hold these rows alone, in this order.

        Args:
            rows: each once, 0..count - 1.

        Raises:
            InputError: a row is not there, or stands twice.
        """
        if len(set(rows)) != len(rows) or not all(0 <= row < self.count for row in rows):
            raise InputError(f"The rows {list(rows)} are not of 0..{self.count - 1}, each once; choose others.")
        self.rows = tuple(rows)


class Site(NamedTuple):
    """A layer that some row's adapter updates.

    Attributes:
        path: with its component.
        layer: in the model.
        terms: by row, the updates and their factors.
    """

    path: str
    layer: nn.Linear
    terms: list[list[tuple[Delta, float]]]


def put_beside(site: Site, choice: RowChoice) -> Callable[[], object]:
    """Let a layer add its updates to what it gives, until the function that is given back is called."""
    return site.layer.register_forward_hook(_make_hook(site, choice)).remove


@contextmanager
def adapter_rows(
    module: nn.Module,
    prefix: str,
    adapters: Sequence[Load],
    strengths: Sequence[float] | None = None,
    only: Callable[[str], bool] | None = None,
    put: Callable[[Site, RowChoice], Callable[[], object]] = put_beside,
) -> Iterator[RowChoice]:
    """Put adapters on the rows of every batch that passes a component while the block runs.

    Paper: theta_i of section 4.2, for all i in one call; equal to separate calls with the row's adapters alone.

    Args:
        module: the U-Net or one text encoder.
        prefix: which one: "unet", "text_encoder" or "text_encoder_2", with or without a dot.
        adapters: what each row carries; None leaves the row to the base alone.
        strengths: a factor for each row's update, 1 without it.
        only: which layers' paths take part, all without it.
        put: how a layer takes its updates: ``put_beside`` its weights, or ``d2plan.adapter.merged.put_merged``.

    Yields:
        The choice of rows that a batch holds; afterwards the component is as before, bit for bit.

    Raises:
        InputError: adapters and strengths differ in number.
        AdapterError: an adapter does not fit the component.
        ShapeError: inside the block, when a batch has another number of rows than were chosen.
    """
    choice = RowChoice(len(adapters))
    with ExitStack() as layers:
        for site in find_sites(module, prefix, adapters, strengths, only):
            layers.callback(put(site, choice))
        yield choice


def find_sites(
    module: nn.Module,
    prefix: str,
    adapters: Sequence[Load],
    strengths: Sequence[float] | None = None,
    only: Callable[[str], bool] | None = None,
) -> list[Site]:
    """Find the layers of a component that adapters update, and what each row adds there.

    Args:
        module: the U-Net or one text encoder.
        prefix: which one.
        adapters: what each row carries.
        strengths: a factor for each row.
        only: which layers' paths take part, all without it.

    Returns:
        The layers in the order of their paths, without those where every factor is 0.

    Raises:
        InputError: adapters and strengths differ in number.
        AdapterError: an adapter does not fit the component.
    """
    factors = [1.0] * len(adapters) if strengths is None else [float(factor) for factor in strengths]
    if len(factors) != len(adapters):
        raise InputError(f"strengths has {len(factors)} entries, but there are {len(adapters)} rows; give one a row.")
    loads = [
        [(item.adapter, item.strength * factor) for item in weigh(load)]
        for load, factor in zip(adapters, factors, strict=True)
    ]
    component = prefix.rstrip(".") + "."
    paths = {path for load in loads for adapter, _ in load for path in adapter.deltas if path.startswith(component)}
    sites = []
    for path in sorted(path for path in paths if only is None or only(path)):
        carriers = [adapter for load in loads for adapter, _ in load if path in adapter.deltas]
        layer = _find_linear(module, path, component, carriers)
        terms = [
            [(adapter.deltas[path], factor) for adapter, factor in load if path in adapter.deltas and factor != 0]
            for load in loads
        ]
        if any(terms):
            sites.append(Site(path, layer, terms))
    return sites


def weigh(load: Load) -> tuple[Weighted, ...]:
    """Write what a row carries as a list.

    Args:
        load: an adapter, several, or nothing.

    Returns:
        Adapters with their strengths.
    """
    if load is None:
        return ()
    return (Weighted(load),) if isinstance(load, Adapter) else tuple(load)


def split_runs(rows: Sequence[int]) -> list[slice]:
    """Write ascending rows as few slices.

    >>> split_runs([1, 2, 3, 5])
    [slice(1, 4, None), slice(5, 6, None)]

    Args:
        rows: ascending.

    Returns:
        One slice for each unbroken run.
    """
    starts = [0, *(place for place, (one, next_) in enumerate(pairwise(rows), 1) if next_ != one + 1), len(rows)]
    return [slice(rows[a], rows[b - 1] + 1) for a, b in pairwise(starts) if b > a]


class _Update(Protocol):
    def add_to(self, output: Tensor, states: Tensor) -> None: ...


@dataclass(frozen=True)
class _Shared:
    """One pair of matrices for the rows of a slice: ``down [in, r]``, ``up [r, out]``."""

    rows: slice
    down: Tensor
    up: Tensor
    scale: float

    def add_to(self, output: Tensor, states: Tensor) -> None:
        low = states[self.rows].flatten(0, -2) @ self.down
        output[self.rows].flatten(0, -2).addmm_(low, self.up, alpha=self.scale)


@dataclass(frozen=True)
class _Stacked:
    """A pair of its own for each row of a slice: ``down [g, in, r]``, ``up [g, r, out]``, scale included."""

    rows: slice
    down: Tensor
    up: Tensor

    def add_to(self, output: Tensor, states: Tensor) -> None:
        low = torch.bmm(states[self.rows].flatten(1, -2), self.down)
        output[self.rows].flatten(1, -2).baddbmm_(low, self.up)


class _Pair(NamedTuple):
    """One update ready for its layer, and the rows that carry it."""

    rows: list[int]
    down: Tensor
    up: Tensor
    scale: float


class _Stack(NamedTuple):
    """The updates of rows one after the other, a pair for each: ``down [g, in, r]``, ``up [g, r, out]``."""

    rows: range
    down: Tensor
    up: Tensor


def _make_hook(site: Site, choice: RowChoice) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    pairs, stacks = _gather(site)
    updates: dict[tuple[int, ...], list[_Update]] = {}

    def add_updates(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        rows = choice.rows
        if output.shape[0] != len(rows) or output.ndim < 3:
            raise ShapeError(
                f"{site.path} got a batch of {output.shape[0]} rows, but adapters were given for {len(rows)}."
            )
        if rows not in updates:
            updates[rows] = _plan_updates(pairs, stacks, rows)
        # A linear layer's output is nobody else's, and its own gradient does not need it: adding in place is safe.
        for update in updates[rows]:
            update.add_to(output, inputs[0])
        return output

    return add_updates


def _gather(site: Site) -> tuple[list[_Pair], list[_Stack]]:
    """Bring each update to its layer's device and number format once.

    Where that takes copies, those of rows one after the other are made as one stack, which one product reads for all
    of them (few launches); where it does not, the adapter's own memory is used as it lies (no copies).
    """
    weight = site.layer.weight
    carried: dict[tuple[int, float], tuple[list[int], Delta]] = {}
    for row, terms in enumerate(site.terms):
        for delta, factor in terms:
            carried.setdefault((id(delta), factor), ([], delta))[0].append(row)
    pairs: list[_Pair] = []
    single: dict[int, tuple[Delta, float]] = {}
    for (_, factor), (rows, delta) in carried.items():
        alone = len(rows) == 1 and rows[0] not in single
        if alone and (delta.down.device, delta.down.dtype) != (weight.device, weight.dtype):
            single[rows[0]] = (delta, delta.scale * factor)
        else:
            pairs.append(_Pair(rows, *_fit(delta, weight), delta.scale * factor))
    stacks = []
    ranks = {row: delta.down.shape[0] for row, (delta, _) in single.items()}
    for _, run in groupby(enumerate(sorted(single)), lambda place: (place[1] - place[0], ranks[place[1]])):
        rows = [row for _, row in run]
        fitted = [(*_fit(delta, weight), scale) for delta, scale in (single[row] for row in rows)]
        downs, ups = torch.stack([down for down, _, _ in fitted]), torch.stack([up * scale for _, up, scale in fitted])
        stacks.append(_Stack(range(rows[0], rows[-1] + 1), downs, ups))
    return pairs, stacks


def _fit(delta: Delta, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Give an update's halves as products read them, ``[in, r]`` and ``[r, out]``, for a weight."""
    down, up = (half.to(weight.device, weight.dtype).T for half in (delta.down, delta.up))
    return down, up


def _plan_updates(pairs: list[_Pair], stacks: list[_Stack], rows: tuple[int, ...]) -> list[_Update]:
    """Choose products for the rows that a batch holds, numbered by their places in it."""
    updates: list[_Update] = []
    for pair in pairs:
        held = sorted(rows.index(row) for row in pair.rows if row in rows)
        updates += [_Shared(run, pair.down, pair.up, pair.scale) for run in split_runs(held) if held]
    for stack in stacks:
        places = [place for place, row in enumerate(rows) if row in stack.rows]
        for _, run in groupby(places, lambda place: rows[place] - place):
            part = list(run)
            first = rows[part[0]] - stack.rows.start
            own = slice(first, first + len(part))
            updates.append(_Stacked(slice(part[0], part[-1] + 1), stack.down[own], stack.up[own]))
    return updates


def _find_linear(module: nn.Module, path: str, component: str, adapters: Sequence[Adapter]) -> nn.Linear:
    owner = adapters[0]
    layer = find_layer(module, path.removeprefix(component))
    if not isinstance(layer, nn.Linear):
        label = owner.path or owner.name
        raise AdapterError(f"{label}: the base has no linear layer {path}; the adapter is for another model.")
    for adapter in adapters:
        delta = adapter.deltas[path]
        if (delta.down.shape[1], delta.up.shape[0]) != (layer.in_features, layer.out_features):
            label = adapter.path or adapter.name
            raise AdapterError(f"{label}: {path} has another shape in the base; the adapter is for another model.")
    return layer
