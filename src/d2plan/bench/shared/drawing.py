"""Sampling that all compared methods share: each shot's own noise, the base's sampler, many shots in one U-Net call.

A method that changes the prompts, the weights or the adapters calls ``draw_shots`` as it is; one that predicts in its
own way gives ``predict``, and one that changes what layers do gives ``before``, which says what the call holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from d2plan.adapter.merged import merged_rows
from d2plan.adapter.names import COMPONENTS
from d2plan.adapter.rows import Load, RowChoice, adapter_rows
from d2plan.backbone.load import Backbone
from d2plan.backbone.sampling import start_sampling
from d2plan.backbone.sdxl import (
    TextStates,
    decode_latents,
    encode_prompts,
    guide,
    join_states,
    null_states,
    predict,
    time_ids,
)
from d2plan.bench.protocol import Drawing, Shot
from d2plan.errors import InputError


@dataclass(frozen=True, eq=False)
class Moment:
    """A step that a group of shots is about to take.

    Attributes:
        index: of the step, from 0.
        total: steps in all; some samplers make two of each that was asked for.
        timestep: of all shots.
        latents: x_t of each shot, scaled for the U-Net, ``[b, c, h, w]``.
        ids: of the picture's size, ``[b, 6]``.
        places: of these b shots among all that are drawn.
        guidance_scale: w.
    """

    index: int
    total: int
    timestep: Tensor
    latents: Tensor
    ids: Tensor
    places: tuple[int, ...]
    guidance_scale: float

    @property
    def share(self) -> float:
        """The part of the way that lies behind, 0..1."""
        return self.index / self.total

    @property
    def guided(self) -> bool:
        """Whether there is a row without the prompt; the stock pipeline has none at w <= 1."""
        return self.guidance_scale > 1


Predict = Callable[[Moment], Tensor]
"""Gives the guided prediction of each shot, ``[b, c, h, w]``."""

Before = Callable[[Moment], None]
"""Is called ahead of each step; plain guidance then makes one call of the rows [no prompt * b | prompt * b]."""


def draw_shots(
    backbone: Backbone,
    shots: Sequence[Shot],
    drawing: Drawing,
    text: TextStates | None = None,
    *,
    load: Load = None,
    predict: Predict | None = None,
    rows: int = 2,
    before: Before | None = None,
) -> list[NDArray[np.uint8]]:
    """Draw shots; without ``predict`` by plain guidance, one of them bit for bit as ``sample_steps`` does.

    Paper: eq. (2).

    Args:
        backbone: the base, as the method has changed it.
        shots: what to draw.
        drawing: steps, guidance, size, and rows of the largest call.
        text: what the U-Net reads, one row a shot; None reads each joint prompt, with ``load`` on the encoders.
        load: adapters that every row of plain guidance carries, the one without the prompt too, as a pipeline into
            which a LoRA was loaded does it.
        predict: the method's own prediction; None is plain guidance.
        rows: that ``predict`` puts through the U-Net at once for each shot, at most.
        before: called ahead of each step.

    Returns:
        A picture a shot, ``[h, w, 3]``.

    Raises:
        InputError: ``text`` has another number of rows than there are shots, or a seed, size or number of steps
            cannot be used.
    """
    latents = denoise_shots(backbone, shots, drawing, text, load=load, predict=predict, rows=rows, before=before)
    return list(decode_latents(backbone, latents)) if shots else []


def denoise_shots(
    backbone: Backbone,
    shots: Sequence[Shot],
    drawing: Drawing,
    text: TextStates | None = None,
    *,
    load: Load = None,
    predict: Predict | None = None,
    rows: int = 2,
    before: Before | None = None,
) -> Tensor:
    """Do what ``draw_shots`` does up to the latents of the pictures.

    Args:
        backbone: the base, as the method has changed it.
        shots: what to draw.
        drawing: steps, guidance, size, and rows of the largest call.
        text: what the U-Net reads, one row a shot; None reads each joint prompt, with ``load`` on the encoders.
        load: adapters that every row of plain guidance carries.
        predict: the method's own prediction; None is plain guidance.
        rows: that ``predict`` puts through the U-Net at once for each shot, at most.
        before: called ahead of each step.

    Returns:
        x_0 of each, ``[shots, c, h, w]``.

    Raises:
        InputError: ``text`` has another number of rows than there are shots, or a seed, size or number of steps
            cannot be used.
    """
    if not shots:
        return torch.empty(0)
    groups = group_places(len(shots), drawing.most_rows, rows)
    if predict is not None:
        return torch.cat([_denoise(backbone, shots, drawing, group, predict, before) for group in groups])
    if text is None:
        text = encode_loaded(backbone, [shot.joint_prompt for shot in shots], [load] * len(shots))
    if len(text) != len(shots):
        raise InputError(f"text has {len(text)} rows, but there are {len(shots)} shots; give one for each.")
    null = encode_null(backbone, load)
    with on_unet(backbone, [load] * 2 * len(groups[0]), merged=True) as choice:
        plain = guide_plainly(backbone, text, null, choice)
        return torch.cat([_denoise(backbone, shots, drawing, group, plain, before) for group in groups])


def guide_plainly(
    backbone: Backbone, text: TextStates, null: TextStates, choice: RowChoice | None = None, first: int = 0
) -> Predict:
    """Make plain guidance: one call of the rows [no prompt * b | prompt * b], those of the prompt alone at w <= 1.

    Paper: eq. (2).

    Args:
        backbone: the base.
        text: one row for each shot of the list that is drawn.
        null: the row without the prompt.
        choice: of the rows that carry adapters; None where none do.
        first: the first of those rows that the batch holds; the others follow it.

    Returns:
        The prediction, for ``draw_shots``.
    """

    def predict_guided(moment: Moment) -> Tensor:
        own = text[moment.places]
        if not moment.guided:
            return call_unet(backbone, moment, [own], choice, range(first, first + len(own)))[0]
        kinds = [spread(null, len(own)), own]
        unconditional, conditional = call_unet(backbone, moment, kinds, choice, range(first, first + 2 * len(own)))
        return guide(unconditional, conditional, moment.guidance_scale)

    return predict_guided


def call_unet(
    backbone: Backbone,
    moment: Moment,
    kinds: Sequence[TextStates],
    choice: RowChoice | None = None,
    carried: Sequence[int] | None = None,
) -> tuple[Tensor, ...]:
    """Call the U-Net once for several rows of each shot of a group, all on the same x_t.

    Args:
        backbone: the base; what is on its layers takes part.
        moment: the step.
        kinds: what to read: each has one row a shot; the first kind's rows come first in the batch.
        choice: of the rows that carry adapters; None where none do.
        carried: which of those rows the batch holds, in its order; None for the first ones.

    Returns:
        A prediction for each kind, ``[b, c, h, w]``.
    """
    if choice is not None:
        choice.choose(range(len(kinds) * len(moment.places)) if carried is None else carried)
    states = torch.cat([moment.latents] * len(kinds))
    ids = torch.cat([moment.ids] * len(kinds))
    return predict(backbone, states, moment.timestep, join_states(kinds), ids).chunk(len(kinds))


def encode_loaded(backbone: Backbone, prompts: Sequence[str], loads: Sequence[Load]) -> TextStates:
    """Read prompts, each by encoders with its own adapters on.

    Args:
        backbone: the base.
        prompts: the texts.
        loads: what each carries; None reads it by the bare encoders.

    Returns:
        One row for each prompt.
    """
    with torch.no_grad(), _on_encoders(backbone, loads):
        return encode_prompts(backbone, prompts)


def encode_null(backbone: Backbone, load: Load = None) -> TextStates:
    """Give the row without a prompt.

    Args:
        backbone: the base.
        load: adapters on the encoders; on a base whose null is zeros they make no difference.

    Returns:
        One row.
    """
    with _on_encoders(backbone, [load]):
        return null_states(backbone, 1)


@contextmanager
def on_unet(backbone: Backbone, loads: Sequence[Load], *, merged: bool = False) -> Iterator[RowChoice | None]:
    """Put adapters on the rows of the U-Net's batches while the block runs; afterwards it is as before, bit for bit.

    Args:
        backbone: the base.
        loads: what each row carries.
        merged: on one merged copy of the weights for each different load, instead of beside them; best where all
            rows carry the same.

    Yields:
        The choice of rows that a batch holds; None where no row carries anything.
    """
    if not any(loads):
        yield None
        return
    put = merged_rows if merged else adapter_rows
    with put(backbone.unet, COMPONENTS[0], loads) as choice:
        yield choice


def group_places(count: int, most_rows: int, rows: int) -> list[tuple[int, ...]]:
    """Share shots out to calls.

    >>> group_places(5, 4, 2)
    [(0, 1), (2, 3), (4,)]

    Args:
        count: of the shots.
        most_rows: of one call; a shot is never split.
        rows: of each shot.

    Returns:
        Places of the shots, by group; the first is the largest.
    """
    size = max(1, most_rows // rows)
    return [tuple(range(start, min(start + size, count))) for start in range(0, count, size)]


def spread(row: TextStates, count: int) -> TextStates:
    """Give one row for each of several shots.

    Args:
        row: a single one.
        count: rows wanted.

    Returns:
        The same ``count`` times.
    """
    return TextStates(row.states.expand(count, -1, -1), row.pooled.expand(count, -1))


@contextmanager
def _on_encoders(backbone: Backbone, loads: Sequence[Load]) -> Iterator[None]:
    with ExitStack() as stack:
        if any(loads):
            for name, encoder in zip(COMPONENTS[1:], backbone.text_encoders, strict=True):
                stack.enter_context(adapter_rows(encoder, name, loads))
        yield


def _denoise(
    backbone: Backbone,
    shots: Sequence[Shot],
    drawing: Drawing,
    places: tuple[int, ...],
    predict_guided: Predict,
    before: Before | None,
) -> Tensor:
    size = (drawing.height, drawing.width)
    sampling, latents = start_sampling(backbone, [shots[place].seed for place in places], drawing.steps, size)
    ids = time_ids(backbone, len(places), size)
    total = len(sampling.timesteps)
    with torch.no_grad():
        for index, timestep in enumerate(sampling.timesteps):
            scaled = sampling.scale(latents, timestep)
            moment = Moment(index, total, timestep, scaled, ids, places, drawing.guidance_scale)
            if before is not None:
                before(moment)
            latents = sampling.step(predict_guided(moment), timestep, latents)
    return latents
