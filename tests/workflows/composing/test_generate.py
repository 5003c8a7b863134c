"""A prompt in, the stock pipeline's picture out."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image

from d2plan.errors import D2PlanError, InputError
from d2plan.media.png_text import read_record
from d2plan.workflows.composing.generate import generate


def test_the_picture_is_the_stock_pipelines(tiny_folder: Path, tmp_path: Path) -> None:
    (path,) = generate("a dog on the beach", tmp_path / "new" / "dog.png", str(tiny_folder), seed=3, steps=2)
    pipeline = StableDiffusionXLPipeline.from_pretrained(tiny_folder)
    pipeline.set_progress_bar_config(disable=True)
    wanted = pipeline(
        "a dog on the beach",
        height=128,
        width=128,
        num_inference_steps=2,
        guidance_scale=5.0,
        generator=torch.Generator().manual_seed(3),
    ).images[0]
    with Image.open(path) as image:
        assert (np.asarray(image) == np.asarray(wanted)).all()
        assert "Seed: 3" in image.text["parameters"]


def test_several_pictures_have_the_next_seeds_and_say_so(tiny_folder: Path, tmp_path: Path) -> None:
    paths = generate("a dog", tmp_path / "dog.png", str(tiny_folder), seed=5, steps=1, count=2)
    assert [path.name for path in paths] == ["dog-5.png", "dog-6.png"]
    (alone,) = generate("a dog", tmp_path / "six.png", str(tiny_folder), seed=6, steps=1)
    assert alone.read_bytes() == paths[1].read_bytes() != paths[0].read_bytes()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"precision": "half"}, "precision is 'half', but must be one of fp32, bf16, fp16"),
        ({"prompt": " "}, "global_prompt"),
        ({"out": "dog.jpg"}, "end it in .png"),
        ({"count": 0}, "count is 0"),
        ({"seed": -1}, "seed"),
        ({"steps": 0}, "steps"),
        ({"base": "nowhere"}, "base: nowhere"),
    ],
)
def test_a_wrong_argument_is_one_sentence(options: dict, sentence: str, tmp_path: Path) -> None:
    arguments = {"prompt": "a dog", "out": "dog.png", "base": "mini", **options}
    with pytest.raises(D2PlanError, match=sentence):
        generate(**{**arguments, "out": tmp_path / arguments["out"]})
    assert list(tmp_path.iterdir()) == []


def test_the_number_format_is_the_one_that_was_asked_for(tiny_folder: Path, tmp_path: Path) -> None:
    (path,) = generate("a dog", tmp_path / "dog.png", str(tiny_folder), steps=1, device="cpu", precision="bf16")
    record = read_record(path)
    assert record is not None and record.machine["dtype"] == "bfloat16"
    with pytest.raises(InputError, match="device"):
        generate("a dog", tmp_path / "cat.png", str(tiny_folder), steps=1, device="nowhere")
