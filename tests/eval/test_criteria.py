"""The four faults of films: what counts as one, what does not, and what nobody can say."""

import numpy as np
import pytest

from d2plan.eval.criteria import DONE, WORN, is_misbound, is_missing, is_visually_confused, share_of_other
from d2plan.eval.judge import load_judge
from d2plan.eval.lineup import embed_references
from d2plan.world.cast import CLASSES, sample_identity
from d2plan.world.identity import Identity
from d2plan.world.scene import sample_scene
from d2plan.world.seeds import stream_rng
from d2plan.world.truth import render

RED_HAT = {"accessory": "hat", "accessory_colour": "red"}
BLUE_HAT = {"accessory": "hat", "accessory_colour": "blue"}
REX, BO = np.eye(8)[:2]


def test_who_is_matched_with_nobody_is_missing():
    assert is_missing(None) is True
    assert is_missing(0) is False


def test_a_hat_of_another_colour_or_on_nobody_is_misbound():
    assert is_misbound(RED_HAT, RED_HAT, WORN) is False
    assert is_misbound(RED_HAT, BLUE_HAT, WORN) is True
    assert is_misbound(RED_HAT, None, WORN) is True
    assert is_misbound({"accessory": "hat"}, BLUE_HAT, WORN) is False


def test_clothes_and_deeds_are_counted_apart_and_what_is_not_said_not_at_all():
    expected, seen = {"action": "running", **RED_HAT}, {"action": "sitting", **RED_HAT}
    assert (is_misbound(expected, seen, WORN), is_misbound(expected, seen, DONE)) == (False, True)
    assert is_misbound({"action": "running"}, RED_HAT, WORN) is None
    assert is_misbound({"accessory": None}, RED_HAT, WORN) is None
    assert is_misbound({}, None, DONE) is None


@pytest.mark.parametrize("between", [0.0, 0.6, -0.5])
@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.9, 1.0])
def test_the_share_of_a_mixture_is_the_one_that_was_mixed(share, between):
    own = np.array([1.0, 0.0])
    other = np.array([between, np.sqrt(1 - between**2)])
    mixed = (1 - share) * own + share * other
    mixed = mixed / np.linalg.norm(mixed)
    assert share_of_other(mixed @ own, mixed @ other, between) == pytest.approx(share)


def test_a_stranger_is_no_mixture():
    assert share_of_other(-0.2, -0.1, 0.0) == 0.0


def test_an_exchanged_a_double_and_a_blended_figure_are_confused_and_a_right_one_is_not():
    both = np.stack([REX, BO])
    assert [is_visually_confused(seen, both, 0) for seen in (REX, BO, REX + BO)] == [False, True, True]
    assert [is_visually_confused(seen, both, 1) for seen in (REX, BO)] == [True, False]
    assert is_visually_confused(REX + 0.4 * BO, both, 0) is False
    assert is_visually_confused(REX + 0.6 * BO, both, 0) is True


def test_nobody_to_be_confused_with_and_nobody_there_is_no_answer():
    assert is_visually_confused(None, np.stack([REX, BO]), 0) is None
    assert is_visually_confused(REX, REX[None], 0) is None
    assert is_visually_confused(REX, np.stack([REX, REX]), 0) is None


def test_the_judge_finds_mixtures_in_the_world_and_none_in_true_pictures():
    judge, rng = load_judge(), stream_rng("heldout", 970, 0)

    def look(identity, count):
        return embed_references(
            judge, identity.class_word, [render(sample_scene(rng, [identity])).image for _ in range(count)]
        )

    true, mixed = [], []
    for number in range(8):
        word = CLASSES[number]
        first, second = (sample_identity(word, rng) for _ in range(2))
        references = np.stack([look(one, 4) for one in (first, second)])
        names = list(first.values)
        some = {name: second.values[name] for name in names[::2]}
        true += [is_visually_confused(look(one, 1), references, place) for place, one in enumerate((first, second))]
        mixed.append(is_visually_confused(look(Identity(word, {**first.values, **some}), 1), references, 0))
        mixed.append(is_visually_confused(look(Identity(word, {**first.values, **some}), 1), references, 1))
    assert sum(true) <= 1
    # Half of the factors is another's: it is confused with the one or with the other.
    assert sum(mixed) >= 8
