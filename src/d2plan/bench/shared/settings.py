"""How a setting comes from ``join`` to ``draw``: as tensors of the joined state, beside whatever else is in it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from d2plan.bench.protocol import Setting, State

_PREFIX = "setting."


def write_setting(setting: Setting) -> dict[str, Tensor]:
    """Write a setting as tensors.

    >>> write_setting({"strength": 0.8})
    {'setting.strength': tensor(0.8000, dtype=torch.float64)}

    Args:
        setting: name to number.

    Returns:
        One float64 tensor a number.
    """
    return {_PREFIX + name: torch.tensor(value, dtype=torch.float64) for name, value in setting.items()}


def read_setting(joined: State, settings: Sequence[Setting]) -> dict[str, float]:
    """Read the setting back.

    Args:
        joined: what ``join`` gave.
        settings: of the method; what the state does not tell is as in the first one.

    Returns:
        Name to number.
    """
    told = {name.removeprefix(_PREFIX): float(value) for name, value in joined.items() if name.startswith(_PREFIX)}
    return {**settings[0], **told}
