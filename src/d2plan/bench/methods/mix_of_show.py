"""Mix-of-Show: ED-LoRA for each concept, gradient fusion of several, and sampling that reads sub-prompts inside boxes.

Source: Gu et al. 2023, "Mix-of-Show: Decentralized Low-Rank Adaptation for Multi-Concept Customization of Diffusion
Models", and the authors' program (configuration 8101, ``gradient_fusion.py``, ``pipeline_regionally_t2iadapter.py``);
for SDXL's two encoders as Concept-Conductor's ``trainer_edlora_sdxl.py``:

- ED-LoRA: a random word and the class word get vectors of their own for every cross-attention layer (AdamW 1e-3); LoRA
  of rank 4 on the encoders' attention (1e-5) and on the U-Net's (1e-4); rates go down to 0 in a straight line; noise
  offset 0.01, attention held to the mask with weight 0.01; the vectors stop learning when their mean norm is 0.55.
- Fusion: for each linear layer L-BFGS finds the weights that answer every concept's inputs as its own do: 500
  iterations for encoders, keys and values, 50 for the rest, on 20 steps of drawing "photo of a [V]"
  (``mix_of_show_join``).
- Sampling: the global prompt for the whole picture, in each instance's box its sub-prompt with the scene behind it; one
  concept alone is drawn from its sentence without boxes and without fusion.

What was scaled: the U-Net's rate is a third of the base's own rate for adapters, as 1e-4 is of SDXL's 3e-4, the
encoders' a tenth of that as published, or multiples of both; the vectors' is for tables that deviate as CLIP's do; 0.55
is measured by the class word's norm. Four fifths of the base's steps, since the encoders read a prompt once for every
layer, and its batch (published: 500 shows of each picture, batches of 4). Captions, sampler, steps and guidance are
those of all methods here (the authors: DPM++ with 50 steps at 7.5). The published loss counts the mask alone; here it
counts all pixels, as for all methods (``shared.learning`` says why). Pose and sketch adapters, which the authors add
for layout, are left out, since no method here is given poses. Without them, regions lose figures on the embedded base
(a quarter of the instances; neither boxes without margins nor prompts with the scene helped), and the fused weights
with the joint prompt alone do not: drawing without regions is tried too.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from d2plan.adapter.attach import attach_adapter, collect_deltas
from d2plan.adapter.file import Adapter
from d2plan.backbone.attention import ColumnRead, TapPlan, attention_levels, level_size, tap_columns
from d2plan.backbone.load import Backbone
from d2plan.backbone.sampling import latent_size
from d2plan.backbone.sdxl import TextStates, null_states
from d2plan.backbone.text import find_characters
from d2plan.bench.methods.mix_of_show_attention import Regions, hold_words, read_regions
from d2plan.bench.methods.mix_of_show_join import Tuned, fuse_adapters, merge_layers, put_weights
from d2plan.bench.methods.mix_of_show_words import (
    LayerWords,
    encode_words,
    has_grown,
    read_words,
    repeat_layers,
    start_words,
)
from d2plan.bench.methods.p_plus import feed_layers
from d2plan.bench.protocol import BenchConcept, Drawing, Learned, Setting, Shot, State
from d2plan.bench.shared.adapters import read_adapter, write_adapter
from d2plan.bench.shared.drawing import Moment, draw_shots, guide_plainly
from d2plan.bench.shared.examples import Examples
from d2plan.bench.shared.learning import Extra, LearnOptions, Rated, learn_steps
from d2plan.bench.shared.settings import count_steps, read_setting, write_setting
from d2plan.bench.shared.words import WordVectors, rate_vectors, write_vectors
from d2plan.errors import InputError

RANK = 4
WORD_RATE = 1e-3
UNET_TO_ADAPTERS = 1 / 3
TEXT_TO_UNET = 1 / 10
STEPS_TO_ADAPTERS = 0.8
NOISE_OFFSET = 0.01
ATTENTION_WEIGHT = 0.01
_FUSED = ".weight"


@dataclass(frozen=True)
class MixOfShow:
    """ED-LoRA, gradient fusion and regional sampling.

    Attributes:
        name: in commands and files.
        title: in tables.
        source: the paper.
        settings: "rate" is a multiple of the published rates of both LoRAs, "words" of the vectors'; with "regions" 0
            several concepts are drawn from their joint prompt, without boxes.
        learns_as: settings that differ by the drawing alone share what was learnt.
        learns_from: what of a setting decides it; "steps" is a multiple of the scaled number of steps.
    """

    name: str = "mix-of-show"
    title: str = "Mix-of-Show"
    source: str = (
        "Gu et al. 2023 (ED-LoRA, gradient fusion, regional sampling). Scaled: rates and steps to the base's adapters; "
        "the sampler, steps and guidance of all methods; the loss counts all pixels, not the mask alone; no pose or "
        "sketch adapters, without which regions lose figures on the embedded base, so drawing without regions is "
        "tried too."
    )
    settings: tuple[Setting, ...] = (
        {"rate": 1.0, "words": 1.0, "regions": 1},
        {"rate": 3.0, "words": 1.0, "regions": 1},
        {"rate": 3.0, "words": 1.0, "regions": 0},
        {"rate": 6.0, "words": 1.0, "regions": 0},
    )
    learns_as: ClassVar[str] = "mix-of-show"
    learns_from: ClassVar[Mapping[str, float]] = {"rate": 1.0, "words": 1.0, "steps": 1.0}

    def learn(
        self, backbone: Backbone, concept: BenchConcept, setting: Setting, seed: int
    ) -> Generator[float, None, State]:
        """Train an ED-LoRA."""
        defaults = backbone.defaults
        options = LearnOptions(
            steps=count_steps(STEPS_TO_ADAPTERS * defaults.train_steps, setting),
            batch_size=defaults.batch_size,
            noise_offset=NOISE_OFFSET,
            linear_decay=True,
        )
        words = start_words(backbone, concept, seed)
        rate = defaults.unet_rate * UNET_TO_ADAPTERS * setting.get("rate", 1.0)
        rated = rate_vectors(backbone, WordVectors(words.first, words.second), WORD_RATE * setting.get("words", 1.0))

        def encode(prompts: Sequence[str]) -> TextStates:
            return encode_words(backbone, prompts, [words])

        def stop_words(step: int, loss: float) -> None:
            if words.first.requires_grad and has_grown(backbone, words, concept.class_word):
                for vectors in (words.first, words.second):
                    vectors.requires_grad_(False)

        with attach_adapter(backbone, RANK, seed=seed) as attached, feed_layers(backbone.unet):
            rated += [Rated(attached.unet, rate), Rated(attached.text, rate * TEXT_TO_UNET)]
            extra = _watch_words(backbone, words)
            yield from learn_steps(backbone, [concept], rated, options, seed, encode, extra, stop_words)
            deltas = collect_deltas(backbone)
        adapter = Adapter(
            concept.name, concept.class_word, concept.identifier, backbone.fingerprint, RANK, float(RANK), deltas
        )
        return write_adapter(adapter) | write_vectors(WordVectors(words.first, words.second))

    def join(
        self, backbone: Backbone, learned: Sequence[Learned], setting: Setting, seed: int
    ) -> Generator[float, None, State]:
        """Fuse the LoRAs; one alone stays as it is."""
        if len(learned) == 1:
            yield from ()
            return {}
        fused = yield from fuse_adapters(backbone, [_open(backbone, one) for one in learned], seed)
        return {path + _FUSED: weight.cpu() for path, weight in fused.items()} | write_setting(setting)

    def draw(
        self, backbone: Backbone, learned: Sequence[Learned], joined: State, shots: Sequence[Shot], drawing: Drawing
    ) -> list[NDArray[np.uint8]]:
        """Draw one concept from its sentence, several from the global prompt with sub-prompts in their boxes."""
        parts = [_open(backbone, one) for one in learned]
        words = [part.words for part in parts]
        if len(parts) == 1:
            weights = merge_layers(backbone, parts[0].adapter)
        else:
            weights = {name.removesuffix(_FUSED): tensor for name, tensor in joined.items() if name.endswith(_FUSED)}
            if not weights:
                raise InputError(f"{self.name}: nothing was joined for these concepts; join them before drawing.")
        null = repeat_layers(backbone, null_states(backbone, 1))
        with put_weights(backbone, weights), feed_layers(backbone.unet):
            if len(parts) == 1 or not read_setting(joined, self.settings)["regions"] > 0:
                with torch.no_grad():
                    text = encode_words(backbone, [shot.joint_prompt for shot in shots], words)
                return draw_shots(backbone, shots, drawing, predict=guide_plainly(backbone, text, null))
            with torch.no_grad():
                text = encode_words(backbone, [shot.global_prompt for shot in shots], words)
            places = [add_scene(shot, [one.concept.class_word for one in learned]) for shot in shots]
            regions = _read_boxes(backbone, places, words, drawing)
            plain = guide_plainly(backbone, text, null)

            def predict_regions(moment: Moment) -> Tensor:
                regions.choose(moment.places)
                return plain(moment)

            with read_regions(backbone.unet, regions):
                return draw_shots(backbone, shots, drawing, predict=predict_regions)


def add_scene(shot: Shot, class_words: Sequence[str]) -> Shot:
    """Let sub-prompts name the scene as well.

    Source: the Mix-of-Show authors' region prompts, such as "[a <hina1> <hina2>, standing near a lake]".

    Args:
        shot: as all methods are given it.
        class_words: of its instances.

    Returns:
        The same with what the global prompt says behind its last instance behind each sub-prompt.
    """
    last = class_words[-1].casefold()
    named = [word.casefold() for word in class_words].count(last)
    _, end = find_characters(shot.global_prompt, last, named - 1)
    return replace(shot, sub_prompts=tuple(prompt + shot.global_prompt[end:] for prompt in shot.sub_prompts))


def _open(backbone: Backbone, learned: Learned) -> Tuned:
    return Tuned(read_words(backbone, learned.concept, learned.state), read_adapter(backbone, learned))


def _read_boxes(backbone: Backbone, shots: Sequence[Shot], words: Sequence[LayerWords], drawing: Drawing) -> Regions:
    with torch.no_grad():
        text = encode_words(backbone, [prompt for shot in shots for prompt in shot.sub_prompts], words)
    states = text.states.unflatten(0, (len(shots), len(words)))
    return Regions(states, [shot.boxes for shot in shots], latent_size(backbone, (drawing.height, drawing.width)))


def _watch_words(backbone: Backbone, words: LayerWords) -> Extra:
    """Read where both words look, and hold them to the mask."""
    tokens = len(backbone.tokenizers[0](words.phrase, add_special_tokens=False).input_ids)
    levels = attention_levels(backbone.unet)

    @contextmanager
    def watch(examples: Examples) -> Iterator[Callable[[], Tensor]]:
        masks = examples.masks
        spans = [(row, span[0]) for row, span in enumerate(examples.spans) if span]
        if masks is None or not spans:
            yield lambda: examples.latents.new_zeros(())
            return
        shown = (masks[[row for row, _ in spans]] > 0.5).float()
        own = [ColumnRead(row, (start,)) for row, start in spans]
        classes = [ColumnRead(row, tuple(range(start + 1, start + tokens))) for row, start in spans]
        latent = (masks.shape[-2], masks.shape[-1])
        with tap_columns(backbone.unet, TapPlan(reads=(*own, *classes))) as tap:

            def hold() -> Tensor:
                total = masks.new_zeros(())
                for level in levels:
                    size = level_size(latent, level)
                    random_map, class_map = tap.maps(level).unflatten(-1, size).chunk(2)
                    inside = functional.interpolate(shown, size=size, mode="nearest")[:, 0] > 0.5
                    total = total + hold_words(random_map, class_map, inside)
                return ATTENTION_WEIGHT * total

            yield hold

    return watch


METHOD = MixOfShow()
