"""From a story, or a plan, to a video: plan, keyframes, the frames between them, and a page that shows all of it."""

import json
import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import count
from pathlib import Path
from types import MappingProxyType

import numpy as np

from d2plan import __version__
from d2plan.backbone.load import Backbone, load_backbone
from d2plan.documents import revise
from d2plan.errors import D2PlanError, FileError, InputError
from d2plan.etp.interpolate import (
    Interpolator,
    InterpolatorOptions,
    check_frames,
    fit_keyframes,
    open_interpolator,
)
from d2plan.etp.plan import DEFAULT_FRAMES, EventPlan, check_choices, load_plan, write_plan
from d2plan.etp.planner import Planner, clean_story
from d2plan.etp.segments import Tempo, chain_segments, film_steps, name_segment, plan_segments, set_keyframes
from d2plan.media.images import check_output, make_folder
from d2plan.media.video import Frames, check_rate, check_video_path, clear_frames, write_frames, write_video
from d2plan.workflows.composing.compose import Report, say_nothing
from d2plan.workflows.filming.keyframes import Keyframes, make_keyframes, write_storyboard
from d2plan.workflows.filming.page import VideoFacts, write_video_page
from d2plan.workflows.filming.plan import check_plan_file, is_plan_file, plan_story, save_plan, tell_doubts
from d2plan.workflows.runs.film import write_film
from d2plan.yaml_file import read_yaml

PLAN, EARLIER = "plan.yaml", "plan.before-{}.yaml"
KEYFRAMES, SEGMENTS, FRAMES = "keyframes", "segments", "frames"
FOLDER_SUFFIX = ".video"
# Options that are not in the plan.
_FLAGS = MappingProxyType(
    {
        "--fps": "rate",
        "--interpolator": "interpolator",
        "--weights": "weights",
        "--text-model": "text_model",
        "--steps": "interpolation_steps",
        "--keep-frames": "keep_frames",
        "--device": "device",
    }
)

Planned = Callable[[EventPlan, Path], None]


@dataclass(frozen=True)
class VideoOptions:
    """How a video is made.

    Attributes:
        concepts: folder with the adapters of all who may take part; only a story needs it.
        planner: who plans a story; None is the embedded grammar.
        base: the base of a story's plan; a plan's file names its own.
        frames: from one beat to the next, both ends counted; None is the plan's.
        seed: of the noise; None is the plan's.
        rate: frames a second.
        interpolator: one of ``etp.interpolate.METHODS``.
        weights: of the interpolator.
        text_model: of the published SEINE.
        interpolation_steps: denoising steps of the interpolator; None is its own.
        keep_frames: write each frame as a picture too.
        overwrite: replace a video that is there, and another story's plan.
        device: such as "cpu" or "cuda".
        other_base: take concepts that were learnt on other weights; the plan says so then.
    """

    concepts: Path = field(default_factory=Path)
    planner: Planner | None = None
    base: str = "mini"
    frames: int | None = None
    seed: int | None = None
    rate: float = 8.0
    interpolator: str = "seine"
    weights: Path | None = None
    text_model: Path | None = None
    interpolation_steps: int | None = None
    keep_frames: bool = False
    overwrite: bool = False
    device: str = "cpu"
    other_base: bool = False


@dataclass(frozen=True)
class VideoResult:
    """What became of a video.

    Attributes:
        video: the file.
        page: shows story, plan, keyframes and video.
        folder: holds plan, keyframes and segments, for the next time.
        frames: of the video.
        made: segments that were made now.
        kept: segments that were there.
        notes: sentences for the reader.
    """

    video: Path
    page: Path
    folder: Path
    frames: int
    made: int
    kept: int
    notes: tuple[str, ...]


def make_video(
    story: str,
    out: str | Path,
    options: VideoOptions | None = None,
    on_progress: Report | None = None,
    on_plan: Planned | None = None,
    on_note: Callable[[str], None] | None = None,
) -> VideoResult:
    """Make a video; what was finished before, and still fits, is not made again.

    Paper: eq. (10).

    Args:
        story: plain words, or the path of a plan's file.
        out: the video's file; beside it a folder of its name, ending in ``.video``, keeps the parts.
        options: how; None takes all defaults.
        on_progress: called with (what is happening, steps done, steps in all).
        on_plan: called with the plan and the storyboard's path before the long part starts.
        on_note: called with each sentence about the plan before anything is made; the result has them too.

    Returns:
        Where everything lies.

    Raises:
        InputError: the story, the plan or an option cannot be used; what is finished is kept.
        FileError: a file cannot be read or written.
        MissingExtraError: an mp4 is asked for, and PyAV is not installed.
    """
    chosen, report = options or VideoOptions(), on_progress or say_nothing
    target = check_video_path(os.path.expanduser(out))
    check_output(target, chosen.overwrite)
    rate = check_rate(chosen.rate, target.suffix.lower())
    folder = target.with_name(target.stem + FOLDER_SUFFIX)
    tools = _Tools(chosen, report)
    plan, told = find_plan(story, target, chosen, report, tools.check)
    told = (*told, *plan.notes, *tell_doubts(plan))
    if on_note is not None:
        for note in told:
            on_note(note)
    tools.check(plan.base, plan.frames)
    base, interpolator = tools.open(plan.base)
    make_folder(folder)
    if (folder / PLAN).is_file() and not _says_the_same(folder / PLAN, plan):
        # A person may have worked on it, and --overwrite was perhaps meant for the video.
        free = next(path for n in count(1) if not (path := folder / EARLIER.format(n)).exists())
        os.replace(folder / PLAN, free)
    save_plan(plan, folder / PLAN, overwrite=True)
    keyframes = make_keyframes(plan, folder / KEYFRAMES, report, device=chosen.device, backbone=base)
    sheet = write_storyboard(plan, keyframes, folder)
    if on_plan is not None:
        on_plan(plan, sheet)
    frames, segments, kept = _film(plan, keyframes, interpolator, folder, report)
    text = describe(plan, interpolator, rate)
    report("writing the video", 0, 1)
    if chosen.keep_frames:
        write_frames(folder / FRAMES, frames)
    else:
        # Those of an earlier film would be taken for this one's.
        clear_frames(folder / FRAMES)
    write_film(folder, text, keyframes.folders, segments)
    record = tuple(sorted(interpolator.record.items()))
    facts = VideoFacts(plan, keyframes, frames, float(rate), target, record, _write_command(target, chosen))
    page = write_video_page(folder, facts)
    # Last: while it is not there, the same command goes on.
    write_video(target, frames, rate, text)
    report("writing the video", 1, 1)
    made = len(segments) - kept
    return VideoResult(target, page, folder, len(frames), made, kept, (*told, *keyframes.notes))


def find_plan(
    story: str, target: Path, options: VideoOptions, report: Report, check: Callable[[str, int], None]
) -> tuple[EventPlan, tuple[str, ...]]:
    """Read or make the plan; a story that was planned here before keeps its plan, as it was or as a person changed it.

    Args:
        story: plain words, or the path of a plan's file.
        target: the video's file.
        options: how.
        report: is told when planning begins and ends.
        check: refuses a base and a number of frames that cannot be filmed; a language model is only asked after it.

    Returns:
        The plan, checked and filled in, and sentences for the reader.

    Raises:
        InputError: the story, the plan or an option cannot be used, or the folder belongs to something else.
        FileError: a file cannot be read.
    """
    folder = target.with_name(target.stem + FOLDER_SUFFIX)
    there = folder / PLAN
    if folder.exists() and not folder.is_dir():
        raise FileError(f"{folder}: is a file, but the video's parts go there; move it, or name another video.")
    if folder.is_dir() and not there.is_file() and any(folder.iterdir()):
        raise InputError(f"{folder}: holds other things than a video's parts; name another video.")
    changes = {name: getattr(options, name) for name in ("frames", "seed") if getattr(options, name) is not None}
    check_choices(changes)
    report("planning", 0, 1)
    told: tuple[str, ...] = ()
    if is_plan_file(story):
        plan = check_plan_file(story, options.other_base)
        if there.is_file() and not options.overwrite and not _says_the_same(there, plan):
            raise _refuse_other(there, target)
    elif there.is_file() and _read_story(there) == clean_story(story):
        plan = check_plan_file(there, options.other_base)
        told = (f"The plan in {there} is kept, as it was; delete that file to plan the story anew.",)
    elif there.is_file() and not options.overwrite:
        raise _refuse_other(there, target)
    else:
        text = clean_story(story)
        if options.planner is not None:
            check(options.base, DEFAULT_FRAMES if options.frames is None else options.frames)
        plan = plan_story(text, options.concepts, options.planner, options.base, other_base=options.other_base)
    report("planning", 1, 1)
    return (revise(plan, changes, "the options") if changes else plan), told


def describe(plan: EventPlan, interpolator: Interpolator, rate: Fraction) -> str:
    """Write what made a video, for the file itself; folders of this machine are left out.

    Args:
        plan: the plan.
        interpolator: that made the frames.
        rate: frames a second.

    Returns:
        JSON.
    """
    content = plan.model_dump(mode="json", exclude_defaults=True)
    for instance in content["instances"]:
        instance["concept"] = Path(instance["concept"]).name
    if "base" in content:
        content["base"] = Path(content["base"]).name
    record = {"d2plan": __version__, "rate": str(rate), "interpolation": interpolator.record, "plan": content}
    return json.dumps(record, ensure_ascii=False)


def _read_story(path: Path) -> str | None:
    """Give the story of a plan that may be stale or broken; None where it tells none."""
    try:
        content = read_yaml(path)
    except D2PlanError:
        return None
    return content.get("story") if isinstance(content, dict) else None


def _says_the_same(path: Path, plan: EventPlan) -> bool:
    """Say whether a plan's file asks for the same as a plan, but for what an option may choose anew."""
    try:
        kept = load_plan(path)
    except D2PlanError:
        return False
    free = {"frames": plan.frames, "seed": plan.seed, "notes": plan.notes}
    return write_plan(kept.model_copy(update=free), path.parent) == write_plan(plan, path.parent)


def _refuse_other(there: Path, target: Path) -> InputError:
    film = shlex.join(["d2plan", "video", str(there), "-o", str(target)])
    return InputError(
        f"{there}: is the plan of another film, or was changed by hand; film it with `{film}`, name another video, or "
        "replace it with --overwrite."
    )


def _write_command(target: Path, options: VideoOptions) -> str:
    """Write the command that makes the video again in its folder, once its plan was changed."""
    plain = VideoOptions()
    words = ["d2plan", "video", f"{target.stem}{FOLDER_SUFFIX}/{PLAN}", "-o", target.name, "--overwrite"]
    for flag, name in _FLAGS.items():
        if (value := getattr(options, name)) != getattr(plain, name):
            words += [flag] if value is True else [flag, f"{value:g}" if name == "rate" else str(value)]
    return shlex.join(words)


class _Tools:
    """The base and the interpolator, opened once, when they are first needed.

    Args:
        options: how the video is made.
        report: is told when a base is opened.
    """

    def __init__(self, options: VideoOptions, report: Report) -> None:
        self._options, self._report = options, report
        self._opened: dict[str, tuple[Backbone, Interpolator]] = {}

    def open(self, base: str) -> tuple[Backbone, Interpolator]:
        """Open a base, and the interpolator on it."""
        if base not in self._opened:
            chosen = self._options
            self._report("opening the base", 0, 1)
            backbone = load_backbone(os.path.expanduser(base), chosen.device)
            wanted = InterpolatorOptions(
                base=backbone,
                weights=chosen.weights,
                text_model=chosen.text_model,
                steps=chosen.interpolation_steps,
                device=chosen.device,
            )
            self._opened = {base: (backbone, open_interpolator(chosen.interpolator, wanted))}
            self._report("opening the base", 1, 1)
        return self._opened[base]

    def check(self, base: str, frames: int) -> None:
        """Refuse what cannot be opened, or a number of frames that cannot be made."""
        check_frames(self.open(base)[1], frames)


def _film(
    plan: EventPlan, keyframes: Keyframes, interpolator: Interpolator, folder: Path, report: Report
) -> tuple[Frames, list[Path], int]:
    """Make or read all segments; give the video's frames, the segments' files, and how many of them were there."""
    fitted = fit_keyframes(interpolator, keyframes.images)
    texts = tuple(plan.prompt_at(index) for index in range(1, len(plan.beats)))
    segments = plan_segments(fitted, Tempo(plan.frames, texts, plan.seed))
    files = [folder / SEGMENTS / name_segment(interpolator.record, segment) for segment in segments]
    parts: list[np.ndarray] = []
    kept = 0
    for step in film_steps(interpolator, segments, folder / SEGMENTS):
        report(f"segment {step.segment + 1} of {step.segments}", step.index + 1, step.total)
        if step.frames is not None:
            parts.append(step.frames)
            kept += step.kept
    return set_keyframes(chain_segments(parts), fitted), files, kept
