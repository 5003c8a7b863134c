"""Where the user says that an instance is: a mask image, a box, a point, or a word."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from d2plan.documents import Instance, Position
from d2plan.errors import InputError
from d2plan.media.images import read_mask
from d2plan.shapes import check_shape

Box = tuple[float, float, float, float]
Point = tuple[float, float]

_SHAPE_SLACK = 0.02  # of a drawing's proportions against the picture's


@dataclass(frozen=True)
class Region:
    """What masks need to know of an instance: its class, and where it was put by hand.

    Attributes:
        class_word: its class; instances of one class share what attends to that word.
        position: "left", "middle" or "right" among those of its class.
        box: x0, y0, x1, y1, parts of the width and height, 0..1.
        point: x, y, parts of the width and height, 0..1: it is what stands there.
        mask: how much of each pixel is its own, ``[a, b]``, 0..1, any resolution.
        dealt: whether the box is a column that nobody asked for.
    """

    class_word: str
    position: Position | None = None
    box: Box | None = None
    point: Point | None = None
    mask: Tensor | None = field(default=None, compare=False, repr=False)
    dealt: bool = False

    def __post_init__(self) -> None:
        """Refuse several places for one instance."""
        if sum(value is not None for value in (self.box, self.point, self.mask)) > 1:
            raise InputError(f'The instance "{self.class_word}" has several of box, point and mask; keep one.')

    @property
    def drawn(self) -> bool:
        """Whether its mask is given whole, by a mask image or a box, so that nothing has to be found."""
        return self.box is not None or self.mask is not None


def open_region(instance: Instance, size: tuple[int, int], where: str = "mask") -> Region:
    """Read what a scene says of an instance's place, its mask image included.

    Args:
        instance: with its class word filled in.
        size: height and width of the picture, pixels.
        where: how errors call the field that names the mask image, such as ``instances[0].mask``.

    Returns:
        The region.

    Raises:
        FileError: the mask image cannot be read.
        InputError: it has other proportions than the picture.
    """
    mask = None
    if instance.mask is not None:
        pixels = read_mask(instance.mask)
        if not have_same_shape(pixels.shape, size):
            raise InputError(
                f"{where}: {instance.mask} is {pixels.shape[1]} x {pixels.shape[0]} pixels, another shape than the "
                f"picture's {size[1]} x {size[0]}; draw the mask over a picture of that shape."
            )
        mask = torch.from_numpy(pixels.copy())
    return Region(instance.class_word or "", instance.position, instance.box, instance.point, mask)


def have_same_shape(shape: tuple[int, ...], size: tuple[int, int]) -> bool:
    """Say whether a drawing can be laid over a picture without being stretched, but for 2 %.

    >>> have_same_shape((512, 768), (1024, 1536)), have_same_shape((512, 768), (1024, 1024))
    (True, False)

    Args:
        shape: height and width of the drawing, pixels, any resolution.
        size: height and width of the picture, pixels.

    Returns:
        True where their proportions agree.
    """
    return abs(shape[1] / shape[0] * size[0] / size[1] - 1) <= _SHAPE_SLACK


def draw_overrides(regions: Sequence[Region], size: tuple[int, int]) -> Tensor:
    """Draw mask images and boxes by how much of each cell they cover; where several overlap the smaller is in front.

    Args:
        regions: the instances, m of them.
        size: height and width, latent cells.

    Returns:
        The part of each cell that each instance has, ``[m, height, width]``, 0..1, their sum at most 1; zeros for
        an instance that is not drawn.
    """
    covers = torch.zeros(len(regions), *size)
    for index, region in enumerate(regions):
        if region.mask is not None:
            covers[index] = _shrink(region.mask, size)
        elif region.box is not None:
            x0, y0, x1, y1 = region.box
            covers[index] = _cover(y0, y1, size[0])[:, None] * _cover(x0, x1, size[1])[None, :]
    sizes = covers.sum(dim=(1, 2)).tolist()
    visible = covers.clone()
    for index in range(len(regions)):
        # Two of the same size share; rounding must not make one of them the smaller.
        front = [other for other in range(len(regions)) if 0 < sizes[other] < sizes[index] * (1 - 1e-5)]
        if front:
            visible[index] *= 1 - covers[front].amax(dim=0)
    return visible / visible.sum(dim=0, keepdim=True).clamp(min=1)


def draw_discs(points: Sequence[Point], size: tuple[int, int], radius: float) -> Tensor:
    """Mark the cells around points; where two discs meet each cell goes to the nearer point.

    Args:
        points: x, y, 0..1, n of them.
        size: height and width, cells.
        radius: of the shorter side.

    Returns:
        bool ``[n, height, width]``, disjoint; the cell of the point itself at least, unless another has it.
    """
    ys = torch.arange(size[0], dtype=torch.float32)[:, None]
    xs = torch.arange(size[1], dtype=torch.float32)[None, :]
    places = [place_of(point, size) for point in points]
    gaps = torch.stack([(ys - y) ** 2 + (xs - x) ** 2 for y, x in places])
    nearest = functional.one_hot(gaps.argmin(dim=0), len(points)).permute(2, 0, 1).bool()
    return nearest & (gaps <= max(radius * min(size), 0.75) ** 2)


def place_of(point: Point, size: tuple[int, int]) -> tuple[float, float]:
    """Turn a point of the picture into a place among the cells, whose centres are whole numbers.

    >>> place_of((0.5, 0.25), (4, 8))
    (0.5, 3.5)

    Args:
        point: x, y, 0..1.
        size: height and width, cells.

    Returns:
        y and x, cells.
    """
    return point[1] * size[0] - 0.5, point[0] * size[1] - 0.5


def _shrink(mask: Tensor, size: tuple[int, int]) -> Tensor:
    check_shape(mask, "h w", "the mask of an instance")
    values = torch.nan_to_num(mask.float().cpu(), nan=0.0, posinf=1.0, neginf=0.0).clamp(0, 1)
    return functional.interpolate(values[None, None], size=size, mode="area")[0, 0]


def _cover(start: float, end: float, cells: int) -> Tensor:
    edges = torch.arange(cells, dtype=torch.float32)
    return (torch.clamp(edges + 1, max=end * cells) - torch.clamp(edges, min=start * cells)).clamp(0, 1)
