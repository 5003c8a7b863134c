"""The attention maps that eq. (4) compares, and how to get the base's without running the whole U-Net."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from d2plan.adapter.attach import adapter_off
from d2plan.backbone.attention import ColumnRead, TapPlan, tap_columns
from d2plan.backbone.load import Backbone
from d2plan.backbone.sdxl import TextStates, predict, time_ids


class _Enough(Exception):  # noqa: N818  (no error: it ends a pass that has given all it should)
    """The last layer that matters has run."""


def plan_reads(spans: Sequence[tuple[int, ...]], level: int) -> TapPlan:
    """Ask for one map of each row.

    Args:
        spans: token positions by row; an empty one leaves its row out.
        level: of the maps.

    Returns:
        The plan, with as many reads as there are rows with positions.
    """
    reads = tuple(ColumnRead(row, span) for row, span in enumerate(spans) if span)
    return TapPlan(reads=reads, levels=frozenset({level}))


def read_class_maps(
    backbone: Backbone,
    latents: Tensor,
    timesteps: Tensor,
    text: TextStates,
    spans: Sequence[tuple[int, ...]],
    level: int,
) -> Tensor:
    """See where the base's own class word looks: A_1 of eq. (4), adapter off and without gradient.

    The U-Net stops as soon as the level's last layer has run, so this costs far less than a whole pass.

    Args:
        backbone: the base, with an adapter attached.
        latents: x_t as the U-Net sees it, ``[b c h w]``.
        timesteps: ``[b]``.
        text: of c_1, b rows.
        spans: the class word's token positions by row.
        level: of the maps.

    Returns:
        Mean over heads and layers, ``[b q]``, 0..1, not normalised.
    """
    last = backbone.unet.up_blocks[len(backbone.unet.up_blocks) - 1 - level]
    size = (latents.shape[-2] * backbone.latent_scale, latents.shape[-1] * backbone.latent_scale)
    ids = time_ids(backbone, len(text), size)
    with torch.no_grad(), adapter_off(backbone), tap_columns(backbone.unet, plan_reads(spans, level)) as tap:
        with _stop_after(last):
            predict(backbone, latents, timesteps, text, ids)
        return tap.maps(level)


@contextmanager
def _stop_after(module: nn.Module) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise _Enough

    handle = module.register_forward_hook(stop)
    try:
        yield
    except _Enough:
        pass
    finally:
        handle.remove()
