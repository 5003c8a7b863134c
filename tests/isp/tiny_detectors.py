"""Grounding DINO and SAM with random weights, small enough to run in milliseconds, their processors included."""

from pathlib import Path

import torch
from transformers import (
    BertConfig,
    BertTokenizerFast,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessorPil,
    GroundingDinoProcessor,
    SamConfig,
    SamImageProcessorPil,
    SamMaskDecoderConfig,
    SamModel,
    SamProcessor,
    SamPromptEncoderConfig,
    SamVisionConfig,
    SwinConfig,
)

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] . man dog teddy bear".split()


def write_dino(folder: Path) -> Path:
    """Write a Grounding DINO that has eight candidates and knows ``WORDS``."""
    config = GroundingDinoConfig(
        backbone_config=SwinConfig(
            image_size=64,
            embed_dim=8,
            depths=[1, 1, 1, 1],
            num_heads=[1, 1, 2, 2],
            window_size=4,
            out_features=["stage2", "stage3", "stage4"],
        ),
        text_config=BertConfig(
            vocab_size=len(WORDS),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=64,
        ),
        d_model=32,
        encoder_layers=1,
        encoder_ffn_dim=16,
        encoder_attention_heads=2,
        decoder_layers=2,
        decoder_ffn_dim=16,
        decoder_attention_heads=2,
        num_queries=8,
        max_text_len=32,
    )
    torch.manual_seed(0)
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    tokenizer = BertTokenizerFast(vocab={word: place for place, word in enumerate(WORDS)})
    pictures = GroundingDinoImageProcessorPil(size={"shortest_edge": 96, "longest_edge": 144})
    GroundingDinoProcessor(pictures, tokenizer).save_pretrained(folder)
    return folder


def write_sam(folder: Path) -> Path:
    """Write a SAM of 64 px."""
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "mlp_dim": 16}
    config = SamConfig(
        vision_config=SamVisionConfig(
            output_channels=16,
            image_size=64,
            patch_size=16,
            num_pos_feats=8,
            global_attn_indexes=[0],
            window_size=2,
            **small,
        ),
        prompt_encoder_config=SamPromptEncoderConfig(
            hidden_size=16, image_size=64, patch_size=16, mask_input_channels=4
        ),
        mask_decoder_config=SamMaskDecoderConfig(iou_head_hidden_dim=16, **small),
    )
    torch.manual_seed(0)
    SamModel(config).save_pretrained(folder)
    pictures = SamImageProcessorPil(
        size={"longest_edge": 64},
        pad_size={"height": 64, "width": 64},
        mask_size={"longest_edge": 16},
        mask_pad_size={"height": 16, "width": 16},
    )
    SamProcessor(pictures).save_pretrained(folder)
    return folder
