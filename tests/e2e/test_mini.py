"""The embedded base: a stock SDXL folder within its size limits, that trains, composes and generates."""

import io
from contextlib import redirect_stderr
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image

from d2plan.backbone.load import Backbone, find_base, load_backbone
from d2plan.backbone.sdxl import decode_latents, encode_images
from d2plan.backbone.text import unknown_words
from d2plan.eval.judge import load_judge
from d2plan.workflows.composing.compose import compose
from d2plan.workflows.composing.generate import generate
from d2plan.workflows.training.train import train_concept
from d2plan.world.caption import write_caption
from d2plan.world.cast import CLASSES, sample_identity
from d2plan.world.folders import write_concept
from d2plan.world.scene import sample_scene
from d2plan.world.seeds import stream_rng
from d2plan.world.truth import render

MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def mini() -> Backbone:
    return load_backbone("mini")


def test_the_folder_keeps_its_size_limits() -> None:
    sizes = [path.stat().st_size for path in find_base("mini").rglob("*") if path.is_file()]
    assert sum(sizes) <= 30 * MEGABYTE
    assert max(sizes) <= 15 * 2**20


def test_the_stock_pipeline_opens_it_and_makes_the_picture_that_generate_makes(tmp_path: Path) -> None:
    prompt, steps, seed = "a photo of a dog on the beach", 4, 7
    ours = generate(prompt, tmp_path / "ours.png", seed=seed, steps=steps, guidance_scale=5.0)[0]
    with redirect_stderr(io.StringIO()):
        stock = StableDiffusionXLPipeline.from_pretrained(find_base("mini"), dtype=torch.float32)
    stock.set_progress_bar_config(disable=True)
    generator = torch.Generator("cpu").manual_seed(seed)
    theirs = stock(prompt, num_inference_steps=steps, guidance_scale=5.0, generator=generator, height=128, width=128)
    assert np.array_equal(np.asarray(Image.open(ours)), np.asarray(theirs.images[0]))


def test_every_word_of_the_world_is_one_token_and_known(mini: Backbone) -> None:
    for number in range(50):
        rng = stream_rng("heldout", number)
        text = write_caption(sample_scene(rng), rng).text
        assert unknown_words(text, mini) == []
        for tokenizer in mini.tokenizers:
            assert len(tokenizer(text).input_ids) == len(text.replace(",", " ,").split()) + 2


def test_identifiers_are_one_token_and_no_caption_holds_them(mini: Backbone) -> None:
    assert len(mini.defaults.identifiers) == 32
    for tokenizer in mini.tokenizers:
        for word in mini.defaults.identifiers:
            assert len(tokenizer(word).input_ids) == 3
    for number in range(200):
        rng = stream_rng("base", number)
        assert not set(write_caption(sample_scene(rng), rng).text.split()) & set(mini.defaults.identifiers)


def test_renders_survive_the_autoencoder(mini: Backbone) -> None:
    images = np.stack([render(sample_scene(stream_rng("heldout", 2, number))).image for number in range(12)])
    back = decode_latents(mini, encode_images(mini, images))
    assert 10 * np.log10(255**2 / np.mean((back.astype(float) - images) ** 2)) > 29


def test_it_draws_what_it_is_told(tmp_path: Path) -> None:
    scenes = []
    for number in range(8):
        rng = stream_rng("heldout", 930, number)
        scenes.append((sample_scene(rng, [sample_identity(CLASSES[number], rng)]), rng))
    images = []
    for number, (scene, rng) in enumerate(scenes):
        prompt = write_caption(scene, rng).text
        (path,) = generate(prompt, tmp_path / f"{number}.png", seed=number, steps=12, guidance_scale=5.0)
        images.append(np.asarray(Image.open(path)))
    seen = load_judge().judge_many(images)
    classes = [
        scene.figures[0].class_word in {one.class_word for one in verdict.instances}
        for (scene, _), verdict in zip(scenes, seen, strict=True)
    ]
    places = [scene.place == verdict.place for (scene, _), verdict in zip(scenes, seen, strict=True)]
    assert sum(classes) >= 7 and sum(places) >= 7


def test_a_concept_goes_from_its_folder_to_a_composed_picture(tmp_path: Path) -> None:
    write_concept(tmp_path / "rex", "dog", seed=7)
    train_concept(tmp_path / "rex", tmp_path / "rex.safetensors", identifier="<v2>", steps=2)
    scene = tmp_path / "scene.yaml"
    scene.write_text(
        "global_prompt: a photo of a dog on the beach\n"
        "instances:\n  - {concept: rex.safetensors, sub_prompt: a photo of a <v2> dog running}\nsteps: 4\nseed: 7\n"
    )
    run = compose(scene, tmp_path / "run")
    assert Image.open(run / "image.png").size == (128, 128)
    assert (run / "run.json").is_file()
