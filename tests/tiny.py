"""A random small SDXL in the diffusers layout, for tests that need the real classes and no weights."""

import functools
import json
import sys
import tempfile
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    EulerDiscreteScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from tokenizers import AddedToken
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from d2plan.adapter.file import Adapter, Delta
from d2plan.adapter.names import COMPONENTS
from d2plan.backbone.load import Backbone, load_backbone

LENGTH = 48
IDENTIFIERS = tuple(f"<v{number}>" for number in range(1, 33))
WORDS = tuple(
    "a an the of on in at with and to photo picture man woman boy girl dog cat horse bear teddy car ball beach park "
    "forest street room snow night day sunset hat scarf sunglasses red blue green yellow black white brown orange "
    "wearing holding sitting standing running jumping walking left right middle".split()
)
DEFAULTS = {
    "steps": 4,
    "guidance_scale": 5.0,
    "height": 128,
    "width": 128,
    "rank": 4,
    "unet_rate": 1e-3,
    "text_rate": 1e-4,
    "train_steps": 6,
    "batch_size": 2,
    "identifiers": list(IDENTIFIERS),
}


def tiny_backbone(seed: int = 0) -> Backbone:
    """Open the base of ``write_tiny``; every call gives models of its own.

    Args:
        seed: of the weights.

    Returns:
        128 px, latents 32x32x4, cross-attention at 16x16 and 8x8.
    """
    return load_backbone(Path(_cached_folder(seed).name) / "tiny")


def tiny_adapter(base: Backbone, seed: int = 0, rank: int = 3, alpha: float = 6.0) -> Adapter:
    """Make an adapter with random updates on every attention layer, as training leaves one.

    Args:
        base: from ``tiny_backbone``.
        seed: of the updates.
        rank: of each.
        alpha: strength times rank.

    Returns:
        The adapter, for the class word "dog" and the identifier "<v1>".
    """
    generator = torch.Generator().manual_seed(seed + 1)
    deltas = {}
    for component, model in zip(COMPONENTS, (base.unet, *base.text_encoders), strict=True):
        for path, layer in model.named_modules():
            if path.endswith(("to_q", "to_k", "to_v", "to_out.0", "q_proj", "k_proj", "v_proj", "out_proj")):
                level = "" if component == "unet" else "text_model."
                down = torch.randn(rank, layer.in_features, generator=generator) / layer.in_features**0.5
                up = 0.2 * torch.randn(layer.out_features, rank, generator=generator)
                deltas[f"{component}.{level}{path.removeprefix('text_model.')}"] = Delta(down, up, alpha)
    return Adapter("Rex", "dog", "<v1>", base.fingerprint, rank, alpha, deltas, {"steps": "6"})


@functools.cache
def _cached_folder(seed: int) -> tempfile.TemporaryDirectory[str]:
    # It serves the whole session, and goes with the object at the interpreter's end.
    folder = tempfile.TemporaryDirectory(prefix="d2plan-tiny-")
    write_tiny(Path(folder.name) / "tiny", seed)
    return folder


def write_tiny(folder: Path, seed: int = 0) -> Path:
    """Write a random small SDXL base.

    Args:
        folder: where to; made if missing.
        seed: of the weights.

    Returns:
        The folder.
    """
    tokenizers = (_make_tokenizer("<|endoftext|>"), _make_tokenizer("!"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline = StableDiffusionXLPipeline(
            vae=_make_vae(),
            text_encoder=CLIPTextModel(_text_config(tokenizers[0], 32, 40)),
            text_encoder_2=CLIPTextModelWithProjection(_text_config(tokenizers[1], 48, 40)),
            tokenizer=tokenizers[0],
            tokenizer_2=tokenizers[1],
            unet=_make_unet(),
            scheduler=EulerDiscreteScheduler(
                beta_start=0.00085,
                beta_end=0.012,
                beta_schedule="scaled_linear",
                timestep_spacing="leading",
                steps_offset=1,
                prediction_type="epsilon",
            ),
            add_watermarker=False,
        )
    pipeline.save_pretrained(folder)
    (folder / "d2plan.json").write_text(json.dumps(DEFAULTS), encoding="utf-8")
    (folder / "words.txt").write_text("\n".join(WORDS), encoding="utf-8")
    return folder


def tiny_control(base: Backbone, seed: int = 0) -> ControlNetModel:
    """A ControlNet of the base's shape; its last layers are zeros in a fresh one, so they are drawn too."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = ControlNetModel.from_unet(base.unet, conditioning_embedding_out_channels=(8, 16, 16))
        for block in (*net.controlnet_down_blocks, net.controlnet_mid_block, net.controlnet_cond_embedding.conv_out):
            torch.nn.init.normal_(block.weight, std=0.2)
    return net.eval().requires_grad_(False)


def _make_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=32,
        in_channels=4,
        out_channels=4,
        block_out_channels=(16, 32, 48),
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 2, 4),
        transformer_layers_per_block=(1, 1, 2),
        use_linear_projection=True,
        cross_attention_dim=80,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=88,
    )


def _make_vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8, 16),
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4,
        layers_per_block=1,
        sample_size=128,
        scaling_factor=0.7,
        force_upcast=True,
    )


def _text_config(tokenizer: CLIPTokenizer, width: int, projection: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=projection,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=LENGTH,
        hidden_act="quick_gelu",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _make_tokenizer(pad: str) -> CLIPTokenizer:
    letters = "!\"#$%&'()*+,-./0123456789:;<=>?@[]^_abcdefghijklmnopqrstuvwxyz"
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    merges: list[tuple[str, str]] = []
    # Short words first: a longer one is then merged from the pieces that those left of it, with no merge undone.
    for word in sorted(WORDS, key=len):
        pieces = _split(word, merges)
        while len(pieces) > 1:
            merges.append((pieces[0], pieces[1]))
            tokens.append(pieces[0] + pieces[1])
            pieces = _split(word, merges)
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    for special in ("<|startoftext|>", "<|endoftext|>"):
        vocabulary[special] = len(vocabulary)
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=LENGTH, pad_token=pad)
    tokenizer.add_tokens([AddedToken(word, normalized=False) for word in IDENTIFIERS])
    return tokenizer


def _split(word: str, merges: list[tuple[str, str]]) -> list[str]:
    """Byte pair encoding: apply the merges in their order."""
    pieces = [*word[:-1], f"{word[-1]}</w>"]
    for first, second in merges:
        index = 0
        while index < len(pieces) - 1:
            if (pieces[index], pieces[index + 1]) == (first, second):
                pieces[index : index + 2] = [first + second]
            index += 1
    return pieces


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tests.tiny FOLDER")
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    folder = write_tiny(Path(sys.argv[1]))
    tiny_control(load_backbone(folder)).save_pretrained(folder / "controlnet")
    print(folder)
