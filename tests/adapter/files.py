"""Adapter files as other programs write them, for the tests of this folder."""

import json
import struct

import torch
from safetensors.torch import save_file

# The second attention block on the way down shows two layers a block, without which there are no sgm names.
UNET = "down_blocks_1_attentions_1_transformer_blocks_0_attn1_to_q"
SGM = "input_blocks_5_1_transformer_blocks_0_attn1_to_q"
TEXT = "text_model_encoder_layers_0_self_attn_q_proj"
PATHS = (
    "unet.down_blocks.1.attentions.1.transformer_blocks.0.attn1.to_q",
    "text_encoder.text_model.encoder.layers.0.self_attn.q_proj",
    "text_encoder_2.text_model.encoder.layers.0.self_attn.q_proj",
)
# Program -> the stems that it gives to PATHS, and the endings of down and up.
SPELLINGS = {
    "sd-scripts": ((f"lora_unet_{SGM}", f"lora_te1_{TEXT}", f"lora_te2_{TEXT}"), "lora_down", "lora_up"),
    "OneTrainer": ((f"lora_unet_{UNET}", f"lora_te1_{TEXT}", f"lora_te2_{TEXT}"), "lora_down", "lora_up"),
    "OneTrainer, diffusers names": (
        tuple(
            f"{prefix}.{path.partition('.')[2]}"
            for prefix, path in zip(("lora_unet", "lora_te1", "lora_te2"), PATHS, strict=True)
        ),
        "lora_down",
        "lora_up",
    ),
    "OneTrainer, OMI": (
        (
            "unet.input_blocks.5.1.transformer_blocks.0.attn1.to_q",
            "clip_l.text_model.encoder.layers.0.self_attn.q_proj",
            "clip_g.text_model.encoder.layers.0.self_attn.q_proj",
        ),
        "lora_down",
        "lora_up",
    ),
    "diffusers script, transformers 5": (
        (f"lora_unet_{UNET}", f"lora_te1_{TEXT.removeprefix('text_model_')}", f"lora_te2_{TEXT}"),
        "lora_down",
        "lora_up",
    ),
    "PEFT": (PATHS, "lora_A", "lora_B"),
    "PEFT, named adapter": (tuple(f"base_model.model.{path}" for path in PATHS), "lora_A.default", "lora_B.default"),
}


def update(rank=2, width=6, height=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rank, width, generator=generator), torch.randn(height, rank, generator=generator)


def write_layers(path, stems, down="lora_down", up="lora_up", alpha=None, words=None, rank=2):
    tensors = {}
    for seed, stem in enumerate(stems):
        tensors[f"{stem}.{down}.weight"], tensors[f"{stem}.{up}.weight"] = update(rank, seed=seed)
        if alpha is not None:
            tensors[f"{stem}.alpha"] = torch.tensor(alpha)
    save_file(tensors, path, words)
    return tensors


def write_raw(path, header, payload=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + payload)
    return path
