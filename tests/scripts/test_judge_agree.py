"""The judge against a person: how labels are read and compared."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from d2plan.eval.judge import Seen, Verdict

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
NAMES = ("agree", "data")


@pytest.fixture
def agree(monkeypatch):
    """The script as a module; other scripts have files of the same names."""
    kept = {name: sys.modules.pop(name) for name in NAMES if name in sys.modules}
    monkeypatch.setattr(sys, "path", [str(SCRIPTS / "judge"), *sys.path])
    yield importlib.import_module("agree")
    for name in NAMES:
        sys.modules.pop(name, None)
    sys.modules.update(kept)


def _seen(class_word, accessory, colour, action):
    mask = np.ones((4, 4), bool)
    return Seen(class_word, mask, (0, 0, 4, 4), accessory, colour, action, np.ones(64, np.float32), 1.0)


def test_answers_are_compared_figure_by_figure(agree, tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text(
        "# a comment\nbase: abc\n"
        "0 | beach | man hat red waving | dog none none ?\n"
        "1 | city | dog scarf red sitting\n"
        "2 | city | dog none none sitting\n"
    )
    fingerprint, labels = agree.read_labels(path)
    assert fingerprint == "abc" and set(labels) == {0, 1, 2}
    dog = _seen("dog", None, None, "sitting")
    verdicts = [
        Verdict("beach", "day", (_seen("woman", "hat", "blue", "waving"), dog)),
        Verdict("beach", "day", (dog,)),
        Verdict("city", "day", (dog, dog)),
    ]
    assert agree.compare(verdicts, labels) == {
        "place": [[1.0], [0.0], [1.0]],
        "count": [[1.0], [1.0], [0.0]],
        "class": [[0.0], [1.0], [1.0]],
        "accessory": [[1.0], [1.0], [0.0]],
        # The second dog's scarf, which only the person sees, has no colour to agree about.
        "accessory_colour": [[0.0]],
        "action": [[1.0], [1.0]],
    }


def test_a_word_that_is_no_answer_is_refused(agree, tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("base: abc\n0 | beach | man hatt red waving\n")
    with pytest.raises(SystemExit, match="hatt"):
        agree.read_labels(path)
