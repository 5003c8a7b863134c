"""Stories in which the planner was wrong without a note, by what they have in common."""

import pytest

from tests.etp.storybook import plan
from tests.etp.test_grammar import shown

WIDE = {
    "Rex": "dog",
    "John": "man",
    "Tom": "man",
    "Max": "boy",
    "Mia": "girl",
    "Lily": "woman",
    "Bo": "dog",
    "Turbo": "car",
    "Pip": "bird",
    "Nomad": "backpack",
    "Bolt": "robot",
}


@pytest.mark.parametrize(
    ("story", "beats"),
    [
        ("Max drops his hat on the floor. Then he sits.", [{"Max": "wearing a hat"}, {"Max": ""}, {"Max": "sitting"}]),
        ("Max puts his hat on the table. Then he sits.", [{"Max": "wearing a hat"}, {"Max": ""}, {"Max": "sitting"}]),
        (
            "Mia pulls her hat down over her eyes and sleeps. Then she wakes up.",
            [{"Mia": ""}, {"Mia": "wearing a hat sleeping"}, {"Mia": "wearing a hat standing"}],
        ),
        (
            "Max has a hat on his lap. He sits. Then he puts it on.",
            [{"Max": "sitting"}, {"Max": "wearing a hat sitting"}],
        ),
        (
            "Mia finds her lost hat and puts it on. Then she waves.",
            [{"Mia": ""}, {"Mia": "wearing a hat"}, {"Mia": "wearing a hat waving"}],
        ),
        (
            "Tom has a crown on. Max snatches it off his head and puts it on.",
            [{"Tom": "wearing a crown", "Max": ""}, {"Tom": "", "Max": "wearing a crown"}],
        ),
        (
            "Lily wakes up and her crown is gone. Max has it on.",
            [{"Lily": "wearing a crown sleeping", "Max": ""}, {"Lily": "standing", "Max": "wearing a crown"}],
        ),
        (
            "Mia ties a scarf round Rex's neck. He runs.",
            [
                {"Mia": "", "Rex": ""},
                {"Mia": "", "Rex": "wearing a scarf"},
                {"Mia": "", "Rex": "wearing a scarf running"},
            ],
        ),
        (
            "Somebody puts a white bow on Turbo. Then Turbo drives.",
            [{"Turbo": ""}, {"Turbo": "wearing a white bow"}, {"Turbo": "wearing a white bow driving"}],
        ),
        (
            "Lily wears a hat. The wind blows it off her head. She runs.",
            [{"Lily": "wearing a hat"}, {"Lily": ""}, {"Lily": "running"}],
        ),
    ],
)
def test_what_is_laid_held_or_pulled_over_the_eyes_is_not_put_on(story, beats):
    assert shown(story, WIDE) == beats


@pytest.mark.parametrize(
    ("story", "beats"),
    [
        (
            "Max wakes up, but Mia is still asleep. Then she wakes up too.",
            [
                {"Max": "sleeping", "Mia": "sleeping"},
                {"Max": "standing", "Mia": "sleeping"},
                {"Max": "standing", "Mia": "standing"},
            ],
        ),
        (
            "Max stops running, but Mia runs on. Then she sits.",
            [
                {"Max": "running", "Mia": "running"},
                {"Max": "standing", "Mia": "running"},
                {"Max": "standing", "Mia": "sitting"},
            ],
        ),
        (
            "Until Max waves, Mia sits. Then she runs.",
            [{"Mia": "sitting", "Max": ""}, {"Mia": "standing", "Max": "waving"}, {"Mia": "running", "Max": "waving"}],
        ),
        ("Until it gets dark, Rex runs. Then he sleeps.", [{"Rex": "running"}, {"Rex": "sleeping"}]),
        (
            "Rex takes off his scarf before running and puts it on after sitting down.",
            [
                {"Rex": "wearing a scarf"},
                {"Rex": ""},
                {"Rex": "running"},
                {"Rex": "sitting"},
                {"Rex": "wearing a scarf sitting"},
            ],
        ),
    ],
)
def test_what_goes_on_went_on_before(story, beats):
    assert shown(story, WIDE) == beats


@pytest.mark.parametrize(
    ("story", "beats"),
    [
        (
            "John and Tom run. Then only Tom is still running.",
            [{"John": "running", "Tom": "running"}, {"John": "standing", "Tom": "running"}],
        ),
        (
            "Rex and Bo have red scarves on. Suddenly only Bo has one. Then Rex sits down.",
            [
                {"Rex": "wearing a red scarf", "Bo": "wearing a red scarf"},
                {"Rex": "", "Bo": "wearing a red scarf"},
                {"Rex": "sitting", "Bo": "wearing a red scarf"},
            ],
        ),
        ("Rex wears just a scarf. Then he wears just a hat.", [{"Rex": "wearing a scarf"}, {"Rex": "wearing a hat"}]),
        (
            "Rex wears a scarf and nothing else. Then a hat and nothing else.",
            [{"Rex": "wearing a scarf"}, {"Rex": "wearing a hat"}],
        ),
    ],
)
def test_only_and_nothing_else_end_the_rest(story, beats):
    assert shown(story, WIDE) == beats


@pytest.mark.parametrize(
    ("story", "beats"),
    [
        (
            "Mia asks Max to jump, but he doesn't. Then he sits.",
            [{"Mia": "", "Max": ""}, {"Mia": "", "Max": "sitting"}],
        ),
        (
            "Mia orders Rex to sit, but Rex runs. Then Rex sits.",
            [{"Mia": "", "Rex": "running"}, {"Mia": "", "Rex": "sitting"}],
        ),
        (
            "Lily thinks Max is asleep, but he is only sitting there. He jumps up.",
            [{"Lily": "", "Max": "sitting"}, {"Lily": "", "Max": "jumping"}],
        ),
        (
            "Mia dreams that she is flying over the castle. Then she wakes up and smiles.",
            [{"Mia": "sleeping"}, {"Mia": "smiling"}],
        ),
    ],
)
def test_what_is_asked_for_or_thought_does_not_happen(story, beats):
    assert shown(story, WIDE) == beats


@pytest.mark.parametrize(
    ("story", "beats"),
    [
        (
            "Mia runs past Max, who is asleep, and waves. He wakes up.",
            [
                {"Mia": "running", "Max": "sleeping"},
                {"Mia": "waving", "Max": "sleeping"},
                {"Mia": "waving", "Max": "standing"},
            ],
        ),
        (
            "John sees Lily waving and waves back. Then she sits down.",
            [{"John": "waving", "Lily": "waving"}, {"John": "waving", "Lily": "sitting"}],
        ),
        (
            "Seeing Mia asleep, Max takes her hat and puts it on.",
            [{"Max": "", "Mia": "wearing a hat sleeping"}, {"Max": "wearing a hat", "Mia": "sleeping"}],
        ),
        ("John stops the car. He waves.", [{"John": "", "Turbo": "parked"}, {"John": "waving", "Turbo": "parked"}]),
        (
            "Mia opens Nomad. Then she closes it. Then she jumps.",
            [
                {"Mia": "", "Nomad": "opening"},
                {"Mia": "", "Nomad": "standing"},
                {"Mia": "jumping", "Nomad": "standing"},
            ],
        ),
        (
            "Mia sits. Give her a red hat. Now she jumps.",
            [{"Mia": "sitting"}, {"Mia": "wearing a red hat sitting"}, {"Mia": "wearing a red hat jumping"}],
        ),
        (
            "Mia, not Max, wears the hat. Then Max gets it.",
            [{"Mia": "wearing a hat", "Max": ""}, {"Mia": "", "Max": "wearing a hat"}],
        ),
    ],
)
def test_a_verb_belongs_to_who_acts_not_to_who_was_named_last(story, beats):
    assert shown(story, WIDE) == beats


@pytest.mark.parametrize(
    ("story", "beats"),
    [
        (
            "Bolt on the moon: no hat. Bolt on the moon: red hat. Bolt on the moon: red hat, waving.",
            [{"Bolt": ""}, {"Bolt": "wearing a red hat"}, {"Bolt": "wearing a red hat waving"}],
        ),
        (
            "Mia (red hat) and Max (blue hat) sit. Mia stands up. Then they trade hats.",
            [
                {"Mia": "wearing a red hat sitting", "Max": "wearing a blue hat sitting"},
                {"Mia": "wearing a red hat standing", "Max": "wearing a blue hat sitting"},
                {"Mia": "wearing a blue hat standing", "Max": "wearing a red hat sitting"},
            ],
        ),
        (
            "Mia sits in a purple hat. Then Mia, hat still on, waves. Then, hat off, she jumps.",
            [{"Mia": "wearing a purple hat sitting"}, {"Mia": "wearing a purple hat waving"}, {"Mia": "jumping"}],
        ),
        (
            "Turbo drives. Then Turbo is parked again, this time wearing black sunglasses. Then it drives.",
            [
                {"Turbo": "driving"},
                {"Turbo": "wearing black sunglasses parked"},
                {"Turbo": "wearing black sunglasses driving"},
            ],
        ),
        (
            "Mia gives Rex a red and Bo a blue hat. Then Rex sits.",
            [
                {"Mia": "", "Rex": "", "Bo": ""},
                {"Mia": "", "Rex": "wearing a red hat", "Bo": "wearing a blue hat"},
                {"Mia": "", "Rex": "wearing a red hat sitting", "Bo": "wearing a blue hat"},
            ],
        ),
        (
            "Mia wears a red hat and Max a scarf. Mia swaps her hat for his scarf. They smile.",
            [
                {"Mia": "wearing a red hat", "Max": "wearing a scarf"},
                {"Mia": "wearing a scarf", "Max": "wearing a red hat"},
                {"Mia": "wearing a scarf smiling", "Max": "wearing a red hat smiling"},
            ],
        ),
        (
            "First Mia wears the crown, then Max. Then Mia waves.",
            [
                {"Mia": "wearing a crown", "Max": ""},
                {"Mia": "", "Max": "wearing a crown"},
                {"Mia": "waving", "Max": "wearing a crown"},
            ],
        ),
    ],
)
def test_headings_and_tags_tell_what_is_worn(story, beats):
    assert shown(story, WIDE) == beats


@pytest.mark.parametrize(
    ("story", "places"),
    [
        ("INT. LIVING ROOM - NIGHT. Mia sits. Then she waves.", ["in a living room at night"] * 2),
        (
            "Sunset on the beach. Mia sits. Night on the beach. Mia sleeps.",
            ["on the beach at sunset", "on the beach at night"],
        ),
        ("Mia sits in the rain. When the rain finally stops, she runs.", ["in the rain", "by day"]),
        ("Rex runs until evening. Then he sleeps.", ["a dog", "at sunset"]),
        ("It was night. John ran. It was morning. John slept.", ["at night", "by day"]),
        ("Make it night. Mia sits. Make it day. Mia jumps.", ["at night", "by day"]),
        ("Mia wears a hat in case it rains. Then she sits.", ["a girl", "a girl"]),
    ],
)
def test_where_and_in_which_light_it_is(story, places):
    made = plan(story, WIDE)
    assert len(made.beats) == len(places)
    assert [made.prompt_at(index).endswith(place) for index, place in enumerate(places)] == [True] * len(places)


@pytest.mark.parametrize(
    ("story", "word"),
    [
        ("John usually wears a hat but not today. He sits. Then he runs.", "usually"),
        ("Rex tries on a scarf, a hat and a crown, one after the other.", "at once"),
        ("Mia puts hats on both dogs, Rex and Bo. They run.", "not Rex and Bo"),
        ("Mia gives Max a red or blue hat. He waves.", "blue"),
        ("Mia, Max and John sit. Two of them stand up.", "Two of them"),
    ],
)
def test_what_is_uncertain_is_noted(story, word):
    assert any(word in note for note in plan(story, WIDE).notes)
