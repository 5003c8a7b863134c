"""Check a tensor's shape against a written pattern, with one clear sentence when it differs."""

from collections.abc import Sequence
from typing import Protocol

from d2plan.errors import ShapeError


class Shaped(Protocol):
    """Whatever has a shape: a tensor, an array."""

    @property
    def shape(self) -> Sequence[int]:
        """The sizes of the axes."""
        ...


def check_shape(tensor: Shaped, pattern: str, name: str, sizes: dict[str, int] | None = None) -> dict[str, int]:
    """Compare a tensor's shape with a pattern such as ``"b c h w"``.

    A pattern is a list of axes parted by spaces: a number is that size exactly, a word is any size (the same
    one wherever the word stands again), ``_`` is any size, and a leading or trailing ``...`` is any number of axes.

    >>> import numpy
    >>> check_shape(numpy.zeros((2, 4, 8, 8)), "b 4 h w", "latents")
    {'b': 2, 'h': 8, 'w': 8}

    Args:
        tensor: what to look at; only its ``shape`` is read.
        pattern: the axes.
        name: how the error calls the tensor.
        sizes: words whose sizes are known already, from another tensor; not changed.

    Returns:
        The size of every word, those of ``sizes`` included.

    Raises:
        ShapeError: the number of axes or a size differs.
    """
    shape = tuple(int(size) for size in tensor.shape)
    known = dict(sizes or {})
    axes, seen = _align(pattern.split(), shape)
    if axes is None:
        raise ShapeError(f"{name} has shape {_write(shape)}, but [{pattern}] is needed: another number of axes.")
    for axis, size in zip(axes, seen, strict=True):
        if axis == "_":
            continue
        wanted = int(axis) if axis.isdigit() else known.setdefault(axis, size)
        if wanted != size:
            where = f"axis {axis}" if not axis.isdigit() else "one axis"
            raise ShapeError(
                f"{name} has shape {_write(shape)}, but [{pattern}] is needed: {where} is {size} instead of {wanted}."
            )
    return known


def _align(axes: list[str], shape: tuple[int, ...]) -> tuple[list[str] | None, tuple[int, ...]]:
    if axes and axes[0] == "...":
        rest = axes[1:]
        return (rest, shape[len(shape) - len(rest) :]) if len(shape) >= len(rest) else (None, shape)
    if axes and axes[-1] == "...":
        rest = axes[:-1]
        return (rest, shape[: len(rest)]) if len(shape) >= len(rest) else (None, shape)
    return (axes, shape) if len(axes) == len(shape) else (None, shape)


def _write(shape: tuple[int, ...]) -> str:
    return "[" + " ".join(str(size) for size in shape) + "]"
