"""Where a class is, by the attention of the global row: class maps, refined by self-attention."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from d2plan.isp.regions import normalise_map, smooth_map
from d2plan.shapes import check_shape

_LEAST_LEFT = 0.3  # peak of what a class's other instances leave, of the whole map's, below which nobody is left
_SPREAD = 0.9  # share of the spread in the refined map
_DIMENSIONS = 32  # numbers that a pixel's self-attention is shortened to


def refine_maps(class_maps: Tensor, affinity: Tensor, power: int = 1) -> Tensor:
    """Spread class maps over the pixels that attend to each other, so that they cover more of each thing.

    Source: Dataset-Diffusion (Nguyen et al. 2023), A_self^power A_cross, at a power of 4 on maps of 32x32. Smaller maps
    are flooded by it, so the result is the geometric mean of the map and its spread, most of it the spread: what a
    pixel's surroundings say counts where the class word itself has left a trace. With equal shares masks cover heads
    and leave legs out.

    Args:
        class_maps: ``[m, a, b]``, 0 or more.
        affinity: ``[a * b, a * b]``, rows of sum 1.
        power: how often.

    Returns:
        The refined maps, ``[m, a, b]``, each 0..1 with a peak of at most 1; a map of zeros stays so.

    Raises:
        ShapeError: ``affinity`` is of other pixels.
    """
    sizes = check_shape(class_maps, "m a b", "class_maps")
    cells = sizes["a"] * sizes["b"]
    check_shape(affinity, f"{cells} {cells}", "affinity")
    columns = torch.nan_to_num(class_maps.flatten(1).T.float()).clamp(min=0)
    spread = columns
    for _ in range(power):
        spread = affinity.to(columns) @ spread
    peaks = [values / values.amax(dim=0).clamp(min=1e-12) for values in (columns, spread)]
    return (peaks[0] ** (1 - _SPREAD) * peaks[1] ** _SPREAD).T.reshape(class_maps.shape)


class Attention:
    """The maps of a picture at the size of its latents.

    Attributes:
        maps: for each instance how much each cell attends to its class word, ``[m, h, w]``.
        rows: what each cell attends to, in few numbers, ``[h * w, d]``; None without ``affinity``.
    """

    def __init__(self, class_maps: Tensor, affinity: Tensor | None, size: tuple[int, int], power: int) -> None:
        """Bring the maps to the size of the latents.

        Args:
            class_maps: for each instance how much each pixel attends to its class word, ``[m, a, b]``.
            affinity: how much each pixel attends to each other one, ``[a * b, a * b]``; None goes without.
            size: height and width, latent cells.
            power: how often the maps are spread over what attends to each other, 0 or more.

        Raises:
            ShapeError: ``affinity`` is of other pixels.
        """
        maps = class_maps.float().cpu()
        self.rows: Tensor | None = None
        if affinity is not None:
            maps = refine_maps(maps, affinity.float().cpu(), power) if power else maps
            self.rows = _describe_cells(affinity.float().cpu(), (maps.shape[1], maps.shape[2]), size)
        large = functional.interpolate(torch.nan_to_num(maps)[None], size=size, mode="bilinear", align_corners=False)
        self.maps = smooth_map(large[0])

    def score(self, members: Sequence[int], free: Tensor) -> Tensor:
        """Give a class's score in the free cells, 0..1, ``[h, w]``; zeros where what is left is only noise."""
        values = self.maps[list(members)].mean(dim=0)
        if not free.any():
            return torch.zeros_like(values)
        left = torch.where(free, values, values[free].min())
        middle = values.median()
        if left.max() - middle < _LEAST_LEFT * (values.max() - middle):
            return torch.zeros_like(values)
        return normalise_map(left)


def _describe_cells(affinity: Tensor, map_size: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Shorten each pixel's self-attention to few numbers that keep distances (Johnson and Lindenstrauss 1984)."""
    # The whole rows at the latents' size would be gigabytes on SDXL; the seed is fixed, so nothing is left to chance.
    rng = torch.Generator().manual_seed(0)
    directions = torch.randn(affinity.shape[1], _DIMENSIONS, generator=rng) / _DIMENSIONS**0.5
    rows = (affinity @ directions).T.reshape(1, _DIMENSIONS, *map_size)
    return functional.interpolate(rows, size=size, mode="bilinear", align_corners=False)[0].flatten(1).T
