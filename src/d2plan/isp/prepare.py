"""Get a scene ready: defaults filled in, its words found, its prompts encoded each by its own model."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch

from d2plan.adapter.file import Adapter, check_base
from d2plan.adapter.rows import adapter_rows
from d2plan.backbone.load import Backbone
from d2plan.backbone.sdxl import TextStates, encode_prompts, join_states, latent_size, null_states
from d2plan.backbone.text import find_cut, unknown_words
from d2plan.config import IspSettings
from d2plan.documents import Scene
from d2plan.errors import InputError
from d2plan.isp.masks import Region
from d2plan.isp.tokens import Columns, Naming, find_columns


@dataclass(frozen=True, eq=False)
class PreparedScene:
    """A scene that the loop can run.

    Attributes:
        scene: every default resolved, every class word filled in.
        adapters: theta_1..theta_m, one an instance.
        regions: what masks need to know of each instance.
        columns: k and j of each instance.
        text: rows [no prompt | c_g | c_s^1 .. c_s^m].
        warnings: sentences for the reader of the result.
        seconds: the time that encoding took.
    """

    scene: Scene
    adapters: tuple[Adapter, ...]
    regions: tuple[Region, ...]
    columns: tuple[Columns, ...]
    text: TextStates
    warnings: tuple[str, ...]
    seconds: float

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the picture, pixels."""
        assert self.scene.height is not None and self.scene.width is not None
        return self.scene.height, self.scene.width

    @property
    def steps(self) -> int:
        """All denoising steps."""
        assert self.scene.steps is not None
        return self.scene.steps

    @property
    def warmup(self) -> int:
        """Steps of plain guidance at the start; all of them where there is nothing to compose."""
        assert self.scene.warmup is not None
        return self.scene.warmup if self.adapters else self.steps

    @property
    def guidance_scale(self) -> float:
        """The factor w."""
        assert self.scene.guidance_scale is not None
        return self.scene.guidance_scale

    @property
    def guided(self) -> bool:
        """Whether there is a row without the prompt; the stock pipeline has none at w <= 1."""
        return bool(self.adapters) or self.guidance_scale > 1


def resolve_scene(
    scene: Scene, backbone: Backbone, adapters: Sequence[Adapter], settings: IspSettings | None = None
) -> Scene:
    """Fill in what a scene leaves to its base and its adapters.

    Args:
        scene: as written.
        backbone: the base.
        adapters: one an instance, in the scene's order.
        settings: None takes the base's own.

    Returns:
        The scene without a None among its numbers and class words.

    Raises:
        InputError: there is another number of adapters than of instances, a warm-up longer than the steps, a
            picture size that the base cannot make, or an adapter without a class word.
    """
    if len(adapters) != len(scene.instances):
        raise InputError(f"The scene has {len(scene.instances)} instances, but {len(adapters)} adapters were given.")
    settings = settings or backbone.defaults.composing()
    steps = scene.steps or settings.steps
    warmup = int(settings.warmup_fraction * steps + 0.5) if scene.warmup is None else scene.warmup
    if warmup > steps:
        raise InputError(f"warmup is {warmup}, but must be 0..steps, and steps is {steps}.")
    height, width = scene.height or backbone.size[0], scene.width or backbone.size[1]
    latent_size(backbone, (height, width))
    instances = []
    for index, (instance, adapter) in enumerate(zip(scene.instances, adapters, strict=True)):
        word = instance.class_word or adapter.class_word
        if not word:
            raise InputError(f"instances[{index}].class_word is missing, and {_label(adapter)} states none; write it.")
        instances.append(instance.model_copy(update={"class_word": word}))
    scale = settings.guidance_scale if scene.guidance_scale is None else scene.guidance_scale
    numbers = {"steps": steps, "warmup": warmup, "guidance_scale": scale, "height": height, "width": width}
    return scene.model_copy(update={**numbers, "instances": tuple(instances)})


def prepare_scene(
    backbone: Backbone, scene: Scene, adapters: Sequence[Adapter] = (), settings: IspSettings | None = None
) -> PreparedScene:
    """Check a scene against its base and adapters, and encode its prompts.

    The global prompt and the negative one are read by the bare encoders, each sub-prompt by the encoders with that
    instance's adapter on.

    Args:
        backbone: the base.
        scene: what to compose.
        adapters: one an instance, in the scene's order.
        settings: None takes the base's own.

    Returns:
        The scene, ready for ``compose_steps``.

    Raises:
        InputError: a word is missing from its prompt, or a number cannot be used.
        AdapterError: an adapter belongs to another base.
    """
    started = time.perf_counter()
    resolved = resolve_scene(scene, backbone, adapters, settings)
    for adapter in adapters:
        check_base(adapter, backbone)
    namings = [
        Naming(instance.class_word or "", adapter.identifier, instance.sub_prompt)
        for instance, adapter in zip(resolved.instances, adapters, strict=True)
    ]
    columns = find_columns(backbone.tokenizers, resolved.global_prompt, namings)
    regions = tuple(Region(item.class_word or "", item.position, item.box) for item in resolved.instances)
    text = _encode(backbone, resolved, adapters)
    warnings = _warn(backbone, resolved, adapters)
    seconds = time.perf_counter() - started
    return PreparedScene(resolved, tuple(adapters), regions, columns, text, warnings, seconds)


@torch.no_grad()
def _encode(backbone: Backbone, scene: Scene, adapters: Sequence[Adapter]) -> TextStates:
    rows = [null_states(backbone, 1, scene.negative_prompt), encode_prompts(backbone, [scene.global_prompt])]
    if adapters:
        with ExitStack() as stack:
            for name, encoder in zip(("text_encoder", "text_encoder_2"), backbone.text_encoders, strict=True):
                stack.enter_context(adapter_rows(encoder, name, list(adapters)))
            rows.append(encode_prompts(backbone, [instance.sub_prompt for instance in scene.instances]))
    return join_states(rows)


def _warn(backbone: Backbone, scene: Scene, adapters: Sequence[Adapter]) -> tuple[str, ...]:
    warnings = []
    prompts = [("global_prompt", scene.global_prompt)]
    prompts += [(f"instances[{index}].sub_prompt", item.sub_prompt) for index, item in enumerate(scene.instances)]
    for field, prompt in prompts:
        if cut := find_cut(prompt, backbone):
            warnings.append(f'{field}: it is too long, and "{cut}" at its end is not read; shorten it.')
        for word, nearest in unknown_words(prompt, backbone):
            hint = f"; known words like it: {', '.join(nearest)}" if nearest else ""
            warnings.append(f'{field}: the base has never seen "{word}"{hint}.')
    for index, adapter in enumerate(adapters):
        if not adapter.identifier:
            stand_in = scene.instances[index].class_word
            warnings.append(f'instances[{index}]: {_label(adapter)} states no identifier; "{stand_in}" stands for it.')
    return tuple(warnings)


def _label(adapter: Adapter) -> str:
    return str(adapter.path or adapter.name)
