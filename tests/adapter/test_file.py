"""The adapter file: round trips, other programs, and files that are refused."""

import json
import os
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from d2plan.adapter.file import (
    Adapter,
    Delta,
    check_base,
    load_adapter,
    read_metadata,
    save_adapter,
)
from d2plan.adapter.names import find_layer
from d2plan.backbone.sdxl import draw_noise, encode_prompts, predict, time_ids
from d2plan.errors import AdapterError, FileError
from tests.tiny import tiny_adapter

PATHS = (
    "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k",
    "unet.mid_block.attentions.0.transformer_blocks.1.attn1.to_out.0",
    "unet.up_blocks.0.attentions.2.transformer_blocks.9.attn2.to_q",
    "text_encoder.text_model.encoder.layers.0.self_attn.q_proj",
    "text_encoder_2.text_model.encoder.layers.11.self_attn.out_proj",
)


def make_adapter(paths=PATHS, rank=2, alpha=4.0, **changes):
    generator = torch.Generator().manual_seed(0)
    deltas = {
        path: Delta(torch.randn(rank, 6, generator=generator), torch.randn(5, rank, generator=generator), float(alpha))
        for path in paths
    }
    fields = {"name": "Rex", "class_word": "dog", "identifier": "<v1>", "base_fingerprint": "0123456789abcdef"}
    fields |= {"rank": rank, "alpha": alpha, "deltas": deltas, "settings": {"steps": "6", "rate": "0.001"}}
    return Adapter(**(fields | changes))


def write_raw(path, header, payload=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + payload)
    return path


def test_what_is_saved_is_what_is_read(tmp_path):
    adapter = make_adapter()
    saved = save_adapter(tmp_path / "rex.safetensors", adapter)
    read = load_adapter(tmp_path / "rex.safetensors")
    for name in ("name", "class_word", "identifier", "base_fingerprint", "rank", "alpha", "settings"):
        assert getattr(read, name) == getattr(adapter, name)
    assert read.deltas.keys() == adapter.deltas.keys()
    for path, delta in adapter.deltas.items():
        assert torch.equal(read.deltas[path].down, delta.down)
        assert torch.equal(read.deltas[path].up, delta.up)
        assert (read.deltas[path].alpha, read.deltas[path].scale) == (4.0, 2.0)
    assert (saved.path, saved.sha256) == (read.path, read.sha256)
    assert len(read.sha256) == 64


PLAIN = st.characters(exclude_categories=("Cc", "Cs"))


@given(
    st.text(PLAIN, max_size=30),
    st.text(PLAIN, max_size=10),
    st.dictionaries(st.text(max_size=5), st.text(max_size=9), max_size=3),
)
def test_any_words_survive_the_header(tmp_path_factory, name, word, settings):
    path = tmp_path_factory.mktemp("words") / "a.safetensors"
    save_adapter(path, make_adapter(PATHS[:1], name=name or "x", class_word=word, settings=settings))
    read = load_adapter(path)
    assert (read.name, read.class_word, read.settings) == (name or "x", word, settings)


def test_half_precision_stays_half_precision(tmp_path):
    deltas = {path: Delta(d.down.half(), d.up.half(), d.alpha) for path, d in make_adapter().deltas.items()}
    save_adapter(tmp_path / "a.safetensors", make_adapter(deltas=deltas))
    read = load_adapter(tmp_path / "a.safetensors")
    assert {delta.down.dtype for delta in read.deltas.values()} == {torch.float16}


def test_the_header_tells_other_programs_what_they_look_for(tmp_path):
    save_adapter(tmp_path / "rex.safetensors", make_adapter())
    header = read_metadata(tmp_path / "rex.safetensors")
    assert header["ss_base_model_version"].startswith("sdxl_")
    assert (header["ss_network_module"], header["ss_network_dim"]) == ("networks.lora", "2")
    assert float(header["ss_network_alpha"]) == 4
    assert header["modelspec.architecture"] == "stable-diffusion-xl-v1-base/lora"
    assert header["modelspec.trigger_phrase"] == "<v1> dog"
    assert (header["d2plan.name"], header["d2plan.class_word"]) == ("Rex", "dog")
    assert "lora_adapter_metadata" not in header


def test_names_are_kohyas(tmp_path):
    save_adapter(tmp_path / "rex.safetensors", make_adapter())
    stems = {name.partition(".")[0] for name in load_file(tmp_path / "rex.safetensors")}
    assert stems == {
        "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k",
        "lora_unet_mid_block_attentions_0_transformer_blocks_1_attn1_to_out_0",
        "lora_unet_up_blocks_0_attentions_2_transformer_blocks_9_attn2_to_q",
        "lora_te1_text_model_encoder_layers_0_self_attn_q_proj",
        "lora_te2_text_model_encoder_layers_11_self_attn_out_proj",
    }


def test_an_encoder_path_may_leave_out_the_level_that_files_name(tmp_path):
    save_adapter(tmp_path / "a.safetensors", make_adapter(("text_encoder.encoder.layers.0.self_attn.q_proj",)))
    assert list(load_adapter(tmp_path / "a.safetensors").deltas) == [PATHS[3]]


def test_the_same_adapter_gives_the_same_bytes(tmp_path):
    files = {save_adapter(tmp_path / f"{index}.safetensors", make_adapter()).sha256 for index in range(8)}
    assert len(files) == 1


@torch.no_grad()
def test_the_stock_pipeline_opens_the_file_and_predicts_the_same(tiny, tmp_path):
    adapter = tiny_adapter(tiny)
    save_adapter(tmp_path / "rex.safetensors", adapter)
    pipeline = StableDiffusionXLPipeline.from_pretrained(tiny.folder, add_watermarker=False)
    pipeline.load_lora_weights(tmp_path, weight_name="rex.safetensors")
    prompt = "a photo of a <v1> dog"
    states, _, pooled, _ = pipeline.encode_prompt(prompt)
    noise, ids = draw_noise(tiny, 0), time_ids(tiny, 1)
    added = {"text_embeds": pooled, "time_ids": ids}
    stock = pipeline.unet(noise, 500.0, encoder_hidden_states=states, added_cond_kwargs=added).sample

    plain = predict(tiny, noise, 500.0, encode_prompts(tiny, [prompt]), ids)
    for path, delta in load_adapter(tmp_path / "rex.safetensors").deltas.items():
        component, _, rest = path.partition(".")
        part = {"unet": tiny.unet, "text_encoder": tiny.text_encoders[0], "text_encoder_2": tiny.text_encoders[1]}
        find_layer(part[component], rest).weight += delta.scale * delta.up @ delta.down
    text = encode_prompts(tiny, [prompt])
    merged = predict(tiny, noise, 500.0, text, ids)

    assert torch.allclose(text.states, states, atol=1e-5)
    assert torch.allclose(text.pooled, pooled, atol=1e-5)
    assert torch.allclose(merged, stock, atol=1e-5)
    assert not torch.allclose(plain, stock, atol=1e-3)


def test_a_file_of_another_program_opens_without_words(tmp_path):
    tensors = {
        "lora_te1_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight": torch.ones(2, 6),
        "lora_te1_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight": torch.ones(5, 2),
    }
    save_file(tensors, tmp_path / "found.safetensors")
    adapter = load_adapter(tmp_path / "found.safetensors")
    assert (adapter.name, adapter.class_word, adapter.identifier, adapter.base_fingerprint) == ("found", "", "", "")
    assert adapter.deltas[PATHS[3]].scale == 1


def test_an_adapter_belongs_to_its_base(tiny):
    adapter = tiny_adapter(tiny)
    check_base(adapter, tiny)
    with pytest.raises(AdapterError, match="0123456789abcdef.*" + tiny.fingerprint):
        check_base(make_adapter(deltas=adapter.deltas), tiny)


def test_layers_that_do_not_fit_are_counted(tiny):
    whole = tiny_adapter(tiny)
    deltas = dict(whole.deltas)
    path = next(iter(deltas))
    deltas[path] = Delta(torch.ones(2, 7), torch.ones(3, 2), 2.0)
    deltas["unet.up_blocks.9.attentions.0.transformer_blocks.0.attn2.to_q"] = deltas[path]
    with pytest.raises(AdapterError, match=f"only {len(whole.deltas) - 1} of its {len(whole.deltas) + 1} layers"):
        check_base(make_adapter(deltas=deltas, base_fingerprint=""), tiny)


def test_a_file_appears_only_when_it_is_complete(tmp_path, monkeypatch):
    target = tmp_path / "rex.safetensors"
    save_adapter(target, make_adapter())
    before = target.read_bytes()

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(FileError, match=r"rex.safetensors cannot be written: No space left"):
        save_adapter(target, make_adapter(name="Other"))
    assert target.read_bytes() == before
    assert list(tmp_path.iterdir()) == [target]


def test_where_a_link_has_the_files_name_the_link_is_replaced_and_not_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "other.safetensors").write_bytes(b"somebody's own")
    for name in ("other", "nowhere"):
        target = tmp_path / "rex.safetensors"
        target.unlink(missing_ok=True)
        target.symlink_to(tmp_path / f"{name}.safetensors")
        save_adapter(target, make_adapter())
        assert not target.is_symlink() and load_adapter(target).name == "Rex"
    assert (tmp_path / "other.safetensors").read_bytes() == b"somebody's own"
    assert not (tmp_path / "nowhere.safetensors").exists()


def test_a_folder_that_is_not_there_is_a_file_error(tmp_path):
    with pytest.raises(FileError, match="cannot be written"):
        save_adapter(tmp_path / "none" / "rex.safetensors", make_adapter())
    with pytest.raises(FileError, match="cannot be read"):
        load_adapter(tmp_path / "none" / "rex.safetensors")
    with pytest.raises(FileError, match="cannot be read"):
        read_metadata(tmp_path / "none.safetensors")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"deltas": {}}, "no updates"),
        ({"deltas": {PATHS[0]: Delta(torch.full((1, 2), torch.nan), torch.ones(2, 1), 1.0)}}, "no numbers"),
        ({"deltas": {PATHS[0]: Delta(torch.ones(1, 2), torch.ones(2, 2), 1.0)}}, "shapes"),
        ({"deltas": {PATHS[0]: Delta(torch.ones(1, 2), torch.ones(2, 1), 0.0)}}, "alpha"),
        ({"deltas": {PATHS[0]: Delta(torch.full((1, 2), 2e4), torch.ones(2, 1), 1.0)}}, "trained too fast"),
        ({"deltas": {"unet.conv_in": Delta(torch.ones(1, 2), torch.ones(2, 1), 1.0)}}, "conv_in"),
        ({"deltas": {"vae.q": Delta(torch.ones(1, 2), torch.ones(2, 1), 1.0)}}, "vae.q"),
    ],
)
def test_what_cannot_be_read_back_is_not_written(tmp_path, changes, message):
    with pytest.raises(AdapterError, match=message):
        save_adapter(tmp_path / "rex.safetensors", make_adapter(**changes))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["rex.pt", "rex.ckpt", "rex.bin", "rex"])
def test_other_formats_are_refused_by_name(tmp_path, name):
    (tmp_path / name).write_bytes(b"anything")
    for call in (load_adapter, read_metadata):
        with pytest.raises(AdapterError, match="never opened"):
            call(tmp_path / name)
    with pytest.raises(AdapterError, match="safetensors"):
        save_adapter(tmp_path / name, make_adapter())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no complete"),
        (b"1234567", "no complete"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
        (b"PK\x03\x04" + bytes(60), "no complete"),
        (b"\x80\x04\x95" + bytes(60), "no complete"),
        (struct.pack("<Q", 2**63) + b"{}", "no complete"),
        (struct.pack("<Q", 0) + b"{}", "no complete"),
        (struct.pack("<Q", 100) + b"{}", "no complete"),
        (struct.pack("<Q", 9 * 2**20) + b"{" + b" " * 9 * 2**20, "8 MB"),
        (struct.pack("<Q", 2) + b"{]", "damaged header"),
        (struct.pack("<Q", 2) + b"{}", "no SDXL LoRA"),
        (struct.pack("<Q", 3) + b"{\xff}", "damaged header"),
    ],
)
def test_damaged_files_are_refused_with_one_sentence(tmp_path, content, message):
    path = tmp_path / "rex.safetensors"
    path.write_bytes(content)
    with pytest.raises(AdapterError, match=message) as caught:
        load_adapter(path)
    assert "rex.safetensors" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_cut_file_is_refused_at_every_length(tmp_path):
    path = tmp_path / "rex.safetensors"
    save_adapter(path, make_adapter(PATHS[:1]))
    whole = path.read_bytes()
    for length in range(0, len(whole), 37):
        path.write_bytes(whole[:length])
        with pytest.raises(AdapterError):
            load_adapter(path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
            "twice",
        ),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, "damaged"),
        ({"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}, "damaged"),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, "damaged"),
        ({"__metadata__": 3, "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, "damaged"),
        ({"../../x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, "other names"),
    ],
)
def test_damaged_headers_are_refused(tmp_path, header, message):
    path = write_raw(tmp_path / "rex.safetensors", header, b"\0\0\0\0")
    with pytest.raises(AdapterError, match=message):
        load_adapter(path)


def change(tensors, name, value):
    return tensors | {name: value} if value is not None else {key: item for key, item in tensors.items() if key != name}


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("lora_up.weight", None, "incomplete: 1 of 2 layers"),
        ("lora_down.weight", None, "incomplete"),
        ("lora_up.weight", torch.ones(5, 3), "shapes"),
        ("lora_down.weight", torch.ones(2, 6, 1), "shapes"),
        ("lora_down.weight", torch.ones(2, 6, dtype=torch.int32), "floating"),
        ("lora_down.weight", torch.full((2, 6), torch.inf), "no numbers"),
        ("alpha", torch.tensor(-1.0), "alpha"),
        ("alpha", torch.tensor(torch.nan), "alpha"),
        ("alpha", torch.tensor(1e9), "alpha"),
        ("alpha", torch.ones(2), "alpha"),
    ],
)
def test_tensors_that_do_not_belong_together_are_refused(tmp_path, kind, value, message):
    path = tmp_path / "rex.safetensors"
    save_adapter(path, make_adapter(PATHS[:2]))
    stem = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
    save_file(change(load_file(path), f"{stem}.{kind}", value), path)
    with pytest.raises(AdapterError, match=message):
        load_adapter(path)


def test_a_rank_without_rows_is_refused(tmp_path):
    path = tmp_path / "rex.safetensors"
    stem = "lora_te2_text_model_encoder_layers_0_self_attn_q_proj"
    save_file({f"{stem}.lora_down.weight": torch.ones(0, 6), f"{stem}.lora_up.weight": torch.ones(5, 0)}, path)
    with pytest.raises(AdapterError, match="rank is 0"):
        load_adapter(path)


def test_a_lora_of_another_model_is_refused_with_counts(tmp_path):
    path = tmp_path / "flux.safetensors"
    save_file({f"transformer.blocks.{i}.attn.to_q.lora_A.weight": torch.ones(2, 6) for i in range(4)}, path)
    with pytest.raises(AdapterError, match="4 of 4 tensors"):
        load_adapter(path)


@pytest.mark.parametrize(
    "spoil", [lambda path: path.write_bytes(bytes(path.stat().st_size)), lambda path: os.truncate(path, 10)]
)
def test_a_loaded_adapter_does_not_see_its_file_change(tmp_path, spoil):
    path = tmp_path / "rex.safetensors"
    save_adapter(path, make_adapter())
    read = load_adapter(path)
    before = {name: delta.down.clone() for name, delta in read.deltas.items()}
    spoil(path)
    assert all(torch.equal(read.deltas[name].down, down) for name, down in before.items())


@pytest.mark.parametrize("field", ["name", "class_word", "identifier"])
@pytest.mark.parametrize("name", ["x" * 201, "\x1b[31mred"])
def test_a_name_that_cannot_be_shown_is_refused(tiny, tmp_path, name, field):
    path = tmp_path / "a.safetensors"
    save_adapter(path, replace(tiny_adapter(tiny), **{field: name}))
    for read in (load_adapter, read_metadata):
        with pytest.raises(AdapterError, match="no short plain text"):
            read(path)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.safetensors")
    for read in (load_adapter, read_metadata):
        with pytest.raises(FileError, match="not a regular file"):
            read(tmp_path / "pipe.safetensors")
