"""Cross-attention calibration: the identifier's attention takes the place of the class word's, eq. (7)."""

from collections.abc import Sequence

from torch import Tensor

from d2plan.errors import ShapeError
from d2plan.shapes import check_shape


def calibrate_map(
    global_map: Tensor, sub_map: Tensor, class_positions: Sequence[int], identifier_positions: Sequence[int]
) -> Tensor:
    """Replace the class word's columns of the global map by the identifier's column of a sub map.

    Paper: eq. (7), A_r(k) = A_s(j), the written-out form that holds the whole map; ``d2plan.backbone.attention``
    reaches the same output without it. An identifier of several tokens counts as their sum, and each of several class
    tokens takes an equal share. Nothing is normalised anew, so that a pixel's weights need not sum to 1 afterwards.
    For several instances call it once for each.

    Args:
        global_map: A_g, attention of the global row after softmax, ``[..., q, n]``, 0..1.
        sub_map: A_s of the instance's sub row, the same shape, layer and step.
        class_positions: k, the class word's tokens in the global prompt.
        identifier_positions: j, the identifier's tokens in the sub-prompt.

    Returns:
        A_r, ``[..., q, n]``.

    Raises:
        ShapeError: the maps differ in shape, or a position lies outside of them.

    >>> a_g, a_s = torch.tensor([[0.5, 0.3, 0.2]]), torch.tensor([[0.1, 0.2, 0.7]])
    >>> calibrate_map(a_g, a_s, [1], [2])
    tensor([[0.5000, 0.7000, 0.2000]])
    """
    check_shape(sub_map, " ".join(str(size) for size in global_map.shape), "sub_map")
    _check_positions(class_positions, global_map.shape[-1], "class_positions")
    _check_positions(identifier_positions, sub_map.shape[-1], "identifier_positions")
    column = sub_map[..., list(identifier_positions)].sum(dim=-1, keepdim=True)
    calibrated = global_map.clone()
    calibrated[..., list(class_positions)] = column / len(class_positions)
    return calibrated


def _check_positions(positions: Sequence[int], length: int, name: str) -> None:
    if not positions or not all(0 <= position < length for position in positions):
        raise ShapeError(f"{name} is {list(positions)}, but must name tokens in 0..{length - 1}.")
