"""The header's words: for other programs, kept through conversions, and alphas of diffusers and PEFT."""

import hashlib
import json
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from safetensors.torch import save_file

from d2plan.adapter.adapter import Adapter, Delta
from d2plan.adapter.file import load_adapter, read_metadata, save_adapter
from d2plan.adapter.names import NAMINGS
from d2plan.adapter.sdxl import sdxl_layers
from d2plan.errors import AdapterError
from tests.adapter.files import PATHS, SPELLINGS, write_layers

SETTINGS = {
    "steps": "500",
    "batch_size": "2",
    "unet_rate": "0.0003",
    "text_rate": "3e-06",
    "token_weight": "0.001",
    "attention_weight": "0.01",
    "seed": "7",
    "pictures": "12",
    "base": "sdxl",
    "resolution": "1024x1024",
    "prediction_type": "v_prediction",
}


def make_adapter(alphas=(4.0, 4.0, 4.0), ranks=(2, 2, 2), paths=PATHS, **changes):
    generator = torch.Generator().manual_seed(0)
    deltas = {
        path: Delta(torch.randn(rank, 6, generator=generator), torch.randn(5, rank, generator=generator), alpha)
        for path, rank, alpha in zip(paths, ranks, alphas, strict=True)
    }
    first = next(iter(deltas.values()))
    base = Adapter("Rex", "dog", "<v1>", "0123456789abcdef", max(ranks), first.alpha, deltas, SETTINGS)
    return replace(base, **changes)


def test_the_header_says_what_sd_scripts_and_modelspec_say(tmp_path):
    saved = save_adapter(tmp_path / "rex.safetensors", make_adapter())
    words = read_metadata(saved.path)
    expected = {
        "ss_v2": "False",
        "ss_base_model_version": "sdxl_base_v1-0",
        "ss_network_module": "networks.lora",
        "ss_network_dim": "2",
        "ss_network_alpha": "4.0",
        "ss_network_args": "{}",
        "ss_output_name": "Rex",
        "ss_steps": "500",
        "ss_total_batch_size": "2",
        "ss_unet_lr": "0.0003",
        "ss_text_encoder_lr": "3e-06",
        "ss_seed": "7",
        "ss_num_train_images": "12",
        "ss_sd_model_name": "sdxl",
        "ss_resolution": "1024x1024",
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": "stable-diffusion-xl-v1-base/lora",
        "modelspec.title": "Rex",
        "modelspec.resolution": "1024x1024",
        "modelspec.prediction_type": "v",
        "modelspec.trigger_phrase": "<v1> dog",
        "d2plan.class_word": "dog",
        "d2plan.identifier": "<v1>",
        "d2plan.base_fingerprint": "0123456789abcdef",
        "d2plan.layers": "3",
    }
    assert {name: words.get(name) for name in expected} == expected
    assert json.loads(words["ss_tag_frequency"]) == {"Rex": {"<v1> dog": 12}}
    assert json.loads(words["d2plan.losses"]) == {"token_weight": "0.001", "attention_weight": "0.01"}
    assert json.loads(words["d2plan.settings"]) == SETTINGS


def test_what_a_training_did_not_note_is_not_claimed(tmp_path):
    words = read_metadata(save_adapter(tmp_path / "rex.safetensors", make_adapter(settings={})).path)
    assert not words.keys() & {"modelspec.prediction_type", "modelspec.resolution", "modelspec.date", "ss_resolution"}


def test_the_hashes_are_of_the_tensors_bytes(tmp_path):
    path = save_adapter(tmp_path / "rex.safetensors", make_adapter()).path
    content = path.read_bytes()
    payload = content[8 + int.from_bytes(content[:8], "little") :]
    words = read_metadata(path)
    assert words["sshs_model_hash"] == hashlib.sha256(payload).hexdigest()
    assert words["modelspec.hash_sha256"] == "0x" + words["sshs_model_hash"]


def test_only_files_for_diffusers_and_peft_hold_the_word_that_stock_diffusers_refuses_beside_alphas(tmp_path):
    for naming in NAMINGS:
        path = save_adapter(tmp_path / f"{naming}.safetensors", make_adapter(), naming).path
        assert ("lora_adapter_metadata" in read_metadata(path)) == (naming in ("diffusers", "peft"))


def same(one, two):
    assert one.deltas.keys() == two.deltas.keys()
    for path, delta in one.deltas.items():
        assert torch.equal(delta.down, two.deltas[path].down)
        assert torch.equal(delta.up, two.deltas[path].up)
        assert delta.alpha == two.deltas[path].alpha
    for name in ("name", "class_word", "identifier", "base_fingerprint", "rank", "alpha", "settings", "header"):
        assert getattr(one, name) == getattr(two, name), name


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize(
    ("alphas", "ranks"), [((4.0,) * 3, (2,) * 3), ((1.0, 0.1, 7.3), (2, 1, 4)), ((1 / 3, 2.0, 2.0), (3, 3, 1))]
)
def test_a_way_through_any_naming_and_back_gives_the_same_file(tmp_path, naming, alphas, ranks):
    first = save_adapter(tmp_path / "first.safetensors", make_adapter(alphas, ranks))
    start = load_adapter(first.path)
    between = load_adapter(save_adapter(tmp_path / "between.safetensors", start, naming).path)
    back = save_adapter(tmp_path / "back.safetensors", between)
    same(start, between)
    assert first.path.read_bytes() == back.path.read_bytes()


@pytest.mark.parametrize("naming", NAMINGS)
def test_what_another_program_wrote_is_kept(tmp_path, naming):
    words = {
        "ss_base_model_version": "sdxl_base_v0-9",
        "ss_tag_frequency": '{"10_sks dog": {"sks dog": 10}}',
        "ss_training_comment": "mine",
        "ss_network_dim": "2",
        "modelspec.author": "somebody",
        "modelspec.trigger_phrase": "sks dog",
        "format": "pt",
    }
    write_layers(tmp_path / "a.safetensors", SPELLINGS["sd-scripts"][0], alpha=1.0, words=words)
    start = load_adapter(tmp_path / "a.safetensors")
    assert start.trigger_phrase == "sks dog"
    first = save_adapter(tmp_path / "b.safetensors", start, naming)
    kept = read_metadata(first.path)
    for name in words.keys() - {"format"}:
        assert kept[name] == words[name]
    again = load_adapter(first.path)
    assert again.trigger_phrase == "sks dog"
    assert save_adapter(tmp_path / "c.safetensors", again, naming).sha256 == first.sha256


def test_an_adapter_under_another_name_says_the_other_name_everywhere(tmp_path):
    start = load_adapter(save_adapter(tmp_path / "a.safetensors", make_adapter()).path)
    assert start.header == {}
    words = read_metadata(save_adapter(tmp_path / "b.safetensors", replace(start, name="Max")).path)
    assert {words[name] for name in ("d2plan.name", "ss_output_name", "modelspec.title")} == {"Max"}


def test_an_adapter_of_full_size_sdxl_has_sdxls_own_block_names(tmp_path):
    widths = dict(sdxl_layers())
    deltas = {path: Delta(torch.ones(1, widths[path][0]), torch.ones(widths[path][1], 1), 1.0) for path in PATHS}
    saved = save_adapter(tmp_path / "a.safetensors", make_adapter(deltas=deltas, settings={}, rank=1, alpha=1.0))
    content = saved.path.read_bytes()
    assert b"lora_unet_input_blocks_5_1_transformer_blocks_0_attn1_to_q" in content
    assert read_metadata(saved.path)["modelspec.resolution"] == "1024x1024"
    same(load_adapter(saved.path), saved)


def write_peft(path, table, rank=2):
    stems = [path for path in PATHS if path.startswith("unet.")]
    tensors = write_layers(path, stems, "lora_A", "lora_B", rank=rank)
    save_file(tensors, path, {"lora_adapter_metadata": table if isinstance(table, str) else json.dumps(table)})
    return path


@pytest.mark.parametrize(
    ("table", "scale"),
    [
        ({"unet.r": 2, "unet.lora_alpha": 8}, 4),
        ({"r": 2, "lora_alpha": 8}, 4),
        ({"unet.r": 4, "unet.lora_alpha": 8, "unet.rank_pattern": {"^" + PATHS[0].partition(".")[2]: 2}}, 4),
        ({"unet.r": 2, "unet.lora_alpha": 8, "unet.alpha_pattern": {"attn1.to_q": 1}}, 0.5),
        ({"unet.r": 2, "unet.lora_alpha": 8, "unet.alpha_pattern": {"attn1.to_k": 1}}, 4),
        ({"unet.r": 2, "unet.lora_alpha": 2, "unet.use_rslora": True}, 2**0.5),
        ({}, 1),
        ({"text_encoder.lora_alpha": 9}, 1),
    ],
)
def test_alphas_of_peft_are_read_from_the_header(tmp_path, table, scale):
    adapter = load_adapter(write_peft(tmp_path / "a.safetensors", table))
    assert adapter.deltas[PATHS[0]].scale == pytest.approx(scale)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("{", "not readable"),
        ("[]", "no table"),
        ({"unet.r": 4, "unet.lora_alpha": 8}, "has rank 4, and its tensors have 2"),
        ({"unet.r": 2, "unet.lora_alpha": "8"}, "no number"),
        ({"unet.r": 2, "unet.lora_alpha": 0}, "alpha is 0"),
        ({"unet.r": 2, "unet.lora_alpha": 2, "unet.use_dora": True}, "use_dora"),
        ({"unet.r": 2, "unet.lora_alpha": 2, "unet.lora_bias": True}, "lora_bias"),
    ],
)
def test_settings_of_peft_that_cannot_be_used_are_refused(tmp_path, table, message):
    with pytest.raises(AdapterError, match=message):
        load_adapter(write_peft(tmp_path / "a.safetensors", table))


def test_a_pattern_that_would_take_for_ever_is_only_a_text(tmp_path):
    table = {"unet.r": 2, "unet.lora_alpha": 2, "unet.alpha_pattern": {"(a+)+" * 20 + "$": 1}}
    assert load_adapter(write_peft(tmp_path / "a.safetensors", table)).deltas[PATHS[0]].alpha == 2


def test_two_alphas_that_differ_are_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    write_layers(path, SPELLINGS["sd-scripts"][0][:1], alpha=1.0, words={"lora_adapter_metadata": '{"unet.r":2}'})
    with pytest.raises(AdapterError, match="two alphas"):
        load_adapter(path)


@torch.no_grad()
def test_a_folder_that_peft_wrote_opens_with_its_alpha(tiny, tmp_path):
    settings = LoraConfig(r=4, lora_alpha=2, target_modules=["to_q", "to_v"])
    inject_adapter_in_model(settings, tiny.unet)
    tensors = get_peft_model_state_dict(tiny.unet, adapter_name="default")
    tensors = {f"base_model.model.{name}": torch.randn(tensor.shape) for name, tensor in tensors.items()}
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    settings.save_pretrained(tmp_path)
    adapter = load_adapter(tmp_path / "adapter_model.safetensors")
    assert len(adapter.deltas) == len(tensors) // 2
    assert all(path.startswith("unet.") and path.endswith(("to_q", "to_v")) for path in adapter.deltas)
    assert {delta.scale for delta in adapter.deltas.values()} == {0.5}
