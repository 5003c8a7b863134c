"""Reports: what a file holds, also one that cannot be used, and what ``verify`` refuses beyond loading."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from d2plan.adapter.adapter import Delta
from d2plan.adapter.file import load_adapter, read_metadata, save_adapter
from d2plan.adapter.report import Part, inspect_file, verify_file
from d2plan.errors import AdapterError
from tests.adapter.files import SPELLINGS, write_layers
from tests.tiny import tiny_adapter

KOHYA = SPELLINGS["sd-scripts"][0]


def test_a_report_of_our_own_file_tells_everything(tiny, tmp_path):
    adapter = tiny_adapter(tiny)
    path = save_adapter(tmp_path / "rex.safetensors", adapter).path
    report = inspect_file(path)
    assert (report.program, report.trouble, report.intact) == ("d2plan", "", True)
    assert report.naming == "Kohya, diffusers' block names"
    assert report.tensors == 3 * len(adapter.deltas)
    assert report.words["identifier"] == "<v1>"
    assert report.words["trigger phrase"] == "<v1> dog"
    assert report.ranks == (adapter.rank, adapter.rank)
    assert report.architecture == "another size"
    assert report.formats == {"F32": report.tensors}
    assert report.notes == ()


def test_with_a_base_the_report_counts_the_layers_that_it_reaches(tiny, tmp_path):
    path = save_adapter(tmp_path / "rex.safetensors", tiny_adapter(tiny)).path
    report = verify_file(path, tiny)
    counts = {part.component: (part.attention, part.whole) for part in report.parts}
    assert counts["text_encoder"] == counts["text_encoder_2"] == (12, 12)
    assert counts["unet"][0] == counts["unet"][1] > 0


def test_a_file_for_another_base_is_told_and_refused_with_counts(tiny, tmp_path):
    path = tmp_path / "a.safetensors"
    write_layers(path, KOHYA)
    assert "fits only 0 of its 3 layers" in inspect_file(path, tiny).trouble
    with pytest.raises(AdapterError, match="fits only 0 of its 3 layers"):
        verify_file(path, tiny)


def test_other_weights_are_a_note(tiny, tmp_path):
    other = replace(tiny_adapter(tiny), base_fingerprint="0123456789abcdef")
    report = verify_file(save_adapter(tmp_path / "a.safetensors", other).path, tiny)
    assert any("other weights (0123456789abcdef" in note for note in report.notes)


def test_a_file_that_cannot_be_used_is_told_with_the_reason(tmp_path):
    path = tmp_path / "a.safetensors"
    tensors = write_layers(path, KOHYA, words={"ss_network_module": "lycoris.kohya"})
    save_file(tensors | {f"{KOHYA[0]}.hada_w1_a": torch.ones(2)}, path, {"ss_network_module": "lycoris.kohya"})
    report = inspect_file(path)
    assert "LoHa" in report.trouble
    assert report.program == "sd-scripts"
    assert report.parts[0] == Part("unet", 1, 0, 0)
    with pytest.raises(AdapterError, match="LoHa"):
        verify_file(path)


@pytest.mark.parametrize(
    ("words", "program"),
    [
        ({"ot_branch": "master", "modelspec.title": "x"}, "OneTrainer"),
        ({"software": '{"name": "ai-toolkit"}'}, "ai-toolkit"),
        ({"ss_network_module": "networks.lora"}, "sd-scripts"),
        ({"lora_adapter_metadata": "{}"}, "diffusers"),
        ({}, ""),
    ],
)
def test_the_program_is_known_by_its_words(tmp_path, words, program):
    write_layers(tmp_path / "a.safetensors", KOHYA, words=words)
    assert inspect_file(tmp_path / "a.safetensors").program == program


@pytest.mark.parametrize(
    ("words", "alpha", "note"),
    [
        ({}, None, "3 of 3 layers have no alpha"),
        ({}, 1.0, "names no trigger words"),
        ({"sshs_model_hash": "0" * 64}, 1.0, "tensors were changed"),
        ({"ss_base_model_version": "sd_v1"}, 1.0, "base is sd_v1"),
    ],
)
def test_what_a_person_should_know_is_noted(tmp_path, words, alpha, note):
    write_layers(tmp_path / "a.safetensors", KOHYA, alpha=alpha, words=words)
    assert any(note in text for text in verify_file(tmp_path / "a.safetensors").notes)


def test_alphas_that_stock_diffusers_would_take_for_one_are_noted(tmp_path):
    path = tmp_path / "a.safetensors"
    tensors = write_layers(path, KOHYA, alpha=1.0)
    save_file(tensors | {f"{KOHYA[0]}.alpha": torch.tensor(2.0)}, path)
    assert any("its alphas differ" in note for note in inspect_file(path).notes)


def test_diffusers_naming_is_noted_as_closed_to_other_programs(tmp_path):
    path = save_adapter(tmp_path / "a.safetensors", load_adapter(_written(tmp_path)), "diffusers").path
    assert any("ComfyUI" in note for note in inspect_file(path).notes)


def _written(folder):
    write_layers(folder / "first.safetensors", KOHYA, alpha=1.0)
    return folder / "first.safetensors"


def test_trigger_words_beside_the_file_are_found(tmp_path):
    path = _written(tmp_path)
    path.with_suffix(".json").write_text('{"activation text": "sks dog"}')
    report = inspect_file(path)
    assert report.words["trigger phrase"] == "sks dog"
    assert not any("trigger" in note for note in report.notes)
    path.with_suffix(".json").write_text("{")
    assert "trigger phrase" not in inspect_file(path).words


def test_an_adapter_without_effect_is_refused(tiny, tmp_path):
    adapter = tiny_adapter(tiny)
    deltas = {path: Delta(d.down, torch.zeros_like(d.up), d.alpha) for path, d in adapter.deltas.items()}
    path = save_adapter(tmp_path / "a.safetensors", replace(adapter, deltas=deltas)).path
    with pytest.raises(AdapterError, match=f"no effect: all of its {len(deltas)} updates are zero"):
        verify_file(path)


def test_a_file_of_ours_with_changed_numbers_is_refused(tiny, tmp_path):
    path = save_adapter(tmp_path / "a.safetensors", tiny_adapter(tiny)).path
    verify_file(path)
    tensors = load_file(path)
    first = next(name for name in tensors if name.endswith("lora_up.weight"))
    save_file(tensors | {first: tensors[first] + 1}, path, read_metadata(path))
    with pytest.raises(AdapterError, match="was changed"):
        verify_file(path)


def test_a_damaged_file_has_no_report(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"no")
    with pytest.raises(AdapterError, match="no complete"):
        inspect_file(tmp_path / "a.safetensors")
