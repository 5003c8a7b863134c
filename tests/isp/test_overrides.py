"""What the user draws: read, checked, and laid out by how much of each cell it covers."""

from pathlib import Path

import numpy as np
import pytest
import torch

from d2plan.documents import Instance
from d2plan.errors import FileError, InputError
from d2plan.isp.overrides import Region, draw_discs, draw_overrides, open_region
from d2plan.media.images import write_png


def _instance(**changes: object) -> Instance:
    return Instance(concept="a", class_word="dog", sub_prompt="a dog", **changes)


def test_a_region_holds_what_the_instance_says(tmp_path: Path) -> None:
    picture = np.zeros((32, 64), dtype=np.uint8)
    picture[:, 32:] = 255
    write_png(tmp_path / "m.png", picture)
    region = open_region(_instance(mask=str(tmp_path / "m.png")), (64, 128))
    assert region.drawn and region.mask.shape == (32, 64) and region.mask.mean() == 0.5
    assert open_region(_instance(point=(0.2, 0.4), position="left"), (64, 64)) == Region(
        "dog", "left", point=(0.2, 0.4)
    )
    assert not open_region(_instance(), (64, 64)).drawn and open_region(_instance(box=(0, 0, 1, 1)), (64, 64)).drawn


def test_a_mask_of_another_shape_is_refused_with_its_field(tmp_path: Path) -> None:
    write_png(tmp_path / "m.png", np.zeros((32, 64), dtype=np.uint8))
    with pytest.raises(InputError, match=r"instances\[1\].mask: .*m.png is 64 x 32 pixels.*128 x 128"):
        open_region(_instance(mask=str(tmp_path / "m.png")), (128, 128), "instances[1].mask")


def test_a_missing_mask_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="gone.png"):
        open_region(_instance(mask=str(tmp_path / "gone.png")), (64, 64))


def test_two_places_for_one_instance_are_refused() -> None:
    with pytest.raises(InputError, match="keep one"):
        Region("dog", box=(0, 0, 1, 1), point=(0.5, 0.5))


def test_a_mask_covers_a_cell_by_its_mean_also_when_it_is_smaller_than_the_latents() -> None:
    mask = torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]])
    assert draw_overrides([Region("dog", mask=mask)], (1, 2)).tolist() == [[[0.75, 0.0]]]
    assert draw_overrides([Region("dog", mask=torch.tensor([[1.0, 0.0]]))], (2, 4)).tolist() == [[[1, 1, 0, 0]] * 2]


def test_of_overlapping_drawings_the_smaller_is_in_front_and_equal_ones_share() -> None:
    full, half = torch.ones(4, 4), torch.cat([torch.ones(4, 2), torch.zeros(4, 2)], dim=1)
    covers = draw_overrides([Region("dog", mask=full), Region("man", box=(0, 0, 0.5, 1))], (4, 4))
    assert torch.equal(covers[1], half) and torch.equal(covers[0], 1 - half)
    shared = draw_overrides([Region("dog", mask=half), Region("man", box=(0, 0, 0.5, 1))], (4, 4))
    assert torch.equal(shared, torch.stack([half, half]) / 2)


def test_an_undrawn_instance_covers_nothing() -> None:
    assert not draw_overrides([Region("dog"), Region("man", point=(0.5, 0.5))], (4, 4)).any()


def test_discs_part_at_half_way_and_hold_their_own_cell() -> None:
    discs = draw_discs([(0.25, 0.5), (0.75, 0.5)], (8, 8), 0.5)
    assert (discs.sum(dim=0) <= 1).all() and torch.equal(discs[0], discs[1].flip(1))
    assert int(draw_discs([(1.0, 1.0)], (8, 8), 0.0)[0, 7, 7]) == 1
