"""The losses of one batch, computed with as few passes of the networks as they need."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from d2plan.adapter.attach import adapter_off
from d2plan.backbone.attention import coarsest_level, tap_columns
from d2plan.backbone.load import Backbone
from d2plan.backbone.sdxl import TextStates, encode_prompts, predict, time_ids
from d2plan.config import DisLoRASettings
from d2plan.dislora.diffusion import diffuse_latents, make_target
from d2plan.dislora.draw import Batch, PriorRows
from d2plan.dislora.lessons import Lessons
from d2plan.dislora.losses import attention_loss, denoising_loss, dislora_loss, normalise_map, token_loss
from d2plan.dislora.maps import plan_reads, read_class_maps


class Losses(NamedTuple):
    """The losses of one batch, scalars with gradient.

    Attributes:
        ldm: L_LDM, eq. (1).
        token: L_token, eq. (3).
        attention: L_atten, eq. (4); 0 when its weight is, or when every row shows the null prompt.
    """

    ldm: Tensor
    token: Tensor
    attention: Tensor

    def weigh(self, settings: DisLoRASettings) -> Tensor:
        """Add them up with the weights of the settings, a scalar.

        Paper: eq. (1), (3) and (4) together.

        Args:
            settings: the weights.

        Returns:
            The sum.
        """
        ldm = settings.denoising_weight * self.ldm
        return dislora_loss(ldm, self.token, self.attention, settings.token_weight, settings.attention_weight)


@contextmanager
def compute_losses(
    backbone: Backbone, lessons: Lessons, batch: Batch, settings: DisLoRASettings, nulls: TextStates
) -> Iterator[Losses]:
    """Compute the three losses of a batch with one pass of the adapted U-Net and one short pass of the bare one.

    L_token needs no pass of its own: the encoders are causal and the forms agree before position n, so what the
    tuned encoders make of the row's own prompt is, for i < n, what they would make of c_1.

    Call ``backward`` inside the block: with gradient checkpointing the U-Net runs again then, and must be found as it
    was, with its attention maps being read.

    Paper: eq. (1), (3) and (4).

    Args:
        backbone: the base with an adapter attached.
        lessons: where the batch comes from.
        batch: b rows.
        settings: for the losses.
        nulls: one row of the null prompt.

    Yields:
        The losses.
    """
    noisy, timesteps = _disturb(backbone, batch)
    level = coarsest_level(backbone.unet, (noisy.shape[-2], noisy.shape[-1]))
    own = _visible_spans(lessons, batch)
    watched = settings.attention_weight > 0 and any(own)
    with mixed_precision(backbone):
        tuned = _encode_own(backbone, lessons, batch.own, settings)
        token = token_loss(
            tuned.states.float(),
            lessons.frozen.states[batch.own].float(),
            lessons.ends[batch.own],
            settings.token_reduction,
        )
        text = _put_nulls(tuned, nulls, batch.dropped)
        class_maps = _read_class_maps(backbone, lessons, batch, (noisy, timesteps), level) if watched else None
    tapping = tap_columns(backbone.unet, plan_reads(own, level)) if watched else nullcontext(None)
    with tapping as tap:
        with mixed_precision(backbone):
            prediction = predict(backbone, noisy, timesteps, text, _ids(backbone, noisy))
        ldm = _denoise(backbone, batch, prediction)
        attention = ldm.new_zeros(())
        if tap is not None and class_maps is not None:
            maps = normalise_map(class_maps), normalise_map(tap.maps(level))
            attention = batch.share * attention_loss(*maps, settings.attention_overlap)
        yield Losses(ldm, token, attention)


def compute_prior_loss(backbone: Backbone, lessons: Lessons, prior: PriorRows, settings: DisLoRASettings) -> Tensor:
    """Compute how far the adapted model has moved from the base on pictures of the class that the base drew.

    Source: Ruiz et al. 2023 (DreamBooth), prior preservation.

    Args:
        backbone: the base with an adapter attached.
        lessons: where the rows come from.
        prior: b rows.
        settings: whether the text encoders learn too.

    Returns:
        L_LDM on them, a scalar, not weighed.
    """
    noisy, timesteps = _disturb(backbone, prior)
    with mixed_precision(backbone):
        text = _encode_own(backbone, lessons, prior.prompts, settings)
        prediction = predict(backbone, noisy, timesteps, text, _ids(backbone, noisy))
    return _denoise(backbone, prior, prediction)


def compute_plain_loss(backbone: Backbone, lessons: Lessons, batch: Batch, settings: DisLoRASettings) -> Tensor:
    """Compute how far the adapted model's answer to the plain class prompt c_1 has moved from the base's.

    Prior preservation asks for pictures that the base drew, and hears their noise too. Here the base itself answers
    for the same x_t, so nothing but the difference that the adapter makes is heard. Not in the paper.

    Source: Li and Hoiem 2016 (Learning without Forgetting).

    Args:
        backbone: the base with an adapter attached.
        lessons: where the batch comes from.
        batch: b rows.
        settings: whether the text encoders learn too.

    Returns:
        L_plain, the mean square of the difference, a scalar, not weighed.
    """
    noisy, timesteps = _disturb(backbone, batch)
    frozen = TextStates(lessons.frozen.states[batch.plain], lessons.frozen.pooled[batch.plain])
    with mixed_precision(backbone):
        with torch.no_grad(), adapter_off(backbone):
            before = predict(backbone, noisy, timesteps, frozen, _ids(backbone, noisy))
        text = _encode_own(backbone, lessons, batch.plain, settings)
        after = predict(backbone, noisy, timesteps, text, _ids(backbone, noisy))
    return denoising_loss(after.float(), before.float())


def mixed_precision(backbone: Backbone) -> AbstractContextManager[object]:
    """Compute in the base's number format while the block runs, though updates are kept in float32.

    Args:
        backbone: the base; in float32 nothing changes.

    Returns:
        The context.
    """
    if backbone.dtype == torch.float32:
        return nullcontext()
    # No cache of cast weights: each is used once a pass, and one cast without gradient would be used with it later.
    return torch.autocast(backbone.device.type, backbone.dtype, cache_enabled=False)


def _disturb(backbone: Backbone, rows: Batch | PriorRows) -> tuple[Tensor, Tensor]:
    device = rows.latents.device
    kept = backbone.scheduler.alphas_cumprod[rows.timesteps].to(device)
    return diffuse_latents(rows.latents, rows.noise, kept), rows.timesteps.to(device)


def _denoise(backbone: Backbone, rows: Batch | PriorRows, prediction: Tensor) -> Tensor:
    kept = backbone.scheduler.alphas_cumprod[rows.timesteps].to(rows.latents.device)
    target = make_target(backbone.scheduler.config.prediction_type, rows.latents, rows.noise, kept)
    weights = rows.weights if isinstance(rows, Batch) else None
    return denoising_loss(prediction.float(), target.float(), weights)


def _ids(backbone: Backbone, latents: Tensor) -> Tensor:
    scale = backbone.latent_scale
    return time_ids(backbone, len(latents), (latents.shape[-2] * scale, latents.shape[-1] * scale))


def _encode_own(backbone: Backbone, lessons: Lessons, numbers: Tensor, settings: DisLoRASettings) -> TextStates:
    if not settings.text_encoders:
        # Nothing tunes the encoders, so what they say is known already.
        return TextStates(lessons.frozen.states[numbers], lessons.frozen.pooled[numbers])
    used, places = numbers.unique(return_inverse=True)
    tuned = encode_prompts(backbone, [lessons.prompts[number] for number in used.tolist()])
    return TextStates(tuned.states[places], tuned.pooled[places])


def _read_class_maps(
    backbone: Backbone, lessons: Lessons, batch: Batch, state: tuple[Tensor, Tensor], level: int
) -> Tensor:
    shown = ~batch.dropped
    plain = batch.plain[shown]
    noisy, timesteps = (part[shown.to(part.device)] for part in state)
    spans = [lessons.spans[number] for number in plain.tolist()]
    text = TextStates(lessons.frozen.states[plain], lessons.frozen.pooled[plain])
    return read_class_maps(backbone, noisy, timesteps, text, spans, level)


def _visible_spans(lessons: Lessons, batch: Batch) -> list[tuple[int, ...]]:
    rows = zip(batch.own.tolist(), batch.dropped.tolist(), strict=True)
    return [() if hidden else lessons.spans[number] for number, hidden in rows]


def _put_nulls(text: TextStates, nulls: TextStates, dropped: Tensor) -> TextStates:
    gone = dropped.to(text.states.device)
    return TextStates(
        torch.where(gone[:, None, None], nulls.states.to(text.states), text.states),
        torch.where(gone[:, None], nulls.pooled.to(text.pooled), text.pooled),
    )
