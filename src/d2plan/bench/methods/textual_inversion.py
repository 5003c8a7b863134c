"""Textual Inversion: nothing learns but the identifier's vector in each text encoder's token table.

Source: Gal et al. 2022, "An Image is Worth One Word", in the form of the diffusers program for SDXL, which learns a row
in both tables: begun with the class word's vector, AdamW, 5e-4 to 5e-3, 3000 to 6000 steps (the Mix-of-Show authors'
comparison takes 1e-3 and 500). Concepts stand side by side in one prompt.

What was scaled: the published rates are those for tables whose numbers deviate by 0.014, as CLIP's do; here they are
multiples of the table's own deviation. Twice as many steps as the base's adapters need. Prompts say "identifier class
word" as in the scenes that are drawn, and captions are used, as by all methods here; the loss counts all
pixels.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from d2plan.backbone.load import Backbone
from d2plan.bench.protocol import BenchConcept, Drawing, Learned, Setting, Shot, State
from d2plan.bench.shared.drawing import draw_shots
from d2plan.bench.shared.joining import JoinsNothing
from d2plan.bench.shared.learning import LearnOptions, learn_steps
from d2plan.bench.shared.settings import count_steps
from d2plan.bench.shared.words import put_words, rate_vectors, read_vectors, start_vectors, write_vectors


@dataclass(frozen=True)
class TextualInversion(JoinsNothing):
    """Textual Inversion on both text encoders.

    Attributes:
        name: in commands and files.
        title: in tables.
        source: the paper.
        settings: "rate" as published, for CLIP's tables.
        takes: "steps" is a multiple of the scaled number of steps.
    """

    name: str = "textual-inversion"
    title: str = "Textual Inversion"
    source: str = "Gal et al. 2022"
    settings: tuple[Setting, ...] = ({"rate": 5e-3}, {"rate": 1e-3}, {"rate": 5e-4}, {"rate": 2e-2})
    takes: ClassVar[tuple[str, ...]] = ("steps",)

    def learn(
        self, backbone: Backbone, concept: BenchConcept, setting: Setting, seed: int
    ) -> Generator[float, None, State]:
        """Train the identifier's two vectors."""
        vectors = start_vectors(backbone, concept.class_word)
        options = LearnOptions(
            steps=count_steps(2 * backbone.defaults.train_steps, setting),
            batch_size=max(2, backbone.defaults.batch_size // 2),
        )
        rated = rate_vectors(backbone, vectors, setting["rate"])
        with put_words(backbone, {concept.identifier: vectors}):
            yield from learn_steps(backbone, [concept], rated, options, seed)
        return write_vectors(vectors)

    def draw(
        self, backbone: Backbone, learned: Sequence[Learned], joined: State, shots: Sequence[Shot], drawing: Drawing
    ) -> list[NDArray[np.uint8]]:
        """Draw each joint prompt with the learnt words in it."""
        words = {one.concept.identifier: read_vectors(backbone, one) for one in learned}
        with put_words(backbone, words):
            return draw_shots(backbone, shots, drawing)


METHOD = TextualInversion()
