import numpy as np
import pytest

from d2plan.errors import InputError
from d2plan.eval.crops import box_around, cut_square


def test_a_box_stands_in_the_middle_of_a_white_square():
    image = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    square = cut_square(image, (1, 2, 7, 4))
    assert square.shape == (6, 6, 3)
    assert (square[2:4] == image[2:4, 1:7]).all()
    assert (square[:2] == 255).all() and (square[4:] == 255).all()


def test_what_lies_outside_of_the_picture_is_left_off():
    image = np.zeros((6, 8, 3), np.uint8)
    assert cut_square(image, (-5.5, 1.2, 3.1, 90)).shape == (5, 5, 3)
    assert cut_square(image, (6.4, 0, 7.2, 6)).shape == (6, 6, 3)


@pytest.mark.parametrize("box", [(9, 0, 12, 3), (3, 3, 3, 5), (4, 0, 2, 2), (0, 0, float("nan"), 2)])
def test_an_empty_box_is_told(box):
    with pytest.raises(InputError, match="box"):
        cut_square(np.zeros((6, 8, 3), np.uint8), box)


def test_a_box_around_a_mask_holds_all_of_it_and_no_more():
    mask = np.zeros((5, 9))
    mask[1:3, 4:8] = 0.8
    mask[4, 0] = 0.4
    assert box_around(mask) == (4, 1, 8, 3)
    assert box_around(mask > 2) is None
