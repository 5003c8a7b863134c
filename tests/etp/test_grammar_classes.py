import pytest

from tests.etp.storybook import plan
from tests.etp.test_grammar import CAST, shown

MORE = {**CAST, "Ben": "boy", "Turbo": "car", "Ann": "girl"}


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
        (
            "Next to Rex sits Ben, and beside him jumps a girl. Then all sleep.",
            [{"Ben": "sitting", "Mia": "jumping", "Rex": ""}, dict.fromkeys(("Ben", "Mia", "Rex"), "sleeping")],
        ),
        (
            "There are Mia and Ben, both asleep. Then she runs.",
            [{"Mia": "sleeping", "Ben": "sleeping"}, {"Mia": "running", "Ben": "sleeping"}],
        ),
        (
            "There is a car in the snow. It starts to drive. Then it stops.",
            [{"Turbo": ""}, {"Turbo": "driving"}, {"Turbo": "parked"}],
        ),
        (
            "Neither Rex nor Tom is running. Then both run.",
            [{"Rex": "", "Tom": ""}, {"Rex": "running", "Tom": "running"}],
        ),
        ("If it rains, Rex jumps. Rex sits, then he sleeps.", [{"Rex": "sitting"}, {"Rex": "sleeping"}]),
        (
            "Mia does not smile until Ben waves. Then they sit.",
            [{"Mia": "", "Ben": "waving"}, {"Mia": "smiling", "Ben": "waving"}, {"Mia": "sitting", "Ben": "sitting"}],
        ),
        (
            "Rex does not stop running until Mia sits down.",
            [{"Rex": "running", "Mia": ""}, {"Rex": "standing", "Mia": "sitting"}],
        ),
        ("Ben, no longer asleep, waves. Then he runs.", [{"Ben": "sleeping"}, {"Ben": "waving"}, {"Ben": "running"}]),
        ("Rex runs. Yesterday he slept all day.", [{"Rex": "sleeping"}, {"Rex": "running"}]),
        (
            "Rex, Tom and Ben run; Rex stops first, then Tom, and Ben last.",
            [
                {"Rex": "running", "Tom": "running", "Ben": "running"},
                {"Rex": "standing", "Tom": "running", "Ben": "running"},
                {"Rex": "standing", "Tom": "standing", "Ben": "running"},
                {"Rex": "standing", "Tom": "standing", "Ben": "standing"},
            ],
        ),
        (
            "Mia and Ben sit. One by one, they fall asleep.",
            [
                {"Mia": "sitting", "Ben": "sitting"},
                {"Mia": "sleeping", "Ben": "sitting"},
                {"Mia": "sleeping", "Ben": "sleeping"},
            ],
        ),
        (
            "Mia, wearing a red hat, and Ben, wearing a blue one, swap hats.",
            [
                {"Mia": "wearing a red hat", "Ben": "wearing a blue hat"},
                {"Mia": "wearing a blue hat", "Ben": "wearing a red hat"},
            ],
        ),
        (
            "John waves at Ben. He waves back.",
            [{"John": "waving", "Ben": ""}, {"John": "waving", "Ben": "waving"}],
        ),
        (
            "Ben has a red hat. He takes it off and puts on a blue one.",
            [{"Ben": "wearing a red hat"}, {"Ben": "wearing a blue hat"}],
        ),
        ("I have a dog. His name is Rex. He sits. Then he runs.", [{"Rex": "sitting"}, {"Rex": "running"}]),
        (
            "John sits while all of the children run. Then both girls sleep.",
            [
                {"John": "sitting", "Mia": "running", "Ben": "running", "Ann": "running"},
                {"John": "sitting", "Mia": "sleeping", "Ben": "running", "Ann": "sleeping"},
            ],
        ),
        (
            "Mia and her friends Tom and Ben run. Her friends sit down.",
            [
                {"Mia": "running", "Tom": "running", "Ben": "running"},
                {"Mia": "running", "Tom": "sitting", "Ben": "sitting"},
            ],
        ),
        (
            "Mia's friend Ben sleeps. She wakes him.",
            [{"Ben": "sleeping", "Mia": ""}, {"Ben": "standing", "Mia": ""}],
        ),
        (
            "Rex sits. Tom does too, then both run.",
            [{"Rex": "sitting", "Tom": "sitting"}, {"Rex": "running", "Tom": "running"}],
        ),
        (
            "With Rex asleep and Tom awake, Mia waves. Then she sits.",
            [
                {"Rex": "sleeping", "Tom": "standing", "Mia": "waving"},
                {"Rex": "sleeping", "Tom": "standing", "Mia": "sitting"},
            ],
        ),
        (
            "Mia puts a hat on Rex and a scarf on Tom. Then all run.",
            [
                {"Mia": "", "Rex": "", "Tom": ""},
                {"Mia": "", "Rex": "wearing a hat", "Tom": "wearing a scarf"},
                {"Mia": "running", "Rex": "wearing a hat running", "Tom": "wearing a scarf running"},
            ],
        ),
        (
            "Ben gives Rex a hat and Tom a scarf.",
            [{"Ben": "", "Rex": "", "Tom": ""}, {"Ben": "", "Rex": "wearing a hat", "Tom": "wearing a scarf"}],
        ),
        (
            "Ben is not smiling. Mia waves, and now he is.",
            [{"Ben": "", "Mia": "waving"}, {"Ben": "smiling", "Mia": "waving"}],
        ),
        ("Rex is a dog that never sleeps. He runs. Then he sits.", [{"Rex": "running"}, {"Rex": "sitting"}]),
        ("Mia did not wear a hat. Now she does.", [{"Mia": ""}, {"Mia": "wearing a hat"}]),
        (
            "After a hat is put on Mia's head by Ben, Mia jumps.",
            [{"Ben": "", "Mia": ""}, {"Ben": "", "Mia": "wearing a hat"}, {"Ben": "", "Mia": "wearing a hat jumping"}],
        ),
        (
            "Mia sits with a hat in her lap. Then she puts it on.",
            [{"Mia": "sitting"}, {"Mia": "wearing a hat sitting"}],
        ),
        (
            "Mia wavs. Then she has a grean hat.",
            [{"Mia": "waving"}, {"Mia": "wearing a green hat waving"}],
        ),
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
        ("Mia runs. She was asleep.", "told in the past"),
        ("Ben will sleep, but now he is running.", "told in the future"),
        ("Mia waves to Ann and she smiles. Then Ann runs.", '"she" is taken as Mia, not Ann'),
        ("Rex wears the same hat as Tom. Then he sleeps.", "as Tom"),
        ("Ben puts on a hat, then another, then waves.", "another"),
        ("Mia smiles. In the middle, Rex runs.", "middle of the story"),
        ("Rex runs. Five years later he sleeps.", "Five years later"),
        ("Rex runs. The next winter he sleeps.", "The next winter"),
        ("Rex runs. Years pass. He sleeps.", "Years pass"),
        ("Rex and Tom run to Mia and Ben. They sit down.", "not Mia and Ben"),
        ("John crowns Mia. She smiles, then she sits.", "crowns"),
    ],
)
def test_what_may_be_meant_otherwise_or_is_in_no_moment_is_noted(story, word):
    assert any(word in note for note in plan(story, MORE).notes)


@pytest.mark.parametrize("story", ["Rex runs. The next day he sleeps.", "Rex runs. An hour later he sleeps."])
def test_what_only_orders_the_moments_needs_no_note(story):
    assert plan(story, MORE).notes == ()


def test_headings_and_lists_end_at_their_line():
    assert places("EXT. DESERT - NIGHT\nRex sits. He runs.") == ["the desert at night"] * 2
    assert shown("- Rex sits\n- Rex runs", MORE) == shown("1. Rex sits\n2. Rex runs", MORE)
    assert shown("Then Rex and\nTom sit. They run.", MORE) == shown("Rex and Tom sit. They run.", MORE)


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
