"""The column tap: read and replace columns of the cross-attention maps while the U-Net runs.

A plan says which columns; ``tap_columns`` puts it on all cross-attention layers and takes it off again. Nothing of
the size pixels x tokens x heads outlives a layer: only the columns asked for do, as means over heads.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0
from torch import Tensor

from d2plan.backbone.columns import ColumnRead as ColumnRead
from d2plan.backbone.columns import Columns, Weighed, attend, check_plan, index_columns
from d2plan.backbone.columns import ColumnSwap as ColumnSwap
from d2plan.backbone.columns import TapPlan as TapPlan
from d2plan.backbone.columns import attend_with_columns as attend_with_columns
from d2plan.errors import InputError


class TextKeys:
    """The keys and values that every cross-attention layer makes of a prompt, made once.

    Args:
        states: what the U-Net reads, ``[rows, n, d]``.
        layers: by layer, keys and values ``[rows, heads, n, d]`` each.
    """

    def __init__(self, states: Tensor, layers: dict[Attention, tuple[Tensor, Tensor]]) -> None:
        self.states = states
        self._layers = layers
        # Rows picked so far, and the very tensor that a call must pass for them.
        self._picked: dict[tuple[int, ...], tuple[Tensor, dict[Attention, tuple[Tensor, Tensor]]]] = {}

    def pick(self, rows: Sequence[int]) -> Tensor:
        """Give the states of some rows; a call that passes this very tensor is served from here.

        Args:
            rows: 0 and up.

        Returns:
            ``[len(rows), n, d]``, the same tensor whenever the same rows are asked for.
        """
        key = tuple(rows)
        if key not in self._picked:
            self._picked[key] = (_take_rows(self.states, key), {})
        return self._picked[key][0]

    def find(self, layer: Attention, rows: tuple[int, ...], states: Tensor) -> tuple[Tensor, Tensor] | None:
        """Give a layer's keys and values of some rows.

        Args:
            layer: of the U-Net that the keys were made with.
            rows: of these.
            states: what the call passes; told by being the same object, never by where it lies in memory.

        Returns:
            Keys and values; None when the call passes anything else than ``pick`` gave.
        """
        known = self._picked.get(rows)
        if known is None or known[0] is not states or layer not in self._layers:
            return None
        if layer not in known[1]:
            key, value = self._layers[layer]
            known[1][layer] = _take_rows(key, rows), _take_rows(value, rows)
        return known[1][layer]


def read_text(unet: UNet2DConditionModel, states: Tensor) -> TextKeys:
    """Let every cross-attention layer read prompts once; adapters that are on take part.

    Args:
        unet: the denoiser.
        states: of all prompts, ``[rows, n, d]``.

    Returns:
        What ``tap_columns`` uses instead of reading them anew at every step.
    """
    layers = {}
    for _, layer, _ in _cross_attention_layers(unet):
        context = layer.norm_encoder_hidden_states(states) if layer.norm_cross else states
        layers[layer] = (_split(layer.to_k(context), layer.heads), _split(layer.to_v(context), layer.heads))
    return TextKeys(states, layers)


@dataclass
class ColumnTap:
    """The maps that a tap has collected since it was put on, or since ``clear``.

    Attributes:
        plan: what it follows.
        text: keys and values made beforehand; None makes them in each call.
        rows: of the plan, those that a batch holds; None says that it holds them all.
        reading: whether maps are collected now.
        swapping: whether columns are replaced now.
    """

    plan: TapPlan
    text: TextKeys | None = None
    rows: tuple[int, ...] | None = None
    reading: bool = True
    swapping: bool = True
    _sums: dict[int, dict[int, Tensor]] = field(default_factory=dict)
    _counts: dict[tuple[int, int], int] = field(default_factory=dict)
    _columns: dict[tuple[object, ...], Columns] = field(default_factory=dict)

    @property
    def levels(self) -> tuple[int, ...]:
        """The levels at which maps have been collected, ascending."""
        return tuple(sorted(self._sums))

    def choose(self, rows: Sequence[int] | None, *, reading: bool = True, swapping: bool = True) -> None:
        """Say what the next calls hold and what to do with it.

        Rows of a scene may come apart, the sub rows first: what they give is kept, a column each, until the global
        row comes.

        Args:
            rows: of the plan, in the order of the batch; None is all.
            reading: collect maps.
            swapping: replace columns.
        """
        self.rows = None if rows is None else tuple(rows)
        self.reading, self.swapping = reading, swapping

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
        sums = self._sums[level]
        return torch.stack([sums[number] / self._counts[level, number] for number in sorted(sums)])

    def clear(self) -> None:
        """Forget what was collected."""
        self._sums.clear()
        self._counts.clear()

    def _collects(self, level: int) -> bool:
        return self.reading and bool(self.plan.reads) and (self.plan.levels is None or level in self.plan.levels)

    def _add(self, level: int, columns: Columns, read: list[Tensor]) -> None:
        sums = self._sums.setdefault(level, {})
        for (number, _), column in zip(columns.reads, read, strict=True):
            mean = column.mean(dim=0)
            sums[number] = sums[number] + mean if number in sums else mean
            self._counts[level, number] = self._counts.get((level, number), 0) + 1

    def _prepare(self, batch: int, tokens: int, like: Tensor, collect: bool) -> Columns:
        rows = tuple(range(batch)) if self.rows is None else self.rows
        key = (rows, tokens, like.device, like.dtype, collect, self.swapping)
        if key not in self._columns:
            if self.rows is None:
                check_plan(self.plan, batch, tokens)
            self._columns[key] = index_columns(self.plan, rows, tokens, like, reads=collect, swaps=self.swapping)
        return self._columns[key]


@contextmanager
def tap_columns(unet: UNet2DConditionModel, plan: TapPlan, text: TextKeys | None = None) -> Iterator[ColumnTap]:
    """Follow a plan in every cross-attention layer while the block runs; afterwards the U-Net is as before.

    Paper: eq. (7), and the maps of eq. (4).

    Args:
        unet: the denoiser; self-attention is left alone.
        plan: for the batch that is passed through it.
        text: keys and values from ``read_text``, for calls that pass its states.

    Yields:
        The tap, which holds the collected maps.

    Raises:
        InputError: a layer does not run plain attention (another tap, or an IP-Adapter, is on).
    """
    tap = ColumnTap(plan, text)
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


class _TapProcessor:
    """diffusers' plain attention with the columns of a plan; one for each layer."""

    def __init__(self, tap: ColumnTap, level: int) -> None:
        self._tap = tap
        self._level = level
        self._store: dict[int, Weighed] = {}

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query = _split(attn.to_q(hidden_states), attn.heads)
        key, value = self._read(attn, context)
        batch, tokens = query.shape[0], key.shape[2]
        if attention_mask is not None:
            attention_mask = attn.prepare_attention_mask(attention_mask, tokens, batch)
            attention_mask = attention_mask.view(batch, attn.heads, -1, tokens)
        tap = self._tap
        collect = tap._collects(self._level)
        columns = tap._prepare(batch, tokens, query, collect)
        states, read = attend(query, key, value, columns, tap.plan.values, store=self._store, mask=attention_mask)
        if collect:
            tap._add(self._level, columns, read)
        states = states.transpose(1, 2).flatten(2).to(query.dtype)
        states = attn.to_out[1](attn.to_out[0](states))
        if attn.residual_connection:
            states = states + hidden_states
        return states if attn.rescale_output_factor == 1 else states / attn.rescale_output_factor

    def _read(self, attn: Attention, context: Tensor) -> tuple[Tensor, Tensor]:
        text = self._tap.text
        if text is not None:
            rows = tuple(range(len(text.states))) if self._tap.rows is None else self._tap.rows
            if (found := text.find(attn, rows, context)) is not None:
                return found
        if attn.norm_cross:
            context = attn.norm_encoder_hidden_states(context)
        return _split(attn.to_k(context), attn.heads), _split(attn.to_v(context), attn.heads)


def _take_rows(states: Tensor, rows: tuple[int, ...]) -> Tensor:
    if rows == tuple(range(rows[0], rows[-1] + 1)):
        return states[rows[0] : rows[-1] + 1]
    return states[list(rows)]


def _split(states: Tensor, heads: int) -> Tensor:
    return states.unflatten(-1, (heads, -1)).transpose(1, 2)


def _cross_attention_layers(unet: UNet2DConditionModel) -> Iterator[tuple[str, Attention, int]]:
    deepest = len(unet.config.block_out_channels) - 1
    for name, module in unet.named_modules():
        if isinstance(module, Attention) and module.is_cross_attention:
            place, _, rest = name.partition(".")
            block = int(rest.partition(".")[0]) if place != "mid_block" else 0
            yield name, module, {"down_blocks": block, "mid_block": deepest, "up_blocks": deepest - block}[place]
