"""What the U-Net's training asks of each caption's tokens, read from a shard's captions and kept beside them.

It takes a second per thousand captions, so the processes that render do it for the one that trains.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from tokenizer import LENGTH, make_tokenizer
from transformers import CLIPTokenizer

from d2plan.world.cast import ACCESSORIES, ACTIONS, CLASSES, COLOURS
from d2plan.world.scenery import LIGHTS, PLACES

ANSWERS = {
    "class_word": tuple(CLASSES),
    "accessory": tuple(ACCESSORIES),
    "accessory_colour": tuple(COLOURS),
    "action": tuple(sorted({action for actions in ACTIONS.values() for action in actions})),
    "place": tuple(PLACES),
    "light": tuple(LIGHTS),
}
_OF_SCENE = ("place", "light")
_SMALL_WORDS = frozenset("a an and on in at the of with wearing".split())


def token_owners(line: dict[str, Any], offsets: list[tuple[int, int]]) -> np.ndarray:
    """Say which figure each token names, ``[n]``, -1 where none."""
    owner = np.full(len(offsets), -1, np.int8)
    for place, (start, end) in enumerate(offsets):
        if end > start and line["caption"][start:end].strip() not in _SMALL_WORDS:
            for figure, (low, high) in enumerate(line["phrases"]):
                if low <= start < high:
                    owner[place] = figure
    return owner


def token_truth(line: dict[str, Any], offsets: list[tuple[int, int]], owner: np.ndarray) -> np.ndarray:
    """Give the right answer of each question at each token, ``[questions, n]``, -1 where nothing is asked."""
    asked = np.full((len(ANSWERS), len(offsets)), -1, np.int8)
    scene = line["scene"]
    end = max(place for place, (start, stop) in enumerate(offsets) if stop > start) + 1
    for question, (name, answers) in enumerate(ANSWERS.items()):
        if name in _OF_SCENE:
            asked[question, min(end, len(offsets) - 1)] = answers.index(scene[name])
            continue
        for number, figure in enumerate(scene["figures"]):
            said = name == "class_word" or name in line["said"][number]
            if not said:
                continue
            told = figure["identity"]["class_word"] if name == "class_word" else figure[name]
            start = line["class_words"][number][0]
            mine = [p for p, (low, _) in enumerate(offsets) if owner[p] == number and low >= start]
            asked[question, mine] = answers.index(told)
    return asked


def figure_classes(line: dict[str, Any]) -> list[int]:
    """Give the class of each of the four possible figures, -1 where there is none."""
    found = [ANSWERS["class_word"].index(figure["identity"]["class_word"]) for figure in line["scene"]["figures"]]
    return (found + [-1] * 4)[:4]


def read_words(shard: Path, tokenizer: CLIPTokenizer | None = None) -> dict[str, np.ndarray]:
    """Give tokens ``[m n]``, owners ``[m n]``, truth ``[m questions n]`` and classes ``[m 4]`` of a shard's captions.

    They are kept in a file that is named by the vocabulary and the questions, so that no other tokenizer's is taken.
    """
    tokenizer = tokenizer or make_tokenizer()
    content = json.dumps([sorted(tokenizer.get_vocab().items()), ANSWERS, LENGTH])
    kept = shard.with_name(f"{shard.name}.words-{hashlib.sha256(content.encode()).hexdigest()[:8]}.npz")
    if kept.exists():
        with np.load(kept) as file:
            return dict(file)
    lines = [json.loads(line) for line in shard.with_suffix(".jsonl").read_text().splitlines()]
    captions = [line["caption"] for line in lines]
    written = tokenizer(captions, padding="max_length", max_length=LENGTH, return_offsets_mapping=True)
    pairs = list(zip(lines, written.offset_mapping, strict=True))
    owners = np.stack([token_owners(*pair) for pair in pairs])
    words = {
        "tokens": np.array(written.input_ids, np.int64),
        "owners": owners,
        "truth": np.stack([token_truth(*pair, owner) for pair, owner in zip(pairs, owners, strict=True)]),
        "classes": np.array([figure_classes(line) for line in lines], np.int64),
    }
    temporary = kept.with_suffix(".tmp.npz")
    np.savez(temporary, **words)
    temporary.replace(kept)
    return words
