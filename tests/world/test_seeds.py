"""Who draws from where: nothing that is tested was ever trained on."""

from __future__ import annotations

import pytest

from d2plan.errors import InputError
from d2plan.world.cast import CLASSES, identity_from_seed
from d2plan.world.identity import Identity
from d2plan.world.scene import sample_scene
from d2plan.world.seeds import DEVELOPMENT_SEEDS, STREAMS, TEST_SEEDS, stream_rng

SCENES = 400


def key(identity: Identity) -> tuple[object, ...]:
    return (identity.class_word, *sorted(identity.values.items()))


def draw_stream(stream: str) -> set[tuple[object, ...]]:
    scenes = [sample_scene(stream_rng(stream, number)) for number in range(SCENES)]
    return {key(figure.identity) for scene in scenes for figure in scene.figures}


def test_no_identity_comes_from_two_streams() -> None:
    drawn = {stream: draw_stream(stream) for stream in ("base", "judge", "heldout", "context")}
    drawn["concept"] = {key(identity_from_seed(word, seed)) for word in CLASSES for seed in range(100)}
    drawn["test"] = {key(identity_from_seed(word, seed)) for word in CLASSES for seed in TEST_SEEDS[:100]}
    together = set().union(*drawn.values())
    assert len(together) == sum(len(identities) for identities in drawn.values()) > 4000


def test_development_and_test_seeds_share_none_and_leave_no_gap() -> None:
    assert not set(DEVELOPMENT_SEEDS) & set(TEST_SEEDS)
    assert sorted([*DEVELOPMENT_SEEDS, *TEST_SEEDS]) == list(range(100_000))


def test_streams_have_numbers_of_their_own() -> None:
    assert len(set(STREAMS.values())) == len(STREAMS)
    first = {int(stream_rng(stream, 3, 4).integers(2**62)) for stream in STREAMS}
    assert len(first) == len(STREAMS)


def test_the_same_key_gives_the_same_numbers() -> None:
    assert stream_rng("judge", 5, 6).random(9).tolist() == stream_rng("judge", 5, 6).random(9).tolist()
    assert stream_rng("judge", 5, 6).random() != stream_rng("judge", 6, 5).random()


def test_wrong_streams_and_negative_seeds_are_named() -> None:
    with pytest.raises(InputError, match="'bsae'.*base, judge"):
        stream_rng("bsae", 1)
    with pytest.raises(InputError, match="-4 is negative"):
        stream_rng("base", 2, -4)
