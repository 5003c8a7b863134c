"""Files of other trainers: what is plain LoRA opens, all else is refused with counts."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from d2plan.adapter.file import load_adapter
from d2plan.errors import AdapterError
from tests.adapter.files import PATHS, SPELLINGS, TEXT, UNET, update, write_layers

KOHYA = SPELLINGS["sd-scripts"][0]
STEM = KOHYA[0]


@pytest.mark.parametrize("program", SPELLINGS)
def test_files_of_every_trainer_open_as_the_same_adapter(tmp_path, program):
    stems, down, up = SPELLINGS[program]
    written = write_layers(tmp_path / "a.safetensors", stems, down, up)
    read = load_adapter(tmp_path / "a.safetensors").deltas
    assert set(read) == set(PATHS)
    for path, stem in zip(PATHS, stems, strict=True):
        assert torch.equal(read[path].down, written[f"{stem}.{down}.weight"])
        assert torch.equal(read[path].up, written[f"{stem}.{up}.weight"])
        # No alpha means that it is the rank.
        assert (read[path].alpha, read[path].scale) == (2, 1)


@pytest.mark.parametrize("program", [name for name, (_, down, _) in SPELLINGS.items() if down == "lora_down"])
@pytest.mark.parametrize("alpha", [0.5, 1.0, 128.0])
def test_alphas_are_read(tmp_path, program, alpha):
    write_layers(tmp_path / "a.safetensors", SPELLINGS[program][0], alpha=alpha)
    assert {delta.alpha for delta in load_adapter(tmp_path / "a.safetensors").deltas.values()} == {alpha}


def test_files_of_diffusers_former_and_present_open(tmp_path):
    (down, up), (text_down, text_up) = update(seed=0), update(seed=1)
    stem = "unet.down_blocks.1.attentions.1.transformer_blocks.0.attn1"
    texts = {f"{PATHS[1]}.lora_linear_layer.{half}.weight": t for half, t in (("down", text_down), ("up", text_up))}
    for spelling in (f"{stem}.processor.to_q_lora", f"{stem}.to_q.lora"):
        units = {f"{spelling}.down.weight": down, f"{spelling}.up.weight": up}
        save_file(units | texts, tmp_path / "a.safetensors")
        read = load_adapter(tmp_path / "a.safetensors").deltas
        assert set(read) == set(PATHS[:2])
        assert torch.equal(read[PATHS[0]].up, up)
        assert torch.equal(read[PATHS[1]].down, text_down)


def test_feed_forward_and_projection_layers_belong_to_a_plain_lora(tmp_path):
    block = "lora_unet_middle_block_1"
    stems = (
        f"{block}_proj_in",
        f"{block}_transformer_blocks_0_ff_net_0_proj",
        "lora_te2_text_model_encoder_layers_0_mlp_fc1",
    )
    write_layers(tmp_path / "a.safetensors", stems)
    assert sorted(load_adapter(tmp_path / "a.safetensors").deltas) == [
        "text_encoder_2.text_model.encoder.layers.0.mlp.fc1",
        "unet.mid_block.attentions.0.proj_in",
        "unet.mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj",
    ]


def refuse(path, tensors, *words, **header):
    save_file(tensors, path, header or None)
    with pytest.raises(AdapterError) as caught:
        load_adapter(path)
    for word in (path.name, *words):
        assert word in str(caught.value), caught.value


@pytest.mark.parametrize(
    ("kind", "endings"),
    [
        ("LoHa", ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "alpha")),
        ("LoKr", ("lokr_w1", "lokr_w2_a", "lokr_w2_b", "alpha")),
        ("OFT", ("oft_blocks", "alpha")),
        ("GLoRA", ("a1.weight", "a2.weight", "b1.weight", "b2.weight", "alpha")),
        ("full-weight difference", ("diff",)),
        ("DoRA", ("lora_down.weight", "lora_up.weight", "alpha", "dora_scale")),
        ("bias update", ("lora_down.weight", "lora_up.weight", "lora_up.bias")),
    ],
)
def test_other_kinds_of_updates_are_refused_with_counts(tmp_path, kind, endings):
    tensors = {f"{stem}.{end}": torch.ones(2, 2) for stem in KOHYA[:2] for end in endings}
    plain = write_layers(tmp_path / "a.safetensors", KOHYA[2:])
    refuse(tmp_path / "a.safetensors", tensors | plain, f"2 of 3 layers are {kind} (such as {KOHYA[1]})")


def test_a_dora_of_peft_is_refused(tmp_path):
    tensors = write_layers(tmp_path / "a.safetensors", PATHS, "lora_A", "lora_B")
    tensors[f"{PATHS[0]}.lora_magnitude_vector"] = torch.ones(5)
    refuse(tmp_path / "a.safetensors", tensors, "1 of 3 layers are DoRA")


CONVOLUTIONS = {
    "lora_unet_input_blocks_1_0_in_layers_2.lora_down.weight": torch.ones(2, 4, 3, 3),
    "lora_unet_input_blocks_1_0_in_layers_2.lora_up.weight": torch.ones(4, 2, 1, 1),
    "lora_unet_input_blocks_1_0_in_layers_2.alpha": torch.tensor(1.0),
    "lora_unet_input_blocks_1_0_emb_layers_1.lora_down.weight": torch.ones(2, 4),
    "lora_unet_input_blocks_1_0_emb_layers_1.lora_up.weight": torch.ones(4, 2),
    "lora_unet_down_blocks_0_downsamplers_0_conv.lora_mid.weight": torch.ones(2, 2, 3, 3),
    "lora_te2_text_projection.lora_down.weight": torch.ones(2, 4),
}


def test_a_locon_is_refused_with_counts_and_a_way_out(tmp_path):
    path = tmp_path / "a.safetensors"
    refuse(path, write_layers(path, KOHYA) | CONVOLUTIONS, "4 of 7 layers", "convolutions", "--linear-only")
    adapter = load_adapter(path, linear_only=True)
    assert set(adapter.deltas) == set(PATHS)


def test_a_linear_layer_with_the_shape_of_a_convolution_is_one(tmp_path):
    name = f"lora_unet_{UNET.rpartition('_transformer')[0]}_proj_in"
    tensors = {f"{name}.lora_down.weight": torch.ones(2, 4, 1, 1), f"{name}.lora_up.weight": torch.ones(4, 2, 1, 1)}
    refuse(tmp_path / "a.safetensors", tensors, "1 of 1 layers are convolutions")


def test_learnt_words_in_the_file_are_told(tmp_path):
    path = tmp_path / "a.safetensors"
    tensors = write_layers(path, KOHYA) | {"bundle_emb.sks.clip_l": torch.ones(1, 6)}
    refuse(path, tensors, "1 learnt words", "bundle_emb.sks.clip_l", "--linear-only")
    assert len(load_adapter(path, linear_only=True).deltas) == 3


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("Flux", "lora_unet_double_blocks_0_img_attn_proj"),
        ("Flux", "lora_unet_single_blocks_3_linear1"),
        ("Flux", "transformer.single_transformer_blocks.0.attn.to_q"),
        ("Stable Diffusion 3", "lora_unet_joint_blocks_0_x_block_attn_qkv"),
        ("Stable Diffusion 3", "transformer.transformer_blocks.0.attn.to_out.0"),
        ("Stable Diffusion 1 or 2", f"lora_te_{TEXT}"),
        ("a transformer model", "diffusion_model.blocks.0.self_attn.q"),
    ],
)
def test_loras_of_other_architectures_are_named_and_counted(tmp_path, name, stem):
    tensors = {f"{stem}.lora_down.weight": torch.ones(2, 4), f"{stem}.lora_up.weight": torch.ones(4, 2)}
    refuse(tmp_path / "a.safetensors", tensors, f"a LoRA for {name}, not for SDXL", "2 of 2 tensors", "560")


@pytest.mark.parametrize(("width", "name"), [(768, "Stable Diffusion 1"), (1024, "Stable Diffusion 2")])
def test_a_unet_lora_of_stable_diffusion_1_or_2_is_known_by_its_width(tmp_path, width, name):
    tensors = {}
    for block in ("down_blocks_0", "up_blocks_3"):
        stem = f"lora_unet_{block}_attentions_0_transformer_blocks_0_attn2_to_k"
        tensors |= {f"{stem}.lora_down.weight": torch.ones(4, width), f"{stem}.lora_up.weight": torch.ones(320, 4)}
    refuse(tmp_path / "a.safetensors", tensors, f"{name}, not for SDXL", f"2 of 2 layers read texts of width {width}")


def test_names_that_match_nothing_are_counted(tmp_path):
    path = tmp_path / "a.safetensors"
    tensors = write_layers(path, KOHYA)
    refuse(path, tensors | {"lora_unet_typo.lora_up.weight": torch.ones(1)}, "1 of 7 tensors", "typo", "1120 tensors")
    refuse(path, {"a": torch.ones(1), "b": torch.ones(1)}, "2 of 2 tensors")


def test_a_file_with_half_of_its_tensors_is_refused_with_counts(tmp_path):
    path = tmp_path / "a.safetensors"
    tensors = write_layers(path, KOHYA)
    refuse(path, {name: t for name, t in tensors.items() if "up" not in name}, "incomplete: 3 of 3 layers")
    del tensors[f"{STEM}.lora_down.weight"]
    refuse(path, tensors, "incomplete: 1 of 3 layers")
    refuse(path, {f"{STEM}.alpha": torch.tensor(1.0)}, "incomplete: 1 of 1 layers")


def test_a_file_of_d2plan_that_lost_whole_layers_is_refused_with_counts(tmp_path):
    path = tmp_path / "a.safetensors"
    tensors = write_layers(path, KOHYA)
    lost = {name: tensor for name, tensor in tensors.items() if not name.startswith(STEM)}
    refuse(path, lost, "incomplete: it says that it has 3 layers, and holds 2", **{"d2plan.layers": "3"})


def test_mixed_namings_are_refused_with_counts(tmp_path):
    path = tmp_path / "a.safetensors"
    texts = write_layers(path, PATHS[1:], "lora_A", "lora_B")
    units = write_layers(path, KOHYA[:1])
    refuse(path, units | texts, "4 tensors in peft naming, 2 tensors in sgm naming")
    other = write_layers(path, (f"lora_unet_{UNET.replace('_to_q', '_to_k')}",))
    refuse(path, units | other, "2 tensors in kohya naming, 2 tensors in sgm naming")


def test_the_two_namings_that_diffusers_itself_mixes_open_as_one_adapter(tmp_path):
    # convert_state_dict_to_diffusers renames attention layers and leaves the others as PEFT names them.
    path, places = tmp_path / "a.safetensors", (PATHS[0], PATHS[0].replace("attn1.to_q", "ff.net.0.proj"))
    attention = write_layers(path, places[:1], "lora.down", "lora.up")
    feed_forward = write_layers(path, places[1:], "lora_A", "lora_B")
    save_file(attention | feed_forward, path)
    read = load_adapter(path).deltas
    assert set(read) == set(places)
    assert torch.equal(read[places[1]].up, feed_forward[f"{places[1]}.lora_B.weight"])
    # The same layer in both is still one too many.
    again = write_layers(path, places[:1], "lora_A", "lora_B")
    refuse(path, attention | again, "2 of its 4 tensors twice")


def test_a_file_without_tensors_is_told(tmp_path):
    refuse(tmp_path / "a.safetensors", {}, "it holds no tensors; copy it anew")


def test_a_layer_under_two_names_is_refused_with_counts(tmp_path):
    path = tmp_path / "a.safetensors"
    first = write_layers(path, (f"lora_te1_{TEXT}",))
    second = write_layers(path, (f"lora_te1_{TEXT.removeprefix('text_model_')}",))
    refuse(path, first | second, "2 of its 4 tensors twice")


@pytest.mark.parametrize(
    ("half", "value", "message"),
    [
        ("lora_down", torch.full((2, 6), torch.nan), "no numbers"),
        ("lora_up", torch.full((5, 2), -torch.inf), "no numbers"),
        ("lora_up", torch.full((5, 2), 2e4), "a value is 2e+04"),
        ("lora_up", torch.ones(5, 3), "shapes"),
        ("lora_up", torch.ones(5, 2, dtype=torch.int8), "floating"),
    ],
)
def test_numbers_that_cannot_be_computed_with_are_refused(tmp_path, half, value, message):
    path = tmp_path / "a.safetensors"
    tensors = write_layers(path, KOHYA) | {f"{STEM}.{half}.weight": value}
    refuse(path, tensors, message, PATHS[0])


@pytest.mark.parametrize(("rank", "message"), [(0, "rank is 0"), (1025, "rank is 1025")])
def test_ranks_that_cannot_be_are_refused(tmp_path, rank, message):
    path = tmp_path / "a.safetensors"
    refuse(path, write_layers(path, KOHYA, rank=rank), message)


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan"), float("inf"), 2e6])
def test_alphas_that_give_no_usable_strength_are_refused(tmp_path, alpha):
    path = tmp_path / "a.safetensors"
    refuse(path, write_layers(path, KOHYA, alpha=alpha), "alpha is")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn])
def test_every_number_format_of_trainers_opens(tmp_path, dtype):
    path = tmp_path / "a.safetensors"
    tensors = {name: tensor.to(dtype) for name, tensor in write_layers(path, KOHYA, alpha=1.0).items()}
    save_file(tensors, path)
    read = load_adapter(path)
    assert {delta.down.dtype for delta in read.deltas.values()} == {dtype}
    assert {delta.alpha for delta in read.deltas.values()} == {1.0}
    assert load_file(path).keys() == tensors.keys()
