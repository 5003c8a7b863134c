"""Draw captions with weights that are still being trained, for previews."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from autoencoder import load_vae
from diffusers import AutoencoderKL, UNet2DConditionModel
from models import Recipe, make_scheduler
from tokenizer import make_tokenizer
from torch import Tensor, nn


@torch.no_grad()
def sample_images(
    unet: UNet2DConditionModel,
    encoders: nn.ModuleList,
    captions: Sequence[str],
    statistics: tuple[Tensor, Tensor],
    steps: int = 20,
    guidance_scale: float = 3.0,
    side: int = 32,
    recipe: Recipe | None = None,
) -> np.ndarray:
    """Draw one image a caption with plain guidance, by the recipe that was learnt.

    Returns:
        ``[b, 4 side, 4 side, 3]`` uint8.
    """
    device = next(unet.parameters()).device
    tokens = make_tokenizer()(list(captions), padding="max_length", return_tensors="pt").input_ids.to(device)
    outputs = [encoder(tokens, output_hidden_states=True) for encoder in encoders]
    states = torch.cat([output.hidden_states[-2] for output in outputs], -1)
    pooled = outputs[1].text_embeds
    states, pooled = torch.cat([torch.zeros_like(states), states]), torch.cat([torch.zeros_like(pooled), pooled])
    ids = torch.tensor([4.0 * side, 4 * side, 0, 0, 4 * side, 4 * side], device=device)
    added = {"text_embeds": pooled, "time_ids": ids.expand(len(pooled), 6)}
    scheduler = make_scheduler(recipe)
    scheduler.set_timesteps(steps, device=device)
    noise = torch.randn((len(captions), 4, side, side), generator=torch.Generator().manual_seed(0)).to(device)
    latents = noise * scheduler.init_noise_sigma
    for moment in scheduler.timesteps:
        rows = scheduler.scale_model_input(torch.cat([latents, latents]), moment)
        null, guess = unet(rows, moment, states, added_cond_kwargs=added).sample.chunk(2)
        latents = scheduler.step(null + guidance_scale * (guess - null), moment, latents, return_dict=False)[0]
    return decode_images(load_vae().to(device), latents * statistics[1].to(device) + statistics[0].to(device))


def decode_images(vae: AutoencoderKL, latents: Tensor) -> np.ndarray:
    """Turn latents ``[b, 4, h, w]`` as the autoencoder has them into uint8 images ``[b, 4 h, 4 w, 3]``."""
    pixels = vae.decode(latents).sample
    return pixels.add(1).mul(127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
