"""What an adapter is in memory: low-rank updates of a base's linear layers, and how prompts name the concept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from torch import Tensor, nn


class Delta(NamedTuple):
    """The low-rank update of one linear layer: W x becomes W x + (alpha / rank) up (down x).

    Attributes:
        down: ``[rank, in]``.
        up: ``[out, rank]``.
        alpha: its strength times the rank, more than 0.
    """

    down: Tensor
    up: Tensor
    alpha: float

    @property
    def scale(self) -> float:
        """What the product is multiplied by, alpha / rank."""
        return self.alpha / self.down.shape[0]


@dataclass(frozen=True, eq=False)
class Adapter:
    """A learnt concept, as it is in memory and in its file.

    Attributes:
        name: how to call it.
        class_word: what kind of thing it is; empty in a file that d2plan did not write.
        identifier: the word that calls it in a sub-prompt; empty in such a file.
        base_fingerprint: of the base that it was trained on; empty in such a file.
        rank: the largest of its updates.
        alpha: of that update.
        deltas: module path to update; paths begin with "unet.", "text_encoder." or "text_encoder_2.", and the
            encoders' go on with "text_model.encoder.layers".
        settings: of its training, for people to read.
        path: of its file.
        sha256: of its file, hexadecimal.
        header: what another program wrote into the file's header, kept when the file is converted.
    """

    name: str
    class_word: str
    identifier: str
    base_fingerprint: str
    rank: int
    alpha: float
    deltas: Mapping[str, Delta]
    settings: Mapping[str, str] = field(default_factory=dict)
    path: Path | None = None
    sha256: str = ""
    header: Mapping[str, str] = field(default_factory=dict)

    @property
    def trigger_phrase(self) -> str:
        """The words that call the concept in a prompt; empty when the file does not tell them."""
        own = f"{self.identifier} {self.class_word}".strip()
        return own or self.header.get("modelspec.trigger_phrase", "").strip()


def find_widest(deltas: Mapping[str, Delta]) -> Delta:
    """Find the update by whose rank and alpha people call a whole adapter.

    Args:
        deltas: module path to update; one at least.

    Returns:
        The one of the largest rank, the first of several by its path.
    """
    return max((deltas[path] for path in sorted(deltas)), key=lambda delta: delta.down.shape[0])


def is_idle(adapter: Adapter) -> bool:
    """Say whether an adapter changes nothing, because one half of each of its updates is zero.

    Args:
        adapter: any.

    Returns:
        True when no prediction can differ with it.
    """
    return not any(delta.up.float().any() and delta.down.float().any() for delta in adapter.deltas.values())


class Models(Protocol):
    """What an adapter needs to know of a base; ``Backbone`` has it."""

    @property
    def unet(self) -> nn.Module:
        """The denoiser."""
        ...

    @property
    def text_encoders(self) -> Sequence[nn.Module]:
        """Both encoders."""
        ...

    @property
    def fingerprint(self) -> str:
        """Which weights these are."""
        ...
