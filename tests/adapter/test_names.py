"""Layer names of every program: read into one path, written back, and all of full-size SDXL addressed."""

import functools

import pytest
import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from d2plan.adapter.attach import TEXT_TARGETS, UNET_TARGETS
from d2plan.adapter.names import COMPONENTS, NAMINGS, find_layer, read_key, read_stem, write_keys
from d2plan.adapter.sdxl import ATTENTION, sdxl_layers
from d2plan.errors import AdapterError

BLOCK = "unet.up_blocks.0.attentions.2.transformer_blocks.9"
SGM = "lora_unet_output_blocks_2_1_transformer_blocks_9"
TEXT = "text_encoder.text_model.encoder.layers.3"


@functools.cache
def full_size():
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            sample_size=128,
            block_out_channels=(320, 640, 1280),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=(5, 10, 20),
            transformer_layers_per_block=(1, 2, 10),
            use_linear_projection=True,
            cross_attention_dim=2048,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        )
        large = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
        first = CLIPTextModel(CLIPTextConfig(hidden_size=768, intermediate_size=3072))
        second = CLIPTextModelWithProjection(CLIPTextConfig(projection_dim=1280, **large))
    return dict(zip(COMPONENTS, (unet, first, second), strict=True))


def targets_of(component):
    return UNET_TARGETS if component == "unet" else TEXT_TARGETS


def test_all_of_full_size_sdxl_is_addressed_in_every_naming():
    counts = {}
    for component, model in full_size().items():
        paths = [path for path, layer in model.named_modules() if path.endswith(targets_of(component))]
        counts[component] = len(paths)
        for naming in NAMINGS:
            for path in paths:
                down, up, _ = write_keys(f"{component}.{path}", naming)
                read = [read_key(name) for name in (down, up)]
                assert [key.half for key in read] == ["down", "up"]
                assert read[0].path == read[1].path
                found = find_layer(model, read[0].path.partition(".")[2])
                assert found is model.get_submodule(path)
    assert counts == {"unet": 560, "text_encoder": 12 * 4, "text_encoder_2": 32 * 4}


def test_the_list_of_sdxls_layers_is_the_models():
    listed = dict(sdxl_layers())
    for component, model in full_size().items():
        for path, layer in model.named_modules():
            known = read_stem(f"{component}.{path}")
            if isinstance(layer, nn.Linear) and known:
                assert listed.pop(known[0]) == (layer.in_features, layer.out_features)
    assert listed == {}
    assert sum(path.startswith("unet.") and path.endswith(ATTENTION) for path in sdxl_layers()) == 560


def test_no_two_layers_share_a_name():
    for naming in NAMINGS:
        names = [name for path in sdxl_layers() for name in write_keys(path, naming) if name]
        assert len(set(names)) == len(names)


def test_stock_diffusers_reads_sdxls_own_block_names_as_the_same_layers():
    unet = full_size()["unet"]
    paths = [path for path in sdxl_layers() if path.startswith("unet.")]
    tensors = {}
    for number, path in enumerate(paths):
        down, up, alpha = write_keys(path, "sgm")
        tensors |= {down: torch.tensor([[float(number)]]), up: torch.ones(1, 1), alpha: torch.tensor(float(number))}
    read, alphas = StableDiffusionXLPipeline.lora_state_dict(tensors, unet_config=unet.config)
    assert len(alphas) == len(paths) == 722
    found = {}
    for name, tensor in read.items():
        key = read_key(name)
        if key.half == "down":
            found[key.path] = tensor.item()
    assert found == {path: float(number) for number, path in enumerate(paths)}


@pytest.mark.parametrize(
    ("name", "path", "half"),
    [
        (f"{SGM}_attn2_to_out_0.lora_up.weight", f"{BLOCK}.attn2.to_out.0", "up"),
        (f"{SGM}_ff_net_0_proj.alpha", f"{BLOCK}.ff.net.0.proj", "alpha"),
        ("lora_unet_output_blocks_2_1_proj_in.lora_down.weight", "unet.up_blocks.0.attentions.2.proj_in", "down"),
        ("lora_unet_input_blocks_7_1_proj_out.alpha", "unet.down_blocks.2.attentions.0.proj_out", "alpha"),
        ("lora_unet_middle_block_1_proj_out.alpha", "unet.mid_block.attentions.0.proj_out", "alpha"),
        (f"{BLOCK}.attn1.processor.to_out_lora.up.weight", f"{BLOCK}.attn1.to_out.0", "up"),
        (f"{BLOCK.removeprefix('unet.')}.attn1.processor.to_k_lora.down.weight", f"{BLOCK}.attn1.to_k", "down"),
        (f"{BLOCK}.attn1.to_out.0.lora.down.weight", f"{BLOCK}.attn1.to_out.0", "down"),
        (f"base_model.model.{BLOCK}.ff.net.2.lora_B.default.weight", f"{BLOCK}.ff.net.2", "up"),
        (f"{TEXT}.self_attn.out_proj.lora_linear_layer.up.weight", f"{TEXT}.self_attn.out_proj", "up"),
        (f"{TEXT}.self_attn.to_out_lora.up.weight", f"{TEXT}.self_attn.out_proj", "up"),
        ("text_encoder.encoder.layers.3.mlp.fc1.lora_A.weight", f"{TEXT}.mlp.fc1", "down"),
        ("lora_te1_encoder_layers_3_mlp_fc2.lora_down.weight", f"{TEXT}.mlp.fc2", "down"),
    ],
)
def test_names_of_other_programs_are_read(name, path, half):
    key = read_key(name)
    assert (key.path, key.half) == (path, half)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".alpha",
        "lora_unet_input_blocks_0_1_proj_in.alpha",
        "lora_unet_down_blocks_1_attentions_0_proj_in.lora_down.weight.x",
        "lora_unet_down_blocks_1_attentions_0_proj_in",
        "lora_unet_down_blocks_1_resnets_0_conv1.lora_down.weight",
        "lora_unet_down_blocks_\u0661_attentions_0_proj_in.alpha",
        "lora_te_text_model_encoder_layers_0_self_attn_q_proj.alpha",
        "lora_te3_text_model_encoder_layers_0_self_attn_q_proj.alpha",
        "lora_te2_text_projection.lora_down.weight",
        "../../unet.down_blocks.1.attentions.0.proj_in.lora_A.weight",
        "lora_unet_double_blocks_0_img_attn_proj.lora_down.weight",
        "\0" * 100 + ".alpha",
    ],
)
def test_other_names_mean_nothing(name):
    assert read_key(name) is None


@given(st.text(max_size=200))
def test_any_text_is_read_or_not_but_never_breaks(text):
    for name in (text, f"lora_unet_{text}.alpha", f"{text}.lora_A.weight"):
        key = read_key(name)
        assert key is None or key.path.partition(".")[0] in COMPONENTS


@given(
    st.sampled_from(sorted(sdxl_layers())),
    st.sampled_from(NAMINGS),
)
def test_what_is_written_is_read_back(path, naming):
    down, up, alpha = write_keys(path, naming)
    assert read_key(down)[:2] == (path, "down")
    assert read_key(up)[:2] == (path, "up")
    assert not alpha or read_key(alpha)[:2] == (path, "alpha")
    assert bool(alpha) == (naming in ("kohya", "sgm"))


@pytest.mark.parametrize("path", ["unet.conv_in", "vae.encoder", "unet.down_blocks.1.resnets.0.conv1", "text_encoder"])
def test_other_layers_have_no_name(path):
    with pytest.raises(AdapterError, match=path):
        write_keys(path, "kohya")


def test_blocks_that_sdxl_does_not_have_have_no_name_in_its_counting():
    with pytest.raises(AdapterError, match="sgm"):
        write_keys("unet.down_blocks.1.attentions.2.proj_in", "sgm")
