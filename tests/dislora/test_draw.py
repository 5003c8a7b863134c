from dataclasses import replace

import numpy as np
import pytest
import torch

from d2plan.backbone.load import Backbone
from d2plan.dislora.draw import Batch, BatchDraw, split_batch
from d2plan.dislora.lessons import Lessons, prepare_lessons
from d2plan.errors import InputError
from tests.dislora.concept import CHOICES, make_data, make_lessons


def test_every_picture_comes_once_before_any_comes_again(tiny: Backbone) -> None:
    lessons = make_lessons(tiny)
    draw = BatchDraw(lessons, 4, 0.5, 0.25, 1000, 3)
    rows = [draw.draw() for _ in range(60)]
    for batch in rows:
        assert sorted(batch.plain.tolist()) == sorted(lessons.rows[:, 0].tolist())
    joint = torch.cat([torch.isin(batch.own, lessons.rows[:, 2]) for batch in rows]).float().mean()
    dropped = torch.cat([batch.dropped for batch in rows]).float().mean()
    assert 0.4 < joint < 0.6 and 0.15 < dropped < 0.35
    times = torch.cat([batch.timesteps for batch in rows])
    assert times.min() < 50 and times.max() > 950
    for batch in rows:
        # One of each quarter of the schedule, in any order: all timesteps are as likely as ever.
        assert sorted((batch.timesteps // 250).tolist()) == [0, 1, 2, 3]
    firsts = torch.stack([batch.timesteps for batch in rows])[:, 0].float()
    assert 350 < firsts.mean() < 650


def _draw(lessons: Lessons, size: int = 4, null: float = 0.25) -> BatchDraw:
    return BatchDraw(lessons, size, 0.5, null, 1000, 3)


def _equal(first: Batch, second: Batch) -> bool:
    names = ("latents", "noise", "timesteps", "own", "plain", "dropped")
    return all(torch.equal(getattr(first, name), getattr(second, name)) for name in names)


def test_a_restored_draw_goes_on_with_the_same_batches(tiny: Backbone) -> None:
    lessons = make_lessons(tiny, prior_images=1)
    draw = _draw(lessons, 3)
    draw.draw()
    state = draw.state()
    rest = [draw.draw() for _ in range(3)]
    other = _draw(lessons, 3)
    other.restore(state)
    for batch in rest:
        again = other.draw()
        assert _equal(batch, again)
        assert batch.prior is not None and again.prior is not None
        assert torch.equal(batch.prior.noise, again.prior.noise)
    with pytest.raises(InputError, match="random state"):
        other.restore({"generator": torch.zeros(3, dtype=torch.uint8), "drawn": torch.tensor(1)})
    for lacking in ("generator", "drawn"):
        with pytest.raises(InputError, match="random state"):
            other.restore({name: tensor for name, tensor in state.items() if name != lacking})


def test_pictures_of_different_sizes_are_never_in_one_batch(tiny: Backbone) -> None:
    data = make_data()
    wide = np.zeros((64, 128, 3), dtype=np.uint8)
    lessons = prepare_lessons(tiny, replace(data, images=[*data.images[:3], wide]), CHOICES)
    draw = _draw(lessons, 2)
    shapes = [tuple(draw.draw().latents.shape[-2:]) for _ in range(8)]
    assert shapes.count((16, 32)) == 2 and shapes.count((16, 16)) == 6


def test_the_parts_of_a_batch_are_its_rows_in_order_and_share_what_is_shown(tiny: Backbone) -> None:
    batch = replace(_draw(make_lessons(tiny)).draw(), dropped=torch.tensor([True, False, False, False]))
    parts = split_batch(batch, 2)
    assert torch.equal(torch.cat([part.noise for part in parts]), batch.noise)
    assert torch.equal(torch.cat([part.own for part in parts]), batch.own)
    assert [part.share for part in parts] == pytest.approx([2 / 3, 4 / 3])
    assert split_batch(batch, 1)[0].share == 1
    hidden = replace(batch, dropped=torch.ones(4, dtype=torch.bool))
    assert [part.share for part in split_batch(hidden, 2)] == [0, 0]
    with pytest.raises(InputError, match="3 equal parts"):
        split_batch(batch, 3)
