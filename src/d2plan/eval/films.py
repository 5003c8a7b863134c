"""Films: what each frame between two beats must show, and how a film goes on from frame to frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from d2plan.errors import InputError
from d2plan.eval.panel import CLIP, DINO
from d2plan.eval.score import Expectation, Expected
from d2plan.eval.temporal import consistency_adjacent, consistency_all, consistency_least

Values = dict[str, float | None]


def expect_between(before: Expectation, after: Expectation) -> Expectation:
    """Tell what a frame between two beats must show: who takes part always, all else where both beats say the same.

    Args:
        before: what the beat before was asked to show.
        after: what the beat after was asked to show; the same instances in the same order.

    Returns:
        The expectation of every frame between them.

    Raises:
        InputError: the instances are not the same.
    """
    who = [tuple((one.class_word, one.concept) for one in beat.instances) for beat in (before, after)]
    if who[0] != who[1]:
        raise InputError("beats: two neighbours show different instances, so nobody can say who is between them.")
    instances = tuple(
        Expected(
            one.class_word,
            _agree(one.accessory, other.accessory),
            _agree(one.accessory_colour, other.accessory_colour),
            _agree(one.action, other.action),
            _agree(one.position, other.position),
            one.concept,
        )
        for one, other in zip(before.instances, after.instances, strict=True)
    )
    return Expectation(instances, _agree(before.place, after.place), _agree(before.light, after.light))


def expect_frames(beats: Sequence[Expectation], frames: int) -> list[Expectation]:
    """Tell what every frame of a film must show.

    Args:
        beats: what each beat was asked to show, two or more.
        frames: from one beat to the next, both counted, 2 or more.

    Returns:
        One for each of the (beats - 1)(frames - 1) + 1 frames: a beat's own at its keyframe, else ``expect_between``.

    Raises:
        InputError: two neighbouring beats show different instances.
    """
    found = [beats[0]]
    for before, after in zip(beats, beats[1:], strict=False):
        found += [expect_between(before, after)] * (frames - 2) + [after]
    return found


def measure_flow(vectors: Mapping[str, NDArray[np.floating]], steps: NDArray[np.floating]) -> Values:
    """Say how a film goes on from frame to frame, keyframes among them.

    Args:
        vectors: kind of encoder to the embedding of each frame, ``[f d]``.
        steps: how far each frame is from the one before, root mean square, ``[f - 1]``, 0..255.

    Returns:
        ``consistency_adjacent``, ``consistency_all`` and ``consistency_least`` by CLIP, ``scene_kept_adjacent`` and
        ``scene_kept`` by DINO, as far as they looked, and ``largest_step``, 0..1.

    Raises:
        InputError: there are fewer than two frames.
    """
    values: Values = {}
    if (rows := vectors.get(CLIP)) is not None:
        values["consistency_adjacent"], values["consistency_all"] = consistency_adjacent(rows), consistency_all(rows)
        values["consistency_least"] = consistency_least(rows)
    if (rows := vectors.get(DINO)) is not None:
        values["scene_kept_adjacent"], values["scene_kept"] = consistency_adjacent(rows), consistency_all(rows)
    values["largest_step"] = float(np.max(steps)) / 255
    return values


def _agree(first: str | None, second: str | None) -> str | None:
    return first if first == second else None
