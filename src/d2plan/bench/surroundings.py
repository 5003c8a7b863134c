"""What a benchmark's numbers depend on besides the request: the machine, d2plan's own source, a method's code."""

from __future__ import annotations

import ast
import hashlib
import os
import platform
import subprocess
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import torch

from d2plan.backbone.load import Backbone
from d2plan.bench.protocol import Method
from d2plan.bench.records import Machine

_PACKAGES = ("d2plan", "torch", "diffusers", "transformers", "peft", "numpy", "pillow", "safetensors")
_PACKAGE = "d2plan"
# Rooms whose code decides what a method learns and draws; others read, check, write and tell, which decides no picture.
_ROOMS = ("bench", "isp", "dislora", "adapter", "backbone", "config", "eval", "world")
# What all methods stand on says how they are called, and changes nothing in what they do.
_COMMON = ("d2plan.bench.protocol", "d2plan.bench.registry")
_ROOT = Path(__file__).resolve().parent
_GIT_SECONDS = 10


def describe_machine(backbone: Backbone) -> Machine:
    """Say where it runs.

    Args:
        backbone: the base, for its device.

    Returns:
        The machine.
    """
    device = backbone.device
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Machine(
        system=f"{platform.system()} {platform.machine()}",
        processor=_name_processor(),
        cores=min(cores, torch.get_num_threads()) if device.type == "cpu" else cores,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        packages=dict(_read_versions()),
    )


@cache
def _read_versions() -> tuple[tuple[str, str], ...]:
    found = [("python", platform.python_version())]
    for name in _PACKAGES:
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            found.append((name, "not installed"))
    return tuple(found)


def read_commit() -> str:
    """Name the commit of d2plan's source.

    Returns:
        The commit, with "+changes" where files of the package differ from it; "" where it is not installed from a
        git checkout.
    """
    commit = _ask_git("rev-parse", "HEAD")
    # A package inside somebody else's repository, such as in a virtual environment there, is not of that commit.
    if not commit or not _ask_git("ls-files", "--error-unmatch", str(_ROOT.parent / "__init__.py")):
        return ""
    return commit + ("+changes" if _ask_git("status", "--porcelain", "--", str(_ROOT.parent)) else "")


def digest_method(method: Method) -> str:
    """Tell one version of a method's code from another.

    Comments, docstrings and layout do not count, so that to describe a method better costs no run again; neither do the
    places of modules in d2plan, so that to move one costs none.

    Args:
        method: any; the code of its own module, and of what that imports from d2plan to learn and draw with, counts,
            and its settings.

    Returns:
        16 hexadecimal digits.
    """
    # Two methods of one class differ by their fields.
    content = digest_module(type(method).__module__) + _describe(method)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


@cache
def digest_module(name: str, rooms: tuple[str, ...] = _ROOMS) -> str:
    """Tell one version of a module, with what it imports from d2plan's rooms, from another.

    Args:
        name: of the module.
        rooms: packages and modules of d2plan that count.

    Returns:
        16 hexadecimal digits.
    """
    return hashlib.sha256("\0".join(_read_modules(name, rooms)).encode()).hexdigest()[:16]


def _describe(method: Method) -> str:
    names = [field.name for field in fields(method)] if is_dataclass(method) else ["settings"]
    told = {name: repr(getattr(method, name)) for name in names if name != "learns_by"}
    # A module that a method names counts by its code, as those that it imports.
    learns_by = getattr(method, "learns_by", None)
    return repr((type(method).__name__, told, learns_by and digest_module(learns_by)))


def _read_modules(start: str, rooms: tuple[str, ...]) -> list[str]:
    """Read the bare code of a module and of all that it imports from rooms, in an order that no name decides."""
    found: dict[str, str] = {}
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name in found or name in _COMMON:
            continue
        found[name], imported = _read_module(name)
        waiting += [other for other in imported if other.startswith(_PACKAGE + ".") and other.split(".")[1] in rooms]
    return sorted(filter(None, found.values()))


@cache
def _read_module(name: str) -> tuple[str, tuple[str, ...]]:
    """Read a module's bare code and what it imports; nothing of one that has no file."""
    try:
        spec = find_spec(name)
    except ModuleNotFoundError:
        return "", ()
    if spec is None or spec.origin is None or not os.path.isfile(spec.origin):
        return "", ()
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    imported = tuple(_list_imports(tree))
    return _strip(tree), imported


def _list_imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            # What is imported from a package may be a module.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def _strip(tree: ast.Module) -> str:
    """Write a module without docstrings, positions and comments, and without where it imports d2plan's names from."""
    imports = _OwnImports()
    bare = imports.visit(tree)
    for node in ast.walk(bare):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [part for part in node.body if not _is_text(part)] or [ast.Pass()]
    return f"{sorted(imports.names)} {ast.dump(bare)}"


class _OwnImports(ast.NodeTransformer):
    """Takes out where in d2plan names come from, which changes with every move of a module, and notes the names."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom | None:
        if not node.level and (node.module or "").partition(".")[0] != _PACKAGE:
            return node
        self.names += [f"{alias.name} as {alias.asname}" for alias in node.names]
        return None


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


@cache
def _name_processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "unknown"


def _ask_git(*words: str) -> str:
    try:
        done = subprocess.run(
            ["git", *words], cwd=_ROOT, capture_output=True, text=True, check=False, timeout=_GIT_SECONDS
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
