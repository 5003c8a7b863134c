"""Seed streams: who may draw what, so that nothing that is tested was ever trained on."""

from __future__ import annotations

import numpy as np

from d2plan.errors import InputError

STREAMS = {"base": 11, "judge": 12, "heldout": 13, "concept": 14, "context": 15}
DEVELOPMENT_SEEDS = range(0, 50_000)
TEST_SEEDS = range(50_000, 100_000)


def stream_rng(stream: str, *key: int) -> np.random.Generator:
    """Give the generator of one place in one stream.

    Args:
        stream: ``base`` (trains the embedded model), ``judge`` (trains the judge), ``heldout`` (measures both),
            ``concept`` (identities of concepts) or ``context`` (what surrounds a concept in its images).
        *key: whole numbers >= 0 that name the place, such as an index or a seed.

    Returns:
        A generator; the same arguments always give the same numbers.

    Raises:
        InputError: the stream does not exist or a number is negative.
    """
    if stream not in STREAMS:
        raise InputError(f"stream: '{stream}' does not exist; choose one of {', '.join(STREAMS)}")
    if any(number < 0 for number in key):
        raise InputError(f"seed: {min(key)} is negative; give a whole number from 0 on.")
    return np.random.default_rng(np.random.SeedSequence([STREAMS[stream], *key]))
