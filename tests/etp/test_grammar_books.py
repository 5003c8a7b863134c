"""What strangers' books (``stories``) showed to be read wrong: what ends, what goes on, where it is, whose it is."""

import pytest

from d2plan.errors import InputError
from tests.etp.storybook import plan
from tests.etp.test_grammar import shown

KNOWN = {"Rex": "dog", "John": "man", "Tom": "man", "Max": "boy", "Mia": "girl", "Lily": "woman"}


@pytest.mark.parametrize(
    ("story", "beats"),
    [
        (
            "Mia and John are waving. Mia stops waving, but John doesn't.",
            [{"Mia": "waving", "John": "waving"}, {"Mia": "standing", "John": "waving"}],
        ),
        (
            "Mia and John are waving. Then Mia no longer does.",
            [{"Mia": "waving", "John": "waving"}, {"Mia": "standing", "John": "waving"}],
        ),
        (
            "Mia sleeps. Mia wakes up. John sits down at once, and Mia smiles.",
            [
                {"Mia": "sleeping", "John": ""},
                {"Mia": "standing", "John": ""},
                {"Mia": "smiling", "John": "sitting"},
            ],
        ),
        ("Mia sits. She adds a purple scarf.", [{"Mia": "sitting"}, {"Mia": "wearing a purple scarf sitting"}]),
    ],
)
def test_who_does_not_stop_goes_on(story, beats):
    assert [{name: set(said.split()) for name, said in beat.items()} for beat in shown(story, KNOWN)] == [
        {name: set(said.split()) for name, said in beat.items()} for beat in beats
    ]


@pytest.mark.parametrize(
    ("story", "place"),
    [
        ("Mia is on the beach; John isn't. Mia waves.", "on the beach"),
        ("John isn't on the beach. Mia waves in the forest. Then she sits.", "in the forest"),
        ("Mia does not fly to the moon. She waves in the forest. Then she sits.", "in the forest"),
        ("Mia is no longer on the beach but in the forest. She waves. Then she jumps.", "in the forest"),
        ("Mia sits, not on the beach but in the forest. She waves.", "in the forest"),
    ],
)
def test_where_somebody_is_not_is_no_place_of_the_picture(story, place):
    made = plan(story, KNOWN)
    assert made.global_prompt.endswith(place)
    assert any("no place where somebody is not" in note for note in made.notes)


@pytest.mark.parametrize(
    ("story", "places"),
    [
        ("Frame 1: Forest. Mia sits. Frame 2: Mountains. Mia jumps.", ["in the forest", "in the mountains"]),
        (
            "Scene 1: City, night. Mia sits. Scene 2: Eiffel Tower, night. Mia waves.",
            ["in the city at night", "in front of the Eiffel Tower at night"],
        ),
        ("A huge castle looms ahead. Mia sits. Then she jumps.", ["in front of a castle", "in front of a castle"]),
        ("We open in the city, Mia running. Then she waves.", ["in the city", "in the city"]),
        ("Subject: the Paris bit\n\nMia runs in the city. She waves.", ["in the city", "in the city"]),
        ("Title: Mia on the moon\nMia runs in the city. She waves.", ["in the city", "in the city"]),
        ("For the teaser, can we have Mia in the city, sitting? Then she waves.", ["in the city", "in the city"]),
    ],
)
def test_headings_and_titles_say_where_or_nothing(story, places):
    made = plan(story, KNOWN)
    assert len(made.beats) == len(places)
    assert all(made.prompt_at(index).endswith(place) for index, place in enumerate(places))


@pytest.mark.parametrize(
    ("story", "beats"),
    [
        (
            "After she had slept, Mia put on a hat. Then she ran.",
            [{"Mia": "sleeping"}, {"Mia": "wearing a hat standing"}, {"Mia": "wearing a hat running"}],
        ),
        ("Mia puts on a hat after running.", [{"Mia": "running"}, {"Mia": "wearing a hat standing"}]),
        ("After sitting down, Mia puts on a hat.", [{"Mia": "sitting"}, {"Mia": "wearing a hat sitting"}]),
        (
            "After Mia falls asleep, John puts on a hat.",
            [{"Mia": "sleeping", "John": ""}, {"Mia": "sleeping", "John": "wearing a hat"}],
        ),
        ("[1] Mia, city, night.\n[2] Mia waves.\n[3] Mia sits.", [{"Mia": ""}, {"Mia": "waving"}, {"Mia": "sitting"}]),
        ("Here comes a new one for my little ones. Mia waves. Then she sits.", [{"Mia": "waving"}, {"Mia": "sitting"}]),
        (
            "Rex sleeps and Mia sits. Mia waves. Rex didn't budge.",
            [{"Rex": "sleeping", "Mia": "sitting"}, {"Rex": "sleeping", "Mia": "waving"}],
        ),
    ],
)
def test_what_is_over_is_over(story, beats):
    assert shown(story, KNOWN) == beats


@pytest.mark.parametrize(
    ("story", "beats"),
    [
        ("Mia waves. Nobody waves back. So she sits down.", [{"Mia": "waving"}, {"Mia": "sitting"}]),
        (
            "Mia and Rex run. Nobody runs any more. Then Rex sits.",
            [
                {"Mia": "running", "Rex": "running"},
                {"Mia": "standing", "Rex": "standing"},
                {"Mia": "standing", "Rex": "sitting"},
            ],
        ),
        ("Mia sits. Nobody sees her. She waves.", [{"Mia": "sitting"}, {"Mia": "waving"}]),
        ("Mia sits. Mia waves. End.", [{"Mia": "sitting"}, {"Mia": "waving"}]),
        ("Mia sleeps. Then she runs, as fast as she can.", [{"Mia": "sleeping"}, {"Mia": "running"}]),
        (
            "Mia waves. Then she runs to the beach, where she sits down.",
            [{"Mia": "waving"}, {"Mia": "running"}, {"Mia": "sitting"}],
        ),
        (
            "Please could you make me a little film where Mia sits and then jumps?",
            [{"Mia": "sitting"}, {"Mia": "jumping"}],
        ),
    ],
)
def test_nobody_and_the_end_change_nothing(story, beats):
    assert shown(story, KNOWN) == beats


def test_somebody_unknown_who_is_waved_at_is_left_out():
    made = plan("John sits. He waves to his mum. Then he jumps.", {"John": "man"})
    assert [beat.sub_prompts["John"].split()[-1] for beat in made.beats] == ["sitting", "waving", "jumping"]
    assert any("his mum" in note for note in made.notes)
    with pytest.raises(InputError, match="his mum"):
        plan("John sits. He waves with his mum. Then he jumps.", {"John": "man"})


@pytest.mark.parametrize(
    ("story", "beats"),
    [
        (
            "Mia sits. After, she wear a blue scarf and is jumping.",
            [{"Mia": "sitting"}, {"Mia": "wearing a blue scarf jumping"}],
        ),
        (
            "John sits. Mia is standing next to him in a red scarf. She gives him the scarf.",
            [
                {"John": "sitting", "Mia": "wearing a red scarf standing"},
                {"John": "wearing a red scarf sitting", "Mia": "standing"},
            ],
        ),
        (
            "Rex sits. As soon as Mia begins to run, Rex jumps.",
            [{"Rex": "sitting", "Mia": ""}, {"Rex": "jumping", "Mia": "running"}],
        ),
        (
            "Mia sits and John stands. Then John wants to win and waves. After that both of them stop.",
            [
                {"Mia": "sitting", "John": "standing"},
                {"Mia": "sitting", "John": "waving"},
                {"Mia": "standing", "John": "standing"},
            ],
        ),
        ("0:00 Mia sits\n0:03 Mia waves\n0:06 Mia jumps", [{"Mia": "sitting"}, {"Mia": "waving"}, {"Mia": "jumping"}]),
        ("Mia sits. Slowly the woman waves.", [{"Mia": "sitting"}, {"Mia": "waving"}]),
        (
            "Mia is on the left and Rex on the right. Rex runs and Mia sleeps.",
            [{"Mia": "", "Rex": ""}, {"Mia": "sleeping", "Rex": "running"}],
        ),
        (
            "Mia sits. Then she puts on a hat. Then, with the hat still on, she sleeps.",
            [{"Mia": "sitting"}, {"Mia": "wearing a hat sitting"}, {"Mia": "wearing a hat sleeping"}],
        ),
    ],
)
def test_when_and_whose_it_is(story, beats):
    assert shown(story, {"Mia": "woman", "John": "man", "Rex": "dog"}) == beats


def test_a_new_place_brings_its_own_light():
    made = plan("Mia runs in the city. Harbour at night: Mia sits at last.", KNOWN)
    assert [made.prompt_at(index).rpartition(" in ")[2] for index in range(len(made.beats))] == [
        "the city",
        "the harbour at night",
    ]


def test_everyone_else_is_who_else_takes_part_and_refused_where_nobody_is():
    three = {"Mia": "girl", "John": "man", "Rex": "dog"}
    assert shown("Mia jumps and everyone else sits. Then John waves.", three) == [
        {"Mia": "jumping", "John": "sitting"},
        {"Mia": "jumping", "John": "waving"},
    ]
    assert shown("Mia jumps and everyone else sits. Then Mia sits.", three) == [
        {"Mia": "jumping", "John": "sitting", "Rex": "sitting"},
        {"Mia": "sitting", "John": "sitting", "Rex": "sitting"},
    ]
    with pytest.raises(InputError, match='does not say who "Everyone else" is; write the names'):
        plan("Everyone else sits while Mia dances.", KNOWN)


def test_a_hat_that_another_did_not_wear_gives_no_colour():
    assert shown("John wore a red hat, Mia didn't. Then John put his hat on Mia's head.", KNOWN)[-1] == {
        "John": "",
        "Mia": "wearing a red hat",
    }


def test_a_moment_in_which_somebody_only_stops_unasked_is_told():
    doubted = "In moment 3 nothing is seen but that somebody stops"
    story = "Mia smiles while Lily jumps. Then Lily sits down to catch her breath."
    assert any(doubted in note for note in plan(story, KNOWN).notes)
    asked = "Mia smiles while Lily jumps. Then Mia sits. Then Lily stops."
    assert not any("nothing is seen" in note for note in plan(asked, KNOWN).notes)
