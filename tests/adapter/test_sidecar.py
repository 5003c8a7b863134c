"""The sidecar: what A1111 and InvokeAI look for beside an adapter."""

import json

import pytest
import torch

from d2plan.adapter.adapter import Adapter, Delta
from d2plan.adapter.sdxl import sdxl_layers
from d2plan.adapter.sidecar import describe_sidecar, read_sidecar, write_sidecar
from d2plan.errors import AdapterError
from tests.adapter.files import PATHS


def make_adapter(width=6, **changes):
    deltas = {PATHS[0]: Delta(torch.ones(2, width), torch.ones(width, 2), 2.0)}
    fields = {"name": "Rex", "class_word": "dog", "identifier": "<v1>", "base_fingerprint": "0123", "rank": 2}
    return Adapter(
        **(fields | {"alpha": 2.0, "deltas": deltas, "settings": {"steps": "6", "pictures": "12"}} | changes)
    )


def test_the_sidecar_has_a1111s_names(tmp_path):
    path = write_sidecar(tmp_path / "rex.safetensors", make_adapter())
    assert path == tmp_path / "rex.json"
    assert json.loads(path.read_text(encoding="utf-8")) == {
        "description": "Rex, a dog",
        "sd version": "Unknown",
        "activation text": "<v1> dog",
        "preferred weight": 1.0,
        "negative text": "",
        "notes": "rank 2; trained on 12 pictures, 6 steps; base 0123",
    }
    assert list(tmp_path.iterdir()) == [path]


def test_the_version_is_sdxl_for_full_size_sdxl():
    assert sdxl_layers()[PATHS[0]] == (640, 640)
    assert describe_sidecar(make_adapter(640))["sd version"] == "SDXL"


def test_the_words_of_another_programs_file_stand_in_the_sidecar():
    adapter = make_adapter(class_word="", identifier="", header={"modelspec.trigger_phrase": "sks dog"})
    assert describe_sidecar(adapter)["activation text"] == "sks dog"
    assert describe_sidecar(adapter)["description"] == "Rex"


def test_a_sidecar_is_read_whoever_wrote_it(tmp_path):
    assert read_sidecar(tmp_path / "rex.safetensors") == {}
    (tmp_path / "rex.json").write_bytes(b'\xef\xbb\xbf{"activation text": "sks", "preferred weight": 0.8, "x": [1]}')
    assert read_sidecar(tmp_path / "rex.safetensors") == {"activation text": "sks", "preferred weight": "0.8"}


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff", b"{" * 100_000, b" " * (2**20 + 1)])
def test_a_sidecar_that_is_none_is_refused_in_one_sentence(tmp_path, content):
    (tmp_path / "rex.json").write_bytes(content)
    with pytest.raises(AdapterError, match=r"rex\.json"):
        read_sidecar(tmp_path / "rex.safetensors")
