"""Make a picture again from what stands inside it, and say what is missing or differs where that cannot be."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import numpy as np

from d2plan.backbone.load import MINI, PRECISIONS, Backbone, find_base, fingerprint_base
from d2plan.documents import AdapterUse, RunRecord, Scene, list_files, load_run, split_detector
from d2plan.errors import D2PlanError, FileError, InputError
from d2plan.isp.loop import Composition, compose_steps, warm_up_steps
from d2plan.media.images import Picture, read_image
from d2plan.media.png_text import hash_file, read_record
from d2plan.workflows.composing.compose import (
    Report,
    RunOptions,
    check_options,
    drain,
    engine_options,
    open_scenes_base,
    prepare_request,
    say_nothing,
)
from d2plan.workflows.composing.differences import compare_machines, compare_requests
from d2plan.workflows.composing.provenance import hash_path, record_run
from d2plan.workflows.composing.requests import (
    AdapterShelf,
    ExtrasShelf,
    Request,
    check_identifiers,
    open_request,
    read_request,
)
from d2plan.workflows.runs.detectors import GROUNDED, JUDGE
from d2plan.workflows.runs.folder import IMAGE, RECORD, open_run, write_run

_MOST_FILES = 20_000
_DIGITS = 12


@dataclass(frozen=True)
class Sources:
    """Where everything lies that a picture was made from.

    Attributes:
        record: what stands inside the picture.
        scene: its scene, with paths of this machine.
        missing: one clause for each thing that is not there, or is there with another content.
        by_name: one clause for each thing of which the picture knows a name alone, so that nothing can be compared.
    """

    record: RunRecord
    scene: Scene
    missing: tuple[str, ...]
    by_name: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reproduction:
    """How a picture came out when it was made again.

    Attributes:
        folder: its run folder.
        same_bytes: the file is the same, byte for byte.
        same_pixels: the picture is the same.
        changed: the part of the pixels that differ, 0..1.
        largest: by how much at most, 0..255.
        differences: one clause for each thing that was otherwise: versions, device, settings.
    """

    folder: Path
    same_bytes: bool
    same_pixels: bool
    changed: float
    largest: int
    differences: tuple[str, ...]


def find_sources(image: str | Path, base: str | None = None, search: Sequence[str | Path] = ()) -> Sources:
    """Find what a picture was made from.

    A file counts when its content has the hash that stands in the picture, whatever its name. It is looked for where
    the ``run.json`` beside the picture says, in the folders to search and all below them, beside the picture, and in
    the current folder.

    Args:
        image: a PNG that d2plan wrote, or its run folder.
        base: where the base is, in the place of the one that is named.
        search: folders that hold adapters, masks and drawings.

    Returns:
        The scene with paths of this machine, and what is missing.

    Raises:
        InputError: no record stands in the picture.
        FileError: the picture or a folder cannot be read.
    """
    path = find_picture(image)
    record = read_record(path)
    _check_record(path, record)
    finder = _Finder(path.parent, [Path(folder).expanduser() for folder in search], _read_neighbour(path, record))
    missing: list[str] = []
    base = _find_base(record, base, finder.neighbour, missing)
    found: dict[str, str] = {}
    for field, use in _name_uses(record).items():
        found[field] = finder.find(field, use.path, use.sha256, hash_file, missing, _describe(use))
    for file in record.files:
        if file.sha256:
            found[file.field] = finder.find(file.field, file.path, file.sha256, hash_path, missing)
    scene = _put_paths(record.scene, found).model_copy(update={"base": base})
    return Sources(record, scene, tuple(missing), _tell_names(record))


def _tell_names(record: RunRecord) -> tuple[str, ...]:
    """Name what has no hash: a ControlNet or a detector on the hub, or a user's own detector."""
    hashed = {file.field for file in record.files if file.sha256}
    names = {f"controls[{place}].model": item.model for place, item in enumerate(record.scene.controls)}
    if record.scene.masks == "detect":
        names |= split_detector(record.scene) or {"detector": GROUNDED if record.scene.base != MINI else JUDGE}
    return tuple(f"{field} ({name})" for field, name in names.items() if field not in hashed and name != JUDGE)


def _check_record(path: Path, record: RunRecord) -> None:
    """Refuse a record that does not fit itself; whoever sent the picture may have written into it."""
    scene, known = record.scene, {**list_files(record.scene), **split_detector(record.scene)}
    pairs = ((record.adapters, scene.instances), (record.styles, scene.style), (record.kept, scene.variant_of))
    fits = all(len(uses) == len(items) for uses, items in pairs)
    if not fits or any(file.field not in known for file in record.files):
        raise InputError(f"{path}: what stands in it contradicts itself; give the file as d2plan wrote it.")


def _name_uses(record: RunRecord) -> dict[str, AdapterUse]:
    uses = {f"instances[{place}].concept": use for place, use in enumerate(record.adapters)}
    uses |= {f"variant_of[{place}].concept": use for place, use in enumerate(record.kept)}
    return uses | {f"style[{place}].adapter": use for place, use in enumerate(record.styles)}


def _put_paths(scene: Scene, paths: dict[str, str]) -> Scene:
    """Put paths into a scene by the full names of its fields."""
    detector = ",".join(paths.get(field, part) for field, part in split_detector(scene).items())
    changes: dict[str, object] = {"detector": detector or None}
    # The masks of what a scene is a variant of are its own.
    paths |= {
        f"variant_of[{place}].mask": paths[f"instances[{place}].mask"]
        for place in range(len(scene.variant_of))
        if f"instances[{place}].mask" in paths
    }
    for field in ("instances", "variant_of", "style", "controls"):
        items = getattr(scene, field)
        changes[field] = tuple(
            item.model_copy(
                update={
                    name: paths[f"{field}[{place}].{name}"]
                    for name in type(item).model_fields
                    if f"{field}[{place}].{name}" in paths
                }
            )
            for place, item in enumerate(items)
        )
    return scene.model_copy(update=changes)


def check_sources(path: Path, sources: Sources) -> None:
    """Refuse to go on with something missing.

    Args:
        path: of the picture.
        sources: of it.

    Raises:
        InputError: something is missing; the sentence names everything that is.
    """
    if sources.missing:
        raise InputError(f"{path} cannot be made again: {'; '.join(sources.missing)}.")


def reproduce(
    image: str | Path,
    out: str | Path,
    base: str | None = None,
    search: Sequence[str | Path] = (),
    overwrite: bool = False,
    on_progress: Report | None = None,
    seed: int | None = None,
    **options: Unpack[RunOptions],
) -> Reproduction:
    """Make a picture again: the same bytes on the same machine with the same versions.

    Args:
        image: a PNG that d2plan wrote, or its run folder.
        out: the new run's folder, new or empty.
        base: where the base is, in the place of the one that is named.
        search: folders that hold adapters, masks and drawings.
        overwrite: replace the run that the folder holds, as ``compose`` does.
        on_progress: called with (what is happening, steps done, steps in all).
        seed: make the same scene with another seed; that is another picture, of course.
        **options: see ``RunOptions``; memory is the picture's own without one.

    Returns:
        Whether it is the same, and what was otherwise.

    Raises:
        InputError: no record stands in the picture, or something that it was made from is missing; the sentence
            names everything that is.
        FileError: a file cannot be read or written.
    """
    check_options(options)
    report = on_progress or say_nothing
    path = find_picture(image)
    sources = find_sources(path, base, search)
    check_sources(path, sources)
    memory = options.get("memory") or sources.record.machine.get("memory", "rows")
    names = {str(dtype).removeprefix("torch."): name for name, dtype in PRECISIONS.items()}
    precision = options.get("precision")
    if precision is None and "backbone" not in options:
        precision = names.get(sources.record.machine.get("dtype", ""))
    chosen: RunOptions = {**options, "memory": memory, "precision": precision}  # type: ignore[typeddict-item]  # checked by check_options
    check_options(chosen)
    original = path.read_bytes()
    pixels = read_image(path)
    request = open_request(read_request(Scene, sources.scene, seed=seed), AdapterShelf())
    with open_run(out, overwrite) as folder:
        backbone = open_scenes_base([request.scene], report, chosen)
        shares = sources.record.shared_start and not request.scene.variant_of
        composition = _compose(backbone, request, chosen, report, shares)
        choice = sources.record.choice if seed is None else None
        record = record_run(composition, backbone, request.styles, choice, str(memory))
        record = record.model_copy(update={"shared_start": sources.record.shared_start})
        write_run(folder, composition, record, _call_as_before(record, sources.record))
        same = (folder / IMAGE).read_bytes() == original
    changed, largest = _measure(pixels, composition.image)
    unknown = [f"{name} may be another one now; the picture knows its name alone" for name in sources.by_name]
    differences = (
        *compare_requests(sources.record, record),
        *compare_machines(sources.record, record),
        *(unknown if largest else ()),
    )
    return Reproduction(Path(os.path.expanduser(out)), same, largest == 0, changed, largest, differences)


def _compose(backbone: Backbone, request: Request, options: RunOptions, report: Report, shares: bool) -> Composition:
    check_identifiers(request, backbone)
    prepared = prepare_request(backbone, request, ExtrasShelf(backbone))
    engine = engine_options(options)
    # A series' beginning hangs on nothing that its variants differ in, so one variant is enough to make it again.
    start = drain(warm_up_steps(backbone, prepared, options=engine), report, "the shared beginning") if shares else None
    (composition,) = drain(compose_steps(backbone, [prepared], options=engine, shared=start), report)
    return composition


def find_picture(image: str | Path) -> Path:
    """Take a picture, or the one in a run folder.

    Args:
        image: either.

    Returns:
        The picture's path.

    Raises:
        FileError: nothing is there.
    """
    path = Path(os.path.expanduser(image))
    path = path / IMAGE if path.is_dir() else path
    if not path.is_file():
        raise FileError(f"{path}: is not there; give a PNG that d2plan made, or its run folder.")
    return path


class _Finder:
    """Looks for files by their content."""

    def __init__(self, home: Path, search: Sequence[Path], neighbour: RunRecord | None) -> None:
        for folder in search:
            if not folder.is_dir():
                raise FileError(f"{folder}: is not a folder; give one that holds adapters.")
        self.neighbour = neighbour
        self._home, self._search = home, search
        self._hashes: dict[Path, str] = {}
        self._hints = _list_paths(neighbour) if neighbour else {}

    def find(
        self,
        field: str,
        name: str,
        sha256: str,
        hash_content: Callable[[Path], str],
        missing: list[str],
        about: str = "",
    ) -> str:
        """Find a file; where there is none, add a clause to ``missing`` and give its name."""
        other: Path | None = None
        for path in self._places(field, Path(name).name, hash_content is hash_path):
            if not path.exists():
                continue
            if self._hash(path, hash_content) == sha256:
                return str(path.resolve())
            other = other or (path if path.name == Path(name).name else None)
        what = f"{field} ({Path(name).name}{about}) "
        if other is not None:
            now = self._hash(other, hash_content)[:_DIGITS] or "unknown"
            missing.append(f"{what}has another content in {other}: SHA-256 was {sha256[:_DIGITS]} and is {now}")
        else:
            missing.append(f"{what}is not found, SHA-256 {sha256[:_DIGITS]}; name its folder with --search")
        return name

    def _hash(self, path: Path, hash_content: Callable[[Path], str]) -> str:
        if path not in self._hashes:
            try:
                self._hashes[path] = hash_content(path)
            except FileError:
                # One file that cannot be read, among many that are looked through, is not the one.
                self._hashes[path] = ""
        return self._hashes[path]

    def _places(self, field: str, name: str, may_be_folder: bool) -> Iterator[Path]:
        if field in self._hints:
            yield Path(self._hints[field])
        folders = [self._home, self._home.parent, Path.cwd()]
        yield from (folder / name for folder in folders)
        suffix = Path(name).suffix
        every = [path for folder in self._search for path in _walk(folder)]
        yield from (path for path in every if path.name == name)
        # What was renamed comes last: each has to be read.
        yield from (path for path in every if path.name != name and path.suffix == suffix and path.is_file())
        if may_be_folder:
            yield from (path for path in every if path.name != name and _holds_networks(path))


def _holds_networks(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("config.json", "grounding-dino"))


def _walk(folder: Path) -> list[Path]:
    found = []
    for number, path in enumerate(sorted(folder.rglob("*"))):
        if number >= _MOST_FILES:
            raise FileError(f"{folder}: holds more than {_MOST_FILES} files; name a smaller folder to search.")
        found.append(path)
    return found


def _read_neighbour(path: Path, record: RunRecord) -> RunRecord | None:
    """Read the run.json beside a picture, if it is its own: it knows the folders that the picture leaves out."""
    try:
        found = load_run(path.parent / RECORD)
    except D2PlanError:
        return None
    return found if found.seed == record.seed and not compare_requests(record, found) else None


def _list_paths(record: RunRecord) -> dict[str, str]:
    return {field: use.path for field, use in _name_uses(record).items()} | {
        file.field: file.path for file in record.files
    }


def _describe(use: AdapterUse) -> str:
    words = " ".join(filter(None, (use.identifier, use.class_word)))
    return f", {words}" if words else ""


def _find_base(record: RunRecord, base: str | None, neighbour: RunRecord | None, missing: list[str]) -> str:
    names = [base] if base else [*([neighbour.scene.base] if neighbour else []), record.scene.base]
    told = ""
    for name in names:
        try:
            found = fingerprint_base(find_base(os.path.expanduser(name)))
        except D2PlanError as error:
            told = told or f"the base {name} is not found ({str(error).rstrip('.')})"
            continue
        if found == record.base_fingerprint:
            return name
        told = f"the base {name} has other weights: their fingerprint was {record.base_fingerprint} and is {found}"
        if name == MINI:
            told += "; install the version of d2plan that made the picture"
    missing.append(told if base else f"{told}; name the right one with --base")
    return names[0]


def _call_as_before(record: RunRecord, was: RunRecord) -> RunRecord:
    """Call files that were moved or renamed since as the picture calls them, where their content is the same."""
    if compare_requests(was, record):
        return record
    names = {name: getattr(was, name) for name in ("scene", "adapters", "styles", "kept", "files")}
    return record.model_copy(update=names)


def _measure(was: Picture, now: Picture) -> tuple[float, int]:
    if was.shape != now.shape:
        return 1.0, 255
    gaps = np.abs(was.astype(np.int16) - now.astype(np.int16))
    return float((gaps.max(axis=-1) > 0).mean()), int(gaps.max())
