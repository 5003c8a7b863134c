"""Draw batches: which pictures, in which form, with which noise; all chance comes from one generator."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from d2plan.dislora.data_buckets import draw_rows
from d2plan.dislora.lessons import Lessons
from d2plan.errors import InputError


@dataclass(frozen=True, eq=False)
class PriorRows:
    """Class images of a step, drawn by the base itself; b rows.

    Attributes:
        latents: x_0, ``[b c h w]``.
        noise: ``[b c h w]``.
        timesteps: ``[b]``.
        prompts: number of each row's c_1, ``[b]``.
    """

    latents: Tensor
    noise: Tensor
    timesteps: Tensor
    prompts: Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """What one U-Net call learns from; b pictures.

    Attributes:
        latents: x_0, ``[b c h w]``.
        weights: ``[b 1 h w]`` or None.
        noise: ``[b c h w]``.
        timesteps: ``[b]``.
        own: number of each row's prompt with the identifier, ``[b]``.
        plain: number of each row's c_1, ``[b]``.
        dropped: rows that see the null prompt, ``[b]`` bool.
        share: how much L_atten counts here: the part of the step's rows with a prompt that are in this batch, times
            the number of batches in the step, so that a mean over batches is the mean over such rows.
        prior: class images for prior preservation, or None.
    """

    latents: Tensor
    weights: Tensor | None
    noise: Tensor
    timesteps: Tensor
    own: Tensor
    plain: Tensor
    dropped: Tensor
    share: float = 1.0
    prior: PriorRows | None = None


class BatchDraw:
    """Draws batches: every picture once before any comes again, all chance from one generator on the CPU.

    The pictures of a batch have one size; those of another size wait for the next batch.

    Args:
        lessons: what to draw from.
        batch_size: pictures a batch.
        joint_fraction: part of the rows that show "identifier + class word" instead of the identifier alone.
        null_fraction: part of the rows that show the null prompt.
        timesteps: of the base's schedule.
        seed: of the generator.
    """

    def __init__(
        self,
        lessons: Lessons,
        batch_size: int,
        joint_fraction: float,
        null_fraction: float,
        timesteps: int,
        seed: int,
    ) -> None:
        self.lessons = lessons
        self.batch_size = batch_size
        self.joint_fraction = joint_fraction
        self.null_fraction = null_fraction
        self.timesteps = timesteps
        self.generator = torch.Generator("cpu").manual_seed(seed)
        self.seed = seed
        self._drawn = 0

    def draw(self) -> Batch:
        """Draw the next batch."""
        lessons, size = self.lessons, self.batch_size
        picked = draw_rows([tuple(latents.shape) for latents in lessons.latents], self.seed, self._drawn, size)
        prior_picked = draw_rows("." * self._priors, self.seed, self._drawn, size) if self._priors else []
        self._drawn += 1
        mirrors = lessons.mirrors[picked]
        ways = (self._chance(size, 0.5) & mirrors).long()
        forms = 1 + self._chance(size, self.joint_fraction).long()
        dropped = self._chance(size, self.null_fraction)
        places = list(zip(picked, ways.tolist(), strict=True))
        latents = torch.stack([lessons.latents[picture][way] for picture, way in places])
        timesteps, noise = self._disturb(latents)
        rows = torch.tensor(picked)
        weights = lessons.weights
        return Batch(
            latents=latents,
            weights=None if weights is None else torch.stack([weights[picture][way] for picture, way in places]),
            noise=noise,
            timesteps=timesteps,
            own=lessons.rows[rows, forms],
            plain=lessons.rows[rows, 0],
            dropped=dropped,
            prior=self._draw_prior(prior_picked),
        )

    def state(self) -> dict[str, Tensor]:
        """Give all that decides what is drawn next, to be saved."""
        return {"generator": self.generator.get_state(), "drawn": torch.tensor(self._drawn)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on where a saved state was taken.

        Args:
            state: from ``state``.

        Raises:
            InputError: it is no such state.
        """
        try:
            self._drawn = int(state["drawn"])
            self.generator.set_state(state["generator"])
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise InputError("The saved training has no usable random state; begin anew with --overwrite.") from error

    @property
    def _priors(self) -> int:
        return 0 if self.lessons.prior is None else len(self.lessons.prior.rows)

    def _draw_prior(self, picked: list[int]) -> PriorRows | None:
        prior = self.lessons.prior
        if prior is None:
            return None
        latents = prior.latents[picked]
        timesteps, noise = self._disturb(latents)
        return PriorRows(latents, noise, timesteps, prior.rows[picked])

    def _disturb(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        # One from each equal part of the schedule: every timestep is as likely as by itself, but a small batch is never
        # all noise or all picture, so its loss and gradient are steadier.
        count = len(latents)
        shares = torch.randperm(count, generator=self.generator) + torch.rand(count, generator=self.generator)
        timesteps = (shares * (self.timesteps / count)).long().clamp(max=self.timesteps - 1)
        return timesteps, torch.randn(latents.shape, generator=self.generator).to(latents)

    def _chance(self, count: int, share: float) -> Tensor:
        return torch.rand(count, generator=self.generator) < share


def split_batch(batch: Batch, parts: int) -> list[Batch]:
    """Cut the batch of a whole step into those of its U-Net calls, on one device or several.

    The losses' mean over the parts is the loss of the whole, so it does not matter how a step is cut.

    Args:
        batch: b rows.
        parts: divides b.

    Returns:
        The parts in order, b / parts rows each.

    Raises:
        InputError: the rows cannot be shared out evenly.
    """
    rows = len(batch.latents)
    if parts < 1 or rows % parts:
        raise InputError(f"A batch of {rows} pictures cannot be cut into {parts} equal parts; change batch_size.")
    size = rows // parts
    shown = max(1, int((~batch.dropped).sum()))
    pieces = []
    for start in range(0, rows, size):
        cut = slice(start, start + size)
        prior = batch.prior
        pieces.append(
            replace(
                batch,
                latents=batch.latents[cut],
                weights=None if batch.weights is None else batch.weights[cut],
                noise=batch.noise[cut],
                timesteps=batch.timesteps[cut],
                own=batch.own[cut],
                plain=batch.plain[cut],
                dropped=batch.dropped[cut],
                share=parts * int((~batch.dropped[cut]).sum()) / shown,
                prior=None
                if prior is None
                else PriorRows(prior.latents[cut], prior.noise[cut], prior.timesteps[cut], prior.prompts[cut]),
            )
        )
    return pieces
