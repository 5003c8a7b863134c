"""What Mix-of-Show does inside cross-attention: words are held to the mask, regions read their own prompts."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from math import ceil, floor

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor
from torch.nn import functional

from d2plan.backbone.attention import level_size
from d2plan.bench.methods.p_plus import find_layers
from d2plan.bench.protocol import Box
from d2plan.errors import ShapeError
from d2plan.shapes import check_shape


def hold_words(random_map: Tensor, class_map: Tensor, mask: Tensor) -> Tensor:
    """Hold V_rand's attention inside the mask and V_class's attention to it.

    Source: the Mix-of-Show authors' program, ``cal_attn_reg``: each map over its largest value; the class word's is
    compared with the mask, of the other what lies outside is taken.

    Args:
        random_map: of the identifier, ``[b h w]``, 0 or more.
        class_map: of the class word behind it, ``[b h w]``.
        mask: where the subject is, ``[b h w]`` bool; rows that are all subject, or none, say nothing and do not count.

    Returns:
        The sum of both, a scalar; 0 where no row counts.

    Raises:
        ShapeError: the shapes differ.
    """
    sizes = check_shape(random_map, "b h w", "random_map")
    check_shape(class_map, "b h w", "class_map", sizes)
    check_shape(mask, "b h w", "mask", sizes)
    telling = mask.flatten(1).any(1) & ~mask.flatten(1).all(1)
    if not telling.any():
        return random_map.sum() * 0
    own, subject, inside = (part[telling] for part in (_over_largest(random_map), _over_largest(class_map), mask))
    outside = ~inside
    return (subject - inside.to(subject)).square().mean() + (own * outside).sum() / outside.sum()


def cover_boxes(boxes: Sequence[Box], size: tuple[int, int]) -> Tensor:
    """Say which cells lie in each box.

    Source: the Mix-of-Show authors' ``get_region_mask``: only cells that lie wholly inside.

    >>> cover_boxes([(0.4, 0.5, 1.0, 1.0)], (2, 4)).int().tolist()
    [[[0, 0, 0, 0], [0, 0, 1, 1]]]

    Args:
        boxes: m of them, x0, y0, x1, y1 in 0..1.
        size: height and width of the grid, cells.

    Returns:
        ``[m, h, w]`` bool.
    """
    height, width = size
    covered = torch.zeros(len(boxes), height, width, dtype=torch.bool)
    for place, (left, top, right, bottom) in enumerate(boxes):
        rows = slice(ceil(top * height), floor(bottom * height))
        covered[place, rows, ceil(left * width) : floor(right * width)] = True
    return covered


class Regions:
    """What each shot's boxes are to read; ``choose`` says which shots the next call holds.

    Args:
        states: of each shot's m sub-prompts, for all layers side by side, ``[shots, m, n, L * d]``.
        boxes: of each shot, m.
        latent_size: height and width of the latents, cells.
    """

    def __init__(self, states: Tensor, boxes: Sequence[Sequence[Box]], latent_size: tuple[int, int]) -> None:
        self.states = states
        self._boxes = boxes
        self._latent_size = latent_size
        self._covers: dict[int, Tensor] = {}
        self.places: tuple[int, ...] = tuple(range(len(boxes)))

    def choose(self, places: Sequence[int]) -> None:
        """Say which shots the next call holds; their prompts' rows are its last ones.

        Args:
            places: of the shots, from 0.
        """
        self.places = tuple(places)

    def cover(self, cells: int) -> Tensor:
        """Give the chosen shots' boxes on a layer's grid.

        Args:
            cells: that the layer has.

        Returns:
            ``[b, m, cells]`` bool.

        Raises:
            ShapeError: no halving of the latents has so many cells.
        """
        if cells not in self._covers:
            height, width = self._latent_size
            level = 0
            while height * width > cells:
                level += 1
                height, width = level_size(self._latent_size, level)
            if height * width != cells:
                raise ShapeError(f"A layer has {cells} cells, which no halving of {self._latent_size} gives.")
            grids = [cover_boxes(boxes, (height, width)).flatten(1) for boxes in self._boxes]
            self._covers[cells] = torch.stack(grids).to(self.states.device)
        return self._covers[cells][list(self.places)]


@contextmanager
def read_regions(unet: UNet2DConditionModel, regions: Regions) -> Iterator[None]:
    """Let every cross-attention layer read sub-prompts inside boxes while the block runs.

    Outside all boxes a layer reads the prompt of the call; where boxes overlap the mean of their answers is taken.

    Source: Gu et al. 2023 (Mix-of-Show), regionally controllable sampling; the authors' ``RegionT2I_AttnProcessor``.
    The rows without a prompt read the same inside and outside, so that they need nothing.

    Args:
        unet: the denoiser; ``p_plus.feed_layers`` is on, too.
        regions: of the shots.

    Yields:
        Nothing; afterwards the U-Net is as before.
    """
    layers = find_layers(unet)
    with ExitStack() as stack:
        for place, layer in enumerate(layers):
            stack.callback(layer.set_processor, layer.processor)
            layer.set_processor(_RegionProcessor(regions, place, len(layers)))
        yield


class _RegionProcessor:
    """Plain attention, then that of each region in its box; one for each layer."""

    def __init__(self, regions: Regions, place: int, count: int) -> None:
        self._regions = regions
        self._place = place
        self._count = count

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        query = _split(attn.to_q(hidden_states), attn.heads)
        answer = _attend(attn, query, encoder_hidden_states)
        count = len(self._regions.places)
        inside = self._answer_regions(attn, query[-count:], answer[-count:])
        answer = torch.cat([answer[:-count], inside]).transpose(1, 2).flatten(2)
        answer = attn.to_out[1](attn.to_out[0](answer))
        if attn.residual_connection:
            answer = answer + hidden_states
        return answer if attn.rescale_output_factor == 1 else answer / attn.rescale_output_factor

    def _answer_regions(self, attn: Attention, query: Tensor, plain: Tensor) -> Tensor:
        regions = self._regions
        own = regions.states[list(regions.places)].chunk(self._count, dim=-1)[self._place]
        covers = regions.cover(query.shape[2])[:, :, None, :, None]
        whole = torch.zeros_like(plain)
        for number, cover in enumerate(covers.unbind(1)):
            whole = whole + cover * _attend(attn, query, own[:, number])
        overlap = covers.sum(dim=1)
        return torch.where(overlap > 0, whole / overlap.clamp_min(1), plain)


def _attend(attn: Attention, query: Tensor, context: Tensor) -> Tensor:
    key, value = _split(attn.to_k(context), attn.heads), _split(attn.to_v(context), attn.heads)
    return functional.scaled_dot_product_attention(query, key, value)


def _split(states: Tensor, heads: int) -> Tensor:
    return states.unflatten(-1, (heads, -1)).transpose(1, 2)


def _over_largest(attention: Tensor) -> Tensor:
    return attention / attention.amax(dim=(1, 2), keepdim=True).clamp_min(torch.finfo(attention.dtype).tiny)
