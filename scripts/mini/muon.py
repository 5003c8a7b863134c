"""Muon for the matrices and convolutions of a network, AdamW for the rest of it.

Source: Jordan et al. 2024 (Muon), with the step size of Liu et al. 2025 (RMS like AdamW's). torch.optim.Muon takes no
convolutions. Where the hardware multiplies bfloat16 fast, the iteration runs in it as published; elsewhere it runs in
float32 on the small Gram matrices, in half of the multiplications. Several processes share the matrices.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from common import make_optimiser
from torch import Tensor, distributed, nn

# Of Newton and Schulz' quintic, as published with Muon.
_QUINTIC = (3.4445, -4.7750, 2.0315)
_ROUNDS = 5
_MOMENTUM = 0.95
# Below this width a matrix is AdamW's.
_NARROW = 16


def orthogonalise(rows: Tensor, form: torch.dtype | None = None) -> Tensor:
    """Give the nearest matrices with singular values near 1; ``[k, m, n]`` with m <= n, computed in ``form``.

    All factors of the iteration are polynomials of ``X X^T`` and commute, so that without a form only their product is
    kept; bfloat16 is too coarse for that.
    """
    first, second, third = _QUINTIC
    rows = rows / rows.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    if form is not None:
        low = rows.to(form)
        for _ in range(_ROUNDS):
            gram = low @ low.mT
            low = first * low + (second * gram + third * (gram @ gram)) @ low
        return low.float()
    gram, whole = rows @ rows.mT, None
    one = torch.eye(rows.shape[-2], device=rows.device)
    for turn in range(_ROUNDS):
        factor = first * one + second * gram + third * (gram @ gram)
        whole = factor if whole is None else factor @ whole
        if turn + 1 < _ROUNDS:
            gram = factor @ factor @ gram
    return whole @ rows


class Muon:
    """Both optimisers as one; ``ranks`` processes with the same gradients share the work."""

    def __init__(
        self,
        network: nn.Module,
        rate: float,
        decay: float,
        ranks: tuple[int, int] = (0, 1),
        others: Sequence[nn.Parameter] = (),
        form: torch.dtype | None = None,
    ) -> None:
        """Divide the network's trained parameters: what is looked up, narrow or of one dimension is AdamW's.

        So are ``others``, with a rate of their own. Ranks: this process's number, and of how many. ``form`` is that of
        ``orthogonalise``.
        """
        tables = {id(one.weight) for one in network.modules() if isinstance(one, nn.Embedding)}
        self.mine: list[nn.Parameter] = []
        rest: list[nn.Parameter] = []
        for one in (one for one in network.parameters() if one.requires_grad):
            wide = one.ndim > 1 and min(len(one), one[0].numel()) >= _NARROW
            (self.mine if wide and id(one) not in tables else rest).append(one)
        groups = [{"params": part} for part in (rest, list(others)) if part]
        self.rest = make_optimiser(groups, rate, decay)
        self.momenta = [torch.zeros_like(one) for one in self.mine]
        self.rate, self.decay, self.form = rate, decay, form
        self.rank, self.ranks = ranks

    def set_rate(self, rate: float, others: float | None = None) -> None:
        """Use these rates from now on."""
        self.rate = rate
        for group, its in zip(self.rest.param_groups, (rate, rate if others is None else others), strict=False):
            group["lr"] = its

    def state_dict(self) -> dict[str, Any]:
        """Give what a checkpoint keeps."""
        return {"momenta": self.momenta, "rest": self.rest.state_dict()}

    def load_state_dict(self, kept: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        for momentum, value in zip(self.momenta, kept["momenta"], strict=True):
            momentum.copy_(value)
        self.rest.load_state_dict(kept["rest"])

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self.rest.zero_grad()
        for one in self.mine:
            one.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Step; gradients that are not finite count as none, without waiting for the device."""
        gradients = [torch.zeros_like(one) if one.grad is None else one.grad for one in self.mine]
        rest = [one for group in self.rest.param_groups for one in group["params"]]
        everything = [*gradients, *(one.grad for one in rest if one.grad is not None)]
        norm = torch.nn.utils.get_total_norm(everything)
        bad = ~norm.isfinite()
        # What torch's own gradient scaler sets: the fused kernels read it on the device.
        self.rest.found_inf = bad.float()  # type: ignore[attr-defined]
        self.rest.step()
        gradients = [torch.where(bad, torch.zeros_like(one), one) for one in gradients]
        torch._foreach_lerp_(self.momenta, gradients, 1 - _MOMENTUM)
        ahead = torch._foreach_lerp(gradients, self.momenta, _MOMENTUM)
        updates = self._share([one.flatten(1) for one in ahead])
        for one, update in zip(self.mine, updates, strict=True):
            size = 0.2 * max(len(one), one[0].numel()) ** 0.5
            one.mul_(1 - self.rate * self.decay).add_(update.view_as(one), alpha=-self.rate * size)

    def _share(self, matrices: Sequence[Tensor]) -> list[Tensor]:
        """Orthogonalise all, those of one shape at once; each process does its part of every shape."""
        alike = defaultdict(list)
        for place, one in enumerate(matrices):
            alike[tuple(sorted(one.shape))].append(place)
        device = matrices[0].device if matrices else None
        whole = torch.zeros(sum(one.numel() for one in matrices), device=device)
        parts = whole.split([one.numel() for one in matrices])
        for places in alike.values():
            own = places[self.rank :: self.ranks]
            if not own:
                continue
            lying = [one if len(one) <= one.shape[1] else one.mT for one in (matrices[place] for place in own)]
            for place, done in zip(own, orthogonalise(torch.stack(lying), self.form), strict=True):
                turned = done if len(matrices[place]) <= matrices[place].shape[1] else done.mT
                parts[place].copy_(turned.flatten())
        if self.ranks > 1:
            distributed.all_reduce(whole)
        return [part.view_as(one) for part, one in zip(parts, matrices, strict=True)]
