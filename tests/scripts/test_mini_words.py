"""The embedded base's words have one numbering for ever, and the world's words are single tokens."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts" / "mini"
PROGRAM = """
import json
from tokenizer import make_tokenizer, world_words
tokenizer = make_tokenizer()
pieces = {word: tokenizer.tokenize(word) for word in world_words()}
print(json.dumps([tokenizer.get_vocab(), pieces, tokenizer.tokenize("a photo of a <v1> dog")]))
"""


def ask() -> tuple[dict[str, int], dict[str, list[str]], list[str]]:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=SCRIPTS, capture_output=True, text=True, check=True)
    vocabulary, pieces, phrase = json.loads(done.stdout)
    return vocabulary, pieces, phrase


def test_two_programs_number_the_words_alike_and_spell_each_word_of_the_world_as_one_token() -> None:
    (vocabulary, pieces, phrase), (other, _, _) = ask(), ask()
    assert vocabulary == other
    assert sorted(vocabulary.values()) == list(range(len(vocabulary)))
    assert {word: parts for word, parts in pieces.items() if len(parts) != 1} == {}
    assert phrase == ["a</w>", "photo</w>", "of</w>", "a</w>", "<v1>", "dog</w>"]
