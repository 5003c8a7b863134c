"""Is everybody themselves? Pure functions of embeddings of faces or instances."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from d2plan.eval.alignment import Numbers, Vectors, cosine_table
from d2plan.eval.metrics import centre_of

Matches = Sequence[int | None]


def identity_table(references: Sequence[Vectors], seen: Vectors) -> Numbers:
    """Say how much each seen face or instance is like each concept.

    Source: ArcFace's use (Deng et al., 2019): a person is the middle of the embeddings of its pictures, and the
    likeness is a cosine. FastComposer's code does the same with one picture each.

    Args:
        references: one table a concept, ``[r d]``.
        seen: what a picture shows, ``[n d]``; n may be 0.

    Returns:
        ``[c n]``, -1..1.

    Raises:
        InputError: a concept has no reference.
    """
    centres = np.stack([centre_of(rows) for rows in references])
    return cosine_table(centres, seen) if len(seen) else np.zeros((len(centres), 0))


def identities_found(likeness: Numbers, matches: Matches) -> tuple[float | None, ...]:
    """Give each concept's likeness to the one that was matched with it; ``identity_found`` in results.

    Args:
        likeness: ``[c n]``, from ``identity_table``.
        matches: for each concept the number of the seen one, or None.

    Returns:
        Cosines, -1..1; None for a concept that nobody was matched with.
    """
    return tuple(None if column is None else float(likeness[row, column]) for row, column in enumerate(matches))


def identity_alignments(found: Sequence[float | None]) -> tuple[float, ...]:
    """Count whom the picture does not show as 0, so that a method gains nothing by leaving somebody out.

    Source: FastComposer (Xiao et al., 2023), ``single_object_evaluation.py``: max(cos, 0), 0 without a face;
    ``identity`` in results.

    >>> identity_alignments([0.5, None, -0.1])
    (0.5, 0.0, 0.0)

    Args:
        found: from ``identities_found``.

    Returns:
        0..1 for each concept.
    """
    return tuple(0.0 if value is None else max(value, 0.0) for value in found)


def least_identity(found: Sequence[float | None]) -> float:
    """Give the likeness of the concept that came out worst.

    Source: FastComposer, ``multi_object_evaluation.py``: the least of the matched likenesses, at least 0;
    ``identity_least`` in results.

    >>> least_identity([0.5, None])
    0.0

    Args:
        found: from ``identities_found``, at least one.

    Returns:
        0..1.
    """
    return min(identity_alignments(found))


def is_confused(likeness: Numbers, matches: Matches, index: int) -> bool | None:
    """Say whether the instance that was matched with a concept looks more like another concept of the picture.

    Source: Detect-and-Compare of MuDI (Jang et al., 2024): find the instances, compare each with every concept, and
    look at who is nearest; ``confused`` in results.

    Args:
        likeness: ``[c n]``, of the concepts of this picture that may be mixed up: those of one class.
        matches: for each of them the number of the seen one, or None.
        index: which of them.

    Returns:
        True, False, or None where nobody was matched or there is no other concept.
    """
    column = matches[index]
    if column is None or len(likeness) < 2:
        return None
    others: NDArray[np.float64] = np.delete(likeness[:, column], index)
    return bool(others.max() > likeness[index, column])
