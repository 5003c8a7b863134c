"""The paper's Figure 8a: ISP whole, without calibration, without noise composition, and without DisLoRA's losses.

One variant is not the figure's: ISP as in the paper, without what d2plan adds to it on some bases.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from d2plan.backbone.load import Backbone
from d2plan.bench.methods.isp import PAPER, Isp
from d2plan.bench.protocol import BenchConcept, Drawing, Learned, Method, Setting, Shot, State
from d2plan.bench.shared.adapters import choose_training, learn_adapter
from d2plan.config import BaseDefaults, IspSettings
from d2plan.errors import InputError

_SOURCE = "D2Plan, Figure 8a"


@dataclass(frozen=True)
class _Ablated(BaseDefaults):
    """A base's defaults, with parts of the composition switched off."""

    calibrate: bool = True
    compose: bool = True

    def composing(self) -> IspSettings:
        return replace(super().composing(), calibrate=self.calibrate, compose=self.compose)


@dataclass(frozen=True)
class AblatedIsp(Isp):
    """ISP + DisLoRA without some of its parts; all variants that learn alike share what is learnt.

    Attributes:
        calibrate: Cross-Attention Calibration is on, eq. (7).
        compose: Centralized Noise Composition is on, eq. (9).
    """

    calibrate: bool = True
    compose: bool = True

    def learn(
        self, backbone: Backbone, concept: BenchConcept, setting: Setting, seed: int
    ) -> Generator[float, None, State]:
        """Train the concept's adapter with the setting's weights of L_token and L_atten."""
        return learn_adapter(backbone, concept, choose_training(backbone, setting), seed)

    def draw(
        self, backbone: Backbone, learned: Sequence[Learned], joined: State, shots: Sequence[Shot], drawing: Drawing
    ) -> list[NDArray[np.uint8]]:
        """Compose all shots with what is left of ISP."""
        own = {field.name: getattr(backbone.defaults, field.name) for field in fields(BaseDefaults)}
        defaults = _Ablated(**own, calibrate=self.calibrate, compose=self.compose)
        return super().draw(replace(backbone, defaults=defaults), learned, joined, shots, drawing)


def _vary(
    name: str,
    title: str,
    calibrate: bool = True,
    compose: bool = True,
    setting: Setting | None = None,
    changes: Mapping[str, Any] | None = None,
) -> AblatedIsp:
    own = (setting or {},)
    return AblatedIsp(name, title, _SOURCE, True, changes or {}, own, calibrate=calibrate, compose=compose)


VARIANTS: dict[str, AblatedIsp] = {
    variant.name: variant
    for variant in (
        _vary("full", "ISP + DisLoRA"),
        _vary("no-cac", "without CAC", calibrate=False),
        _vary("no-cnc", "without CNC", compose=False),
        _vary("no-cac-no-cnc", "without CAC and CNC", calibrate=False, compose=False),
        _vary("no-token", "without L_token", setting={"token": 0.0}),
        _vary("no-atten", "without L_atten", setting={"attention": 0.0}),
        _vary("as-paper", "ISP as in the paper, without d2plan's additions", changes=PAPER),
        _vary("no-losses", "without L_token and L_atten", setting={"token": 0.0, "attention": 0.0}),
    )
}


def open_variant(name: str) -> Method:
    """Give a variant by its name.

    Args:
        name: one of VARIANTS.

    Returns:
        The variant.

    Raises:
        InputError: there is none of that name.
    """
    if name not in VARIANTS:
        raise InputError(f"methods: there is no variant '{name}' in the ablation; choose from {', '.join(VARIANTS)}")
    # Its fields are frozen, which no method is asked to be.
    return cast(Method, VARIANTS[name])
