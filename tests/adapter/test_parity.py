"""A file in any naming, opened by stock diffusers, computes what it computes here."""

import dataclasses
import functools

import pytest
import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from diffusers.utils import convert_state_dict_to_diffusers, logging
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import load_file
from torch import nn
from transformers.utils import logging as text_logging

from d2plan.adapter.adapter import Adapter, Delta
from d2plan.adapter.file import load_adapter, save_adapter
from d2plan.adapter.names import COMPONENTS, NAMINGS, read_key, write_keys
from d2plan.adapter.rows import adapter_rows
from d2plan.adapter.sdxl import has_sdxl_blocks
from d2plan.backbone.load import load_backbone
from d2plan.backbone.sdxl import draw_noise, encode_prompts, predict, time_ids
from d2plan.errors import AdapterError

ENDINGS = ("to_q", "to_k", "to_v", "to_out.0", "q_proj", "k_proj", "v_proj", "out_proj")
OTHERS = ("proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", "fc1", "fc2")


def random_deltas(parts, alphas, endings=ENDINGS + OTHERS):
    """Updates of every linear layer, with ranks that differ from layer to layer."""
    generator = torch.Generator().manual_seed(5)
    deltas = {}
    for component, model in zip(COMPONENTS, parts, strict=True):
        for path, layer in model.named_modules():
            if isinstance(layer, nn.Linear) and path.endswith(endings):
                level = "" if component == "unet" else "text_model."
                rank = 1 + len(deltas) % 3
                down = torch.randn(rank, layer.in_features, generator=generator) / layer.in_features**0.5
                up = 0.1 * torch.randn(layer.out_features, rank, generator=generator)
                full = f"{component}.{level}{path.removeprefix('text_model.')}"
                deltas[full] = Delta(down, up, alphas[len(deltas) % len(alphas)])
    return deltas


def random_adapter(base, naming):
    # From a Kohya file the stock loader takes one alpha for all layers; the header of the others tells it each.
    alphas = (2.5,) if naming in ("kohya", "sgm") else (1.0, 2.5, 4.0, 0.75)
    deltas = random_deltas((base.unet, *base.text_encoders), alphas)
    return Adapter("Rex", "dog", "<v1>", base.fingerprint, 3, alphas[0], deltas, {"steps": "6"})


@functools.cache
def mini():
    return load_backbone("mini")


@pytest.fixture(params=["tiny", "mini"])
def base(request):
    return request.getfixturevalue("tiny") if request.param == "tiny" else mini()


@pytest.fixture(autouse=True)
def quiet():
    # The stock loader reports weights of the second encoder as missing, which are there all the same.
    logging.set_verbosity_error()
    text_logging.set_verbosity_error()
    yield
    logging.set_verbosity_warning()
    text_logging.set_verbosity_warning()


@torch.no_grad()
def compute(base, adapter, prompt):
    first, second = base.text_encoders
    with (
        adapter_rows(first, "text_encoder", [adapter]),
        adapter_rows(second, "text_encoder_2", [adapter]),
        adapter_rows(base.unet, "unet", [adapter]),
    ):
        text = encode_prompts(base, [prompt])
        return text.states, text.pooled, predict(base, draw_noise(base, 0), 500.0, text, time_ids(base, 1))


@functools.cache
def open_pipeline(folder):
    return StableDiffusionXLPipeline.from_pretrained(folder, add_watermarker=False, dtype=torch.float32)


@torch.no_grad()
def compute_stock(base, path, prompt, pipeline=None):
    pipeline = pipeline or open_pipeline(base.folder)
    pipeline.load_lora_weights(path.parent, weight_name=path.name)
    found = compute_with(base, pipeline, prompt)
    pipeline.unload_lora_weights()
    return found


def compute_with(base, pipeline, prompt):
    states, _, pooled, _ = pipeline.encode_prompt(prompt)
    added = {"text_embeds": pooled, "time_ids": time_ids(base, 1)}
    noise = draw_noise(base, 0)
    noise = pipeline.unet(noise, 500.0, encoder_hidden_states=states, added_cond_kwargs=added).sample
    return states, pooled, noise


@pytest.mark.parametrize("naming", [naming for naming in NAMINGS if naming != "sgm"])
def test_stock_diffusers_computes_the_same_from_every_naming(base, naming, tmp_path):
    prompt = "a photo of a dog"
    save_adapter(tmp_path / "rex.safetensors", random_adapter(base, naming), naming)
    own = compute(base, load_adapter(tmp_path / "rex.safetensors"), prompt)
    stock = compute_stock(base, tmp_path / "rex.safetensors", prompt)
    plain = compute(base, None, prompt)
    for ours, theirs, without in zip(own, stock, plain, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)
        assert not torch.allclose(ours, without, atol=1e-3)


def put_on_as_diffusers_does(pipeline, folder):
    """Put updates on all linear layers and save them as diffusers does, in two namings."""
    parts = zip(COMPONENTS, (pipeline.unet, pipeline.text_encoder, pipeline.text_encoder_2), strict=True)
    layers = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        for component, model in parts:
            targets = [path for path, layer in model.named_modules() if path.endswith(ENDINGS + OTHERS)]
            # The file tells no alphas, which means that they are the ranks.
            model.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=targets, init_lora_weights=False))
            layers[f"{component}_lora_layers"] = convert_state_dict_to_diffusers(get_peft_model_state_dict(model))
    pipeline.save_lora_weights(folder, **layers)
    return folder / "pytorch_lora_weights.safetensors"


@torch.no_grad()
def test_a_file_that_diffusers_wrote_in_two_namings_is_used_whole(tiny, tmp_path):
    pipeline = open_pipeline(tiny.folder)
    path = put_on_as_diffusers_does(pipeline, tmp_path / "lora")
    names = load_file(path)
    assert any(name.endswith("ff.net.2.lora_A.weight") for name in names)
    assert any(name.endswith("attn1.to_q.lora.down.weight") for name in names)
    adapter = load_adapter(path)
    assert len(adapter.deltas) == len(names) / 2
    own, plain = (compute(tiny, which, "a photo of a dog") for which in (adapter, None))
    # The stock loader drops one of the namings, so the yardstick is the model that the file was saved from.
    saved = compute_with(tiny, pipeline, "a photo of a dog")
    for ours, theirs, without in zip(own, saved, plain, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)
        assert not torch.allclose(ours, without, atol=1e-3)


@torch.no_grad()
def test_stock_diffusers_computes_the_same_from_sdxls_own_block_names(tiny, tmp_path):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        # Two layers a block, as SDXL has them: its counting fits no other number.
        unet = UNet2DConditionModel.from_config({**tiny.unet.config, "layers_per_block": 2})
    base = dataclasses.replace(tiny, unet=unet.eval())
    save_adapter(tmp_path / "rex.safetensors", random_adapter(base, "sgm"), "sgm")
    names = load_file(tmp_path / "rex.safetensors")
    assert any("input_blocks_4_1" in name for name in names)
    assert not any("down_blocks" in name for name in names)
    adapter = load_adapter(tmp_path / "rex.safetensors")
    own, plain = (compute(base, which, "a photo of a dog") for which in (adapter, None))
    pipeline = StableDiffusionXLPipeline.from_pretrained(base.folder, unet=unet, add_watermarker=False)
    stock = compute_stock(base, tmp_path / "rex.safetensors", "a photo of a dog", pipeline)
    for ours, theirs, without in zip(own, stock, plain, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)
        assert not torch.allclose(ours, without, atol=1e-3)


def test_sgm_is_refused_for_the_layers_of_the_small_bases(base, tmp_path):
    with pytest.raises(AdapterError, match="sgm numbers blocks of two layers each"):
        save_adapter(tmp_path / "rex.safetensors", random_adapter(base, "sgm"), "sgm")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_sgm_is_allowed_for_just_the_unets_whose_blocks_stock_diffusers_numbers_alike(tiny, layers):
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config({**tiny.unet.config, "layers_per_block": layers})
    paths = [f"unet.{path}" for path, _ in unet.named_modules() if path.endswith("attn2.to_k")]
    tensors, meant = {}, {}
    for number, path in enumerate(paths):
        try:
            down, up, _ = write_keys(path, "sgm")
        except AdapterError:
            continue
        meant[path] = float(number)
        tensors |= {down: torch.tensor([[float(number)]]), up: torch.ones(1, 1)}
    read, _ = StableDiffusionXLPipeline.lora_state_dict(tensors, unet_config=unet.config)
    found = {read_key(name).path: tensor.item() for name, tensor in read.items() if read_key(name).half == "down"}
    update = Delta(torch.ones(1, 1), torch.ones(1, 1), 1.0)
    assert has_sdxl_blocks(dict.fromkeys(paths, update)) == (found == meant) == (layers == 2)
