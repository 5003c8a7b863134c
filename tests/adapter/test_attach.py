"""Trainable updates through PEFT: where they are, that they learn, and that nothing stays behind."""

import dataclasses

import pytest
import torch

from d2plan.adapter.attach import adapter_aside, adapter_off, attach_adapter, collect_deltas, restore_deltas
from d2plan.adapter.file import load_adapter, save_adapter
from d2plan.adapter.rows import adapter_rows
from d2plan.backbone.sdxl import draw_noise, encode_prompts, predict, time_ids
from d2plan.errors import AdapterError, InputError
from tests.tiny import tiny_adapter


def call(base, prompt="a photo of a <v1> dog"):
    return predict(base, draw_noise(base, 0), 400.0, encode_prompts(base, [prompt]), time_ids(base, 1))


def shake(attachment):
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in attachment.unet + attachment.text:
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))


def test_every_attention_layer_of_unet_and_encoders_gets_an_update(tiny):
    with attach_adapter(tiny, rank=2):
        deltas = collect_deltas(tiny)
    kinds = ("to_q", "to_k", "to_v", "to_out.0", "q_proj", "k_proj", "v_proj", "out_proj")
    parts = {"unet": tiny.unet, "text_encoder": tiny.text_encoders[0], "text_encoder_2": tiny.text_encoders[1]}
    expected = sum(name.endswith(kinds) for part in parts.values() for name, _ in part.named_modules())
    assert len(deltas) == expected
    assert {path.partition(".")[0] for path in deltas} == set(parts)
    assert all(path.split(".")[1] == "text_model" for path in deltas if path.startswith("text_"))
    assert {(delta.down.shape[0], delta.up.shape[1], delta.alpha) for delta in deltas.values()} == {(2, 2, 2.0)}


@torch.no_grad()
def test_a_base_first_used_with_an_adapter_on_reads_prompts_alike_every_time(tiny):
    read = []
    for _ in range(3):
        with attach_adapter(tiny, rank=2) as attachment:
            shake(attachment)
            read.append(encode_prompts(tiny, ["a photo of a <v1> dog"]).states)
    assert torch.equal(read[0], read[1])
    assert torch.equal(read[0], read[2])


@torch.no_grad()
def test_an_untrained_update_changes_nothing(tiny):
    plain = call(tiny)
    with attach_adapter(tiny, rank=2):
        assert torch.equal(call(tiny), plain)


def test_the_base_is_as_before_also_after_an_error(tiny):
    parts = (tiny.unet, *tiny.text_encoders)
    modules = [dict(part.named_modules()) for part in parts]
    weights = [{name: tensor.clone() for name, tensor in part.state_dict().items()} for part in parts]
    call(tiny)
    attributes = [set(vars(part)) for part in parts]
    tiny.unet.conv_in.requires_grad_(True)
    with pytest.raises(RuntimeError, match="stop"), attach_adapter(tiny, rank=2) as attachment:
        shake(attachment)
        raise RuntimeError("stop")
    for part, before, tensors, names in zip(parts, modules, weights, attributes, strict=True):
        after = dict(part.named_modules())
        assert after.keys() == before.keys()
        assert all(after[name] is before[name] for name in before)
        assert all(torch.equal(tensor, tensors[name]) for name, tensor in part.state_dict().items())
        assert set(vars(part)) == names
    learning = {name for name, parameter in tiny.unet.named_parameters() if parameter.requires_grad}
    assert learning == {"conv_in.weight", "conv_in.bias"}


def test_only_the_updates_learn(tiny):
    with attach_adapter(tiny, rank=2) as attachment:
        shake(attachment)
        call(tiny).square().mean().backward()
        parts = (tiny.unet, *tiny.text_encoders)
        learning = {id(p) for part in parts for p in part.parameters() if p.requires_grad}
        assert learning == {id(parameter) for parameter in attachment.unet + attachment.text}
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in attachment.unet)
        with_gradient = [p for p in attachment.text if p.grad is not None and p.grad.abs().sum() > 0]
        # The first encoder's last layer lies behind the states that the U-Net reads.
        assert len(with_gradient) == len(attachment.text) - 8


@torch.no_grad()
def test_off_means_the_base_alone_and_on_again_afterwards(tiny):
    plain = call(tiny)
    with attach_adapter(tiny, rank=2) as attachment:
        shake(attachment)
        tuned = call(tiny)
        with adapter_off(tiny):
            assert torch.equal(call(tiny), plain)
        assert torch.equal(call(tiny), tuned)
        assert not torch.allclose(tuned, plain, atol=1e-3)


def test_a_frozen_pass_between_forward_and_backward_does_not_disturb_the_gradient(tiny):
    gradients = []
    for frozen in (False, True):
        with attach_adapter(tiny, rank=2) as attachment:
            shake(attachment)
            loss = call(tiny).square().mean()
            if frozen:
                with torch.no_grad(), adapter_off(tiny):
                    call(tiny, "a photo of a dog")
            loss.backward()
            gradients.append([p.grad.clone() for p in attachment.unet])
            assert all(parameter.requires_grad for parameter in attachment.unet)
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_first_values_come_from_the_seed_alone(tiny):
    def begin(seed):
        with attach_adapter(tiny, rank=2, seed=seed):
            return collect_deltas(tiny)

    torch.manual_seed(3)
    state = torch.get_rng_state()
    first = begin(1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(4)
    again, other = begin(1), begin(2)
    assert all(torch.equal(first[path].down, again[path].down) for path in first)
    assert not any(torch.equal(first[path].down, other[path].down) for path in first)
    assert all(not delta.up.any() for delta in first.values())


@torch.no_grad()
def test_what_was_trained_is_what_composition_reads_from_the_file(tiny, tmp_path):
    with attach_adapter(tiny, rank=2, alpha=3.0) as attachment:
        shake(attachment)
        text = encode_prompts(tiny, ["a photo of a <v1> dog"])
        tuned = call(tiny)
        deltas = collect_deltas(tiny)
    save_adapter(tmp_path / "rex.safetensors", dataclasses.replace(tiny_adapter(tiny), deltas=deltas))
    adapter = load_adapter(tmp_path / "rex.safetensors")
    with (
        adapter_rows(tiny.text_encoders[0], "text_encoder", [adapter]),
        adapter_rows(tiny.text_encoders[1], "text_encoder_2", [adapter]),
        adapter_rows(tiny.unet, "unet", [adapter]),
    ):
        assert torch.allclose(encode_prompts(tiny, ["a photo of a <v1> dog"]).states, text.states, atol=1e-5)
        assert torch.allclose(call(tiny), tuned, atol=1e-5)


def test_training_goes_on_from_what_was_collected(tiny):
    adapter = tiny_adapter(tiny, rank=2, alpha=2.0)
    with attach_adapter(tiny, rank=2):
        restore_deltas(tiny, adapter.deltas)
        again = collect_deltas(tiny)
    assert all(torch.equal(again[path].up, delta.up) for path, delta in adapter.deltas.items())
    with attach_adapter(tiny, rank=3), pytest.raises(AdapterError, match="another shape"):
        restore_deltas(tiny, adapter.deltas)
    with attach_adapter(tiny, rank=2), pytest.raises(AdapterError, match="0 of"):
        restore_deltas(tiny, {})


def test_collected_updates_do_not_follow_the_training(tiny):
    with attach_adapter(tiny, rank=2) as attachment:
        before = collect_deltas(tiny)
        shake(attachment)
        after = collect_deltas(tiny, torch.float16)
    assert all(not delta.up.any() for delta in before.values())
    assert all(delta.up.any() and delta.up.dtype == torch.float16 for delta in after.values())


def test_what_cannot_be_attached_is_refused(tiny):
    for rank, alpha in ((0, None), (2000, None), (2, 0.0), (2, float("nan"))):
        with pytest.raises(InputError), attach_adapter(tiny, rank=rank, alpha=alpha):
            pass
    with attach_adapter(tiny, rank=1), pytest.raises(InputError, match="already"), attach_adapter(tiny, rank=1):
        pass
    with pytest.raises(AdapterError, match="No adapter"):
        collect_deltas(tiny)


@torch.no_grad()
def test_aside_the_layers_are_the_bases_own_and_another_adapter_fits(tiny):
    bare = call(tiny)
    with attach_adapter(tiny, rank=2) as attachment:
        shake(attachment)
        trained = call(tiny)
        with adapter_aside(tiny):
            assert torch.equal(call(tiny), bare)
            with adapter_rows(tiny.unet, "unet", [tiny_adapter(tiny)]):
                assert not torch.allclose(call(tiny), bare, atol=1e-3)
        assert torch.equal(call(tiny), trained)


def test_without_text_encoders_they_get_no_layer_and_the_unets_first_values_are_the_same(tiny):
    with attach_adapter(tiny, rank=2, seed=3):
        both = collect_deltas(tiny)
    with attach_adapter(tiny, rank=2, seed=3, text_encoders=False) as attachment:
        alone = collect_deltas(tiny)
        assert attachment.text == () and len(attachment.unet) == 2 * len(alone)
    assert {path.partition(".")[0] for path in alone} == {"unet"}
    assert all(torch.equal(delta.down, both[path].down) for path, delta in alone.items())


def test_updates_of_a_half_precision_base_are_float32(tiny):
    for model in (tiny.unet, *tiny.text_encoders):
        model.to(torch.bfloat16)
    with attach_adapter(tiny, rank=2) as attachment:
        assert {parameter.dtype for parameter in attachment.unet + attachment.text} == {torch.float32}
    assert {parameter.dtype for parameter in tiny.unet.parameters()} == {torch.bfloat16}
