"""From a picture and what it was asked to show to a score."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from d2plan.documents import InstanceScore, Scene, Score, contains_word
from d2plan.eval.criteria import DONE, WORN, is_misbound, is_visually_confused
from d2plan.eval.judge import Judge, Picture, Seen, Verdict
from d2plan.eval.matching import match_exactly
from d2plan.eval.metrics import (
    Estimate,
    attributes_right,
    attributes_swapped,
    cosine,
    estimate,
    rank_of,
)
from d2plan.world.caption import Caption
from d2plan.world.cast import ACCESSORIES, ACTIONS, CLASSES, COLOURS
from d2plan.world.scene import WorldScene
from d2plan.world.scenery import LIGHTS, PLACES

# Who matches whom: the class must be right; then where it stands, who it looks like, and what it wears and does.
_BY_SIDE, _BY_LOOKS, _BY_ATTRIBUTES = 3.0, 4.0, 0.25
_WORN = re.compile(rf"\b(?:({'|'.join(COLOURS)})\s+)?({'|'.join(ACCESSORIES)})\b", re.IGNORECASE)


@dataclass(frozen=True)
class Expected:
    """What a prompt says of one instance; None where it says nothing.

    Attributes:
        class_word: its class.
        accessory: what it wears.
        accessory_colour: the colour of that.
        action: what it does.
        position: "left", "middle" or "right".
        concept: the name of the concept that it shall be.
    """

    class_word: str
    accessory: str | None = None
    accessory_colour: str | None = None
    action: str | None = None
    position: str | None = None
    concept: str | None = None

    @property
    def attributes(self) -> dict[str, str | None]:
        """What it wears and does, by attribute."""
        return {
            "accessory": self.accessory,
            "accessory_colour": self.accessory_colour,
            "action": self.action,
        }


@dataclass(frozen=True)
class Expectation:
    """What a picture was asked to show; a place or light of None was not said."""

    instances: tuple[Expected, ...]
    place: str | None = None
    light: str | None = None


@dataclass(frozen=True, eq=False)
class Lineup:
    """Who a concept is compared with.

    Attributes:
        reference: ``[64]``, the middle of the embeddings of the concept's own pictures.
        near: ``[10 64]``, other characters of the class that look much like it.
        far: ``[9 64]``, any others of the class.
    """

    reference: NDArray[np.float32]
    near: NDArray[np.float32]
    far: NDArray[np.float32]


def expect_caption(scene: WorldScene, caption: Caption) -> Expectation:
    """Tell what a caption of the world asks for; what it does not say is not expected.

    Args:
        scene: what the caption describes.
        caption: the caption.

    Returns:
        The expectation, instances in the scene's order.
    """
    instances = []
    for figure, said in zip(scene.figures, caption.said, strict=True):
        values = {name: getattr(figure, name) for name in ("accessory", "accessory_colour", "action") if name in said}
        instances.append(Expected(figure.class_word, **values))
    return Expectation(tuple(instances), scene.place if caption.place_said else None, find_light(caption.text))


def expect_scene(scene: Scene, names: Sequence[str] = ()) -> Expectation:
    """Tell what a scene file asks for, from the words of the world in its prompts.

    Args:
        scene: resolved, so that every instance has its class word.
        names: of the concepts, one an instance.

    Returns:
        The expectation; without instances, that of the global prompt.
    """
    spoken = expect_prompt(scene.global_prompt)
    if not scene.instances:
        return spoken
    instances = []
    for index, instance in enumerate(scene.instances):
        word = (instance.class_word or "").lower()
        read = read_phrase(word, instance.sub_prompt)
        concept = names[index] if index < len(names) else None
        instances.append(replace(read, position=instance.position or read.position, concept=concept))
    return Expectation(tuple(instances), spoken.place, spoken.light)


def expect_prompt(prompt: str) -> Expectation:
    """Tell what a prompt asks for: each class word of the world with what stands around it, place and light.

    Args:
        prompt: plain words, such as "a photo of a man waving and a dog wearing a red scarf on the beach".

    Returns:
        The expectation, instances in the order of the prompt.
    """
    text = " ".join(prompt.lower().split())
    hits = [hit for hit in re.finditer(rf"\b({'|'.join(CLASSES)})\b", text)]
    starts = []
    for number, hit in enumerate(hits):
        before = text[: hit.start()]
        limit = hits[number - 1].end() if number else 0
        cut = max(before.rfind(" and ", limit), before.rfind(", ", limit), limit - 1)
        starts.append(cut + 1 if number else 0)
    ends = [*starts[1:], len(text)][: len(hits)]
    phrases = [(hit.group(1), text[start:end]) for hit, start, end in zip(hits, starts, ends, strict=True)]
    return Expectation(tuple(read_phrase(*phrase) for phrase in phrases), find_place(text), find_light(text))


def read_phrase(class_word: str, phrase: str) -> Expected:
    """Read what a phrase says of one instance."""
    worn = _WORN.search(phrase)
    action = next((word for word in ACTIONS.get(class_word, ()) if contains_word(phrase, word)), None)
    side = re.search(r"\b(?:on the|in the|at the) (left|right|middle)\b", phrase, re.IGNORECASE)
    return Expected(
        class_word,
        accessory=worn.group(2).lower() if worn else None,
        accessory_colour=worn.group(1).lower() if worn and worn.group(1) else None,
        action=action,
        position=side.group(1).lower() if side else None,
    )


def find_place(text: str) -> str | None:
    """Find the place that a text names, by its phrases first and then by its bare word."""
    phrases = sorted(((phrase, place) for place in PLACES for phrase in PLACES[place]), key=lambda pair: -len(pair[0]))
    named = next((place for phrase, place in phrases if contains_word(text, phrase)), None)
    return named or next((place for place in PLACES if contains_word(text, place)), None)


def find_light(text: str) -> str | None:
    """Find the light that a text names."""
    return next((light for light in LIGHTS for phrase in LIGHTS[light] if phrase and contains_word(text, phrase)), None)


def score_image(
    judge: Judge,
    image: Picture,
    expected: Expectation,
    lineups: Mapping[str, Lineup] | None = None,
    picture: str = "",
) -> Score:
    """Judge a picture and compare it with what it was asked to show.

    Args:
        judge: who looks.
        image: ``[h w 3]``, 0..255.
        expected: what was asked for.
        lineups: by concept, who it is compared with; without one, identity is not scored.
        picture: what the score calls the picture.

    Returns:
        The score.
    """
    return score_verdict(judge.judge(image), expected, image.shape[1], lineups or {}, picture)


def score_verdict(
    verdict: Verdict,
    expected: Expectation,
    width: int,
    lineups: Mapping[str, Lineup],
    picture: str = "",
    matches: Sequence[int | None] | None = None,
) -> Score:
    """Compare a verdict with what was asked for.

    Args:
        verdict: what is seen.
        expected: what was asked for.
        width: of the picture, pixels.
        lineups: by concept, who it is compared with.
        picture: what the score calls the picture.
        matches: for each expected instance the number of the seen one; None finds it out.

    Returns:
        The score.
    """
    wanted = expected.instances
    if matches is None:
        references = {name: lineup.reference for name, lineup in lineups.items()}
        matches = match_verdict(verdict, expected, width, references)
    matched = [None if number is None else verdict.instances[number] for number in matches]
    said = [one.attributes for one in wanted]
    shown = [None if seen is None else describe_seen(seen) for seen in matched]
    instances = []
    for index, (one, seen) in enumerate(zip(wanted, matched, strict=True)):
        here = shown[index]
        found = InstanceScore(
            class_word=one.class_word,
            concept=one.concept,
            present=seen is not None,
            accessory=_is_right(one.accessory, here, "accessory"),
            accessory_colour=_is_right(one.accessory_colour, here, "accessory_colour"),
            action=_is_right(one.action, here, "action"),
            attributes=attributes_right(said[index], here),
            swapped=attributes_swapped(said, shown, index),
            attribute_misbinding=is_misbound(said[index], here, WORN),
            action_misbinding=is_misbound(said[index], here, DONE),
            visual_confusion=_is_confused(seen, wanted, index, lineups),
            seen=here or {},
        )
        lineup = lineups.get(one.concept or "")
        instances.append(found if lineup is None else found.model_copy(update=rank_identity(seen, lineup)))
    return Score(
        picture=picture,
        place=None if expected.place is None else verdict.place == expected.place,
        light=None if expected.light is None else verdict.light == expected.light,
        expected_count=len(wanted),
        seen_count=verdict.count,
        seen_place=verdict.place,
        seen_light=verdict.light,
        instances=tuple(instances),
    )


def match_verdict(
    verdict: Verdict, expected: Expectation, width: int, references: Mapping[str, NDArray[np.float32]]
) -> tuple[int | None, ...]:
    """Find out which instance of a picture is meant by each expected one.

    Args:
        verdict: what is seen.
        expected: what was asked for.
        width: of the picture, pixels.
        references: by concept, the middle of the judge's embeddings of its own pictures, ``[64]``.

    Returns:
        For each expected instance the number of the seen one, or None; only the same class is ever matched.
    """
    wanted = expected.instances
    if not verdict.instances:
        return (None,) * len(wanted)
    return match_exactly([[_gain(one, seen, width, references) for seen in verdict.instances] for one in wanted])


def describe_seen(seen: Seen) -> dict[str, str | None]:
    """Tell what an instance wears and does, by attribute."""
    return {"accessory": seen.accessory, "accessory_colour": seen.accessory_colour, "action": seen.action}


def rank_identity(seen: Seen | None, lineup: Lineup) -> dict[str, float | int | None]:
    """Compare an instance with its concept and the 19 others; one that is absent comes last.

    Args:
        seen: the instance, None when it is absent.
        lineup: the concept and the others.

    Returns:
        The fields similarity, rank (1..20), rank_near (1..11) and rank_far (1..10) of a score.
    """
    near, far = len(lineup.near), len(lineup.far)
    if seen is None:
        return {"similarity": None, "rank": near + far + 1, "rank_near": near + 1, "rank_far": far + 1}
    right = cosine(seen.embedding, lineup.reference)
    near_ones = [cosine(seen.embedding, other) for other in lineup.near]
    far_ones = [cosine(seen.embedding, other) for other in lineup.far]
    return {
        "similarity": right,
        "rank": rank_of(right, [*near_ones, *far_ones]),
        "rank_near": rank_of(right, near_ones),
        "rank_far": rank_of(right, far_ones),
    }


def _is_right(wanted: str | None, shown: Mapping[str, str | None] | None, name: str) -> bool | None:
    return None if wanted is None else shown is not None and shown.get(name) == wanted


def _is_confused(
    seen: Seen | None, wanted: Sequence[Expected], index: int, lineups: Mapping[str, Lineup]
) -> bool | None:
    known = [place for place, one in enumerate(wanted) if one.concept in lineups]
    if seen is None or index not in known:
        return None
    references = np.stack([lineups[str(wanted[place].concept)].reference for place in known])
    return is_visually_confused(seen.embedding, references, known.index(index))


def _gain(one: Expected, seen: Seen, width: int, references: Mapping[str, NDArray[np.float32]]) -> float:
    """Say how well an expected and a seen instance go together; minus infinity when the class differs."""
    if one.class_word != seen.class_word:
        return float("-inf")
    gain = seen.confidence * 0.1
    if one.position is not None:
        aim = {"left": 0.0, "middle": 0.5, "right": 1.0}[one.position]
        gain -= _BY_SIDE * abs(seen.x / width - aim)
    reference = references.get(one.concept or "")
    if reference is not None:
        gain += _BY_LOOKS * cosine(seen.embedding, reference)
    shown = describe_seen(seen)
    return gain + _BY_ATTRIBUTES * sum(shown[name] == value for name, value in one.attributes.items() if value)


def summarise(scores: Sequence[Score], seed: int = 0) -> dict[str, Estimate]:
    """Average scores, with 95 % intervals drawn over pictures.

    Args:
        scores: of pictures.
        seed: of the draws.

    Returns:
        Name to estimate; names without a value are left out.
    """
    table: dict[str, list[list[float]]] = {
        "place": [_known([score.place]) for score in scores],
        "light": [_known([score.light]) for score in scores],
        "count": [[float(score.expected_count == score.seen_count)] for score in scores if score.expected_count],
        "all present": [[float(all(one.present for one in score.instances))] for score in scores if score.instances],
    }
    for title, name in (
        ("present", "present"),
        ("accessory", "accessory"),
        ("accessory colour", "accessory_colour"),
        ("action", "action"),
        ("attributes on the right one", "attributes"),
        ("swapped", "swapped"),
        ("similarity", "similarity"),
    ):
        table[title] = [_known([getattr(one, name) for one in score.instances]) for score in scores]
    for title, name in (("first of 20", "rank"), ("first among near", "rank_near"), ("first among far", "rank_far")):
        table[title] = [[float(rank == 1) for rank in _known([getattr(o, name) for o in s.instances])] for s in scores]
    estimates = {name: estimate(groups, seed) for name, groups in table.items()}
    return {name: value for name, value in estimates.items() if value is not None}


def _known(values: Sequence[float | bool | int | None]) -> list[float]:
    return [float(value) for value in values if value is not None]
