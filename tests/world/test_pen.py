"""The pen fills what it is asked to fill, on the picture and on the map of owners alike."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from d2plan.world.pen import Pen, blend, shade

SIZE, SCALE = 200, 100.0
numbers = st.floats(-2, 2)


class Board:
    """A red pen of owner 7 whose origin is the middle of the board."""

    def __init__(self) -> None:
        self.picture, self.owners = Image.new("RGB", (SIZE, SIZE)), Image.new("L", (SIZE, SIZE))
        matrix = np.array([[SCALE, 0, SIZE / 2], [0, -SCALE, SIZE / 2]])
        self.pen = Pen(ImageDraw.Draw(self.picture), ImageDraw.Draw(self.owners), 7, matrix)

    def area(self) -> float:
        """Give the filled area in units, after checking that picture and owners agree."""
        red = (np.asarray(self.picture) == (255, 0, 0)).all(2)
        assert np.array_equal(red, np.asarray(self.owners) == 7)
        return float(red.sum()) / SCALE**2


@given(numbers, numbers, st.floats(-180, 180), numbers, numbers)
def test_turned_and_moved_pens_place_points_as_geometry_says(
    x: float, y: float, degrees: float, at_x: float, at_y: float
) -> None:
    pen = Board().pen.moved(at_x, at_y, 0.5).turned(degrees, (0.2, -0.1))
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    spot = (turn @ (x - 0.2, y + 0.1) + (0.2, -0.1)) * 0.5 + (at_x, at_y)
    assert pen.place(x, y) == pytest.approx((100 + 100 * spot[0], 100 - 100 * spot[1]))


def test_a_box_with_round_corners_lacks_only_its_corners() -> None:
    square, rounded, circle = Board(), Board(), Board()
    square.pen.box(-0.5, -0.4, 0.5, 0.4, (255, 0, 0))
    rounded.pen.box(-0.5, -0.4, 0.5, 0.4, (255, 0, 0), 0.2)
    circle.pen.box(-0.5, -0.5, 0.5, 0.5, (255, 0, 0), 9.0)
    assert square.area() == pytest.approx(0.8, abs=0.03)
    assert rounded.area() == pytest.approx(0.8 - (4 - np.pi) * 0.04, abs=0.03)
    assert circle.area() == pytest.approx(np.pi / 4, abs=0.03)


@pytest.mark.parametrize("degrees", [0, 30, 90])
def test_an_ellipse_keeps_its_area_when_turned(degrees: float) -> None:
    board = Board()
    board.pen.ellipse(0.1, 0.1, 0.6, 0.25, (255, 0, 0), degrees)
    assert board.area() == pytest.approx(np.pi * 0.6 * 0.25, abs=0.03)
    rows, columns = np.nonzero(np.asarray(board.owners))
    angle = np.deg2rad(degrees)
    assert np.ptp(columns) / SCALE == pytest.approx(2 * np.hypot(0.6 * np.cos(angle), 0.25 * np.sin(angle)), abs=0.03)


def test_a_limb_is_a_strip_with_round_ends() -> None:
    board = Board()
    board.pen.limb([(-0.5, 0.0), (0.5, 0.0)], 0.2, (255, 0, 0))
    assert board.area() == pytest.approx(0.2 + np.pi * 0.01, abs=0.02)


def test_a_curve_passes_through_its_points() -> None:
    board = Board()
    points = [(-0.7, -0.2), (-0.2, 0.4), (0.3, -0.3), (0.7, 0.3)]
    board.pen.curve(points, 0.08, (255, 0, 0))
    owners = np.asarray(board.owners)
    for point in points:
        column, row = board.pen.place(*point)
        assert owners[round(row), round(column)] == 7
    assert board.area() < 0.4


def test_lists_and_arrays_draw_the_same() -> None:
    points = [(0.0, 0.0), (0.5, 0.1), (0.3, 0.7)]
    first, second = Board(), Board()
    first.pen.polygon(points, (255, 0, 0))
    second.pen.polygon(np.array(points), (255, 0, 0))
    assert first.picture.tobytes() == second.picture.tobytes()
    assert first.area() > 0.1


def test_shades_go_from_black_through_the_colour_to_white() -> None:
    colour = (200, 100, 40)
    assert [shade(colour, factor) for factor in (0, 1, 2, 9)] == [(0, 0, 0), colour, (255,) * 3, (255,) * 3]
    assert blend((0, 0, 0), colour, 0.5) == (100, 50, 20)
