"""What is drawn and what is told of it are the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d2plan.errors import InputError
from d2plan.world.cast import ACTIONS, CLASSES, SPECIES, identity_from_seed
from d2plan.world.scene import Figure, WorldScene, sample_scene
from d2plan.world.scenery import paint_place
from d2plan.world.seeds import stream_rng
from d2plan.world.truth import render

PERSON = {"head", "neck"} | {
    f"{joint}_{side}" for joint in ("shoulder", "elbow", "hand", "hip", "knee", "foot") for side in "lr"
}
QUADRUPED = {"head", "neck", "back", "tail", "paw_1", "paw_2", "paw_3", "paw_4"}
POINTS = {
    **dict.fromkeys(("man", "woman", "boy", "girl"), PERSON),
    **dict.fromkeys(("dog", "cat"), QUADRUPED),
    "bird": {"head", "neck", "tail", "wing", "foot_l", "foot_r"},
    "robot": PERSON | {"centre"},
    "teapot": {"base", "centre", "handle", "lid", "spout"},
    "car": {"centre", "nose", "roof", "wheel_back", "wheel_front"},
    "backpack": {"centre", "flap", "pocket", "side_l", "side_r"},
}


def stand(word: str, x: float = 0.5, ground: float = 0.9, action: str | None = None, height: float = 0.6) -> Figure:
    identity = identity_from_seed(word, 7)
    return Figure(identity, action or ACTIONS[word][0], None, None, x, ground, height * SPECIES[word].size, 1)


def scene_of(*figures: Figure) -> WorldScene:
    return WorldScene("meadow", "day", figures, 5)


@pytest.mark.parametrize("seed", range(4))
def test_the_same_scene_gives_the_same_bytes(seed: int) -> None:
    first, second = (render(sample_scene(stream_rng("heldout", seed))) for _ in range(2))
    for name in ("image", "masks", "boxes", "depth"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes()
    assert first.skeletons == second.skeletons


@settings(max_examples=20)
@given(st.integers(0, 2**31))
def test_masks_are_disjoint_boxes_tight_and_shapes_right(seed: int) -> None:
    scene = sample_scene(stream_rng("heldout", seed))
    truth = render(scene, 64)
    count = len(scene.figures)
    assert (truth.image.shape, truth.image.dtype) == ((64, 64, 3), np.uint8)
    assert (truth.masks.shape, truth.masks.dtype) == ((count, 64, 64), np.float32)
    assert (truth.boxes.shape, truth.depth.shape, len(truth.skeletons)) == ((count, 4), (64, 64), count)
    assert truth.masks.min() >= 0
    assert truth.masks.sum(0).max() <= 1 + 1e-6
    assert 0 <= truth.depth.min() <= truth.depth.max() <= 1
    for mask, box in zip(truth.masks > 0.5, truth.boxes.astype(int), strict=True):
        x0, y0, x1, y1 = box
        assert mask.sum() == mask[y0:y1, x0:x1].sum() > 0
        assert mask[y0].any()
        assert mask[y1 - 1].any()
        assert mask[:, x0].any()
        assert mask[:, x1 - 1].any()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_nearer_figure_hides_the_farther_one(order: tuple[int, int]) -> None:
    near, far = stand("car", ground=0.95), stand("man", x=0.55, ground=0.85)
    both = (near, far)
    alone = [render(scene_of(figure)).masks[0] for figure in both]
    truth = render(scene_of(*(both[place] for place in order)))
    front, back = (truth.masks[order.index(place)] for place in (0, 1))
    overlap = (alone[0] > 0.99) & (alone[1] > 0.99)
    assert overlap.sum() > 200
    assert np.array_equal(front, alone[0])
    assert back[overlap].max() == 0
    assert np.array_equal(back[alone[0] == 0], alone[1][alone[0] == 0])
    assert (back <= alone[1]).all()


def test_a_mask_is_where_the_picture_differs_from_the_empty_place() -> None:
    empty = render(scene_of()).image.astype(int)
    for word in CLASSES:
        truth = render(scene_of(stand(word)))
        changed = np.abs(truth.image.astype(int) - empty).max(2) > 0
        assert not changed[truth.masks[0] == 0].any()
        # A colour of the figure may be the backdrop's by chance, but not often.
        assert changed[truth.masks[0] > 0.5].mean() > 0.9


def test_an_empty_scene_is_the_place_alone() -> None:
    scene = scene_of()
    truth = render(scene, 96)
    place = paint_place("meadow", "day", (288, 288), np.random.default_rng(scene.seed)).picture.reduce(3)
    assert np.array_equal(truth.image, np.asarray(place))
    assert (truth.masks.shape, truth.boxes.shape, truth.skeletons) == ((0, 96, 96), (0, 4), ())
    assert (np.diff(truth.depth[:, 0]) <= 0).all()


def test_nearer_figures_have_smaller_depth() -> None:
    truth = render(
        scene_of(stand("dog", x=0.3, ground=0.96, height=0.4), stand("cat", x=0.75, ground=0.86, height=0.4))
    )
    near, far = (truth.depth[mask > 0.99] for mask in truth.masks)
    assert np.ptp(near) < 1e-4 > np.ptp(far)
    assert near.mean() < far.mean()


def test_a_figure_outside_the_picture_has_an_empty_box() -> None:
    truth = render(scene_of(stand("dog"), stand("cat", x=3.0)))
    assert truth.boxes[1].tolist() == [0, 0, 0, 0]
    assert not truth.masks[1].any()


@pytest.mark.parametrize("word", CLASSES)
def test_every_action_of_a_class_has_the_same_key_points_near_the_figure(word: str) -> None:
    for action in ACTIONS[word]:
        truth = render(scene_of(stand(word, action=action)))
        assert set(truth.skeletons[0]) == POINTS[word]
        rows, columns = np.nonzero(truth.masks[0] > 0.05)
        for x, y in truth.skeletons[0].values():
            assert np.hypot(columns + 0.5 - x, rows + 0.5 - y).min() < 4


def test_a_larger_picture_shows_the_same() -> None:
    scene = sample_scene(stream_rng("heldout", 8))
    small, large = render(scene, 64), render(scene, 128)
    shrunk = large.image.reshape(64, 2, 64, 2, 3).mean((1, 3))
    assert np.abs(shrunk - small.image).mean() < 5
    assert np.allclose(large.boxes / 2, small.boxes, atol=1.5)


def test_turning_round_mirrors_the_figure_and_its_key_points() -> None:
    figure = stand("dog", action="running")
    right, left = render(scene_of(figure)), render(scene_of(replace(figure, facing=-1)))
    assert np.abs(right.masks[0][:, ::-1] - left.masks[0]).mean() < 0.01
    for name, (x, y) in right.skeletons[0].items():
        assert left.skeletons[0][name] == pytest.approx((128 - x, y))


@pytest.mark.parametrize("size", [15, 4097, 0, -1])
def test_a_size_out_of_range_is_refused(size: int) -> None:
    with pytest.raises(InputError, match="outside 16..4096"):
        render(scene_of(), size)


def test_too_many_figures_are_refused() -> None:
    with pytest.raises(InputError, match="201 are too many"):
        render(scene_of(*[stand("dog")] * 201))
