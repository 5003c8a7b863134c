"""A run's folder: image.png, masks.png, masks/ and run.json, all there or none."""

import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from d2plan.backbone.load import Backbone
from d2plan.documents import AdapterUse, MaskReport, RunRecord, Scene
from d2plan.errors import FileError, InputError
from d2plan.isp.loop import Composition
from d2plan.media.images import Picture, write_file, write_png

IMAGE, MASKS, MASK_FOLDER, RECORD = "image.png", "masks.png", "masks", "run.json"
# Colours that stay apart for most colour-blind eyes (Okabe and Ito), in the order of the instances.
COLOURS = (
    ((0, 114, 178), "blue"),
    ((230, 159, 0), "orange"),
    ((0, 158, 115), "green"),
    ((204, 121, 167), "pink"),
    ((86, 180, 233), "light blue"),
    ((213, 94, 0), "red"),
    ((240, 228, 66), "yellow"),
)
_PACKAGES = ("d2plan", "torch", "diffusers", "transformers", "peft")
_SHORTER_SIDE = 384


@contextmanager
def open_run(out: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """Give an empty folder to write a run into; it takes its final name when the block ends well, else it is removed.

    Args:
        out: the final folder; its parents are made.
        overwrite: allow a folder that is not empty: the files of the run replace those of the same names, the record
            last; other files stay.

    Yields:
        The folder to write into, beside the final one, or inside it where it is there already.

    Raises:
        InputError: the final folder is not empty and ``overwrite`` is off, or it holds masks of no run.
        FileError: it is a file, or cannot be written.
    """
    target = Path(os.path.expanduser(out))
    check_out(target, overwrite)
    if (target / MASK_FOLDER).exists() and not (target / RECORD).exists():
        raise InputError(f"{target}: its {MASK_FOLDER} belong to no run and would be lost; name another folder.")
    try:
        # A folder that is there stays what it is: the current one, a link, the root of another disk.
        place = target if target.is_dir() else target.parent
        place.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name[:100]}.", suffix=".part", dir=place))
    except OSError as error:
        raise FileError(
            f"{target}: cannot be written here ({error.strerror or error}); choose another folder."
        ) from error
    try:
        yield staging
        check_out(target, overwrite, staging)
        try:
            _publish(staging, target)
        except OSError as error:
            raise FileError(f"{target}: cannot be written ({error.strerror or error}); choose another.") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def check_out(out: Path, overwrite: bool, own: Path | None = None) -> None:
    """Refuse an output folder that holds something.

    Args:
        out: the folder.
        overwrite: allow it to hold something.
        own: what may lie in it.

    Raises:
        InputError: it is not empty and ``overwrite`` is off.
        FileError: it is a file or a link to nothing, or cannot be looked into.
    """
    try:
        if not out.exists():
            if out.is_symlink():
                raise FileError(f"{out}: is a link to nothing; remove it, or name another folder.")
            return
        if not out.is_dir():
            raise FileError(f"{out}: is a file; name a folder that is new or empty.")
        if not overwrite and any(path != own for path in out.iterdir()):
            raise InputError(f"{out}: is not empty; name another folder, or allow it with --overwrite.")
    except OSError as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"{out}: cannot be looked into ({error.strerror or error}); choose another.") from error


def record_run(composition: Composition, backbone: Backbone) -> RunRecord:
    """Write down what a composition did.

    Args:
        composition: the result.
        backbone: the base that it ran on.

    Returns:
        The record, enough to make the picture again.
    """
    prepared = composition.prepared
    uses = tuple(
        AdapterUse(
            path=str(adapter.path or instance.concept),
            name=adapter.name,
            sha256=adapter.sha256,
            class_word=instance.class_word or adapter.class_word,
            identifier=adapter.identifier,
        )
        for instance, adapter in zip(prepared.scene.instances, prepared.adapters, strict=True)
    )
    masks = MaskReport(
        route=composition.route,
        confidence=composition.confidence,
        areas=composition.partition.areas,
        notes=composition.warnings,
    )
    return RunRecord(
        scene=prepared.scene,
        base_fingerprint=backbone.fingerprint,
        adapters=uses,
        masks=masks,
        timings=composition.timings,
        unet_calls=composition.unet_calls,
        unet_rows=composition.unet_rows,
        versions=read_versions(),
        seed=prepared.scene.seed,
    )


def write_run(folder: Path, composition: Composition, record: RunRecord) -> None:
    """Write a run's files; the record comes last, so that a folder with a record is whole.

    Args:
        folder: an empty one, from ``open_run``.
        composition: the result.
        record: from ``record_run``.

    Raises:
        FileError: a file cannot be written.
    """
    write_png(folder / IMAGE, composition.image, write_texts(record))
    if record.adapters:
        names = [f"{use.name} ({use.class_word})" for use in record.adapters]
        masks = composition.partition.masks[1:].numpy()
        write_png(folder / MASKS, draw_masks(composition.image, masks, names))
        (folder / MASK_FOLDER).mkdir()
        for index, mask in enumerate(masks):
            # White is the instance's own area; numbered as in the scene, from 0.
            write_png(folder / MASK_FOLDER / f"{index:02d}.png", _scale_mask(mask, composition.image.shape[:2]))
    write_file(folder / RECORD, (record.model_dump_json(indent=2) + "\n").encode())


def write_texts(record: RunRecord) -> dict[str, str]:
    """Write what goes into the PNG: the request as JSON, and the line that most image viewers of the field show.

    Folders are left out, and so is what differs from run to run, so that one request gives one file.

    Args:
        record: of the run.

    Returns:
        The texts by their keywords.
    """
    content = record.model_dump(mode="json", exclude={"timings"})
    content["scene"]["base"] = Path(record.scene.base).name if Path(record.scene.base).is_dir() else record.scene.base
    for entry in content["scene"]["instances"]:
        entry["concept"] = Path(entry["concept"]).name
    for entry in content["adapters"]:
        entry["path"] = Path(entry["path"]).name
    parameters = _write_parameters(record.scene, content["scene"]["base"], record.base_fingerprint)
    return {"d2plan": json.dumps(content, ensure_ascii=False), "parameters": parameters}


def draw_masks(image: Picture, masks: NDArray[np.float32], names: list[str]) -> Picture:
    """Lay each instance's mask over the picture in a colour of its own, with a legend below.

    Args:
        image: ``[h, w, 3]``, 0..255.
        masks: M_1..M_m, ``[m, a, b]``, 0..1, any resolution.
        names: what the legend calls each.

    Returns:
        ``[h', w', 3]``, 0..255, at least 384 pixels wide and high.
    """
    scale = max(1, -(-_SHORTER_SIDE // min(image.shape[:2])))
    size = (image.shape[1] * scale, image.shape[0] * scale)
    grey = Image.fromarray(image).convert("L").convert("RGB").resize(size, Image.Resampling.BICUBIC)
    shown = np.asarray(grey, dtype=np.float32) * 0.75 + 40
    for index, mask in enumerate(masks):
        soft = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.BILINEAR)).clip(0, 1)[..., None]
        colour = np.array(COLOURS[index % len(COLOURS)][0], dtype=np.float32)
        shown = shown * (1 - 0.55 * soft) + colour * 0.55 * soft
    line = 26
    sheet = Image.new("RGB", (size[0], size[1] + line * len(names) + 8 * bool(names)), (255, 255, 255))
    sheet.paste(Image.fromarray(shown.clip(0, 255).astype(np.uint8)), (0, 0))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for index, (name, mask) in enumerate(zip(names, masks, strict=True)):
        top = size[1] + 8 + index * line
        colour_values, colour_name = COLOURS[index % len(COLOURS)]
        draw.rectangle((8, top, 24, top + 16), fill=colour_values)
        area = f"{float(mask.mean()):.0%} of the picture" if mask.any() else "NO AREA"
        draw.text((34, top), f"{name}: {colour_name}, {area}", (30, 30, 30), font)
    return np.asarray(sheet)


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


def _write_parameters(scene: Scene, base: str, fingerprint: str) -> str:
    lines = [scene.global_prompt]
    if scene.negative_prompt:
        lines.append(f"Negative prompt: {scene.negative_prompt}")
    lines.append(
        f"Steps: {scene.steps}, Sampler: Euler, CFG scale: {scene.guidance_scale}, Seed: {scene.seed}, "
        f"Size: {scene.width}x{scene.height}, Model hash: {fingerprint}, Model: {base}, Version: d2plan"
    )
    return "\n".join(lines)


def _scale_mask(mask: NDArray[np.float32], size: tuple[int, ...]) -> NDArray[np.uint8]:
    scaled = Image.fromarray(mask).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return (np.asarray(scaled).clip(0, 1) * 255).round().astype(np.uint8)


def _publish(staging: Path, target: Path) -> None:
    if not target.exists():
        staging.chmod(0o755)
        os.replace(staging, target)
        return
    # A folder without a record is no run, so the record goes first and comes last.
    for name in (RECORD, IMAGE, MASKS):
        (target / name).unlink(missing_ok=True)
    shutil.rmtree(target / MASK_FOLDER, ignore_errors=True)
    for path in sorted(staging.iterdir(), key=lambda path: path.name == RECORD):
        os.replace(path, target / path.name)
