"""The brush for places, and what several places share: sky, clouds, stars, rain, hills and trees.

Coordinates are in units of the picture's height: y is 0 at the top and 1 at the bottom, x runs from 0 to
``brush.wide``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw

from d2plan.world.pen import RGB, Point, blend, shade

_TURN = np.linspace(0, 2 * np.pi, 18, endpoint=False)
_CIRCLE: list[Point] = list(zip(np.cos(_TURN).tolist(), np.sin(_TURN).tolist(), strict=True))
_SMALL_CIRCLE = _CIRCLE[::2]
_SHARES = np.linspace(0, 1, 25)

# What a light does to a colour: how much of its saturation stays, a factor and an addition per channel.
_TONES: dict[str, tuple[float, tuple[float, float, float], tuple[float, float, float]]] = {
    "day": (1.0, (1.0, 1.0, 1.0), (0, 0, 0)),
    "sunset": (0.78, (0.9, 0.75, 0.72), (24, 10, 12)),
    "night": (0.8, (0.45, 0.5, 0.58), (4, 10, 36)),
    "rain": (0.5, (0.74, 0.77, 0.8), (4, 8, 12)),
}
SKIES: dict[str, tuple[RGB, RGB, RGB]] = {
    "day": ((108, 178, 232), (166, 212, 242), (222, 240, 250)),
    "sunset": ((128, 102, 172), (236, 142, 142), (255, 204, 128)),
    "night": ((16, 20, 58), (30, 38, 92), (64, 76, 136)),
    "rain": ((112, 124, 142), (142, 152, 166), (178, 185, 192)),
}
LAMPLIGHT: RGB = (255, 218, 120)


@dataclass(frozen=True)
class Brush:
    """Draws on the picture of a place in the tones of its light.

    Attributes:
        picture: RGB.
        light: one of day, sunset, night, rain.
        rng: what makes one picture of a place differ from the next.
        drift: a small shift of every colour, the same in the whole picture.
        draw: Pillow's pencil on ``picture``.
    """

    picture: Image.Image
    light: str
    rng: np.random.Generator
    drift: RGB = (0, 0, 0)
    draw: ImageDraw.ImageDraw = field(init=False)

    def __post_init__(self) -> None:
        """Take up the pencil."""
        object.__setattr__(self, "draw", ImageDraw.Draw(self.picture))

    @property
    def scale(self) -> int:
        """Pixels per unit: the picture's height."""
        return self.picture.height

    @property
    def wide(self) -> float:
        """The picture's width in units."""
        return self.picture.width / self.picture.height

    @property
    def dark(self) -> bool:
        """Whether lamps are on."""
        return self.light == "night"

    def tone(self, colour: RGB) -> RGB:
        """Give a colour as it looks in this light."""
        keep, (red_factor, green_factor, blue_factor), (red_more, green_more, blue_more) = _TONES[self.light]
        red, green, blue = colour[0] + self.drift[0], colour[1] + self.drift[1], colour[2] + self.drift[2]
        grey = (0.3 * red + 0.59 * green + 0.11 * blue) * (1 - keep)
        red = int((grey + red * keep) * red_factor + red_more)
        green = int((grey + green * keep) * green_factor + green_more)
        blue = int((grey + blue * keep) * blue_factor + blue_more)
        return min(max(red, 0), 255), min(max(green, 0), 255), min(max(blue, 0), 255)

    def number(self, low: float, high: float) -> float:
        """Draw a number between two others."""
        return low + (high - low) * float(self.rng.random())

    def pick(self, options: Sequence[RGB]) -> RGB:
        """Draw one of several colours."""
        return options[int(self.rng.random() * len(options))]

    def wash(self, stops: Sequence[tuple[float, RGB]]) -> None:
        """Fill the whole picture with a vertical gradient through (y, final colour) stops, sorted by y."""
        rows = (np.arange(self.scale) + 0.5) / self.scale
        places = [y for y, _ in stops]
        # Pillow keeps four bytes a pixel: handing it four spares a slow conversion.
        column = np.zeros((self.scale, 4), dtype=np.uint8)
        for i in range(3):
            column[:, i] = np.interp(rows, places, [colour[i] for _, colour in stops]) + 0.5
        self.picture.frombytes(np.repeat(column.view(np.uint32), self.picture.width, axis=1), "raw", "RGBX")

    def polygon(self, points: Sequence[Point], colour: RGB, lit: bool = False) -> None:
        """Fill a polygon; a lit one keeps its colour in every light."""
        scale = self.scale
        flat = [value * scale for point in points for value in point]
        self.draw.polygon(flat, fill=colour if lit else self.tone(colour))

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: RGB, lit: bool = False) -> None:
        """Fill an upright rectangle."""
        scale = self.scale
        corners = (round(x0 * scale), round(y0 * scale), round(x1 * scale) - 1, round(y1 * scale) - 1)
        if corners[2] >= corners[0] and corners[3] >= corners[1]:
            self.draw.rectangle(corners, fill=colour if lit else self.tone(colour))

    def disc(self, x: float, y: float, rx: float, ry: float, colour: RGB, lit: bool = False) -> None:
        """Fill an upright ellipse with half axes rx, ry."""
        circle = _CIRCLE if rx > 0.025 else _SMALL_CIRCLE
        self.polygon([(x + rx * a, y + ry * b) for a, b in circle], colour, lit)

    def half_disc(self, x: float, y: float, radius: float, low: float, colour: RGB) -> None:
        """Fill the part of a shining circle above y = low."""
        self.polygon([(x + radius * a, min(y + radius * b, low)) for a, b in _CIRCLE], colour, lit=True)

    def line(self, points: Sequence[Point], width: float, colour: RGB, lit: bool = False) -> None:
        """Draw a line of a width in units."""
        scale = self.scale
        flat = [value * scale for point in points for value in point]
        self.draw.line(flat, fill=colour if lit else self.tone(colour), width=max(1, round(width * scale)))


def paint_air(brush: Brush, horizon: float, ground: Sequence[RGB], tint: RGB | None = None) -> None:
    """Wash sky and ground, then set sun, moon, stars and clouds by the light.

    Args:
        brush: the picture.
        horizon: y of the line between sky and ground.
        ground: colours from the horizon to the bottom, evenly spaced, not toned yet.
        tint: a colour that the sky leans to, final.
    """
    sky = [blend(colour, tint, 0.45) if tint else colour for colour in SKIES[brush.light]]
    steps = [(horizon * share, colour) for share, colour in zip((0.0, 0.55, 1.0), sky, strict=True)]
    spots = np.linspace(horizon + 1e-4, 1, len(ground)).tolist() if len(ground) > 1 else [horizon + 1e-4]
    brush.wash(steps + [(y, brush.tone(colour)) for y, colour in zip(spots, ground, strict=True)])
    paint_lights(brush, horizon)


def paint_lights(brush: Brush, horizon: float) -> None:
    """Draw what hangs in the sky in this light."""
    wide = brush.wide
    side = wide * (brush.number(0.08, 0.36) if brush.rng.random() < 0.5 else brush.number(0.64, 0.92))
    if brush.light == "night":
        paint_stars(brush, horizon * 0.85, 18)
        paint_moon(brush, side, brush.number(0.09, 0.17))
    elif brush.light == "sunset":
        high = horizon - brush.number(0.05, 0.12)
        brush.half_disc(side, high, 0.125, horizon, (255, 206, 140))
        brush.half_disc(side, high, 0.085, horizon, (255, 240, 190))
    elif brush.light == "day":
        high = brush.number(0.09, 0.16)
        brush.disc(side, high, 0.07, 0.07, (255, 244, 196), lit=True)
        brush.disc(side, high, 0.05, 0.05, (255, 228, 120), lit=True)
    if not brush.dark:
        for i in range(3):
            paint_cloud(
                brush, wide * (i + brush.number(0.15, 0.85)) / 3, brush.number(0.05, 0.24), brush.number(0.045, 0.075)
            )


def paint_cloud(brush: Brush, x: float, y: float, size: float) -> None:
    """Draw a flat-bottomed cloud in the colour of its light; a rain cloud is larger."""
    colour = {"day": (250, 252, 255), "sunset": (250, 176, 164), "rain": (92, 102, 120)}[brush.light]
    size *= 1.7 if brush.light == "rain" else 1.0
    colour = blend(colour, SKIES[brush.light][1], 0.12)
    for shift, lift, radius in ((-1.1, 0.15, 0.75), (0.0, 0.5, 1.05), (1.15, 0.1, 0.7)):
        brush.disc(x + shift * size, y - lift * size, radius * size * 1.1, radius * size * 0.8, colour, lit=True)
    brush.disc(x, y + 0.25 * size, 2.0 * size, 0.45 * size, colour, lit=True)


def paint_stars(brush: Brush, low: float, count: int, lit: RGB = (240, 244, 255)) -> None:
    """Sprinkle stars between the top and y = low."""
    for across, down, size in brush.rng.random((count, 3)).tolist():
        x, y, half = across * brush.wide, down * low, 0.004 + 0.004 * size
        brush.polygon([(x - half, y), (x, y - half), (x + half, y), (x, y + half)], lit, lit=True)


def paint_moon(brush: Brush, x: float, y: float) -> None:
    """Draw the full moon with a halo and three spots."""
    brush.disc(x, y, 0.092, 0.092, (66, 76, 134), lit=True)
    brush.disc(x, y, 0.068, 0.068, (250, 244, 210), lit=True)
    for dx, dy, radius in ((-0.022, -0.016, 0.015), (0.022, 0.014, 0.019), (-0.014, 0.03, 0.01)):
        brush.disc(x + dx, y + dy, radius, radius, (222, 214, 178), lit=True)


def paint_rain(brush: Brush, area: tuple[float, float, float, float], count: int) -> None:
    """Draw slanting streaks inside x0, y0, x1, y1."""
    x0, y0, x1, y1 = area
    slant = brush.number(0.012, 0.022)
    for across, down, size in brush.rng.random((count, 3)).tolist():
        x, y, length = x0 + (x1 - x0) * across, y0 + (y1 - y0) * down * 0.94, 0.03 + 0.03 * size
        brush.line([(x, y), (x - slant * length / 0.045, min(y + length, y1))], 0.006, (214, 224, 234), lit=True)


def paint_puddles(brush: Brush, horizon: float) -> None:
    """Lay three puddles on the ground."""
    for i in range(3):
        x, y = brush.wide * (i + brush.number(0.1, 0.9)) / 3, brush.number(horizon + 0.12, 0.97)
        wide = 0.06 + 0.12 * (y - horizon)
        brush.disc(x, y, wide, wide * 0.2, (126, 142, 160), lit=True)
        brush.disc(x + wide * 0.1, y + wide * 0.03, wide * 0.7, wide * 0.12, (168, 182, 196), lit=True)


def paint_ridge(brush: Brush, y: float, rise: float, colour: RGB, low: float, waves: float = 2.0) -> None:
    """Draw a chain of soft hills between their tops near ``y`` and a flat bottom at ``low``."""
    first, second = brush.number(0, 6.3), brush.number(0, 6.3)
    tops = y - rise * (0.6 * np.sin(_SHARES * waves * 6.28 + first) + 0.4 * np.sin(_SHARES * waves * 11.3 + second))
    path = list(zip((_SHARES * brush.wide).tolist(), tops.tolist(), strict=True))
    brush.polygon([*path, (brush.wide, low), (0.0, low)], colour)


def paint_pine(brush: Brush, x: float, base: float, height: float, colour: RGB, snowy: bool = False) -> None:
    """Draw a fir in three tiers, with snow on them if asked."""
    half = height * 0.27
    brush.box(x - height * 0.04, base - height * 0.16, x + height * 0.04, base, (118, 84, 62))
    for low, high, share in ((0.12, 0.52, 1.0), (0.36, 0.76, 0.78), (0.6, 1.0, 0.55)):
        foot, top, wide = base - height * low, base - height * high, half * share
        brush.polygon([(x - wide, foot), (x, top), (x + wide, foot)], colour)
        if snowy:
            middle = foot + (top - foot) * 0.45
            brush.polygon(
                [(x - wide * 0.6, middle), (x, top), (x + wide * 0.6, middle), (x, middle + height * 0.04)],
                (244, 248, 252),
            )
        else:
            brush.polygon([(x, foot), (x, top), (x + wide, foot)], shade(colour, 0.86))


def paint_tree(brush: Brush, x: float, base: float, height: float, colour: RGB) -> None:
    """Draw a round tree with a lighter side."""
    brush.box(x - height * 0.055, base - height * 0.45, x + height * 0.055, base, (134, 98, 70))
    brush.disc(x - height * 0.13, base - height * 0.52, height * 0.22, height * 0.2, shade(colour, 0.88))
    brush.disc(x + height * 0.14, base - height * 0.54, height * 0.22, height * 0.2, shade(colour, 0.88))
    brush.disc(x, base - height * 0.7, height * 0.28, height * 0.28, colour)
    brush.disc(x - height * 0.08, base - height * 0.78, height * 0.14, height * 0.12, shade(colour, 1.18))


def paint_rock(brush: Brush, x: float, y: float, size: float, colour: RGB) -> None:
    """Draw a boulder with a shadow side."""
    brush.polygon(
        [
            (x - size, y),
            (x - size * 0.75, y - size * 0.6),
            (x - size * 0.1, y - size * 0.9),
            (x + size * 0.7, y - size * 0.6),
            (x + size, y),
        ],
        colour,
    )
    brush.polygon(
        [(x + size * 0.1, y), (x + size * 0.25, y - size * 0.55), (x + size * 0.7, y - size * 0.6), (x + size, y)],
        shade(colour, 0.85),
    )
