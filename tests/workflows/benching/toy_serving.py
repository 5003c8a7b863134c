"""What helpers of a shared benchmark run in tests; a process that is started anew must find it by its name."""

import os
import time
from contextlib import suppress

from d2plan.bench.runner import Step
from d2plan.errors import InputError


def serve(connection):
    """Learn and draw a method slowly; "dies" and "refuses" do what they are called, "endless" waits to be stopped."""
    while name := _hear(connection):
        if name == "dies":
            os._exit(7)
        if name == "refuses":
            connection.send(InputError("suite: it cannot be used."))
            return
        for stage in ("learning", "drawing"):
            for done in range(3):
                connection.send(Step(f"{name}: {stage}", str(os.getpid()), done, 2))
                time.sleep(0.05)
        while name == "endless" and not connection.poll():
            time.sleep(0.02)
        if connection.poll():
            return
        connection.send(None)


def _hear(connection):
    with suppress(EOFError):
        return connection.recv()
    return ""


def die(request, root, threads, connection):
    """End at once, as a process that the system kills."""
    os._exit(7)
