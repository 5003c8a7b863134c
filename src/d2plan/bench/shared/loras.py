"""What the methods have in common that join plain LoRAs only while they draw."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from d2plan.adapter.rows import Weighted
from d2plan.backbone.load import Backbone
from d2plan.backbone.sdxl import TextStates
from d2plan.bench.protocol import BenchConcept, Learned, Setting, State
from d2plan.bench.shared.adapters import LORA_FROM, learn_lora, read_adapter
from d2plan.bench.shared.drawing import encode_loaded, encode_null
from d2plan.bench.shared.settings import read_setting, write_setting

Loads = tuple[tuple[Weighted, ...], ...]


class LoraMethod:
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

    def open_loads(self, backbone: Backbone, learned: Sequence[Learned], joined: State) -> tuple[Loads, Setting]:
        """Make of each concept what a row of a batch carries.

        Args:
            backbone: the base.
            learned: the concepts.
            joined: what ``join`` gave for them.

        Returns:
            One load a concept, at the setting's strength, and the setting.
        """
        setting = read_setting(joined, self.settings)
        loads = tuple((Weighted(read_adapter(backbone, one), setting["strength"]),) for one in learned)
        return loads, setting


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
