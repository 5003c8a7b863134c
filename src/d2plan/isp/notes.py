"""What a scene's reader should know before it is composed: words nobody knows, and what has no effect.

Sentences go into pictures, so they name files without the folders of the machine that they lie on.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from d2plan.adapter.adapter import Adapter, is_idle
from d2plan.backbone.load import Backbone
from d2plan.backbone.spatial import SpatialControl
from d2plan.backbone.text import find_cut, unknown_words
from d2plan.documents import Scene
from d2plan.isp.overrides import have_same_shape
from d2plan.isp.words import find_call

_TOLD = 8  # words of a cut end that are repeated


def call_adapter(adapter: Adapter) -> str:
    """Call an adapter by its file's name, or by its own where it lies in none.

    Args:
        adapter: any.

    Returns:
        Such as "rex.safetensors"; no folder.
    """
    return adapter.path.name if adapter.path else adapter.name


def tell_words(backbone: Backbone, scene: Scene, adapters: Sequence[Adapter]) -> list[str]:
    """Tell of what is not read of the prompts, of words that the base never saw, and of concepts called otherwise.

    Args:
        backbone: the base.
        scene: with its class words filled in.
        adapters: one an instance.

    Returns:
        Sentences for the reader of the result.
    """
    notes = []
    prompts = [("global_prompt", scene.global_prompt)]
    prompts += [(f"instances[{index}].sub_prompt", item.sub_prompt) for index, item in enumerate(scene.instances)]
    prompts += [("negative_prompt", scene.negative_prompt)] if scene.negative_prompt else []
    for field, prompt in prompts:
        if cut := find_cut(prompt, backbone):
            words = cut.split()
            told = f'"{cut}" at its end' if len(words) <= _TOLD else f'its end from "{" ".join(words[:_TOLD])}" on'
            notes.append(f"{field}: it is too long, and {told} is not read; shorten it.")
        for word, nearest in unknown_words(prompt, backbone):
            hint = f"; known words like it: {', '.join(nearest)}" if nearest else ""
            notes.append(f'{field}: the base has never seen "{word}"{hint}.')
    for index, (item, adapter) in enumerate(zip(scene.instances, adapters, strict=True)):
        if not find_call(item, adapter):
            what = f"instances[{index}]: {call_adapter(adapter)} states no identifier"
            notes.append(f'{what}; "{item.class_word}" stands for it.')
        learnt = adapter.class_word
        if learnt and learnt.casefold() != (item.class_word or "").casefold():
            what = f'instances[{index}].class_word is "{item.class_word}", but {call_adapter(adapter)} was trained on a'
            notes.append(f'{what} "{learnt}"; write that, unless you mean it so.')
    return notes


def tell_shapes(scene: Scene, images: Sequence[NDArray[np.uint8]], size: tuple[int, int]) -> list[str]:
    """Tell of drawings that are stretched to the picture's shape, as the stock pipeline does in silence.

    Args:
        scene: names them.
        images: ``[h, w, 3]``, one a control.
        size: height and width of the picture, pixels.

    Returns:
        Sentences for the reader of the result.
    """
    return [
        f"controls[{index}].image: {Path(item.image).name} is {image.shape[1]} x {image.shape[0]} pixels, another "
        f"shape than the picture's {size[1]} x {size[0]}, and was stretched to it; cut it to that shape."
        for index, (item, image) in enumerate(zip(scene.controls, images, strict=True))
        if not have_same_shape(image.shape[:2], size)
    ]


def tell_other_bases(backbone: Backbone, adapters: Sequence[Adapter], styles: Sequence[Adapter]) -> list[str]:
    """Tell which adapters were learnt on other weights than those that they are drawn with.

    Args:
        backbone: the base.
        adapters: one an instance.
        styles: one a style.

    Returns:
        Sentences for the reader of the result.
    """
    return [
        f"{field}: {call_adapter(adapter)} was learnt on the base {adapter.base_fingerprint}, not on "
        f"{backbone.fingerprint}, so it may look less like what it learnt."
        for field, adapter in _list_fields(adapters, styles)
        if adapter.base_fingerprint not in ("", backbone.fingerprint)
    ]


def _list_fields(adapters: Sequence[Adapter], styles: Sequence[Adapter]) -> list[tuple[str, Adapter]]:
    named = [(f"instances[{index}]", adapter) for index, adapter in enumerate(adapters)]
    return named + [(f"style[{index}]", adapter) for index, adapter in enumerate(styles)]


def tell_idle(
    scene: Scene, adapters: Sequence[Adapter], styles: Sequence[Adapter], controls: Sequence[SpatialControl]
) -> list[str]:
    """Tell what a scene asks for without any effect.

    Args:
        scene: with its numbers filled in.
        adapters: one an instance.
        styles: one a style.
        controls: ControlNets at work.

    Returns:
        Sentences for the reader of the result.
    """
    notes = [
        f"{field}: {call_adapter(adapter)} has no effect, because all of its updates are zero; train it."
        for field, adapter in _list_fields(adapters, styles)
        if is_idle(adapter)
    ]
    if adapters and scene.warmup == scene.steps:
        notes.append(f"warmup is {scene.warmup}, as many as steps, so that no instance is composed; lower it.")
    steps = scene.steps or 0
    for index, control in enumerate(controls):
        if control.strength and not any(control.acts(step, steps) for step in range(steps)):
            notes.append(
                f"controls[{index}] has no effect, because no whole step of {steps} lies in "
                f"{control.start:g}..{control.end:g}; widen it."
            )
    return notes
