"""A colour for each concept, the same one in every picture that shows it, wherever it stands in the list."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple


class Colour(NamedTuple):
    """A colour with the word that a legend writes.

    Attributes:
        rgb: red, green and blue, 0..255.
        name: what people call it.
    """

    rgb: tuple[int, int, int]
    name: str


# The first seven stay apart for most colour-blind eyes (Okabe and Ito 2008); the rest widen the choice.
PALETTE = (
    Colour((0, 114, 178), "blue"),
    Colour((230, 159, 0), "orange"),
    Colour((0, 158, 115), "green"),
    Colour((204, 121, 167), "pink"),
    Colour((86, 180, 233), "light blue"),
    Colour((213, 94, 0), "red"),
    Colour((240, 228, 66), "yellow"),
    Colour((117, 75, 161), "purple"),
    Colour((128, 82, 41), "brown"),
    Colour((102, 205, 170), "mint"),
    Colour((160, 200, 40), "lime"),
    Colour((150, 20, 70), "wine"),
    Colour((30, 50, 110), "navy"),
    Colour((250, 150, 140), "salmon"),
    Colour((110, 110, 20), "olive"),
    Colour((190, 160, 240), "lilac"),
)


# Of WCAG 2.2 for texts of common size; the grounds are the darkest light one and the lightest dark one of our pages.
_CONTRAST = 4.5
_LIGHT_GROUND, _DARK_GROUND = (241, 239, 232), (41, 45, 52)


class Shades(NamedTuple):
    """A colour as a page writes it, in hexadecimal.

    Attributes:
        plain: itself, for areas.
        on_light: for texts on a light page: as dark as it must be to be read.
        on_dark: for texts on a dark page: as light as it must be.
    """

    plain: str
    on_light: str
    on_dark: str


def shade_colour(colour: Colour) -> Shades:
    """Find the shades of a colour that can be read on a light page and on a dark one.

    >>> shade_colour(Colour((240, 228, 66), "yellow"))
    Shades(plain='#f0e442', on_light='#736d20', on_dark='#f0e442')

    Args:
        colour: one of the palette's.

    Returns:
        Its shades; each is the colour itself where that can be read.
    """
    dark = _move(colour.rgb, (0, 0, 0), _LIGHT_GROUND)
    light = _move(colour.rgb, (255, 255, 255), _DARK_GROUND)
    plain, on_light, on_dark = (f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in (colour.rgb, dark, light))
    return Shades(plain, on_light, on_dark)


def measure_contrast(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    """Measure how well one colour can be read on another.

    Source: WCAG 2.2, "contrast ratio".

    Args:
        one: red, green and blue, 0..255.
        other: the same.

    Returns:
        1 (not at all) to 21.
    """
    low, high = sorted((_measure_light(one), _measure_light(other)))
    return (high + 0.05) / (low + 0.05)


def colour_of(concept_name: str) -> Colour:
    """Give a concept its colour.

    >>> colour_of("john") == colour_of("john")
    True

    Args:
        concept_name: as the adapter file states it; case and outer blanks do not count.

    Returns:
        One of the palette's; two concepts can have the same, which ``colours_of`` sorts out within one picture.
    """
    return PALETTE[_first_choice(concept_name)]


def colours_of(concept_names: Sequence[str]) -> tuple[Colour, ...]:
    """Give the concepts of one picture their colours, no two the same while the palette lasts.

    A concept keeps ``colour_of`` its name where nobody else wants it; of several the first by name keeps it, and the
    others take the next free one. The order of the list does not matter; a name that stands twice counts as two.

    Args:
        concept_names: of the picture, in any order.

    Returns:
        One colour for each, in their order.
    """
    order = sorted(range(len(concept_names)), key=lambda index: (_fold(concept_names[index]), index))
    chosen: dict[int, int] = {}
    taken: set[int] = set()
    for asks_first in (True, False):
        for index in order:
            place = _first_choice(concept_names[index])
            if index in chosen or (asks_first and place in taken):
                continue
            if len(taken) == len(PALETTE):
                taken.clear()
            while place in taken:
                place = (place + 1) % len(PALETTE)
            chosen[index] = place
            taken.add(place)
    return tuple(PALETTE[chosen[index]] for index in range(len(concept_names)))


def _first_choice(name: str) -> int:
    # Python's own hash differs from process to process.
    return int.from_bytes(hashlib.sha256(_fold(name).encode("utf-8", "surrogatepass")).digest()[:8]) % len(PALETTE)


def _fold(name: str) -> str:
    return name.strip().casefold()


def _move(rgb: tuple[int, int, int], goal: tuple[int, int, int], ground: tuple[int, int, int]) -> tuple[int, int, int]:
    """Mix in as little of another colour as makes it readable, in steps of a hundredth."""
    for part in range(101):
        red, green, blue = (round(own + (end - own) * part / 100) for own, end in zip(rgb, goal, strict=True))
        if measure_contrast((red, green, blue), ground) >= _CONTRAST:
            return red, green, blue
    return goal


def _measure_light(rgb: tuple[int, int, int]) -> float:
    parts = [value / 255 for value in rgb]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
