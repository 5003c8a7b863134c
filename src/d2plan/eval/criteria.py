"""The four faults that the paper's viewers of films looked for, each of one expected instance of a picture.

Paper: section 5.2 and Table 4, "visual confusion, attribute binding, subject missing, and action binding". There people
rated them; here a judge's yes and no is counted. All four are faults: the fewer the better.
"""

from __future__ import annotations

import numpy as np

from d2plan.eval.alignment import Vectors, cosine_table
from d2plan.eval.metrics import Attributes

WORN = ("accessory", "accessory_colour")
DONE = ("action",)
# Of what a figure looks like: scripts/judge/confusion.py finds 0.2 % of true figures above it, of half mixed ones 64 %.
MOST_OF_ANOTHER = 1 / 3
_SAME = 0.99


def is_missing(seen: object | None) -> bool:
    """Say whether an instance that was asked for is not there; ``subject_missing`` in results.

    Args:
        seen: what was matched with it, each seen one with one expected one at most; None when there is nothing.

    Returns:
        True when nobody was found for it.
    """
    return seen is None


def is_misbound(expected: Attributes, seen: Attributes | None, names: tuple[str, ...]) -> bool | None:
    """Say whether what a prompt says of an instance is not seen on it; whether another one has it makes no difference.

    ``attribute_misbinding`` in results with ``WORN``: an accessory and its colour are one saying. ``action_misbinding``
    with ``DONE``.

    >>> is_misbound({"action": "running"}, {"action": "sitting"}, DONE)
    True

    Args:
        expected: attribute to what is said; None or missing where nothing is said.
        seen: attribute to what is seen on the one matched with it; None when it is absent, which counts as a fault, so
            that a method gains nothing by leaving somebody out.
        names: the attributes that count.

    Returns:
        True, False, or None when the prompt says none of them.
    """
    said = {name: value for name in names if (value := expected.get(name)) is not None}
    if not said:
        return None
    return seen is None or any(seen.get(name) != value for name, value in said.items())


def share_of_other(to_own: float, to_other: float, between: float) -> float:
    """Say how much of what a figure looks like is another character's.

    The figure's embedding is put together from those of the two characters, e = a own + b other, by least squares;
    what is below 0 counts as 0. The share is b / (a + b): 0 where it is itself, 1/2 where it is half and half, 1 where
    it is the other one.

    >>> share_of_other(1.0, 0.0, 0.0), round(share_of_other(0.9, 0.9, 0.62), 6)
    (0.0, 0.5)

    Args:
        to_own: cosine of the figure and its own character.
        to_other: of the figure and the other one.
        between: of the two characters, above -1 and below 1.

    Returns:
        0..1; 0 too where it is like neither, for then it is no mixture of the two.
    """
    own, other = max(to_own - between * to_other, 0.0), max(to_other - between * to_own, 0.0)
    return other / (own + other) if own + other > 0 else 0.0


def is_visually_confused(seen: Vectors | None, references: Vectors, index: int) -> bool | None:
    """Say whether a figure looks like another character of its picture, or like a mixture; ``visual_confusion``.

    Args:
        seen: embedding of the figure, ``[d]``; None when it is absent: then it is missing, and not confused.
        references: the middles of the embeddings of all characters of the picture, of any class, ``[c d]``.
        index: which of them it shall be.

    Returns:
        True where more than a third of it is another character's (``share_of_other``): it was exchanged, drawn twice,
        or blended. None when it is absent, or the picture has no other character that could be told from it.

    Raises:
        InputError: an embedding is zero.
        ShapeError: the embeddings are of two spaces.
    """
    if seen is None:
        return None
    to_all, between = cosine_table(seen[None], references)[0], cosine_table(references[index][None], references)[0]
    others = [place for place in range(len(references)) if place != index and abs(between[place]) < _SAME]
    if not others:
        return None
    shares = [share_of_other(float(to_all[index]), float(to_all[place]), float(between[place])) for place in others]
    return bool(np.max(shares) > MOST_OF_ANOTHER)
