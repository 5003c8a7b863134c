"""Stories that a reviewer found read wrong in silence, by what each shows: who somebody is, when it is, how it was."""

import pytest

from tests.etp.storybook import plan
from tests.etp.test_grammar import shown

KNOWN = {"Rex": "dog", "John": "man", "Tom": "man", "Max": "boy", "Mia": "girl", "Lily": "woman"}


@pytest.mark.parametrize(
    ("story", "beats"),
    [
        ("John, Mia's brother, waves. Then John sits.", [{"John": "waving"}, {"John": "sitting"}]),
        ("Mia, Lily's sister, sits. Then she waves.", [{"Mia": "sitting"}, {"Mia": "waving"}]),
        ("Mia, a friend of Lily, sits. Then she waves.", [{"Mia": "sitting"}, {"Mia": "waving"}]),
        ("John, Lily's best friend, waves. Then he sits.", [{"John": "waving"}, {"John": "sitting"}]),
        ("Rex, John's dog, runs. Then Rex sits.", [{"Rex": "running"}, {"Rex": "sitting"}]),
        ("John, Rex's owner, waves. Then he sits.", [{"John": "waving"}, {"John": "sitting"}]),
        ("The boy, Mia's brother, waves. Then he sits.", [{"Max": "waving"}, {"Max": "sitting"}]),
        ("John, the brother of Mia and Max, waves. Then John sits.", [{"John": "waving"}, {"John": "sitting"}]),
        ("John, Mia's brother and Lily's friend, waves. Then he sits.", [{"John": "waving"}, {"John": "sitting"}]),
        ("Mia's brother John waves. Then he sits.", [{"John": "waving"}, {"John": "sitting"}]),
        ("John is Mia's brother. He waves. Then he sits.", [{"John": "waving"}, {"John": "sitting"}]),
        (
            "Lily waves at John, Mia's brother. Then John sits.",
            [{"Lily": "waving", "John": ""}, {"Lily": "waving", "John": "sitting"}],
        ),
        (
            "Mia, John's dog, and Max run. Then Mia sits.",
            [
                {"Mia": "running", "Rex": "running", "Max": "running"},
                {"Mia": "sitting", "Rex": "running", "Max": "running"},
            ],
        ),
    ],
)
def test_an_apposition_says_who_somebody_is_and_adds_nobody(story, beats):
    assert shown(story, KNOWN) == beats


@pytest.mark.parametrize(
    ("story", "where"),
    [
        ("At night Mia smiles. By day she doesn't.", ["at night", "by day"]),
        ("Mia smiles at John at night. He doesn't smile back. In the morning he does.", ["at night", "by day"]),
        (
            "Rex sleeps at night on the beach. By the morning he is in the forest.",
            ["on the beach at night", "in the forest by day"],
        ),
    ],
)
def test_a_day_after_a_night_is_seen(story, where):
    made = plan(story, KNOWN)
    assert all(made.prompt_at(index).endswith(light) for index, light in enumerate(where))
    assert len(made.beats) == len(where)
    assert not any("At night" in note for note in made.notes)


def test_a_day_that_is_not_shown_after_a_night_is_told():
    made = plan("Mia sleeps at night. Then the sunlight wakes her.", KNOWN)
    assert "by day" in made.prompt_at(1) or any("sunlight" in note for note in made.notes)


@pytest.mark.parametrize(
    ("story", "beats"),
    [
        (
            "Lily wakes Max up, who had been sleeping. Then she waves.",
            [{"Lily": "", "Max": "sleeping"}, {"Lily": "", "Max": "standing"}, {"Lily": "waving", "Max": "standing"}],
        ),
        (
            "Lily wakes Rex. Then Rex, who had slept, runs.",
            [{"Lily": "", "Rex": "sleeping"}, {"Lily": "", "Rex": "standing"}, {"Lily": "", "Rex": "running"}],
        ),
        (
            "Lily wakes Rex, who had been sleeping, and waves.",
            [{"Lily": "", "Rex": "sleeping"}, {"Lily": "waving", "Rex": "standing"}],
        ),
        ("Rex, who had slept, runs. Then he sits.", [{"Rex": "sleeping"}, {"Rex": "running"}, {"Rex": "sitting"}]),
        (
            "Mia waves. Then Rex, who had slept, runs.",
            [{"Mia": "waving", "Rex": "sleeping"}, {"Mia": "waving", "Rex": "running"}],
        ),
        (
            "Before he sat, Rex ran since he had slept.",
            [{"Rex": "sleeping"}, {"Rex": "running"}, {"Rex": "sitting"}],
        ),
        (
            "While Rex runs and jumps, Mia waves. Then she sits.",
            [
                {"Rex": "running", "Mia": "waving"},
                {"Rex": "jumping", "Mia": "waving"},
                {"Rex": "jumping", "Mia": "sitting"},
            ],
        ),
        ("Rex sleeps at the end, runs at the beginning.", [{"Rex": "running"}, {"Rex": "sleeping"}]),
    ],
)
def test_what_had_been_is_seen_before_and_not_again(story, beats):
    assert shown(story, KNOWN) == beats


@pytest.mark.parametrize(
    ("story", "beats"),
    [
        (
            "The man with the hat waves. The man without one sits. Then the first sits too.",
            [
                {"John": "wearing a hat waving", "Tom": ""},
                {"John": "wearing a hat waving", "Tom": "sitting"},
                {"John": "wearing a hat sitting", "Tom": "sitting"},
            ],
        ),
        (
            "The man with the red hat waves. The man with the blue hat sits.",
            [
                {"John": "wearing a red hat waving", "Tom": "wearing a blue hat"},
                {"John": "wearing a red hat waving", "Tom": "wearing a blue hat sitting"},
            ],
        ),
        (
            "The man with the hat waves at the man without one. Then both sit.",
            [{"John": "wearing a hat waving", "Tom": ""}, {"John": "wearing a hat sitting", "Tom": "sitting"}],
        ),
        (
            "The man in the hat waves. He takes it off. Then the man without the hat sits.",
            [{"John": "wearing a hat waving"}, {"John": "waving"}, {"John": "sitting"}],
        ),
    ],
)
def test_different_marks_are_different_people(story, beats):
    assert shown(story, KNOWN) == beats


@pytest.mark.parametrize(
    ("story", "beats"),
    [
        (
            "On the beach, Mia puts on a hat before she runs.",
            [{"Mia": ""}, {"Mia": "wearing a hat"}, {"Mia": "wearing a hat running"}],
        ),
        (
            "While Lily sits, John puts on a hat. Then she waves.",
            [
                {"Lily": "sitting", "John": ""},
                {"Lily": "sitting", "John": "wearing a hat"},
                {"Lily": "waving", "John": "wearing a hat"},
            ],
        ),
        (
            "While Mia sits, she puts on a hat. Then she waves.",
            [{"Mia": "sitting"}, {"Mia": "wearing a hat sitting"}, {"Mia": "wearing a hat waving"}],
        ),
        (
            "John puts on a hat while Lily sleeps. Then he waves.",
            [
                {"John": "", "Lily": "sleeping"},
                {"John": "wearing a hat", "Lily": "sleeping"},
                {"John": "wearing a hat waving", "Lily": "sleeping"},
            ],
        ),
        (
            "While smiling, Mia puts on a hat. Then she waves.",
            [{"Mia": "wearing a hat smiling"}, {"Mia": "wearing a hat waving"}],
        ),
    ],
)
def test_what_somebody_puts_on_is_not_on_before(story, beats):
    assert shown(story, KNOWN) == beats


@pytest.mark.parametrize(
    ("story", "beats"),
    [
        (
            "Mia sits. A hat is put on her head by Lily. Then Mia waves.",
            [
                {"Mia": "sitting", "Lily": ""},
                {"Mia": "wearing a hat sitting", "Lily": ""},
                {"Mia": "wearing a hat waving", "Lily": ""},
            ],
        ),
        (
            "Mia and Max sit. Hats are put on their heads by Lily.",
            [
                {"Mia": "sitting", "Max": "sitting", "Lily": ""},
                {"Mia": "wearing a hat sitting", "Max": "wearing a hat sitting", "Lily": ""},
            ],
        ),
        (
            "Mia sits. A hat is put on her own head by Lily.",
            [{"Mia": "sitting", "Lily": ""}, {"Mia": "sitting", "Lily": "wearing a hat"}],
        ),
        ("A hat is put on her head by Mia.", [{"Mia": ""}, {"Mia": "wearing a hat"}]),
    ],
)
def test_her_head_before_who_does_it_is_somebody_elses(story, beats):
    assert shown(story, KNOWN) == beats


@pytest.mark.parametrize(
    ("story", "beats"),
    [
        (
            "Mia wears a hat and a scarf. Then she takes off the hat, not the scarf.",
            [{"Mia": "wearing a hat and a scarf"}, {"Mia": "wearing a scarf"}],
        ),
        (
            "Mia wears a hat and a scarf. Then she takes off not the hat, but the scarf.",
            [{"Mia": "wearing a hat and a scarf"}, {"Mia": "wearing a hat"}],
        ),
        (
            "Mia wears a hat and a scarf. Then she takes off not only the hat, but also the scarf.",
            [{"Mia": "wearing a hat and a scarf"}, {"Mia": ""}],
        ),
        (
            "Mia takes off her hat, but not her scarf.",
            [{"Mia": "wearing a scarf and a hat"}, {"Mia": "wearing a scarf"}],
        ),
        ("Mia puts on a hat, but not a scarf.", [{"Mia": ""}, {"Mia": "wearing a hat"}]),
        (
            "Mia is wearing a hat, but not a scarf. Then she waves.",
            [{"Mia": "wearing a hat"}, {"Mia": "wearing a hat waving"}],
        ),
        (
            "John gives Mia his hat, but not his scarf.",
            [{"John": "wearing a scarf and a hat", "Mia": ""}, {"John": "wearing a scarf", "Mia": "wearing a hat"}],
        ),
    ],
)
def test_what_is_said_not_to_change_stays(story, beats):
    assert shown(story, KNOWN) == beats


@pytest.mark.parametrize(
    ("story", "word"),
    [
        ("John, Mia's brother, and Lily wave. Then John sits.", "Mia's brother"),
        ("Mia waves at Rex, who had slept. Then he runs.", "Rex had slept"),
        ("The woman with the hat waves. The woman without one sits.", "nobody else of that kind"),
        ("Tom wore a scarf. Now he sits sadly.", "sadly"),
        ("Mia sits happily. Then she runs.", "happily"),
        ("Mia sits with delight. Then she waves.", "with delight"),
        ("Rex sleeps at night. The next day he runs.", "The next day"),
        ("Whenever Mia waves, Rex jumps. Then he sits.", "whenever"),
    ],
)
def test_what_is_decided_or_left_out_is_noted(story, word):
    assert any(word in note for note in plan(story, KNOWN).notes)


@pytest.mark.parametrize(
    "story",
    [
        "Mia smiles happily. Then she sits.",
        "Mia happily smiles. Then she sits.",
        "Rex sleeps peacefully. Then he sits.",
    ],
)
def test_a_feeling_that_what_is_done_shows_needs_no_note(story):
    assert plan(story, KNOWN).notes == ()
