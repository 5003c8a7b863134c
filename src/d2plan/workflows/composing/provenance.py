"""Where a picture comes from: the record of what made it, enough to make it again."""

import hashlib
import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from d2plan.adapter.file import Adapter
from d2plan.backbone.load import Backbone
from d2plan.config import IspSettings
from d2plan.documents import AdapterUse, Choice, FileUse, MaskReport, RunRecord, Scene, list_files
from d2plan.errors import FileError
from d2plan.isp.loop import Composition
from d2plan.isp.prepare import PreparedScene
from d2plan.media.png_text import hash_file

_PACKAGES = ("d2plan", "torch", "diffusers", "transformers", "peft")
_SAMPLES = 4096
# What a settings object says that a scene says itself.
_IN_SCENES = ("steps", "guidance_scale", "warmup_fraction", "short_warmup_fraction", "weave", "masks", "most_rows")


def record_run(
    composition: Composition,
    backbone: Backbone,
    styles: Sequence[Adapter] = (),
    choice: Choice | None = None,
    memory: str = "rows",
) -> RunRecord:
    """Write down what a composition did.

    Args:
        composition: the result.
        backbone: the base that it ran on.
        styles: the adapters that worked on every row.
        choice: how it was chosen, where it was.
        memory: how the engine ran.

    Returns:
        The record, enough to make the picture again.
    """
    prepared = composition.prepared
    masks = MaskReport(
        route=composition.route,
        confidence=composition.confidence,
        areas=composition.partition.areas,
        routes=composition.masks.routes,
        confidences=composition.masks.confidences,
        notes=composition.warnings,
    )
    planned = plan_record(prepared, styles, backbone, memory)
    found = {
        "read": (prepared.read.global_prompt, *prepared.read.sub_prompts),
        "masks": masks,
        "timings": composition.timings,
        "unet_calls": composition.unet_calls,
        "unet_rows": composition.unet_rows,
        "together": composition.together,
        "choice": choice,
    }
    return planned.model_copy(update=found)


def plan_record(
    prepared: PreparedScene, styles: Sequence[Adapter], backbone: Backbone, memory: str = "rows"
) -> RunRecord:
    """Write down what decides a picture, before it is made.

    Args:
        prepared: the scene and its adapters.
        styles: one a style.
        backbone: the base.
        memory: how the engine will run.

    Returns:
        A record without results.
    """
    scene = prepared.scene
    return RunRecord(
        scene=scene,
        base_fingerprint=backbone.fingerprint,
        vae_fingerprint=fingerprint_vae(backbone),
        adapters=_list_uses(prepared, backbone),
        kept=_list_uses(prepared.kept, backbone) if prepared.kept else (),
        styles=tuple(_use(backbone, adapter, item.adapter) for item, adapter in zip(scene.style, styles, strict=True)),
        files=hash_files(scene),
        masks=MaskReport(route="none", confidence=0),
        versions=read_versions(),
        machine={**read_machine(backbone), "memory": memory},
        settings=read_settings(backbone, scene),
        seed=scene.seed,
    )


def read_versions() -> dict[str, str]:
    """Name the versions of what a picture's bits depend on.

    Returns:
        Python's and the packages', by name.
    """
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def read_machine(backbone: Backbone) -> dict[str, str]:
    """Name what of this machine a picture's bits depend on.

    Args:
        backbone: an open base.

    Returns:
        Device, number format, and on a processor its kind of vectors and the threads.
    """
    device = backbone.device
    found = {"dtype": backbone.dtype_name}
    if device.type == "cuda":
        return {"device": torch.cuda.get_device_name(device), **found}
    vectors, threads = torch.backends.cpu.get_cpu_capability(), str(torch.get_num_threads())
    return {"device": device.type, **found, "vectors": vectors, "threads": threads}


def read_settings(backbone: Backbone, scene: Scene, settings: IspSettings | None = None) -> dict[str, str]:
    """Name how a base composes, where no scene says it.

    Args:
        backbone: the base.
        scene: what is composed.
        settings: None takes the base's own.

    Returns:
        The sampler and the engine's settings, by name.
    """
    sampler = "EulerDiscreteScheduler" if scene.scheduler == "euler" else type(backbone.scheduler).__name__
    values = asdict(settings or backbone.defaults.composing())
    return {"sampler": sampler, **{name: str(value) for name, value in values.items() if name not in _IN_SCENES}}


def fingerprint_vae(backbone: Backbone) -> str:
    """Tell one VAE from another; the base's own fingerprint leaves it out, because adapters do not depend on it.

    Args:
        backbone: the base.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(backbone.vae.state_dict().items()):
        flat = tensor.detach().reshape(-1)
        values = flat[:: max(1, flat.numel() // _SAMPLES)].to("cpu", torch.float16)
        digest.update(f"{name}{tuple(tensor.shape)}".encode() + values.numpy().tobytes())
    return digest.hexdigest()[:16]


def hash_files(scene: Scene) -> tuple[FileUse, ...]:
    """Hash the files that a scene names, besides the base and the adapters.

    Args:
        scene: the scene.

    Returns:
        One entry a file or folder; a name that is neither, such as one on the hub, has an empty hash.

    Raises:
        FileError: a file cannot be read.
    """
    return tuple(
        FileUse(field=field, path=path, sha256=hash_path(Path(path).expanduser()))
        for field, path in list_files(scene).items()
    )


def hash_path(path: Path) -> str:
    """Hash a file, or a folder by the names, the sizes and the settings files in it.

    A folder's weights are many gigabytes, so of each other file the size counts, its first and its last megabyte.

    Args:
        path: a file or a folder.

    Returns:
        64 hexadecimal digits; empty when nothing is there.

    Raises:
        FileError: it cannot be read.
    """
    if path.is_file():
        return hash_file(path)
    if not path.is_dir():
        return ""
    digest = hashlib.sha256()
    for file in sorted(entry for entry in path.rglob("*") if entry.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()} {file.stat().st_size} ".encode())
        digest.update(_read_ends(file))
    return digest.hexdigest()


def _read_ends(path: Path) -> bytes:
    part = 2**20
    try:
        with open(path, "rb") as file:
            head = file.read(part)
            file.seek(max(0, path.stat().st_size - part))
            return head + file.read(part)
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error.strerror or error}).") from error


def _list_uses(prepared: PreparedScene, backbone: Backbone) -> tuple[AdapterUse, ...]:
    return tuple(
        _use(backbone, adapter, item.concept, item.class_word or adapter.class_word, adapter.identifier)
        for item, adapter in zip(prepared.scene.instances, prepared.adapters, strict=True)
    )


def _use(backbone: Backbone, adapter: Adapter, path: str, class_word: str = "", identifier: str = "") -> AdapterUse:
    return AdapterUse(
        path=str(adapter.path or path),
        name=adapter.name,
        sha256=adapter.sha256,
        class_word=class_word,
        identifier=identifier,
        learnt_on=adapter.base_fingerprint if adapter.base_fingerprint != backbone.fingerprint else "",
    )
