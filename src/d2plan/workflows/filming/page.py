"""The page of a video: story, plan, keyframes, a strip of frames, and the video itself."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from urllib.parse import quote

import numpy as np

from d2plan.etp.plan import EventPlan, fingerprint_plan
from d2plan.media.images import Picture, write_file, write_png
from d2plan.media.video import Frames
from d2plan.workflows.filming.keyframes import STORYBOARD, Keyframes, tell_beat
from d2plan.workflows.runs.folder import IMAGE

PAGE, STRIP = "index.html", "strip.png"
_ON_STRIP = 9
_TEMPLATE = files("d2plan.workflows.filming") / "templates" / "page.html"


@dataclass(frozen=True, eq=False)
class VideoFacts:
    """What the page shows.

    Attributes:
        plan: the plan.
        keyframes: its pictures.
        frames: of the video.
        rate: frames a second.
        video: its file.
        record: how the frames were made, names and texts.
        command: that makes the video again, in its folder.
    """

    plan: EventPlan
    keyframes: Keyframes
    frames: Frames
    rate: float
    video: Path
    record: tuple[tuple[str, str], ...]
    command: str


def write_video_page(folder: Path, facts: VideoFacts) -> Path:
    """Write the page and the strip of frames that it shows.

    Args:
        folder: of the video's parts.
        facts: what to show.

    Returns:
        The page; it names all files relative to itself and needs no server.

    Raises:
        FileError: it cannot be written.
    """
    write_png(folder / STRIP, make_strip(facts.frames))
    height, width = facts.frames.shape[1:3]
    link = _link(folder, facts.video)
    if facts.video.suffix.lower() == ".mp4":
        shown = f'<video src="{link}" autoplay loop muted controls playsinline></video>'
    else:
        shown = f'<img src="{link}" alt="the video">'
    seconds = len(facts.frames) / facts.rate
    told = [
        f"{len(facts.frames)} frames at {facts.rate:g} a second ({seconds:.1f} s), {height} x {width} pixels",
        *(f"{name.replace('_', ' ')} {text}" for name, text in facts.record if text),
        f"seed {facts.plan.seed}",
    ]
    page = Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=escape(facts.plan.story or facts.plan.global_prompt),
        story=escape(facts.plan.story or facts.plan.global_prompt),
        changed=_tell_changes(facts.plan),
        video=shown,
        facts=escape(" · ".join(told)),
        scene=escape(facts.plan.global_prompt),
        plan=_write_plan(facts.plan),
        notes=_write_notes((*facts.plan.notes, *facts.keyframes.notes)),
        keyframes=_write_keyframes(folder, facts),
        strip=STRIP,
        command=escape(facts.command),
        storyboard=STORYBOARD,
    )
    write_file(folder / PAGE, page.encode())
    return folder / PAGE


def make_strip(frames: Frames, most: int = _ON_STRIP) -> Picture:
    """Put frames side by side, evenly chosen, the first and the last among them.

    Args:
        frames: uint8 ``[f, h, w, 3]``.
        most: how many.

    Returns:
        uint8 ``[h, w', 3]``.
    """
    chosen = np.linspace(0, len(frames) - 1, min(most, len(frames))).round().astype(int)
    return np.concatenate(list(frames[chosen]), axis=1)


def _tell_changes(plan: EventPlan) -> str:
    if plan.planned is None or plan.planned == fingerprint_plan(plan):
        return ""
    return "<p>The plan that was made from this story was changed by hand; the film shows what stands below.</p>"


def _write_plan(plan: EventPlan) -> str:
    heads = ""
    for item in plan.instances:
        words = " ".join(word for word in (item.identifier, item.class_word) if word)
        heads += f"<th>{escape(item.name)} <span class=soft>{escape(words)}</span>"
    rows = []
    for index, beat in enumerate(plan.beats):
        cells = "".join(f"<td>{escape(beat.sub_prompts[item.name])}" for item in plan.instances)
        scene = f"<td>{escape(plan.prompt_at(index))}" if _scenes_change(plan) else ""
        rows.append(f"<tr><td>{index + 1}{cells}{scene}")
    return f"<tr><th>beat{heads}{'<th>scene' if _scenes_change(plan) else ''}" + "".join(rows)


def _scenes_change(plan: EventPlan) -> bool:
    return any(beat.global_prompt for beat in plan.beats)


def _write_notes(notes: Sequence[str]) -> str:
    return "".join(f"<li>{escape(note)}" for note in notes)


def _write_keyframes(folder: Path, facts: VideoFacts) -> str:
    cards = []
    for index, place in enumerate(facts.keyframes.folders):
        said = escape(tell_beat(facts.plan, index))
        link = _link(folder, place / IMAGE)
        cards.append(f'<figure><img src="{link}" alt="{said}"><figcaption>{index + 1}. {said}</figcaption></figure>')
    return "".join(cards)


def _link(folder: Path, path: Path) -> str:
    return escape(quote(Path(os.path.relpath(path, folder)).as_posix()), quote=True)
