"""Which pixels belong together: self-attention of one row of the batch, averaged while the U-Net runs."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from d2plan.errors import InputError


@dataclass
class AffinityTap:
    """The self-attention that a tap has collected since it was put on, or since ``clear``.

    Attributes:
        rows: of the batch, whose pixels are compared.
    """

    rows: tuple[int, ...]
    _sums: dict[int, Tensor] = field(default_factory=dict)
    _count: int = 0

    def affinity(self, place: int) -> Tensor:
        """Give the collected self-attention of one row.

        Args:
            place: of the row in ``rows``.

        Returns:
            How much each pixel attends to each other one, mean over heads, layers and U-Net calls, ``[q, q]``, rows
            of sum 1, float32.

        Raises:
            InputError: nothing was collected.
        """
        if place not in self._sums:
            raise InputError("No self-attention was collected; run the U-Net while the tap is on.")
        return self._sums[place] / self._count

    def clear(self) -> None:
        """Forget what was collected."""
        self._sums.clear()
        self._count = 0

    def _add(self, query: Tensor, key: Tensor, heads: int) -> None:
        for place, row in enumerate(self.rows):
            q, k = (states[row].unflatten(-1, (heads, -1)).transpose(0, 1).float() for states in (query, key))
            mean = torch.zeros(())
            # One head at a time: pixels x pixels x heads would be the largest thing in the whole call.
            for head in range(heads):
                mean = mean.to(q) + (q[head] @ k[head].T * q.shape[-1] ** -0.5).softmax(dim=-1) / heads
            self._sums[place] = self._sums[place] + mean if place in self._sums else mean
        self._count += 1


@contextmanager
def tap_affinity(unet: UNet2DConditionModel, rows: Sequence[int], level: int) -> Iterator[AffinityTap]:
    """Collect the self-attention of some rows at one level while the block runs; the U-Net's output stays the same.

    It listens to what the query and key layers give, and so works beside every other tap and adapter.

    Args:
        unet: the denoiser.
        rows: of the batch that is passed through it.
        level: where to listen: 0 is the latent's own size, each next one half of it.

    Yields:
        The tap.

    Raises:
        InputError: there is no self-attention at that level.
    """
    tap = AffinityTap(tuple(rows))
    layers = [layer for layer, place in _self_attention_layers(unet) if place == level]
    if not layers:
        raise InputError(f"The U-Net has no self-attention at level {level}; choose another level.")
    with ExitStack() as hooks:
        for layer in layers:
            queries: list[Tensor] = []
            hooks.callback(layer.to_q.register_forward_hook(_make_keeper(queries)).remove)
            hooks.callback(layer.to_k.register_forward_hook(_make_adder(tap, queries, layer.heads)).remove)
        yield tap


_Hook = Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]


def _make_keeper(queries: list[Tensor]) -> _Hook:
    def keep(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        queries[:] = [output.detach()]

    return keep


def _make_adder(tap: AffinityTap, queries: list[Tensor], heads: int) -> _Hook:
    def add(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        tap._add(queries.pop(), output.detach(), heads)

    return add


def _self_attention_layers(unet: UNet2DConditionModel) -> Iterator[tuple[Attention, int]]:
    deepest = len(unet.config.block_out_channels) - 1
    for name, module in unet.named_modules():
        if isinstance(module, Attention) and not module.is_cross_attention:
            place, _, rest = name.partition(".")
            block = int(rest.partition(".")[0]) if place != "mid_block" else 0
            yield module, {"down_blocks": block, "mid_block": deepest, "up_blocks": deepest - block}[place]
