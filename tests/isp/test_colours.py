"""Colours: a concept's own, in every order and every process."""

import itertools
import os
import subprocess
import sys

from d2plan.isp.colours import PALETTE, Colour, colour_of, colours_of, measure_contrast, shade_colour


def test_a_concept_has_one_colour_in_every_process() -> None:
    code = "from d2plan.isp.colours import colour_of; print(colour_of('john').name)"
    names = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        names.add(run.stdout)
    assert names == {colour_of("john").name + "\n"}


def test_the_order_of_the_concepts_changes_no_colour() -> None:
    names = ["john", "rex", "mia", "tom"]
    wanted = dict(zip(names, colours_of(names), strict=True))
    for order in itertools.permutations(names):
        assert dict(zip(order, colours_of(order), strict=True)) == wanted


def test_concepts_of_one_picture_never_share_a_colour() -> None:
    names = [f"concept {number}" for number in range(len(PALETTE))]
    assert len(set(colours_of(names))) == len(PALETTE)
    assert len(set(colours_of(["john", "john"]))) == 2 and colours_of(["john", "john"])[0] == colour_of("john")


def test_a_colour_that_nobody_else_wants_is_kept() -> None:
    names = [f"concept {number}" for number in range(8)]
    firsts = [colour_of(name) for name in names]
    for name, first, found in zip(names, firsts, colours_of(names), strict=True):
        assert found == first or firsts.count(first) > 1, name


def test_more_concepts_than_colours_begin_anew() -> None:
    assert len(colours_of([str(number) for number in range(40)])) == 40 and colours_of([]) == ()


def test_case_and_blanks_do_not_count_and_any_text_has_a_colour() -> None:
    assert colour_of(" John ") == colour_of("john") and colour_of("") in PALETTE and colour_of("\ud800") in PALETTE


def test_every_colour_has_shades_that_can_be_read_on_light_and_on_dark_pages() -> None:
    for colour in PALETTE:
        shades = shade_colour(colour)
        read = [tuple(bytes.fromhex(shade[1:])) for shade in shades]
        assert read[0] == colour.rgb
        assert measure_contrast(read[1], (255, 255, 255)) > measure_contrast(read[1], (241, 239, 232)) >= 4.5
        assert measure_contrast(read[2], (21, 23, 27)) > measure_contrast(read[2], (41, 45, 52)) >= 4.5
    assert shade_colour(Colour((0, 0, 0), "black")).on_light == "#000000"


def test_contrast_is_that_of_the_standard() -> None:
    assert measure_contrast((0, 0, 0), (255, 255, 255)) == 21 and measure_contrast((9, 9, 9), (9, 9, 9)) == 1
    # The best known example: the lightest grey that may be read on white.
    assert measure_contrast((118, 118, 118), (255, 255, 255)) >= 4.5 > measure_contrast((119, 119, 119), (255,) * 3)
