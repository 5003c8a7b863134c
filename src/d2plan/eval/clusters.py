"""Group the pixels of a picture by which words they attend to."""

import numpy as np
from numpy.typing import NDArray

from d2plan.shapes import check_shape

_ROUNDS = 100


def cluster_rows(rows: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Group rows by k-means, always in the same way.

    The first centre is the row farthest from the mean, each next one the row farthest from all centres so far, so that
    nothing is drawn by chance.

    Source: Lloyd 1982; Gonzalez 1985 for the centres to begin with.

    >>> cluster_rows(np.array([[0.0], [0.1], [5.0], [5.1]], dtype=np.float32), 2).tolist()
    [0, 0, 1, 1]

    Args:
        rows: ``[q d]``.
        count: groups wanted, at least 1; fewer come back where there are fewer different rows.

    Returns:
        The group of each row, ``[q]``, 0 .. count - 1, numbered without a gap.

    Raises:
        ShapeError: the rows are no table.
    """
    check_shape(rows, "q d", "rows")
    values = rows.astype(np.float64)
    centres = values[[int(_distances(values, values.mean(axis=0, keepdims=True)).min(axis=1).argmax())]]
    while len(centres) < count:
        nearest = _distances(values, centres).min(axis=1)
        if nearest.max() == 0:
            break
        centres = np.concatenate([centres, values[[int(nearest.argmax())]]])
    labels = _distances(values, centres).argmin(axis=1)
    for _ in range(_ROUNDS):
        centres = np.stack([values[labels == group].mean(axis=0) for group in range(labels.max() + 1)])
        before, labels = labels, np.unique(_distances(values, centres).argmin(axis=1), return_inverse=True)[1]
        if np.array_equal(before, labels):
            break
    return labels


def _distances(rows: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([np.square(rows - centre).sum(axis=1) for centre in centres], axis=1)
