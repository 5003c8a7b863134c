"""Which identifier a concept gets when nobody names one."""

import json
from pathlib import Path

import pytest
import torch

from d2plan.adapter.file import Adapter, Delta, save_adapter
from d2plan.dislora.checkpoint import save_checkpoint
from d2plan.errors import InputError
from d2plan.workflows.training.words import share_identifiers

RESERVED = ("<v1>", "<v2>", "<v3>")


def _write(path: Path, identifier: str) -> Path:
    layer = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    deltas = {layer: Delta(torch.ones(2, 4), torch.ones(4, 2), 2.0)}
    save_adapter(path, Adapter(path.stem, "dog", identifier, "0123456789abcdef", 2, 2.0, deltas))
    return path


def _choose(target: Path, resume: bool = False) -> str | None:
    return share_identifiers([None], [target], RESERVED, resume)[0]


def test_the_first_one_is_taken_that_no_neighbour_has(tmp_path: Path) -> None:
    target = tmp_path / "rex.safetensors"
    assert _choose(target) == "<v1>" and _choose(tmp_path / "no such folder" / "rex.safetensors") == "<v1>"
    _write(tmp_path / "john.safetensors", "<v1>")
    _write(tmp_path / "foreign.safetensors", "")
    (tmp_path / "broken.safetensors").write_bytes(b"short")
    assert _choose(target) == "<v2>"
    _write(tmp_path / "anna.safetensors", "<v3>")
    assert _choose(target) == "<v2>"
    assert share_identifiers(["<v1>"], [target], RESERVED, False) == ["<v1>"]


def test_an_adapter_made_anew_keeps_its_own_unless_a_neighbour_has_it(tmp_path: Path) -> None:
    target = _write(tmp_path / "rex.safetensors", "<v2>")
    assert _choose(target) == "<v2>"
    _write(tmp_path / "john.safetensors", "<v2>")
    assert _choose(target) == "<v1>"
    assert _choose(_write(tmp_path / "max.safetensors", "sks")) == "<v1>"


def test_a_training_that_goes_on_keeps_its_identifier_whatever_came_since(tmp_path: Path) -> None:
    target = tmp_path / "rex.safetensors"
    (tmp_path / "rex.train").mkdir()
    save_checkpoint(tmp_path / "rex.train", 1, {"x": torch.ones(1)}, {"identifier": "<v1>"})
    _write(tmp_path / "john.safetensors", "<v1>")
    assert _choose(target, resume=True) == "<v1>" and _choose(target) == "<v2>"


@pytest.mark.parametrize("kept", ["checkpoint", "log"])
def test_a_neighbour_that_is_still_in_training_counts(kept: str, tmp_path: Path) -> None:
    work = tmp_path / "john.train"
    work.mkdir()
    if kept == "checkpoint":
        save_checkpoint(work, 1, {"x": torch.ones(1)}, {"identifier": "<v1>"})
    else:
        (work / "log.jsonl").write_text(json.dumps({"settings": {"identifier": "<v1>"}}) + '\n{"step": 1}\n')
    (tmp_path / "empty.train").mkdir()
    (tmp_path / "damaged.train").mkdir()
    (tmp_path / "damaged.train" / "manifest.json").write_text("[")
    (tmp_path / "damaged.train" / "log.jsonl").write_text("[]")
    assert _choose(tmp_path / "rex.safetensors") == "<v2>"


def test_concepts_of_a_list_share_what_is_left(tmp_path: Path) -> None:
    targets = [tmp_path / f"{name}.safetensors" for name in ("one", "two", "three")]
    assert share_identifiers([None, "<v1>", None], targets, RESERVED, False) == ["<v2>", "<v1>", "<v3>"]
    _write(targets[0], "<v3>")
    assert share_identifiers([None, "<v1>", None], targets, RESERVED, True) == ["<v3>", "<v1>", "<v2>"]


def test_when_none_is_left_the_sentence_says_what_to_do(tmp_path: Path) -> None:
    for word in RESERVED:
        _write(tmp_path / f"{word[1:-1]}.safetensors", word)
    with pytest.raises(InputError, match=r"all 3 of this base \(<v1> \.\. <v3>\).*choose one with --identifier"):
        _choose(tmp_path / "rex.safetensors")
    assert share_identifiers([None], [tmp_path / "rex.safetensors"], (), False) == [None]
