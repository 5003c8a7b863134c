"""Clips: two states of one scene, and the true frames that lead from the first to the second."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from d2plan.errors import InputError
from d2plan.world.caption import Caption, write_caption
from d2plan.world.cast import ACCESSORIES, ACTIONS, CLASSES, COLOURS, SPECIES, sample_identity
from d2plan.world.portraits import measure_reach
from d2plan.world.scene import Figure, WorldScene, sample_scene
from d2plan.world.truth import render

CHANGES = ("action", "position", "accessory")
# What a figure does on its way, in order of preference; one that has none of these hops.
_GAITS = ("running", "flying", "driving")
_FRONT, _BACK = 0.95, 0.89  # nobody who hops in front may land behind the others, or the drawing order would jump
_HOP, _BOB = 0.065, 0.03
_WIDEST = 0.45, 0.32  # of a figure that crosses the picture, alone or past another one
_MOST_FRAMES = 1000
_CAPTION_TRIES = 32


@dataclass(frozen=True)
class Clip:
    """Two states of one scene that differ in one figure.

    Attributes:
        start: the first state.
        end: the last state; place, light, backdrop and identities are those of the first.
        caption_start: describes the first.
        caption_end: describes the last, in the same form.
    """

    start: WorldScene
    end: WorldScene
    caption_start: Caption
    caption_end: Caption


def sample_clip(rng: np.random.Generator) -> Clip:
    """Draw a clip of one or two figures; the first one's action, position or accessory changes.

    Args:
        rng: source of randomness; the same state gives the same clip.

    Returns:
        The clip.
    """
    words = [CLASSES[int(rng.integers(len(CLASSES)))] for _ in range(1 + int(rng.random() < 0.5))]
    scene = sample_scene(rng, [sample_identity(word, rng) for word in words])
    actor = replace(scene.figures[0], ground=_FRONT)
    others = tuple(replace(other, ground=min(other.ground, _BACK)) for other in scene.figures[1:])
    change = CHANGES[int(rng.integers(len(CHANGES)))]
    if change == "position":
        widest = _WIDEST[len(others)]
        before, after = _cross(_narrow(replace(actor, action=ACTIONS[actor.class_word][0]), widest), rng)
        others = tuple(replace(_narrow(other, widest), x=0.5) for other in others)
    elif change == "action":
        before, after = actor, _do_something_else(actor, rng)
    else:
        before, after = actor, _dress_otherwise(actor, rng)
    start, end = (replace(scene, figures=(figure, *others)) for figure in (before, after))
    return Clip(start, end, *_describe(start, end, rng))


def scene_between(clip: Clip, share: float) -> WorldScene:
    """Give the state of a clip's scene at a moment.

    Args:
        clip: what happens.
        share: the moment, from 0 (the start) to 1 (the end).

    Returns:
        The start at 0 and the end at 1, exactly; in between positions glide and everything else switches half-way.
    """
    if share <= 0:
        return clip.start
    if share >= 1:
        return clip.end
    pairs = zip(clip.start.figures, clip.end.figures, strict=True)
    return replace(clip.start, figures=tuple(_between(before, after, share) for before, after in pairs))


def clip_frames(clip: Clip, count: int, size: int = 128) -> np.ndarray:
    """Draw a clip's frames.

    Args:
        clip: what happens.
        count: of frames, at least 2.
        size: height and width in pixels.

    Returns:
        ``[count, h, w, 3]`` uint8; the first is the drawn start, the last the drawn end.

    Raises:
        InputError: the count is outside 2..1000.
    """
    if not 2 <= count <= _MOST_FRAMES:
        raise InputError(f"frames: {count} is outside 2..{_MOST_FRAMES}; choose a number in between.")
    return np.stack([render(scene_between(clip, place / (count - 1)), size).image for place in range(count)])


def ease(share: float) -> float:
    """Give the way gone after a share of the time: starts and ends softly.

    >>> ease(0.0), ease(0.5), ease(1.0)
    (0.0, 0.5, 1.0)

    Args:
        share: of the time, 0..1.

    Returns:
        The share of the way, 0..1.
    """
    return share * share * share * (share * (6 * share - 15) + 10)


def _between(before: Figure, after: Figure, share: float) -> Figure:
    if before == after:
        return before
    way = ease(share)
    x, ground, height = (
        start + (end - start) * way
        for start, end in zip(
            (before.x, before.ground, before.height), (after.x, after.ground, after.height), strict=True
        )
    )
    shown = before if way < 0.5 else after
    action, lift = shown.action, 0.0
    if (before.action, before.accessory, before.accessory_colour) != (
        after.action,
        after.accessory,
        after.accessory_colour,
    ):
        # A hop around the moment of the switch: the figure changes in the air.
        lift = _HOP * height * max(0.0, 1 - ((share - 0.5) / 0.3) ** 2)
    elif abs(after.x - before.x) > 0.1:
        steps = max(2, round(abs(after.x - before.x) / 0.11))
        lift = _BOB * height * abs(math.sin(math.pi * steps * way))
        gaits = [gait for gait in _GAITS if gait in ACTIONS[before.class_word]]
        action = gaits[0] if gaits and 0.02 < way < 0.98 else action
    return replace(shown, x=x, ground=ground - lift, height=height, action=action)


def _cross(actor: Figure, rng: np.random.Generator) -> tuple[Figure, Figure]:
    """Let a figure cross the picture, facing where it goes."""
    tall = float(rng.uniform(0.48, 0.62)) * SPECIES[actor.class_word].size
    facing = 1 if actor.x <= 0.5 else -1
    small = replace(actor, height=min(actor.height, tall), facing=facing)
    left, right, _, _ = measure_reach(small)
    near = left * small.height + float(rng.uniform(0.02, 0.04))
    far = 1 - right * small.height - float(rng.uniform(0.02, 0.04))
    ends = (near, far) if facing == 1 else (far, near)
    return replace(small, x=ends[0]), replace(small, x=ends[1])


def _narrow(figure: Figure, widest: float) -> Figure:
    left, right, _, _ = measure_reach(figure)
    return replace(figure, height=min(figure.height, widest / (left + right)))


def _do_something_else(actor: Figure, rng: np.random.Generator) -> Figure:
    others = [action for action in ACTIONS[actor.class_word] if action != actor.action]
    return replace(actor, action=others[int(rng.integers(len(others)))])


def _dress_otherwise(actor: Figure, rng: np.random.Generator) -> Figure:
    """Take an accessory off, put one on, or exchange it or its colour."""
    if actor.accessory and rng.random() < 0.4:
        return replace(actor, accessory=None, accessory_colour=None)
    choices = [
        (accessory, colour)
        for accessory in ACCESSORIES
        for colour in COLOURS
        if (accessory, colour) != (actor.accessory, actor.accessory_colour)
    ]
    accessory, colour = choices[int(rng.integers(len(choices)))]
    return replace(actor, accessory=accessory, accessory_colour=colour)


def _describe(start: WorldScene, end: WorldScene, rng: np.random.Generator) -> tuple[Caption, Caption]:
    """Write both captions with the same draws, until they tell the difference (one figure's place is never told)."""
    seed = int(rng.integers(2**31))
    for attempt in range(_CAPTION_TRIES):
        first, last = (write_caption(scene, np.random.default_rng([seed, attempt])) for scene in (start, end))
        if first.text != last.text:
            break
    return first, last
