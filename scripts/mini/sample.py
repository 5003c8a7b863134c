"""Draw captions with weights that are still being trained, for previews."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from encode import load_vae
from models import make_scheduler
from torch import Tensor, nn
from transformers import CLIPTokenizer


@torch.no_grad()
def sample_images(
    unet: UNet2DConditionModel,
    encoders: nn.ModuleList,
    tokenizer: CLIPTokenizer,
    captions: Sequence[str],
    mean: Tensor,
    std: Tensor,
    steps: int = 20,
    guidance_scale: float = 3.0,
) -> np.ndarray:
    """Draw one image a caption with plain guidance.

    Returns:
        ``[b, 128, 128, 3]`` uint8.
    """
    device = next(unet.parameters()).device
    tokens = tokenizer(list(captions), padding="max_length", return_tensors="pt").input_ids.to(device)
    outputs = [encoder(tokens, output_hidden_states=True) for encoder in encoders]
    states = torch.cat([output.hidden_states[-2] for output in outputs], -1)
    pooled = outputs[1].text_embeds
    states, pooled = torch.cat([torch.zeros_like(states), states]), torch.cat([torch.zeros_like(pooled), pooled])
    added = {
        "text_embeds": pooled,
        "time_ids": torch.tensor([[128.0, 128, 0, 0, 128, 128]], device=device).expand(len(pooled), 6),
    }
    scheduler = make_scheduler()
    scheduler.set_timesteps(steps, device=device)
    noise = torch.randn((len(captions), 4, 32, 32), generator=torch.Generator().manual_seed(0)).to(device)
    latents = noise * scheduler.init_noise_sigma
    for moment in scheduler.timesteps:
        rows = scheduler.scale_model_input(torch.cat([latents, latents]), moment)
        null, guess = unet(rows, moment, states, added_cond_kwargs=added).sample.chunk(2)
        latents = scheduler.step(null + guidance_scale * (guess - null), moment, latents, return_dict=False)[0]
    vae = load_vae().to(device)
    pixels = vae.decode(latents * std.to(device) + mean.to(device)).sample
    return pixels.add(1).mul(127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
