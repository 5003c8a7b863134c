"""Several processes share a benchmark's methods; each takes one after the other, and this one leads them."""

from __future__ import annotations

import signal
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from threading import current_thread, main_thread

from d2plan.bench.runner import Step
from d2plan.errors import D2PlanError

Serve = Callable[[Connection], None]
# How long it may take, in seconds, until a Ctrl-C is passed on.
_HEARD_WITHIN = 0.2
# Whoever does this may still be learning what another method would learn too.
_LEARNING = ("tuning", "learning")


class Helpers:
    """Processes that wait for the name of a method, and tell each step of its work; then they wait for the next.

    A helper is told to stop by any message while it works, and ends when its pipe is closed.

    Args:
        serve: what each of them runs, with its end of a pipe; it can be pickled.
        count: how many.

    Raises:
        D2PlanError: so many cannot be started.
    """

    def __init__(self, serve: Serve, count: int) -> None:
        context = get_context("spawn")  # torch's threads do not outlive a fork
        self._processes: dict[Connection, SpawnProcess] = {}
        self._busy: dict[Connection, str] = {}
        self._learning: dict[Connection, Hashable] = {}
        try:
            with _deaf_to_stops():
                for _ in range(count):
                    ours, theirs = context.Pipe()
                    process = context.Process(target=serve, args=(theirs,), daemon=True)
                    process.start()
                    theirs.close()
                    self._processes[ours] = process
        except BaseException as error:
            self.end(at_once=True)
            if isinstance(error, OSError):
                raise D2PlanError(f"{count} processes cannot be started ({error}); use fewer --processes.") from error
            raise

    def share_out(
        self,
        methods: Mapping[str, Hashable],
        hear: Callable[[str, Step | None], None],
        stop: Callable[[], bool],
    ) -> bool:
        """Give each method to whoever is free, in order, until all are done or somebody asks to stop.

        Args:
            methods: name to what it learns; of those that learn the same, one learns and the others wait for it.
            hear: is told each step of a method, and None when it is done.
            stop: whether somebody asked to stop.

        Returns:
            Whether it was stopped.

        Raises:
            D2PlanError: a helper met one, or it died.
        """
        waiting, told = dict(methods), False
        while self._busy or (waiting and not told):
            if not stop():
                self._hand_out(waiting)
            elif not told:
                told = True
                for connection in self._busy:
                    _send(connection, "")
            ready = wait(list(self._busy), timeout=_HEARD_WITHIN)
            for connection in [one for one in self._busy if one in ready]:
                self._listen(connection, hear, told or stop())
        return told

    def _hand_out(self, waiting: dict[str, Hashable]) -> None:
        for connection in self._processes:
            name = next((one for one, what in waiting.items() if what not in self._learning.values()), None)
            if name is not None and connection not in self._busy:
                self._learning[connection] = waiting.pop(name)
                self._busy[connection] = name
                _send(connection, name)

    def _listen(self, connection: Connection, hear: Callable[[str, Step | None], None], stopping: bool) -> None:
        message, name = self._receive(connection, stopping), self._busy[connection]
        if message is None:
            del self._busy[connection]
        if message is None or not message.stage.endswith(_LEARNING):
            self._learning.pop(connection, None)
        if message is not None or not stopping:
            hear(name, message)

    def end(self, at_once: bool = False) -> None:
        """Let them end.

        Args:
            at_once: in the middle of whatever they do.
        """
        for connection, process in self._processes.items():
            connection.close()
            if at_once:
                process.kill()
        for process in self._processes.values():
            process.join()

    def _receive(self, connection: Connection, stopping: bool) -> Step | None:
        try:
            message = connection.recv()
        except (EOFError, OSError) as error:  # also in the middle of a message
            if stopping:
                return None
            process = self._processes[connection]
            process.join()
            raise D2PlanError(
                f"one of {len(self._processes)} processes ended (exit code {process.exitcode}), perhaps because the "
                "memory is too small for so many; the same command (without --redo) goes on, also with fewer "
                "--processes."
            ) from error
        if isinstance(message, D2PlanError):
            raise message
        return message


def _send(connection: Connection, text: str) -> None:
    with suppress(ConnectionError):  # of one that died, as its end of the pipe then says
        connection.send(text)


@contextmanager
def lead(serve: Serve, count: int) -> Iterator[Helpers]:
    """Start helpers, and end them whatever happens.

    Args:
        serve: what each of them runs.
        count: how many.

    Yields:
        The helpers.
    """
    helpers = Helpers(serve, count)
    try:
        yield helpers
    except BaseException:
        helpers.end(at_once=True)
        raise
    helpers.end()


@contextmanager
def _deaf_to_stops() -> Iterator[None]:
    """Let processes that are started here hear neither Ctrl-C nor SIGTERM, which reach all: this one tells them."""
    numbers = (signal.SIGINT, signal.SIGTERM) if current_thread() is main_thread() else ()
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, action in before.items():
            signal.signal(number, action)
