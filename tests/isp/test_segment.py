"""Detections: asked for by class, checked, and brought to the latents' size."""

import numpy as np
import pytest
import torch

from d2plan.errors import InputError
from d2plan.isp.masks import Region
from d2plan.isp.segment import Detection, detect_regions, drop_doubles, scale_detections

IMAGE = np.zeros((8, 16, 3), dtype=np.uint8)
MASK = np.zeros((8, 16), dtype=np.float32)


class Asked:
    """A detector that finds what it was made with, and remembers what it was asked."""

    def __init__(self, found: object) -> None:
        self.found, self.words = found, None

    def detect(self, image: np.ndarray, class_words: list[str]) -> object:
        self.words = list(class_words)
        return self.found


def test_each_class_is_asked_for_once_and_drawn_instances_not_at_all() -> None:
    asked = Asked([])
    regions = [Region("man"), Region("man"), Region("dog", box=(0, 0, 1, 1)), Region("cat", point=(0.5, 0.5))]
    assert detect_regions(asked, IMAGE, regions) == [] and asked.words == ["man", "cat"]
    asked = Asked([])
    assert detect_regions(asked, IMAGE, regions[2:3]) == [] and asked.words is None


def test_detections_come_strongest_first_without_the_hopeless() -> None:
    found = [Detection("man", score, MASK) for score in (0.2, 0.9, 0.01)]
    assert [item.score for item in detect_regions(Asked(found), IMAGE, [Region("man")])] == [0.9, 0.2]


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (None, "gave a NoneType"),
        ([("man", 0.5)], "no Detection"),
        ([Detection("woman", 0.5, MASK)], 'found "woman", but was asked for man'),
        ([Detection("man", 1.5, MASK)], "score 1.5"),
        ([Detection("man", float("nan"), MASK)], "score nan"),
        ([Detection("man", 0.5, MASK.T)], r"mask \[16, 8\]"),
        ([Detection("man", 0.5, np.full((8, 16), "x"))], "a mask is float"),
    ],
)
def test_what_is_no_detection_of_this_picture_is_refused_by_the_detectors_name(found: object, why: str) -> None:
    with pytest.raises(InputError, match=f"detector Asked .*{why}"):
        detect_regions(Asked(found), IMAGE, [Region("man")])


def test_a_cell_belongs_to_what_covers_half_of_it() -> None:
    mask = MASK.copy()
    mask[:, :6], mask[0, 15] = 1, np.nan
    (area,) = scale_detections([Detection("man", 0.5, mask)], (2, 4))
    assert area.tolist() == [[True, True, False, False]] * 2


def test_of_doubles_the_first_is_kept() -> None:
    area = torch.zeros(4, 4, dtype=torch.bool)
    area[:, :2] = True
    near = area.clone()
    near[0, 0] = False
    assert drop_doubles([area, near, ~area, torch.zeros_like(area)]) == [0, 2]
