"""One clock over several stages: how far all of it is, and how long it still takes."""

import time
from collections.abc import Callable, Mapping

Report = Callable[[str, int, int], None]

# What is learnt from less than this says little about the rest: part of a stage, and planned seconds of the whole.
_SURE_SHARE, _SURE_SECONDS = 0.05, 10.0


class Timetable:
    """Tells a display both where a stage stands and where the whole stands, in seconds.

    A stage under way is taken to go on at its own pace, and those to come to take as much longer or shorter than
    planned as what is done did.

    Args:
        title: what the whole is called.
        planned: seconds by stage, in order.
        show: the display.
        clock: gives the time in seconds.
        lanes: how many stages run beside each other; a stage then follows those whose names begin alike, up to a colon.
    """

    def __init__(
        self,
        title: str,
        planned: Mapping[str, float],
        show: Report,
        clock: Callable[[], float] = time.monotonic,
        lanes: int = 1,
    ) -> None:
        self.title = title
        self.planned = dict(planned)
        self.show = show
        self.clock = clock
        self.lanes = lanes
        self.begun = clock()
        self.taken: dict[str, float] = {}
        self._shares = dict.fromkeys(planned, 0.0)

    def start(self, stage: str) -> Report:
        """Begin a stage.

        Args:
            stage: one of those planned; those before it count as done.

        Returns:
            A function that is told what the stage is doing, how much is done, and how much there is.
        """
        begun = self.clock()
        for other in list(self.planned)[: list(self.planned).index(stage)]:
            if self.lanes == 1 or other.partition(":")[0] == stage.partition(":")[0]:
                self._shares[other] = 1.0

        def report(what: str, done: int, total: int) -> None:
            self.taken[stage] = self.clock() - begun
            self._shares[stage] = min(1.0, done / total) if total else 0.0
            elapsed = self.elapsed()
            self.show(self.title, int(elapsed), int(elapsed + max(1.0, self.left())))
            self.show(f"{stage}: {what}" if what else stage, done, total)

        return report

    def elapsed(self) -> float:
        """Say how many seconds have passed."""
        return self.clock() - self.begun

    def left(self) -> float:
        """Say how many seconds are left, as far as one can know."""
        done = sum(self.planned[stage] * share for stage, share in self._shares.items())
        pace = min(20.0, max(0.05, self.lanes * self.elapsed() / done)) if done >= _SURE_SECONDS else 1.0
        lanes: dict[str, float] = {}
        for stage, share in self._shares.items():
            if share >= _SURE_SHARE and stage in self.taken:
                seconds = self.taken[stage] * (1 - share) / share
            else:
                seconds = self.planned[stage] * (1 - share) * pace
            lane = stage.partition(":")[0]
            lanes[lane] = lanes.get(lane, 0.0) + seconds
        return max(sum(lanes.values()) / self.lanes, *lanes.values(), 0.0)

    def finish(self) -> None:
        """Close the whole."""
        seconds = max(1, int(self.elapsed()))
        self.show(self.title, seconds, seconds)
