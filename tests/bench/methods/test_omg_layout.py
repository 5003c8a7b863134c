"""Stage 1 of OMG, and Prompt-to-Prompt against a written-out softmax."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import Attention

from d2plan.backbone.sdxl import decode_latents, encode_prompts, join_states, null_states, predict, time_ids
from d2plan.bench.methods.omg_layout import find_layout, follow_layout
from d2plan.bench.shared.drawing import denoise_shots, encode_loaded
from d2plan.errors import InputError
from d2plan.isp.segment import Detection
from tests.bench.shots import DRAWING, fingerprint, make_shot, same_base

LATENT = (16, 16)


class Pointer:
    """A detector that sees one thing in each half of the picture."""

    def detect(self, image, class_words):
        halves = np.zeros((2, *image.shape[:2]), dtype=np.float32)
        halves[0, :, : image.shape[1] // 2] = halves[1, :, image.shape[1] // 2 :] = 1
        names = list(class_words) * 2
        return [Detection(names[place], 0.9, half) for place, half in enumerate(halves)]


class Softmax:
    """Prompt-to-Prompt's replacement on written-out maps, for one pair of layout and edit."""

    def __init__(self, self_maps, most):
        self.self_maps, self.most = self_maps, most

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None):
        crosses = encoder_hidden_states is not None
        context = encoder_hidden_states if crosses else hidden_states
        query, key, value = (
            attn.head_to_batch_dim(layer(states))
            for layer, states in ((attn.to_q, hidden_states), (attn.to_k, context), (attn.to_v, context))
        )
        maps = attn.get_attention_scores(query, key).unflatten(0, (4, attn.heads))
        if crosses or (self.self_maps and maps.shape[-1] <= self.most):
            maps[3] = maps[2]
        return attn.to_out[1](attn.to_out[0](attn.batch_to_head_dim(torch.bmm(maps.flatten(0, 1), value))))


@pytest.mark.parametrize("self_maps", [True, False])
def test_the_edit_row_follows_the_layouts_maps_as_prompt_to_prompt_writes_them_out(tiny, self_maps):
    rows = torch.randn(2, 4, *LATENT, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        text = join_states([null_states(tiny, 2), encode_prompts(tiny, ["a photo of a cat"] * 2)])
        arguments = (torch.cat([rows, rows]), 500, text, time_ids(tiny, 4, (64, 64)))
        plain = predict(tiny, *arguments)
        with follow_layout(tiny.unet, 1, 16) as following:
            following.self_maps = self_maps
            found = predict(tiny, *arguments)
        oracle = copy.deepcopy(tiny)
        oracle.unet.set_attn_processor(Softmax(self_maps, 16))
        expected = predict(oracle, *arguments)
    assert {module.is_cross_attention for module in tiny.unet.modules() if isinstance(module, Attention)} == {
        True,
        False,
    }
    assert torch.allclose(found, expected, atol=1e-5)
    assert torch.equal(found[:3], plain[:3])
    assert not torch.allclose(found[3], plain[3], atol=1e-4)


def test_masks_are_where_a_detector_sees_the_classes(tiny):
    shots = [make_shot(1), make_shot(2)]
    text = encode_loaded(tiny, [shot.global_prompt for shot in shots], [None] * 2)
    masks = find_layout(tiny, shots, DRAWING, text, ["man", "dog"], Pointer())
    assert masks.shape == (2, 3, *LATENT)
    assert torch.equal(masks.sum(dim=1), torch.ones(2, *LATENT))
    assert set(masks.unique().tolist()) == {0.0, 1.0}
    assert masks[:, 1, :, :7].all() and masks[:, 2, :, 9:].all()


def test_two_of_one_class_are_told_apart_from_left_to_right(tiny):
    shot = make_shot(1, ("man", "man"))
    text = encode_loaded(tiny, [shot.global_prompt], [None])
    masks = find_layout(tiny, [shot], DRAWING, text, ["man", "man"], Pointer())[0]
    assert masks[1, :, :7].all() and masks[2, :, 9:].all()


def test_without_a_detector_masks_come_from_the_attention_of_the_class_words(tiny):
    shot, before = make_shot(1), fingerprint(tiny)
    text = encode_loaded(tiny, [shot.global_prompt], [None])
    masks = find_layout(tiny, [shot], DRAWING, text, ["man", "dog"], None)[0]
    assert torch.equal(masks.sum(dim=0), torch.ones(LATENT))
    assert masks[1:].sum() > 0
    assert same_base(before, fingerprint(tiny))
    with pytest.raises(InputError, match="cat"):
        find_layout(tiny, [shot], DRAWING, text, ["man", "cat"], None)
    assert same_base(before, fingerprint(tiny))


def test_the_layout_that_a_detector_sees_is_the_global_prompt_by_the_bare_base(tiny):
    shot, seen = make_shot(4), []

    class Keeper(Pointer):
        def detect(self, image, class_words):
            seen.append(image)
            return super().detect(image, class_words)

    find_layout(tiny, [shot], DRAWING, encode_loaded(tiny, [shot.global_prompt], [None]), ["man", "dog"], Keeper())
    plain = denoise_shots(tiny, [replace(shot, joint_prompt=shot.global_prompt)], DRAWING)
    assert np.abs(seen[0].astype(int) - decode_latents(tiny, plain)[0].astype(int)).max() <= 1
