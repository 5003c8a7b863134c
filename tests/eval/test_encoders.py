"""Encoders of pictures and texts: what they read, what they give, and what they say of a bad one."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer, CLIPImageProcessorPil, CLIPModel

from d2plan.errors import FileError, InputError
from d2plan.eval.encoders import ImageEncoder, TextEncoder, open_clip, open_encoder
from d2plan.eval.folders import fingerprint
from d2plan.eval.judge import load_judge
from d2plan.world.cast import identity_from_seed
from d2plan.world.scene import sample_scene
from d2plan.world.truth import render
from tests.eval.tiny_encoders import SIDE, write_tiny_clip, write_tiny_dino, write_tiny_dinov2

OPENAI = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZES = [(224, 224), (90, 131), (300, 260), (517, 250), (33, 32)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("encoders")
    return {
        "clip": write_tiny_clip(root / "clip"),
        "dino": write_tiny_dino(root / "dino"),
        "dinov2": write_tiny_dinov2(root / "dinov2"),
    }


@pytest.fixture(scope="module")
def clip(folders):
    return open_clip(f"clip:{folders['clip']}")


def picture(size=(90, 131), seed=0):
    """Plain fields with edges, so that a wrong filter or a shifted crop shows; no overshoot is clipped.

    Clipped colours would depend on which axis Pillow takes first, and that differs between its versions.
    """
    rng = np.random.default_rng(seed)
    small = rng.integers(60, 190, (7, 9, 3), dtype=np.uint8)
    return np.array(Image.fromarray(small).resize((size[1], size[0]), Image.Resampling.NEAREST))


def cubic(distance):
    """Keys' kernel with a = -0.5, which Pillow calls bicubic."""
    x = np.abs(distance)
    inner = 1.5 * x**3 - 2.5 * x**2 + 1
    outer = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x < 1, inner, np.where(x < 2, outer, 0.0))


def resize_rows(values, goal):
    """Resize the first axis by the kernel, widened where the picture shrinks, to whole numbers as Pillow does."""
    count = len(values)
    scale = count / goal
    reach = max(scale, 1.0)
    middles = (np.arange(goal) + 0.5) * scale
    weights = cubic((np.arange(count)[None] + 0.5 - middles[:, None]) / reach)
    weights /= weights.sum(1, keepdims=True)
    return np.clip(np.round(np.tensordot(weights, values, 1)), 0, 255)


def prepare(image, resized, crop, mean, spread):
    """What a processor must give, in plain numpy: resize, cut the middle, scale, normalise."""
    height, width = resized
    values = resize_rows(image.astype(np.float64).transpose(1, 0, 2), width).transpose(1, 0, 2)
    values = resize_rows(values, height)
    top, left = (height - crop) // 2, (width - crop) // 2
    values = values[top : top + crop, left : left + crop] / 255
    return ((values - np.array(mean)) / np.array(spread)).transpose(2, 0, 1)


def shorter_to(size, goal):
    height, width = size
    return (goal, int(goal * width / height)) if height <= width else (int(goal * height / width), goal)


def agree(given, wanted):
    """Equal but for the last bit of a colour that both round: Pillow counts in whole numbers."""
    gap = np.abs(given - wanted)
    return gap.max() < 1.01 / 255 / 0.224 and (gap > 1e-5).mean() < 0.05


@pytest.mark.parametrize("size", SIZES)
def test_clip_reads_the_middle_of_the_picture_at_224_pixels(clip, size):
    image = picture(size)
    given = clip.prepare([image])[0].numpy()
    assert given.shape == (3, SIDE, SIDE)
    assert agree(given, prepare(image, shorter_to(size, SIDE), SIDE, *OPENAI))


@pytest.mark.parametrize("size", SIZES)
def test_dinov2_reads_the_middle_224_of_256_pixels(folders, size):
    image = picture(size)
    given = open_encoder(f"dino:{folders['dinov2']}").prepare([image])[0].numpy()
    assert agree(given, prepare(image, shorter_to(size, 256), SIDE, *IMAGENET))


@pytest.mark.parametrize("size", SIZES)
def test_dino_reads_the_whole_picture_as_a_square(folders, size):
    image = picture(size)
    given = open_encoder(f"dino:{folders['dino']}").prepare([image])[0].numpy()
    assert agree(given, prepare(image, (SIDE, SIDE), SIDE, *IMAGENET))


def test_what_an_encoder_reads_is_its_own_processors_output(clip, folders):
    own = CLIPImageProcessorPil.from_pretrained(folders["clip"])
    images = [picture(size, seed) for seed, size in enumerate(SIZES)]
    wanted = torch.cat([own(Image.fromarray(image), return_tensors="pt")["pixel_values"] for image in images])
    assert torch.equal(clip.prepare(images), wanted)


def test_another_scale_in_a_folders_processor_is_followed(folders, tmp_path):
    folder = write_tiny_clip(tmp_path / "clip")
    path = folder / "preprocessor_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps(settings | {"image_mean": [0.5] * 3, "image_std": [0.25] * 3}))
    image = np.full((SIDE, SIDE, 3), 255, np.uint8)
    assert torch.allclose(open_encoder(f"clip:{folder}").prepare([image]), torch.tensor(2.0))


def test_clip_gives_what_transformers_gives(clip, folders):
    model = CLIPModel.from_pretrained(folders["clip"]).eval()
    image = picture()
    with torch.no_grad():
        wanted = model.get_image_features(pixel_values=clip.prepare([image])).pooler_output[0].numpy()
    given = clip.embed_images([image])
    assert given.shape == (1, 16) and given.dtype == np.float32
    assert np.allclose(given[0], wanted / np.linalg.norm(wanted), atol=1e-6)


def test_cosines_of_pictures_and_texts_are_transformers_own(clip, folders):
    model = CLIPModel.from_pretrained(folders["clip"]).eval()
    texts = ["a photo of a dog", "a red hat"]
    images = [picture(seed=1), picture((60, 60), 2)]
    words = AutoTokenizer.from_pretrained(folders["clip"])(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        out = model(input_ids=words.input_ids, attention_mask=words.attention_mask, pixel_values=clip.prepare(images))
    wanted = (out.logits_per_image / model.logit_scale.exp()).detach().numpy()
    assert np.allclose(clip.embed_images(images) @ clip.embed_texts(texts).T, wanted, atol=1e-6)


@pytest.mark.parametrize("kind", ["dino", "dinov2"])
def test_dino_gives_the_first_token(folders, kind):
    encoder = open_encoder(f"dino:{folders[kind]}")
    model = AutoModel.from_pretrained(folders[kind]).eval()
    image = picture()
    with torch.no_grad():
        wanted = model(pixel_values=encoder.prepare([image])).last_hidden_state[0, 0].numpy()
    assert np.allclose(encoder.embed_images([image])[0], wanted / np.linalg.norm(wanted), atol=1e-6)
    assert encoder.kind == "dino"


def test_many_pictures_give_the_same_rows_as_one_by_one(clip):
    images = [picture((40 + seed, 60), seed) for seed in range(35)]
    together = clip.embed_images(images)
    assert np.allclose(together, np.concatenate([clip.embed_images([image]) for image in images]), atol=1e-5)
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)


def test_no_picture_and_no_text_give_no_row(clip):
    assert clip.embed_images([]).shape == (0, 16) and clip.embed_texts([]).shape == (0, 16)


def test_a_text_beyond_the_models_length_is_cut(clip):
    long = "dog " * 200
    assert np.allclose(clip.embed_texts([long]), clip.embed_texts([long + "cat"]))
    assert not np.allclose(clip.embed_texts(["dog"]), clip.embed_texts(["dog cat"]))


def test_padding_beside_a_longer_text_changes_nothing(clip):
    pair = clip.embed_texts(["a dog", "a man wearing a red hat and sunglasses in the park"])
    assert np.allclose(pair[0], clip.embed_texts(["a dog"])[0], atol=1e-6)


@pytest.mark.parametrize("name", ["mini-clip", "mini-vit", "judge"])
def test_the_embedded_encoders_open_and_describe(name):
    encoder = open_encoder(name)
    image = render(sample_scene(np.random.default_rng(0), [identity_from_seed("dog", 3)])).image
    rows = encoder.embed_images([image])
    assert encoder.name == name and encoder.source.startswith(f"{name} ")
    assert isinstance(encoder, ImageEncoder)
    assert np.linalg.norm(rows[0]) == pytest.approx(1, abs=1e-4)


def test_the_embedded_clip_reads_and_the_vit_does_not():
    encoder = open_clip("mini-clip")
    assert isinstance(encoder, TextEncoder)
    assert encoder.embed_texts(["a dog wearing a red hat on the beach"]).shape[1] == encoder.embed_images([]).shape[1]
    with pytest.raises(InputError, match=r"mini-vit.*cannot read"):
        open_clip("mini-vit")


def test_the_judge_counts_a_picture_without_anybody_as_zeros():
    rows = open_encoder("judge").embed_images([np.full((128, 128, 3), 200, np.uint8)])
    assert rows.shape == (1, 64) and not rows.any()


def test_the_judges_row_is_its_largest_instances_embedding():
    image = render(sample_scene(np.random.default_rng(4), [identity_from_seed("cat", 5)])).image
    (verdict,) = load_judge().judge_many([image])
    largest = max(verdict.instances, key=lambda seen: seen.mask.sum())
    assert np.array_equal(open_encoder("judge").embed_images([image])[0], largest.embedding)


def test_a_source_names_the_folder_and_tells_weights_apart(clip, folders, tmp_path):
    other = write_tiny_clip(tmp_path / "other", seed=1)
    assert clip.source == f"{folders['clip']} {fingerprint(folders['clip'])}"
    assert fingerprint(other) != fingerprint(folders["clip"])
    assert fingerprint(other) == fingerprint(write_tiny_clip(tmp_path / "again", seed=1))


def test_an_unknown_name_lists_those_that_there_are():
    with pytest.raises(InputError, match=r"'blip'.*mini-clip.*face:sface:FOLDER"):
        open_encoder("blip")


@pytest.mark.parametrize(("name", "kind"), [("clip", "dino"), ("dino", "clip")])
def test_a_model_of_another_kind_is_named(folders, name, kind):
    with pytest.raises(InputError, match=r"holds a model of type"):
        open_encoder(f"{name}:{folders[kind]}")


def test_a_missing_folder_and_a_model_that_is_not_here_are_told_apart(tmp_path):
    with pytest.raises(FileError, match="not a folder"):
        open_encoder(f"clip:{tmp_path}/nothing")
    with pytest.raises(FileError, match="hf download nobody/nothing-here"):
        open_encoder("clip:nobody/nothing-here")


def test_a_folder_without_a_processor_says_which_file_is_missing(tmp_path):
    folder = write_tiny_dino(tmp_path / "dino")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(FileError, match=r"preprocessor_config\.json is missing"):
        open_encoder(f"dino:{folder}")


def test_damaged_weights_are_one_clear_sentence(tmp_path):
    folder = write_tiny_dino(tmp_path / "dino")
    (folder / "model.safetensors").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00nonsense")
    with pytest.raises(FileError, match="cannot be opened"):
        open_encoder(f"dino:{folder}")
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileError, match="cannot be opened"):
        open_encoder(f"dino:{folder}")


def test_weights_of_another_model_are_not_filled_up_by_chance(folders, tmp_path):
    folder = write_tiny_dino(tmp_path / "dino")
    weights = load_file(folder / "model.safetensors")
    save_file({key: value for key, value in weights.items() if "layernorm" not in key}, folder / "model.safetensors")
    with pytest.raises(FileError, match="lacks .* weights of its model, such as"):
        open_encoder(f"dino:{folder}")
    other = write_tiny_clip(tmp_path / "clip")
    shutil.copy(folders["dinov2"] / "model.safetensors", other / "model.safetensors")
    with pytest.raises(FileError, match="lacks .* weights of its model"):
        open_encoder(f"clip:{other}")


@pytest.mark.parametrize("bad", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_an_array_that_is_no_picture_is_refused(clip, bad):
    with pytest.raises(InputError, match="picture 1"):
        clip.embed_images([picture(), bad])
