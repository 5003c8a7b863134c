"""Measure how often the judge calls true figures confused with another one, and finds figures that are half another.

Command: python scripts/judge/confusion.py

For each pair of characters: pictures of the one, each alone in a scene of the world, against the middles of other
pictures of both. Beside strangers of one class: look-alikes (two factors differ), another class, and figures half of
whose factors are the other one's, once as the one and once as the other. ``eval.criteria`` has the second bound.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from d2plan.eval.criteria import MOST_OF_ANOTHER, share_of_other
from d2plan.eval.judge import Judge, load_judge
from d2plan.eval.metrics import centre_of
from d2plan.world.cast import CLASSES, near_identity, sample_identity
from d2plan.world.identity import Identity
from d2plan.world.scene import sample_scene
from d2plan.world.seeds import stream_rng
from d2plan.world.truth import render

_KEY = 46
_VIEWS = 6
_BOUNDS = (0.25, MOST_OF_ANOTHER, 0.4, 0.5)


def look(judge: Judge, who: Identity, rng: np.random.Generator) -> list[np.ndarray]:
    """Draw a character a few times; give the judge's embeddings of it, where its class is seen."""
    images = [render(sample_scene(rng, [who])).image for _ in range(_VIEWS)]
    own = [[seen for seen in one.instances if seen.class_word == who.class_word] for one in judge.judge_many(images)]
    return [max(found, key=lambda seen: int(seen.mask.sum())).embedding for found in own if found]


def mix(first: Identity, second: Identity, rng: np.random.Generator) -> Identity:
    """Take half of the factors from each."""
    names = list(first.values)
    taken = rng.permutation(names)[: len(names) // 2]
    return Identity(first.class_word, {**first.values, **{str(name): second.values[str(name)] for name in taken}})


def share_all(figures: Sequence[np.ndarray], own: np.ndarray, other: np.ndarray) -> list[float]:
    """Give the share of the other one in each figure."""
    return [share_of_other(float(one @ own), float(one @ other), float(own @ other)) for one in figures]


def measure(judge: Judge, pairs: int) -> dict[str, list[float]]:
    """Give the shares of another one by kind of pair."""
    rng = stream_rng("heldout", _KEY, 0)
    found: dict[str, list[float]] = {"one class": [], "look-alikes": [], "two classes": [], "half and half": []}
    for number in range(pairs):
        word = CLASSES[number % len(CLASSES)]
        who = sample_identity(word, rng)
        other = sample_identity(word, rng)
        foreign = sample_identity(CLASSES[(number + 1 + number // len(CLASSES) % 10) % len(CLASSES)], rng)
        own = centre_of(look(judge, who, rng))
        for kind, rival in (
            ("one class", other),
            ("look-alikes", near_identity(who, rng, 2)),
            ("two classes", foreign),
        ):
            found[kind] += share_all(look(judge, who, rng), own, centre_of(look(judge, rival, rng)))
        middle = centre_of(look(judge, other, rng))
        for _ in range(2):
            mixed = look(judge, mix(who, other, rng), rng)
            # Half of each: whichever it was asked to be, it is to be found.
            found["half and half"] += share_all(mixed, own, middle) + share_all(mixed, middle, own)
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=110, help="of each kind, over all classes in turn")
    found = measure(load_judge(), parser.parse_args().pairs)
    print(f"| | figures | {' | '.join(f'above {bound:.2f}' for bound in _BOUNDS)} |")
    print(f"|---|---|{'---|' * len(_BOUNDS)}")
    for kind, shares in found.items():
        cells = [f"{100 * np.mean(np.array(shares) > bound):.1f} %" for bound in _BOUNDS]
        print(f"| {kind} | {len(shares)} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
