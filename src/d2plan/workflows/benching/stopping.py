"""Ctrl-C while a benchmark runs: it is heard at once, and told at once what still has to end."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType

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
        before: dict[int, Callable[[int, FrameType | None], object]] = {}

        def hear(number: int, frame: FrameType | None) -> None:
            before[number](number, frame)
            heard()

        with stop_gently() as asked:
            self._asked = asked
            for number in (signal.SIGINT, signal.SIGTERM) if current_thread() is main_thread() else ():
                action = signal.getsignal(number)
                if callable(action):
                    before[number] = action
                    signal.signal(number, hear)
            try:
                yield
            finally:
                for own, action in before.items():
                    # A second one has put back already what was there before the first listened.
                    if signal.getsignal(own) is hear:
                        signal.signal(own, action)
                self._asked = _never


def _never() -> bool:
    return False
