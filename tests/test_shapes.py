import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2plan.errors import D2PlanError, InputError, ShapeError
from d2plan.shapes import check_shape


def test_words_are_bound_to_the_sizes_that_were_seen():
    assert check_shape(np.zeros((2, 4, 8, 6)), "b 4 h w", "latents") == {"b": 2, "h": 8, "w": 6}


def test_a_word_means_the_same_size_each_time():
    check_shape(np.zeros((3, 3)), "n n", "square")
    with pytest.raises(ShapeError, match=r"square has shape \[3 4\], but \[n n\] is needed: axis n is 4 instead of 3"):
        check_shape(np.zeros((3, 4)), "n n", "square")


def test_sizes_known_from_another_tensor_hold():
    known = check_shape(np.zeros((2, 5)), "b q", "map")
    assert check_shape(np.zeros((5,)), "q", "mask", known) == {"b": 2, "q": 5}
    with pytest.raises(ShapeError, match="mask"):
        check_shape(np.zeros((4,)), "q", "mask", known)
    assert known == {"b": 2, "q": 5}


def test_a_number_is_that_size_and_an_underscore_is_any():
    assert check_shape(np.zeros((7, 3)), "_ 3", "pixels") == {}
    with pytest.raises(ShapeError, match="one axis is 4 instead of 3"):
        check_shape(np.zeros((7, 4)), "_ 3", "pixels")


@pytest.mark.parametrize("shape", [(), (1,), (1, 2, 3)])
def test_another_number_of_axes_is_refused(shape):
    with pytest.raises(ShapeError, match="another number of axes"):
        check_shape(np.zeros(shape), "a b", "it")


def test_dots_stand_for_any_axes_at_either_end():
    assert check_shape(np.zeros((9, 9, 2, 3)), "... h w", "it") == {"h": 2, "w": 3}
    assert check_shape(np.zeros((2, 3)), "... h w", "it") == {"h": 2, "w": 3}
    assert check_shape(np.zeros((2, 3, 9)), "b ...", "it") == {"b": 2}
    with pytest.raises(ShapeError):
        check_shape(np.zeros((2,)), "... h w", "it")


def test_a_shape_error_is_an_input_error_and_a_value_error():
    assert issubclass(ShapeError, InputError)
    assert issubclass(ShapeError, D2PlanError)
    assert issubclass(ShapeError, ValueError)


@given(st.lists(st.integers(0, 5), max_size=5))
def test_every_shape_fits_the_pattern_of_its_own_sizes(shape):
    array = np.zeros(shape)
    assert check_shape(array, " ".join(map(str, shape)), "it") == {}
    names = [f"axis{index}" for index in range(len(shape))]
    assert check_shape(array, " ".join(names), "it") == dict(zip(names, shape, strict=True))
