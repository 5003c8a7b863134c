"""How pictures go with texts and with other pictures: pure functions of an encoder's embeddings.

Every number belongs to the encoder that made the embeddings; ``docs/metrics.md`` says by which name results keep it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from d2plan.errors import InputError
from d2plan.shapes import check_shape

Vectors = NDArray[np.floating]
Numbers = NDArray[np.float64]

CLIPSCORE_SCALE = 2.5


def cosine_table(first: Vectors, second: Vectors) -> Numbers:
    """Give the cosine of every row of one table with every row of another.

    Args:
        first: embeddings, ``[n d]``, of any length.
        second: embeddings of the same encoder, ``[m d]``.

    Returns:
        ``[n m]``, -1..1.

    Raises:
        InputError: a row is zero or no number, so it points nowhere.
        ShapeError: they are of two spaces.
    """
    sizes = check_shape(first, "n d", "first")
    check_shape(second, "m d", "second", {"d": sizes["d"]})
    return _unit(first) @ _unit(second).T


def text_alignments(images: Vectors, texts: Vectors) -> Numbers:
    """Say how well each picture goes with its own text: the raw cosine.

    Source: CLIPScore (Hessel et al., 2021) without its factor and its floor; ``text`` in results.

    Args:
        images: CLIP's embeddings of the pictures, ``[n d]``.
        texts: of their texts, ``[n d]``.

    Returns:
        Cosines, ``[n]``, -1..1.

    Raises:
        InputError: there are more of one than of the other, or a row is zero.
    """
    _same_number(len(images), len(texts), "pictures", "texts")
    check_shape(texts, "n d", "texts", check_shape(images, "n d", "images"))
    return (_unit(images) * _unit(texts)).sum(1)


def scale_to_clipscore(cosines: Vectors) -> Numbers:
    """Bring raw cosines to the scale on which most papers report text alignment.

    Source: CLIPScore (Hessel et al., 2021), w max(cos, 0) with w = 2.5; ``text_scaled`` in results. torchmetrics has
    it with w = 100, and LOVEU-TGVE's text score is 100 cos without the floor.

    Args:
        cosines: of pictures and texts, any shape.

    Returns:
        The same shape, 0..2.5.
    """
    return CLIPSCORE_SCALE * np.maximum(np.asarray(cosines, dtype=np.float64), 0)


def image_alignments(images: Vectors, references: Vectors, floored: bool = False) -> Numbers:
    """Say how much each picture is like all references; their mean is that over all pairs of a picture and a reference.

    Source: CLIP-I and DINO of DreamBooth (Ruiz et al., 2023) and of Custom Diffusion's ``evaluate.py``: all pairs.
    Mix-of-Show's code cuts each pair's cosine off at 0; that is ``floored``. ``image`` and ``dino`` in results with
    whole pictures, ``image_instance`` and ``dino_instance`` with crops.

    Args:
        images: embeddings of the pictures or crops, ``[n d]``.
        references: of the concept's own, ``[r d]``.
        floored: count a pair that points apart as 0.

    Returns:
        Mean cosines, ``[n]``, -1..1.

    Raises:
        InputError: there is no reference, or a row is zero.
    """
    if not len(references):
        raise InputError("references: there is none to compare with.")
    table = cosine_table(images, references)
    return (np.maximum(table, 0) if floored else table).mean(1)


def _unit(vectors: Vectors) -> Numbers:
    rows = np.asarray(vectors, dtype=np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or (lengths == 0).any():
        raise InputError("embeddings: one of them is zero or no number, so it points nowhere.")
    return rows / lengths


def _same_number(first: int, second: int, one: str, other: str) -> None:
    if first != second:
        raise InputError(f"there are {first} {one}, but {second} {other}; give one for each.")
