import numpy as np
import pytest

from d2plan.dislora.data_bars import find_content


def _noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(60, 256, (height, width, 3), dtype=np.uint8)


def _padded(bars: tuple[int, int, int, int], colour: int = 0) -> np.ndarray:
    top, bottom, left, right = bars
    return np.pad(_noise(90, 120), ((top, bottom), (left, right), (0, 0)), constant_values=colour)


@pytest.mark.parametrize("bars", [(20, 20, 0, 0), (0, 0, 25, 30), (10, 12, 14, 16)])
@pytest.mark.parametrize("colour", [0, 20])
def test_bars_are_found_with_the_soft_lines_behind_them(bars: tuple[int, int, int, int], colour: int) -> None:
    top, bottom, left, right = find_content(_padded(bars, colour))
    for found, at, sign in (
        (top, bars[0], 1),
        (left, bars[2], 1),
        (bottom, bars[0] + 90, -1),
        (right, bars[2] + 120, -1),
    ):
        assert 0 <= sign * (found - at) <= 3


def test_a_few_grains_of_jpeg_do_not_hide_a_bar() -> None:
    picture = _padded((20, 20, 0, 0))
    picture[:20] += np.random.default_rng(1).integers(0, 6, (20, 120, 3), dtype=np.uint8)
    assert find_content(picture)[0] >= 20


@pytest.mark.parametrize("bars", [(0, 0, 0, 0), (20, 0, 0, 0), (1, 1, 0, 0), (300, 300, 0, 0)])
def test_no_bar_on_one_side_alone_or_as_thin_as_a_line_or_around_nearly_nothing(
    bars: tuple[int, int, int, int],
) -> None:
    picture = _padded(bars)
    assert find_content(picture) == (0, picture.shape[0], 0, picture.shape[1])


def test_a_subject_before_an_even_background_is_left_alone() -> None:
    picture = np.full((100, 100, 3), 250, np.uint8)
    picture[30:70, 40:60] = _noise(40, 20)
    assert find_content(picture) == (0, 100, 0, 100)
    rows, columns = np.ogrid[:100, :100]
    disc = (rows - 50) ** 2 + (columns - 50) ** 2 < 40**2
    picture[disc] = _noise(100, 100)[disc]
    assert find_content(picture) == (0, 100, 0, 100)


def test_sky_above_and_ground_below_are_no_bars() -> None:
    picture = np.full((100, 100, 3), 200, np.uint8)
    picture[30:70] = _noise(40, 100)
    picture[70:] = 90
    assert find_content(picture) == (0, 100, 0, 100)


@pytest.mark.parametrize("size", [(1, 1), (2, 50), (50, 50)])
def test_one_colour_has_no_bars(size: tuple[int, int]) -> None:
    assert find_content(np.zeros((*size, 3), np.uint8)) == (0, size[0], 0, size[1])
