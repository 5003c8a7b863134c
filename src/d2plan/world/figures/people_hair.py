"""Heads of people in units of half a head (centre at the origin, crown at y = 1): faces, beards and hair."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from d2plan.world.pen import RGB, Pen, Point, shade

MAN_HAIR = ("short", "parted", "curly", "quiff", "bald")
WOMAN_HAIR = ("long", "bob", "bun", "wavy")
BOY_HAIR = ("spiky", "curls", "bowl", "tuft")
GIRL_HAIR = ("pigtails", "braids", "ponytail", "loose")
BEARDS = ("none", "moustache", "goatee", "full")

_HAIR_STOPS = np.array(
    [(222, 222, 230), (246, 208, 104), (226, 116, 40), (128, 70, 38), (36, 30, 38), (64, 72, 168), (226, 92, 160)],
    dtype=float,
)
_ARC = np.linspace(0, 2 * np.pi, 32, endpoint=False)
_TURN = 0.1  # how far the face has moved towards the facing side
_DARK = (34, 26, 34)
_WHITE = (252, 252, 250)


def hair_shade(share: float) -> RGB:
    """Give a hair colour: from silver (0) over blond, ginger, brown, black and indigo to pink (1)."""
    place = share * (len(_HAIR_STOPS) - 1)
    low = min(int(place), len(_HAIR_STOPS) - 2)
    red, green, blue = (
        (_HAIR_STOPS[low] + (_HAIR_STOPS[low + 1] - _HAIR_STOPS[low]) * (place - low)).round().astype(int).tolist()
    )
    return red, green, blue


def set_apart(colour: RGB, ground: RGB) -> RGB:
    """Darken or lighten a colour that would not be seen on its ground (hair on skin, a pattern on cloth)."""
    gap = sum(abs(a - b) for a, b in zip(colour, ground, strict=True))
    if gap >= 90:
        return colour
    return shade(colour, 0.5) if sum(ground) > 300 else shade(colour, 1.5)


def draw_head(face: Pen, width: float, square: float, skin: RGB) -> None:
    """Draw the bare head with its ears.

    Args:
        face: pen in head units.
        width: half the head's width in head units.
        square: 2 is an ellipse, more is squarer (a man's jaw).
        skin: the skin colour.
    """
    for side in (-1, 1):
        face.ellipse(side * width * 0.97 - 0.04, -0.08, 0.17, 0.22, shade(skin, 0.88))
    cos, sin = np.cos(_ARC), np.sin(_ARC)
    points = np.stack(
        [width * np.sign(cos) * np.abs(cos) ** (2 / square), np.sign(sin) * np.abs(sin) ** (2 / square)], 1
    )
    face.polygon(points, skin)


def draw_face(face: Pen, mood: str, skin: RGB, soft: bool, child: bool) -> None:
    """Draw eyes, nose and mouth.

    Args:
        face: pen in head units.
        mood: ``neutral``, ``smile`` (wide open) or ``asleep`` (eyes closed).
        skin: the skin colour.
        soft: lashes and red lips (women and girls).
        child: eyes lower in the face, rosy cheeks.
    """
    level = -0.14 if child else 0.0
    if child:
        for side in (-1, 1):
            face.ellipse(_TURN + side * 0.62, level - 0.36, 0.17, 0.13, _blush(skin))
    for side in (-1, 1):
        _draw_eye(face, _TURN + side * 0.38, level, mood == "asleep", soft)
    face.ellipse(_TURN * 1.6, level - 0.27, 0.11, 0.1, shade(skin, 0.8))
    _draw_mouth(face, level - 0.5, mood == "smile", (206, 62, 78) if soft else shade(skin, 0.5))


def _blush(skin: RGB) -> RGB:
    red, green, blue = skin
    return min(255, red + 14), round(green * 0.78), round(blue * 0.8)


def _draw_eye(face: Pen, x: float, y: float, asleep: bool, soft: bool) -> None:
    if asleep:
        face.curve([(x - 0.2, y + 0.02), (x, y - 0.12), (x + 0.2, y + 0.02)], 0.13, _DARK)
        return
    if soft:
        face.ellipse(x, y + 0.07, 0.25, 0.24, _DARK)
    face.ellipse(x, y, 0.21, 0.25, _WHITE)
    face.ellipse(x + 0.05, y, 0.14, 0.18, _DARK)


def _draw_mouth(face: Pen, y: float, smile: bool, lips: RGB) -> None:
    if not smile:
        face.box(_TURN - 0.18, y - 0.15, _TURN + 0.18, y, lips, 0.07)
        return
    arc = np.linspace(np.pi, 2 * np.pi, 13)
    face.polygon(np.stack([_TURN + 0.6 * np.cos(arc), y + 0.12 + 0.5 * np.sin(arc)], 1), (120, 22, 36))
    face.polygon(
        [(_TURN - 0.56, y + 0.12), (_TURN + 0.56, y + 0.12), (_TURN + 0.5, y - 0.08), (_TURN - 0.5, y - 0.08)], _WHITE
    )


def draw_brows(face: Pen, colour: RGB) -> None:
    """Draw a man's strong eyebrows."""
    for side in (-1, 1):
        x = _TURN + side * 0.38
        face.polygon([(x - 0.24, 0.28), (x + 0.24, 0.28), (x + 0.22, 0.42), (x - 0.22, 0.42)], colour)


def draw_beard(face: Pen, beard: str, width: float, colour: RGB) -> None:
    """Draw one of BEARDS below the eyes (before the mouth is drawn)."""
    if beard == "full":
        side = width + 0.03
        face.polygon(
            [
                (-side, 0.0),
                (-side + 0.18, -0.34),
                (-0.32, -0.42),
                (0.46, -0.42),
                (side - 0.1, -0.34),
                (side, 0.0),
                (side, -0.6),
            ]
            + [(0.55, -1.1), (0.1, -1.22), (-0.45, -1.12), (-side, -0.6)],
            colour,
        )
    elif beard == "goatee":
        face.box(_TURN - 0.34, -1.18, _TURN + 0.34, -0.4, colour, 0.24)
    elif beard == "moustache":
        face.polygon(
            [(_TURN, -0.3), (_TURN + 0.5, -0.52), (_TURN + 0.4, -0.62), (_TURN - 0.4, -0.62), (_TURN - 0.5, -0.52)],
            colour,
        )


def _cap(face: Pen, line: list[Point], width: float, colour: RGB, start: float = 5, swell: float = 1.1) -> None:
    """Fill from the outline of the skull (from ``start`` degrees on both sides) down to the hairline, right to left."""
    arc = np.deg2rad(np.linspace(180 - start, start, 15))
    crown = np.stack([swell * width * np.cos(arc), swell * np.sin(arc)], 1)
    face.polygon(np.concatenate([crown, np.array(line, dtype=float)]), colour)


def _blobs(face: Pen, spots: list[Point], radius: float, colour: RGB) -> None:
    for x, y in spots:
        face.ellipse(x, y, radius, radius, colour)


def _ring(width: float, low: float, high: float, count: int) -> list[Point]:
    arc = np.deg2rad(np.linspace(low, high, count))
    return [(width * float(np.cos(a)), float(np.sin(a))) for a in arc]


def draw_back_hair(face: Pen, style: str, width: float, colour: RGB, tie: RGB) -> None:
    """Draw what hangs or stands behind the head, before the body is drawn.

    Args:
        face: pen in head units.
        style: one of the hairstyles.
        width: half the head's width in head units.
        colour: of the hair.
        tie: of hair ties.
    """
    painter = _BACK.get(style)
    if painter is not None:
        painter(face, width, shade(colour, 0.82), tie)


def _back_long(face: Pen, width: float, colour: RGB, tie: RGB) -> None:
    face.box(-width - 0.28, -2.15, width + 0.24, 1.0, colour, 0.7)


def _back_bob(face: Pen, width: float, colour: RGB, tie: RGB) -> None:
    face.box(-width - 0.38, -1.0, width + 0.34, 1.06, colour, 0.55)


def _back_bun(face: Pen, width: float, colour: RGB, tie: RGB) -> None:
    face.ellipse(-width - 0.3, 0.02, 0.52, 0.52, colour)
    face.ellipse(-width - 0.28, 0.06, 0.3, 0.3, shade(colour, 1.22))


def _back_wavy(face: Pen, width: float, colour: RGB, tie: RGB) -> None:
    _blobs(
        face,
        [(s * x, y) for s in (-1, 1) for x, y in ((width + 0.1, 0.35), (width + 0.24, -0.25), (width + 0.2, -0.85))],
        0.46,
        colour,
    )


def _back_pigtails(face: Pen, width: float, colour: RGB, tie: RGB) -> None:
    for side in (-1, 1):
        face.ellipse(side * (width + 0.36), -0.1, 0.26, 0.55, colour, side * 32)
        face.ellipse(side * (width + 0.08), 0.32, 0.17, 0.17, tie)


def _back_braids(face: Pen, width: float, colour: RGB, tie: RGB) -> None:
    for side in (-1, 1):
        x = side * (width + 0.04)
        for y, tone in ((-0.35, 1.0), (-0.7, 1.2), (-1.05, 1.0)):
            face.ellipse(x, y, 0.22, 0.24, shade(colour, tone))
        face.ellipse(x, -1.34, 0.17, 0.17, tie)


def _back_ponytail(face: Pen, width: float, colour: RGB, tie: RGB) -> None:
    face.polygon(
        [(-0.7, 0.7), (-1.3, 0.74), (-1.68, 0.3), (-1.72, -0.3), (-1.5, -0.92), (-1.26, -0.4), (-0.9, 0.0)], colour
    )
    face.ellipse(-width - 0.02, 0.46, 0.19, 0.19, tie)


def _back_loose(face: Pen, width: float, colour: RGB, tie: RGB) -> None:
    face.box(-width - 0.2, -1.3, width + 0.16, 1.0, colour, 0.6)


_BACK: dict[str, Callable[[Pen, float, RGB, RGB], None]] = {
    "long": _back_long,
    "bob": _back_bob,
    "bun": _back_bun,
    "wavy": _back_wavy,
    "pigtails": _back_pigtails,
    "braids": _back_braids,
    "ponytail": _back_ponytail,
    "loose": _back_loose,
}


def draw_front_hair(face: Pen, style: str, width: float, colour: RGB) -> None:
    """Draw the hair on the head, after the head itself, with a shine."""
    _FRONT[style](face, width, colour)
    if style != "bald":
        face.ellipse(-0.36, 0.8, 0.3, 0.1, shade(colour, 1.22), 24)


def _front_short(face: Pen, width: float, colour: RGB) -> None:
    _cap(face, [(width, 0.1), (width - 0.14, 0.5), (-width + 0.2, 0.5), (-width, 0.1)], width, colour)


def _front_parted(face: Pen, width: float, colour: RGB) -> None:
    _cap(
        face,
        [(width, 0.1), (width - 0.06, 0.4), (0.3, 0.36), (-0.4, 0.86), (-width + 0.16, 0.4), (-width, 0.0)],
        width,
        colour,
        swell=1.16,
    )


def _front_curly(face: Pen, width: float, colour: RGB) -> None:
    _front_short(face, width, colour)
    _blobs(face, _ring(width, 15, 165, 6), 0.32, colour)


def _front_quiff(face: Pen, width: float, colour: RGB) -> None:
    _front_short(face, width, shade(colour, 0.82))
    face.polygon(
        [(-0.7, 0.62), (-0.62, 1.02), (0.0, 1.32), (0.8, 1.46), (1.06, 1.18), (0.9, 0.78), (0.6, 0.56)], colour
    )


def _front_bald(face: Pen, width: float, colour: RGB) -> None:
    for side in (-1, 1):
        face.ellipse(side * width, 0.12, 0.2, 0.3, colour)


def _front_sides(face: Pen, width: float, colour: RGB, low: float) -> None:
    """Centre parting with a lock down either side of the face."""
    line = [
        (width + 0.12, low),
        (width - 0.1, low + 0.06),
        (width - 0.12, 0.2),
        (0.12, 0.82),
        (-width + 0.22, 0.2),
        (-width + 0.2, low + 0.06),
    ]
    _cap(face, [*line, (-width - 0.14, low)], width, colour, start=-5, swell=1.12)


def _front_long(face: Pen, width: float, colour: RGB) -> None:
    _front_sides(face, width, colour, -0.9)


def _front_bob(face: Pen, width: float, colour: RGB) -> None:
    line = [
        (width + 0.22, -0.72),
        (width - 0.08, -0.66),
        (width - 0.1, 0.36),
        (-width + 0.22, 0.36),
        (-width + 0.2, -0.66),
        (-width - 0.24, -0.72),
    ]
    _cap(face, line, width, colour, start=-4, swell=1.16)


def _front_bun(face: Pen, width: float, colour: RGB) -> None:
    _cap(
        face,
        [(width, 0.12), (0.66, 0.48), (0.2, 0.62), (-0.5, 0.42), (-width + 0.06, 0.0), (-width - 0.06, -0.1)],
        width,
        colour,
    )


def _front_wavy(face: Pen, width: float, colour: RGB) -> None:
    _front_bun(face, width, colour)
    _blobs(face, _ring(width + 0.02, 5, 175, 6), 0.36, colour)


def _front_spiky(face: Pen, width: float, colour: RGB) -> None:
    arc = np.deg2rad(np.linspace(182, -2, 13))
    reach = np.where(np.arange(13) % 2 == 0, 1.0, 1.34)[:, None]
    crown = np.stack([width * np.cos(arc), np.sin(arc)], 1) * reach
    line = [(0.72, 0.62), (0.5, 0.32), (0.28, 0.6), (0.04, 0.32), (-0.2, 0.6), (-0.46, 0.32), (-0.66, 0.6)]
    face.polygon(np.concatenate([crown, np.array(line)]), colour)


def _front_curls(face: Pen, width: float, colour: RGB) -> None:
    _cap(face, [(width, 0.1), (0.7, 0.44), (-0.6, 0.44), (-width, 0.1)], width, colour)
    _blobs(face, _ring(width, 8, 172, 7), 0.26, colour)
    _blobs(face, [(0.42, 0.52), (-0.06, 0.56), (-0.52, 0.5)], 0.2, shade(colour, 1.15))


def _front_bowl(face: Pen, width: float, colour: RGB) -> None:
    _cap(
        face,
        [(width + 0.12, -0.06), (width - 0.04, 0.26), (-width + 0.12, 0.26), (-width - 0.12, -0.06)],
        width,
        colour,
        start=-3,
        swell=1.14,
    )


def _front_tuft(face: Pen, width: float, colour: RGB) -> None:
    _cap(face, [(width, 0.22), (0.5, 0.6), (-0.5, 0.6), (-width, 0.22)], width, colour, start=12, swell=1.07)
    face.polygon([(0.0, 0.5), (0.34, 0.3), (0.62, 0.66), (0.3, 0.95)], colour)
    face.polygon([(-0.5, 0.9), (-0.74, 1.36), (-0.28, 1.14), (-0.1, 1.5), (0.16, 0.95)], colour)


def _front_fringe(face: Pen, width: float, colour: RGB) -> None:
    line = [
        (width + 0.04, -0.12),
        (width - 0.08, 0.24),
        (0.5, 0.3),
        (0.1, 0.42),
        (-0.4, 0.28),
        (-width + 0.16, 0.2),
        (-width - 0.04, -0.12),
    ]
    _cap(face, line, width, colour, start=-4, swell=1.1)


def _front_loose(face: Pen, width: float, colour: RGB) -> None:
    _front_sides(face, width, colour, -0.62)


_FRONT: dict[str, Callable[[Pen, float, RGB], None]] = {
    "short": _front_short,
    "parted": _front_parted,
    "curly": _front_curly,
    "quiff": _front_quiff,
    "bald": _front_bald,
    "long": _front_long,
    "bob": _front_bob,
    "bun": _front_bun,
    "wavy": _front_wavy,
    "spiky": _front_spiky,
    "curls": _front_curls,
    "bowl": _front_bowl,
    "tuft": _front_tuft,
    "pigtails": _front_fringe,
    "braids": _front_fringe,
    "ponytail": _front_bun,
    "loose": _front_loose,
}
