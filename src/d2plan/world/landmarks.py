"""The places that people built: city, room, castle, Eiffel Tower and harbour.

Each function paints one place and gives back the y where its ground begins.
"""

from __future__ import annotations

from d2plan.world.pen import RGB, blend, shade
from d2plan.world.scenery_parts import (
    LAMPLIGHT,
    SKIES,
    Brush,
    paint_air,
    paint_rain,
    paint_ridge,
    paint_tree,
)


def paint_city(brush: Brush) -> float:
    """Paint a street in front of two rows of houses with windows."""
    ground = brush.number(0.56, 0.59)
    street = (162, 164, 174)
    paint_air(brush, ground, (shade(street, 0.95), street, shade(street, 1.1)))
    far = blend((168, 180, 204), SKIES[brush.light][1], 0.25)
    for i in range(7):
        x = brush.wide * (i + brush.number(-0.1, 0.3)) / 7
        brush.box(x, brush.number(0.1, 0.32), x + brush.wide * brush.number(0.11, 0.17), ground, far)
    walls: tuple[RGB, ...] = (
        (206, 150, 130),
        (222, 202, 168),
        (150, 172, 194),
        (170, 190, 176),
        (196, 176, 200),
        (214, 178, 140),
    )
    first = int(brush.number(0, 6))
    for i in range(5):
        x = brush.wide * i / 5 + 0.005
        paint_house(brush, (x, brush.number(0.16, 0.38), x + brush.wide / 5 - 0.01, ground), walls[(first + i) % 6])
    brush.box(0, ground, brush.wide, ground + 0.07, (206, 204, 200))
    brush.box(0, ground + 0.07, brush.wide, ground + 0.085, (134, 136, 146))
    shift = brush.number(-0.12, 0.05)
    for i in range(6):
        x = shift + i * 0.24
        brush.polygon([(x, 0.84), (x + 0.12, 0.84), (x + 0.115, 0.86), (x - 0.01, 0.86)], (236, 234, 222))
    x = brush.wide * (brush.number(0.03, 0.1) if brush.rng.random() < 0.5 else brush.number(0.9, 0.97))
    brush.box(x - 0.008, 0.26, x + 0.008, ground + 0.05, (86, 92, 108))
    brush.disc(x, 0.25, 0.026, 0.026, LAMPLIGHT if brush.dark else (246, 244, 226), lit=brush.dark)
    return ground + 0.04


def paint_house(brush: Brush, area: tuple[float, float, float, float], colour: RGB) -> None:
    """Draw a house front with two columns of windows; at night most of them are lit."""
    x0, y0, x1, y1 = area
    brush.box(x0, y0, x1, y1, colour)
    brush.box(x0 - 0.006, y0, x1 + 0.006, y0 + 0.022, shade(colour, 0.82))
    wide = x1 - x0
    for row in range(int((y1 - y0 - 0.05) / 0.085)):
        y = y0 + 0.05 + row * 0.085
        for share in (0.16, 0.58):
            lit = brush.rng.random() < 0.7 and brush.dark
            brush.box(
                x0 + wide * share,
                y,
                x0 + wide * (share + 0.26),
                y + 0.048,
                LAMPLIGHT if lit else shade(colour, 0.66),
                lit,
            )


def paint_room(brush: Brush) -> float:
    """Paint a living room: window, sofa, lamp, picture and rug; the light comes through the window and the lamp."""
    ground = brush.number(0.57, 0.6)
    wall = brush.pick(((236, 216, 186), (206, 220, 208), (226, 206, 212), (204, 216, 230)))
    floor = brush.pick(((202, 164, 124), (190, 152, 118), (212, 178, 140)))
    top, low = brush.tone(shade(wall, 0.94)), brush.tone(wall)
    boards = [brush.tone(shade(floor, factor)) for factor in (0.9, 1.08)]
    brush.wash([(0, top), (ground, low), (ground + 1e-4, boards[0]), (1, boards[1])])
    for i in range(6):
        x = brush.wide * (i + 0.25) / 6
        brush.box(x, 0, x + brush.wide / 14, ground, shade(wall, 0.965))
    brush.box(0, ground - 0.025, brush.wide, ground, (246, 240, 230))
    for y in (ground + 0.06, ground + 0.15, ground + 0.28):
        brush.box(0, y, brush.wide, y + 0.005, shade(floor, 0.88))
    left = brush.rng.random() < 0.5
    window = brush.wide * (0.27 if left else 0.73) + brush.number(-0.04, 0.04)
    paint_window(brush, (window - 0.16, 0.08, window + 0.16, 0.4))
    sofa = brush.wide - window
    frame = sofa + brush.number(-0.05, 0.05)
    brush.box(frame - 0.085, 0.1, frame + 0.085, 0.24, (168, 124, 84))
    brush.box(
        frame - 0.068, 0.117, frame + 0.068, 0.223, brush.pick(((236, 190, 150), (160, 200, 210), (240, 226, 180)))
    )
    brush.polygon([(frame - 0.068, 0.223), (frame - 0.01, 0.15), (frame + 0.068, 0.223)], (150, 172, 140))
    paint_sofa(
        brush, sofa, ground + 0.06, brush.pick(((150, 168, 196), (196, 148, 140), (152, 178, 150), (190, 170, 198)))
    )
    paint_lamp(brush, brush.wide * (0.94 if left else 0.06), ground + 0.05)
    rug = brush.pick(((206, 140, 130), (140, 160, 190), (170, 186, 150), (216, 180, 130)))
    middle = brush.wide / 2 + brush.number(-0.06, 0.06)
    brush.disc(middle, 0.84, 0.42, 0.115, shade(rug, 1.3))
    brush.disc(middle, 0.84, 0.37, 0.095, rug)
    brush.disc(middle, 0.84, 0.27, 0.065, shade(rug, 1.12))
    return ground + 0.04


def paint_window(brush: Brush, area: tuple[float, float, float, float]) -> None:
    """Draw a window with curtains and the weather behind it."""
    x0, y0, x1, y1 = area
    brush.box(x0 - 0.018, y0 - 0.018, x1 + 0.018, y1 + 0.018, (250, 248, 242))
    sky = SKIES[brush.light]
    for i in range(4):
        colour = blend(sky[min(i // 2, 1)], sky[min(i // 2 + 1, 2)], 0.5 * (i % 2))
        brush.box(x0, y0 + (y1 - y0) * i / 4, x1, y0 + (y1 - y0) * (i + 1) / 4, colour, lit=True)
    x, y = x0 + (x1 - x0) * brush.number(0.35, 0.65), y0 + (y1 - y0) * 0.33
    if brush.light == "night":
        for dx, dy in ((-0.09, 0.12), (0.08, 0.14), (-0.08, -0.04), (0.08, -0.06), (0.0, 0.13)):
            brush.disc(x + dx, y + dy, 0.006, 0.006, (240, 244, 255), lit=True)
        brush.disc(x, y, 0.045, 0.045, (250, 244, 210), lit=True)
    elif brush.light == "sunset":
        brush.disc(x, y1 - 0.09, 0.06, 0.06, (255, 236, 176), lit=True)
    elif brush.light == "day":
        brush.disc(x, y, 0.036, 0.022, (250, 252, 255), lit=True)
        brush.disc(x + 0.04, y + 0.008, 0.04, 0.018, (250, 252, 255), lit=True)
    brush.box(x0, y1 - 0.06, x1, y1, (134, 176, 116))
    if brush.light == "rain":
        paint_rain(brush, (x0 + 0.02, y0, x1, y1), 22)
    middle = (x0 + x1) / 2
    brush.box(middle - 0.007, y0, middle + 0.007, y1, (250, 248, 242))
    brush.box(x0, y0 + 0.14, x1, y0 + 0.152, (250, 248, 242))
    curtain = brush.pick(((226, 150, 130), (160, 184, 210), (226, 196, 130), (176, 200, 160)))
    for edge, side in ((x0, 1), (x1, -1)):
        brush.polygon(
            [
                (edge - side * 0.04, y0 - 0.03),
                (edge + side * 0.07, y0 - 0.03),
                (edge + side * 0.02, y0 + 0.2),
                (edge + side * 0.035, y1 + 0.05),
                (edge - side * 0.04, y1 + 0.05),
            ],
            curtain,
        )
    brush.box(x0 - 0.06, y0 - 0.045, x1 + 0.06, y0 - 0.028, (150, 110, 80))


def paint_sofa(brush: Brush, x: float, base: float, colour: RGB) -> None:
    """Draw a sofa seen from the front."""
    brush.box(x - 0.19, base - 0.2, x + 0.19, base - 0.05, shade(colour, 0.9))
    brush.disc(x, base - 0.2, 0.19, 0.022, shade(colour, 0.9))
    brush.box(x - 0.19, base - 0.1, x + 0.19, base - 0.015, colour)
    brush.box(x - 0.003, base - 0.1, x + 0.003, base - 0.02, shade(colour, 0.85))
    for side in (-1, 1):
        brush.box(x + side * 0.2 - 0.035, base - 0.135, x + side * 0.2 + 0.035, base - 0.015, shade(colour, 1.12))
        brush.disc(x + side * 0.2, base - 0.135, 0.035, 0.022, shade(colour, 1.12))
        brush.box(x + side * 0.17 - 0.01, base - 0.015, x + side * 0.17 + 0.01, base + 0.005, (110, 84, 64))
    brush.disc(x - 0.1, base - 0.13, 0.042, 0.038, (240, 206, 140))


def paint_lamp(brush: Brush, x: float, base: float) -> None:
    """Draw a standing lamp, which shines at night."""
    if brush.dark:
        brush.disc(x, base - 0.36, 0.19, 0.17, (112, 104, 112), lit=True)
        brush.disc(x, base - 0.36, 0.12, 0.11, (156, 136, 116), lit=True)
    brush.box(x - 0.007, base - 0.32, x + 0.007, base, (110, 90, 80))
    brush.disc(x, base, 0.04, 0.011, (110, 90, 80))
    brush.polygon(
        [(x - 0.038, base - 0.42), (x + 0.038, base - 0.42), (x + 0.068, base - 0.3), (x - 0.068, base - 0.3)],
        LAMPLIGHT if brush.dark else (250, 232, 190),
        lit=brush.dark,
    )


def paint_castle(brush: Brush) -> float:
    """Paint a castle with pointed roofs on a lawn, a path leading to its gate."""
    ground = brush.number(0.56, 0.59)
    grass = brush.pick(((160, 192, 130), (150, 188, 138), (172, 194, 126)))
    paint_air(brush, ground, (shade(grass, 0.92), grass, shade(grass, 1.1)))
    paint_ridge(brush, ground - 0.06, 0.04, blend(grass, (170, 200, 210), 0.5), ground + 0.01, 1.4)
    x = brush.wide / 2 + brush.number(-0.1, 0.1)
    stone = brush.pick(((216, 208, 204), (226, 210, 186), (200, 204, 216), (222, 200, 204)))
    roof = brush.pick(((108, 132, 186), (188, 106, 104), (92, 150, 150), (146, 116, 172)))
    foot = ground + 0.02
    for share, wide, top in ((-0.13, 0.045, 0.2), (0.13, 0.045, 0.22), (0.0, 0.06, 0.13)):
        paint_tower(brush, (x + share, foot, wide, top + brush.number(-0.03, 0.02)), shade(stone, 0.9), roof)
    paint_wall(brush, x, foot, stone)
    for share in (-0.27, 0.27):
        paint_tower(brush, (x + share, foot, 0.058, brush.number(0.25, 0.31)), stone, roof)
    brush.disc(x, foot - 0.09, 0.045, 0.045, (120, 88, 70))
    brush.box(x - 0.045, foot - 0.09, x + 0.045, foot, (120, 88, 70))
    brush.polygon([(x - 0.045, foot), (x + 0.045, foot), (x + 0.2, 1), (x - 0.2, 1)], (226, 210, 176))
    for side in (-1, 1):
        brush.disc(x + side * brush.number(0.38, 0.46), foot, 0.07, 0.045, (120, 164, 110))
    return ground + 0.03


def paint_tower(brush: Brush, spot: tuple[float, float, float, float], stone: RGB, roof: RGB) -> None:
    """Draw a tower (x, foot, half width, y of its wall's top) with a pointed roof, a flag and windows."""
    x, foot, half, top = spot
    brush.box(x - half, top, x + half, foot, stone)
    brush.box(x + half * 0.3, top, x + half, foot, shade(stone, 0.9))
    brush.polygon([(x - half * 1.25, top), (x, top - half * 2.3), (x + half * 1.25, top)], roof)
    brush.polygon([(x + half * 0.2, top), (x, top - half * 2.3), (x + half * 1.25, top)], shade(roof, 0.85))
    peak = top - half * 2.3
    brush.polygon([(x, peak - 0.03), (x + 0.04, peak - 0.018), (x, peak - 0.006)], (232, 120, 100))
    brush.box(x - 0.004, peak - 0.03, x + 0.004, peak + 0.01, (110, 100, 110))
    for y in (top + 0.045, top + 0.14):
        brush.box(x - 0.014, y, x + 0.014, y + 0.045, LAMPLIGHT if brush.dark else (120, 124, 146), lit=brush.dark)


def paint_wall(brush: Brush, x: float, foot: float, stone: RGB) -> None:
    """Draw the castle's front wall with its battlements."""
    top = foot - 0.19
    brush.box(x - 0.27, top, x + 0.27, foot, shade(stone, 0.97))
    for i in range(7):
        brush.box(x - 0.25 + i * 0.076, top - 0.028, x - 0.208 + i * 0.076, top, shade(stone, 0.97))
    brush.box(x - 0.27, top + 0.02, x + 0.27, top + 0.03, shade(stone, 0.85))
    for side in (-1, 1):
        brush.box(
            x + side * 0.14 - 0.016,
            top + 0.06,
            x + side * 0.14 + 0.016,
            top + 0.11,
            LAMPLIGHT if brush.dark else (120, 124, 146),
            lit=brush.dark,
        )


def paint_eiffel_tower(brush: Brush) -> float:
    """Paint the tower above a park; at night it glows."""
    ground = brush.number(0.57, 0.59)
    paint_air(brush, ground, ((206, 198, 180), (222, 212, 192), (234, 226, 208)))
    roofs = blend((176, 186, 204), SKIES[brush.light][2], 0.3)
    for i in range(6):
        x = brush.wide * (i + brush.number(-0.2, 0.2)) / 6
        brush.box(x, ground - brush.number(0.07, 0.13), x + brush.wide / 5.5, ground, roofs)
    x = brush.wide / 2 + brush.number(-0.24, 0.24)
    for i in range(5):
        brush.disc(
            brush.wide * (i + brush.number(0.2, 0.8)) / 5, ground - 0.01, 0.1, brush.number(0.04, 0.07), (136, 170, 122)
        )
    paint_iron(brush, x, ground + 0.02)
    lawn = brush.pick(((160, 194, 128), (150, 190, 136), (170, 196, 124)))
    for side in (-1, 1):
        edge = -0.02 if side < 0 else brush.wide + 0.02
        brush.polygon([(edge, ground + 0.04), (x + side * 0.19, ground + 0.04), (x + side * 0.42, 1), (edge, 1)], lawn)
        paint_tree(
            brush,
            brush.wide * (0.5 + side * brush.number(0.4, 0.48)),
            ground + 0.05,
            brush.number(0.2, 0.27),
            (124, 166, 112),
        )
    return ground + 0.03


def paint_iron(brush: Brush, x: float, foot: float) -> None:
    """Draw the tower itself: four legs seen as two, an arch, two platforms, a spire and some lattice."""
    iron: RGB = (244, 192, 96) if brush.dark else (158, 124, 100)
    dark: RGB = (190, 134, 62) if brush.dark else (122, 92, 76)
    height = foot - 0.03
    outer = ((0.0, 0.29), (0.1, 0.23), (0.21, 0.17), (0.31, 0.125), (0.41, 0.094))
    inner = ((0.41, 0.01), (0.31, 0.035), (0.225, 0.06), (0.15, 0.0), (0.14, 0.06), (0.09, 0.115), (0.0, 0.15))
    for side in (-1, 1):
        brush.polygon([(x + side * half * height, foot - y * height) for y, half in outer + inner], iron, brush.dark)
    spire = (
        (0.4, 0.094),
        (0.55, 0.064),
        (0.72, 0.042),
        (0.92, 0.028),
        (0.94, 0.036),
        (0.97, 0.028),
        (0.975, 0.012),
        (1.04, 0.009),
    )
    brush.polygon(
        [(x - half * height, foot - y * height) for y, half in spire]
        + [(x + half * height, foot - y * height) for y, half in reversed(spire)],
        iron,
        brush.dark,
    )
    for low, wide in (((0.02, 0.22), (0.2, 0.12)), ((0.23, 0.12), (0.4, 0.055))):
        for side in (-1, 1):
            for tilt in (0.04, -0.04):
                ends = (
                    ((low[1] + tilt) * side * height, foot - low[0] * height),
                    ((wide[1] - tilt * 0.8) * side * height, foot - wide[0] * height),
                )
                brush.line([(x + ends[0][0], ends[0][1]), (x + ends[1][0], ends[1][1])], 0.008, dark, brush.dark)
    for y in (0.5, 0.6, 0.7, 0.8):
        half = (0.09 - 0.14 * (y - 0.4)) * height * 0.9
        brush.box(x - half, foot - (y + 0.012) * height, x + half, foot - y * height, dark, brush.dark)
    for y, half in ((0.2, 0.2), (0.405, 0.118), (0.925, 0.044)):
        brush.box(
            x - half * height, foot - (y + 0.032) * height, x + half * height, foot - y * height, dark, brush.dark
        )


def paint_harbour(brush: Brush) -> float:
    """Paint a quay of planks, moored boats and a striped lighthouse."""
    sea, quay = brush.number(0.36, 0.4), brush.number(0.58, 0.61)
    paint_air(brush, sea, ((104, 160, 190), (120, 178, 202), (134, 190, 208)))
    paint_ridge(brush, sea - 0.02, 0.02, (158, 180, 172), sea + 0.005, 1.4)
    left = brush.rng.random() < 0.5
    paint_lighthouse(brush, brush.wide * (0.14 if left else 0.86) + brush.number(-0.04, 0.04), sea + 0.07)
    for y in (sea + 0.06, sea + 0.12, sea + 0.17):
        x = brush.wide * brush.number(0.0, 0.75)
        brush.box(x, y, x + brush.wide * 0.2, y + 0.008, (182, 216, 226))
    hulls: tuple[RGB, ...] = ((206, 96, 88), (84, 120, 168), (244, 240, 230), (104, 156, 140), (232, 178, 92))
    first = int(brush.number(0, 5))
    for i, share in enumerate((0.42, 0.64, 0.88)):
        x = brush.wide * (share if left else 1 - share) + brush.number(-0.05, 0.05)
        paint_boat(brush, x, quay - brush.number(0.0, 0.05), brush.number(0.2, 0.26), hulls[(first + i) % 5])
    plank = brush.pick(((200, 170, 136), (190, 164, 140), (206, 180, 144)))
    brush.box(0, quay, brush.wide, 1, plank)
    brush.box(0, quay, brush.wide, quay + 0.03, shade(plank, 0.72))
    for y in (quay + 0.09, quay + 0.17, quay + 0.27):
        brush.box(0, y, brush.wide, y + 0.006, shade(plank, 0.86))
    shift = brush.number(-0.08, 0.08)
    for i in range(3):
        x = brush.wide * (0.12 + 0.38 * i) + shift
        brush.box(x - 0.022, quay - 0.03, x + 0.022, quay + 0.035, (104, 92, 96))
        brush.disc(x, quay - 0.03, 0.032, 0.015, (128, 116, 120))
    return quay + 0.03


def paint_lighthouse(brush: Brush, x: float, base: float) -> None:
    """Draw a red and white lighthouse on a rock; at night its lamp throws a beam."""
    if brush.dark:
        side = 1 if x < brush.wide / 2 else -1
        brush.polygon(
            [(x, 0.125), (x + side * brush.wide, 0.06), (x + side * brush.wide, 0.2)], (92, 100, 138), lit=True
        )
    brush.disc(x, base, 0.13, 0.04, (140, 134, 134))
    low, high, top = 0.06, 0.036, 0.15
    for i in range(5):
        y0, y1 = base + (top - base) * i / 5, base + (top - base) * (i + 1) / 5
        wide0, wide1 = low + (high - low) * i / 5, low + (high - low) * (i + 1) / 5
        brush.polygon(
            [(x - wide0, y0), (x - wide1, y1), (x + wide1, y1), (x + wide0, y0)],
            (214, 98, 90) if i % 2 == 0 else (250, 246, 240),
        )
    brush.box(x - 0.048, 0.14, x + 0.048, 0.153, (110, 104, 112))
    brush.box(x - 0.026, 0.1, x + 0.026, 0.14, (255, 240, 170) if brush.dark else (250, 232, 170), lit=brush.dark)
    brush.polygon([(x - 0.036, 0.1), (x, 0.06), (x + 0.036, 0.1)], (206, 92, 86))


def paint_boat(brush: Brush, x: float, water: float, size: float, hull: RGB) -> None:
    """Draw a moored boat with a sail and a cabin."""
    brush.box(x - 0.007, water - size * 1.5, x + 0.007, water - size * 0.2, (130, 104, 84))
    brush.polygon(
        [(x + 0.007, water - size * 1.45), (x + size * 0.42, water - size * 0.36), (x + 0.007, water - size * 0.36)],
        (246, 242, 232),
    )
    brush.box(x - size * 0.3, water - size * 0.38, x - size * 0.02, water - size * 0.2, (246, 242, 232))
    brush.box(
        x - size * 0.22,
        water - size * 0.34,
        x - size * 0.1,
        water - size * 0.26,
        LAMPLIGHT if brush.dark else (124, 150, 170),
        lit=brush.dark,
    )
    brush.polygon(
        [
            (x - size * 0.55, water - size * 0.24),
            (x + size * 0.6, water - size * 0.28),
            (x + size * 0.4, water + 0.01),
            (x - size * 0.42, water + 0.01),
        ],
        hull,
    )
    brush.polygon(
        [
            (x - size * 0.55, water - size * 0.24),
            (x + size * 0.6, water - size * 0.28),
            (x + size * 0.56, water - size * 0.21),
            (x - size * 0.52, water - size * 0.17),
        ],
        shade(hull, 1.35),
    )
