"""The places that nature made: beach, forest, mountain, desert, snow, meadow and moon.

Each function paints one place and gives back the y where its ground begins.
"""

from __future__ import annotations

import numpy as np

from d2plan.world.pen import RGB, blend, shade
from d2plan.world.scenery_parts import (
    Brush,
    paint_air,
    paint_pine,
    paint_ridge,
    paint_rock,
    paint_stars,
    paint_tree,
)

GREENS: tuple[RGB, ...] = ((112, 168, 104), (98, 158, 112), (132, 176, 98), (120, 160, 88))


def paint_beach(brush: Brush) -> float:
    """Paint sea, sand, a palm and sometimes a parasol or a sail."""
    sea, shore = brush.number(0.38, 0.42), brush.number(0.55, 0.58)
    paint_air(brush, sea, ((92, 170, 206), (104, 186, 212), (146, 214, 220)))
    if brush.rng.random() < 0.6:
        paint_sail(brush, brush.wide * brush.number(0.15, 0.85), sea + 0.02, brush.number(0.08, 0.12), (250, 250, 250))
    for y in (sea + 0.05, sea + 0.1):
        x = brush.wide * brush.number(0.0, 0.7)
        brush.box(x, y, x + brush.wide * 0.22, y + 0.008, (186, 226, 234))
    sand = (238, 216, 168)
    paint_ridge(brush, shore - 0.015, 0.012, (248, 252, 250), 1.0, 1.2)
    brush.box(0, shore + 0.02, brush.wide, 1, shade(sand, 0.93))
    paint_ridge(brush, shore + 0.02, 0.012, shade(sand, 0.93), 1.0, 1.2)
    paint_ridge(brush, shore + 0.055, 0.012, sand, 1.0, 1.4)
    left = brush.rng.random() < 0.5
    paint_palm(brush, brush.wide * (0.08 if left else 0.92), shore + 0.08, brush.number(0.42, 0.52), 1 if left else -1)
    if brush.rng.random() < 0.6:
        paint_parasol(brush, brush.wide * (brush.number(0.78, 0.9) if left else brush.number(0.1, 0.22)), shore + 0.1)
    for x, y in brush.rng.random((5, 2)).tolist():
        brush.disc(x * brush.wide, shore + 0.12 + 0.3 * y, 0.011, 0.007, (250, 238, 214))
    return shore + 0.03


def paint_sail(brush: Brush, x: float, water: float, size: float, sail: RGB) -> None:
    """Draw a small boat under sail on the water line."""
    brush.polygon(
        [
            (x - size * 0.55, water - size * 0.2),
            (x + size * 0.55, water - size * 0.2),
            (x + size * 0.35, water),
            (x - size * 0.35, water),
        ],
        (196, 92, 80),
    )
    brush.polygon([(x, water - size * 0.25), (x, water - size * 1.3), (x + size * 0.5, water - size * 0.25)], sail)
    brush.polygon(
        [
            (x - 0.06 * size, water - size * 0.25),
            (x - 0.06 * size, water - size * 1.1),
            (x - size * 0.4, water - size * 0.25),
        ],
        shade(sail, 0.9),
    )


def paint_palm(brush: Brush, x: float, base: float, height: float, lean: int) -> None:
    """Draw a palm that leans to the right (1) or left (-1)."""
    top_x, top_y = x + lean * height * 0.16, base - height
    trunk = (168, 124, 84)
    brush.polygon([(x - 0.024, base), (x + 0.024, base), (top_x + 0.012, top_y), (top_x - 0.012, top_y)], trunk)
    for spread, drop, colour in (
        (-0.2, 0.12, (70, 138, 92)), (0.2, 0.12, (70, 138, 92)), (-0.22, 0.0, (96, 168, 104)),
        (0.22, 0.0, (96, 168, 104)), (-0.11, -0.1, (84, 154, 98)), (0.11, -0.1, (84, 154, 98)),
    ):  # fmt: skip
        brush.polygon(
            [
                (top_x, top_y - 0.012),
                (top_x + spread * 0.55, top_y + drop * 0.3 - 0.05),
                (top_x + spread, top_y + drop),
                (top_x + spread * 0.45, top_y + drop * 0.4 + 0.005),
                (top_x, top_y + 0.02),
            ],
            colour,
        )
    brush.disc(top_x - 0.016, top_y + 0.02, 0.016, 0.016, shade(trunk, 0.8))
    brush.disc(top_x + 0.016, top_y + 0.022, 0.016, 0.016, shade(trunk, 0.7))


def paint_parasol(brush: Brush, x: float, base: float) -> None:
    """Draw a parasol stuck in the sand."""
    colour = brush.pick(((226, 112, 104), (240, 180, 84), (104, 160, 204)))
    brush.box(x - 0.006, base - 0.2, x + 0.006, base, (240, 236, 226))
    top, low = base - 0.25, base - 0.16
    brush.polygon(
        [(x, top), (x + 0.07, top + 0.025), (x + 0.12, low), (x - 0.12, low), (x - 0.07, top + 0.025)], colour
    )
    brush.polygon([(x, top), (x + 0.04, low), (x - 0.04, low)], (250, 244, 232))


def paint_forest(brush: Brush) -> float:
    """Paint trunks under a canopy, with the light of the sky between them."""
    ground = brush.number(0.54, 0.57)
    floor = brush.pick(((126, 142, 88), (138, 136, 92), (116, 144, 96)))
    paint_air(brush, ground, (shade(floor, 0.88), floor, shade(floor, 1.1)), brush.tone((176, 208, 160)))
    leaf = brush.pick(GREENS)
    paint_ridge(brush, ground - 0.08, 0.035, blend(leaf, (196, 220, 190), 0.4), ground + 0.01, 3.0)
    for i in range(6):
        x, half = brush.wide * (i + brush.number(0.1, 0.9)) / 6, brush.number(0.009, 0.014)
        brush.box(x - half, 0, x + half, ground + 0.005, (152, 142, 118))
    bark = brush.pick(((112, 82, 62), (124, 92, 66), (104, 84, 72)))
    for share in (0.05, 0.3, 0.72, 0.95):
        x, half, foot = (
            brush.wide * share + brush.number(-0.05, 0.05),
            brush.number(0.026, 0.042),
            ground + brush.number(0.03, 0.07),
        )
        brush.polygon(
            [
                (x - half, 0),
                (x + half, 0),
                (x + half, foot - 0.05),
                (x + half * 1.7, foot),
                (x - half * 1.7, foot),
                (x - half, foot - 0.05),
            ],
            bark,
        )
        brush.box(x + half * 0.35, 0, x + half, foot - 0.03, shade(bark, 0.84))
    for i in range(7):
        x, y = brush.wide * (i + brush.number(0.2, 0.8)) / 7, brush.number(-0.02, 0.06)
        brush.disc(x, y, brush.number(0.11, 0.15), brush.number(0.09, 0.13), shade(leaf, brush.number(0.68, 0.92)))
    for i in range(4):
        x = brush.wide * (i + brush.number(0.1, 0.9)) / 4
        brush.disc(
            x, ground + 0.02, brush.number(0.05, 0.09), brush.number(0.035, 0.06), shade(leaf, brush.number(0.72, 0.9))
        )
    brush.box(0, ground + 0.025, brush.wide, ground + 0.05, shade(floor, 0.88))
    for _ in range(2):
        x, y = brush.wide * brush.number(0.03, 0.97), brush.number(0.66, 0.96)
        brush.box(x - 0.008, y - 0.03, x + 0.008, y, (240, 230, 210))
        brush.disc(x, y - 0.032, 0.024, 0.015, (206, 90, 78))
    return ground + 0.04


def paint_mountain(brush: Brush) -> float:
    """Paint high peaks with white tops above firs and a stony slope."""
    ground = brush.number(0.55, 0.58)
    slope = brush.pick(((180, 180, 150), (186, 176, 154), (168, 180, 152)))
    paint_air(brush, ground, (shade(slope, 0.92), slope, shade(slope, 1.12)))
    rock = brush.pick(((138, 146, 172), (150, 142, 160), (128, 148, 166)))
    for share, top, half in ((0.15, 0.2, 0.34), (0.88, 0.17, 0.36), (0.5, 0.07, 0.42)):
        peak = brush.wide * share + brush.number(-0.07, 0.07)
        paint_peak(brush, peak, top + brush.number(-0.03, 0.05), ground, half, shade(rock, brush.number(0.94, 1.15)))
    paint_ridge(brush, ground - 0.02, 0.025, (126, 152, 116), ground + 0.03, 1.5)
    for i in range(5):
        paint_pine(
            brush,
            brush.wide * (i + brush.number(0.1, 0.9)) / 5,
            ground + 0.02,
            brush.number(0.09, 0.16),
            (88, 132, 106),
        )
    brush.box(0, ground + 0.02, brush.wide, ground + 0.04, shade(slope, 0.93))
    for _ in range(4):
        y = brush.number(0.64, 0.98)
        paint_rock(brush, brush.wide * brush.number(0.0, 1.0), y, 0.02 + 0.07 * (y - 0.55), (176, 176, 180))
    return ground + 0.03


def paint_peak(brush: Brush, x: float, top: float, foot: float, half: float, colour: RGB) -> None:
    """Draw one peak with a lit and a shadow side and a ragged white cap."""
    height = foot - top
    brush.polygon([(x - half, foot), (x, top), (x + half, foot)], colour)
    brush.polygon(
        [
            (x, top),
            (x + half, foot),
            (x + half * 0.15, foot),
            (x - half * 0.08, top + height * 0.55),
            (x + half * 0.06, top + height * 0.3),
        ],
        shade(colour, 0.86),
    )
    cap = ((-0.36, 0.36), (-0.22, 0.3), (-0.1, 0.42), (0.02, 0.3), (0.16, 0.42), (0.24, 0.3), (0.36, 0.36))
    brush.polygon([(x, top), *((x + half * a, top + height * b) for a, b in cap)], (246, 249, 253))


def paint_desert(brush: Brush) -> float:
    """Paint dunes, a red table mountain and cacti."""
    ground = brush.number(0.54, 0.57)
    sand = brush.pick(((236, 194, 132), (232, 182, 128), (240, 204, 142)))
    paint_air(brush, ground, (shade(sand, 0.95), sand, shade(sand, 1.15)), brush.tone((236, 218, 186)))
    mesa = (206, 138, 104)
    x, half, top = brush.wide * brush.number(0.2, 0.8), brush.number(0.13, 0.2), ground - brush.number(0.16, 0.24)
    brush.polygon([(x - half, ground), (x - half * 0.75, top), (x + half * 0.7, top), (x + half, ground)], mesa)
    brush.polygon(
        [(x + half * 0.3, ground), (x + half * 0.35, top), (x + half * 0.7, top), (x + half, ground)], shade(mesa, 0.87)
    )
    brush.polygon(
        [
            (x - half * 0.83, top + 0.06),
            (x - half * 0.8, top + 0.035),
            (x + half * 0.76, top + 0.035),
            (x + half * 0.8, top + 0.06),
        ],
        shade(mesa, 1.25),
    )
    paint_ridge(brush, ground - 0.03, 0.045, shade(sand, 0.86), ground + 0.06, 1.3)
    paint_ridge(brush, ground + 0.01, 0.025, shade(sand, 0.95), ground + 0.06, 1.0)
    for share, size in ((0.1, 1.0), (0.9, 0.8)):
        cactus = brush.wide * share + brush.number(-0.06, 0.1)
        paint_cactus(brush, cactus, ground + brush.number(0.04, 0.09), size * brush.number(0.24, 0.34))
    for y in (0.72, 0.83, 0.94):
        x = brush.wide * brush.number(-0.1, 0.6)
        brush.polygon([(x, y), (x + 0.2, y - 0.012), (x + 0.45, y), (x + 0.2, y + 0.004)], shade(sand, 0.93))
    return ground + 0.03


def paint_cactus(brush: Brush, x: float, base: float, height: float) -> None:
    """Draw a cactus with two arms."""
    green, half = (104, 156, 108), height * 0.09
    for side, low, high in ((-1, 0.35, 0.72), (1, 0.48, 0.86)):
        arm = x + side * height * 0.27
        brush.box(min(x, arm), base - height * (low + 0.13), max(x, arm), base - height * low, green)
        brush.box(arm - half * 0.7, base - height * high, arm + half * 0.7, base - height * (low + 0.02), green)
        brush.disc(arm, base - height * high, half * 0.7, half * 0.7, green)
    brush.box(x - half, base - height, x + half, base, green)
    brush.disc(x, base - height, half, half, green)
    brush.box(x + half * 0.25, base - height, x + half, base, shade(green, 0.86))


def paint_snow(brush: Brush) -> float:
    """Paint white hills, snowy firs and falling flakes."""
    ground = brush.number(0.54, 0.57)
    paint_air(brush, ground, ((222, 232, 244), (236, 242, 250), (246, 249, 253)), brush.tone((206, 218, 234)))
    paint_ridge(brush, ground - 0.09, 0.05, (206, 220, 238), ground + 0.05, 1.1)
    for i in range(4):
        paint_pine(
            brush, brush.wide * (i + brush.number(0.1, 0.9)) / 4, ground, brush.number(0.14, 0.2), (134, 164, 164), True
        )
    paint_ridge(brush, ground - 0.005, 0.02, (222, 232, 244), ground + 0.06, 1.3)
    for share in (0.08, 0.92):
        x = brush.wide * share + brush.number(-0.04, 0.05)
        paint_pine(brush, x, ground + brush.number(0.05, 0.1), brush.number(0.32, 0.44), (98, 142, 134), True)
    for _ in range(2):
        x, y = brush.wide * brush.number(0.1, 0.9), brush.number(0.72, 0.94)
        brush.disc(x, y, 0.16, 0.022, (224, 234, 246))
    if brush.light != "rain":
        paint_stars(brush, 0.9, 26, lit=brush.tone((252, 253, 255)))
    return ground + 0.03


def paint_meadow(brush: Brush) -> float:
    """Paint rolling green hills, a fence or a tree, and flowers."""
    ground = brush.number(0.53, 0.56)
    grass = brush.pick(((152, 198, 112), (142, 196, 122), (166, 202, 108)))
    paint_air(brush, ground, (shade(grass, 0.95), grass, shade(grass, 1.08)))
    paint_ridge(brush, ground - 0.1, 0.06, blend(grass, (168, 206, 200), 0.5), ground + 0.02, 0.9)
    paint_ridge(brush, ground - 0.03, 0.035, shade(grass, 0.88), ground + 0.02, 1.2)
    for _ in range(2):
        paint_tree(
            brush, brush.wide * brush.number(0.05, 0.95), ground + 0.01, brush.number(0.12, 0.24), brush.pick(GREENS)
        )
    paint_ridge(brush, ground + 0.01, 0.008, shade(grass, 0.95), ground + 0.05, 1.5)
    if brush.rng.random() < 0.6:
        for i in range(6):
            x = brush.wide * (i + 0.5) / 6
            brush.box(x - 0.009, ground - 0.06, x + 0.009, ground + 0.05, (238, 228, 208))
        for y in (ground - 0.04, ground):
            brush.box(0, y, brush.wide, y + 0.014, (238, 228, 208))
    petals: tuple[RGB, ...] = ((252, 250, 244), (250, 220, 110), (242, 160, 180), (190, 160, 226), (240, 130, 110))
    for across, down in zip(brush.rng.random(14).tolist(), np.linspace(0.1, 1, 14).tolist(), strict=True):
        x, y = across * brush.wide, ground + 0.06 + (0.9 - ground) * down
        size = 0.01 + 0.024 * (y - ground)
        brush.disc(x, y, size * 1.3, size * 1.1, brush.pick(petals))
        brush.disc(x, y, size * 0.5, size * 0.45, (246, 200, 90))
    return ground + 0.03


def paint_moon_land(brush: Brush) -> float:
    """Paint craters under a black sky with the Earth in it; the sun stands high, low, or behind the Moon."""
    ground = brush.number(0.54, 0.58)
    tops: dict[str, RGB] = {"day": (22, 24, 40), "sunset": (44, 22, 40), "night": (8, 8, 24)}
    lows: dict[str, RGB] = {"day": (50, 54, 78), "sunset": (150, 78, 62), "night": (18, 20, 48)}
    dust = (196, 196, 204)
    toned = [brush.tone(shade(dust, factor)) for factor in (0.88, 1.0, 1.12)]
    brush.wash(
        [
            (0, tops[brush.light]),
            (ground, lows[brush.light]),
            (ground + 1e-4, toned[0]),
            (0.75, toned[1]),
            (1, toned[2]),
        ]
    )
    paint_stars(brush, ground - 0.04, {"day": 9, "sunset": 14, "night": 40}[brush.light])
    left = brush.rng.random() < 0.5
    x, y = brush.wide * (brush.number(0.15, 0.3) if left else brush.number(0.7, 0.85)), brush.number(0.16, 0.24)
    paint_earth(brush, x, y, brush.number(0.1, 0.125))
    sun = brush.wide - x
    if brush.light == "day":
        brush.disc(sun, 0.1, 0.075, 0.075, (120, 122, 136), lit=True)
        brush.disc(sun, 0.1, 0.052, 0.052, (255, 252, 236), lit=True)
    elif brush.light == "sunset":
        brush.half_disc(sun, ground - 0.05, 0.12, ground, (226, 116, 70))
        brush.half_disc(sun, ground - 0.05, 0.08, ground, (255, 214, 140))
    paint_ridge(brush, ground - 0.03, 0.03, shade(dust, 0.78), ground + 0.03, 1.6)
    paint_ridge(brush, ground + 0.005, 0.012, shade(dust, 0.88), ground + 0.05, 1.1)
    for i in range(6):
        x, y = (
            brush.wide * ((i * 2 % 5) + brush.number(0.1, 0.9)) / 5,
            ground + 0.08 + (0.9 - ground) * (i + brush.number(0, 0.6)) / 6,
        )
        wide = 0.035 + 0.17 * (y - ground) * brush.number(0.6, 1.2)
        brush.disc(x, y, wide, wide * 0.3, shade(dust, 1.25))
        brush.disc(x, y + wide * 0.03, wide * 0.86, wide * 0.22, shade(dust, 0.8))
    return ground + 0.03


def paint_earth(brush: Brush, x: float, y: float, radius: float) -> None:
    """Draw the Earth with land, ice and a cloud."""
    brush.disc(x, y, radius, radius, (84, 150, 214), lit=True)
    brush.disc(x - radius * 0.35, y - radius * 0.25, radius * 0.42, radius * 0.38, (118, 180, 112), lit=True)
    brush.disc(x + radius * 0.3, y + radius * 0.4, radius * 0.4, radius * 0.32, (132, 186, 116), lit=True)
    brush.disc(x + radius * 0.45, y - radius * 0.35, radius * 0.22, radius * 0.18, (118, 180, 112), lit=True)
    brush.disc(x, y - radius * 0.88, radius * 0.38, radius * 0.12, (246, 250, 254), lit=True)
    brush.disc(x - radius * 0.05, y + radius * 0.08, radius * 0.6, radius * 0.09, (240, 246, 252), lit=True)
