"""What is in an adapter file, told for people: also of a file that cannot be used."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from d2plan.adapter.adapter import Adapter, Models, is_idle
from d2plan.adapter.file import check_base, load_adapter
from d2plan.adapter.header import Header, read_content, read_header
from d2plan.adapter.inventory import Inventory, take_inventory
from d2plan.adapter.names import COMPONENTS
from d2plan.adapter.sdxl import ATTENTION, is_sdxl, sdxl_layers
from d2plan.adapter.sidecar import read_sidecar
from d2plan.errors import AdapterError

NAMING_WORDS = {
    "kohya": "Kohya, diffusers' block names",
    "sgm": "Kohya, SDXL's own block names",
    "diffusers": "diffusers",
    "peft": "PEFT",
    "": "unknown",
}
_PROGRAMS = (
    ("d2plan.base_fingerprint", "d2plan"),
    ("ot_revision", "OneTrainer"),
    ("ot_branch", "OneTrainer"),
    ("software", "ai-toolkit"),
    ("ss_network_module", "sd-scripts"),
    ("lora_adapter_metadata", "diffusers"),
)

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class Part:
    """The updates of one component.

    Attributes:
        component: "unet", "text_encoder" or "text_encoder_2".
        attention: attention layers that are updated.
        others: other linear layers that are.
        whole: attention layers that there are, in the base given or in SDXL; 0 when that is not known.
    """

    component: str
    attention: int
    others: int
    whole: int = 0


@dataclass(frozen=True)
class Report:
    """What an adapter file holds.

    Attributes:
        path: of the file.
        size: of the file, bytes.
        naming: of its tensors, in words.
        tensors: how many there are.
        program: that wrote it, as far as the header tells; else empty.
        trouble: why it cannot be used; empty when it can.
        parts: of the components that are updated.
        ranks: smallest and largest.
        scales: smallest and largest alpha / rank.
        formats: of the numbers, such as "F16", with counts of tensors.
        architecture: "SDXL", or "another size".
        words: name, class word, identifier, trigger phrase, base and more, as far as they are known.
        settings: of its training.
        sha256: of the file.
        intact: whether the tensors have the hash that the header states; None when it states none.
        notes: what a person should know.
    """

    path: Path
    size: int
    naming: str
    tensors: int
    program: str = ""
    trouble: str = ""
    parts: tuple[Part, ...] = ()
    ranks: tuple[int, int] = (0, 0)
    scales: tuple[float, float] = (0.0, 0.0)
    formats: Mapping[str, int] = field(default_factory=dict)
    architecture: str = ""
    words: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    sha256: str = ""
    intact: bool | None = None
    notes: tuple[str, ...] = ()


def inspect_file(path: str | Path, models: Models | None = None) -> Report:
    """Tell what a file holds; one that is a safetensors file and no usable adapter is told too, with the reason.

    Args:
        path: of the file.
        models: a base that it shall fit; without one it is judged alone.

    Returns:
        What it holds; with a base, the parts say how many of its attention layers are updated.

    Raises:
        FileError: it cannot be read.
        AdapterError: it is no safetensors file, or its header is damaged.
    """
    return _examine(Path(path), models)[0]


def verify_file(path: str | Path, models: Models | None = None) -> Report:
    """Make sure that a file can be used, to its last number.

    Args:
        path: of the file.
        models: a base that it shall fit; without one it is judged alone.

    Returns:
        What it holds, as from ``inspect_file``.

    Raises:
        FileError: it cannot be read.
        AdapterError: it cannot be used, does not fit, has no effect, or was changed after d2plan wrote it.
    """
    source = Path(path)
    report, adapter = _examine(source, models)
    if adapter is None:
        raise AdapterError(report.trouble)
    if is_idle(adapter):
        raise AdapterError(f"{source} has no effect: all of its {len(adapter.deltas)} updates are zero; train it.")
    if report.program == "d2plan" and report.intact is not True:
        raise AdapterError(f"{source} was changed after it was written (its tensors have another hash); copy it anew.")
    return report


def _examine(source: Path, models: Models | None) -> tuple[Report, Adapter | None]:
    header = read_header(source)
    held = take_inventory(header)
    formats = Counter(entry.dtype for entry in header.entries.values())
    report = Report(source, header.size, _tell_naming(held), held.total, _find_program(header), formats=dict(formats))
    try:
        adapter = load_adapter(source)
        if models is not None:
            check_base(adapter, models, other_weights=True)
    except AdapterError as error:
        return replace(report, trouble=str(error), parts=_count_parts(list(held.layers), ())), None
    known = is_sdxl(adapter.deltas)
    intact = _has_its_hash(source, header) if "sshs_model_hash" in header.words else None
    words = _tell_words(source, adapter)
    notes = _note(header, held, adapter, words)
    if intact is False:
        notes.append("its tensors were changed after it was trained (sshs_model_hash is another)")
    if models is not None and adapter.base_fingerprint not in ("", models.fingerprint):
        notes.append(f"it was trained on other weights ({adapter.base_fingerprint}, not {models.fingerprint})")
    report = replace(
        report,
        parts=_count_parts(list(adapter.deltas), _list_layers(models) if models else sdxl_layers() if known else ()),
        ranks=_range(delta.down.shape[0] for delta in adapter.deltas.values()),
        scales=_range(delta.scale for delta in adapter.deltas.values()),
        architecture="SDXL" if known else "another size",
        words=words,
        settings=dict(adapter.settings),
        sha256=adapter.sha256,
        intact=intact,
        notes=tuple(notes),
    )
    return report, adapter


def _tell_naming(held: Inventory) -> str:
    others = [NAMING_WORDS[name] for name in held.namings if name != held.naming]
    return " and ".join([NAMING_WORDS[held.naming], *others])


def _range(values: Iterable[Number]) -> tuple[Number, Number]:
    listed = sorted(values)
    return listed[0], listed[-1]


def _count_parts(paths: list[str], layers: Iterable[str]) -> tuple[Part, ...]:
    parts, there = [], [path for path in layers if path.endswith(ATTENTION)]
    for component in COMPONENTS:
        own = [path for path in paths if path.startswith(f"{component}.")]
        attention = sum(path.endswith(ATTENTION) for path in own)
        whole = sum(path.startswith(f"{component}.") for path in there)
        if own:
            parts.append(Part(component, attention, len(own) - attention, whole))
    return tuple(parts)


def _list_layers(models: Models) -> list[str]:
    parts = zip(COMPONENTS, (models.unet, *models.text_encoders), strict=True)
    return [
        f"{component}.{path}"
        for component, model in parts
        for path, layer in model.named_modules()
        if path.endswith(ATTENTION) and hasattr(layer, "in_features")
    ]


def _find_program(header: Header) -> str:
    return next((program for word, program in _PROGRAMS if word in header.words), "")


def _tell_words(source: Path, adapter: Adapter) -> dict[str, str]:
    header = adapter.header
    try:
        beside = read_sidecar(source).get("activation text", "")
    except AdapterError:
        # Another program's file beside this one takes nothing from it.
        beside = ""
    words = {
        "name": adapter.name,
        "class word": adapter.class_word,
        "identifier": adapter.identifier,
        "trigger phrase": adapter.trigger_phrase or beside,
        "base": adapter.base_fingerprint or header.get("ss_sd_model_name", ""),
        "title": header.get("modelspec.title", ""),
        "author": header.get("modelspec.author", ""),
        "licence": header.get("modelspec.license", ""),
        "date": header.get("modelspec.date", ""),
        "comment": header.get("ss_training_comment", ""),
    }
    return {name: text for name, text in words.items() if text}


def _note(header: Header, held: Inventory, adapter: Adapter, words: Mapping[str, str]) -> list[str]:
    notes = []
    lacking = sum("alpha" not in halves for halves in held.layers.values())
    if lacking and held.naming in ("kohya", "sgm"):
        notes.append(f"{lacking} of {len(held.layers)} layers have no alpha; their scale is 1")
    if held.naming in ("kohya", "sgm") and len({delta.alpha for delta in adapter.deltas.values()}) > 1:
        notes.append("its alphas differ, and stock diffusers takes one for all from a Kohya file; convert it for that")
    if held.naming in ("diffusers", "peft"):
        notes.append("ComfyUI, A1111 and InvokeAI do not open this naming; `d2plan adapter convert` makes a Kohya file")
    if not words.get("trigger phrase"):
        notes.append("the file names no trigger words; give them in the scene")
    if not any(path.startswith("unet.") for path in adapter.deltas):
        notes.append("it updates the text encoders alone")
    version = header.words.get("ss_base_model_version", "sdxl")
    if not version.lower().startswith("sdxl"):
        notes.append(f"its header says that its base is {version[:60]}, though its layers are SDXL's")
    return notes


def _has_its_hash(source: Path, header: Header) -> bool:
    content = read_content(source, header)
    payload = memoryview(content)[8 + int.from_bytes(content[:8], "little") :]
    return hashlib.sha256(payload).hexdigest() == header.words.get("sshs_model_hash")
