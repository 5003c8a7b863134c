"""Make the embedded model's tokenizer: pieces learnt from the world's captions, and 32 reserved identifiers."""

from __future__ import annotations

import itertools
import json

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.trainers import BpeTrainer
from transformers import CLIPTokenizer

from d2plan.world.cast import ACCESSORIES, ACTIONS, CLASSES, COLOURS
from d2plan.world.scenery import LIGHTS, PLACES

LENGTH = 48
IDENTIFIERS = tuple(f"<v{number}>" for number in range(1, 33))
_GLUE = "a an photo picture of and with wearing on in at the left right middle , ."
_SIGNS = "!\"#$%&'()*+,-./0123456789:;<=>?@[]^_`{|}~abcdefghijklmnopqrstuvwxyz"


def world_words() -> tuple[str, ...]:
    """List every word that a caption of the world can hold."""
    phrases = itertools.chain(
        CLASSES, ACCESSORIES, COLOURS, *ACTIONS.values(), *PLACES.values(), *LIGHTS.values(), [_GLUE]
    )
    return tuple(sorted({word for phrase in phrases for word in phrase.lower().split()}))


def make_tokenizer() -> CLIPTokenizer:
    """Give a tokenizer that has each word of the world as one token and spells all other words in pieces."""
    learner = Tokenizer(BPE(end_of_word_suffix="</w>"))
    learner.pre_tokenizer = Whitespace()
    trainer = BpeTrainer(end_of_word_suffix="</w>", initial_alphabet=list(_SIGNS), show_progress=False)
    learner.train_from_iterator([" ".join([*world_words(), *_SIGNS])], trainer)
    learnt = json.loads(learner.to_str())["model"]
    vocabulary = {token: place for place, token in enumerate(sorted(learnt["vocab"], key=learnt["vocab"].get))}
    for token in (*(f"{sign}</w>" for sign in _SIGNS), "<|startoftext|>", "<|endoftext|>"):
        vocabulary.setdefault(token, len(vocabulary))
    merges = [tuple(pair) for pair in learnt["merges"]]
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=LENGTH, pad_token="<|endoftext|>")
    tokenizer.add_tokens([AddedToken(word, normalized=False) for word in IDENTIFIERS])
    return tokenizer
