"""Concept files of the tiny base, and scenes and series that name them."""

from pathlib import Path

import pytest
import yaml

from d2plan.adapter.file import save_adapter
from d2plan.backbone.load import load_backbone
from d2plan.workflows.composing.compose import RunOptions
from tests.isp.concepts import random_adapter

SCENE = {
    "global_prompt": "a photo of a man and a dog on the beach",
    "instances": [
        {"concept": "john.safetensors", "sub_prompt": "a photo of a <v1> man wearing sunglasses", "position": "left"},
        {"concept": "rex.safetensors", "sub_prompt": "a photo of a <v2> dog running"},
    ],
    "steps": 3,
    "warmup": 1,
    "height": 64,
    "width": 64,
    "seed": 7,
    "missing": "mark",
}
SERIES = {
    **SCENE,
    "variants": [
        {"name": "run"},
        {"name": "sit", "sub_prompts": [None, "a photo of a <v2> dog sitting"]},
        {"name": "max", "concepts": [None, "max.safetensors"]},
    ],
}


@pytest.fixture(scope="module")
def concepts(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with john (man <v1>), rex and max (dogs <v2>), and free and paint, which state no words."""
    folder = tmp_path_factory.mktemp("concepts")
    backbone = load_backbone(tiny_folder)
    known = {
        "john": ("man", "<v1>"),
        "rex": ("dog", "<v2>"),
        "max": ("dog", "<v2>"),
        "free": ("", ""),
        "paint": ("", ""),
    }
    for seed, (name, (word, identifier)) in enumerate(known.items()):
        save_adapter(folder / f"{name}.safetensors", random_adapter(backbone, word, identifier, seed))
    return folder


@pytest.fixture(scope="module")
def opened(tiny_folder: Path) -> RunOptions:
    """The tiny base, open, as an option: opening takes longer than a picture."""
    return {"backbone": load_backbone(tiny_folder)}


def write_request(folder: Path, base: Path, content: dict[str, object], **changes: object) -> Path:
    """Write a scene or a series beside the concepts; give its path."""
    path = folder / f"{len(list(folder.iterdir()))}.yaml"
    path.write_text(yaml.safe_dump({**content, "base": str(base), **changes}), encoding="utf-8")
    return path


def read_all(folder: Path) -> dict[str, bytes]:
    """All files of a folder by their names in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
