"""Real photographs become an adapter that stock diffusers opens; README shows the same commands."""

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from d2plan.adapter.file import load_adapter
from d2plan.workflows.training.train import train_concept
from tests.tiny import write_tiny


def test_photographs_are_learnt_and_stock_diffusers_opens_the_file(outside_data: Path, tmp_path: Path) -> None:
    photos = outside_data / "photos" / "dog6"
    if not photos.is_dir():
        pytest.skip(f"outside data: {photos} is not there")
    base = write_tiny(tmp_path / "random")
    path = train_concept(photos, tmp_path / "dog.safetensors", "dog", base=base, steps=3, preview=True)
    assert load_adapter(path).settings["pictures"] == str(len(list(photos.glob("*.jpg"))))
    pipeline = StableDiffusionXLPipeline.from_pretrained(base, add_watermarker=False)
    layers = dict(pipeline.unet.named_modules())
    name = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
    seen = torch.randn(1, 5, layers[name].in_features, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = layers[name](seen)
        pipeline.load_lora_weights(str(path))
        after = dict(pipeline.unet.named_modules())[name](seen)
    delta = load_adapter(path).deltas[f"unet.{name}"]
    torch.testing.assert_close(after - before, seen @ (delta.up @ delta.down).T, atol=1e-5, rtol=1e-4)
    assert (after - before).abs().max() > 0
