import numpy as np
import pytest
import torch
from torchmetrics.functional import pairwise_cosine_similarity
from transformers import CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

from d2plan.errors import InputError, ShapeError
from d2plan.eval.alignment import cosine_table, image_alignments, scale_to_clipscore, text_alignments
from d2plan.eval.encoders import open_clip
from d2plan.eval.temporal import consistency_adjacent, consistency_all
from tests.eval.tiny_encoders import write_tiny_clip


def vectors(count, seed, width=24):
    return np.random.default_rng(seed).normal(size=(count, width))


def oracle(first, second):
    return pairwise_cosine_similarity(torch.from_numpy(first), torch.from_numpy(second), zero_diagonal=False).numpy()


def test_the_cosines_are_those_of_torchmetrics():
    first, second = vectors(7, 1), vectors(4, 2)
    assert cosine_table(first, second) == pytest.approx(oracle(first, second), abs=1e-5)


def test_text_alignment_is_the_cosine_of_each_picture_with_its_own_text():
    images, texts = vectors(6, 3), vectors(6, 4)
    assert text_alignments(images, texts) == pytest.approx(np.diag(oracle(images, texts)), abs=1e-5)


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    return write_tiny_clip(tmp_path_factory.mktemp("clip"))


def test_the_scaled_text_alignment_is_clips_own_logit_at_another_scale(clip_folder):
    rng = np.random.default_rng(0)
    colours = ((200, 0, 0), (0, 200, 0), (0, 0, 255), (128, 128, 128), (255, 255, 0))
    images = [rng.normal(colour, 60, size=(40, 32, 3)).clip(0, 255).astype(np.uint8) for colour in colours]
    texts = ["a photo of a dog", "a cat on the beach", "a man", "a red hat", "a woman walking"]
    encoder = open_clip(f"clip:{clip_folder}")
    ours = scale_to_clipscore(text_alignments(encoder.embed_images(images), encoder.embed_texts(texts)))
    assert ours.std() > 0.05 and ours.max() > 0.1 and ours.min() == 0
    processor = CLIPProcessor(
        CLIPImageProcessor.from_pretrained(clip_folder), CLIPTokenizer.from_pretrained(clip_folder)
    )
    model = CLIPModel.from_pretrained(clip_folder)
    with torch.no_grad():
        logits = model(**processor(text=texts, images=images, return_tensors="pt", padding=True)).logits_per_image
    cosines = (logits / model.logit_scale.exp()).diag().detach().numpy()
    assert ours == pytest.approx(2.5 * np.maximum(cosines, 0), abs=1e-5)


def test_the_scale_has_a_floor_at_zero():
    assert scale_to_clipscore(np.array([0.3, 0.0, -0.2])) == pytest.approx([0.75, 0, 0])


def test_the_mean_of_image_alignments_is_that_over_all_pairs():
    images, references = vectors(5, 5), vectors(9, 6)
    table = oracle(images, references)
    assert image_alignments(images, references) == pytest.approx(table.mean(1), abs=1e-5)
    assert image_alignments(images, references).mean() == pytest.approx(table.mean(), abs=1e-5)


def test_mix_of_shows_floor_holds_for_each_pair():
    images, references = vectors(5, 7), vectors(9, 8)
    expected = np.maximum(oracle(images, references), 0).mean(1)
    assert image_alignments(images, references, floored=True) == pytest.approx(expected, abs=1e-5)


def test_the_mean_of_frames_against_targets_is_the_mean_of_their_cosines():
    # DreamVideo averages unit frames before it multiplies; that is the same number.
    frames, targets = vectors(8, 9), vectors(3, 10)
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (frames, targets)]
    assert image_alignments(frames, targets).mean() == pytest.approx((unit[1] @ unit[0].mean(0)).mean(), abs=1e-5)


def test_both_consistencies_are_means_of_torchmetrics_cosines():
    frames = vectors(6, 11)
    table = oracle(frames, frames)
    assert consistency_adjacent(frames) == pytest.approx(np.diag(table, 1).mean(), abs=1e-5)
    assert consistency_all(frames) == pytest.approx(table[~np.eye(6, dtype=bool)].mean(), abs=1e-5)


def test_a_row_of_zeros_is_refused():
    with pytest.raises(InputError, match="points nowhere"):
        cosine_table(np.zeros((1, 3)), np.ones((1, 3)))


def test_unequal_numbers_are_told():
    with pytest.raises(InputError, match="3 pictures, but 2 texts"):
        text_alignments(vectors(3, 0), vectors(2, 0))
    with pytest.raises(InputError, match="references"):
        image_alignments(vectors(3, 0), np.zeros((0, 24)))


def test_two_spaces_cannot_be_compared():
    with pytest.raises(ShapeError):
        cosine_table(np.ones((1, 3)), np.ones((1, 4)))
