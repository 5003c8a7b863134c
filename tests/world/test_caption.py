"""Captions say only what is true, and their spans point at the words that say it."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2plan.world.caption import Caption, accessory_phrase, article, write_caption
from d2plan.world.cast import ACCESSORIES, ACTIONS, CLASSES, COLOURS
from d2plan.world.scene import WorldScene, sample_scene
from d2plan.world.scenery import LIGHTS, PLACES
from d2plan.world.seeds import stream_rng

ALL_ACTIONS = {action for actions in ACTIONS.values() for action in actions}
SIDES = ("on the left", "on the right", "in the middle")
seeds = st.integers(0, 2**31)


def describe(seed: int) -> tuple[WorldScene, Caption]:
    rng = stream_rng("heldout", seed)
    scene = sample_scene(rng)
    return scene, write_caption(scene, rng)


def words_of(text: str) -> list[str]:
    return re.findall(r"[A-Za-z]+", text)


@given(seeds)
def test_the_same_seed_writes_the_same_caption(seed: int) -> None:
    assert describe(seed) == describe(seed)


@given(seeds)
def test_spans_point_at_the_words_of_their_figure(seed: int) -> None:
    scene, caption = describe(seed)
    for figure, (start, end), (low, high) in zip(scene.figures, caption.phrases, caption.class_words, strict=True):
        assert caption.text[low:high] == figure.class_word
        assert start <= low < high <= end
        assert caption.text[start:end].startswith(("a ", "an "))
    spans = sorted(caption.phrases)
    assert all(before[1] < after[0] for before, after in zip(spans, spans[1:], strict=False))


@given(seeds)
def test_a_phrase_says_of_its_figure_what_it_claims_to_say_and_nothing_else(seed: int) -> None:
    scene, caption = describe(seed)
    for figure, (start, end), said in zip(scene.figures, caption.phrases, caption.said, strict=True):
        words = set(words_of(caption.text[start:end]))
        assert words & ALL_ACTIONS == ({figure.action} if "action" in said else set())
        assert words & set(ACCESSORIES) == ({figure.accessory} if "accessory" in said else set())
        assert words & set(COLOURS) == ({figure.accessory_colour} if "accessory_colour" in said else set())
        assert words & set(CLASSES) == {figure.class_word}
        assert "accessory" in said or "accessory_colour" not in said


@given(seeds)
def test_outside_the_phrases_only_place_and_light_are_told(seed: int) -> None:
    scene, caption = describe(seed)
    rest = caption.text
    for start, end in sorted(caption.phrases, reverse=True):
        rest = rest[:start] + rest[end:]
    assert not set(words_of(rest)) & (ALL_ACTIONS | set(ACCESSORIES) | set(COLOURS) | set(CLASSES))
    assert any(phrase in rest for phrase in PLACES[scene.place]) == caption.place_said
    for light, phrases in LIGHTS.items():
        told = any(phrase and phrase in rest for phrase in phrases)
        assert not told or light == scene.light


@given(seeds)
def test_sides_are_true(seed: int) -> None:
    scene, caption = describe(seed)
    across = [figure.x for figure in scene.figures]
    for figure, (start, end) in zip(scene.figures, caption.phrases, strict=True):
        phrase = caption.text[start:end]
        told = [side for side in SIDES if side in phrase]
        assert len(told) <= (len(across) > 1)
        true = SIDES[0] if figure.x == min(across) else SIDES[1] if figure.x == max(across) else SIDES[2]
        assert told in ([], [true])


@given(seeds)
def test_a_caption_fits_a_text_encoder(seed: int) -> None:
    caption = describe(seed)[1]
    assert len(caption.text.replace(",", " ,").split()) <= 38
    assert caption.text == " ".join(caption.text.split())


def test_captions_vary_in_form_and_in_what_they_leave_out() -> None:
    pairs = [describe(seed) for seed in range(600)]
    said = Counter(field for _, caption in pairs for fields in caption.said for field in fields)
    worn = sum(figure.accessory is not None for scene, _ in pairs for figure in scene.figures)
    assert 0.8 * worn < said["accessory"] < worn
    assert 0.7 * said["accessory"] < said["accessory_colour"] < said["accessory"]
    assert 500 < sum(caption.place_said for _, caption in pairs) < 600
    assert sum(any(side in caption.text for side in SIDES) for _, caption in pairs) > 50
    assert len({caption.text.split(" a ")[0] for _, caption in pairs}) > 4


def test_an_empty_scene_is_described_by_its_place() -> None:
    scene = WorldScene("beach", "night", (), 0)
    texts = {write_caption(scene, stream_rng("heldout", seed)).text for seed in range(60)}
    assert any("beach" in text and "at night" in text for text in texts)
    assert write_caption(scene, stream_rng("heldout", 1)).phrases == ()


@pytest.mark.parametrize(
    ("accessory", "colour", "words"),
    [
        ("scarf", "red", "a red scarf"),
        ("hat", "orange", "an orange hat"),
        ("sunglasses", "black", "black sunglasses"),
        ("crown", None, "a crown"),
        ("sunglasses", None, "sunglasses"),
    ],
)
def test_accessories_have_the_right_article(accessory: str, colour: str | None, words: str) -> None:
    assert accessory_phrase(accessory, colour) == words


def test_articles() -> None:
    assert (article("opening"), article("dog")) == ("an opening", "a dog")
