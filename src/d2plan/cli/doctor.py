"""``d2plan doctor``: what works on this machine, what is missing, and what to do about it."""

import json
import os
import platform
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

import typer
from packaging.requirements import Requirement

from d2plan.cli.tell import tell
from d2plan.config import load_defaults
from d2plan.errors import D2PlanError
from d2plan.media.images import check_output, make_folder, write_file

MEMORY_NEEDED = 4.0
DISK_NEEDED = 1.0
SYMBOLS = {"ok": "ok     ", "note": "note   ", "missing": "MISSING"}
BASE_PARTS = ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")


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
        check_output(out, overwrite)
    findings = [
        _look_at_python(),
        *_look_at_packages(),
        _look_at_machine(),
        _try("disk", _look_at_disk),
        _try("device", lambda: _try_device(seed)),
        _try("base", lambda: look_at_base(base)),
        _look_at_judge(),
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
    """See whether a base model's parts lie in their places; reads no weights.

    Args:
        base: "mini", a folder, or a model's name on the hub.

    Returns:
        What was found.
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
    gone = [part for part in BASE_PARTS if not (folder / part).is_dir()]
    if gone:
        return Finding("base", "missing", f"{base} lacks {', '.join(gone)}; copy or download it again.")
    defaults = load_defaults(folder)
    return Finding("base", "ok", f"{base}, {defaults.width}x{defaults.height} px, {defaults.steps} steps a picture")


def _look_at_python() -> Finding:
    text = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Finding("python", "ok", text)


def _look_at_packages() -> list[Finding]:
    findings = []
    for line in requires("d2plan") or []:
        needed = Requirement(line)
        if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
            continue
        findings.append(_look_at_package(needed))
    return findings


def _look_at_package(needed: Requirement) -> Finding:
    try:
        found = version(needed.name)
    except PackageNotFoundError:
        return Finding(needed.name, "missing", f"not installed; run `pip install '{needed}'`.")
    if not needed.specifier.contains(found, prereleases=True):
        return Finding(needed.name, "missing", f"{found} does not do; run `pip install '{needed}'`.")
    return Finding(needed.name, "ok", found)


def _look_at_machine() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = _memory_in_gb()
    if memory is None:
        return Finding("machine", "ok", f"{cores} cores, memory not known")
    if memory < MEMORY_NEEDED:
        return Finding("machine", "note", f"{cores} cores, {memory:.1f} GB memory; the demo needs {MEMORY_NEEDED:.0f}.")
    return Finding("machine", "ok", f"{cores} cores, {memory:.1f} GB memory")


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


def _look_at_judge() -> Finding:
    if _asset_folder("judge").is_dir():
        return Finding("judge", "ok", "here; `d2plan score` works")
    return Finding("judge", "note", "not installed; `d2plan score` cannot judge pictures.")


def _asset_folder(name: str) -> Path:
    return Path(str(files("d2plan"))) / "assets" / name


def _try(name: str, look: Callable[[], Finding]) -> Finding:
    """Run a look that may break on a damaged installation, which is what a doctor must survive."""
    try:
        return look()
    except (D2PlanError, ImportError, OSError, RuntimeError) as error:
        return Finding(name, "missing", " ".join(str(error).split()) or type(error).__name__)
