"""Random small encoders as folders of transformers, with the picture processors that their big relatives have."""

import torch
from transformers import (
    BitImageProcessorPil,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    ViTConfig,
    ViTImageProcessorPil,
    ViTModel,
)

from tests.tiny import _make_tokenizer

SIDE = 224


def spread(model):
    """Draw weights so wide that pictures differ in what is said of them; as they come, all look alike."""
    for weights in model.parameters():
        if weights.ndim > 1:
            torch.nn.init.normal_(weights, std=0.3)
    return model


def write_tiny_clip(folder, seed=0):
    """CLIP ViT-B/32's form: 224 px, shorter side and middle, OpenAI's mean and spread."""
    tokenizer = _make_tokenizer("<|endoftext|>")
    vision = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": SIDE,
        "patch_size": 32,
    }
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 24,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 48,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = spread(CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=16)))
    model.save_pretrained(folder)
    CLIPImageProcessorPil().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_tiny_dino(folder, seed=0):
    """DINO's form: a ViT without a pooling layer, the whole picture to 224 px square."""
    config = ViTConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=32,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = spread(ViTModel(config, add_pooling_layer=False))
    model.save_pretrained(folder)
    mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    ViTImageProcessorPil(resample=3, image_mean=mean, image_std=deviation).save_pretrained(folder)
    return folder


def write_tiny_dinov2(folder, seed=0):
    """DINOv2's form: shorter side to 256, the middle 224 px, ImageNet's mean and spread."""
    config = Dinov2Config(
        hidden_size=32,
        mlp_ratio=2,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=28,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = spread(Dinov2Model(config))
    model.save_pretrained(folder)
    mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    BitImageProcessorPil(size={"shortest_edge": 256}, image_mean=mean, image_std=deviation).save_pretrained(folder)
    return folder
