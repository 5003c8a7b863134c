"""What a plan asks for and will hardly get is told; a plan that can work is told nothing."""

import pytest

from d2plan.etp.doubts import doubt_plan
from d2plan.etp.plan import Beat, EventPlan, PlanInstance

WORDS = "a photo of man and dog wearing scarf sitting running jumping flying on the beach <v1> <v2>".split()


def make(prompt="a photo of a <v2> dog running", rex=None, john=None):
    first = {"Rex": "a photo of a <v2> dog", "John": "a photo of a <v1> man"}
    return EventPlan(
        global_prompt="a photo of a man and a dog on the beach",
        instances=(
            PlanInstance(name="Rex", concept="r", class_word="dog", identifier="<v2>", **(rex or {})),
            PlanInstance(name="John", concept="j", class_word="man", identifier="<v1>", **(john or {})),
        ),
        beats=(
            Beat(sub_prompts={**first, "Rex": "a photo of a <v2> dog jumping"}),
            Beat(sub_prompts={**first, "Rex": prompt}),
        ),
    )


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"prompt": "a photo of a <v2> dog wearing a scraf"},
            'beats[1].sub_prompts.Rex: the base has never seen "scraf"; known words like it: scarf.',
        ),
        ({"prompt": "a photo of a <v2> dog sitting running"}, "beats[1].sub_prompts.Rex asks for running and sitting"),
        ({"prompt": "a photo of a <v2> dog flying"}, "beats[1].sub_prompts.Rex asks for flying, which the base"),
        ({"prompt": "<v2>"}, 'beats[1].sub_prompts.Rex does not say "dog"'),
        ({"rex": {"box": (0.0, 0.0, 0.4, 1.0), "position": "right"}}, "instances[0]: position says right"),
        (
            {"rex": {"box": (0.0, 0.0, 0.5, 1.0)}, "john": {"box": (0.0, 0.0, 0.55, 1.0)}},
            "Rex and John have nearly the same box",
        ),
    ],
)
def test_what_will_hardly_become_as_written_is_told_with_its_field(changes, told):
    (doubt,) = doubt_plan(make(**changes), WORDS)
    assert doubt.startswith(told)


def test_a_plan_that_can_work_is_told_nothing():
    places = {"rex": {"box": (0.0, 0.0, 0.5, 1.0), "position": "left"}, "john": {"box": (0.5, 0.0, 1.0, 1.0)}}
    assert doubt_plan(make(**places), WORDS) == ()
    # A large base knows more words than anybody lists, and more than one thing at a time.
    assert doubt_plan(make("a photo of a <v2> dog sitting, jumping and pondering"), ()) == ()
