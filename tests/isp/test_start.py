"""The start that a series shares: one noise, one warm-up, one set of masks, and nothing else changes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from d2plan.backbone.load import Backbone
from d2plan.backbone.schedulers import SCHEDULERS
from d2plan.backbone.sdxl import decode_latents, sample_steps
from d2plan.config import IspSettings
from d2plan.errors import InputError
from d2plan.isp.engine import EngineOptions
from d2plan.isp.loop import COMPOSING, LOOKING, WARMING, compose_many, compose_steps, warm_up, warm_up_steps
from d2plan.isp.prepare import Extras, PreparedScene, prepare_scene
from d2plan.isp.segment import Detection
from tests.isp.concepts import man_and_dog, plain

SETTINGS = IspSettings(steps=4, guidance_scale=5.0, map_steps=2)
PROMPTS = ("a photo of a <v2> dog running", "a photo of a <v2> dog sitting", "a photo of a <v2> dog jumping")


def _variant(backbone: Backbone, prompt: str = PROMPTS[0], **changes: object) -> PreparedScene:
    prepared = man_and_dog(backbone, **changes)
    first, second = prepared.scene.instances
    instances = (first, second.model_copy(update={"sub_prompt": prompt}))
    return prepare_scene(backbone, prepared.scene.model_copy(update={"instances": instances}), prepared.adapters)


@pytest.mark.parametrize("memory", ["rows", "low", "merged"])
def test_variants_from_a_shared_start_equal_variants_alone(tiny: Backbone, memory: str) -> None:
    options = EngineOptions(memory)  # type: ignore[arg-type]
    variants = [_variant(tiny, prompt) for prompt in PROMPTS]
    shared = warm_up(tiny, variants[0], SETTINGS, options)
    together = compose_many(tiny, variants, SETTINGS, options, shared)
    for variant, composition in zip(variants, together, strict=True):
        (alone,) = compose_many(tiny, [variant], SETTINGS, options)
        assert torch.allclose(composition.latents, alone.latents, atol=1e-4 * float(alone.latents.abs().max()))
        assert torch.allclose(composition.partition.masks, alone.partition.masks, atol=1e-5)
        assert composition.partition is shared.masks.partition


def test_the_warm_up_is_computed_once(tiny: Backbone) -> None:
    variants = [_variant(tiny, prompt) for prompt in PROMPTS]
    calls: list[int] = []
    tiny.unet.register_forward_pre_hook(lambda module, inputs: calls.append(inputs[0].shape[0]))
    shared = warm_up(tiny, variants[0], SETTINGS)
    assert calls == [2, 2] and (shared.unet_calls, shared.unet_rows) == (2, 4)
    calls.clear()
    together = compose_many(tiny, variants, SETTINGS, shared=shared)
    assert calls == [12, 12]
    assert [(one.unet_calls, one.unet_rows, one.together) for one in together] == [(2, 8, 3)] * 3


def test_a_start_is_not_used_up(tiny: Backbone) -> None:
    variant = _variant(tiny)
    shared = warm_up(tiny, variant, SETTINGS)
    first, second = (compose_many(tiny, [variant], SETTINGS, shared=shared)[0].latents for _ in range(2))
    assert torch.equal(first, second)
    (alone,) = compose_many(tiny, [variant], SETTINGS)
    assert torch.equal(first, alone.latents)


@pytest.mark.parametrize(
    "name",
    ["UniPCMultistepScheduler", "DPMSolverMultistepScheduler", "EulerAncestralDiscreteScheduler", "PNDMScheduler"],
)
def test_a_sampler_with_a_memory_or_noise_of_its_own_goes_on_as_if_never_stopped(tiny: Backbone, name: str) -> None:
    base = replace(tiny, scheduler=SCHEDULERS[name].from_config(dict(tiny.scheduler.config)))
    variants = [_variant(base, prompt, steps=6, warmup=3) for prompt in PROMPTS[:2]]
    shared = warm_up(base, variants[0], SETTINGS)
    together = compose_many(base, variants, SETTINGS, shared=shared)
    for variant, composition in zip(variants, together, strict=True):
        (alone,) = compose_many(base, [variant], SETTINGS)
        assert torch.allclose(composition.latents, alone.latents, atol=1e-4 * float(alone.latents.abs().max()))


def test_without_a_warm_up_the_masks_are_still_shared(tiny: Backbone) -> None:
    variants = [_variant(tiny, prompt, warmup=0) for prompt in PROMPTS[:2]]
    shared = warm_up(tiny, variants[0], SETTINGS)
    assert (shared.unet_calls, shared.unet_rows) == (1, 1)
    one, other = compose_many(tiny, variants, SETTINGS, shared=shared)
    assert torch.equal(one.partition.masks, other.partition.masks)
    assert one.unet_rows == 16 and not torch.allclose(one.latents, other.latents, atol=1e-3)


def test_progress_of_the_parts_counts_their_steps(tiny: Backbone) -> None:
    variant = _variant(tiny)
    begun = warm_up_steps(tiny, variant, SETTINGS)
    steps = []
    while True:
        try:
            steps.append(next(begun))
        except StopIteration as end:
            shared = end.value
            break
    assert [(step.step, step.total, step.phase) for step in steps] == [(1, 2, WARMING), (2, 2, WARMING)]
    rest = list(compose_steps(tiny, [variant] * 2, replace(SETTINGS, most_rows=4), shared=shared))
    assert [(step.step, step.total, step.phase) for step in rest] == [(n, 4, COMPOSING) for n in range(1, 5)]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"seed": 5}, "seed"),
        ({"steps": 5}, "steps"),
        ({"guidance_scale": 2.0}, "guidance_scale"),
        ({"height": 96}, "height"),
    ],
)
def test_a_scene_of_another_layout_is_no_variant(tiny: Backbone, changes: dict, field: str) -> None:
    shared = warm_up(tiny, _variant(tiny), SETTINGS)
    with pytest.raises(InputError, match=rf"variants\[1\] has another {field}"):
        compose_steps(tiny, [_variant(tiny), _variant(tiny, **changes)], SETTINGS, shared=shared)


def test_a_variant_keeps_its_class_words_and_places(tiny: Backbone) -> None:
    variant = _variant(tiny)
    shared = warm_up(tiny, variant, SETTINGS)
    moved = replace(variant, regions=(replace(variant.regions[0], position="left"), variant.regions[1]))
    with pytest.raises(InputError, match=r"instances\[0\] has another class word or place"):
        compose_steps(tiny, [moved], SETTINGS, shared=shared)
    with pytest.raises(InputError, match="instances is empty"):
        warm_up(tiny, plain(tiny), SETTINGS)


class _Halves:
    """Finds a man in the left half and a dog in the right one, and keeps the picture that it saw."""

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def detect(self, image: np.ndarray, class_words: list[str]) -> list[Detection]:
        self.seen.append(image)
        left = np.zeros(image.shape[:2], np.float32)
        left[:, : image.shape[1] // 2] = 1
        found = {"man": left, "dog": 1 - left}
        return [Detection(word, 0.9, found[word], "halves") for word in class_words if word in found]


def _watched(backbone: Backbone, detector: object, **changes: object) -> PreparedScene:
    prepared = man_and_dog(backbone, **changes)
    scene = prepared.scene.model_copy(update={"masks": "detect"})
    return prepare_scene(backbone, scene, prepared.adapters, extras=Extras(detector=detector))  # type: ignore[arg-type]


def test_a_detector_sees_the_global_prompt_alone_with_the_same_seed(tiny: Backbone) -> None:
    detector = _Halves()
    scene = _watched(tiny, detector)
    (composition,) = compose_many(tiny, [scene], SETTINGS)
    *_, last = sample_steps(tiny, "a photo of a man and a dog on the beach", 0, size=(64, 64))
    wanted = decode_latents(tiny, last.latents)[0].astype(int)
    assert np.abs(detector.seen[0].astype(int) - wanted).max() <= 1
    assert composition.masks.routes == ("detect", "detect")
    man, dog = composition.partition.masks[1:]
    assert man[:, :6].min() > 0.9 and dog[:, 10:].min() > 0.9
    # The picture that it looks at goes on from the warm-up, which is not made twice.
    assert composition.unet_rows == 2 * 2 + 2 * 2 + 4 * 2


def test_looking_is_told_as_a_phase_and_shared_by_a_series(tiny: Backbone) -> None:
    detector = _Halves()
    scene = _watched(tiny, detector)
    phases = [(step.step, step.total, step.phase) for step in compose_steps(tiny, [scene], SETTINGS)]
    wanted = [WARMING] * 2 + [LOOKING] * 2 + [COMPOSING] * 2
    assert phases == [(number, 6, phase) for number, phase in enumerate(wanted, 1)]
    detector.seen.clear()
    shared = warm_up(tiny, scene, SETTINGS)
    series = compose_many(tiny, [scene, scene], SETTINGS, shared=shared)
    assert len(detector.seen) == 1 and shared.unet_rows == 8 and [one.unet_rows for one in series] == [8, 8]


def test_a_scene_that_wants_a_detector_must_get_one(tiny: Backbone) -> None:
    with pytest.raises(InputError, match="no detector was opened"):
        _watched(tiny, None)


def test_variants_whose_global_rows_read_something_else_are_refused(tiny: Backbone) -> None:
    start = warm_up(tiny, _variant(tiny, weave="all"), SETTINGS)
    with pytest.raises(InputError, match="weave: subs"):
        compose_many(tiny, [_variant(tiny, PROMPTS[1], weave="all")], SETTINGS, shared=start)
