"""The embedded model's shapes: U-Net, text encoders and scheduler in the diffusers SDXL layout."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import EulerDiscreteScheduler, UNet2DConditionModel
from tokenizer import IDENTIFIERS, LENGTH
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

TIME = 32


@dataclass(frozen=True)
class Size:
    """Widths of a U-Net and its text encoders.

    Attributes:
        blocks: of the U-Net's three levels, multiples of 16.
        heads: of each level's attention.
        layers: transformer blocks of each level.
        text: of both text encoders; the second's is the pooled vector's width as well.
        depth: layers of a text encoder.
    """

    blocks: tuple[int, int, int]
    heads: tuple[int, int, int]
    layers: tuple[int, int, int]
    text: tuple[int, int]
    depth: int = 3


# Float16 megabytes of U-Net and text encoders: small 24.5, wide 25.4 (a second layer at 8x8 is worth less than width
# where the picture is finer). With the wide autoencoder's 2.9 a folder stays below 30.
SIZES = {
    "tiny": Size((16, 32, 32), (1, 1, 1), (1, 1, 1), (32, 32), 2),
    "small": Size((48, 128, 160), (2, 4, 5), (1, 1, 2), (96, 160)),
    "wide": Size((64, 160, 160), (2, 5, 5), (1, 1, 1), (128, 192)),
}


def make_text_encoders(tokenizer: CLIPTokenizer, size: Size) -> nn.ModuleList:
    """Make both text encoders; as on SDXL the U-Net reads their last but one layer."""
    kinds = (CLIPTextModel, CLIPTextModelWithProjection)
    encoders = nn.ModuleList()
    for kind, width in zip(kinds, size.text, strict=True):
        config = CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=4 * width,
            projection_dim=size.text[1],
            num_hidden_layers=size.depth,
            num_attention_heads=width // 32,
            max_position_embeddings=LENGTH,
            hidden_act="quick_gelu",
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        # So few tokens are attended to fastest without the fused kernel, whose backward pass is slow on a CPU.
        encoders.append(kind._from_config(config, attn_implementation="eager"))
    return encoders


def make_unet(size: Size) -> UNet2DConditionModel:
    """Make the U-Net: like SDXL a first block without attention, then cross-attention at 16x16 and 8x8."""
    return UNet2DConditionModel(
        sample_size=32,
        in_channels=4,
        out_channels=4,
        block_out_channels=size.blocks,
        layers_per_block=1,
        norm_num_groups=16,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=size.heads,
        transformer_layers_per_block=size.layers,
        use_linear_projection=True,
        cross_attention_dim=sum(size.text),
        addition_embed_type="text_time",
        addition_time_embed_dim=TIME,
        projection_class_embeddings_input_dim=6 * TIME + size.text[1],
    )


@dataclass(frozen=True)
class Recipe:
    """What a U-Net learns to predict, from which noise.

    Velocity down to pure noise lets nights come out dark and snow bright; the notebook has short runs of the others.

    Attributes:
        prediction: "v_prediction" or "epsilon".
        schedule: of the betas, as diffusers names it.
        zero_snr: rescale it so that the last timestep is pure noise.
        dropout: share of the pictures, 0..1, that are shown without their caption, for guidance.
    """

    prediction: str = "v_prediction"
    schedule: str = "scaled_linear"
    zero_snr: bool = True
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise SystemExit(f"--dropout {self.dropout} is no share of the pictures; give 0 or more, below 1.")
        # Where nothing of a picture is left, its noise is all there is to see, and says nothing of the picture.
        if self.prediction == "epsilon" and make_scheduler(self).alphas_cumprod[-1] < 1e-3:
            raise SystemExit(
                "--prediction epsilon learns nothing from pure noise; give --no-zero-snr and another schedule than "
                "squaredcos_cap_v2."
            )


def make_scheduler(recipe: Recipe | None = None) -> EulerDiscreteScheduler:
    """Make the scheduler of a recipe, without one that of the embedded base."""
    recipe = recipe or Recipe()
    return EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule=recipe.schedule,
        prediction_type=recipe.prediction,
        rescale_betas_zero_snr=recipe.zero_snr,
        timestep_spacing="trailing",
    )


def settle_identifiers(tokenizer: CLIPTokenizer, encoders: nn.ModuleList, seed: int = 0) -> None:
    """Give the reserved identifiers, which no caption holds, embeddings near the mean of those that were learnt."""
    places = tokenizer.convert_tokens_to_ids(list(IDENTIFIERS))
    known = [place for place in range(len(tokenizer)) if place not in set(places)]
    generator = torch.Generator().manual_seed(seed)
    for encoder in encoders:
        table = encoder.get_input_embeddings().weight.data
        noise = torch.randn(len(places), table.shape[1], generator=generator) * table[known].std(0) * 0.1
        table[places] = table[known].mean(0) + noise
