"""``d2plan doctor``: what works on this machine, what is missing, and what to do about it."""

import json
import os
import platform
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from d2plan.adapter.header import read_header
from d2plan.cli.tell import tell
from d2plan.config import load_defaults
from d2plan.errors import D2PlanError, FileError

if TYPE_CHECKING:
    from packaging.requirements import Requirement

MEMORY_NEEDED = 4.0
DISK_NEEDED = 1.0
SYMBOLS = {"ok": "ok     ", "note": "note   ", "missing": "MISSING"}
# What must lie in a part of a base: one of these sets of files, and weights where it is a network.
_NETWORK, _TOKENIZER = (("config.json",),), (("tokenizer.json",), ("vocab.json", "merges.txt"))
BASE_PARTS = {
    "unet": _NETWORK,
    "vae": _NETWORK,
    "text_encoder": _NETWORK,
    "text_encoder_2": _NETWORK,
    "tokenizer": _TOKENIZER,
    "tokenizer_2": _TOKENIZER,
    "scheduler": (("scheduler_config.json",),),
}
# Networks that come with d2plan besides the base -> what needs them, and where they lie among the assets.
_OWN_NETWORKS = {
    "judge": ("`d2plan score`", [f"judge/{part}" for part in ("segmenter", "attributes", "identity", "place")]),
    "encoders": ("`d2plan score` and `d2plan bench`", ["encoders/clip", "encoders/vit"]),
    "seine": ("`d2plan video`", ["seine"]),
}
# Packages whose modules have other names.
_MODULES = {"pillow": "PIL", "pyyaml": "yaml", "opencv-python-headless": "cv2"}


@dataclass(frozen=True)
class Finding:
    """One thing looked at: its name, how it stands, and what was found or what to do."""

    name: str
    state: Literal["ok", "note", "missing"]
    text: str


def command(
    base: Annotated[str, typer.Option("--base", help="The base model to look for: mini, or a folder.")] = "mini",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Also write the findings here, as JSON.")] = None,
    seed: Annotated[
        int, typer.Option("--seed", min=0, max=2**63 - 1, help="Seed of the noise that tries the device.")
    ] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file of findings that is there.")] = False,
) -> None:
    """Say what works on this machine and what is missing; exit code 1 when something needed is missing."""
    if out is not None:
        # Here and not above: it needs numpy and Pillow, and what is missing shall be told.
        from d2plan.media.images import check_output, make_folder, write_file

        check_output(out, overwrite)
    findings = [
        _look_at_python(),
        *_look_at_packages(),
        _look_at_machine(),
        _try("disk", _look_at_disk),
        _try("device", lambda: _try_device(seed)),
        _try("base", lambda: look_at_base(base)),
        *(_look_at_networks(name) for name in _OWN_NETWORKS),
    ]
    for finding in findings:
        tell(f"{SYMBOLS[finding.state]}  {finding.name:<14} {finding.text}")
    if out is not None:
        make_folder(out.parent)
        write_file(out, (json.dumps([asdict(finding) for finding in findings], indent=2) + "\n").encode())
    missing = [finding.name for finding in findings if finding.state == "missing"]
    if missing:
        tell(f"Missing: {', '.join(missing)}.")
        raise typer.Exit(1)
    tell("Everything needed is here.")


def look_at_base(base: str) -> Finding:
    """See whether a base model's parts lie in their places and can be opened; reads no weights but their headers.

    Args:
        base: "mini", a folder, or a model's name on the hub.

    Returns:
        What was found.

    Raises:
        D2PlanError: a file in it is damaged.
    """
    folder = _asset_folder("mini") if base == "mini" else Path(os.path.expanduser(base))
    if not folder.is_dir():
        if base == "mini":
            return Finding(
                "base", "missing", "the embedded model is not installed; install d2plan from a full checkout."
            )
        if re.fullmatch(r"[\w.-]+/[\w.-]+", base):
            return Finding("base", "note", f"{base} is no folder; get it with `hf download {base}`, if not done yet.")
        return Finding("base", "missing", f"{base} is not a folder; name one in the diffusers SDXL layout.")
    gone = [] if (folder / "model_index.json").is_file() else ["model_index.json"]
    for part, choices in BASE_PARTS.items():
        gone += _find_gaps(folder, part, choices)
    if gone:
        return Finding("base", "missing", f"{base} lacks {', '.join(gone)}; copy or download it again.")
    defaults = load_defaults(folder)
    return Finding("base", "ok", f"{base}, {defaults.width}x{defaults.height} px, {defaults.steps} steps a picture")


def _look_at_python() -> Finding:
    text = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Finding("python", "ok", text)


def _find_gaps(folder: Path, part: str, choices: tuple[tuple[str, ...], ...]) -> list[str]:
    """Name what a part of a model lacks; a file that is there but damaged is an error."""
    place = folder / part
    if not place.is_dir():
        return [part]
    gone = min(([name for name in names if not (place / name).is_file()] for names in choices), key=len)
    for file in sorted(place.glob("*.json")):
        _read_fields(file)
    if choices is _NETWORK:
        weights = sorted(place.glob("*.safetensors"))
        shards = {name for file in place.glob("*.safetensors.index.json") for name in _list_shards(file)}
        gone += sorted(shards - {file.name for file in weights}) if weights else ["*.safetensors"]
        for file in weights:
            read_header(file)
    return [f"{part}/{name}" for name in gone]


def _list_shards(index: Path) -> set[str]:
    places = _read_fields(index).get("weight_map")
    return set(map(str, places.values())) if isinstance(places, dict) else set()


def _read_fields(file: Path) -> dict[str, object]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FileError(f"{file} cannot be read ({error}); copy or download it again.") from error
    if not isinstance(content, dict):
        raise FileError(f"{file} holds no fields; copy or download it again.")
    return content


def _look_at_packages() -> list[Finding]:
    try:
        from packaging.requirements import Requirement

        lines = requires("d2plan") or []
    except ModuleNotFoundError as error:
        name = str(error.name).partition(".")[0]
        text = f"not installed, so that no other package can be looked for; run `pip install {name}`."
        return [Finding(name, "missing", text)]
    wanted = [Requirement(line) for line in lines]
    needed = [one for one in wanted if _belongs(one, "")]
    findings = [_look_at_package(one, "") for one in needed]
    for extra in metadata("d2plan").get_all("Provides-Extra") or []:
        if extra != "dev":
            findings += [_look_at_package(one, extra) for one in wanted if one not in needed and _belongs(one, extra)]
    return findings


def _belongs(needed: "Requirement", extra: str) -> bool:
    return needed.marker is None or needed.marker.evaluate({"extra": extra})


def _look_at_package(needed: "Requirement", extra: str) -> Finding:
    # An extra is nothing that everybody needs.
    state: Literal["note", "missing"] = "note" if extra else "missing"
    remedy = f"run `pip install 'd2plan[{extra}]'` if you want it" if extra else f"run `pip install '{needed}'`"
    try:
        found = version(needed.name)
    except PackageNotFoundError:
        return Finding(needed.name, state, f"not installed; {remedy}.")
    if find_spec(_MODULES.get(needed.name.lower(), needed.name)) is None:
        return Finding(needed.name, state, f"{found} is damaged: its module is not there; {remedy}.")
    if not needed.specifier.contains(found, prereleases=True):
        return Finding(needed.name, state, f"{found} does not do; {remedy}.")
    return Finding(needed.name, "ok", found)


def _look_at_machine() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    counted = f"{cores} core{'s' * (cores > 1)}"
    memory = _memory_in_gb()
    if memory is None:
        return Finding("machine", "ok", f"{counted}, memory not known")
    if memory < MEMORY_NEEDED:
        return Finding("machine", "note", f"{counted}, {memory:.1f} GB memory; the demo needs {MEMORY_NEEDED:.0f}.")
    return Finding("machine", "ok", f"{counted}, {memory:.1f} GB memory")


def _memory_in_gb() -> float | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (AttributeError, ValueError, OSError):
        return None


def _look_at_disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    text = f"{free:.1f} GB free in the current folder"
    if not os.access(Path.cwd(), os.W_OK):
        return Finding("disk", "note", "the current folder cannot be written; give --out where it can.")
    if free < DISK_NEEDED:
        return Finding("disk", "note", f"{text}; make some room before the demo.")
    return Finding("disk", "ok", text)


def _try_device(seed: int) -> Finding:
    torch = import_module("torch")
    name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    noise = torch.randn(64, 64, generator=torch.Generator("cpu").manual_seed(seed)).to(name)
    product = noise @ noise.T
    if not bool(torch.isfinite(product).all()):
        return Finding("device", "missing", f"{name} computes values that are not finite; use --device cpu.")
    shown = torch.cuda.get_device_name(0) if name == "cuda" else f"{torch.get_num_threads()} threads"
    return Finding("device", "ok", f"{name}, {shown}")


def _look_at_networks(name: str) -> Finding:
    """See whether networks that come with d2plan are there; everything else works without them."""
    user, parts = _OWN_NETWORKS[name]
    try:
        gone = [gap for part in parts for gap in _find_gaps(_asset_folder("."), part, _NETWORK)]
    except D2PlanError as error:
        return Finding(name, "note", f"{error} {user} cannot use it.")
    if gone:
        return Finding(name, "note", f"{', '.join(gone)} not installed; {user} cannot do without.")
    return Finding(name, "ok", f"here, for {user}")


def _asset_folder(name: str) -> Path:
    return Path(str(files("d2plan"))) / "assets" / name


def _try(name: str, look: Callable[[], Finding]) -> Finding:
    """Run a look that may break on a damaged installation, which is what a doctor must survive."""
    try:
        return look()
    except (D2PlanError, ImportError, OSError, RuntimeError) as error:
        return Finding(name, "missing", " ".join(str(error).split()) or type(error).__name__)
