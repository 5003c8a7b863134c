"""Sizes that pictures are brought to, and which pictures make a batch: all of one size, the same ones on every run."""

import math
from collections.abc import Hashable, Sequence

import numpy as np
from diffusers.training_utils import find_nearest_bucket, generate_aspect_ratio_buckets

from d2plan.errors import InputError

Size = tuple[int, int]

SMALLEST_SIDE = 64


def plan_buckets(height: int, width: int, step: int) -> tuple[Size, ...]:
    """Plan the sizes that pictures of different shapes are brought to, with about as many pixels each.

    >>> plan_buckets(512, 512, 64)[:3]
    ((512, 512), (576, 448), (448, 576))

    Source: ``diffusers.training_utils.generate_aspect_ratio_buckets``, from 1:1 to 1:2 and 2:1.

    Args:
        height: that the base is made for, pixels.
        width: the same, pixels.
        step: what every side is a multiple of, pixels; for the SDXL layout the pixels of a latent cell times two
            to the number of the U-Net's halvings, 32 on SDXL itself.

    Returns:
        Heights and widths; the base's own size comes first, and is alone when it is no multiple of the step.

    Raises:
        InputError: a number is not positive.
    """
    if min(height, width, step) < 1:
        raise InputError(f"buckets: {width} x {height} pixels in steps of {step} make none; give positive numbers.")
    if height % step or width % step:
        return ((height, width),)
    planned = generate_aspect_ratio_buckets(round(math.sqrt(height * width)), divisibility=step)
    wide_enough = [size for size in planned if min(size) >= min(SMALLEST_SIDE, height, width)]
    return tuple(dict.fromkeys([(height, width), *wide_enough]))


def choose_bucket(height: int, width: int, buckets: Sequence[Size]) -> Size:
    """Choose the size that is nearest in shape to a picture.

    Source: ``diffusers.training_utils.find_nearest_bucket``.

    Args:
        height: of the picture, pixels.
        width: of the picture, pixels.
        buckets: heights and widths, at least one.

    Returns:
        One of them; the first of those that are equally near.
    """
    # The search keeps the last of equals; reversed, that is the first.
    backwards = list(reversed(buckets))
    return backwards[find_nearest_bucket(height, width, backwards)]


def draw_rows(groups: Sequence[Hashable], seed: int, step: int, count: int) -> list[int]:
    """Draw the rows of one batch, all of one group; a function of its arguments alone, so that any step can be redone.

    Every ``len(groups)`` steps (a cycle) each row comes ``count`` times. Within a group each row comes once before any
    comes again; the groups take turns in a shuffled order, each as often as it has rows.

    >>> sorted(row for step in range(3) for row in draw_rows("aab", 0, step, 1))
    [0, 1, 2]

    Args:
        groups: which group (size) each row belongs to.
        seed: of the order.
        step: number of the batch, from 0.
        count: rows of a batch.

    Returns:
        Rows of ``groups``; a group with fewer rows than ``count`` gives some twice.

    Raises:
        InputError: there are no rows, or a number is out of range.
    """
    if not groups or count < 1 or step < 0 or seed < 0:
        raise InputError(f"batch: {len(groups)} pictures, {count} a batch, step {step}, seed {seed} make no batch.")
    members: dict[Hashable, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    pools = list(members.values())
    cycle, turn = divmod(step, len(groups))
    pool, place = _whose_turn([len(rows) for rows in pools], (seed, cycle), turn)
    rows = pools[pool]
    picked: list[int] = []
    while len(picked) < count:
        # The group's rows in this cycle are a chain of shuffles, of which batch number `place` is one piece.
        link, offset = divmod(place * count + len(picked), len(rows))
        order = np.random.default_rng((1, seed, cycle, pool, link)).permutation(len(rows))
        picked += [rows[index] for index in order[offset : offset + count - len(picked)]]
    return picked


def _whose_turn(sizes: list[int], key: tuple[int, int], turn: int) -> tuple[int, int]:
    """Find the group of a turn, and how many turns it had before in this cycle."""
    rng = np.random.default_rng((0, *key))
    # Each group's turns are spread evenly over the cycle, at a random place of their share.
    times = np.concatenate([(np.arange(size) + rng.random(size)) / size for size in sizes])
    owners = np.repeat(np.arange(len(sizes)), sizes)[np.argsort(times, kind="stable")]
    owner = int(owners[turn])
    return owner, int((owners[:turn] == owner).sum())
