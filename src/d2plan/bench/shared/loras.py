"""What the methods have in common that join plain LoRAs only while they draw."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence

import numpy as np
from numpy.typing import NDArray

from d2plan.adapter.rows import Weighted
from d2plan.backbone.load import Backbone
from d2plan.backbone.sdxl import TextStates
from d2plan.bench.protocol import BenchConcept, Drawing, Learned, Setting, Shot, State
from d2plan.bench.shared.adapters import LORA_FROM, learn_lora, read_adapter
from d2plan.bench.shared.drawing import encode_loaded, encode_null
from d2plan.bench.shared.settings import read_setting, write_setting

Loads = tuple[tuple[Weighted, ...], ...]


class LoraMethod(ABC):
    """Learns each concept as a plain LoRA, by itself, and keeps nothing of several but how they are drawn.

    Attributes:
        settings: how it draws, and with "rate" how fast it learns, as for "isp-lora".
        learns_as: plain LoRAs are the same for all methods that use them, and are learnt once.
        learns_from: what of a setting decides them.
        learns_by: the module whose code learns them.
    """

    settings: tuple[Setting, ...]
    learns_as = "lora"
    learns_from = LORA_FROM
    learns_by = learn_lora.__module__

    def learn(
        self, backbone: Backbone, concept: BenchConcept, setting: Setting, seed: int
    ) -> Generator[float, None, State]:
        """Learn one concept by the base's own training of a LoRA.

        Args:
            backbone: the base; as it was afterwards.
            concept: what to learn.
            setting: one of ``settings``; see ``choose_training``.
            seed: of everything random.

        Returns:
            A generator of the share that is done, which returns the adapter.
        """
        return learn_lora(backbone, concept, setting, seed)

    def join(
        self, backbone: Backbone, learned: Sequence[Learned], setting: Setting, seed: int
    ) -> Generator[float, None, State]:
        """Keep the setting, which ``draw`` reads; there is nothing to join."""
        yield 1.0
        return write_setting(setting)

    def draw(
        self, backbone: Backbone, learned: Sequence[Learned], joined: State, shots: Sequence[Shot], drawing: Drawing
    ) -> list[NDArray[np.uint8]]:
        """Open each concept's LoRA at the setting's strength, and draw.

        Args:
            backbone: the base; as it was afterwards.
            learned: the concepts, in the order of each shot's sub-prompts.
            joined: what ``join`` gave for them.
            shots: what to draw.
            drawing: steps, guidance and size.

        Returns:
            A picture a shot, ``[h, w, 3]``.
        """
        setting = read_setting(joined, self.settings)
        loads = tuple((Weighted(read_adapter(backbone, one), setting["strength"]),) for one in learned)
        return self.draw_loads(backbone, loads, setting, shots, drawing) if shots else []

    @abstractmethod
    def draw_loads(
        self, backbone: Backbone, loads: Loads, setting: Setting, shots: Sequence[Shot], drawing: Drawing
    ) -> list[NDArray[np.uint8]]:
        """Draw in the method's own way.

        Args:
            backbone: the base; as it was afterwards.
            loads: what a row of a batch carries for each concept.
            setting: that was learnt with.
            shots: what to draw, at least one.
            drawing: steps, guidance and size.

        Returns:
            A picture a shot, ``[h, w, 3]``.
        """


def read_prompts(
    backbone: Backbone, prompts: Sequence[str], readers: Sequence[tuple[Weighted, ...]]
) -> list[tuple[TextStates, TextStates]]:
    """Read prompts several times, by encoders that carry something else each time.

    Args:
        backbone: the base.
        prompts: the texts.
        readers: what the encoders carry; one that stands there twice reads once.

    Returns:
        For each reader the row without a prompt, and one row for each prompt.
    """
    different = {id(reader): reader for reader in readers}
    read = {
        key: (encode_null(backbone, reader), encode_loaded(backbone, prompts, [reader] * len(prompts)))
        for key, reader in different.items()
    }
    return [read[id(reader)] for reader in readers]


def merge_loads(loads: Loads) -> tuple[Weighted, ...]:
    """Put all adapters on one row, whose updates are summed.

    Args:
        loads: of the concepts.

    Returns:
        One load.
    """
    return tuple(weighted for load in loads for weighted in load)
