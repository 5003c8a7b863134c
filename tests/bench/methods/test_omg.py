"""The OMG-style blend: its stages, its attention and its rows, against plain sampling and a written-out softmax."""

from dataclasses import replace

import numpy as np
import torch
from torch.nn.functional import one_hot

from d2plan.adapter.rows import Weighted
from d2plan.bench.methods import omg
from d2plan.bench.methods.omg import METHOD, blend_edits, blend_shots, read_group, weave_shot
from d2plan.bench.shared.drawing import denoise_shots, encode_loaded, encode_null, guide_plainly
from d2plan.bench.shared.settings import write_setting
from tests.bench.concepts import learnt, make_adapter, merged_base
from tests.bench.shots import DRAWING, counted_rows, fingerprint, make_shot, same_base

LATENT = (16, 16)


def loads_of(base, *numbers, strength=0.8):
    return tuple((Weighted(make_adapter(base, number), strength),) for number in numbers)


def owner_masks(owner, count):
    """One-hot masks of a drawing of owners, [1, count, h, w]."""
    return one_hot(owner, count).permute(2, 0, 1).float()[None]


def blend(base, shot, numbers, masks, start, drawing=DRAWING):
    loads = loads_of(base, *numbers)
    reading = read_group(base, [shot], loads)
    with torch.no_grad():
        return blend_shots(base, [shot], drawing, reading, loads, masks, start)


def test_where_one_mask_covers_all_the_concepts_own_model_draws_its_sub_prompt(tiny):
    shot = make_shot(3, ("man",))
    everywhere = owner_masks(torch.ones(LATENT, dtype=torch.long), 2)
    expected = denoise_shots(merged_base(tiny, {1: 0.8}), [replace(shot, joint_prompt=shot.sub_prompts[0])], DRAWING)
    assert torch.allclose(blend(tiny, shot, [1], everywhere, -1.0), expected, atol=1e-3)


def test_without_any_mask_stage_two_draws_the_layout_again(tiny):
    shot = make_shot(3)
    nowhere = owner_masks(torch.zeros(LATENT, dtype=torch.long), 3)
    expected = denoise_shots(tiny, [replace(shot, joint_prompt=shot.global_prompt)], DRAWING)
    assert torch.allclose(blend(tiny, shot, [1, 2], nowhere, 0.3), expected, atol=1e-4)


def test_a_blended_step_is_base_outside_and_each_own_model_inside_both_with_and_without_prompt(tiny):
    shot, drawing = make_shot(3), replace(DRAWING, steps=1)
    owner = torch.zeros(LATENT, dtype=torch.long)
    owner[4:12, :6], owner[4:12, 10:] = 1, 2

    def single(base, prompt):
        return denoise_shots(base, [replace(shot, joint_prompt=prompt)], drawing)

    parts = [single(tiny, shot.global_prompt)]
    parts += [single(merged_base(tiny, {number: 0.8}), shot.sub_prompts[number - 1]) for number in (1, 2)]
    expected = torch.stack(parts)[owner, 0, :, torch.arange(16)[:, None], torch.arange(16)].permute(2, 0, 1)
    found = blend(tiny, shot, [1, 2], owner_masks(owner, 3), -1.0, drawing)
    assert torch.allclose(found[0], expected, atol=1e-4)


def test_edits_are_blended_and_layouts_left_alone():
    base = torch.arange(8.0).view(2, 4, 1, 1, 1).expand(2, 4, 1, 1, 3)  # two shots: layouts 0 and 1, edits 2 and 3
    subs = torch.stack([torch.full((2, 2, 1, 1, 3), 10.0), torch.full((2, 2, 1, 1, 3), 20.0)])
    masks = torch.tensor([[[1, 0, 0]], [[0, 1, 0]], [[0, 0, 1]]]).float().expand(2, 3, 1, 3)
    blended = blend_edits(base, subs, masks)
    assert torch.equal(blended[:, :2], base[:, :2])
    assert blended[:, 2:].flatten(2).tolist() == [[[2, 10, 20], [3, 10, 20]], [[6, 10, 20], [7, 10, 20]]]


def test_woven_prompts_say_what_everybody_does_and_where(tiny):
    shot = make_shot(3, ("man", "dog"))
    shot = replace(
        shot,
        global_prompt="a photo of a man and a dog on the beach",
        sub_prompts=("a photo of a <v1> man waving", "a photo of a <v2> dog running"),
    )
    adapters = (make_adapter(tiny, 1, "man"), make_adapter(tiny, 2, "dog"))
    woven = weave_shot(shot, tuple((Weighted(adapter, 1.0),) for adapter in adapters))
    assert woven.global_prompt == "a photo of a man waving and a dog running on the beach"
    assert woven.sub_prompts[0] == "a photo of a <v1> man waving and a <v1> man waving on the beach"
    concepts = [learnt(tiny, 1), learnt(tiny, 2, "dog")]
    setting = {"strength": 1.0, "start": 0.15}
    pictures = [
        METHOD.draw(tiny, concepts, write_setting({**setting, **more}), [one], DRAWING)[0]
        for more, one in (({"woven": 1.0}, shot), ({}, woven), ({}, shot))
    ]
    assert np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])


def test_without_guidance_the_layout_is_read_from_the_rows_that_there_are(tiny):
    shot, drawing = make_shot(), replace(DRAWING, steps=4, guidance_scale=1.0)
    (image,) = METHOD.draw(tiny, [learnt(tiny, 1), learnt(tiny, 2, "dog")], {}, [shot], drawing)
    assert image.shape == (drawing.height, drawing.width, 3)


def test_rows_a_step_and_in_all_are_the_published_ones(tiny):
    # 50 steps of two concepts are 536 rows with the source: 4 in all, and 4 more in those later than 0.3 of them.
    shot, drawing = make_shot(), replace(DRAWING, steps=5)
    with counted_rows(tiny) as rows:
        METHOD.draw(tiny, [learnt(tiny, 1), learnt(tiny, 2, "dog")], {}, [shot], drawing)
    assert rows == [4] * 5 + [4] * 2 + [8] * 3


def test_batches_are_their_shots_one_by_one_and_leave_the_base_bit_for_bit(tiny):
    shots, before = [make_shot(seed) for seed in (1, 2, 3)], fingerprint(tiny)
    concepts = [learnt(tiny, 1), learnt(tiny, 2, "dog")]
    drawing = replace(DRAWING, steps=2)
    together = METHOD.draw(tiny, concepts, {}, shots, replace(drawing, most_rows=16))
    assert same_base(before, fingerprint(tiny))
    for shot, image in list(zip(shots, together, strict=True))[1:]:
        (alone,) = METHOD.draw(tiny, concepts, {}, [shot], drawing)
        # One level for rounding, but for cells at a mask's edge, which it may give to another owner.
        assert (np.abs(image.astype(int) - alone.astype(int)).max(axis=2) <= 1).mean() > 0.95


def test_the_setting_says_when_the_blend_begins_and_how_strong_it_is(tiny):
    shot, concepts = make_shot(2, ("man",)), [learnt(tiny, 1)]
    assert len(METHOD.settings) <= 4

    def draw(**setting):
        return METHOD.draw(tiny, concepts, write_setting(setting), [shot], DRAWING)[0]

    with counted_rows(tiny) as rows:
        late = draw(strength=0.8, start=0.9)
    assert max(rows) == 4
    assert (late != draw(strength=0.8, start=0.3)).any()
    assert (draw(strength=0.4, start=0.3) != draw(strength=0.8, start=0.3)).any()
    assert METHOD.draw(tiny, concepts, {}, [], DRAWING) == []


def test_the_plain_rows_never_carry_a_lora(tiny):
    shot = make_shot(3, ("man",))
    nowhere = owner_masks(torch.zeros(LATENT, dtype=torch.long), 2)
    text = encode_loaded(tiny, [shot.global_prompt], [None])
    plain = denoise_shots(tiny, [shot], DRAWING, predict=guide_plainly(tiny, text, encode_null(tiny)))
    assert torch.allclose(blend(tiny, shot, [1], nowhere, -1.0), plain, atol=1e-4)
    assert omg.METHOD.name == "omg"
