"""Picture grids like the paper's Figures 5 and 6: references, then methods side by side, one prompt and noise a row.

What is shown is chosen by its place in the suite, never by its looks.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from d2plan.bench.records import MethodRecord, Part, Results, ShotRecord
from d2plan.bench.report.comparison import list_failed
from d2plan.dislora.data_folder import list_folder
from d2plan.errors import FileError, InputError
from d2plan.media.images import fit_image, is_whole, read_image

CAPTIONS: dict[Part, str] = {"single": "Figure 5: one concept", "multi": "Figure 6: several concepts"}
MOST_BLOCKS: dict[Part, int] = {"single": 6, "multi": 4}
_MOST_ROWS: dict[Part, int] = {"single": 2, "multi": 3}
_REFERENCES = 4
_GAP, _LETTERS, _QUALITY = 8, 13, 84
_INK, _SOFT, _FIELD = (32, 36, 43), (93, 100, 112), (241, 239, 232)

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class GridRow:
    """One prompt and noise.

    Attributes:
        prompt: what was asked for, without identifiers.
        seed: of the noise.
        pictures: a file a method, or why there is none.
    """

    prompt: str
    seed: int
    pictures: tuple[Path | str, ...]


@dataclass(frozen=True)
class GridBlock:
    """Rows of the same concepts.

    Attributes:
        concepts: their names.
        references: some of each concept's own pictures.
        rows: what was drawn.
        series: the suite's name of the series that the rows are; None where each has another prompt and noise.
    """

    concepts: tuple[str, ...]
    references: tuple[tuple[Path, ...], ...]
    rows: tuple[GridRow, ...]
    series: str | None = None

    @property
    def title(self) -> str:
        """What the block shows."""
        return " + ".join(self.concepts) + (f", series {self.series}" if self.series else "")


@dataclass(frozen=True)
class Grid:
    """A figure.

    Attributes:
        key: its file's stem.
        title: what it shows.
        note: what its columns and rows are.
        methods: titles, one a column.
        blocks: one a concept or group.
    """

    key: str
    title: str
    note: str
    methods: tuple[str, ...]
    blocks: tuple[GridBlock, ...]


def choose_grid(results: Results, folder: Path, part: Part) -> Grid | None:
    """Choose what a figure shows: concepts or groups spread evenly over the suite, each with other prompts.

    Args:
        results: of the benchmark.
        folder: that they lie in.
        part: "single" for Figure 5, "multi" for Figure 6.

    Returns:
        The grid; None where the suite has no such shots or none was drawn.
    """
    shots = [shot for shot in results.suite.shots if shot.part == part]
    drawn = {one.shot for method in results.methods for one in method.pictures}
    groups = [
        group
        for group in dict.fromkeys(shot.concepts for shot in shots)
        if any(shot.concepts == group and shot.name in drawn for shot in shots)
    ]
    if not groups:
        return None
    blocks = []
    for turn, place in enumerate(spread_evenly(len(groups), MOST_BLOCKS[part])):
        own = [shot for shot in shots if shot.concepts == groups[place] and shot.name in drawn]
        chosen = _choose_scenes(own, turn) if part == "single" else _choose_series(own, turn)
        rows = tuple(_make_row(results, folder, shot) for shot in chosen[: _MOST_ROWS[part]])
        series = chosen[0].prompt if part == "multi" and chosen[0].series is not None else None
        blocks.append(GridBlock(groups[place], tuple(_list_references(results, folder, groups[place])), rows, series))
    titles = tuple(method.title for method in results.methods)
    stem, title = {"single": "figure-5", "multi": "figure-6"}[part], CAPTIONS[part]
    if results.kind == "ablation":
        stem, title = f"figure-8a-{part}", f"Figure 8a in pictures: {title.split(': ')[1]}, ours without some parts"
    shown = {block.series is not None for block in blocks}
    told = "a series in each block" if shown == {True} else "another prompt and noise in each row"
    return Grid(stem, f"{title}, {told}", _explain_grid(titles, True in shown), titles, tuple(blocks))


def _explain_grid(titles: Sequence[str], has_series: bool) -> str:
    rows = "The prompt stands below each row, without identifiers; all methods got the same one and the same noise."
    if has_series:
        rows += (
            " The rows of a series have one noise and one global prompt, and differ in what the instances wear and do."
        )
    return f"Columns, from left to right: the concepts' own pictures, then {', '.join(titles)}. {rows}"


def spread_evenly(count: int, most: int) -> list[int]:
    """Give places spread over a list.

    >>> spread_evenly(12, 4), spread_evenly(3, 6)
    ([0, 4, 7, 11], [0, 1, 2])

    Args:
        count: of the list.
        most: wanted.

    Returns:
        At most that many, first and last among them.
    """
    if count <= most:
        return list(range(count))
    return [round(place * (count - 1) / max(1, most - 1)) for place in range(most)]


def read_thumbnail(path: Path, side: int) -> bytes:
    """Read a picture as a small WebP.

    Args:
        path: of the picture.
        side: largest height and width, pixels; smaller pictures keep their size.

    Returns:
        The file's content.

    Raises:
        FileError: it cannot be read.
    """
    return _write_small(Image.fromarray(_shrink(path, side)))


def draw_sheet(grid: Grid, side: int = 112) -> bytes:
    """Lay a figure on one sheet, for pages that show no more than a picture.

    Args:
        grid: what to show.
        side: of each picture, pixels.

    Returns:
        A WebP.

    Raises:
        FileError: a picture cannot be read.
    """
    font = ImageFont.load_default(_LETTERS)
    across = 1 + len(grid.methods)
    width = _GAP + across * (side + _GAP)
    line = _LETTERS + 6
    tall = [max(1, len(block.rows)) * (side + _GAP + line) + line for block in grid.blocks]
    head = 2 * line + _GAP
    sheet = Image.new("RGB", (width, head + sum(tall)), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(("references", *grid.methods)):
        place = (_GAP + column * (side + _GAP) + side / 2, head - _GAP)
        draw.multiline_text(place, _wrap(title, font, side), _INK, font, anchor="md", align="center", spacing=2)
    top = head
    for block, height in zip(grid.blocks, tall, strict=True):
        draw.line([(_GAP, top), (width - _GAP, top)], (226, 223, 214))
        _draw_block(sheet, block, top + _GAP // 2, side, font)
        top += height
    return _write_small(sheet)


def _choose_scenes(shots: Sequence[ShotRecord], turn: int) -> list[ShotRecord]:
    """Take the first picture of each prompt, beginning with another prompt for each concept."""
    first = list({shot.prompt: shot for shot in reversed(shots)}.values())[::-1]
    start = turn * _MOST_ROWS["single"] % len(first)
    return [*first[start:], *first[:start]]


def _choose_series(shots: Sequence[ShotRecord], turn: int) -> list[ShotRecord]:
    """Take one series, another for each group; without series, pictures of different prompts."""
    names = list(dict.fromkeys(shot.series for shot in shots if shot.series is not None))
    if not names:
        return _choose_scenes(shots, turn)
    # The first series of each prompt, so that two groups show two places where there are two.
    first = list({shot.prompt: shot.series for shot in reversed(shots) if shot.series is not None}.values())[::-1]
    name = first[turn % len(first)]
    return [shot for shot in shots if shot.series == name]


def _make_row(results: Results, folder: Path, shot: ShotRecord) -> GridRow:
    return GridRow(
        shot.plain_prompt, shot.seed, tuple(_find_picture(folder, method, shot.name) for method in results.methods)
    )


def _find_picture(folder: Path, method: MethodRecord, shot: str) -> Path | str:
    found = next((one.image for one in method.pictures if one.shot == shot), None)
    if found is None:
        return "failed" if shot in list_failed(method) else "not run yet"
    if not is_whole(folder / found):
        return "file is damaged" if (folder / found).exists() else "file is gone"
    return folder / found


def _list_references(results: Results, folder: Path, names: Sequence[str]) -> list[tuple[Path, ...]]:
    folders = {concept.name: folder / concept.folder for concept in results.suite.concepts}
    found = []
    for name in names:
        try:
            pictures = list_folder(folders[name]).pictures
        except (FileError, InputError, KeyError):
            pictures = ()  # a report can be made again where the references are not; it says so by their absence
        found.append(tuple(pictures[:_REFERENCES]))
    return found


def _draw_block(sheet: Image.Image, block: GridBlock, top: int, side: int, font: Font) -> None:
    draw, line = ImageDraw.Draw(sheet), _LETTERS + 6
    draw.text((_GAP, top), _cut(block.title, font, sheet.width - 2 * _GAP), _INK, font)
    for number, row in enumerate(block.rows):
        upper = top + line + number * (side + _GAP + line)
        _paste_references(sheet, block, number, (_GAP, upper), side)
        for column, path in enumerate(row.pictures, start=1):
            left = _GAP + column * (side + _GAP)
            if isinstance(path, str):
                draw.rectangle((left, upper, left + side, upper + side), _FIELD)
                draw.text((left + side / 2, upper + side / 2), path, _SOFT, font, anchor="mm")
            else:
                sheet.paste(_square(path, side), (left, upper))
        draw.text((_GAP, upper + side + 2), _cut(row.prompt, font, sheet.width - 2 * _GAP), _SOFT, font)


def _paste_references(sheet: Image.Image, block: GridBlock, row: int, corner: tuple[int, int], side: int) -> None:
    """Fill the cell of references: one picture of a concept, or four of several; every row shows other ones."""
    count = len(block.references)
    across = 1 if count == 1 else 2
    small = side // across
    for number in range(across * across):
        own = block.references[number % count]
        if own:
            place = (corner[0] + number % across * small, corner[1] + number // across * small)
            sheet.paste(_square(own[(row * across + number // count) % len(own)], small), place)


def _square(path: Path, side: int) -> Image.Image:
    return Image.fromarray(fit_image(read_image(path), side, side))


def _shrink(path: Path, side: int) -> np.ndarray:
    picture = read_image(path)
    height, width = picture.shape[:2]
    share = side / max(height, width)
    return picture if share >= 1 else fit_image(picture, round(height * share), round(width * share))


def _write_small(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=_QUALITY, method=6)
    return stream.getvalue()


def _wrap(text: str, font: Font, width: int) -> str:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines[:2])


def _cut(text: str, font: Font, width: int) -> str:
    kept = text[:width]
    while kept and font.getlength(kept if kept == text else f"{kept}...") > width:
        kept = kept[:-1]
    return kept if kept == text else f"{kept}..."
