"""The three losses of DisLoRA and their sum: tensors in, a scalar out."""

from typing import Literal

import torch
from torch import Tensor

from d2plan.errors import ShapeError
from d2plan.shapes import check_shape

Reduction = Literal["sum", "mean"]
Overlap = Literal["minmax", "product"]
_SMALLEST = 1e-8


def dislora_loss(ldm: Tensor, token: Tensor, attention: Tensor, token_weight: float, attention_weight: float) -> Tensor:
    """Add the losses up.

    Paper: eq. (1), extended by eq. (3) and (4) with the weights of section 5.1 (1e-3 and 1e-2).

    >>> dislora_loss(torch.tensor(2.0), torch.tensor(10.0), torch.tensor(0.5), 0.1, 0.2).item()
    3.0999999046325684

    Args:
        ldm: L_LDM, a scalar.
        token: L_token, a scalar.
        attention: L_atten, a scalar.
        token_weight: the weight of L_token; at 0 it is left out, its gradient too.
        attention_weight: the weight of L_atten, likewise.

    Returns:
        L_LDM + token_weight * L_token + attention_weight * L_atten, a scalar.
    """
    whole = ldm
    if token_weight:
        whole = whole + token_weight * token
    if attention_weight:
        whole = whole + attention_weight * attention
    return whole


def denoising_loss(prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Measure how far the U-Net's output is from what it should say.

    Paper: eq. (1), L_LDM; the weight is this project's option for a subject mask.

    Args:
        prediction: the U-Net's output, ``[b c h w]``.
        target: noise or velocity, ``[b c h w]``.
        weight: how much each latent pixel counts, ``[b 1 h w]``, 0 or more; a row counts by its shape alone,
            since each is divided by its own mean.

    Returns:
        The mean squared error, a scalar; 0 when the two are equal.

    Raises:
        ShapeError: the shapes differ.
    """
    sizes = check_shape(prediction, "b c h w", "prediction")
    check_shape(target, "b c h w", "target", sizes)
    error = (prediction - target).square()
    if weight is None:
        return error.mean()
    check_shape(weight, "b 1 h w", "weight", sizes)
    share = weight / weight.mean(dim=(1, 2, 3), keepdim=True).clamp_min(_SMALLEST)
    return (error * share).mean()


def token_loss(tuned: Tensor, frozen: Tensor, ends: Tensor, reduction: Reduction = "sum") -> Tensor:
    """Hold the tokens before the identifier where the frozen text encoder puts them.

    Paper: eq. (3), L_token. Features of several encoders stand side by side, so the sum over features is the sum
    over encoders too. The encoders are causal: positions before n do not depend on what stands at n.

    Args:
        tuned: E_t(c_1), hidden states with the adapter on, ``[b s d]``.
        frozen: E_f(c_2), hidden states with the adapter off, ``[b s d]``.
        ends: n of each prompt, the identifier's position with the start token counted, ``[b]``; positions 0..n-1 count.
        reduction: over features; "sum" as printed, "mean" for a loss about d times weaker.

    Returns:
        The squared distance summed over positions and reduced over features, mean over b, a scalar.

    Raises:
        ShapeError: the shapes differ.
    """
    sizes = check_shape(tuned, "b s d", "tuned")
    check_shape(frozen, "b s d", "frozen", sizes)
    check_shape(ends, "b", "ends", sizes)
    squared = (tuned - frozen).square()
    distance = squared.sum(dim=-1) if reduction == "sum" else squared.mean(dim=-1)
    positions = torch.arange(sizes["s"], device=tuned.device)
    before = positions[None, :] < ends.to(tuned.device)[:, None]
    return (distance * before).sum(dim=1).mean()


def attention_loss(class_map: Tensor, identifier_map: Tensor, overlap: Overlap = "minmax") -> Tensor:
    """Pull the identifier's attention onto the area that the class word attends to.

    Paper: eq. (4), L_atten, as a soft intersection over union.

    Args:
        class_map: A_1 of the base model, ``[b q]``, 0..1; no gradient reaches it.
        identifier_map: A_2 with the adapter on, ``[b q]``, 0..1, same q pixels.
        overlap: see ``soft_iou``.

    Returns:
        1 - IoU, mean over b, a scalar in 0..1; 0 when there are no rows, and with "minmax" when the maps are equal.

    Raises:
        ShapeError: the maps differ in shape.
    """
    sizes = check_shape(class_map, "b q", "class_map")
    check_shape(identifier_map, "b q", "identifier_map", sizes)
    if sizes["b"] == 0:
        return identifier_map.sum()
    return 1 - soft_iou(class_map.detach(), identifier_map, overlap).mean()


def soft_iou(first: Tensor, second: Tensor, overlap: Overlap = "minmax") -> Tensor:
    """Tell how much two soft areas overlap.

    >>> soft_iou(torch.tensor([[1.0, 0.0, 0.5]]), torch.tensor([[0.5, 0.0, 1.0]]))
    tensor([0.5000])
    >>> soft_iou(torch.tensor([1.0, 0.0, 0.5]), torch.tensor([0.5, 0.0, 1.0]), "product")
    tensor(0.5000)

    Args:
        first: ``[... q]``, 0..1.
        second: ``[... q]``, 0..1.
        overlap: "minmax" takes the smaller and the larger value of each pixel; "product" takes a b and a + b - a b,
            the fuzzy sets of probability, which equal areas reach 1 with only where they are 0 or 1.

    Returns:
        Intersection over union, ``[...]``, 0..1; two empty areas have 1.

    Raises:
        ShapeError: the shapes differ.
    """
    if first.shape != second.shape:
        raise ShapeError(f"two areas of shape {list(first.shape)} and {list(second.shape)} cannot be compared.")
    if overlap == "product":
        shared = first * second
        both, either = shared.sum(-1), (first + second - shared).sum(-1)
    else:
        both, either = torch.minimum(first, second).sum(-1), torch.maximum(first, second).sum(-1)
    return torch.where(either > _SMALLEST, both / either.clamp_min(_SMALLEST), torch.ones_like(either))


def normalise_map(attention: Tensor) -> Tensor:
    """Stretch each map so that its smallest value is 0 and its largest 1.

    >>> normalise_map(torch.tensor([[2.0, 4.0, 3.0]]))
    tensor([[0.0000, 1.0000, 0.5000]])

    Args:
        attention: ``[... q]``, any range.

    Returns:
        ``[... q]``, 0..1; a map that is the same everywhere becomes 0 everywhere.
    """
    low, high = attention.amin(dim=-1, keepdim=True), attention.amax(dim=-1, keepdim=True)
    span = high - low
    return torch.where(span > 0, (attention - low) / span.clamp_min(torch.finfo(attention.dtype).tiny), 0.0)
