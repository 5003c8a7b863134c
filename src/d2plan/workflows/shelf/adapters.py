"""Look at an adapter file, check it, or write it in another naming: paths in, files out.

None of it needs diffusers or transformers unless a base is opened.
"""

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from d2plan.adapter.file import SUFFIX, Adapter, Models, check_base, check_naming, load_adapter, save_adapter
from d2plan.adapter.header import read_header
from d2plan.adapter.inventory import take_inventory
from d2plan.adapter.names import NAMINGS, Naming
from d2plan.adapter.report import Report, inspect_file, verify_file
from d2plan.adapter.sidecar import SIDECAR_SUFFIX, write_sidecar
from d2plan.errors import InputError
from d2plan.media.images import check_output, make_folder, read_image, write_file, write_png

OpenBase = Callable[[], Models]
"""Opens a base. Given from outside, so that looking at a file alone loads no model library."""

THUMBNAIL_SUFFIX = ".png"


class Conversion(NamedTuple):
    """What was written.

    Attributes:
        adapter: as it is in its file.
        beside: the files written beside it.
        left_out: layers of the source that are not in it.
    """

    adapter: Adapter
    beside: tuple[Path, ...]
    left_out: int


def inspect_adapter(path: str | Path, open_base: OpenBase | None = None, out: str | Path | None = None) -> Report:
    """Tell what an adapter file holds, and why it cannot be used if it cannot.

    Args:
        path: of the file.
        open_base: opens a base that it shall fit, once the file is known to be one; None judges the file alone.
        out: a JSON file to write the report to; it must not be there yet.

    Returns:
        What it holds.

    Raises:
        FileError: it cannot be read, or ``out`` not written.
        AdapterError: it is no safetensors file, or its header is damaged.
    """
    source = _find_file(path, out)
    report = inspect_file(source, open_base() if open_base else None)
    return _write_report(report, out)


def verify_adapter(path: str | Path, open_base: OpenBase | None = None, out: str | Path | None = None) -> Report:
    """Make sure that an adapter file can be used, to its last number.

    Args:
        path: of the file.
        open_base: opens a base that it shall fit, as for ``inspect_adapter``.
        out: a JSON file to write the report to; it must not be there yet.

    Returns:
        What it holds.

    Raises:
        FileError: it cannot be read, or ``out`` not written.
        AdapterError: it cannot be used, has no effect, was changed, or does not fit the base.
    """
    source = _find_file(path, out)
    report = verify_file(source, open_base() if open_base else None)
    return _write_report(report, out)


def convert_adapter(
    path: str | Path,
    naming: str,
    out: str | Path | None = None,
    linear_only: bool = False,
    overwrite: bool = False,
    open_base: OpenBase | None = None,
) -> Conversion:
    """Write an adapter in another naming, with its sidecar and its thumbnail; the numbers stay as they are.

    Args:
        path: of the file to read.
        naming: "kohya", "sgm", "diffusers" or "peft".
        out: the file to write; without it the source's name with the naming behind it, in its folder.
        linear_only: leave out what d2plan cannot use, instead of refusing the file.
        overwrite: replace files that are there.
        open_base: opens a base that it shall fit.

    Returns:
        What was written.

    Raises:
        InputError: there is no such naming, or the file to write is the file to read.
        FileError: a file cannot be read, is there already, or cannot be written.
        AdapterError: the file cannot be used, does not fit the base, or has layers that the naming cannot name.
    """
    chosen: Naming | None = next((known for known in NAMINGS if known == naming), None)
    if chosen is None:
        raise InputError(f"--to is {naming!r}, but must be one of {', '.join(NAMINGS)}.")
    source = Path(os.path.expanduser(path))
    target = Path(os.path.expanduser(out)) if out else source.with_name(f"{source.stem}.{naming}{SUFFIX}")
    if target.suffix != SUFFIX:
        raise InputError(f"--out {target} is no name for an adapter; end it in {SUFFIX}.")
    if target.exists() and source.exists() and target.samefile(source):
        raise InputError(f"--out {target} is the file that is read; choose another name.")
    adapter = load_adapter(source, linear_only)
    if open_base is not None:
        check_base(adapter, open_base(), other_weights=True)
    check_naming(adapter, chosen, target)
    left_out = _count_left_out(source) if linear_only else 0
    thumbnail = source.with_suffix(THUMBNAIL_SUFFIX)
    sidecar = target.with_suffix(SIDECAR_SUFFIX)
    picture = target.with_suffix(THUMBNAIL_SUFFIX) if thumbnail.is_file() else None
    # Read before anything is written: a damaged one leaves nothing half done.
    shown = read_image(thumbnail) if picture else None
    for final in (target, sidecar, *([picture] if picture else [])):
        check_output(final, overwrite)
    make_folder(target.parent)
    beside = [write_sidecar(target, adapter)]
    if picture is not None and shown is not None:
        write_png(picture, shown)
        beside.append(picture)
    return Conversion(save_adapter(target, adapter, chosen), tuple(beside), left_out)


def report_json(report: Report) -> str:
    """Write a report down for programs.

    Args:
        report: of a file.

    Returns:
        One JSON table.
    """
    return json.dumps(asdict(report), default=str, sort_keys=True)


def _find_file(path: str | Path, out: str | Path | None) -> Path:
    source = Path(os.path.expanduser(path))
    read_header(source)
    if out is not None:
        check_output(os.path.expanduser(out))
    return source


def _write_report(report: Report, out: str | Path | None) -> Report:
    if out is not None:
        target = Path(os.path.expanduser(out))
        make_folder(target.parent)
        write_file(target, (report_json(report) + "\n").encode())
    return report


def _count_left_out(source: Path) -> int:
    held = take_inventory(read_header(source))
    return len(held.convolutions) + len(held.embeddings)
