"""Where a picture starts: the size of its latents, its first noise, its sampler."""

from collections.abc import Sequence

import torch
from diffusers import EulerDiscreteScheduler
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from d2plan.backbone.load import Backbone
from d2plan.backbone.schedulers import Sampling, SchedulerChoice, seed_generator
from d2plan.errors import InputError


def start_sampling(
    backbone: Backbone,
    seeds: Sequence[int],
    steps: int,
    size: tuple[int, int] | None = None,
    kind: SchedulerChoice = "base",
) -> tuple[Sampling, Tensor]:
    """Draw the first noise of some pictures and make their sampler.

    Args:
        backbone: the base.
        seeds: one a picture, 0 to 2^63 - 1.
        steps: denoising steps, at least 1.
        size: height and width in pixels; the base's own without it.
        kind: the base's own sampler, or Euler's.

    Returns:
        The sampler, and x_T, ``[b, c, h, w]`` on the base's device: the same as the stock pipeline's with
        ``torch.Generator("cpu").manual_seed(seed)``, which also goes on in samplers that draw noise in their steps.

    Raises:
        InputError: a seed, the steps or the size cannot be used.
    """
    sampling = Sampling(backbone.scheduler, steps, seeds, backbone.device, kind)
    shape = (1, backbone.unet.config.in_channels, *latent_size(backbone, size))
    noise = [
        randn_tensor(shape, generator=one, device=backbone.device, dtype=backbone.dtype) for one in sampling.generators
    ]
    return sampling, torch.cat(noise) * sampling.scheduler.init_noise_sigma


def make_scheduler(backbone: Backbone, steps: int) -> EulerDiscreteScheduler:
    """Make the bare Euler sampler of a loop that keeps its own books, set to its first step.

    Args:
        backbone: the base, whose settings it takes.
        steps: denoising steps, at least 1.

    Returns:
        A fresh one; its ``timesteps`` are on the base's device.

    Raises:
        InputError: no step.
    """
    return Sampling(backbone.scheduler, steps, (), backbone.device, "euler").scheduler


def draw_noise(backbone: Backbone, seed: int, size: tuple[int, int] | None = None) -> Tensor:
    """Draw a picture's first noise on the CPU, so that a seed means the same picture on any device.

    Args:
        backbone: the base.
        seed: 0 to 2^63 - 1.
        size: height and width in pixels, multiples of ``latent_scale``; the base's own without it.

    Returns:
        Standard normal, ``[1, c, h, w]`` on the base's device.

    Raises:
        InputError: the seed or the size cannot be used.
    """
    shape = (1, backbone.unet.config.in_channels, *latent_size(backbone, size))
    return randn_tensor(shape, generator=seed_generator(seed), device=backbone.device, dtype=backbone.dtype)


def latent_size(backbone: Backbone, size: tuple[int, int] | None = None) -> tuple[int, int]:
    """Say how many latent cells a picture has.

    Args:
        backbone: the base.
        size: height and width in pixels; the base's own without it.

    Returns:
        Height and width in cells.

    Raises:
        InputError: the size is no positive multiple of what the VAE and the U-Net halve.
    """
    height, width = size or backbone.size
    unit = backbone.latent_scale
    for name, pixels in (("height", height), ("width", width)):
        if pixels < unit or pixels % unit:
            raise InputError(f"{name} is {pixels}, but must be a multiple of {unit} pixels for this base.")
    return height // unit, width // unit
