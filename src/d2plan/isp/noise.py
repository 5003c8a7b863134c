"""The composition of several models' predictions into one, eq. (8) and (9); guidance itself is the backbone's."""

from torch import Tensor

from d2plan.backbone.sdxl import guide
from d2plan.shapes import check_shape


def gather_predictions(predictions: Tensor, masks: Tensor) -> Tensor:
    """Take each instance's own prediction inside its mask, and the global one in the rest.

    Paper: eq. (8), the sum over the sub-prompts, with the masks of eq. (9). No masks but M_0 = 1 give the global
    prediction back unchanged.

    Args:
        predictions: the global row's output, then those of sub rows 1..m, ``[m+1, c, h, w]``.
        masks: M_0..M_m, a partition, ``[m+1, h, w]``, 0..1, sum 1.

    Returns:
        M_0 eps_global + sum_i M_i eps_i, ``[c, h, w]``.

    Raises:
        ShapeError: the masks do not fit the predictions.
    """
    sizes = check_shape(predictions, "rows c h w", "predictions")
    check_shape(masks, "rows h w", "masks", sizes)
    return (masks.to(predictions.dtype).unsqueeze(1) * predictions).sum(dim=0)


def compose_noise(unconditional: Tensor, predictions: Tensor, masks: Tensor, guidance_scale: float) -> Tensor:
    """Compose the predictions of the global model and of every sub-model into one guided prediction.

    Paper: eq. (9), (1 - w) eps_uncond + w M_0 eps_global + w sum_i M_i eps_i, computed as guidance towards the
    gathered prediction, with one unconditional row of the bare model.

    Args:
        unconditional: eps of theta_0 without a prompt, ``[c, h, w]``.
        predictions: the global row's output, then those of sub rows 1..m, ``[m+1, c, h, w]``.
        masks: M_0..M_m, a partition, ``[m+1, h, w]``, 0..1, sum 1.
        guidance_scale: w, 0 or more.

    Returns:
        The composed prediction, ``[c, h, w]``.

    Raises:
        ShapeError: the shapes do not fit each other.
    """
    sizes = check_shape(predictions, "rows c h w", "predictions")
    check_shape(unconditional, "c h w", "unconditional", sizes)
    return guide(unconditional, gather_predictions(predictions, masks), guidance_scale)
