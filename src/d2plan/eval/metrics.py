"""The scores as pure functions: what is counted, how instances are matched, and how sure a number is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from d2plan.errors import InputError

ATTRIBUTES = ("accessory", "accessory_colour", "action")

Attributes = Mapping[str, str | None]


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval.

    Attributes:
        mean: of all values.
        low: lower end of the interval.
        high: upper end.
        count: how many values there were.
    """

    mean: float
    low: float
    high: float
    count: int


def attributes_right(expected: Attributes, seen: Attributes | None) -> bool | None:
    """Say whether all that a prompt says of an instance is seen on it.

    Args:
        expected: attribute to what is said; None or missing where nothing is said.
        seen: attribute to what is seen on the matched instance; None when the instance is absent.

    Returns:
        True, False, or None when the prompt says nothing.
    """
    said = [name for name in ATTRIBUTES if expected.get(name) is not None]
    if not said:
        return None
    return seen is not None and all(seen.get(name) == expected[name] for name in said)


def attributes_swapped(expected: Sequence[Attributes], seen: Sequence[Attributes | None], index: int) -> bool | None:
    """Say whether an instance shows what the prompt says of another one instead of what it says of this one.

    What tells two instances apart is compared alone: an accessory with its colour where one is said, and an action.
    What the prompt does not say of this instance counts too: an accessory said of the other one only must not be here.

    Args:
        expected: per instance, attribute to what is said.
        seen: per instance, attribute to what is seen on the one matched to it; None when it is absent.
        index: which instance.

    Returns:
        True, False, or None when the instance is absent or nothing tells the instances apart.
    """
    here = seen[index]
    if here is None:
        return None
    told_apart = False
    for other, theirs in enumerate(expected):
        if other == index:
            continue
        for names in (("accessory", "accessory_colour"), ("action",)):
            mine_said = {name: expected[index].get(name) for name in names}
            said = {name: theirs.get(name) for name in names if theirs.get(name) is not None}
            if not said or all(mine_said[name] == value for name, value in said.items()):
                continue
            told_apart = True
            mine_kept = any(mine_said.values()) and all(here.get(n) == v for n, v in mine_said.items() if v is not None)
            if not mine_kept and all(here.get(name) == value for name, value in said.items()):
                return True
    return False if told_apart else None


def rank_of(right: float, others: Sequence[float]) -> int:
    """Give the place of the right one among all, from 1; a tie counts against it.

    >>> rank_of(0.8, [0.9, 0.8, 0.1])
    3
    """
    return 1 + sum(other >= right for other in others)


def cosine(first: ArrayLike, second: ArrayLike) -> float:
    """Give the cosine of two vectors, 0 when one has no length."""
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / lengths if lengths > 0 else 0.0


def centre_of(embeddings: ArrayLike | Sequence[ArrayLike]) -> np.ndarray:
    """Give the direction in the middle of embeddings.

    Args:
        embeddings: ``[n d]``.

    Returns:
        ``[d]``, of length 1.

    Raises:
        InputError: there is no embedding.
    """
    rows = np.asarray(embeddings, dtype=np.float32)
    if rows.ndim != 2 or not len(rows):
        raise InputError("references: none of the pictures shows an instance of the class; give other pictures.")
    middle = rows.mean(0)
    return middle / max(float(np.linalg.norm(middle)), 1e-9)


def estimate(groups: Sequence[Sequence[float]], seed: int = 0, repeats: int = 2000) -> Estimate | None:
    """Estimate a mean and its 95 % interval by bootstrap.

    Whole groups are drawn with replacement, because what stands in one picture (or is one concept) is not independent.

    Args:
        groups: values, grouped by what they share, such as a picture.
        seed: of the draws.
        repeats: how many draws.

    Returns:
        The mean with its percentile interval; None when there is no value.
    """
    filled = [group for group in groups if len(group)]
    if not filled:
        return None
    sums = np.array([float(np.sum(group)) for group in filled])
    sizes = np.array([len(group) for group in filled])
    picks = np.random.default_rng(seed).integers(len(filled), size=(repeats, len(filled)))
    means = sums[picks].sum(1) / sizes[picks].sum(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Estimate(float(sums.sum() / sizes.sum()), float(low), float(high), int(sizes.sum()))
