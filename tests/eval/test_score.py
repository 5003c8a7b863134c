import numpy as np
import pytest

from d2plan.documents import Instance, Scene
from d2plan.eval.judge import Seen, Verdict
from d2plan.eval.score import (
    Expectation,
    Expected,
    Lineup,
    expect_caption,
    expect_prompt,
    expect_scene,
    rank_identity,
    score_verdict,
    summarise,
)
from d2plan.world.caption import write_caption
from d2plan.world.scene import sample_scene
from d2plan.world.seeds import stream_rng

AXES = np.eye(64, dtype=np.float32)


def seen(word, x=64.0, accessory=None, colour=None, action="standing", who=0):
    box = (x - 10, 20.0, x + 10, 100.0)
    return Seen(word, np.zeros((128, 128), bool), box, accessory, colour, action, AXES[who], 0.9)


def score(instances, *found, lineups=None, place="beach"):
    return score_verdict(
        Verdict(place, "day", tuple(found)), Expectation(tuple(instances), "beach"), 128, lineups or {}
    )


def test_a_prompt_is_read_instance_by_instance():
    text = "a photo of a running dog wearing a red scarf and a woman on the right waving"
    text += " in front of the Eiffel Tower at night"
    assert expect_prompt(text) == Expectation(
        (
            Expected("dog", "scarf", "red", "running"),
            Expected("woman", action="waving", position="right"),
        ),
        "eiffel tower",
        "night",
    )


def test_a_prompt_without_the_worlds_words_expects_nothing():
    assert expect_prompt("an abstract painting") == Expectation(())


@pytest.mark.parametrize("number", range(60))
def test_a_written_caption_is_read_back_as_it_was_meant(number):
    rng = stream_rng("heldout", 901, number)
    scene = sample_scene(rng)
    caption = write_caption(scene, rng)
    meant, read = expect_caption(scene, caption), expect_prompt(caption.text)
    order = np.argsort([start for start, _ in caption.class_words])
    plain = [Expected(one.class_word, **one.attributes) for one in read.instances]
    assert plain == [meant.instances[place] for place in order]
    assert (read.place, read.light) == (meant.place, meant.light)


def test_a_scene_file_takes_attributes_from_sub_prompts_and_the_place_from_the_global_one():
    scene = Scene(
        global_prompt="a photo of a man and a dog on the beach",
        instances=(
            Instance(
                concept="a.safetensors", class_word="man", sub_prompt="a photo of a <v1> man wearing black sunglasses"
            ),
            Instance(concept="b.safetensors", class_word="dog", sub_prompt="a photo of a <v2> dog running"),
        ),
    )
    assert expect_scene(scene, ["john", "rex"]) == Expectation(
        (
            Expected("man", "sunglasses", "black", concept="john"),
            Expected("dog", action="running", concept="rex"),
        ),
        "beach",
    )


def test_right_instances_score_right():
    found = score(
        [Expected("man", "hat", "red"), Expected("dog")], seen("dog"), seen("man", accessory="hat", colour="red")
    )
    assert [one.present for one in found.instances] == [True, True]
    assert found.instances[0].attributes is True
    assert found.instances[1].attributes is None
    assert found.place is True and found.light is None
    assert (found.expected_count, found.seen_count) == (2, 2)


def test_an_absent_class_is_absent_and_its_attributes_are_wrong():
    found = score([Expected("cat", action="running")], seen("dog", action="running"), place="city")
    assert found.instances[0].present is False
    assert found.instances[0].attributes is False
    assert found.place is False


def test_one_seen_instance_answers_for_one_expected():
    found = score([Expected("man"), Expected("man")], seen("man"))
    assert sorted(one.present for one in found.instances) == [False, True]


def test_sides_decide_between_two_of_one_class():
    left, right = seen("man", 30, action="waving"), seen("man", 100, action="running")
    wanted = [Expected("man", action="waving", position="right"), Expected("man", action="running", position="left")]
    assert [one.swapped for one in score(wanted, left, right).instances] == [True, True]


def test_looks_decide_between_two_concepts_of_one_class():
    lineups = {
        "john": Lineup(AXES[1], AXES[10:20], AXES[20:29]),
        "jack": Lineup(AXES[2], AXES[10:20], AXES[20:29]),
    }
    wanted = [Expected("man", "hat", "red", concept="john"), Expected("man", concept="jack")]
    found = score(wanted, seen("man", 30, "hat", "red", who=2), seen("man", 90, who=1), lineups=lineups)
    assert [one.rank for one in found.instances] == [1, 1]
    assert found.instances[0].attributes is False
    assert found.instances[1].swapped is True


def test_ranks_count_who_is_more_alike():
    lineup = Lineup(AXES[0], np.stack([AXES[1] + AXES[0] * 0.1] * 10), np.stack([AXES[0]] * 2 + [AXES[5]] * 7))
    found = rank_identity(seen("man", who=1), lineup)
    assert (found["rank"], found["rank_near"], found["rank_far"]) == (20, 11, 10)
    found = rank_identity(seen("man", who=0), lineup)
    assert (found["rank"], found["rank_near"], found["rank_far"]) == (3, 1, 3)
    assert found["similarity"] == pytest.approx(1.0)


def test_who_is_absent_comes_last():
    lineup = Lineup(AXES[0], AXES[10:20], AXES[20:29])
    assert rank_identity(None, lineup) == {"similarity": None, "rank": 20, "rank_near": 11, "rank_far": 10}


def test_the_summary_averages_over_instances():
    good = score([Expected("man", action="running")], seen("man", action="running"))
    bad = score([Expected("man", action="running")], seen("man", action="sitting"))
    table = summarise([good, good, good, bad])
    assert table["action"].mean == pytest.approx(0.75)
    assert table["present"].mean == 1.0
    assert table["count"].count == 4
    assert "similarity" not in table and "light" not in table
    assert "count" not in summarise([score([], seen("man"))])
