"""Adapters that compared methods learn and use: the product's own training, with DisLoRA's losses or as plain LoRA."""

from collections.abc import Generator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from d2plan.adapter.file import Adapter, Delta
from d2plan.backbone.load import Backbone
from d2plan.bench.protocol import BenchConcept, Learned, Setting, State
from d2plan.bench.shared.settings import count_steps
from d2plan.bench.shared.steps import follow
from d2plan.config import DisLoRASettings
from d2plan.dislora.data import read_concept_folder
from d2plan.dislora.lessons import LessonChoices
from d2plan.dislora.request import TrainRequest
from d2plan.dislora.train import train_steps
from d2plan.errors import InputError

# What decides a plain LoRA, and an adapter with DisLoRA's losses: see ``learns_from`` of a method.
LORA_FROM: Mapping[str, float | None] = {"rate": 1.0, "steps": 1.0, "joint": None}
DISLORA_FROM: Mapping[str, float | None] = {**LORA_FROM, "token": 1.0, "attention": 1.0}
DOWN, UP, ALPHA = ".lora_A.weight", ".lora_B.weight", ".alpha"


def learn_adapter(
    backbone: Backbone, concept: BenchConcept, settings: DisLoRASettings, seed: int
) -> Generator[float, None, State]:
    """Train an adapter with the product's own training loop.

    Args:
        backbone: the base.
        concept: what to learn.
        settings: of the training.
        seed: of everything random.

    Returns:
        A generator that gives the share that is done, 0..1, after each step, and at its end the adapter's updates, of
        which ``read_adapter`` makes the adapter.
    """
    return _learn(backbone, concept, settings, seed)


def learn_lora(backbone: Backbone, concept: BenchConcept, setting: Setting, seed: int) -> Generator[float, None, State]:
    """Train a plain LoRA: the same loop, rank and rates as DisLoRA without its two losses.

    Source: Hu et al. 2022, in the form of the diffusers program for DreamBooth LoRA on SDXL (attention layers of
    U-Net and text encoders, alpha = rank).

    Args:
        backbone: the base, whose own rank, rates, steps and batch are taken.
        concept: what to learn.
        setting: see ``choose_training``.
        seed: of everything random.

    Returns:
        A generator as ``learn_adapter`` gives.
    """
    settings = replace(choose_training(backbone, setting), token_weight=0.0, attention_weight=0.0)
    return learn_adapter(backbone, concept, settings, seed)


def choose_training(backbone: Backbone, setting: Setting) -> DisLoRASettings:
    """Give the training of an adapter: the base's own, changed by a setting.

    Args:
        backbone: the base.
        setting: "rate" multiplies both learning rates, "steps" the number of steps, "token" and "attention" the weights
            of L_token and L_atten; "joint" is the part of the pictures shown with "identifier class word". What is
            left out is 1, or the base's own.

    Returns:
        The training's settings.
    """
    own = backbone.defaults.training()
    rate = setting.get("rate", 1.0)
    return replace(
        own,
        unet_rate=own.unet_rate * rate,
        text_rate=own.text_rate * rate,
        steps=count_steps(own.steps, setting),
        token_weight=own.token_weight * setting.get("token", 1.0),
        attention_weight=own.attention_weight * setting.get("attention", 1.0),
        joint_fraction=setting.get("joint", own.joint_fraction),
    )


def write_adapter(adapter: Adapter) -> dict[str, Tensor]:
    """Write an adapter's updates as tensors, under the names of PEFT with each layer's alpha beside them.

    Args:
        adapter: what to write.

    Returns:
        Name to tensor.
    """
    state = {}
    for path, delta in adapter.deltas.items():
        state[path + DOWN], state[path + UP] = delta.down, delta.up
        state[path + ALPHA] = torch.tensor(float(delta.alpha))
    return state


def read_adapter(backbone: Backbone, learned: Learned) -> Adapter:
    """Make an adapter of a state from ``write_adapter``.

    Args:
        backbone: the base that it was trained on.
        learned: the concept.

    Returns:
        The adapter.

    Raises:
        InputError: the state is no adapter's.
    """
    state, concept = learned.state, learned.concept
    paths = sorted(name.removesuffix(DOWN) for name in state if name.endswith(DOWN))
    if not paths or any(path + part not in state for path in paths for part in (UP, ALPHA)):
        raise InputError(f"{learned.path} holds no adapter; remove it and let the concept be learnt again.")
    deltas = {path: Delta(state[path + DOWN], state[path + UP], float(state[path + ALPHA])) for path in paths}
    widest = max(deltas.values(), key=lambda delta: delta.down.shape[0])
    return Adapter(
        name=concept.name,
        class_word=concept.class_word,
        identifier=concept.identifier,
        base_fingerprint=backbone.fingerprint,
        rank=int(widest.down.shape[0]),
        alpha=widest.alpha,
        deltas=deltas,
        path=learned.path,
    )


def _learn(
    backbone: Backbone, concept: BenchConcept, settings: DisLoRASettings, seed: int
) -> Generator[float, None, State]:
    data = read_concept_folder(concept.folder, *backbone.size)
    choices = LessonChoices(
        concept.class_word, concept.identifier, masked=settings.masked, use_captions=settings.use_captions
    )
    run = train_steps(backbone, data, TrainRequest(concept.name, choices, settings, seed))
    return write_adapter((yield from follow(run, lambda report: report.step / report.total)))
