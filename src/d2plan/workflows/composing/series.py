"""A series in, one run folder a variant out: one noise, one layout and one beginning for all."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Unpack

from d2plan.backbone.load import Backbone
from d2plan.documents import Scene, Series, list_scenes, load_run
from d2plan.errors import D2PlanError, FileError, InputError
from d2plan.isp.loop import KeptPicture, SharedStart, compose_steps, keep_steps, warm_up_steps
from d2plan.isp.prepare import PreparedScene
from d2plan.isp.start import check_start
from d2plan.media.images import contact_sheet, make_folder, read_image, write_file, write_png
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
from d2plan.workflows.composing.differences import compare_formats, compare_requests
from d2plan.workflows.composing.provenance import plan_record, record_run
from d2plan.workflows.composing.requests import (
    AdapterShelf,
    ExtrasShelf,
    Request,
    check_identifiers,
    open_request,
    read_request,
)
from d2plan.workflows.runs.folder import IMAGE, RECORD, open_run, size_for_sheet, write_run

SHEET, INDEX = "sheet.png", "series.json"
_COLUMNS = 4


@dataclass(frozen=True)
class SeriesResult:
    """What became of a series.

    Attributes:
        folder: the series' folder.
        made: names of the variants that were made now.
        kept: names of those that were there and fit.
        waiting: names of those that are not made yet.
        notes: sentences for the reader, each with the variant's name.
        unet_rows: that the U-Net saw, those of the shared beginning once.
    """

    folder: Path
    made: tuple[str, ...]
    kept: tuple[str, ...]
    waiting: tuple[str, ...]
    notes: tuple[str, ...]
    unet_rows: int

    @property
    def sheet(self) -> Path:
        """The picture that shows all variants side by side."""
        return self.folder / SHEET


def compose_series(
    series: Series | str | Path,
    out: str | Path,
    base: str | None = None,
    seed: int | None = None,
    only: Sequence[str] = (),
    overwrite: bool = False,
    on_progress: Report | None = None,
    **options: Unpack[RunOptions],
) -> SeriesResult:
    """Make the pictures of a series; those that are there and still fit what is asked for stay byte for byte.

    What the variants share - noise, warm-up and masks - hangs on the global prompt alone and is computed once, so a
    variant that is made alone later is the one that was made with the others, bit for bit. A series that was broken
    off goes on with the variant that it stopped at.

    Args:
        series: a series, or the path of a series file.
        out: the series' folder; each variant gets a run folder of its name in it, beside ``sheet.png``, which shows
            all, and ``series.json``, the series as it was asked for.
        base: replaces the series'.
        seed: replaces the series'.
        only: names of the variants to make; none means all.
        overwrite: make variants again that are there: those that ``only`` names, and all that fit no longer; and take
            another series' folder.
        on_progress: called with (what is happening, steps done, steps in all).
        **options: see ``RunOptions``.

    Returns:
        What was made, and what was kept.

    Raises:
        InputError: the series, an adapter or the folder cannot be used; or a variant that is there was made from
            another request, or the folder is another series', and ``overwrite`` is off.
        FileError: a file cannot be read or written.
    """
    check_options(options)
    report = on_progress or say_nothing
    wanted = read_request(Series, series, base, seed)
    folder = Path(os.path.expanduser(out))
    check_folder(folder)
    names = _choose_names(wanted, only)
    if not overwrite:
        _refuse_another(folder, wanted)
    shelf = AdapterShelf()
    every = {variant.name: scene for variant, scene in zip(wanted.variants, list_scenes(wanted), strict=True)}
    requests = {name: _open_variant(every[name], shelf, name) for name in names}
    backbone = open_scenes_base([every[names[0]]], report, options)
    work = _Work(backbone, wanted, shelf, options, report, ExtrasShelf(backbone), overwrite)
    prepared = {name: work.prepare(request, name) for name, request in requests.items()}
    again = set(only) if overwrite else set()
    todo = [name for name in names if work.must_make(folder / name, prepared[name], requests[name], name in again)]
    make_folder(folder)
    write_file(folder / INDEX, (wanted.model_dump_json(indent=2) + "\n").encode())
    notes: list[str] = []
    for number, name in enumerate(todo, start=1):
        what = f'"{name}", {number} of {len(todo)}'
        notes += [f'"{name}": {note}' for note in work.make(folder / name, prepared[name], requests[name], what)]
    write_sheet(folder, [variant.name for variant in wanted.variants])
    waiting = tuple(name for name in every if not _is_made(folder / name))
    kept = tuple(name for name in names if name not in todo)
    return SeriesResult(folder, tuple(todo), kept, waiting, tuple(notes), work.rows)


def check_folder(folder: Path) -> None:
    """Refuse a folder that holds something else than a series.

    Args:
        folder: the series' folder.

    Raises:
        InputError: it holds other things.
        FileError: it is a file, or cannot be looked into.
    """
    try:
        if folder.exists() and not folder.is_dir():
            raise FileError(f"{folder}: is a file; name a folder that is new, empty, or this series' own.")
        if folder.is_dir() and any(folder.iterdir()) and not (folder / INDEX).is_file():
            raise InputError(f"{folder}: is not empty and holds no series; name another folder.")
    except OSError as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"{folder}: cannot be looked into ({error.strerror or error}); choose another.") from error


def write_sheet(folder: Path, names: Sequence[str]) -> None:
    """Lay the pictures of a series on one sheet, those that are made, each with its variant's name.

    Args:
        folder: the series' folder.
        names: of the variants, in their order.

    Raises:
        FileError: a picture cannot be read, or the sheet not be written.
    """
    made = [name for name in names if _is_made(folder / name)]
    images = [size_for_sheet(read_image(folder / name / IMAGE)) for name in made]
    if images:
        write_png(folder / SHEET, contact_sheet(images, _COLUMNS, made))


@dataclass
class _Work:
    """Makes variants on one base; keeps what they share: beginnings, or the series' own picture."""

    backbone: Backbone
    series: Series
    adapters: AdapterShelf
    options: RunOptions
    report: Report
    extras: ExtrasShelf
    overwrite: bool = False
    rows: int = 0
    starts: list[SharedStart | KeptPicture] = field(default_factory=list)

    def prepare(self, request: Request, name: str) -> PreparedScene:
        """Encode a variant's prompts; what is wrong is told with its name."""
        try:
            # Where the global row reads what one variant alone says, no beginning can be shared; a picture can.
            if (request.scene.weave or self.backbone.defaults.weave) == "all":
                scene = request.scene.model_copy(update={"variant_of": self.series.instances})
                request = open_request(scene, self.adapters)
            elif request.scene.masks is None:
                # The beginning that is shared shows where they stand; columns would be dealt to each variant anew.
                request = replace(request, scene=request.scene.model_copy(update={"masks": "attention"}))
            check_identifiers(request, self.backbone)
            return prepare_request(self.backbone, request, self.extras)
        except InputError as error:
            raise type(error)(f'variant "{name}": {error}') from error

    def must_make(self, out: Path, prepared: PreparedScene, request: Request, again: bool) -> bool:
        """Say whether a variant is to be made; one that fits no longer is made again only when that was allowed."""
        if not _is_made(out) or again:
            return True
        planned = plan_record(prepared, request.styles, self.backbone)
        try:
            made = load_run(out / RECORD)
            differences = (*compare_requests(made, planned), *compare_formats(made, planned))
            read_image(out / IMAGE)
        except D2PlanError as error:
            differences = (f"it cannot be read ({error})",)
        if differences and not self.overwrite:
            raise InputError(
                f"{out} was made from another request ({'; '.join(differences)}); "
                "allow it to be made again with --overwrite, or name another folder."
            )
        return bool(differences)

    def make(self, out: Path, prepared: PreparedScene, request: Request, what: str) -> tuple[str, ...]:
        """Make one variant's run folder, from the shared beginning; give its notes."""
        with open_run(out, overwrite=(out / RECORD).is_file()) as staging:
            start = self._start(prepared)
            loop = compose_steps(self.backbone, [prepared], options=engine_options(self.options), shared=start)
            (composition,) = drain(loop, self.report, f"composing {what}")
            self.rows += composition.unet_rows
            memory = self.options.get("memory", "rows")
            record = record_run(composition, self.backbone, request.styles, memory=memory)
            write_run(staging, composition, record.model_copy(update={"shared_start": True}))
        return composition.warnings

    def _start(self, prepared: PreparedScene) -> SharedStart | KeptPicture:
        """Give what a variant shares; there are several beginnings only where concepts change their classes."""
        for known in self.starts:
            try:
                check_start([prepared], known)
            except InputError:
                continue
            return known
        options = engine_options(self.options)
        start: SharedStart | KeptPicture
        if prepared.kept is None:
            run = warm_up_steps(self.backbone, prepared, options=options)
            start = drain(run, self.report, "the shared beginning")
        else:
            start = drain(keep_steps(self.backbone, prepared.kept, options=options), self.report, "what they share")
        self.rows += start.unet_rows
        self.starts.append(start)
        return start


def _is_made(run: Path) -> bool:
    return (run / RECORD).is_file() and (run / IMAGE).is_file()


def _refuse_another(folder: Path, series: Series) -> None:
    """Refuse the folder of a series that shares no variant with this one: its sheet and its request would be lost."""
    try:
        there = [str(variant["name"]) for variant in json.loads((folder / INDEX).read_bytes())["variants"]]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if there and not {variant.name for variant in series.variants} & set(there):
        shown = ", ".join(there[:3]) + (", ..." if len(there) > 3 else "")
        raise InputError(
            f"{folder}: is another series' folder (its variants are {shown}); name another folder, or take it with "
            "--overwrite."
        )


def _choose_names(series: Series, only: Sequence[str]) -> list[str]:
    names = [variant.name for variant in series.variants]
    for name in names:
        if name.casefold() in (SHEET, INDEX):
            raise InputError(f'variants: "{name}" is the name of a file of the series itself; choose another.')
    for name in only:
        if name not in names:
            raise InputError(f'only: the series has no variant "{name}"; it has {", ".join(names)}.')
    return [name for name in names if not only or name in only]


def _open_variant(scene: Scene, shelf: AdapterShelf, name: str) -> Request:
    try:
        return open_request(scene, shelf)
    except InputError as error:
        raise type(error)(f'variant "{name}": {error}') from error
