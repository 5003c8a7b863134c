"""Rendering: the picture of a scene and everything that is true of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from d2plan.errors import InputError
from d2plan.world.cast import SPECIES
from d2plan.world.figures import accessories
from d2plan.world.figures.accessories import COLOURS
from d2plan.world.pen import Pen, Point
from d2plan.world.scene import Figure, WorldScene
from d2plan.world.scenery import paint_place

_FINER = 3
# What a pixel's mask is when k of its nine fine pixels belong to an instance: rounded to 1/255, as in the picture.
_SHARES = (((255 * np.arange(_FINER**2 + 1) + _FINER**2 // 2) // _FINER**2) / 255).astype(np.float32)


@dataclass(frozen=True)
class Truth:
    """A rendered scene; instances stand in the order of ``scene.figures``.

    Attributes:
        image: ``[h, w, 3]`` uint8.
        masks: ``[n, h, w]`` float32 0..1, the visible part of each instance; disjoint, so their sum is at most 1.
        boxes: ``[n, 4]`` float32 pixels x0, y0, x1, y1 around the visible part; zeros when nothing is visible.
        depth: ``[h, w]`` float32, 0 is nearest, 1 farthest.
        skeletons: per instance, key point name to pixels (x, y).
    """

    image: np.ndarray
    masks: np.ndarray
    boxes: np.ndarray
    depth: np.ndarray
    skeletons: tuple[dict[str, Point], ...]


def draw_figure(picture: Image.Image, owners: Image.Image, figure: Figure, owner: int) -> dict[str, Point]:
    """Draw one instance on a picture and on its map of owners; give its skeleton in that picture's pixels."""
    width, height = picture.size
    scale = figure.height * height
    matrix = np.array([[scale * figure.facing, 0, figure.x * width], [0, -scale, figure.ground * height]])
    pen = Pen(ImageDraw.Draw(picture), ImageDraw.Draw(owners), owner, matrix)
    drawn = SPECIES[figure.class_word].draw(pen, figure.identity, figure.action)
    if figure.accessory and figure.accessory_colour:
        accessories.draw(drawn, figure.accessory, COLOURS[figure.accessory_colour])
    return drawn.skeleton


def _count_fine(own: np.ndarray) -> np.ndarray:
    """Count the fine pixels that are set within each pixel: ``[3 h, 3 w]`` bool to ``[h, w]`` 0..9."""
    fine = own.view(np.uint8)
    # Sums of strided bytes: far faster than a reshaped sum over two axes.
    rows = fine[0::3] + fine[1::3] + fine[2::3]
    return rows[:, 0::3] + rows[:, 1::3] + rows[:, 2::3]


def _box(mask: np.ndarray) -> tuple[float, float, float, float]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not rows.size:
        return 0.0, 0.0, 0.0, 0.0
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def render(scene: WorldScene, size: int = 128) -> Truth:
    """Draw a scene with its exact truth.

    Args:
        scene: what to draw; the same scene always gives the same bytes.
        size: height and width in pixels.

    Returns:
        The picture, masks, boxes, depth and skeletons.

    Raises:
        InputError: the size is outside 16..4096 or there are more than 200 figures.
    """
    if not 16 <= size <= 4096:
        raise InputError(f"size: {size} is outside 16..4096; choose a number in between.")
    if len(scene.figures) > 200:
        raise InputError(f"figures: {len(scene.figures)} are too many; a scene holds at most 200")
    fine = size * _FINER
    backdrop = paint_place(scene.place, scene.light, (fine, fine), np.random.default_rng(scene.seed))
    picture, owners = backdrop.picture, Image.new("L", (fine, fine), 0)
    skeletons: dict[int, dict[str, Point]] = {}
    rows = np.interp(np.linspace(0, 1, size), np.linspace(0, 1, len(backdrop.depth)), backdrop.depth)
    depth = np.repeat(rows[:, None], size, 1).astype(np.float32)
    for number, figure in sorted(enumerate(scene.figures), key=lambda pair: pair[1].ground):
        skeleton = draw_figure(picture, owners, figure, number + 1)
        skeletons[number] = {name: (x / _FINER, y / _FINER) for name, (x, y) in skeleton.items()}
    owned = np.asarray(owners)
    masks = np.zeros((len(scene.figures), size, size), np.float32)
    for number, figure in enumerate(scene.figures):
        _SHARES.take(_count_fine(owned == number + 1), out=masks[number], mode="clip")
        depth += masks[number] * (float(np.interp(figure.ground, np.linspace(0, 1, size), rows)) - depth)
    if len(masks) > 1:
        # Rounding can make three shares of one pixel a hair too large together.
        masks /= np.maximum(masks.sum(0), 1.0)
    boxes = np.array([_box(mask > 0.5) for mask in masks], np.float32).reshape(-1, 4)
    image = np.asarray(picture.reduce(_FINER), np.uint8)
    return Truth(image, masks, boxes, depth, tuple(skeletons[n] for n in range(len(scene.figures))))
