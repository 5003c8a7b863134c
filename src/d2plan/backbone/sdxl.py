"""What a base can do: prompts to text states, latents to predictions, pictures to latents and back.

Everything here gives the bits that ``StableDiffusionXLPipeline`` gives; ``tests/backbone`` holds it to that.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import CLIPTokenizer

from d2plan.backbone.load import Backbone
from d2plan.backbone.sampling import draw_noise as draw_noise
from d2plan.backbone.sampling import latent_size as latent_size
from d2plan.backbone.sampling import make_scheduler as make_scheduler
from d2plan.backbone.sampling import start_sampling
from d2plan.backbone.schedulers import SchedulerChoice
from d2plan.errors import InputError
from d2plan.shapes import check_shape


@dataclass(frozen=True, eq=False)
class TextStates:
    """What the U-Net reads of prompts, one row each.

    Attributes:
        states: both encoders' penultimate hidden states side by side, ``[b, n, d]``.
        pooled: the second encoder's projected vector, ``[b, p]``.
    """

    states: Tensor
    pooled: Tensor

    def __len__(self) -> int:
        return int(self.states.shape[0])

    def __getitem__(self, rows: slice | Sequence[int]) -> "TextStates":
        picked = rows if isinstance(rows, slice) else list(rows)
        return TextStates(self.states[picked], self.pooled[picked])


class Residuals(NamedTuple):
    """A ControlNet's additions to the U-Net, for the same rows.

    Attributes:
        down: one ``[b, c, h, w]`` for each skip connection.
        middle: ``[b, c, h, w]`` for the middle block.
    """

    down: tuple[Tensor, ...]
    middle: Tensor


class Step(NamedTuple):
    """The state of a sampling loop after one step.

    Attributes:
        index: of the step that was done, from 0.
        total: steps in all.
        latents: ``[1, c, h, w]``, less noisy than before.
    """

    index: int  # type: ignore[assignment]  # a step's number says more here than tuple.index
    total: int
    latents: Tensor


def encode_prompts(backbone: Backbone, prompts: Sequence[str]) -> TextStates:
    """Read prompts with both text encoders, as they are now (an adapter may be on).

    Args:
        backbone: the base.
        prompts: b texts; what lies behind the encoders' length is cut, as the stock pipeline does.

    Returns:
        One row for each prompt; gradient flows if it is on.

    Raises:
        InputError: there is no prompt.
    """
    if not prompts:
        raise InputError("prompts is empty; give at least one.")
    outputs = [
        encoder(tokenize(tokenizer, prompts).to(encoder.device), output_hidden_states=True)
        for tokenizer, encoder in zip(backbone.tokenizers, backbone.text_encoders, strict=True)
    ]
    # The second encoder's first output is its projected vector.
    return TextStates(torch.cat([output.hidden_states[-2] for output in outputs], dim=-1), outputs[1][0])


def encode_each(backbone: Backbone, prompts: Sequence[str]) -> list[Tensor]:
    """Give each encoder's own penultimate hidden states, which eq. (3) compares.

    Args:
        backbone: the base, an adapter on or off.
        prompts: b texts.

    Returns:
        For each encoder ``[b, n, d_e]``; side by side they are ``TextStates.states``.
    """
    widths = [encoder.config.hidden_size for encoder in backbone.text_encoders]
    return list(encode_prompts(backbone, prompts).states.split(widths, dim=-1))


def tokenize(tokenizer: CLIPTokenizer, prompts: Sequence[str]) -> Tensor:
    """Write prompts as token numbers, padded and cut to the tokenizer's length.

    Args:
        tokenizer: of one encoder.
        prompts: b texts.

    Returns:
        ``[b, n]`` int64.
    """
    length = tokenizer.model_max_length
    return tokenizer(
        list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    ).input_ids


def null_states(backbone: Backbone, count: int, negative_prompt: str | None = None) -> TextStates:
    """Give the rows of the prediction without the prompt.

    Args:
        backbone: the base.
        count: rows, all the same.
        negative_prompt: what to lead away from; None is the base's own null, zeros where it says so.

    Returns:
        ``count`` rows; the pooled vector too is zero for a null of zeros.
    """
    with torch.no_grad():
        text = encode_prompts(backbone, [negative_prompt or ""])
    if negative_prompt is None and backbone.zero_null:
        text = TextStates(torch.zeros_like(text.states), torch.zeros_like(text.pooled))
    return TextStates(text.states.expand(count, -1, -1), text.pooled.expand(count, -1))


def join_states(parts: Sequence[TextStates]) -> TextStates:
    """Put rows under each other in the order given.

    Args:
        parts: of one base.

    Returns:
        All rows, ``[sum b, n, d]`` and ``[sum b, p]``.
    """
    return TextStates(torch.cat([part.states for part in parts]), torch.cat([part.pooled for part in parts]))


def time_ids(backbone: Backbone, count: int, size: tuple[int, int] | None = None) -> Tensor:
    """Say to the U-Net what SDXL wants to know of a picture's size: original, crop corner, target.

    Args:
        backbone: the base.
        count: rows b.
        size: height and width in pixels; the base's own without it.

    Returns:
        ``[b, 6]``: height, width, 0, 0, height, width.
    """
    height, width = size or backbone.size
    row = torch.tensor([[height, width, 0, 0, height, width]], dtype=backbone.dtype)
    return row.to(backbone.device).repeat(count, 1)


def predict(
    backbone: Backbone,
    latents: Tensor,
    timestep: Tensor | float,
    text: TextStates,
    ids: Tensor,
    residuals: Residuals | None = None,
) -> Tensor:
    """Call the U-Net once.

    Args:
        backbone: the base; adapters and taps that are on take part.
        latents: x_t, ``[b, c, h, w]``, already scaled by the scheduler's ``scale_model_input``.
        timestep: one for all rows, or ``[b]``.
        text: b rows.
        ids: from ``time_ids``, ``[b, 6]``.
        residuals: a ControlNet's additions.

    Returns:
        What the base predicts (noise or velocity, as its scheduler says), ``[b, c, h, w]``.

    Raises:
        ShapeError: the rows do not agree.
    """
    sizes = check_shape(latents, "b c h w", "latents")
    check_shape(text.states, "b n d", "text.states", sizes)
    check_shape(ids, "b 6", "ids", sizes)
    return backbone.unet(
        latents,
        timestep,
        encoder_hidden_states=text.states,
        added_cond_kwargs={"text_embeds": text.pooled, "time_ids": ids},
        down_block_additional_residuals=residuals.down if residuals else None,
        mid_block_additional_residual=residuals.middle if residuals else None,
        return_dict=False,
    )[0]


def guide(unconditional: Tensor, conditional: Tensor, guidance_scale: float) -> Tensor:
    """Lead a prediction away from the prompt-free one, in the order of operations of diffusers.

    Paper: eq. (2).

    Args:
        unconditional: ``[b, c, h, w]``.
        conditional: ``[b, c, h, w]``.
        guidance_scale: w, 0 or more; 1 gives the conditional one.

    Returns:
        ``[b, c, h, w]``.
    """
    return unconditional + guidance_scale * (conditional - unconditional)


def sample_steps(
    backbone: Backbone,
    prompt: str,
    seed: int = 0,
    steps: int | None = None,
    guidance_scale: float | None = None,
    size: tuple[int, int] | None = None,
    negative_prompt: str | None = None,
    scheduler: SchedulerChoice = "base",
) -> Iterator[Step]:
    """Make one picture with plain guidance, bit for bit as the stock SDXL pipeline on the same machine.

    Paper: eq. (2).

    Args:
        backbone: the base.
        prompt: what to draw.
        seed: of the noise.
        steps: denoising steps; the base's own without it.
        guidance_scale: w; at 1 or below only the prompt's row is computed, as the stock pipeline does.
        size: height and width in pixels; the base's own without it.
        negative_prompt: what to lead away from.
        scheduler: the base's own sampler, or Euler's.

    Yields:
        A ``Step`` after each step; ``decode_latents`` on the last one's latents gives the picture.
    """
    scale = backbone.defaults.guidance_scale if guidance_scale is None else guidance_scale
    guided = scale > 1
    with torch.no_grad():
        text = encode_prompts(backbone, [prompt])
        if guided:
            text = join_states([null_states(backbone, 1, negative_prompt), text])
    ids = time_ids(backbone, len(text), size)
    total = backbone.defaults.steps if steps is None else steps
    sampling, latents = start_sampling(backbone, [seed], total, size, scheduler)
    for index, timestep in enumerate(sampling.timesteps):
        # The gradient is off inside the step only: around a yield it would be off in the caller too.
        with torch.no_grad():
            rows = sampling.scale(torch.cat([latents] * len(text)), timestep)
            prediction = predict(backbone, rows, timestep, text, ids)
            if guided:
                unconditional, conditional = prediction.chunk(2)
                prediction = guide(unconditional, conditional, scale)
            latents = sampling.step(prediction, timestep, latents)
        yield Step(index, len(sampling.timesteps), latents)


def encode_images(backbone: Backbone, images: np.ndarray | Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Turn pictures into latents.

    Args:
        backbone: the base.
        images: uint8 ``[b, h, w, 3]``, or floats -1..1 ``[b, 3, h, w]``.
        generator: draws from the VAE's distribution; without it its mode is taken.

    Returns:
        ``[b, c, h / latent_scale, w / latent_scale]`` in the U-Net's scale and number format.

    Raises:
        ShapeError: another shape.
    """
    vae = backbone.vae
    if isinstance(images, np.ndarray):
        check_shape(images, "b h w 3", "images")
        pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 127.5 - 1
    else:
        check_shape(images, "b 3 h w", "images")
        pixels = images
    with torch.no_grad():
        spread = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist
        cells = spread.mode() if generator is None else spread.sample(generator)
    mean, deviation = _latent_statistics(backbone, cells)
    return ((cells - mean) * vae.config.scaling_factor / deviation).to(backbone.dtype)


def decode_latents(backbone: Backbone, latents: Tensor) -> np.ndarray:
    """Turn latents into pictures, one after the other, so that a picture never depends on its neighbours.

    Args:
        backbone: the base.
        latents: ``[b, c, h, w]``.

    Returns:
        uint8 ``[b, h * latent_scale, w * latent_scale, 3]``.

    Raises:
        InputError: the VAE gave values that are no numbers.
    """
    vae = backbone.vae
    cells = latents.to(vae.dtype)
    if vae.config.latents_mean is None or vae.config.latents_std is None:
        cells = cells / vae.config.scaling_factor
    else:
        mean, deviation = _latent_statistics(backbone, cells)
        cells = cells * deviation / vae.config.scaling_factor + mean
    pictures = []
    for cell in cells.split(1):
        with torch.no_grad():
            pixels = vae.decode(cell, return_dict=False)[0]
        if not torch.isfinite(pixels).all():
            raise InputError("The picture holds values that are no numbers; take fp32 as precision, or lower guidance.")
        shown = (pixels * 0.5 + 0.5).clamp(0, 1).cpu().permute(0, 2, 3, 1).float().numpy()
        pictures.append((shown * 255).round().astype("uint8"))
    return np.concatenate(pictures)


def _latent_statistics(backbone: Backbone, like: Tensor) -> tuple[Tensor, Tensor]:
    config = backbone.vae.config
    if config.latents_mean is None or config.latents_std is None:
        return like.new_zeros(1), like.new_ones(1)
    return like.new_tensor(config.latents_mean).view(1, -1, 1, 1), like.new_tensor(config.latents_std).view(1, -1, 1, 1)
