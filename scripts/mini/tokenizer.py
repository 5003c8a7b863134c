"""Make the embedded model's tokenizer: pieces learnt from the world's captions, and 32 reserved identifiers.

Its numbering lies in ``vocabulary.json``. When the world has new words: python scripts/mini/tokenizer.py, then train
everything anew.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.trainers import BpeTrainer
from transformers import CLIPTokenizer

from d2plan.world.cast import ACCESSORIES, ACTIONS, CLASSES, COLOURS
from d2plan.world.scenery import LIGHTS, PLACES

LENGTH = 48
VOCABULARY = Path(__file__).with_name("vocabulary.json")
IDENTIFIERS = tuple(f"<v{number}>" for number in range(1, 33))
_GLUE = "a an photo picture of and with wearing on in at the left right middle , ."
_SIGNS = "!\"#$%&'()*+,-./0123456789:;<=>?@[]^_`{|}~abcdefghijklmnopqrstuvwxyz"


def world_words() -> tuple[str, ...]:
    """List every word that a caption of the world can hold."""
    phrases = itertools.chain(
        CLASSES, ACCESSORIES, COLOURS, *ACTIONS.values(), *PLACES.values(), *LIGHTS.values(), [_GLUE]
    )
    return tuple(sorted({word for phrase in phrases for word in phrase.lower().split()}))


def learn_vocabulary() -> None:
    """Learn tokens and merges from the world's words and write them; a base learns one numbering only, so do it once.

    The library breaks ties in any order: each call numbers some words in another way.
    """
    learner = Tokenizer(BPE(end_of_word_suffix="</w>"))
    learner.pre_tokenizer = Whitespace()
    trainer = BpeTrainer(end_of_word_suffix="</w>", initial_alphabet=list(_SIGNS), show_progress=False)
    learner.train_from_iterator([" ".join([*world_words(), *_SIGNS])], trainer)
    learnt = json.loads(learner.to_str())["model"]
    tokens = sorted(learnt["vocab"], key=learnt["vocab"].get)
    others = (*(f"{sign}</w>" for sign in _SIGNS), "<|startoftext|>", "<|endoftext|>")
    tokens += [token for token in others if token not in learnt["vocab"]]
    lines = (
        f'"tokens": {json.dumps(tokens)}',
        f'"merges": {json.dumps([" ".join(pair) for pair in learnt["merges"]])}',
    )
    VOCABULARY.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def make_tokenizer() -> CLIPTokenizer:
    """Give a tokenizer that has each word of the world as one token and spells all other words in pieces."""
    learnt = json.loads(VOCABULARY.read_text())
    vocabulary = {token: place for place, token in enumerate(learnt["tokens"])}
    merges = [tuple(pair.split(" ")) for pair in learnt["merges"]]
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=LENGTH, pad_token="<|endoftext|>")
    tokenizer.add_tokens([AddedToken(word, normalized=False) for word in IDENTIFIERS])
    return tokenizer


if __name__ == "__main__":
    learn_vocabulary()
