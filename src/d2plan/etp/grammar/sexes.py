"""Who can be "he", "she" and "it": by what somebody is, and by what the story called them before."""

from collections.abc import Sequence

from d2plan.etp.plan import KnownConcept

GENDERS = {"man": "he", "boy": "he", "woman": "she", "girl": "she"}
CLEAR = {"teapot": "it", "car": "it", "backpack": "it"}


class Sexes:
    """Keeps what the known characters were called.

    Args:
        concepts: who is known.
    """

    def __init__(self, concepts: Sequence[KnownConcept]) -> None:
        self.concepts = concepts
        self.genders: dict[int, str] = {}

    def word(self, index: int) -> str:
        """Give somebody's class word."""
        return self.concepts[index].class_word

    def _sex(self, index: int, pronoun: str) -> int:
        """Say whether a pronoun fits by what somebody is; nothing counts for "it"."""
        return int(pronoun != "it" and GENDERS.get(self.word(index)) == pronoun)

    def fits(self, index: int, pronoun: str) -> bool:
        """Say whether a pronoun may mean somebody."""
        return self._sure(index, pronoun) > 0

    def _sure(self, index: int, pronoun: str) -> int:
        """Say how well a pronoun fits: 2 by what it is, 1 where it may, 0 not at all."""
        word = self.word(index)
        known = GENDERS.get(word) or CLEAR.get(word) or self.genders.get(index)
        if known:
            return 2 if known == pronoun else int(word not in GENDERS and pronoun == "it")
        return 1
