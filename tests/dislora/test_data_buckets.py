import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from d2plan.backbone.load import Backbone
from d2plan.backbone.sdxl import encode_images, null_states, predict, time_ids
from d2plan.dislora.data_buckets import choose_bucket, draw_rows, plan_buckets
from d2plan.errors import InputError


def test_buckets_of_sdxl_hold_about_a_megapixel_in_steps_of_32() -> None:
    buckets = plan_buckets(1024, 1024, 32)
    assert buckets[0] == (1024, 1024) and len(set(buckets)) == len(buckets) == 11
    assert all(height % 32 == 0 and width % 32 == 0 for height, width in buckets)
    assert all(abs(height * width / 2**20 - 1) < 0.03 for height, width in buckets)
    assert {(width, height) for height, width in buckets} == set(buckets), "upright and lying ones alike"


@given(st.integers(1, 20), st.integers(1, 20), st.sampled_from([8, 16, 32, 64]))
def test_buckets_fit_any_base_and_hold_its_own_size_first(rows: int, columns: int, step: int) -> None:
    buckets = plan_buckets(rows * step, columns * step, step)
    assert buckets[0] == (rows * step, columns * step)
    assert all(height % step == 0 and width % step == 0 and min(height, width) >= step for height, width in buckets)


def test_every_bucket_passes_through_vae_and_unet(tiny: Backbone) -> None:
    step = tiny.latent_scale * 2 ** (len(tiny.unet.config.block_out_channels) - 1)
    for height, width in plan_buckets(64, 96, step):
        latents = encode_images(tiny, np.zeros((1, height, width, 3), np.uint8))
        ids = time_ids(tiny, 1, (height, width))
        with torch.no_grad():
            assert predict(tiny, latents, torch.tensor([3]), null_states(tiny, 1), ids).shape == latents.shape


def test_a_base_whose_size_is_no_multiple_of_the_step_has_that_size_alone() -> None:
    assert plan_buckets(1000, 1024, 64) == ((1000, 1024),)
    for height, width, step in ((0, 64, 64), (64, -64, 64), (64, 64, 0)):
        with pytest.raises(InputError, match="buckets"):
            plan_buckets(height, width, step)


def test_a_picture_goes_to_the_bucket_of_its_shape() -> None:
    buckets = plan_buckets(1024, 1024, 64)
    assert choose_bucket(3000, 4000, buckets) == (896, 1152)
    assert choose_bucket(4000, 3000, buckets) == (1152, 896)
    assert choose_bucket(767, 767, buckets) == (1024, 1024)
    assert choose_bucket(1080, 1920, buckets) == (768, 1344)
    assert choose_bucket(100, 400, buckets) == (704, 1472)
    assert choose_bucket(9, 9, [(64, 64), (128, 128)]) == (64, 64), "the first of equals"


@given(
    st.lists(st.sampled_from(["square", "high", "wide"]), min_size=1, max_size=12),
    st.integers(0, 2**63 - 1),
    st.integers(1, 5),
    st.integers(0, 3),
)
def test_in_a_cycle_every_picture_comes_equally_often_and_batches_are_of_one_size(
    groups: list[str], seed: int, count: int, cycle: int
) -> None:
    batches = [draw_rows(groups, seed, cycle * len(groups) + turn, count) for turn in range(len(groups))]
    assert all(len(batch) == count for batch in batches)
    assert all(len({groups[row] for row in batch}) == 1 for batch in batches)
    assert Counter(row for batch in batches for row in batch) == {row: count for row in range(len(groups))}


def test_each_picture_comes_once_before_any_comes_again() -> None:
    rows = [row for step in range(35) for row in draw_rows(["one"] * 7, 3, step, 2)]
    assert all(sorted(rows[start : start + 7]) == list(range(7)) for start in range(0, 70, 7))


def test_a_batch_is_a_function_of_seed_and_step_alone() -> None:
    groups = [(64, 64)] * 5 + [(96, 48)] * 3
    forwards = [draw_rows(groups, 9, step, 3) for step in range(40)]
    backwards = [draw_rows(groups, 9, step, 3) for step in reversed(range(40))][::-1]
    np.random.seed(1)
    assert forwards == backwards
    assert forwards != [draw_rows(groups, 10, step, 3) for step in range(40)]
    assert forwards[:8] != forwards[8:16], "each cycle has an order of its own"


def test_sizes_are_spread_evenly_over_a_cycle() -> None:
    groups = ["square"] * 12 + ["wide"] * 4
    orders = set()
    for seed in range(20):
        turns = [groups[draw_rows(groups, seed, step, 2)[0]] for step in range(16)]
        quarters = [turns[start : start + 4] for start in range(0, 16, 4)]
        assert all(quarter.count("wide") == 1 for quarter in quarters)
        orders.add(tuple(turns))
    assert len(orders) > 10


@pytest.mark.parametrize(
    ("groups", "seed", "step", "count"), [([], 0, 0, 1), ("a", -1, 0, 1), ("a", 0, -1, 1), ("a", 0, 0, 0)]
)
def test_what_makes_no_batch_is_refused(groups: list[str], seed: int, step: int, count: int) -> None:
    with pytest.raises(InputError, match="batch"):
        draw_rows(groups, seed, step, count)


def test_a_batch_larger_than_a_size_shows_its_pictures_again() -> None:
    assert sorted(draw_rows(["only"], 0, 0, 4)) == [0, 0, 0, 0]
    counts = Counter(draw_rows(["a"] * 3, 0, 0, 8))
    assert max(counts.values()) - min(counts.values()) <= 1 and math.isclose(sum(counts.values()), 8)
