"""What SEINE is shown of a clip, and its sampling loop; the same for both configurations."""

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from d2plan.etp.interpolate import Frames, SegmentStep
from d2plan.etp.seine_unet import ClipUnet, FrameText
from d2plan.shapes import check_shape


class ClipScheduler(Protocol):
    """What the loop needs of a diffusers scheduler that is set to its steps."""

    timesteps: Tensor
    init_noise_sigma: float

    def scale_model_input(self, sample: Tensor, timestep: Tensor) -> Tensor:
        """Bring the state to the scale that the network was trained on."""
        ...

    def step(
        self, model_output: Tensor, timestep: Tensor, sample: Tensor, *, generator: torch.Generator, return_dict: bool
    ) -> tuple[Tensor, ...]:
        """Go one step."""
        ...


class ClipStep(NamedTuple):
    """The state of a clip's sampling after one step.

    Attributes:
        index: of the step that was done, from 0.
        total: steps in all.
        latents: ``[1, 4, f, h, w]``.
    """

    index: int  # type: ignore[assignment]  # a step's number says more here than tuple.index
    total: int
    latents: Tensor


def make_mask(frames: int, like: Tensor) -> Tensor:
    """Say which frames are to be generated: all but the first and the last.

    Args:
        frames: f, at least 2.
        like: gives number format and device; its last two axes are h and w.

    Returns:
        1 where to generate, 0 where given, ``[1, 1, f, h, w]``.
    """
    mask = like.new_ones(1, 1, frames, *like.shape[-2:])
    mask[:, :, 0] = 0
    mask[:, :, -1] = 0
    return mask


def fill_clip(first: Tensor, last: Tensor, frames: int, middle: Tensor | None = None) -> Tensor:
    """Show the given frames' latents at their places, and something that is no truth at the others.

    Args:
        first: latents of the first frame, ``[b, c, h, w]``.
        last: of the last one.
        frames: f.
        middle: latents that stand at every frame between, ``[b, c, h, w]``; None fades from the first to the last.

    Returns:
        ``[b, c, f, h, w]``.
    """
    check_shape(last, "b c h w", "last", check_shape(first, "b c h w", "first"))
    share = torch.linspace(0, 1, frames, device=first.device, dtype=first.dtype)[:, None, None]
    if middle is None:
        return first[:, :, None] * (1 - share) + last[:, :, None] * share
    clip = middle[:, :, None].expand(-1, -1, frames, -1, -1).clone()
    clip[:, :, 0], clip[:, :, -1] = first, last
    return clip


def join_channels(noisy: Tensor, mask: Tensor, filled: Tensor) -> Tensor:
    """Lay out the network's nine input channels.

    Args:
        noisy: ``[b, 4, f, h, w]``.
        mask: ``[1 or b, 1, f, h, w]``.
        filled: ``[1 or b, 4, f, h, w]``.

    Returns:
        Noisy latents, mask, masked latents: ``[b, 9, f, h, w]``.
    """
    rows = len(noisy)
    return torch.cat([noisy, mask.expand(rows, -1, -1, -1, -1), filled.expand(rows, -1, -1, -1, -1)], 1)


def sample_clip_steps(
    network: ClipUnet,
    scheduler: ClipScheduler,
    filled: Tensor,
    text: FrameText,
    guidance_scale: float,
    generator: torch.Generator,
) -> Iterator[ClipStep]:
    """Make a clip's latents from noise.

    Paper: eq. (10); SEINE (Chen et al., 2023).

    Args:
        network: the video U-Net.
        scheduler: set to its steps.
        filled: the masked latents, ``[1, 4, f, h, w]``.
        text: two rows, without and with the prompt; one row at guidance 1.
        guidance_scale: w.
        generator: on the CPU; of the first noise and of what the scheduler adds.

    Yields:
        A ``ClipStep`` after each step.
    """
    mask = make_mask(filled.shape[2], filled)
    rows = len(text.states)
    noise = torch.randn(filled.shape, generator=generator, dtype=torch.float32)
    latents = noise.to(filled.device, filled.dtype) * scheduler.init_noise_sigma
    for index, timestep in enumerate(scheduler.timesteps):
        with torch.no_grad():
            noisy = scheduler.scale_model_input(latents, timestep).expand(rows, -1, -1, -1, -1)
            prediction = network(join_channels(noisy, mask, filled), timestep, text)
            if rows == 2:
                prediction = prediction[:1] + guidance_scale * (prediction[1:] - prediction[:1])
            latents = scheduler.step(prediction, timestep, latents, generator=generator, return_dict=False)[0]
        yield ClipStep(index, len(scheduler.timesteps), latents)


def report_steps(steps: Iterator[ClipStep], decode: Callable[[Tensor], Frames]) -> Iterator[SegmentStep]:
    """Follow a sampling loop and decode its last state.

    Args:
        steps: of the loop.
        decode: turns ``[f, 4, h, w]`` into pictures.

    Yields:
        The same steps; the last one holds the pictures.
    """
    for step in steps:
        last = step.index + 1 == step.total
        yield SegmentStep(step.index, step.total, decode(step.latents[0].transpose(0, 1)) if last else None)
