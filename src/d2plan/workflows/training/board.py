"""A training's losses for TensorBoard, where that package is installed."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Protocol

from d2plan.dislora.processes import Processes
from d2plan.errors import FileError, MissingExtraError


class Writer(Protocol):
    """What is used of TensorBoard's writer."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        """Write one value."""
        ...


class Board:
    """Takes a training's steps; without a writer it does nothing.

    Args:
        writer: TensorBoard's.
    """

    def __init__(self, writer: Writer | None = None) -> None:
        self.writer = writer

    def add(self, row: Mapping[str, float]) -> None:
        """Write a step's numbers.

        Args:
            row: name to number; holds "step".
        """
        for name, value in row.items() if self.writer is not None else ():
            if name not in ("step", "total"):
                self.writer.add_scalar(f"train/{name}", value, int(row["step"]))  # type: ignore[union-attr]


@contextmanager
def open_board(folder: str | Path | None, together: Processes) -> Iterator[Board]:
    """Open TensorBoard's files while the block runs.

    Args:
        folder: where to; None writes nothing.
        together: only the process that leads writes.

    Yields:
        What takes the steps.

    Raises:
        MissingExtraError: TensorBoard is not installed.
        FileError: the folder cannot be written.
    """
    if folder is None or not together.leads:
        yield Board()
        return
    try:
        module = import_module("torch.utils.tensorboard")
    except ImportError as error:
        raise MissingExtraError(
            "tensorboard: the package is not installed; pip install 'd2plan[tensorboard]'."
        ) from error
    try:
        writer = module.SummaryWriter(os.path.expanduser(folder))
    except OSError as error:
        raise FileError(f"{folder}: cannot be written ({error.strerror or error}); choose another folder.") from error
    try:
        yield Board(writer)
    finally:
        writer.close()
