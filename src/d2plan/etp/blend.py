"""Frames without a video model: mixed latents of both keyframes, made noisy and denoised again by the base.

Nobody is led to where it goes, it fades: this is what to compare a video model with, or what to take knowingly.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from d2plan.backbone.load import Backbone
from d2plan.backbone.sdxl import (
    TextStates,
    decode_latents,
    draw_noise,
    encode_images,
    encode_prompts,
    guide,
    join_states,
    make_scheduler,
    null_states,
    predict,
    time_ids,
)
from d2plan.errors import InputError
from d2plan.etp.interpolate import InterpolatorOptions, Limits, Segment, SegmentStep, need_base
from d2plan.shapes import check_shape

REDONE = 0.35


class Blend:
    """Mixes, and lets the base mend what the mixing broke.

    Args:
        base: that made the keyframes.
        options: steps and guidance where they are to differ.
        redone: share of the denoising steps that are done again, 0..1; 0 decodes the mixed latents as they are.

    Raises:
        InputError: the share cannot be used.
    """

    name = "blend"

    def __init__(self, base: Backbone, options: InterpolatorOptions, redone: float = REDONE) -> None:
        if not 0 <= redone <= 1:
            raise InputError(f"redone is {redone}, but must be 0..1.")
        self.base, self.redone = base, redone
        self._count = options.steps or base.defaults.steps
        # Guidance would make what is redone more colourful than the keyframes on both sides of it.
        self._scale = 1.0 if options.guidance_scale is None else options.guidance_scale
        self.limits = Limits(fewest=2, unit=base.latent_scale)
        self.record = {
            "interpolator": self.name,
            "base": base.fingerprint,
            "steps": str(self._count),
            "guidance_scale": str(self._scale),
            "redone": str(redone),
        }

    def steps(self, segment: Segment) -> Iterator[SegmentStep]:
        """Make a segment's frames one after the other, all with the same noise, so that they do not flicker.

        Args:
            segment: within the limits.

        Yields:
            A step for each frame; the last one holds the frames.
        """
        size = (segment.first.shape[0], segment.first.shape[1])
        ends = encode_images(self.base, np.stack([segment.first, segment.last]))
        with torch.no_grad():
            text = encode_prompts(self.base, [segment.text])
            if self._scale != 1:
                text = join_states([null_states(self.base, 1), text])
        noise = draw_noise(self.base, segment.seed, size)
        pictures = []
        for index in range(segment.frames):
            mixed = mix_latents(ends[:1], ends[1:], index / (segment.frames - 1))
            # The keyframes themselves need no mending.
            redone = self.redone if 0 < index < segment.frames - 1 else 0.0
            pictures.append(decode_latents(self.base, self._mend(mixed, noise, text, size, redone)))
            done = index + 1 == segment.frames
            yield SegmentStep(index, segment.frames, np.concatenate(pictures) if done else None)

    def _mend(self, latents: Tensor, noise: Tensor, text: TextStates, size: tuple[int, int], redone: float) -> Tensor:
        scheduler = make_scheduler(self.base, self._count)
        start = len(scheduler.timesteps) - round(redone * len(scheduler.timesteps))
        if start == len(scheduler.timesteps):
            return latents
        scheduler.set_begin_index(start)
        ids = time_ids(self.base, len(text), size)
        state = scheduler.add_noise(latents, noise, scheduler.timesteps[start : start + 1])
        for timestep in scheduler.timesteps[start:]:
            with torch.no_grad():
                rows = scheduler.scale_model_input(torch.cat([state] * len(text)), timestep)
                prediction = predict(self.base, rows, timestep, text, ids)
                if len(text) == 2:
                    prediction = guide(prediction[:1], prediction[1:], self._scale)
                state = scheduler.step(prediction, timestep, state, return_dict=False)[0]
        return state


def mix_latents(first: Tensor, last: Tensor, share: float) -> Tensor:
    """Go from one latent to another on the sphere, so that what lies between does not lose contrast.

    >>> first, last = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    >>> mix_latents(first, last, 0.0).tolist(), mix_latents(first, last, 1.0).tolist()
    ([[1.0, 0.0]], [[0.0, 2.0]])

    Source: Shoemake, "Animating rotation with quaternion curves" (1985); the length is mixed by itself.

    Args:
        first: ``[b, ...]``.
        last: the same shape.
        share: of the way, 0..1.

    Returns:
        The same shape.
    """
    check_shape(last, "b ...", "last", check_shape(first, "b ...", "first"))
    if share <= 0 or share >= 1:
        return first if share <= 0 else last
    start, end = first.flatten(1).float(), last.flatten(1).float()
    lengths = [vector.norm(dim=1, keepdim=True).clamp(min=1e-12) for vector in (start, end)]
    cosine = (start / lengths[0] * end / lengths[1]).sum(1, keepdim=True).clamp(-1, 1)
    angle = cosine.acos()
    # Where both point the same way, or opposite ways, there is no arc to follow.
    straight = angle.sin().abs() < 1e-4
    sine = torch.where(straight, torch.ones_like(angle), angle.sin())
    weights = [
        torch.where(straight, torch.full_like(angle, part), (part * angle).sin() / sine) for part in (1 - share, share)
    ]
    length = (1 - share) * lengths[0] + share * lengths[1]
    mixed = weights[0] * start / lengths[0] + weights[1] * end / lengths[1]
    return (mixed * length).unflatten(1, first.shape[1:]).to(first.dtype)


def open_interpolator(name: str, options: InterpolatorOptions) -> Blend:
    """Open the mixing.

    Args:
        name: "blend".
        options: ``base`` is needed.

    Returns:
        The interpolator.

    Raises:
        InputError: there is no base.
    """
    return Blend(need_base(options, name), options)
