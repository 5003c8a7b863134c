"""Look around in the chunks of a story: what stands before, and what follows behind small words."""

from collections.abc import Sequence

from d2plan.etp.grammar.chunks import Chunk

_PREPOSITIONS = ("in", "on", "at", "with", "for", "of", "to", "from", "by", "during", "under")


class Around:
    """The chunks of a story.

    Args:
        chunks: in order.
    """

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        self.chunks = chunks

    def before(self, place: int) -> Chunk:
        """Give the chunk before a place."""
        return self.at(place - 1)

    def at(self, place: int) -> Chunk:
        """Give the chunk at a place; a stop outside the story."""
        return self.chunks[place] if 0 <= place < len(self.chunks) else Chunk("stop", "")

    def after(self, place: int, skipped: tuple[str, ...] = ("filler", "other", "mark")) -> Chunk:
        """Give the first chunk behind a place that is more than a small word."""
        spot = place + 1
        while self.at(spot).kind in skipped and not (
            self.at(spot).kind == "other" and self.at(spot).value not in ("adverb", "adjective")
        ):
            spot += 1
        return self.at(spot)

    def listed(self, place: int) -> Chunk:
        """Give what stands before a list's comma or "and"."""
        spot = place - 1
        while spot > 0 and self.chunks[spot].kind in ("comma", "join"):
            spot -= 1
        return self.chunks[spot]


def in_prepositional(parts: Sequence[Chunk], spot: int) -> bool:
    """Say whether a part of a clause belongs to a preposition before it."""
    while spot > 0 and parts[spot - 1].kind in ("filler", "unknown", "other"):
        spot -= 1
        if parts[spot].text.lower() in _PREPOSITIONS:
            return True
    return spot > 0 and parts[spot - 1].kind == "prep"
