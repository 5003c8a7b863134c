"""One loop inside another: its steps are passed on in other words, and what it makes is handed back."""

from collections.abc import Callable, Generator
from contextlib import closing
from typing import TypeVar

_InnerT = TypeVar("_InnerT")
_OuterT = TypeVar("_OuterT")
_MadeT = TypeVar("_MadeT")


def follow(
    steps: Generator[_InnerT, None, _MadeT], tell: Callable[[_InnerT], _OuterT]
) -> Generator[_OuterT, None, _MadeT]:
    """Run a loop to its end and close it whatever happens.

    Args:
        steps: the loop.
        tell: makes of each of its steps what is told of it.

    Returns:
        A generator that gives what ``tell`` makes of each step, and at its end what the loop makes.
    """
    return _follow(steps, tell)


def _follow(
    steps: Generator[_InnerT, None, _MadeT], tell: Callable[[_InnerT], _OuterT]
) -> Generator[_OuterT, None, _MadeT]:
    with closing(steps):
        while True:
            try:
                step = next(steps)
            except StopIteration as end:
                made: _MadeT = end.value
                return made
            yield tell(step)
