"""d2plan: several learnt characters in one picture, each itself, each doing what its own prompt says."""

import os
from importlib import import_module

# Without it Intel's MKL may give other bits where an array happens to lie elsewhere in memory (seen on AMD), and a
# picture or a resumed training would not be the same to the last bit. It costs no time.
os.environ.setdefault("MKL_CBWR", "AUTO")

# Type checkers take this name for true. Importing it from typing would be half of the time before Ctrl-C is heard.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from d2plan.workflows.composing.compose import compose
    from d2plan.workflows.composing.generate import generate
    from d2plan.workflows.composing.reproduce import reproduce
    from d2plan.workflows.composing.series import compose_series
    from d2plan.workflows.training.train import train_concept

__version__ = "0.1.0"
__all__ = ["__version__", "compose", "compose_series", "generate", "reproduce", "train_concept"]

_HOMES = {
    "train_concept": "d2plan.workflows.training.train",
    "compose": "d2plan.workflows.composing.compose",
    "compose_series": "d2plan.workflows.composing.series",
    "generate": "d2plan.workflows.composing.generate",
    "reproduce": "d2plan.workflows.composing.reproduce",
}


def __getattr__(name: str) -> object:
    """Import a verb's module when the verb is first asked for, so that ``import d2plan`` brings no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'd2plan' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """List the verbs too, though they are not imported yet."""
    return sorted({*globals(), *__all__})
