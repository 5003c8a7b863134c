from pathlib import Path

import pytest

from tests.etp.storybook import facts, judge, load_stories

STORIES = load_stories(Path(__file__).parent / "stories" / "dev.yaml")
OPEN = load_stories(Path(__file__).parent / "stories" / "open.yaml")
OPEN_A = load_stories(Path(__file__).parent / "stories" / "open_a.yaml")
OPEN_B = load_stories(Path(__file__).parent / "stories" / "open_b.yaml")
OPEN_D = load_stories(Path(__file__).parent / "stories" / "open_d.yaml")
OPEN_E = load_stories(Path(__file__).parent / "stories" / "open_e.yaml")
OPEN_F = load_stories(Path(__file__).parent / "stories" / "open_f.yaml")
OPEN_G = load_stories(Path(__file__).parent / "stories" / "open_g.yaml")
OPEN_H = load_stories(Path(__file__).parent / "stories" / "open_h.yaml")
OPEN_I = load_stories(Path(__file__).parent / "stories" / "open_i.yaml")
OPEN_J = load_stories(Path(__file__).parent / "stories" / "open_j.yaml")
OPEN_K = load_stories(Path(__file__).parent / "stories" / "open_k.yaml")
OPEN_M = load_stories(Path(__file__).parent / "stories" / "open_m.yaml")
OPEN_N = load_stories(Path(__file__).parent / "stories" / "open_n.yaml")
OPEN_P = load_stories(Path(__file__).parent / "stories" / "open_p.yaml")
OPEN_Q = load_stories(Path(__file__).parent / "stories" / "open_q.yaml")
OPEN_R = load_stories(Path(__file__).parent / "stories" / "open_r.yaml")
SEALED = load_stories(Path(__file__).parent / "stories" / "sealed.yaml")
OPEN_C = load_stories(Path(__file__).parent / "stories" / "open_c.yaml")


@pytest.mark.parametrize("entry", STORIES, ids=[entry["story"][:50] for entry in STORIES])
def test_the_grammar_plans_the_development_stories_as_a_person_would(entry):
    verdict = judge(entry)
    assert verdict.fault == ""
    assert verdict.right == verdict.prompts


@pytest.mark.parametrize(
    ("stories", "least", "share", "silent"),
    [
        (OPEN, 80, 0.95, 0),
        (OPEN_A, 130, 0.97, 0),
        (OPEN_B, 120, 0.97, 0),
        (OPEN_C, 76, 0.97, 0),
        (OPEN_D, 86, 0.95, 0),
        (OPEN_E, 93, 0.95, 0),
        (OPEN_F, 93, 1, 0),
        (OPEN_G, 107, 1, 0),
        (OPEN_H, 118, 1, 0),
        (OPEN_I, 116, 1, 0),
        (OPEN_J, 122, 0.84, 0),
        # "Pip in the city. Pip singing." is two moments here, as docs/planning.md says, and one for its author.
        (OPEN_K, 191, 0.98, 1),
        (OPEN_M, 261, 0.99, 0),
        (OPEN_N, 223, 0.97, 0),
        (OPEN_P, 243, 1, 0),
        (OPEN_Q, 228, 0.9, 0),
        (OPEN_R, 199, 0.95, 0),
        (SEALED, 90, 0.97, 0),
    ],
    ids=[
        "open",
        "open_a",
        "open_b",
        "open_c",
        "open_d",
        "open_e",
        "open_f",
        "open_g",
        "open_h",
        "open_i",
        "open_j",
        "open_k",
        "open_m",
        "open_n",
        "open_p",
        "open_q",
        "open_r",
        "sealed",
    ],
)
def test_a_strangers_stories_are_planned_and_none_is_wrong_in_silence(stories, least, share, silent):
    verdicts = [(entry["story"], judge(entry)) for entry in stories]
    prompts, right = (sum(getattr(verdict, kind) for _, verdict in verdicts) for kind in ("prompts", "right"))
    assert prompts >= least
    assert right / prompts >= share, [story for story, verdict in verdicts if verdict.fault]
    wrong = [story for story, verdict in verdicts if verdict.fault and not verdict.told]
    assert len(wrong) <= silent, wrong


def test_there_are_forty_stories_of_each_sort_that_matters():
    assert len(STORIES) >= 40
    assert sum("refused" in entry for entry in STORIES) >= 5
    assert sum(len(entry.get("beats", [])) >= 3 for entry in STORIES) >= 10
    doubles = [entry for entry in STORIES if len(set(entry["characters"].values())) < len(entry["characters"])]
    assert len(doubles) >= 5


def test_a_wrong_expectation_is_found_out():
    wrong = {
        "story": "Rex sleeps, then runs.",
        "characters": {"Rex": "dog"},
        "beats": [{"Rex": "sleeping"}, {"Rex": "sitting"}],
    }
    verdict = judge(wrong)
    assert (verdict.prompts, verdict.right, verdict.told) == (2, 1, False)
    assert "'running', not 'sitting'" in verdict.fault


def test_daylight_may_be_left_unsaid():
    night = {"story": "Rex sleeps at night. Then the sun rises and he runs.", "characters": {"Rex": "dog"}}
    beats = [{"Rex": "sleeping"}, {"Rex": "running"}]
    for day in ("a dog", "a dog by day"):
        assert judge({**night, "beats": beats, "places": ["at night", day]}).fault == ""
    assert "not 'at night'" in judge({**night, "beats": beats, "places": ["at night", "at night"]}).fault


def test_phrases_are_compared_by_what_they_say():
    assert facts("wearing a red hat running") == facts("running and wearing a red hat")
    assert facts("standing") == facts("") == facts("parked")
    assert facts("wearing a red hat") != facts("wearing a hat")
    assert facts("wearing a red hat and a blue scarf") != facts("wearing a blue hat and a red scarf")
