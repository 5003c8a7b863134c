"""Custom Diffusion's fusion: one linear map for several concepts, in closed form. Tensors in, a tensor out."""

import torch
from torch import Tensor

from d2plan.shapes import check_shape


def find_directions(context: Tensor, inputs: Tensor, ridge: float = 0.0) -> Tensor:
    """Give the directions in which a linear map may change with the least effect on captions.

    ``D = inputs (C^T C)^-1``, by one LU of C^T C, the same for every layer that reads the captions.

    Source: Kumari et al. 2023 (Custom Diffusion), appendix on the closed form, and the authors' ``composenW.py``,
    which computes it in float32 without a ridge; here it is done in float64.

    Args:
        context: C, what the layers read of ordinary captions, ``[n d]``.
        inputs: what they read of the concepts' words, ``[s d]``.
        ridge: added to C^T C's diagonal, as a part of its mean: needed where captions do not fill all d directions,
            which those of a small vocabulary do not. ``fuse_constrained`` keeps its promise all the same.

    Returns:
        D, ``[s d]`` float64, on the CPU.

    Raises:
        ShapeError: the widths differ.
    """
    check_shape(inputs, "s d", "inputs", check_shape(context, "n d", "context"))
    seen, keys = _exact(context), _exact(inputs)
    gram = seen.T @ seen
    gram.diagonal().add_(ridge * gram.diagonal().mean())
    # C^T C is symmetric, so that its inverse may stand on either side.
    return torch.linalg.lu_solve(*torch.linalg.lu_factor(gram), keys.T).T


def fuse_constrained(weight: Tensor, directions: Tensor, inputs: Tensor, outputs: Tensor) -> Tensor:
    """Give the linear map that says what it must of some inputs and changes least on captions.

    W' minimises ``||C (W' - W)^T||`` over the captions C, with ``W' inputs = outputs`` exactly:
    ``W' = W + (outputs - W inputs) (D inputs)^-1 D``.

    Source: Kumari et al. 2023 (Custom Diffusion), section 3.2, constrained optimisation to merge concepts.

    Args:
        weight: W of the base, ``[o d]``.
        directions: D of ``find_directions`` for the same inputs, ``[s d]``.
        inputs: what the layer reads of the concepts' words, ``[s d]``, s <= d, none a sum of others.
        outputs: what the tuned layers said of each, ``[s o]``.

    Returns:
        W', ``[o d]``, in the number format and on the device of ``weight``.

    Raises:
        ShapeError: the shapes do not belong together.
    """
    sizes = check_shape(inputs, "s d", "inputs", check_shape(weight, "o d", "weight"))
    check_shape(directions, "s d", "directions", sizes)
    check_shape(outputs, "s o", "outputs", sizes)
    old, keys, told = _exact(weight), _exact(inputs), _exact(outputs)
    steps = torch.linalg.solve(directions @ keys.T, told.T - old @ keys.T, left=False)
    return (old + steps @ directions).to(weight)


def find_different(inputs: Tensor, tolerance: float = 1e-6) -> list[int]:
    """Say which inputs to keep, since no map can say two things of one.

    >>> find_different(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]))
    [0, 1]

    Source: the authors' ``composenW.py``, which keeps the first of each.

    Args:
        inputs: ``[s d]``.
        tolerance: largest mean difference of two that count as the same.

    Returns:
        Rows of the first of each, ascending.
    """
    kept: list[int] = []
    for row, one in enumerate(inputs):
        if all((one - inputs[other]).abs().mean() > tolerance for other in kept):
            kept.append(row)
    return kept


def _exact(values: Tensor) -> Tensor:
    return values.detach().to("cpu", torch.float64)
