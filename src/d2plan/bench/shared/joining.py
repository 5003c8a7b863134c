"""What methods have in common whose concepts meet in a picture as they were learnt."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from d2plan.backbone.load import Backbone
from d2plan.bench.protocol import Learned, Setting, State


class JoinsNothing:
    """Needs no state for several concepts."""

    def join(
        self, backbone: Backbone, learned: Sequence[Learned], setting: Setting, seed: int
    ) -> Generator[float, None, State]:
        """Make an empty state."""
        yield from ()
        return {}
