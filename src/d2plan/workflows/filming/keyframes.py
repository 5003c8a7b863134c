"""A plan's beats as pictures: beats of one scene are a series, so that what the plan leaves alone stays."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from d2plan.adapter.file import read_metadata
from d2plan.documents import Instance, Series, Variant, load_document
from d2plan.errors import D2PlanError, FileError
from d2plan.etp.plan import EventPlan, PlanInstance
from d2plan.media.images import Picture, contact_sheet, fit_image, read_image, write_png
from d2plan.workflows.composing.compose import Report, RunOptions
from d2plan.workflows.composing.series import INDEX, compose_series
from d2plan.workflows.runs.folder import IMAGE, RECORD

STORYBOARD = "storyboard.png"
_Said = tuple[str | None, ...]
_COLUMNS, _LARGEST, _LINES = 4, 512, 12


@dataclass(frozen=True, eq=False)
class Keyframes:
    """A plan's pictures.

    Attributes:
        folders: the run folder of each beat, in order.
        images: its picture, uint8 ``[h, w, 3]``.
        made: indices of the beats that were made now; the others were there and fit.
        notes: sentences for the reader.
    """

    folders: tuple[Path, ...]
    images: tuple[Picture, ...]
    made: tuple[int, ...]
    notes: tuple[str, ...]


def make_keyframes(
    plan: EventPlan, folder: Path, on_progress: Report | None = None, **options: Unpack[RunOptions]
) -> Keyframes:
    """Make the pictures of a plan's beats; those that are there and still fit stay byte for byte.

    Paper: eq. (10), the ISP calls; method note, ISP rule 6.

    Args:
        plan: checked and filled in.
        folder: gets a series for each scene that the plan goes through.
        on_progress: called with (what is happening, steps done, steps in all).
        **options: see ``RunOptions``.

    Returns:
        The pictures in the order of the beats.

    Raises:
        InputError: an adapter or the plan cannot be used.
        FileError: a file cannot be read or written.
    """
    made: list[int] = []
    notes: list[str] = []
    places: dict[int, Path] = {}
    for number, beats in enumerate(group_beats(plan), start=1):
        place, series = folder / f"scene-{number}", make_series(plan, beats)
        move_beats(series, place)
        result = compose_series(series, place, overwrite=True, on_progress=on_progress, **options)
        made += [beat for beat in beats if name_beat(beat) in result.made]
        notes += result.notes
        places |= {beat: place / name_beat(beat) for beat in beats}
    folders = tuple(places[beat] for beat in range(len(plan.beats)))
    images = tuple(read_image(place / IMAGE) for place in folders)
    return Keyframes(folders, images, tuple(sorted(made)), tuple(notes))


def move_beats(series: Series, folder: Path) -> None:
    """Give the run folders of an earlier series the names that their beats have now; none is taken away.

    A beat more or less changes the numbers of those behind it, but not their pictures. Whether a picture fits is not
    decided here: ``compose_series`` looks at its record, and makes it again where it does not.

    Args:
        series: the beats as they are now.
        folder: the series' folder, which may be new.

    Raises:
        FileError: a folder cannot be renamed.
    """
    try:
        earlier = load_document(Series, folder / INDEX).variants
    except D2PlanError:
        return
    there = {one.name: one.sub_prompts for one in earlier if (folder / one.name / RECORD).is_file()}
    moves = _plan_moves(there, {one.name: one.sub_prompts for one in series.variants})
    moves = {name: goal for name, goal in moves.items() if (folder / name).exists()}
    if not moves:
        return
    try:
        # Stopped in between, what is here is made again; it stands in nobody's way.
        between = Path(tempfile.mkdtemp(prefix=".beats.", dir=folder))
        for name in moves:
            os.replace(folder / name, between / name)
        for name, goal in moves.items():
            os.replace(between / name, folder / goal)
        between.rmdir()
    except OSError as error:
        raise FileError(f"{folder}: its beats cannot be renamed ({error.strerror or error}).") from error


def _plan_moves(there: Mapping[str, _Said], wanted: Mapping[str, _Said]) -> dict[str, str]:
    """Give what is there, by what its beat says, the names of the wanted beats that say the same."""
    free = [name for name, said in there.items() if wanted.get(name) != said]
    moves: dict[str, str] = {}
    for goal, said in wanted.items():
        if there.get(goal) != said:
            moves |= {name: goal for name in [one for one in free if one not in moves and there[one] == said][:1]}
    # Who stood where somebody goes now takes a place that became free.
    left = [name for name in moves if name not in moves.values()]
    pushed = [name for name in moves.values() if name not in moves]
    return moves | dict(zip(pushed, left, strict=True))


def group_beats(plan: EventPlan) -> list[list[int]]:
    """Put the beats of one scene together, wherever they stand, so that a scene that comes back looks the same.

    Args:
        plan: the plan.

    Returns:
        Indices of beats, one list for each global prompt, in the order of their first beats.
    """
    groups: dict[str, list[int]] = {}
    for index in range(len(plan.beats)):
        groups.setdefault(plan.prompt_at(index), []).append(index)
    return list(groups.values())


def make_series(plan: EventPlan, beats: Sequence[int]) -> Series:
    """Write beats of one global prompt as a series.

    Args:
        plan: checked and filled in.
        beats: their indices.

    Returns:
        One variant a beat.
    """
    first = plan.beats[beats[0]]
    return Series(
        base=plan.base,
        other_base=plan.other_base,
        global_prompt=plan.prompt_at(beats[0]),
        instances=tuple(_place(item, first.sub_prompts[item.name]) for item in plan.instances),
        # Somebody who got no area is told of and marked in the record; the other keyframes are worth having.
        missing="mark",
        steps=plan.steps,
        guidance_scale=plan.guidance_scale,
        height=plan.height,
        width=plan.width,
        seed=plan.seed,
        variants=tuple(
            Variant(
                name=name_beat(beat),
                sub_prompts=tuple(plan.beats[beat].sub_prompts[item.name] for item in plan.instances),
            )
            for beat in beats
        ),
    )


def name_beat(index: int) -> str:
    """Name a beat's folder.

    >>> name_beat(0)
    'beat-01'

    Args:
        index: of the beat, from 0.

    Returns:
        The name.
    """
    return f"beat-{index + 1:02d}"


def write_storyboard(plan: EventPlan, keyframes: Keyframes, folder: Path) -> Path:
    """Lay the keyframes on one sheet, each with what happens in it.

    Args:
        plan: the plan.
        keyframes: its pictures.
        folder: where the sheet goes.

    Returns:
        The sheet.

    Raises:
        FileError: it cannot be written.
    """
    largest = max(max(image.shape[:2]) for image in keyframes.images)
    scale = max(1.0, largest / _LARGEST)
    shown = []
    for image in keyframes.images:
        small = fit_image(image, round(image.shape[0] / scale), round(image.shape[1] / scale))
        shown.append(small.repeat(2, axis=0).repeat(2, axis=1) if largest <= _LARGEST / 2 else small)
    labels = [f"{index + 1}. " + tell_beat(plan, index).replace("; ", "\n") for index in range(len(plan.beats))]
    target = folder / STORYBOARD
    write_png(target, contact_sheet(shown, _COLUMNS, labels, lines=_LINES))
    return target


def tell_beat(plan: EventPlan, index: int) -> str:
    """Say in few words what happens at a beat.

    Args:
        plan: the plan.
        index: of the beat.

    Returns:
        Each instance's name and what its sub-prompt says beyond naming it.
    """
    parts = []
    for item in plan.instances:
        start = f"a photo of a {item.identifier} {item.class_word}"
        said = plan.beats[index].sub_prompts[item.name].removeprefix(start).strip(" ,")
        parts.append(f"{item.name}: {said}" if said else item.name)
    return "; ".join(parts)


def _place(item: PlanInstance, sub_prompt: str) -> Instance:
    told = read_metadata(os.path.expanduser(item.concept)).get("d2plan.identifier")
    return Instance(
        concept=item.concept,
        class_word=item.class_word,
        sub_prompt=sub_prompt,
        strength=item.strength,
        trigger=None if told else item.identifier,
        position=item.position,
        box=item.box,
    )
