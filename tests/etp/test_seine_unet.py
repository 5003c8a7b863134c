"""SEINE's network: the published names, its temporal layers against written-out formulas, and the base it starts as."""

import math

import pytest
import torch
from diffusers import UNet2DConditionModel

from d2plan.errors import ShapeError
from d2plan.etp.seine_official import UNET_CONFIG
from d2plan.etp.seine_unet import (
    EMBEDDED,
    OFFICIAL,
    FrameText,
    Rotation,
    SeineDesign,
    TemporalAttention,
    find_buckets,
    make_clip_unet,
    widen_input,
)
from tests.etp.seine_models import SMALL, official_network, speak


def run(network, clips, moment=500, seed=1, width=24):
    states = torch.randn(len(clips), 5, width, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return network(clips, torch.tensor(moment), FrameText(states))


def random_clips(count=1, frames=5, seed=0):
    return torch.randn(count, 9, frames, 8, 8, generator=torch.Generator().manual_seed(seed))


def test_the_official_network_has_the_published_names_and_shapes():
    with torch.device("meta"):
        state = make_clip_unet(UNET_CONFIG, OFFICIAL).unet.state_dict()
        pictures = UNet2DConditionModel.from_config(dict(UNET_CONFIG)).state_dict()
    # 16 transformer blocks, each with nine temporal tensors more than SD 1.4's; everything else is SD 1.4's.
    assert len(state) == 830 and len(pictures) == 686
    assert all(state[name].shape == tensor.shape for name, tensor in pictures.items())
    added = sorted(set(state) - set(pictures))
    block = "down_blocks.1.attentions.0.transformer_blocks.0."
    assert {name: list(state[name].shape) for name in added if name.startswith(block)} == {
        f"{block}attn_temp.to_q.weight": [640, 640],
        f"{block}attn_temp.to_k.weight": [640, 640],
        f"{block}attn_temp.to_v.weight": [640, 640],
        f"{block}attn_temp.to_out.0.weight": [640, 640],
        f"{block}attn_temp.to_out.0.bias": [640],
        f"{block}attn_temp.time_rel_pos_bias.relative_attention_bias.weight": [32, 8],
        f"{block}attn_temp.rotary_emb.freqs": [16],
        f"{block}norm_temp.weight": [640],
        f"{block}norm_temp.bias": [640],
    }
    blocks = {name.split("attn_temp")[0] for name in added if "attn_temp" in name}
    assert len(blocks) == 16 and len(added) == 16 * 9
    assert list(state["conv_in.weight"].shape) == [320, 9, 3, 3]
    assert list(state["conv_out.weight"].shape) == [4, 320, 3, 3]
    assert list(state[f"{block}attn2.to_k.weight"].shape) == [640, 768]


def test_buckets_are_exact_near_by_logarithmic_far_off_and_apart_for_before_and_after():
    near = find_buckets(torch.arange(-7, 8)).tolist()
    assert near == [7, 6, 5, 4, 3, 2, 1, 0, 17, 18, 19, 20, 21, 22, 23]
    for distance in range(8, 40):
        expected = min(15, 8 + int(math.log(distance / 8) / math.log(32 / 8) * 8 + 1e-6))
        assert find_buckets(torch.tensor(-distance)) == expected
        assert find_buckets(torch.tensor(distance)) == expected + 16


def test_rotation_makes_a_product_depend_on_the_distance_alone_and_leaves_the_rest_of_a_head():
    rotation = Rotation(8)
    query, key = torch.randn(2, 12, generator=torch.Generator().manual_seed(0))
    queries, keys = (rotation(vector.expand(6, 12)) for vector in (query, key))
    products = queries @ keys.T
    for offset in range(-5, 6):
        diagonal = products.diagonal(offset)
        assert torch.allclose(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-5)
    assert not torch.allclose(products[0, 0], products[0, 3])
    assert torch.equal(queries[:, 8:], query[8:].expand(6, 4))
    assert torch.equal(queries[0], query)


def test_temporal_attention_is_the_written_formula():
    torch.manual_seed(0)
    layer = TemporalAttention(24, 2).requires_grad_(False)
    table = layer.time_rel_pos_bias.relative_attention_bias.weight
    for parameter in (layer.to_out[0].weight, layer.to_out[0].bias, table):
        torch.nn.init.normal_(parameter)
    places = torch.randn(3, 6, 24)
    heads = []
    for head in range(2):
        part = slice(12 * head, 12 * head + 12)
        query, key, value = ((places @ one.weight.T)[..., part] for one in (layer.to_q, layer.to_k, layer.to_v))
        scores = layer.rotary_emb(query / 12**0.5) @ layer.rotary_emb(key).transpose(1, 2)
        rows = [[find_buckets(torch.tensor(j - i)) for j in range(6)] for i in range(6)]
        bias = torch.stack([torch.stack([table[bucket, head] for bucket in row]) for row in rows])
        heads.append((scores + bias).softmax(-1) @ value)
    expected = torch.cat(heads, -1) @ layer.to_out[0].weight.T + layer.to_out[0].bias
    assert torch.allclose(layer(places), expected, atol=1e-5)


@pytest.mark.parametrize("design", [OFFICIAL, EMBEDDED])
def test_a_fresh_network_draws_alike_frames_as_the_picture_network_draws_one(design):
    torch.manual_seed(0)
    pictures = UNet2DConditionModel.from_config({**SMALL, "in_channels": 4}).eval()
    network = make_clip_unet(SMALL, design)
    state = pictures.state_dict()
    state["conv_in.weight"] = widen_input(state["conv_in.weight"])
    missing, unexpected = network.unet.load_state_dict(state, strict=False)
    assert not unexpected and all("temp" in name or ".near." in name for name in missing)
    frame = random_clips(frames=1)
    states = torch.randn(1, 5, 24)
    with torch.no_grad():
        clip = network(frame.expand(-1, -1, 4, -1, -1), torch.tensor(300), FrameText(states))
        picture = pictures(frame[:, :4, 0], 300, states).sample
    for index in range(4):
        assert torch.allclose(clip[:, :, index], picture, atol=1e-5)


def test_what_one_frame_shows_reaches_all_others():
    network, clips = official_network(), random_clips()
    changed = clips.clone()
    changed[:, :4, 2] += 1
    gap = (run(network, clips) - run(network, changed)).abs().amax((0, 1, 3, 4))
    assert (gap > 1e-4).all()


@pytest.mark.parametrize("design", [OFFICIAL, EMBEDDED])
def test_clips_of_a_batch_do_not_see_each_other(design):
    torch.manual_seed(0)
    network = speak(make_clip_unet(SMALL, design))
    clips = random_clips(2)
    states = torch.randn(2, 5, 24)
    with torch.no_grad():
        both = network(clips, torch.tensor([900, 20]), FrameText(states))
        first = network(clips[:1], torch.tensor(900), FrameText(states[:1]))
        second = network(clips[1:], torch.tensor(20), FrameText(states[1:]))
    assert torch.allclose(both, torch.cat([first, second]), atol=1e-5)


@pytest.mark.parametrize(("reach", "seen"), [("ends", [0, 1, 2, 3, 4]), ("frame", [4])])
def test_reaching_the_ends_lets_every_frame_see_the_last_one_without_temporal_layers(reach, seen):
    torch.manual_seed(0)
    block = make_clip_unet(SMALL, SeineDesign(reach=reach)).unet.down_blocks[0].attentions[0].transformer_blocks[0]
    rows, text = torch.randn(5, 4, 16), torch.randn(5, 3, 24)
    changed = rows.clone()
    changed[4] += torch.randn(4, 16)
    block.clip.frames = 5
    with torch.no_grad():
        gap = (block(rows, text) - block(changed, text)).abs().amax((1, 2))
    assert (gap > 1e-5).nonzero().flatten().tolist() == seen


def test_temporal_convolutions_see_the_neighbours_only():
    torch.manual_seed(0)
    network = speak(make_clip_unet(SMALL, SeineDesign(convolutions=True)))
    near = network.unet.mid_block.resnets[0].near
    rows = torch.randn(5, 32, 4, 4)
    near.clip.frames = 5
    changed = rows.clone()
    changed[3] += 1
    gap = (near(rows) - near(changed)).abs().amax((1, 2, 3))
    near.clip.frames = 1
    assert (gap > 0).tolist() == [False, False, True, True, True]


def test_a_call_leaves_no_state_behind_even_when_it_fails():
    network = official_network()
    run(network, random_clips())
    assert network.clip.frames == 1
    with pytest.raises(RuntimeError):
        run(network, random_clips(), width=23)
    assert network.clip.frames == 1


def test_other_than_nine_channels_is_refused():
    with pytest.raises(ShapeError, match="clips"):
        run(official_network(), torch.zeros(1, 4, 3, 8, 8))
