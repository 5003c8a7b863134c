import numpy as np
import pytest
import torch
from torch.nn import functional

from d2plan.eval.grouping import find_centres, group_instances
from d2plan.eval.networks import CELL, DENSE_LABELS, OFFSET_UNIT, SEGMENT_LABELS
from d2plan.world.cast import CLASSES, sample_identity
from d2plan.world.scene import sample_scene
from d2plan.world.seeds import stream_rng
from d2plan.world.truth import render


def ideal_output(truth, scene):
    """Give what a perfect segmenter would say of a render."""
    masks = functional.avg_pool2d(torch.from_numpy(truth.masks), CELL)
    height, width = masks.shape[1:]
    dense = torch.zeros(len(DENSE_LABELS), height, width)
    dense[0] = 10.0
    rows, columns = torch.arange(height).float()[:, None], torch.arange(width).float()[None]
    for number, mask in enumerate(masks):
        inside = (mask > 0.5) & (mask == masks.amax(0))
        dense[0][inside] = 0.0
        dense[SEGMENT_LABELS.index(scene.figures[number].class_word)][inside] = 10.0
        y, x = (mask * rows).sum() / mask.sum(), (mask * columns).sum() / mask.sum()
        centre = len(SEGMENT_LABELS)
        dense[centre] = torch.maximum(dense[centre], torch.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 5))
        dense[centre + 1] = torch.where(inside, (y - rows) / OFFSET_UNIT, dense[centre + 1])
        dense[centre + 2] = torch.where(inside, (x - columns) / OFFSET_UNIT, dense[centre + 2])
    return dense


@pytest.mark.parametrize("word", ["man", "dog", "car"])
def test_two_of_one_class_are_told_apart(word):
    rng = stream_rng("heldout", 900, CLASSES.index(word))
    scene = sample_scene(rng, [sample_identity(word, rng) for _ in range(2)])
    truth = render(scene)
    found = group_instances(ideal_output(truth, scene))
    assert len(found) == 2
    for mask in truth.masks > 0.5:
        overlaps = [
            float((mask & (part.mask.numpy() > 0.5)).sum() / (mask | (part.mask.numpy() > 0.5)).sum()) for part in found
        ]
        assert sorted(overlaps)[1] > 0.7 and sorted(overlaps)[0] < 0.1
    assert {CLASSES[int(part.class_scores.argmax())] for part in found} == {word}


def test_an_empty_picture_holds_nobody():
    dense = torch.zeros(len(DENSE_LABELS), 32, 32)
    dense[0] = 5.0
    assert group_instances(dense) == []


def test_a_speck_is_no_instance():
    dense = torch.zeros(len(DENSE_LABELS), 32, 32)
    dense[0] = 5.0
    dense[0, 10:12, 10:12], dense[1, 10:12, 10:12] = 0.0, 5.0
    dense[len(SEGMENT_LABELS), 9:13, 9:13] = 1.0
    assert group_instances(dense) == []


def test_the_box_lies_around_the_cells():
    dense = torch.zeros(len(DENSE_LABELS), 32, 32)
    dense[0] = 9.0
    dense[0, 4:12, 8:14], dense[3, 4:12, 8:14] = 0.0, 9.0
    dense[len(SEGMENT_LABELS), 7:10, 10:13] = 1.0
    (found,) = group_instances(dense)
    assert found.box == (32.0, 16.0, 56.0, 48.0)
    assert int(found.class_scores.argmax()) == 2
    assert float(found.class_scores.exp().sum()) == pytest.approx(1.0)


def test_centres_are_the_peaks_strongest_first():
    heat = np.zeros((20, 20), np.float32)
    heat[4:7, 4:7], heat[13:16, 13:16] = 0.5, 0.9
    assert find_centres(torch.from_numpy(heat)).tolist() == [[14, 14], [5, 5]]
