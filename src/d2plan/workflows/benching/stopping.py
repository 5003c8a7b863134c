"""Ctrl-C while a benchmark runs: it is heard at once, and told at once what still has to end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from d2plan.workflows.training.folder import stop_gently


class Stop:
    """Whether somebody asked to stop; nobody does before ``listen`` and afterwards."""

    def __init__(self) -> None:
        self._asked: Callable[[], bool] = _never

    def __call__(self) -> bool:
        """Say so."""
        return self._asked()

    @contextmanager
    def listen(self, heard: Callable[[], None]) -> Iterator[None]:
        """Listen while the block runs; a second Ctrl-C or SIGTERM ends it at once.

        Args:
            heard: is called when somebody asks, in the middle of whatever runs.

        Yields:
            Nothing.
        """
        with stop_gently(heard) as asked:
            self._asked = asked
            try:
                yield
            finally:
                self._asked = _never


def _never() -> bool:
    return False
