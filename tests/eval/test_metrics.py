import math

import numpy as np
import pytest

from d2plan.errors import InputError
from d2plan.eval.metrics import (
    attributes_right,
    attributes_swapped,
    centre_of,
    cosine,
    estimate,
    rank_of,
)

RED_HAT = {"accessory": "hat", "accessory_colour": "red"}
BLUE_SCARF = {"accessory": "scarf", "accessory_colour": "blue"}
BARE = {"accessory": None, "accessory_colour": None}


def test_only_what_is_said_counts():
    assert attributes_right({}, RED_HAT) is None
    assert attributes_right({"action": "running"}, {"action": "running", **RED_HAT}) is True
    assert attributes_right({"action": "running", **RED_HAT}, {"action": "running", **BLUE_SCARF}) is False
    assert attributes_right({"action": "running"}, None) is False


def test_exchanged_accessories_are_swaps_on_both():
    said, seen = [RED_HAT, BLUE_SCARF], [BLUE_SCARF, RED_HAT]
    assert [attributes_swapped(said, seen, index) for index in (0, 1)] == [True, True]


def test_right_accessories_are_no_swaps():
    said = [RED_HAT, BLUE_SCARF]
    assert [attributes_swapped(said, said, index) for index in (0, 1)] == [False, False]


def test_a_wrong_accessory_that_nobody_was_to_wear_is_no_swap():
    seen = [{"accessory": "bow", "accessory_colour": "green"}, BLUE_SCARF]
    assert attributes_swapped([RED_HAT, BLUE_SCARF], seen, 0) is False


def test_an_accessory_that_leaks_to_the_other_one_is_a_swap():
    assert attributes_swapped([RED_HAT, {}], [RED_HAT, RED_HAT], 1) is True
    assert attributes_swapped([RED_HAT, {}], [RED_HAT, BARE], 1) is False


def test_nothing_to_tell_apart_or_nobody_there_is_no_answer():
    assert attributes_swapped([RED_HAT, RED_HAT], [RED_HAT, RED_HAT], 0) is None
    assert attributes_swapped([RED_HAT, BLUE_SCARF], [None, BLUE_SCARF], 0) is None
    assert attributes_swapped([RED_HAT], [RED_HAT], 0) is None


def test_an_exchanged_action_is_a_swap():
    said = [{"action": "running"}, {"action": "sitting"}]
    assert attributes_swapped(said, [{"action": "sitting"}, {"action": "sitting"}], 0) is True


def test_a_tie_counts_against_the_right_one():
    assert rank_of(0.5, [0.5, 0.4]) == 2
    assert rank_of(0.6, [0.5, 0.4]) == 1
    assert rank_of(0.1, []) == 1


def test_cosine_of_known_vectors():
    assert cosine([1, 0], [1, 1]) == pytest.approx(math.sqrt(0.5))
    assert cosine([0, 0], [1, 1]) == 0.0


def test_the_centre_is_of_length_one_and_needs_an_embedding():
    assert centre_of([[1, 0], [0, 1]]) == pytest.approx([math.sqrt(0.5)] * 2)
    with pytest.raises(InputError, match="references"):
        centre_of(np.zeros((0, 4)))


def test_the_interval_is_that_of_the_binomial():
    groups = [[1.0]] * 80 + [[0.0]] * 20
    found = estimate(groups)
    half = 1.96 * math.sqrt(0.8 * 0.2 / 100)
    assert found.mean == pytest.approx(0.8)
    assert (found.low, found.high) == pytest.approx((0.8 - half, 0.8 + half), abs=0.02)
    assert found.count == 100


def test_values_of_one_group_do_not_narrow_the_interval():
    alone, tenfold = estimate([[1.0], [0.0]] * 20), estimate([[1.0] * 10, [0.0] * 10] * 20)
    assert tenfold.high - tenfold.low == pytest.approx(alone.high - alone.low, abs=1e-9)


def test_no_value_gives_no_estimate():
    assert estimate([[], []]) is None
