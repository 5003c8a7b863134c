import pytest

from tests.etp.storybook import plan
from tests.etp.test_grammar import CAST, shown

MORE = {**CAST, "Ben": "boy", "Turbo": "car"}


def places(story, names=MORE):
    made = plan(story, names)
    return [made.prompt_at(index).partition(" in ")[2] for index in range(len(made.beats))]


@pytest.mark.parametrize(
    ("story", "beats"),
    [
        (
            "Ben wears a red hat. The hat is taken from Ben and given to Mia.",
            [{"Ben": "wearing a red hat", "Mia": ""}, {"Ben": "", "Mia": "wearing a red hat"}],
        ),
        (
            "Ben wears a crown. Then the crown goes to Mia.",
            [{"Ben": "wearing a crown", "Mia": ""}, {"Ben": "", "Mia": "wearing a crown"}],
        ),
        (
            "Ben has a red hat. Then he wears a crown instead.",
            [{"Ben": "wearing a red hat"}, {"Ben": "wearing a crown"}],
        ),
        ("Mia has a hat. Then the hat is blue.", [{"Mia": "wearing a hat"}, {"Mia": "wearing a blue hat"}]),
        ("rex: red hat, sitting. then no hat, running.", [{"Rex": "wearing a red hat sitting"}, {"Rex": "running"}]),
        (
            "Rex sits; Tom jumps. Then Rex runs; Tom sits.",
            [{"Rex": "sitting", "Tom": "jumping"}, {"Rex": "running", "Tom": "sitting"}],
        ),
        (
            "Cut to Rex, who sleeps. Cut to Tom, who runs.",
            [{"Rex": "sleeping", "Tom": ""}, {"Rex": "sleeping", "Tom": "running"}],
        ),
        (
            "The children Mia and Ben wave. Then they sit.",
            [{"Mia": "waving", "Ben": "waving"}, {"Mia": "sitting", "Ben": "sitting"}],
        ),
        (
            "Mia has a red hat, then a blue one, and then none.",
            [{"Mia": "wearing a red hat"}, {"Mia": "wearing a blue hat"}, {"Mia": ""}],
        ),
        (
            "Mia has a blue crown. Ben has a red scarf. Ben trades his scarf for Mia's crown.",
            [
                {"Mia": "wearing a blue crown", "Ben": "wearing a red scarf"},
                {"Mia": "wearing a red scarf", "Ben": "wearing a blue crown"},
            ],
        ),
        ("Turbo races away. Then he stops.", [{"Turbo": "driving"}, {"Turbo": "parked"}]),
    ],
)
def test_classes_of_sentences_are_planned_as_a_person_would(story, beats):
    assert shown(story, MORE) == beats


@pytest.mark.parametrize(
    ("story", "where"),
    [
        ("Night lies upon the forest, and Rex sleeps. Then he runs.", ["the forest at night"] * 2),
        ("Rex sits in the city. It is raining. Then he runs.", ["the city in the rain"] * 2),
        (
            "Mia jumps in the forest while it rains. Then the rain stopped and she sits.",
            ["the forest in the rain", "the forest by day"],
        ),
        (
            "EXT. FOREST - NIGHT. Rex sleeps. INT. ROOM - DAY. Rex runs.",
            ["the forest at night", "a living room by day"],
        ),
        ("Rex sleeps, forest, night. Rex runs, city, rain.", ["the forest at night", "the city in the rain"]),
    ],
)
def test_places_and_lights_that_are_only_mentioned_are_seen(story, where):
    assert places(story) == where


@pytest.mark.parametrize(
    ("story", "word"),
    [
        ("Rex runs. Tom sits down.", "Tom sits down"),
        ("Mia and Ben sit. The bigger one runs.", "bigger"),
        ("Mia jumps. Then she finally sits in the snow.", "in the snow"),
        ("It was snowing. Mia ran. Then she sat.", "snowing"),
    ],
)
def test_what_may_be_meant_otherwise_or_is_in_no_moment_is_noted(story, word):
    assert any(word in note for note in plan(story, MORE).notes)


def test_sleeping_in_the_rain_is_no_sleeping_in():
    assert plan("Mia sleeps in the rain. Then she runs.", MORE).prompt_at(0).endswith("in the rain")


@pytest.mark.parametrize(
    "story",
    [
        "Can you make Rex sleep and then run?",
        "I'd like Rex to sleep and then run.",
        "Hi! Please make a short video of Rex sleeping. Then he should run. Thank you!",
        "Show me Rex sleeping, then show him running.",
    ],
)
def test_a_story_may_be_asked_for(story):
    assert shown(story, MORE) == [{"Rex": "sleeping"}, {"Rex": "running"}]
