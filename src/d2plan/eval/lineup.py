"""The line-up that a character must be picked from: its own pictures, its look-alikes, and others of its class."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from d2plan.errors import InputError
from d2plan.eval.judge import Judge, Picture
from d2plan.eval.metrics import centre_of
from d2plan.eval.score import Lineup
from d2plan.world.cast import CLASSES, near_identity, sample_identity, species_of
from d2plan.world.identity import Identity
from d2plan.world.scene import sample_scene
from d2plan.world.seeds import stream_rng
from d2plan.world.truth import render

NEAR, FAR, POOL, VIEWS = 10, 9, 80, 4
_LINEUP_KEY = 7
_TRIES = 4


def embed_references(judge: Judge, class_word: str, images: Sequence[Picture]) -> NDArray[np.float32]:
    """Describe a character by pictures of it.

    Args:
        judge: who looks.
        class_word: its class; of several instances in a picture the largest of this class counts.
        images: pictures of it.

    Returns:
        ``[64]`` of length 1, the middle of their embeddings.

    Raises:
        InputError: no picture shows an instance of the class.
    """
    found = []
    for verdict in judge.judge_many(list(images)):
        own = [seen for seen in verdict.instances if seen.class_word == class_word]
        if own:
            found.append(max(own, key=lambda seen: int(seen.mask.sum())).embedding)
    return centre_of(found)


def build_lineup(
    judge: Judge, class_word: str, references: Sequence[Picture], identity: Identity | None = None, seed: int = 0
) -> Lineup:
    """Put a character into a line-up of 20.

    With its identity known, the ten look-alikes differ from it in one factor (five) or two (five); otherwise they
    are the ten most similar of 80 characters, as the judge sees them.

    Args:
        judge: who looks.
        class_word: a class of the world.
        references: the character's own pictures.
        identity: who it is, where known.
        seed: decides who the others are.

    Returns:
        The line-up.

    Raises:
        InputError: the world has no such class, or no reference shows one.
    """
    species_of(class_word)
    reference = embed_references(judge, class_word, references)
    rng = stream_rng("heldout", _LINEUP_KEY, CLASSES.index(class_word), seed)
    if identity is not None:
        near = [near_identity(identity, rng, 1 + place % 2) for place in range(NEAR)]
        others = _embed_all(judge, [*near, *(sample_identity(class_word, rng) for _ in range(FAR))], rng)
        return Lineup(reference, others[:NEAR], others[NEAR:])
    pool = _embed_all(judge, [sample_identity(class_word, rng) for _ in range(POOL)], rng)
    order = np.argsort(-(pool @ reference), kind="stable")
    rest = rng.permutation(order[NEAR:])[:FAR]
    return Lineup(reference, pool[order[:NEAR]], pool[rest])


def _embed_all(judge: Judge, identities: Sequence[Identity], rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw each character a few times and describe it; ``[n 64]``."""
    rows = []
    for identity in identities:
        # The judge must find it in one of the views, as it must in a real picture; if it finds none, others are drawn.
        for _ in range(_TRIES):
            views = [render(sample_scene(rng, [identity])).image for _ in range(VIEWS)]
            with suppress(InputError):
                rows.append(embed_references(judge, identity.class_word, views))
                break
        else:
            raise InputError(f"the judge does not know a {identity.class_word} when it sees one; train it longer.")
    return np.stack(rows)
