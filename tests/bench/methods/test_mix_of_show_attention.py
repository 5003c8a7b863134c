"""Regional cross-attention against the same attention written out, and the loss that holds words to the mask."""

import pytest
import torch

from d2plan.backbone.sdxl import encode_prompts, predict, time_ids
from d2plan.bench.methods.mix_of_show_attention import Regions, cover_boxes, hold_words, read_regions
from d2plan.bench.methods.mix_of_show_words import repeat_layers
from d2plan.bench.methods.p_plus import feed_layers, find_layers
from d2plan.errors import ShapeError

WHOLE, LEFT, RIGHT = (0.0, 0.0, 1.0, 1.0), (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)


@pytest.fixture
def call(tiny):
    latents = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))

    def run(prompts, regions=None):
        with torch.no_grad():
            text = repeat_layers(tiny, encode_prompts(tiny, prompts))
            with feed_layers(tiny.unet):
                if regions is None:
                    return predict(tiny, latents, 500, text, time_ids(tiny, 2))
                with read_regions(tiny.unet, regions):
                    return predict(tiny, latents, 500, text, time_ids(tiny, 2))

    return run


def regions_of(base, prompts, boxes):
    with torch.no_grad():
        return Regions(repeat_layers(base, encode_prompts(base, prompts)).states[None], [boxes], (16, 16))


def test_regions_that_read_the_rows_own_prompt_change_nothing(tiny, call):
    regions = regions_of(tiny, ["a dog", "a dog"], [LEFT, WHOLE])
    assert torch.allclose(call(["a cat", "a dog"], regions), call(["a cat", "a dog"]), atol=1e-5)


def test_a_region_that_is_the_whole_picture_hides_the_rows_own_prompt(tiny, call):
    regions = regions_of(tiny, ["a dog"], [WHOLE])
    mixed = call(["a cat", "a cat"], regions)
    # The pooled vector is the row's own, so only cross-attention is compared: with it as it is in both rows.
    layer = find_layers(tiny.unet)[0]
    states = torch.randn(2, 64, layer.to_q.in_features, generator=torch.Generator().manual_seed(1))
    cat, dog = (repeat_layers(tiny, encode_prompts(tiny, [prompt])).states for prompt in ("a cat", "a dog"))
    with torch.no_grad(), feed_layers(tiny.unet):
        plain = layer(states, encoder_hidden_states=torch.cat([cat, dog]))
        with read_regions(tiny.unet, regions):
            hidden = layer(states, encoder_hidden_states=torch.cat([cat, cat]))
    assert torch.allclose(hidden, plain, atol=1e-5)
    # The other row is left alone.
    assert torch.allclose(mixed[0], call(["a cat", "a cat"])[0], atol=1e-5)
    assert not torch.allclose(mixed[1], call(["a cat", "a cat"])[1], atol=1e-4)


def test_each_cell_reads_its_boxes_and_the_mean_of_several(tiny):
    layer = find_layers(tiny.unet)[0]
    states = torch.randn(1, 64, layer.to_q.in_features, generator=torch.Generator().manual_seed(1))
    regions = regions_of(tiny, ["a dog", "a red car"], [LEFT, (0.25, 0.0, 0.75, 1.0)])
    with torch.no_grad(), feed_layers(tiny.unet):
        alone = {
            prompt: layer(states, encoder_hidden_states=repeat_layers(tiny, encode_prompts(tiny, [prompt])).states)
            for prompt in ("a cat", "a dog", "a red car")
        }
        whole = repeat_layers(tiny, encode_prompts(tiny, ["a cat"])).states
        with read_regions(tiny.unet, regions):
            mixed = layer(states, encoder_hidden_states=whole)
    grid = {prompt: told.view(8, 8, -1) for prompt, told in alone.items()}
    # to_out is linear: the mean of answers is the answer of means.
    both = (grid["a dog"] + grid["a red car"]) / 2
    expected = torch.cat([grid["a dog"][:, :2], both[:, 2:4], grid["a red car"][:, 4:6], grid["a cat"][:, 6:]], dim=1)
    assert torch.allclose(mixed.view(8, 8, -1), expected, atol=1e-5)


def test_the_processors_are_as_before_also_after_an_error(tiny):
    before = dict(tiny.unet.attn_processors)
    regions = regions_of(tiny, ["a dog"], [WHOLE])
    with pytest.raises(RuntimeError, match="stop"), read_regions(tiny.unet, regions):
        assert tiny.unet.attn_processors != before
        raise RuntimeError("stop")
    assert tiny.unet.attn_processors == before


def test_only_cells_wholly_inside_a_box_belong_to_it():
    covered = cover_boxes([(0.1, 0.0, 0.6, 0.9), (0.4, 0.4, 0.45, 0.45)], (4, 4))
    assert covered[0].int().tolist() == [[0, 1, 0, 0]] * 3 + [[0] * 4]
    assert not covered[1].any()


def test_chosen_shots_get_their_own_boxes_on_odd_grids_too():
    regions = Regions(torch.zeros(2, 1, 3, 4), [[LEFT], [RIGHT]], (9, 6))
    regions.choose([1])
    assert regions.cover(15).view(5, 3).int().tolist() == [[0, 0, 1]] * 5
    regions.choose([0, 1])
    assert regions.cover(54).shape == (2, 1, 54)
    with pytest.raises(ShapeError, match="17 cells"):
        regions.cover(17)


def test_words_that_look_where_they_should_cost_nothing():
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[:, :2] = True
    assert float(hold_words(0.3 * mask.float(), 0.7 * mask.float(), mask)) == 0


def test_words_that_look_elsewhere_cost_what_lies_outside_and_the_distance_from_the_mask():
    mask = torch.zeros(2, 2, 2, dtype=torch.bool)
    mask[0, 0] = True
    random_map = torch.tensor([[[0.2, 0.4], [0.1, 0.2]]]).repeat(2, 1, 1)
    class_map = torch.tensor([[[0.5, 0.5], [0.25, 0.0]]]).repeat(2, 1, 1)
    # Over their largest: outside 0.25 and 0.5, mean 0.375; the class word's map is off by 0.5 in one cell of four.
    assert float(hold_words(random_map, class_map, mask)) == pytest.approx(0.375 + 0.25 / 4)
    # The second row has no subject and does not count; nor does one that is all subject.
    assert float(hold_words(random_map[1:], class_map[1:], mask[1:])) == 0
    assert float(hold_words(random_map[:1], class_map[:1], ~mask[1:])) == 0
