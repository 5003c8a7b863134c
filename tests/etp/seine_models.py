"""Tiny SEINE networks with weights that let every layer speak, in both configurations."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

from d2plan.backbone.load import Backbone
from d2plan.etp.seine import CONFIG_FILE, WEIGHTS_FILE, SeineConfig, start_network, write_config
from d2plan.etp.seine_unet import OFFICIAL, ClipUnet, make_clip_unet

SMALL = {
    "sample_size": 8,
    "out_channels": 4,
    "block_out_channels": (16, 32),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 1,
    "attention_head_dim": 2,
    "cross_attention_dim": 24,
    "norm_num_groups": 8,
}


def speak(network: ClipUnet, seed: int = 0, scale: float = 0.3) -> ClipUnet:
    """Give the layers that start at zero random weights."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.unet.named_parameters():
        if any(part in name for part in ("attn_temp.to_out", ".near.", "relative_attention_bias")):
            parameter.data.copy_(scale * torch.randn(parameter.shape, generator=generator))
    with torch.no_grad():
        network.unet.conv_in.weight[:, 4:] = 0.1 * torch.randn(
            network.unet.conv_in.weight[:, 4:].shape, generator=generator
        )
    return network.eval()


def official_network(seed: int = 0) -> ClipUnet:
    """The published configuration, small."""
    torch.manual_seed(seed)
    return speak(make_clip_unet(SMALL, OFFICIAL), seed)


def write_embedded(folder: Path, base: Backbone, fingerprint: str | None = None) -> Path:
    """A folder as ``scripts/seine`` writes it: what a base does not hold, and the input layer."""
    network = speak(start_network(base))
    own = base.unet.state_dict()
    learnt = {
        name: tensor.half().contiguous()
        for name, tensor in network.unet.state_dict().items()
        if name not in own or name == "conv_in.weight"
    }
    folder.mkdir()
    save_file(learnt, folder / WEIGHTS_FILE)
    config = SeineConfig(fingerprint or base.fingerprint, (4, 16), steps=2)
    (folder / CONFIG_FILE).write_text(write_config(config))
    return folder


def write_companions(folder: Path, base: Backbone) -> Path:
    """VAE, text encoder and tokenizer as an SD 1.x folder holds them."""
    torch.manual_seed(0)
    AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        layers_per_block=1,
        sample_size=64,
    ).save_pretrained(folder / "vae")
    tokenizer = base.tokenizers[0]
    CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=24,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=tokenizer.model_max_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    ).save_pretrained(folder / "text_encoder")
    tokenizer.save_pretrained(folder / "tokenizer")
    return folder
