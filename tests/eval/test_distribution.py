import numpy as np
import pytest
import torch
from torchmetrics.image.fid import FrechetInceptionDistance

from d2plan.errors import InputError, MissingExtraError
from d2plan.eval import distribution
from d2plan.eval.distribution import EncoderFeatures, measure_distance
from d2plan.eval.encoders import open_encoder
from tests.eval.tiny_encoders import write_tiny_dino


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return open_encoder(f"dino:{write_tiny_dino(tmp_path_factory.mktemp('vit'))}")


def pictures(count, seed, high=256, size=(40, 36)):
    return list(np.random.default_rng(seed).integers(0, high, size=(count, *size, 3), dtype=np.uint8))


def frechet(first, second):
    """FID by its definition, the root by eigenvectors of symmetric matrices."""

    def root(matrix):
        values, turns = np.linalg.eigh(matrix)
        return (turns * np.sqrt(np.clip(values, 0, None))) @ turns.T

    covariances = [np.cov(rows, rowvar=False) for rows in (first, second)]
    middle = root(root(covariances[0]) @ covariances[1] @ root(covariances[0]))
    gap = ((first.mean(0) - second.mean(0)) ** 2).sum()
    return gap + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * np.trace(middle)


def kernel(first, second):
    """The unbiased squared MMD by its definition."""

    def values(a, b):
        return (a @ b.T / a.shape[1] + 1) ** 3

    n, m = len(first), len(second)
    own = (values(first, first).sum() - np.trace(values(first, first))) / (n * (n - 1))
    other = (values(second, second).sum() - np.trace(values(second, second))) / (m * (m - 1))
    return own + other - 2 * values(first, second).mean()


def test_both_distances_are_those_of_their_definitions(encoder):
    true, drawn = pictures(60, 1), pictures(60, 2, high=128)
    found = measure_distance(encoder, true, drawn)
    rows = [encoder.embed_images(images).astype(np.float64) for images in (true, drawn)]
    assert found.fid == pytest.approx(frechet(*rows), abs=1e-5)
    assert found.kid == pytest.approx(kernel(*rows), abs=1e-5)
    assert found.kid_spread == 0
    assert (found.true_count, found.count, found.size, found.note) == (60, 60, 32, None)


def test_a_set_against_itself_is_at_no_distance(encoder):
    images = pictures(30, 3)
    found = measure_distance(encoder, images, images)
    assert found.fid == pytest.approx(0, abs=1e-5)
    assert found.kid <= 0


def test_torchmetrics_takes_our_features_as_they_are(encoder):
    true, drawn = pictures(20, 4), pictures(20, 5, high=100)
    metric = FrechetInceptionDistance(feature=EncoderFeatures(encoder))
    for images, real in ((true, True), (drawn, False)):
        metric.update(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), real=real)
    assert float(metric.compute()) == pytest.approx(measure_distance(encoder, true, drawn).fid, abs=1e-5)


def test_pictures_of_several_sizes_count_alike(encoder):
    mixed = [*pictures(3, 6), *pictures(2, 7, size=(20, 50)), *pictures(2, 8)]
    rows = encoder.embed_images(mixed).astype(np.float64)
    other = pictures(7, 9)
    expected = frechet(encoder.embed_images(other).astype(np.float64), rows)
    assert measure_distance(encoder, other, mixed).fid == pytest.approx(expected, abs=1e-5)


def test_subsets_of_an_uneven_pair_follow_the_seed_alone(encoder):
    true, drawn = pictures(30, 10), pictures(12, 11)
    state = torch.get_rng_state()
    first = measure_distance(encoder, true, drawn, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    assert measure_distance(encoder, true, drawn, seed=1) == first
    assert measure_distance(encoder, true, drawn, seed=2).kid != first.kid
    assert first.kid_spread > 0


def test_few_pictures_are_remarked_on(encoder):
    assert "too large by far" in measure_distance(encoder, pictures(5, 0), pictures(5, 1)).note


def test_one_picture_is_no_set(encoder):
    with pytest.raises(InputError, match="2 pictures or more; the pictures are 1"):
        measure_distance(encoder, pictures(3, 0), pictures(1, 1))


def test_an_encoder_that_may_find_nothing_is_refused():
    class Faces:
        kind, name, source = "face", "face:sface:here", "x"

    with pytest.raises(InputError, match="face:sface:here"):
        measure_distance(Faces(), pictures(3, 0), pictures(3, 1))


def test_a_missing_package_is_named(encoder, monkeypatch):
    def refuse(name):
        raise ImportError(name)

    monkeypatch.setattr(distribution, "import_module", refuse)
    with pytest.raises(MissingExtraError, match="d2plan\\[metrics\\]"):
        measure_distance(encoder, pictures(3, 0), pictures(3, 1))
