"""How much an instance is like its concept's own pictures, by the judge and by CLIP."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from d2plan.errors import FileError, InputError
from d2plan.eval.judge import load_judge
from d2plan.eval.likeness import ClipEncoder, JudgeEncoder, Place, describe_references, measure_likeness
from d2plan.world.cast import identity_from_seed
from d2plan.world.scene import sample_scene
from d2plan.world.truth import render


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> ClipEncoder:
    """A random small CLIP."""
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8,
        projection_dim=16,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("clip") / "small"
    CLIPVisionModelWithProjection(config).save_pretrained(folder)
    return ClipEncoder(folder)


def _picture(seed: int = 0, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def _mask(rows: slice, columns: slice, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    mask = np.zeros(size, np.float32)
    mask[rows, columns] = 1
    return mask


def test_a_picture_is_most_like_itself(clip: ClipEncoder) -> None:
    image, mask = _picture(), _mask(slice(8, 40), slice(0, 32))
    (own,) = clip.describe(image, [Place("dog", mask)])
    assert own is not None and np.linalg.norm(own) == pytest.approx(1, abs=1e-5)
    (likeness,) = measure_likeness(clip, image, [Place("dog", mask)], [own])
    assert likeness == pytest.approx(1, abs=1e-5)
    (other,) = measure_likeness(clip, _picture(9), [Place("dog", mask)], [own])
    assert other is not None and other < 0.9999


def test_what_lies_outside_the_mask_does_not_count(clip: ClipEncoder) -> None:
    image, mask = _picture(), _mask(slice(8, 40), slice(0, 32))
    changed = image.copy()
    changed[:, 32:], changed[:8] = 0, 255
    one, two = (clip.describe(picture, [Place("dog", mask)])[0] for picture in (image, changed))
    assert np.array_equal(one, two)
    whole = clip.describe(image, [Place("dog")])[0]
    assert not np.allclose(whole, one)


def test_an_empty_mask_finds_nobody(clip: ClipEncoder) -> None:
    empty = np.zeros((48, 64), np.float32)
    assert clip.describe(_picture(), [Place("dog", empty)]) == [None]
    found = clip.describe(_picture(), [Place("dog", empty), Place("dog")])
    assert found[0] is None and found[1] is not None
    assert measure_likeness(clip, _picture(), [Place("dog", empty)], [np.ones(16, np.float32)]) == (None,)


def test_references_are_their_middle(clip: ClipEncoder) -> None:
    images = [_picture(1), _picture(2)]
    parts = [clip.describe(image, [Place("dog")])[0] for image in images]
    middle = sum(parts)
    assert np.allclose(describe_references(clip, "dog", images), middle / np.linalg.norm(middle), atol=1e-6)


def test_a_folder_that_is_no_clip_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot be opened as a CLIP image encoder"):
        ClipEncoder(tmp_path)


def test_the_judge_takes_the_instance_in_the_mask() -> None:
    encoder = JudgeEncoder(load_judge())
    rng = np.random.default_rng(3)
    truth = render(sample_scene(rng, [identity_from_seed("dog", 1), identity_from_seed("dog", 2)]))
    masks = [np.asarray(mask, dtype=np.float32) / max(1, np.asarray(mask).max()) for mask in truth.masks]
    empty = np.zeros(truth.image.shape[:2], np.float32)
    places = [Place("dog", masks[0]), Place("dog", masks[1]), Place("dog", empty), Place("man", masks[0])]
    first, second, nobody, no_man = encoder.describe(truth.image, places)
    assert nobody is None and no_man is None
    seen = load_judge().judge(truth.image).instances
    for found, mask in ((first, masks[0]), (second, masks[1])):
        best = max(seen, key=lambda one: float(mask[one.mask].mean()))
        assert found is None or np.array_equal(found, best.embedding)
    blank = np.full((128, 128, 3), 255, np.uint8)
    with pytest.raises(InputError, match='"judge" finds no dog'):
        describe_references(encoder, "dog", [blank])


def test_one_figure_stands_for_one_instance_alone() -> None:
    rng = np.random.default_rng(3)
    truth = render(sample_scene(rng, [identity_from_seed("man", 5)]), 128)
    columns = np.arange(128) / 127
    left, right = (np.repeat(share[None], 128, 0).astype(np.float32) for share in (1 - columns, columns))
    encoder = JudgeEncoder(load_judge())
    for masks in ((left, right), (right, left)):
        found = encoder.describe(truth.image, [Place("man", mask) for mask in masks])
        shares = [float(mask[truth.masks[0] > 0.5].mean()) for mask in masks]
        assert min(shares) > 0.2, "each alone would hold him"
        assert [one is not None for one in found] == [share == max(shares) for share in shares]
