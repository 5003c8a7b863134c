"""The places of the small world: where a scene plays, and in which light."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from d2plan.errors import InputError
from d2plan.world.landmarks import paint_castle, paint_city, paint_eiffel_tower, paint_harbour, paint_room
from d2plan.world.landscapes import (
    paint_beach,
    paint_desert,
    paint_forest,
    paint_meadow,
    paint_moon_land,
    paint_mountain,
    paint_snow,
)
from d2plan.world.scenery_parts import Brush, paint_puddles, paint_rain

DEPTH_ROWS = 64

PLACES: dict[str, tuple[str, ...]] = {
    "beach": ("on the beach", "on a beach by the sea", "on the sand by the sea"),
    "forest": ("in the forest", "in a forest", "among the trees of a forest"),
    "city": ("in the city", "in a city street", "on a street in the city"),
    "mountain": ("in the mountains", "on a mountain", "in front of a mountain"),
    "room": ("in a living room", "in the living room", "on a rug in the room"),
    "desert": ("in the desert", "in a desert", "on the sand of a desert"),
    "snow": ("in the snow", "on a snowy field", "in a snowy forest"),
    "castle": ("in front of a castle", "near a castle", "in front of the castle"),
    "eiffel tower": ("in front of the Eiffel Tower", "near the Eiffel Tower", "by the Eiffel Tower"),
    "meadow": ("in a meadow", "on a meadow with flowers", "in a flower meadow"),
    "harbour": ("in the harbour", "at the harbour", "on the quay of a harbour"),
    "moon": ("on the moon", "on the surface of the moon"),
}
# Daylight is mostly left unsaid: a caption draws one of these phrases, and an empty one adds nothing.
LIGHTS: dict[str, tuple[str, ...]] = {
    "day": ("", "", "", "by day"),
    "sunset": ("at sunset",),
    "night": ("at night",),
    "rain": ("in the rain",),
}
# It never rains on the moon.
ALLOWED_LIGHTS: dict[str, tuple[str, ...]] = {
    place: ("day", "sunset", "night") if place == "moon" else tuple(LIGHTS) for place in PLACES
}
_PAINTERS: dict[str, Callable[[Brush], float]] = {
    "beach": paint_beach,
    "forest": paint_forest,
    "city": paint_city,
    "mountain": paint_mountain,
    "room": paint_room,
    "desert": paint_desert,
    "snow": paint_snow,
    "castle": paint_castle,
    "eiffel tower": paint_eiffel_tower,
    "meadow": paint_meadow,
    "harbour": paint_harbour,
    "moon": paint_moon_land,
}


@dataclass(frozen=True)
class Backdrop:
    """A painted place, before any figure stands in it.

    Attributes:
        picture: RGB.
        horizon: where the ground that figures stand on begins, 0..1 from the top.
        depth: float32 ``[64]``, one value per relative row from the top: 1 down to the horizon (far), then falling
            evenly to 0 at the bottom (near).
    """

    picture: Image.Image
    horizon: float
    depth: np.ndarray


def paint_place(place: str, light: str, size: tuple[int, int], rng: np.random.Generator) -> Backdrop:
    """Paint a place in a light; trees, skylines, clouds and hues vary with ``rng``, not with the size.

    Args:
        place: a key of PLACES.
        light: one of ``ALLOWED_LIGHTS[place]``.
        size: height and width in pixels.
        rng: what makes this picture differ from another one of the same place.

    Returns:
        The picture with its horizon and depth.

    Raises:
        InputError: the place is unknown, or the light does not exist there.
    """
    if place not in PLACES:
        raise InputError(f"place {place!r} does not exist; choose one of {', '.join(PLACES)}.")
    if light not in ALLOWED_LIGHTS[place]:
        raise InputError(
            f"light {light!r} does not exist in place {place!r}; choose one of {', '.join(ALLOWED_LIGHTS[place])}."
        )
    height, width = size
    red, green, blue = rng.integers(-9, 10, 3).tolist()
    brush = Brush(Image.new("RGB", (width, height), None), light, rng, (red, green, blue))
    horizon = _PAINTERS[place](brush)
    # In the room it rains behind the window; the room paints that itself.
    if light == "rain" and place != "room":
        paint_puddles(brush, horizon)
        paint_rain(brush, (0.0, 0.0, brush.wide, 1.0), 34)
    rows = (np.arange(DEPTH_ROWS) + 0.5) / DEPTH_ROWS
    depth = np.clip(1 - (rows - horizon) / (1 - horizon), 0, 1).astype(np.float32)
    return Backdrop(brush.picture, horizon, depth)
