"""A good beginning for a small vision transformer: patches by their principal components, places by sines."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

_POWER = 0.35  # between none (0) and full whitening (0.5), which would blow noise up
_PATCHES = 40_000


@torch.no_grad()
def begin_patches(embedding: nn.Conv2d, pixels: Tensor, seed: int = 0) -> None:
    """Set a patch embedding to the principal components of patches, the weak ones lifted; saves its slow first steps.

    Args:
        embedding: from patches to tokens, without overlap.
        pixels: ``[n 3 h w]`` -1..1, what it will see.
        seed: chooses patches.
    """
    side, width = embedding.kernel_size[0], embedding.out_channels
    rows = nn.functional.unfold(pixels, side, stride=side).transpose(1, 2).reshape(-1, 3 * side * side)
    rng = np.random.default_rng(seed)
    rows = rows[torch.from_numpy(rng.permutation(len(rows))[:_PATCHES])].double()
    values, directions = torch.linalg.eigh(rows.T @ rows / len(rows))
    values, directions = values.flip(0)[:width].clamp(min=1e-6), directions.flip(1)[:, :width]
    weights = directions * values.pow(-_POWER)
    spread = (rows @ weights).pow(2).mean().sqrt()
    embedding.weight.copy_((weights / spread).T.reshape(embedding.weight.shape).float())
    if embedding.bias is not None:
        embedding.bias.zero_()


def place_waves(side: int, width: int) -> Tensor:
    """Give the sines and cosines of a grid's places, ``[side * side, width]``, of size 0.5.

    Source: Dosovitskiy et al. 2021, appendix D.4; MoCo v3 (Chen et al. 2021) keeps them in two dimensions.
    """
    rates = 1.0 / 60.0 ** torch.linspace(0, 1, width // 4)
    places = torch.arange(side, dtype=torch.float32)
    waves = torch.outer(places, rates * torch.pi / 2)
    row = torch.cat([waves.sin(), waves.cos()], 1)
    grid = torch.cat([row[:, None].expand(-1, side, -1), row[None].expand(side, -1, -1)], 2)
    return 0.5 * grid.reshape(side * side, width)


@torch.no_grad()
def begin_attention(projections: tuple[nn.Linear, nn.Linear, nn.Linear, nn.Linear], heads: int, seed: int) -> None:
    """Let each token first look at those like itself, and what it takes from them be a little less of the same.

    Small vision transformers learn from few pictures several times faster so.
    Source: Mimetic Initialization (Trockman and Kolter 2023), section 4, with its constants.

    Args:
        projections: of queries, keys, values and the output.
        heads: how many there are.
        seed: of the random part.
    """
    query, key, value, out = projections
    width = query.in_features
    generator = torch.Generator().manual_seed(seed)

    def noise(scale: float) -> Tensor:
        return scale * torch.randn(width, width, generator=generator) / width**0.5

    left, strengths, right = torch.linalg.svd(noise(0.4) - 0.4 * torch.eye(width))
    value.weight.copy_(strengths.sqrt()[:, None] * right)
    out.weight.copy_(left * strengths.sqrt())
    part = width // heads
    for head in range(heads):
        rows = slice(head * part, (head + 1) * part)
        left, strengths, right = torch.linalg.svd(noise(0.7) + 0.7 * torch.eye(width))
        query.weight[rows] = (left * strengths.sqrt())[:, :part].T
        key.weight[rows] = strengths.sqrt()[:part, None] * right[:part]
    for one in projections:
        if one.bias is not None:
            one.bias.zero_()
