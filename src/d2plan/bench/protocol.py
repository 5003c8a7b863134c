"""What a compared method is: it learns concepts one by one, may join them, and draws scenes with them.

A method is one file in ``bench/methods`` and one line in ``registry.py``. The runner does the rest: it makes concepts
and scenes, saves states, counts U-Net rows and seconds, and scores the pictures.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from d2plan.backbone.load import Backbone

State = Mapping[str, Tensor]
Setting = Mapping[str, float]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class BenchConcept:
    """A concept to learn.

    Attributes:
        name: of the concept, unique in its suite, such as ``dog-12``.
        class_word: its class.
        identifier: the word that stands for it in prompts; one token in both tokenizers.
        folder: of its images, with captions and masks where there are some, as ``d2plan train`` reads it.
    """

    name: str
    class_word: str
    identifier: str
    folder: Path


@dataclass(frozen=True)
class Learned:
    """A concept that a method has learnt.

    Attributes:
        concept: which one.
        state: what the method keeps of it; the runner writes it as safetensors and reads it back.
        path: of that file. A method that works with adapter files finds its own file format's content in the state.
    """

    concept: BenchConcept
    state: State
    path: Path


@dataclass(frozen=True)
class Shot:
    """One picture to draw; every method gets the same.

    Attributes:
        global_prompt: the whole scene; names each instance by its class word only.
        sub_prompts: one an instance, each with "identifier class word" and what it wears and does.
        joint_prompt: the whole scene in one sentence, each class word with its identifier before it and its details.
        concepts: names of the concepts, one an instance.
        boxes: where each instance stands (x0, y0, x1, y1 in 0..1), from left to right, for methods that must be told;
            ISP finds its masks itself.
        seed: of x_T.
    """

    global_prompt: str
    sub_prompts: tuple[str, ...]
    joint_prompt: str
    concepts: tuple[str, ...]
    boxes: tuple[Box, ...]
    seed: int


@dataclass(frozen=True)
class Drawing:
    """How all methods draw.

    Attributes:
        steps: denoising steps.
        guidance_scale: w of eq. (2).
        height: pixels.
        width: pixels.
        most_rows: the largest U-Net batch, rows.
    """

    steps: int
    guidance_scale: float
    height: int
    width: int
    most_rows: int = 32


class Method(Protocol):
    """A way to learn concepts and to draw several of them in one picture.

    Attributes:
        name: in commands and files, such as ``mix-of-show``.
        title: in tables.
        source: the paper or program that it follows, with what was scaled to the base.
        settings: what may be tuned on the development concepts, at most four; the first is used untuned.

    Methods that learn alike may share what they learnt: they give the attributes ``learns_as``, one name for all of
    them; ``learns_from``, the names in a setting that decide the learnt state, each with the number that counts where
    the setting leaves it out (None where that is the base's own); and, where they are not of one module, ``learns_by``,
    the module whose code learns.

    A setting may hold the names that stand in ``settings`` and ``learns_from``; a method that knows others gives the
    attribute ``takes``, their names. A suite's own settings are for the methods that know their names.

    A stop on request comes between two shares that ``learn`` or ``join`` yields, or ahead of any call of the U-Net, as
    an exception that is no ``Exception``; what a method changes of the base it puts back by context managers.
    """

    name: str
    title: str
    source: str
    settings: tuple[Setting, ...]

    def learn(
        self, backbone: Backbone, concept: BenchConcept, setting: Setting, seed: int
    ) -> Generator[float, None, State]:
        """Learn one concept; yields the share that is done, 0..1, after each step, and returns the state.

        The backbone is as it was afterwards, bit for bit, also when the generator is closed early.

        Args:
            backbone: the base.
            concept: what to learn.
            setting: one of ``settings``.
            seed: of everything random.
        """
        ...

    def join(
        self, backbone: Backbone, learned: Sequence[Learned], setting: Setting, seed: int
    ) -> Generator[float, None, State]:
        """Make one state for concepts that will stand in one picture, where the method needs to; else an empty one."""
        ...

    def draw(
        self, backbone: Backbone, learned: Sequence[Learned], joined: State, shots: Sequence[Shot], drawing: Drawing
    ) -> list[NDArray[np.uint8]]:
        """Draw shots of these concepts.

        Args:
            backbone: the base; as it was afterwards.
            learned: the concepts, in the order of each shot's ``concepts``.
            joined: what ``join`` gave for them.
            shots: all of the same concepts.
            drawing: steps, guidance and size.

        Returns:
            A picture a shot, ``[h, w, 3]``.
        """
        ...
