"""Settings: which names a method knows, how many steps one asks for, and how one comes from ``join`` to ``draw``."""

from collections.abc import Sequence

import torch
from torch import Tensor

from d2plan.bench.protocol import Method, Setting, State

_PREFIX = "setting."


def list_names(method: Method) -> tuple[str, ...]:
    """List the names that a method's setting may hold.

    Args:
        method: any.

    Returns:
        Those of its ``settings``, of its ``learns_from`` and of its ``takes``, each once.
    """
    shown = (name for setting in method.settings for name in setting)
    return tuple(dict.fromkeys((*shown, *getattr(method, "learns_from", ()), *getattr(method, "takes", ()))))


def override(method: Method, setting: Setting, numbers: Setting) -> dict[str, float]:
    """Put other numbers into a setting; "steps" is a multiple, and multiplies the setting's own.

    Args:
        method: whose setting it is.
        setting: one of its own.
        numbers: those with names that the method does not know are not for it.

    Returns:
        The setting with them.
    """
    known = list_names(method)
    changed = {name: value for name, value in numbers.items() if name in known}
    if "steps" in changed:
        # Else a setting that differs from another one by its steps alone would become that one.
        changed["steps"] *= setting.get("steps", 1.0)
    return {**setting, **changed}


def count_steps(own: float, setting: Setting) -> int:
    """Say how many steps a setting asks for.

    >>> count_steps(300, {"steps": 0.5}), count_steps(300, {"rate": 2.0})
    (150, 300)

    Args:
        own: the method's own number.
        setting: whose "steps" is a multiple of it; 1 where it is left out.

    Returns:
        The number, at least 1.
    """
    return max(1, round(own * setting.get("steps", 1.0)))


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
