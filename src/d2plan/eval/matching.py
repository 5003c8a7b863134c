"""Who is who: give each expected instance one of those that are seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def match_greedily(gains: ArrayLike) -> tuple[int | None, ...]:
    """Take the largest gain again and again, each expected and each seen instance once.

    Source: FastComposer (Xiao et al., 2023), ``multi_object_evaluation.py``: how several faces are told apart.

    >>> match_greedily([[5, 4], [4, 0]])
    (0, 1)

    Args:
        gains: ``[expected seen]``; minus infinity where a pair may not be.

    Returns:
        For each expected instance the number of the seen one, or None.
    """
    left = np.array(gains, dtype=float, ndmin=2, copy=True)
    result: list[int | None] = [None] * len(np.asarray(gains))
    while left.size and np.isfinite(left).any():
        row, column = np.unravel_index(int(np.where(np.isfinite(left), left, -np.inf).argmax()), left.shape)
        result[int(row)] = int(column)
        left[row, :] = -np.inf
        left[:, column] = -np.inf
    return tuple(result)


def match_exactly(gains: ArrayLike) -> tuple[int | None, ...]:
    """Make as many pairs as may be, and of these choices take the one with the largest sum of gains.

    Source: the Hungarian method (Kuhn 1955) with shortest augmenting paths (Jonker and Volgenant 1987), O(n^3).

    >>> match_exactly([[5, 4], [4, 0]])
    (1, 0)
    >>> match_exactly([[float("-inf")], [1]])
    (None, 0)

    Args:
        gains: ``[expected seen]``; minus infinity where a pair may not be.

    Returns:
        For each expected instance the number of the seen one, or None; none is given twice.
    """
    table = np.asarray(gains, dtype=float)
    if table.size == 0:
        return (None,) * len(table)
    allowed = np.isfinite(table)
    values = np.where(allowed, table, 0.0)
    # A pair that may not be costs more than all others together can bring, so their number is as small as can be.
    spread = float(values.max() - values.min()) + 1.0
    costs = np.where(allowed, values.max() - values, spread * (min(table.shape) + 1))
    turned = len(costs) > costs.shape[1]
    owners = _assign(costs.T if turned else costs)
    pairs = {(one, int(row)) if turned else (int(row), one) for one, row in enumerate(owners) if row >= 0}
    chosen = {row: column for row, column in pairs if allowed[row, column]}
    return tuple(chosen.get(row) for row in range(len(table)))


def _assign(costs: NDArray[np.float64]) -> NDArray[np.int64]:
    """Give each of few rows one of at least as many columns, at the least sum; returns each column's row or -1."""
    rows, columns = costs.shape
    row_price, column_price = np.zeros(rows), np.zeros(columns + 1)
    owner = np.full(columns + 1, -1)  # the last place stands for the row that is being given a column
    for row in range(rows):
        owner[columns], place = row, columns
        nearest, came_from = np.full(columns, np.inf), np.full(columns, columns)
        done = np.zeros(columns + 1, dtype=bool)
        while owner[place] >= 0:
            done[place] = True
            open_ones = ~done[:columns]
            reduced = costs[owner[place]] - row_price[owner[place]] - column_price[:columns]
            better = open_ones & (reduced < nearest)
            nearest[better], came_from[better] = reduced[better], place
            following = int(np.where(open_ones, nearest, np.inf).argmin())
            step = nearest[following]
            row_price[owner[done]] += step
            column_price[done] -= step
            nearest[open_ones] -= step
            place = following
        while place != columns:
            owner[place] = owner[came_from[place]]
            place = int(came_from[place])
        owner[columns] = -1
    return owner[:columns]
