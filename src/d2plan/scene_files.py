"""The files that scenes and series name, and scenes and series as files. No torch here."""

import os
from pathlib import Path
from typing import TypeVar

from d2plan.errors import InputError
from d2plan.fields import Document
from d2plan.parsing import load_document
from d2plan.scenes import Scene, SceneFields, Series, Variant

Located = TypeVar("Located", bound=SceneFields)


def list_files(scene: Scene) -> dict[str, str]:
    """Name the files of a scene by the fields that name them, adapters and the base left out.

    Args:
        scene: the scene.

    Returns:
        Field, such as ``controls[0].image`` or ``detector``, to path.
    """
    found = {f"instances[{place}].mask": item.mask for place, item in enumerate(scene.instances) if item.mask}
    for place, control in enumerate(scene.controls):
        found[f"controls[{place}].model"] = control.model
        found[f"controls[{place}].image"] = control.image
    # A word or a name on the hub is no file; a detector's folders were made to stand on their own when they were read.
    return found | {field: path for field, path in split_detector(scene).items() if os.path.isabs(path)}


def split_detector(scene: SceneFields) -> dict[str, str]:
    """Name what a scene's detector is made of.

    >>> split_detector(Scene(global_prompt="a dog", masks="detect", detector="a/dino, b/sam"))
    {'detector[0]': 'a/dino', 'detector[1]': 'b/sam'}

    Args:
        scene: a scene or a series.

    Returns:
        Field to a word, a folder, a name on the hub or a plugin: one, or the two of a pair "DINO,SAM".
    """
    if scene.detector is None:
        return {}
    parts = [part.strip() for part in scene.detector.split(",")]
    if len(parts) != 2:
        return {"detector": scene.detector}
    return dict(zip(("detector[0]", "detector[1]"), parts, strict=True))


def locate_concepts(scene: Located, folder: Path) -> Located:
    """Make the relative paths of a scene or a series stand on their own.

    Paths that are not absolute are taken from the given folder: those of concepts, masks, styles and drawings
    always; those of a base when they start with a dot; those of ControlNets and detectors also when such a folder
    is there. ``~`` is the home folder.

    Args:
        scene: the scene or series as written.
        folder: where its file lies.

    Returns:
        The same with those paths joined to the folder.

    Raises:
        InputError: the folder's name is not UTF-8.
    """
    changes: dict[str, object] = {
        "instances": tuple(_locate(item, folder, "concept", "mask") for item in scene.instances),
        "style": tuple(_locate(item, folder, "adapter") for item in scene.style),
        "controls": tuple(
            _locate(item, folder, "image", *(("model",) if _is_local(item.model, folder) else ()))
            for item in scene.controls
        ),
    }
    if scene.base.startswith((".", "~")):
        changes["base"] = _join(folder, scene.base)
    if scene.detector is not None:
        parts = split_detector(scene).values()
        changes["detector"] = ",".join(_join(folder, part) if _is_local(part, folder) else part for part in parts)
    if isinstance(scene, Scene):
        changes["variant_of"] = tuple(_locate(item, folder, "concept", "mask") for item in scene.variant_of)
    if isinstance(scene, Series):
        changes["variants"] = tuple(_locate_variant(variant, folder) for variant in scene.variants)
    return scene.model_copy(update=changes)


def _locate_variant(variant: Variant, folder: Path) -> Variant:
    if variant.concepts is None:
        return variant
    concepts = tuple(None if path is None else _join(folder, path) for path in variant.concepts)
    return variant.model_copy(update={"concepts": concepts})


def _locate(item: Document, folder: Path, *fields: str) -> Document:
    paths = {field: getattr(item, field) for field in fields}
    return item.model_copy(update={field: _join(folder, path) for field, path in paths.items() if path is not None})


def _is_local(model: str, folder: Path) -> bool:
    return model.startswith((".", "~")) or (folder / model).exists()


def _join(folder: Path, path: str) -> str:
    joined = str(folder / os.path.expanduser(path))
    try:
        joined.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{joined!r} is not UTF-8, so no record could name it; rename the folder.") from error
    return joined


def load_request(kind: type[Located], path: str | Path) -> Located:
    """Read the file of a scene or a series; its relative paths are taken from the folder that it lies in.

    Args:
        kind: ``Scene`` or ``Series``.
        path: a YAML (or JSON) file.

    Returns:
        The scene or the series.

    Raises:
        FileError: the file cannot be read.
        InputError: it is something else, or a field is wrong or unknown; the sentence names it and what to do.
    """
    return locate_concepts(load_document(kind, path), Path(path).parent)


def load_scene(path: str | Path) -> Scene:
    """Read a scene file, as ``load_request`` does."""
    return load_request(Scene, path)


def load_series(path: str | Path) -> Series:
    """Read a series file, as ``load_request`` does."""
    return load_request(Series, path)
