"""A different adapter for each row of a batch, while one copy of the weights stays as it is."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from d2plan.adapter.file import Adapter, Delta
from d2plan.adapter.names import find_layer
from d2plan.errors import AdapterError, InputError, ShapeError


@contextmanager
def adapter_rows(
    module: nn.Module,
    prefix: str,
    adapters: Sequence[Adapter | None],
    strengths: Sequence[float] | None = None,
) -> Iterator[None]:
    """Put adapters on the rows of every batch that passes a component while the block runs.

    Paper: theta_i of section 4.2, for all i in one call; equal to separate calls with one adapter each.

    Args:
        module: the U-Net or one text encoder.
        prefix: which one: "unet", "text_encoder" or "text_encoder_2", with or without a dot.
        adapters: one for each row; None leaves the row to the base alone.
        strengths: a factor for each row's update, 1 without it.

    Yields:
        Nothing; afterwards the component is as before, bit for bit.

    Raises:
        InputError: adapters and strengths differ in number.
        AdapterError: an adapter does not fit the component.
        ShapeError: inside the block, when a batch has another number of rows than ``adapters``.
    """
    factors = [1.0] * len(adapters) if strengths is None else [float(factor) for factor in strengths]
    if len(factors) != len(adapters):
        raise InputError(f"strengths has {len(factors)} entries, but there are {len(adapters)} rows; give one a row.")
    component = prefix.rstrip(".") + "."
    paths = sorted({path for adapter in adapters if adapter for path in adapter.deltas if path.startswith(component)})
    with ExitStack() as hooks:
        for path in paths:
            layer = _find_linear(module, path, component, adapters)
            updates = _group_rows(layer, path, adapters, factors)
            handle = layer.register_forward_hook(_make_hook(path, len(adapters), updates))
            hooks.callback(handle.remove)
        yield


@dataclass(frozen=True)
class _Update:
    """One matrix pair for some rows: ``down [g, in, r]`` and ``up [g, r, out]``, g = 1 for a shared pair."""

    rows: slice | Tensor
    down: Tensor
    up: Tensor

    def add_to(self, output: Tensor, states: Tensor) -> None:
        rows = states[self.rows].flatten(1, -2)
        if self.down.shape[0] == 1:
            added = rows @ self.down[0] @ self.up[0]
        else:
            added = torch.bmm(torch.bmm(rows, self.down), self.up)
        added = added.to(output.dtype).reshape(added.shape[0], *output.shape[1:])
        if isinstance(self.rows, slice):
            output[self.rows] += added
        else:
            output.index_add_(0, self.rows, added)


def _make_hook(
    path: str, count: int, updates: list[_Update]
) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    def add_updates(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if output.shape[0] != count or output.ndim < 3:
            raise ShapeError(f"{path} got a batch of {output.shape[0]} rows, but adapters were given for {count}.")
        # A linear layer's output is nobody else's, and its own gradient does not need it: adding in place is safe.
        for update in updates:
            update.add_to(output, inputs[0])
        return output

    return add_updates


def _group_rows(
    layer: nn.Linear, path: str, adapters: Sequence[Adapter | None], factors: Sequence[float]
) -> list[_Update]:
    groups: dict[tuple[int, float], list[int]] = {}
    deltas: dict[tuple[int, float], Delta] = {}
    for row, (adapter, factor) in enumerate(zip(adapters, factors, strict=True)):
        if adapter is not None and path in adapter.deltas and factor != 0:
            key = (id(adapter), factor)
            groups.setdefault(key, []).append(row)
            deltas[key] = adapter.deltas[path]
    pairs = {key: _as_matrices(layer, deltas[key], key[1]) for key in groups}
    single = [key for key in groups if len(groups[key]) == 1]
    updates = [
        _Update(_as_rows(groups[key], layer), pairs[key][0][None], pairs[key][1][None])
        for key in groups
        if key not in single or len(single) == 1
    ]
    if len(single) > 1:
        rank = max(pairs[key][0].shape[1] for key in single)
        down = torch.stack([nn.functional.pad(pairs[key][0], (0, rank - pairs[key][0].shape[1])) for key in single])
        up = torch.stack([nn.functional.pad(pairs[key][1], (0, 0, 0, rank - pairs[key][1].shape[0])) for key in single])
        updates.append(_Update(_as_rows([groups[key][0] for key in single], layer), down, up))
    return updates


def _as_matrices(layer: nn.Linear, delta: Delta, factor: float) -> tuple[Tensor, Tensor]:
    down, up = (half.to(layer.weight.device, layer.weight.dtype) for half in (delta.down, delta.up))
    return down.T.contiguous(), (up * (delta.scale * factor)).T.contiguous()


def _as_rows(rows: list[int], layer: nn.Linear) -> slice | Tensor:
    if rows == list(range(rows[0], rows[0] + len(rows))):
        return slice(rows[0], rows[0] + len(rows))
    return torch.tensor(rows, device=layer.weight.device)


def _find_linear(module: nn.Module, path: str, component: str, adapters: Sequence[Adapter | None]) -> nn.Linear:
    owner = next(adapter for adapter in adapters if adapter and path in adapter.deltas)
    label = owner.path or owner.name
    layer = find_layer(module, path.removeprefix(component))
    if not isinstance(layer, nn.Linear):
        raise AdapterError(f"{label}: the base has no linear layer {path}; the adapter is for another model.")
    for adapter in adapters:
        delta = adapter.deltas.get(path) if adapter else None
        if delta and (delta.down.shape[1], delta.up.shape[0]) != (layer.in_features, layer.out_features):
            raise AdapterError(f"{label}: {path} has another shape in the base; the adapter is for another model.")
    return layer
