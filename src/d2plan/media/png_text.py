"""What a picture says of itself: the texts inside a PNG, written for people, for other programs, and for us."""

import hashlib
import json
import os
import re
import warnings
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from d2plan.documents import RunRecord, parse_document, split_detector
from d2plan.errors import FileError, InputError

OWN, COMMON = "d2plan", "parameters"
_MOST_BYTES = 256 * 2**20
# What differs from run to run of one request, so that one request gives one file.
_COSTS = {"timings", "unet_calls", "unet_rows"}
_SAMPLERS = {
    "EulerDiscreteScheduler": "Euler",
    "EulerAncestralDiscreteScheduler": "Euler a",
    "DDIMScheduler": "DDIM",
    "DPMSolverMultistepScheduler": "DPM++ 2M",
    "DPMSolverSinglestepScheduler": "DPM++ 2S",
    "HeunDiscreteScheduler": "Heun",
    "LMSDiscreteScheduler": "LMS",
    "UniPCMultistepScheduler": "UniPC",
}


def write_texts(record: RunRecord) -> dict[str, str]:
    """Write what goes into the PNG: the request as JSON, and the lines that most image programs of the field show.

    Folders are left out, and so is what a run costs, so that one request gives one file and tells nobody where it
    was made.

    Args:
        record: of the run.

    Returns:
        The texts by their keywords, "d2plan" and "parameters".
    """
    content = record.model_dump(mode="json", exclude=_COSTS)
    scene = content["scene"]
    scene["base"] = _leave_out_folder(scene["base"])
    for item in (*scene["instances"], *scene["variant_of"]):
        item["concept"] = _last_part(item["concept"])
        item["mask"] = item["mask"] and _last_part(item["mask"])
    for item in scene["style"]:
        item["adapter"] = _last_part(item["adapter"])
    # What has a hash was a file or a folder, and is found again by its content, wherever the run was started.
    local = {use.field for use in record.files if use.sha256}
    for place, item in enumerate(scene["controls"]):
        item["image"] = _last_part(item["image"])
        item["model"] = _shorten(item["model"], f"controls[{place}].model" in local)
    parts = split_detector(record.scene)
    scene["detector"] = ",".join(_shorten(part, field in local) for field, part in parts.items()) or None
    for use in (*content["adapters"], *content["styles"], *content["kept"]):
        use["path"] = _last_part(use["path"])
    for use in content["files"]:
        use["path"] = _shorten(use["path"], use["field"] in local)
    return {OWN: json.dumps(content, ensure_ascii=False), COMMON: write_parameters(record)}


def write_parameters(record: RunRecord) -> str:
    """Write a record as A1111's "infotext": the prompt, the negative prompt, and one line of settings.

    Args:
        record: of the run.

    Returns:
        Two or three lines. Values that hold a comma, a colon or a line break stand in quotes, as that format wants.
    """
    scene = record.scene
    lines = [_one_line(scene.global_prompt)]
    if scene.negative_prompt:
        lines.append(f"Negative prompt: {_one_line(scene.negative_prompt)}")
    sampler = record.settings.get("sampler", "")
    settings: dict[str, object] = {
        "Steps": scene.steps,
        "Sampler": _SAMPLERS.get(sampler, sampler.removesuffix("Scheduler") or "Euler"),
        "CFG scale": scene.guidance_scale,
        "Seed": scene.seed,
        "Size": f"{scene.width}x{scene.height}",
        "Model hash": record.base_fingerprint,
        "Model": _leave_out_folder(scene.base),
        **_name_concepts(record),
        "Version": f"d2plan {record.versions.get('d2plan', '')}".strip(),
    }
    lines.append(", ".join(f"{name}: {_quote(str(value))}" for name, value in settings.items()))
    return "\n".join(lines)


def _name_concepts(record: RunRecord) -> dict[str, str]:
    settings = {}
    uses = (*record.adapters, *record.styles)
    if uses:
        stems = {Path(use.path).stem: use.sha256[:10] for use in uses}
        settings["Lora hashes"] = ", ".join(f"{stem}: {digest}" for stem, digest in stems.items())
    for number, instance in enumerate(record.scene.instances, start=1):
        settings[f"Sub-prompt {number}"] = _one_line(instance.sub_prompt)
    return settings


def read_texts(path: str | Path) -> dict[str, str]:
    """Read the texts inside a PNG.

    Args:
        path: a PNG file.

    Returns:
        The texts by their keywords.

    Raises:
        FileError: missing, no PNG, or damaged.
    """
    source = Path(path)
    try:
        if not source.is_file():
            raise FileError(f"{source}: is no file; give a PNG that d2plan made.")
        if source.stat().st_size > _MOST_BYTES:
            raise FileError(f"{source}: is larger than {_MOST_BYTES // 2**20} MiB; give a PNG that d2plan made.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(source, formats=("PNG",)) as picture:
                picture.load()
                return {str(key): str(text) for key, text in picture.info.items() if isinstance(text, str)}
    except FileError:
        raise
    except UnidentifiedImageError as error:
        raise FileError(f"{source}: is not a PNG; other formats lose what d2plan writes into a picture.") from error
    except OSError as error:
        raise FileError(f"{source}: cannot be read ({error.strerror or 'damaged or cut off'}).") from error
    except (SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise FileError(f"{source}: is damaged and cannot be decoded.") from error


def read_record(path: str | Path) -> RunRecord:
    """Read the record that stands inside a picture.

    Args:
        path: a PNG that d2plan wrote.

    Returns:
        The record; its paths are names without folders, its costs 0.

    Raises:
        FileError: the file cannot be read.
        InputError: no record of d2plan stands in it, or one that is damaged.
    """
    text = read_texts(path).get(OWN)
    if text is None:
        raise InputError(f'{path}: holds no "{OWN}" text; other programs drop it when they save a picture.')
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f'{path}: its "{OWN}" text is damaged; give the file as d2plan wrote it.') from error
    return parse_document(RunRecord, content, f'{path}: its "{OWN}" text')


def hash_file(path: Path) -> str:
    """Give the SHA-256 of a file's content.

    Args:
        path: the file.

    Returns:
        64 hexadecimal digits.

    Raises:
        FileError: the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error.strerror or error}).") from error


def _shorten(path: str, is_local: bool) -> str:
    return _last_part(path) if is_local else _leave_out_folder(path)


def _leave_out_folder(path: str) -> str:
    """Keep a hub's name and a word as they are, and of a path its last part."""
    return _last_part(path) if os.path.isabs(path) or path.startswith((".", "~")) or os.path.isdir(path) else path


def _last_part(path: str) -> str:
    return Path(path).name or path


def _one_line(text: str) -> str:
    # A line that starts with "Steps:" would be taken for the settings.
    return re.sub(r"\s*\n\s*", " ", text)


def _quote(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if re.search(r'[,:\n"]', value) else value
