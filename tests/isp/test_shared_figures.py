"""Classes that look alike attend to each other's figures: each gets one all the same."""

import numpy as np
import torch

from d2plan.isp.masks import Region, find_masks
from d2plan.isp.segment import Detection
from tests.isp.blobs import SIZE, blob, centre_x


def test_two_classes_whose_words_share_both_figures_get_one_figure_each() -> None:
    # "girl" sees the clothes of both and "boy" the heads of both, a little more of each in its own.
    clothes, heads = [blob((10, x), radius=1.8) for x in (3, 12)], [blob((5, x), radius=1.8) for x in (3, 12)]
    girl, boy = clothes[0] + 0.8 * clothes[1], 0.8 * heads[0] + heads[1]
    for maps, words in (([girl, boy], ["girl", "boy"]), ([boy, girl], ["boy", "girl"])):
        result = find_masks(torch.stack(maps), [Region(word) for word in words], SIZE)
        found = dict(zip(words, result.partition.masks[1:], strict=True))
        assert set(result.routes) == {"pieces"}
        assert centre_x(found["girl"]) < 6 < 9 < centre_x(found["boy"])
        assert all(mask[5:11].amax(dim=1).min() > 0.9 for mask in found.values()), "from head to clothes"


def test_two_classes_that_attend_to_the_same_cells_are_cut_apart() -> None:
    both = blob((8, 4)) + blob((8, 11))
    dog, cat = both + 0.1 * blob((8, 4)), both + 0.1 * blob((8, 11))
    masks = find_masks(torch.stack([dog, cat]), [Region("dog"), Region("cat")], SIZE).partition.masks
    assert centre_x(masks[1]) < 6 and centre_x(masks[2]) > 9


def test_a_figure_that_is_dealt_out_stands_where_a_position_says() -> None:
    dog = 1.1 * blob((8, 4)) + blob((8, 11))
    maps = torch.stack([dog, dog.flip(1)])
    for regions in ([Region("dog", position="right"), Region("cat")], [Region("dog"), Region("cat")]):
        result = find_masks(maps, regions, SIZE)
        assert result.routes == ("pieces", "pieces")
        assert (centre_x(result.partition.masks[1]) > 9) == (regions[0].position == "right")


def test_a_class_with_a_point_is_not_dealt_out() -> None:
    dog = 1.1 * blob((8, 4)) + blob((8, 11))
    result = find_masks(torch.stack([dog, dog.flip(1)]), [Region("dog", point=(0.2, 0.5)), Region("cat")], SIZE)
    assert result.routes == ("attention", "attention")


def test_what_stands_on_something_else_is_not_cut_with_it() -> None:
    cat = blob((6, 8), radius=1.6)
    sofa = torch.zeros(SIZE)
    sofa[6:15, 1:15] = 0.8
    result = find_masks(torch.stack([cat, sofa * (1 - 0.4 * cat)]), [Region("cat"), Region("sofa")], SIZE)
    assert result.routes == ("attention", "attention")
    assert result.partition.masks[1].sum() < 0.5 * result.partition.masks[2].sum()


def test_two_that_only_touch_keep_their_own_areas_beside_a_stray_patch() -> None:
    man, dog = blob((7, 4), radius=2), blob((9, 8), radius=1.7) + 0.8 * blob((4, 13), radius=1.4)
    masks = find_masks(torch.stack([man, dog]), [Region("man"), Region("dog")], SIZE).partition.masks
    assert masks[1, 7, 3] == 1 and masks[2, 9, 9] == 1


def test_a_third_class_keeps_its_own_area_where_two_others_are_dealt_out() -> None:
    clothes, heads = [blob((12, x), radius=1.8) for x in (3, 12)], [blob((7, x), radius=1.8) for x in (3, 12)]
    girl, boy = clothes[0] + 0.8 * clothes[1], 0.8 * heads[0] + heads[1]
    bird = blob((1, 8), radius=0.9)
    result = find_masks(torch.stack([girl, bird, boy]), [Region("girl"), Region("bird"), Region("boy")], SIZE)
    assert result.routes == ("pieces", "attention", "pieces")
    assert result.partition.masks[2][5:].sum() == 0


def test_who_was_detected_in_the_gap_of_a_figure_keeps_its_place() -> None:
    clothes, heads = [blob((12, x), radius=1.4) for x in (3, 12)], [blob((4, x), radius=1.4) for x in (3, 12)]
    maps = torch.stack([clothes[0] + 0.8 * clothes[1], 0.8 * heads[0] + heads[1], torch.zeros(SIZE)])
    seen = np.zeros(SIZE, dtype=np.float32)
    seen[7:10, 1:6] = 1
    regions = [Region("girl"), Region("boy"), Region("bird")]
    result = find_masks(maps, regions, SIZE, detections=[Detection("bird", 0.9, seen, "a test")])
    assert result.routes == ("pieces", "pieces", "detect")
    assert result.partition.masks[3, 8, 3] == 1
