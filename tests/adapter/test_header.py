"""Headers: everything that a broken or hostile file can say is refused before a tensor is read."""

import json
import os
import pickle
import struct
import time
import tracemalloc
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from d2plan.adapter.file import load_adapter, read_metadata
from d2plan.adapter.header import MOST_TENSORS, read_content, read_header
from d2plan.errors import AdapterError, D2PlanError
from tests.adapter.files import SPELLINGS, write_layers, write_raw

SOURCE = Path(__file__).resolve().parents[2] / "src" / "d2plan" / "adapter"


class Canary:
    """Makes a file when it is unpickled."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return (open, (str(self.place), "w"))


@pytest.mark.parametrize("name", ["rex.safetensors", "rex.pt", "rex.ckpt", "rex.bin", "rex.pkl", "rex.pth"])
@pytest.mark.parametrize("make", ["pickle", "torch"])
def test_no_pickle_is_ever_run(tmp_path, name, make):
    path, mark = tmp_path / name, tmp_path / "executed"
    if make == "pickle":
        path.write_bytes(pickle.dumps({"a": Canary(mark), "b": bytes(100)}))
    else:
        torch.save({"a": Canary(mark)}, path)
    for read in (load_adapter, read_metadata):
        with pytest.raises(AdapterError, match=name):
            read(path)
    assert not mark.exists()


def test_a_name_without_its_ending_is_told_with_it(tmp_path):
    write_layers(tmp_path / "john.v2.safetensors", SPELLINGS["sd-scripts"][0])
    with pytest.raises(AdapterError, match=r"john\.v2 lacks its ending; did you mean .*/john\.v2\.safetensors\?$"):
        load_adapter(tmp_path / "john.v2")
    for name in ("john", ".", ""):
        with pytest.raises(AdapterError, match=r"is no \.safetensors file"):
            load_adapter(tmp_path / name)
    with pytest.raises(AdapterError, match=r"is no \.safetensors file"):
        load_adapter("")


def test_a_damaged_file_is_not_replaced_by_the_pickle_beside_it(tmp_path):
    mark = tmp_path / "executed"
    for name in ("rex.bin", "rex.pt", "rex.ckpt", "pytorch_lora_weights.bin"):
        torch.save({"a": Canary(mark)}, tmp_path / name)
    (tmp_path / "rex.safetensors").write_bytes(b"broken")
    with pytest.raises(AdapterError):
        load_adapter(tmp_path / "rex.safetensors")
    assert not mark.exists()


def test_there_is_no_way_from_an_adapter_to_a_pickle():
    paths = list(SOURCE.rglob("*.py"))
    assert len(paths) > 5
    for path in paths:
        text = path.read_text(encoding="utf-8")
        assert not any(word in text for word in ("import pickle", "torch.load", "zipfile", "eval(", "exec(")), path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><html><body>Not found</body></html>" + bytes(50), "a web page"),
        (b"\n <html>" + bytes(50), "a web page"),
        (b"PK\x03\x04\x00\x00\x08\x08" + bytes(60), "a zip archive or a PyTorch pickle"),
        (b"\x80\x04\x95\x10\x00\x11\x00\x00" + bytes(60), "a Python pickle"),
        (b"GGUF\x03\x00\x00\x00" + bytes(60), "a GGUF model"),
    ],
)
def test_a_disguise_is_named(tmp_path, content, message):
    path = tmp_path / "rex.safetensors"
    path.write_bytes(content)
    with pytest.raises(AdapterError, match=f"no complete safetensors file but {message}"):
        load_adapter(path)


def entry(dtype="F32", shape=(1,), place=(0, 4), **more):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(place), **more}


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"a": entry(), "b": entry(place=(2, 6))}, "overlap"),
        ({"a": entry(), "b": entry(place=(0, 4))}, "overlap"),
        ({"a": entry(place=(4, 8))}, "hole"),
        ({"a": entry()}, "need 4 bytes, and 8 are there"),
        ({"a": entry(), "b": entry(place=(4, 12), shape=(2,))}, "need 12 bytes, and 8 are there"),
        ({"a": entry(place=(0, -4))}, "place"),
        ({"a": entry(place=(4, 0))}, "place"),
        ({"a": entry(place=(0, 4, 8))}, "place"),
        ({"a": entry(place=(0.0, 4.0))}, "place"),
        ({"a": entry(place=(False, True), dtype="U8")}, "place"),
        ({"a": entry(shape=(-1,))}, "shape"),
        ({"a": entry(shape=(0, 2**40), place=(0, 0))}, "shape"),
        ({"a": entry(shape=(2**62, 4))}, "shape"),
        ({"a": entry(shape=(1,) * 100_000)}, "shape"),
        ({"a": entry(shape=(2,))}, "another size"),
        ({"a": entry(dtype="F99")}, "number format"),
        ({"a": entry(dtype=4)}, "number format"),
        ({"a": entry(more=1)}, "described"),
        ({"a": 1}, "described"),
        ({"a": None}, "described"),
        ({"x" * 500: entry()}, "500 characters"),
    ],
)
def test_places_and_forms_that_cannot_be_are_refused_at_once(tmp_path, tensors, message):
    path = write_raw(tmp_path / "rex.safetensors", tensors, bytes(8))
    start = time.process_time()
    with pytest.raises(AdapterError, match=message):
        read_header(path)
    assert time.process_time() - start < 1


def test_too_many_tensors_are_refused(tmp_path):
    tensors = {f"t{number}": entry(shape=(0,), place=(0, 0)) for number in range(MOST_TENSORS + 1)}
    with pytest.raises(AdapterError, match=f"holds {MOST_TENSORS + 1} tensors"):
        read_header(write_raw(tmp_path / "rex.safetensors", tensors))


@pytest.mark.parametrize("text", [b"[]", b'"{}"', b"{" * 100_000, b'{"a":' * 50_000, b'{"a":1' + b"0" * 5000 + b"}"])
def test_headers_that_are_no_table_are_refused(tmp_path, text):
    with pytest.raises(AdapterError, match=r"rex\.safetensors"):
        read_header(write_raw(tmp_path / "rex.safetensors", text))


def test_a_huge_file_is_judged_by_its_header_alone(tmp_path):
    size = 2**36
    tensors = {"model.diffusion_model.out.weight": entry(dtype="U8", shape=(2**18, 2**18), place=(0, size))}
    path = write_raw(tmp_path / "model.safetensors", tensors)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + size)
    with pytest.raises(AdapterError, match="a whole model"):
        load_adapter(path)


def test_markup_in_the_words_is_only_text(tmp_path):
    path = tmp_path / "rex.safetensors"
    stems = SPELLINGS["sd-scripts"][0]
    write_layers(path, stems, words={"modelspec.title": "<script>alert(1)</script>", "d2plan.name": "a<b>"})
    adapter = load_adapter(path)
    assert adapter.name == "a<b>"
    write_layers(path, stems, words={"d2plan.name": "x" * 10_000_000})
    with pytest.raises(AdapterError, match="8 MB"):
        load_adapter(path)


def test_a_file_that_changes_between_header_and_tensors_is_refused(tmp_path):
    path = tmp_path / "rex.safetensors"
    save_file({"a": torch.ones(4)}, path)
    header = read_header(path)
    save_file({"a": torch.ones(8)}, path)
    with pytest.raises(AdapterError, match="changed while it was read"):
        read_content(path, header)


def test_other_things_than_files_are_refused(tmp_path):
    (tmp_path / "folder.safetensors").mkdir()
    os.symlink(tmp_path / "nowhere", tmp_path / "dangling.safetensors")
    os.symlink("loop.safetensors", tmp_path / "loop.safetensors")
    for name in ("folder", "dangling", "loop"):
        with pytest.raises(D2PlanError, match=name):
            load_adapter(tmp_path / f"{name}.safetensors")
    with pytest.raises(D2PlanError, match="cannot be read"):
        load_adapter("a\0b.safetensors")


def test_a_link_to_a_file_is_that_file(tmp_path):
    write_layers(tmp_path / "rex.safetensors", SPELLINGS["sd-scripts"][0])
    os.symlink(tmp_path / "rex.safetensors", tmp_path / "other.safetensors")
    assert len(load_adapter(tmp_path / "other.safetensors").deltas) == 3


@settings(max_examples=200)
@given(st.data())
def test_a_file_with_changed_bytes_is_read_or_refused_in_one_sentence(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "changed"
    folder.mkdir(exist_ok=True)
    whole = folder / "whole.safetensors"
    if not whole.exists():
        write_layers(whole, SPELLINGS["PEFT"][0], "lora_A", "lora_B", words={"d2plan.name": "Rex"})
    content = bytearray(whole.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    path = folder / "changed.safetensors"
    path.write_bytes(content)
    try:
        load_adapter(path)
    except D2PlanError as error:
        assert "changed.safetensors" in str(error)
        assert "\n" not in str(error)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=12,
    )
)
def test_any_json_as_a_header_is_refused_or_read(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    text = json.dumps(content).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    try:
        read_header(path)
    except D2PlanError as error:
        assert "any.safetensors" in str(error)


@pytest.mark.parametrize("length", [0, 100, 8 * 2**20, 100 * 2**20 + 1, 2**63])
def test_no_more_room_is_made_than_the_file_is_large(tmp_path: Path, length: int) -> None:
    path = tmp_path / "rex.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b"{}")
    tracemalloc.start()
    try:
        with pytest.raises(AdapterError, match="no complete"):
            load_adapter(path)
        assert tracemalloc.get_traced_memory()[1] < 2**18
    finally:
        tracemalloc.stop()
