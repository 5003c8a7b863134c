"""How tests of the LoRA methods draw, and what they compare with."""

from dataclasses import replace

import numpy as np
import torch

from d2plan.backbone.load import Backbone
from d2plan.backbone.sdxl import TextStates, decode_latents, encode_prompts
from d2plan.bench.protocol import Drawing, Shot
from d2plan.bench.shared.drawing import denoise_shots
from d2plan.bench.shared.loras import LoraMethod
from d2plan.bench.shared.settings import write_setting
from tests.bench.concepts import learnt, merged_base
from tests.bench.shots import DRAWING, counted_rows, fingerprint, make_shot, same_base

SMALL = replace(DRAWING, steps=2)


def draw(
    method: LoraMethod,
    base: Backbone,
    numbers: list[int],
    shots: list[Shot],
    drawing: Drawing = SMALL,
    **setting: float,
) -> np.ndarray:
    """Draw with concepts of these numbers, by the first setting but for what is said."""
    joined = write_setting({**method.settings[0], **setting})
    return np.stack(method.draw(base, [learnt(base, number) for number in numbers], joined, shots, drawing))


def gap(one: np.ndarray, other: np.ndarray) -> int:
    """The largest difference of two pictures, levels of 255."""
    return int(np.abs(one.astype(int) - other.astype(int)).max())


def read(base: Backbone, shots: list[Shot]) -> TextStates:
    """Read the joint prompts by the encoders as they are."""
    with torch.no_grad():
        return encode_prompts(base, [shot.joint_prompt for shot in shots])


def plain(base: Backbone, shot: Shot) -> np.ndarray:
    """Draw a shot by plain sampling of a base as it is."""
    return decode_latents(base, denoise_shots(base, [shot], SMALL))


def check_one_concept(method: LoraMethod, base: Backbone) -> None:
    """One concept alone is plain sampling with its LoRA, times 0.8, in the weights."""
    shot = make_shot(4, ("man",))
    image = draw(method, base, [1], [shot])
    assert gap(image, plain(merged_base(base, {1: 0.8}), shot)) <= 1
    assert gap(image, plain(base, shot)) > 20


def check_batches(method: LoraMethod, base: Backbone, most_rows: int) -> None:
    """A batch is its shots one by one, in groups of two and of one, and leaves the base bit for bit."""
    shots, before = [make_shot(seed) for seed in (5, 6, 7)], fingerprint(base)
    together = draw(method, base, [1, 2], shots, replace(SMALL, most_rows=most_rows))
    assert same_base(before, fingerprint(base))
    alone = [draw(method, base, [1, 2], [shot]) for shot in shots[1:]]
    assert gap(together[1:], np.concatenate(alone)) <= 1


def check_restored(method: LoraMethod, base: Backbone) -> None:
    """The base is as it was when drawing fails."""
    before = fingerprint(base)
    try:
        draw(method, base, [1, 2], [make_shot(-1)])
    except Exception as error:
        assert "seed is -1" in str(error)
    else:
        raise AssertionError("a seed of -1 was drawn")
    assert same_base(before, fingerprint(base))


def check_rows(method: LoraMethod, base: Backbone, each: int) -> None:
    """Three concepts put so many rows through the U-Net at every step."""
    with counted_rows(base) as rows:
        draw(method, base, [1, 2, 3], [make_shot(words=("man", "dog", "cat"))])
    assert rows == [each] * SMALL.steps


def check_protocol(method: LoraMethod, base: Backbone) -> None:
    """Settings are few, different, and come back from what ``join`` gives; no shot gives no picture."""
    assert 1 <= len(method.settings) <= 4
    assert len({tuple(setting.items()) for setting in method.settings}) == len(method.settings)
    drawing = method.settings[0].keys() - method.learns_from.keys()
    assert all(setting.keys() - method.learns_from.keys() == drawing for setting in method.settings)
    assert method.draw(base, [learnt(base, 1)], {}, [], SMALL) == []
    run = method.join(base, [], method.settings[-1], 0)
    assert next(run) == 1.0
    try:
        next(run)
    except StopIteration as end:
        assert float(end.value["setting.strength"]) == method.settings[-1]["strength"]
    else:
        raise AssertionError("joining goes on")
