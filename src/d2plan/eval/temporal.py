"""How well frames hold together, and how near they come to the truth: pure functions of vectors and pixels."""

import numpy as np
from numpy.typing import NDArray

from d2plan.errors import InputError
from d2plan.shapes import check_shape

Vectors = NDArray[np.floating]
Pixels = NDArray[np.uint8]


def consistency_adjacent(vectors: Vectors) -> float:
    """Say how alike neighbouring frames are.

    Source: Tune-A-Video's frame consistency (Wu et al., 2023) over neighbours, as T-Cons is often computed.

    Args:
        vectors: one of an image encoder for each frame, ``[f, d]``.

    Returns:
        Mean cosine of neighbours, -1..1.

    Raises:
        InputError: fewer than two frames, or a vector of zeros.
    """
    unit = _unit(vectors)
    return float((unit[1:] * unit[:-1]).sum(1).mean())


def consistency_all(vectors: Vectors) -> float:
    """Say how alike all frames are to each other.

    Source: Tune-A-Video's metric code for the LOVEU-TGVE 2023 challenge: the mean over all pairs.

    Args:
        vectors: one of an image encoder for each frame, ``[f, d]``.

    Returns:
        Mean cosine of all pairs of different frames, -1..1.

    Raises:
        InputError: fewer than two frames, or a vector of zeros.
    """
    unit = _unit(vectors)
    likeness = unit @ unit.T
    count = len(unit)
    return float((likeness.sum() - np.trace(likeness)) / (count * (count - 1)))


def consistency_least(vectors: Vectors) -> float:
    """Say how alike the two neighbouring frames are that are least alike: a cut, which a mean hides, shows here.

    Args:
        vectors: one of an image encoder for each frame, ``[f, d]``.

    Returns:
        Least cosine of neighbours, -1..1.

    Raises:
        InputError: fewer than two frames, or a vector of zeros.
    """
    unit = _unit(vectors)
    return float((unit[1:] * unit[:-1]).sum(1).min())


def consistency_by_frame(vectors: Vectors, reference: Vectors) -> NDArray[np.float64]:
    """Say how alike each frame is to one vector: of a text (CLIP-T per frame), or of a picture (DINO per frame).

    Args:
        vectors: one for each frame, ``[f, d]``.
        reference: ``[d]``, of the same encoder's space.

    Returns:
        Cosines, ``[f]``, -1..1.

    Raises:
        InputError: no frame, or a vector of zeros.
        ShapeError: the vectors differ in length.
    """
    sizes = check_shape(vectors, "f d", "vectors")
    check_shape(reference, "d", "reference", sizes)
    return _unit(vectors, fewest=1) @ _unit(reference[None], fewest=1)[0]


def frame_steps(frames: Pixels) -> NDArray[np.float64]:
    """Measure how far each frame is from the one before.

    Args:
        frames: uint8 ``[f, h, w, 3]``.

    Returns:
        Root mean square differences, ``[f - 1]``, 0..255.

    Raises:
        InputError: fewer than two frames.
    """
    check_shape(frames, "f h w 3", "frames")
    if len(frames) < 2:
        raise InputError(f"frames: there are {len(frames)}, but a step needs 2.")
    gap = np.diff(frames.astype(np.float64), axis=0)
    return np.sqrt((gap**2).mean((1, 2, 3)))


def largest_jump(frames: Pixels) -> float:
    """Measure a clip's largest change from one frame to the next.

    Args:
        frames: uint8 ``[f, h, w, 3]``.

    Returns:
        Root mean square difference, 0..255.
    """
    return float(frame_steps(frames).max())


def jump_rate(jumps: NDArray[np.floating], true_jumps: NDArray[np.floating], percentile: float = 99.0) -> float:
    """Say how many clips jump more than true clips do.

    Args:
        jumps: the largest jump of each clip, ``[n]``.
        true_jumps: of each true clip, ``[m]``.
        percentile: of the true ones that counts as the limit, 0..100.

    Returns:
        Share of the clips above the limit, 0..1.

    Raises:
        InputError: there is no clip.
    """
    if not len(jumps) or not len(true_jumps):
        raise InputError("jumps: there is no clip to count.")
    return float((np.asarray(jumps) > np.percentile(true_jumps, percentile)).mean())


def masked_error(frames: Pixels, truth: Pixels, mask: NDArray[np.bool_]) -> float:
    """Measure the error of the frames in between, where something moves.

    Args:
        frames: uint8 ``[f, h, w, 3]``.
        truth: the true ones.
        mask: where to look: the same place in all frames ``[h, w]``, or one for each ``[f, h, w]``; see
            ``moving_area``.

    Returns:
        Root mean square error, 0..255, over the frames that are not the given first and last.

    Raises:
        InputError: no frame in between, or the mask is empty.
        ShapeError: the shapes differ.
    """
    sizes = check_shape(frames, "f h w 3", "frames")
    check_shape(truth, "f h w 3", "truth", sizes)
    check_shape(mask, "h w" if mask.ndim == 2 else "f h w", "mask", sizes)
    inside = np.broadcast_to(mask, frames.shape[:3])[1:-1].astype(bool)
    if len(frames) < 3 or not inside.any():
        raise InputError("mask: there is nothing to measure between the first and the last frame.")
    gap = frames[1:-1].astype(np.float64) - truth[1:-1].astype(np.float64)
    return float(np.sqrt((gap[inside] ** 2).mean()))


def moving_area(masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Find where instances that move are at any time.

    Args:
        masks: each instance's true mask in each frame, ``[f, m, h, w]``.

    Returns:
        The union over the frames of the masks of those instances whose mask changes, ``[h, w]``.
    """
    check_shape(masks, "f m h w", "masks")
    changes = (masks != masks[:1]).any((0, 2, 3))
    area: NDArray[np.bool_] = np.asarray(masks[:, changes].any((0, 1)))
    return area


def psnr(first: Pixels, second: Pixels) -> float:
    """Measure how well a picture is kept.

    Args:
        first: uint8, any shape.
        second: the same shape.

    Returns:
        Decibels; infinite where both are equal.

    Raises:
        InputError: the shapes differ.
    """
    if first.shape != second.shape:
        raise InputError(f"pictures of {list(first.shape)} and {list(second.shape)} cannot be compared.")
    error = ((first.astype(np.float64) - second.astype(np.float64)) ** 2).mean()
    return float(np.inf) if error == 0 else float(10 * np.log10(255**2 / error))


def kept_psnr(frames: Pixels, first: Pixels, last: Pixels) -> tuple[float, float]:
    """Measure how well the two given frames are kept.

    Args:
        frames: uint8 ``[f, h, w, 3]``.
        first: the given first one.
        last: the given last one.

    Returns:
        Decibels of the first and of the last frame.
    """
    return psnr(frames[0], first), psnr(frames[-1], last)


def cross_fade(first: Pixels, last: Pixels, count: int) -> Pixels:
    """Fade from one picture to another in pixels: what every interpolator is compared with.

    Args:
        first: uint8 ``[h, w, 3]``.
        last: the same shape.
        count: of frames, at least 2.

    Returns:
        uint8 ``[count, h, w, 3]``; its first and last frame are the pictures.
    """
    share = np.linspace(0, 1, count)[:, None, None, None]
    return np.round(first * (1 - share) + last * share).astype(np.uint8)


def _unit(vectors: Vectors, fewest: int = 2) -> NDArray[np.float64]:
    check_shape(vectors, "f d", "vectors")
    if len(vectors) < fewest:
        raise InputError(f"vectors: there are {len(vectors)}, but {fewest} frames or more are needed.")
    rows = np.asarray(vectors, dtype=np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or (lengths == 0).any():
        raise InputError("vectors: one of them is zero or no number, so it points nowhere.")
    return rows / lengths
