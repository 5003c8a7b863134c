"""What the U-Net sees and what it should answer in training, for every kind of answer that a base may give."""

from torch import Tensor

from d2plan.errors import InputError

PREDICTIONS = ("epsilon", "v_prediction", "sample")


def diffuse_latents(latents: Tensor, noise: Tensor, kept: Tensor) -> Tensor:
    """Mix latents with noise, keeping the variance.

    ``EulerDiscreteScheduler`` works on x_0 + sigma * noise instead and divides by sqrt(sigma^2 + 1) before each call
    of the U-Net; with sigma^2 = (1 - kept) / kept that is this very mix, also where the schedule ends without signal.

    Source: Ho et al. 2020, eq. (4).

    Args:
        latents: x_0, ``[b c h w]``.
        noise: ``[b c h w]``, standard normal.
        kept: alphas_cumprod at each row's timestep, ``[b]``, 0..1.

    Returns:
        x_t as the U-Net sees it, ``[b c h w]``.
    """
    signal, share = _mixing(kept, latents)
    return signal * latents + share * noise


def make_target(prediction_type: str, latents: Tensor, noise: Tensor, kept: Tensor) -> Tensor:
    """Give what the U-Net should answer.

    Source: Ho et al. 2020 (noise); Salimans and Ho 2022 (velocity).

    Args:
        prediction_type: of the base's scheduler: "epsilon", "v_prediction" or "sample".
        latents: x_0, ``[b c h w]``.
        noise: ``[b c h w]``.
        kept: alphas_cumprod at each row's timestep, ``[b]``, 0..1.

    Returns:
        The noise, the velocity or x_0 itself, ``[b c h w]``.

    Raises:
        InputError: another prediction type.
    """
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "v_prediction":
        signal, share = _mixing(kept, latents)
        return signal * noise - share * latents
    if prediction_type == "sample":
        return latents
    raise InputError(f"the base predicts {prediction_type}, which training does not know; it knows {PREDICTIONS}.")


def _mixing(kept: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    shape = (-1, *[1] * (like.ndim - 1))
    # The roots are taken before the cast: near the schedule's end half precision would round them to nothing.
    signal, share = kept.sqrt().view(shape), (1 - kept).sqrt().view(shape)
    return signal.to(like), share.to(like)
