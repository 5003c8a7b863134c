"""Random adapters and scenes for the tiny base."""

import torch
from torch import nn

from d2plan.adapter.file import Adapter, Delta
from d2plan.backbone.load import Backbone
from d2plan.config import IspSettings
from d2plan.documents import Instance, Scene
from d2plan.isp.prepare import PreparedScene, prepare_scene

_UNET = ("to_q", "to_k", "to_v", "to_out.0")
_TEXT = ("q_proj", "k_proj", "v_proj", "out_proj")


def random_adapter(backbone: Backbone, class_word: str, identifier: str, seed: int = 0, scale: float = 0.5) -> Adapter:
    """Make an adapter of rank 2 on every attention layer, strong enough to change every prediction."""
    rng = torch.Generator().manual_seed(seed)
    deltas: dict[str, Delta] = {}
    parts = (
        ("unet", backbone.unet, _UNET),
        *zip(("text_encoder", "text_encoder_2"), backbone.text_encoders, [_TEXT] * 2, strict=True),
    )
    for prefix, module, endings in parts:
        for path, layer in module.named_modules():
            if isinstance(layer, nn.Linear) and path.endswith(endings) and ("attn" in path):
                full = path if prefix == "unet" or path.startswith("text_model.") else f"text_model.{path}"
                down = torch.randn(2, layer.in_features, generator=rng) / layer.in_features**0.5
                up = torch.randn(layer.out_features, 2, generator=rng) * scale / 2**0.5
                deltas[f"{prefix}.{full}"] = Delta(down, up, 2.0)
    return Adapter(f"a {class_word}", class_word, identifier, backbone.fingerprint, 2, 2.0, deltas)


def man_and_dog(backbone: Backbone, seed: int = 0, **changes: object) -> PreparedScene:
    """A scene of two classes, 64 px, steps 4, warm-up 2."""
    scene = Scene(
        global_prompt="a photo of a man and a dog on the beach",
        instances=(
            Instance(concept="john.safetensors", sub_prompt="a photo of a <v1> man wearing sunglasses"),
            Instance(concept="rex.safetensors", sub_prompt="a photo of a <v2> dog running"),
        ),
        warmup=2,
        seed=seed,
        missing="mark",
        height=64,
        width=64,
    ).model_copy(update=changes)
    adapters = [random_adapter(backbone, "man", "<v1>", 1), random_adapter(backbone, "dog", "<v2>", 2)]
    return prepare_scene(backbone, scene, adapters)


def plain(backbone: Backbone, seed: int = 0, settings: IspSettings | None = None, **changes: object) -> PreparedScene:
    """A scene without instances, 64 px, warm-up 2."""
    scene = Scene(global_prompt="a photo of a man and a dog on the beach", seed=seed, warmup=2, height=64, width=64)
    return prepare_scene(backbone, scene.model_copy(update=changes), (), settings)


def two_men(backbone: Backbone, turned: bool = False, **places: tuple[object, object]) -> PreparedScene:
    """A scene of two instances of one class, 64 px; ``turned`` lists the second one first."""
    prompts = ("a photo of a <v1> man wearing sunglasses", "a photo of a <v2> man running")
    instances = [
        Instance(concept="a", sub_prompt=prompt, **{field: pair[number] for field, pair in places.items()})
        for number, prompt in enumerate(prompts)
    ]
    adapters = [random_adapter(backbone, "man", "<v1>", 1), random_adapter(backbone, "man", "<v2>", 2)]
    order = (1, 0) if turned else (0, 1)
    scene = Scene(
        global_prompt="a photo of a man and a man on the beach",
        instances=tuple(instances[number] for number in order),
        warmup=2,
        height=64,
        width=64,
        missing="mark",
    )
    return prepare_scene(backbone, scene, [adapters[number] for number in order])
