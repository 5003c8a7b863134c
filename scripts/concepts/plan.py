"""What is measured: which concepts, which pairs of them, and the prompts and seeds of their pictures. No torch here."""

from __future__ import annotations

import ast
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import d2plan
from d2plan.documents import Instance, Scene
from d2plan.errors import InputError
from d2plan.world.caption import accessory_phrase, article
from d2plan.world.cast import ACCESSORIES, ACTIONS, CLASSES, COLOURS, identity_from_seed
from d2plan.world.scene import Figure, WorldScene, arrange, sample_figure
from d2plan.world.scenery import PLACES
from d2plan.world.seeds import DEVELOPMENT_SEEDS, TEST_SEEDS, stream_rng

PACKAGE = Path(d2plan.__file__).resolve().parent
ONE, TWO, SAME, THREE = "one", "two", "same", "three"
COMPOSED, BASE, MERGED, TRUTH = "composed", "base", "merged", "truth"
SWITCH, COMPOSITE = "switch", "composite"
OVER, AGAIN = "over", "again"  # composing begins over the world's own picture, or over its own one
LEAK = "leak"  # the adapter is on, but nobody is called by an identifier
# Those of measure_concepts.py; measure_isp.py and measure_leak.py have others beside them.
METHODS = (COMPOSED, BASE, MERGED, TRUTH)
STREAMS = {"development": DEVELOPMENT_SEEDS, "test": TEST_SEEDS}
# The first development seeds are for trying things and for the demo.
FIRST = {"development": 1000, "test": TEST_SEEDS[0]}
# Words of pictures, drawn from the stream that no model is trained on; concept seeds keep both kinds of run apart.
_ONE_KEY, _TWO_KEY, _PAIRS_KEY, _TRUTH_KEY = 40, 41, 42, 43


@dataclass(frozen=True)
class Concept:
    """A character to learn.

    Attributes:
        class_word: its class.
        seed: of its identity.
        identifier: the word that names it.
    """

    class_word: str
    seed: int
    identifier: str

    @property
    def name(self) -> str:
        """How records and files call it."""
        return f"{self.class_word}-{self.seed}"


@dataclass(frozen=True)
class Shot:
    """One picture to make by each method.

    Attributes:
        concepts: who is in it, from left to right.
        deeds: what each wears or does, in words.
        place: the place, in words.
        number: which of its concepts' pictures it is, from 0.
        seed: of the noise, the same for all methods.
    """

    concepts: tuple[Concept, ...]
    deeds: tuple[str, ...]
    place: str
    number: int
    seed: int

    @property
    def part(self) -> str:
        """The part of the table that it belongs to."""
        classes = {concept.class_word for concept in self.concepts}
        return SAME if len(classes) < len(self.concepts) else (ONE, TWO, THREE)[len(self.concepts) - 1]

    @property
    def group(self) -> str:
        """What its pictures share, the unit of the intervals: its concept or pair."""
        return "+".join(concept.name for concept in self.concepts)

    @property
    def name(self) -> str:
        """How records and files call it."""
        return f"{self.group}-{self.number}"

    def scene(self, paths: Sequence[str]) -> Scene:
        """Write its scene: what each does stands in its own sub-prompt only.

        Args:
            paths: of the concepts' adapter files.

        Returns:
            The scene.
        """
        instances = tuple(
            Instance(
                concept=path,
                class_word=who.class_word,
                sub_prompt=f"a photo of {article(who.identifier)} {who.class_word} {deed}",
            )
            for who, deed, path in zip(self.concepts, self.deeds, paths, strict=True)
        )
        said = self._say([""] * len(self.concepts), False)
        return Scene(global_prompt=said, instances=instances, seed=self.seed, missing="mark")

    def prompt(self, method: str) -> str:
        """Write all of it in one prompt, with the identifiers for the merged adapters."""
        return self._say([f" {deed}" for deed in self.deeds], method in (MERGED, SWITCH, COMPOSITE))

    def true_scene(self) -> WorldScene:
        """Write it as a scene of the world: the characters themselves, where and as the words say."""
        rng = stream_rng("heldout", _TRUTH_KEY, self.seed)
        people = [identity_from_seed(who.class_word, who.seed) for who in self.concepts]
        figures = [sample_figure(one, rng, len(people)) for one in people]
        dressed = [_dress(figure, deed) for figure, deed in zip(figures, self.deeds, strict=True)]
        place = next(name for name, words in PLACES.items() if words[0] == self.place)
        return WorldScene(place, "day", arrange(dressed, rng), int(rng.integers(2**31)))

    def _say(self, deeds: Sequence[str], named: bool) -> str:
        said = [
            f"{article(f'{who.identifier} {who.class_word}' if named else who.class_word)}{deed}"
            for who, deed in zip(self.concepts, deeds, strict=True)
        ]
        both = said if len(said) < 3 else [", ".join(said[:-1]), said[-1]]
        return f"a photo of {' and '.join(both)} {self.place}"


def choose_concepts(seeds: str, count: int, identifiers: Sequence[str]) -> list[Concept]:
    """Choose the characters, class after class, each with an identifier of its own.

    Args:
        seeds: "development" or "test".
        count: how many.
        identifiers: words that the base keeps for concepts.

    Returns:
        The same ones for a larger count, and more.

    Raises:
        InputError: the base keeps fewer identifiers, or there are fewer than two classes to choose.
    """
    if not 2 <= count <= len(identifiers):
        raise InputError(f"identities: {count} is outside 2..{len(identifiers)}, the identifiers that the base keeps.")
    return [Concept(CLASSES[n % len(CLASSES)], FIRST[seeds] + n, identifiers[n]) for n in range(count)]


def choose_pairs(concepts: Sequence[Concept], count: int) -> list[tuple[Concept, Concept]]:
    """Choose pairs of different classes in which all characters take part about equally often.

    Args:
        concepts: who there is.
        count: how many pairs.

    Returns:
        Different pairs; the same ones for a larger count, and more.

    Raises:
        InputError: there are not so many.
    """
    rng = stream_rng("heldout", _PAIRS_KEY, concepts[0].seed, len(concepts))
    numbers = range(len(concepts))
    left = [(a, b) for a in numbers for b in numbers[a + 1 :] if concepts[a].class_word != concepts[b].class_word]
    if not 0 <= count <= len(left):
        raise InputError(f"pairs: {count} is outside 0..{len(left)}, the pairs of different classes that there are.")
    left = [left[int(place)] for place in rng.permutation(len(left))]
    used: Counter[int] = Counter()
    chosen = []
    for _ in range(count):
        pair = min(left, key=lambda both: (max(used[n] for n in both), sum(used[n] for n in both)))
        left.remove(pair)
        used.update(pair)
        first, second = pair if rng.random() < 0.5 else pair[::-1]
        chosen.append((concepts[first], concepts[second]))
    return chosen


def choose_alike(concepts: Sequence[Concept]) -> list[tuple[Concept, Concept]]:
    """Pair each concept with the next one of its class, where there is one."""
    pairs = [
        (one, next((other for other in concepts[n + 1 :] if other.class_word == one.class_word), None))
        for n, one in enumerate(concepts)
    ]
    return [(one, other) for one, other in pairs if other is not None]


def choose_triples(concepts: Sequence[Concept], count: int) -> list[tuple[Concept, Concept, Concept]]:
    """Add to each pair of ``choose_pairs`` a third concept of another class, all about equally often."""
    pairs = choose_pairs(concepts, count)
    used: Counter[str] = Counter()
    triples = []
    for pair in pairs:
        words = {one.class_word for one in pair}
        third = min((one for one in concepts if one.class_word not in words), key=lambda one: used[one.name])
        used.update([third.name])
        triples.append((*pair, third))
    return triples


def plan_shots(concepts: Sequence[Concept], count: int) -> list[Shot]:
    """Plan the pictures of a concept or a pair: other places, other deeds.

    Args:
        concepts: who is in them.
        count: how many pictures.

    Returns:
        The same ones for a larger count, and more.
    """
    seeds = [concept.seed for concept in concepts]
    key = (_ONE_KEY if len(concepts) == 1 else _TWO_KEY, *seeds)
    places = [str(place) for place in stream_rng("heldout", *key).permutation(list(PLACES))]
    shots = []
    for number in range(count):
        rng = stream_rng("heldout", *key, number)
        deeds = draw_deeds([concept.class_word for concept in concepts], rng)
        place = PLACES[places[number % len(places)]][0]
        shots.append(Shot(tuple(concepts), deeds, place, number, int(rng.integers(2**31))))
    return shots


def plan_all(concepts: Sequence[Concept], pairs: int, images: int) -> list[list[Shot]]:
    """Plan all pictures, those of one concept or pair together: first each alone, then the pairs."""
    groups = (*((concept,) for concept in concepts), *choose_pairs(concepts, pairs))
    return [plan_shots(group, images) for group in groups]


def draw_deeds(words: Sequence[str], rng: np.random.Generator) -> tuple[str, ...]:
    """Draw one thing that each wears, with its colour, or does; no two do or wear the same.

    Args:
        words: the classes.
        rng: source of randomness.

    Returns:
        Words to put behind each class word.
    """
    worn, colours = rng.permutation(list(ACCESSORIES)), rng.permutation(list(COLOURS))
    deeds: list[str] = []
    for number, word in enumerate(words):
        # The resting pose comes first; it would show nothing.
        actions = [action for action in ACTIONS[word][1:] if action not in deeds]
        if actions and rng.random() < 0.5:
            deeds.append(actions[int(rng.integers(len(actions)))])
        else:
            deeds.append(f"wearing {accessory_phrase(str(worn[number]), str(colours[number]))}")
    return tuple(deeds)


def _dress(figure: Figure, deed: str) -> Figure:
    """Let a figure wear or do what its words say, and nothing else."""
    worn = {
        f"wearing {accessory_phrase(thing, colour)}": (thing, colour) for thing in ACCESSORIES for colour in COLOURS
    }
    thing, colour = worn.get(deed, (None, None))
    action = ACTIONS[figure.class_word][0] if thing else deed
    return replace(figure, action=action, accessory=thing, accessory_colour=colour)


def digest(*content: object) -> str:
    """Give a short key for plain data: 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def digest_files(folder: Path) -> str:
    """Give a key for the files below a folder, but for the world's own notes on them."""
    content = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in (".png", ".txt", ".safetensors", ".json") and path.name != "world.json":
            content.update(f"{path.relative_to(folder)}\n".encode() + path.read_bytes())
    return content.hexdigest()[:16]


def digest_code(*rooms: str) -> str:
    """Give a key for what rooms of the package compute; comments, docstrings and layout do not count."""
    content = hashlib.sha256()
    for path in sorted(path for room in rooms for path in (PACKAGE / room).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
                node.body = node.body[1:]
        content.update(f"{path.name}{ast.dump(tree)}".encode())
    return content.hexdigest()[:16]
