"""Lay pictures, clusters and attention maps side by side, a row for each model."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from d2plan.media.images import Picture

CELL, GAP, LINE, MARGIN = 224, 14, 20, 24
INK, PALE = (32, 32, 36), (110, 110, 118)
# Okabe and Ito's colours stay apart for most colour-blind eyes.
GROUP_COLOURS = (
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (86, 180, 233),
    (213, 94, 0),
    (240, 228, 66),
)
# Dark to bright, in the manner of matplotlib's inferno, so that it also works in grey.
HEAT = ((0, 0, 4), (66, 10, 104), (147, 38, 103), (221, 81, 58), (252, 165, 10), (252, 255, 164))


class Row(NamedTuple):
    """What one model did.

    Attributes:
        label: its name.
        prompt: what it drew.
        image: ``[h w 3]``, 0..255.
        words: whose maps there are.
        maps: ``[words, h, w]``, any range.
        groups: ``[h w]``, group numbers.
        names: of the groups.
        notes: lines below the row.
    """

    label: str
    prompt: str
    image: Picture
    words: tuple[str, ...]
    maps: NDArray[np.float32]
    groups: NDArray[np.int64]
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()


def draw_rows(rows: Sequence[Row]) -> Picture:
    """Draw all rows under each other.

    Args:
        rows: at least one.

    Returns:
        ``[h w 3]``, 0..255.
    """
    height, width = rows[0].image.shape[:2]
    tall, wide = round(CELL * height / max(height, width)), round(CELL * width / max(height, width))
    columns = 2 + max(len(row.words) for row in rows)
    legend = LINE * (1 + max(_legend_lines(row, columns) for row in rows))
    block = 2 * LINE + tall + LINE + legend
    size = (2 * MARGIN + columns * wide + (columns - 1) * GAP, 2 * MARGIN + len(rows) * block + (len(rows) - 1) * GAP)
    sheet = Image.new("RGB", (max(size[0], 480), size[1] + LINE), (255, 255, 255))
    for index, row in enumerate(rows):
        _draw_row(sheet, row, MARGIN + index * (block + GAP), (tall, wide))
    draw = ImageDraw.Draw(sheet)
    _draw_scale(draw, (MARGIN, sheet.height - MARGIN - 4))
    return np.asarray(sheet)


def colour_map(values: NDArray[np.float32]) -> Picture:
    """Give a map its colours, its lowest value dark and its highest bright.

    >>> colour_map(np.array([[0.0, 1.0]], dtype=np.float32)).tolist()
    [[[0, 0, 4], [252, 255, 164]]]

    Args:
        values: ``[h w]``, any range; the same everywhere is dark everywhere.

    Returns:
        ``[h w 3]``, 0..255.
    """
    span = float(values.max() - values.min())
    level = (values - values.min()) / span if span > 0 else np.zeros_like(values)
    places = np.linspace(0, 1, len(HEAT))
    channels = [np.interp(level, places, [colour[channel] for colour in HEAT]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def _draw_row(sheet: Image.Image, row: Row, top: int, cell: tuple[int, int]) -> None:
    tall, wide = cell
    draw, title, plain = ImageDraw.Draw(sheet), ImageFont.load_default(16), ImageFont.load_default(13)
    draw.text((MARGIN, top), row.label, INK, title)
    begin = MARGIN + draw.textlength(row.label, title) + 12
    draw.text((begin, top + 2), _shorten(draw, row.prompt, plain, sheet.width - MARGIN - begin), PALE, plain)
    shown = Image.fromarray(row.image).resize((wide, tall), Image.Resampling.LANCZOS)
    grey = shown.convert("L").convert("RGB")
    cells = [("picture", shown), ("clusters", _paint_groups(row.groups, grey))]
    cells += [(word, _paint_heat(values, grey)) for word, values in zip(row.words, row.maps, strict=True)]
    for column, (name, image) in enumerate(cells):
        left = MARGIN + column * (wide + GAP)
        sheet.paste(image, (left, top + 2 * LINE))
        draw.text((left + wide / 2, top + LINE + 2), _shorten(draw, name, plain, wide), INK, plain, anchor="ma")
    below = top + 2 * LINE + tall + 8
    _draw_legend(draw, row, (MARGIN, below), sheet.width - MARGIN)


def _draw_legend(draw: ImageDraw.ImageDraw, row: Row, place: tuple[int, int], right: int) -> None:
    plain = ImageFont.load_default(13)
    left, top = place
    for group, name in enumerate(row.names):
        width = 18 + draw.textlength(name, plain) + 14
        if left + width > right:
            left, top = place[0], top + LINE
        draw.rectangle((left, top + 2, left + 11, top + 13), GROUP_COLOURS[group % len(GROUP_COLOURS)])
        draw.text((left + 17, top), name, INK, plain)
        left += int(width)
    text = ";  ".join(row.notes)
    draw.text((place[0], top + LINE), _shorten(draw, text, plain, right - place[0]), PALE, plain)


def _legend_lines(row: Row, columns: int) -> int:
    # About the letters that fit into the sheet's width; a line more than needed does no harm.
    letters = sum(len(name) + 5 for name in row.names)
    return 1 + letters * 8 // max(1, columns * CELL)


def _draw_scale(draw: ImageDraw.ImageDraw, place: tuple[int, int]) -> None:
    left, top = place
    plain = ImageFont.load_default(12)
    ramp = colour_map(np.linspace(0, 1, 120, dtype=np.float32)[None])[0]
    for offset, colour in enumerate(ramp):
        draw.line((left + offset, top, left + offset, top + 9), tuple(int(value) for value in colour))
    text = "attention, from each map's lowest to its highest; mean over steps, layers and heads"
    draw.text((left + 132, top - 3), text, PALE, plain)


def _paint_heat(values: NDArray[np.float32], grey: Image.Image) -> Image.Image:
    heat = Image.fromarray(colour_map(values)).resize(grey.size, Image.Resampling.BICUBIC)
    return Image.blend(grey, heat, 0.72)


def _paint_groups(groups: NDArray[np.int64], grey: Image.Image) -> Image.Image:
    palette = np.array(GROUP_COLOURS, dtype=np.uint8)
    flat = Image.fromarray(palette[groups % len(GROUP_COLOURS)]).resize(grey.size, Image.Resampling.NEAREST)
    return Image.blend(grey, flat, 0.7)


def _shorten(
    draw: ImageDraw.ImageDraw, text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: float
) -> str:
    text = " ".join(text.split())[:400]
    if draw.textlength(text, font) <= width:
        return text
    while text and draw.textlength(text + "...", font) > width:
        text = text[:-1]
    return text.rstrip() + "..."
