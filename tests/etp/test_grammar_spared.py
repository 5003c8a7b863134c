"""What a story says beside the point does not refuse it, and what nobody can be shown doing is told."""

import pytest

from d2plan.errors import InputError
from d2plan.etp.grammar.asides import drop_asides
from d2plan.etp.grammar.hours import plain_hours
from tests.etp.storybook import facts, plan

CAST = {
    "Rex": "dog",
    "Tom": "cat",
    "John": "man",
    "Emma": "woman",
    "Mia": "girl",
    "Max": "boy",
    "Bolt": "robot",
    "Pip": "bird",
    "Turbo": "car",
    "Earl": "teapot",
}


def shown(story):
    made = plan(story, CAST)
    starts = {item.name: f"a photo of a {item.identifier} {item.class_word}" for item in made.instances}
    return [
        {name: facts(prompt.removeprefix(starts[name])) for name, prompt in beat.sub_prompts.items()}
        for beat in made.beats
    ], made.notes


@pytest.mark.parametrize(
    ("story", "beats"),
    [
        ("It's freezing out there! Mia sits. Then she jumps.", [{"Mia": "sitting"}, {"Mia": "jumping"}]),
        ("It takes a while, but Mia smiles. Then she waves.", [{"Mia": "smiling"}, {"Mia": "waving"}]),
        (
            "Long story short: Rex sleeps, you know. Then - ready, steady, go! - he runs.",
            [{"Rex": "sleeping"}, {"Rex": "running"}],
        ),
        ("ok so Turbo is parked, right? then it drives.", [{"Turbo": "parked"}, {"Turbo": "driving"}]),
        ("Everybody knows that Tom sleeps. Then he runs.", [{"Tom": "sleeping"}, {"Tom": "running"}]),
        (
            "What does Mia do at four o'clock? She sits. And at five? She runs.",
            [{"Mia": "sitting"}, {"Mia": "running"}],
        ),
        ("The crowd cheers. Mia waves. Then she sits.", [{"Mia": "waving"}, {"Mia": "sitting"}]),
        ("Mia sits. A zookeeper comes in and waves at her. Then Mia runs.", [{"Mia": "sitting"}, {"Mia": "running"}]),
        ("Children are playing. Rex sleeps. Then he runs.", [{"Rex": "sleeping"}, {"Rex": "running"}]),
        ("The birds are singing. Mia sits. She jumps.", [{"Mia": "sitting"}, {"Mia": "jumping"}]),
        ("Everyone claps. Emma smiles. Then she sits.", [{"Emma": "smiling"}, {"Emma": "sitting"}]),
        (
            "Rex sleeps. Only when Mia jumps does he wake up.",
            [{"Rex": "sleeping", "Mia": ""}, {"Rex": "", "Mia": "jumping"}],
        ),
        ("Max sits. Then off he goes, running.", [{"Max": "sitting"}, {"Max": "running"}]),
        (
            "Mia sits, and Max runs until he falls asleep.",
            [{"Mia": "sitting", "Max": "running"}, {"Mia": "sitting", "Max": "sleeping"}],
        ),
        (
            "Earl steams. She pours while Emma smiles.",
            [{"Earl": "steaming", "Emma": ""}, {"Earl": "pouring", "Emma": "smiling"}],
        ),
        (
            "Turbo is parked. John gets in and drives off.",
            [{"Turbo": "parked", "John": ""}, {"Turbo": "driving", "John": ""}],
        ),
        ("The Mia is sitting. After she is running.", [{"Mia": "sitting"}, {"Mia": "running"}]),
        ("John wears a black hat. The wind snatches it away.", [{"John": "wearing a black hat"}, {"John": ""}]),
        (
            "Not Mia but Max jumps. Then Mia sits.",
            [{"Mia": "", "Max": "jumping"}, {"Mia": "sitting", "Max": "jumping"}],
        ),
        ("John has a red hat but doesn't wear it. Then he puts it on.", [{"John": ""}, {"John": "wearing a red hat"}]),
        ("Mia wears neither a hat nor a scarf. She puts on a scarf.", [{"Mia": ""}, {"Mia": "wearing a scarf"}]),
        ("Mia waves and the crowd cheers. Then she sits.", [{"Mia": "waving"}, {"Mia": "sitting"}]),
        ("Mia sits. The ball jumps away. She runs.", [{"Mia": "sitting"}, {"Mia": "running"}]),
        ("Mia almost falls asleep, but then she jumps. Then she sits.", [{"Mia": "jumping"}, {"Mia": "sitting"}]),
        ("Mia sits, but not before she has waved.", [{"Mia": "waving"}, {"Mia": "sitting"}]),
        ("Is that a bird? No, it's Bolt! He jumps. Then he waves.", [{"Bolt": "jumping"}, {"Bolt": "waving"}]),
        (
            "Max wears a red hat, Mia sits. His hat is exchanged for a blue one by Mia.",
            [{"Max": "wearing a red hat", "Mia": "sitting"}, {"Max": "wearing a blue hat", "Mia": "sitting"}],
        ),
        (
            "Emma puts a scarf on Max, who is sitting.",
            [{"Emma": "", "Max": "sitting"}, {"Emma": "", "Max": "sitting wearing a scarf"}],
        ),
    ],
)
def test_small_talk_and_strangers_change_nothing(story, beats):
    assert shown(story)[0] == [{name: facts(phrase) for name, phrase in beat.items()} for beat in beats]


@pytest.mark.parametrize(
    ("story", "beats", "note"),
    [
        (
            "Bolt sits. It sleeps for an hour. Then it waves.",
            [{"Bolt": "sitting"}, {"Bolt": "waving"}],
            '"sleeps" of Bolt',
        ),
        (
            "Max sits, whistling a tune. Then he runs.",
            [{"Max": "sitting"}, {"Max": "running"}],
            '"whistling a tune" of Max',
        ),
        (
            "Rex runs. He waves. Mia smiles.",
            [{"Rex": "running", "Mia": ""}, {"Rex": "", "Mia": "smiling"}],
            '"waves" of Rex',
        ),
    ],
)
def test_what_a_class_cannot_be_shown_doing_is_left_out_and_told(story, beats, note):
    found, notes = shown(story)
    assert found == [{name: facts(phrase) for name, phrase in beat.items()} for beat in beats]
    assert any(note in line for line in notes)


@pytest.mark.parametrize(
    ("story", "told"),
    [
        ("Rex sits. Then he waves.", '"waves" of Rex'),
        ("Bolt falls asleep. Then it waves.", '"falls asleep" of Bolt'),
        ("Mia sits. Then a dragon flies over her. Mia runs.", '"dragon"'),
        ("Mia sits and Gandalf waves. Then Mia runs.", '"Gandalf"'),
        ("Mia sits and a dragon flies over her. Then Mia runs.", '"dragon"'),
        ("Gandalf sits. Then Mia waves. Mia sits.", '"Gandalf"'),
    ],
)
def test_what_a_user_would_miss_is_refused(story, told):
    with pytest.raises(InputError) as caught:
        plan(story, CAST)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("story", "left"),
    [
        ("And look, now Mia smiles, right?", "now Mia smiles."),
        ("Oh no! Oh dear! Rex runs.", "Rex runs."),
        ("Then - ready, steady, go! - she runs.", "Then she runs."),
        ("Mia jumps, of course, and Max (bless him) sits.", "Mia jumps, and Max sits."),
        ("The dog looks right and left.", "The dog looks right and left."),
        ("No way", "No way"),
    ],
)
def test_asides_are_dropped_and_the_borders_stay(story, left):
    assert " ".join(drop_asides(story).split()) == left


def test_hours_say_only_what_comes_after_what():
    assert plain_hours("At 7 am Mia runs. At 8:30 she sits.") == "Mia runs. then she sits."
