"""A picture that variants keep where they say the same: exactly there, and nowhere else."""

from dataclasses import replace

import pytest
import torch

from d2plan.backbone.load import Backbone
from d2plan.backbone.schedulers import SCHEDULERS
from d2plan.config import IspSettings
from d2plan.errors import InputError
from d2plan.isp.engine import EngineOptions
from d2plan.isp.keep import find_room, join_masks, list_changed, narrow_room
from d2plan.isp.loop import KeptPicture, compose_many, compose_steps, keep
from d2plan.isp.partition import MaskResult, make_partition
from d2plan.isp.prepare import PreparedScene, prepare_scene
from tests.isp.concepts import man_and_dog, plain, random_adapter

SETTINGS = IspSettings(steps=4, guidance_scale=5.0, map_steps=2)


def _variant(backbone: Backbone, prompt: str = "a photo of a <v2> dog running", **changes: object) -> PreparedScene:
    prepared = man_and_dog(backbone, weave="all", **changes)
    first, second = prepared.scene.instances
    instances = (first, second.model_copy(update={"sub_prompt": prompt}))
    return prepare_scene(backbone, prepared.scene.model_copy(update={"instances": instances}), prepared.adapters)


def _sitting(backbone: Backbone, **changes: object) -> PreparedScene:
    return _variant(backbone, "a photo of a <v2> dog sitting", **changes)


def _masks(areas: list[list[float]], routes: tuple[str, ...] = ("box", "box")) -> MaskResult:
    """Masks of one row of cells."""
    return MaskResult(make_partition(torch.tensor(areas)[:, None]), routes, (0.5,) * len(areas), ())


@pytest.mark.parametrize("memory", ["rows", "low", "merged"])
def test_what_a_variant_does_not_change_stays_exactly(tiny: Backbone, memory: str) -> None:
    options = EngineOptions(memory)  # type: ignore[arg-type]
    kept = keep(tiny, _variant(tiny), SETTINGS, options)
    (one,) = compose_many(tiny, [_sitting(tiny)], SETTINGS, options, kept)
    room = find_room(one.masks, (False, True))
    assert 0 < room.mean() < 1
    changed = (one.latents[0] != kept.trajectory[-1]).any(dim=0)
    assert not changed[room == 0].any()
    assert changed[room > 0].float().mean() > 0.9
    assert torch.equal(one.partition.masks[1], kept.masks.partition.masks[1])


def test_a_variant_that_changes_nothing_is_the_kept_picture_and_costs_nothing(tiny: Backbone) -> None:
    scene = _variant(tiny)
    kept = keep(tiny, scene, SETTINGS)
    (alone,) = compose_many(tiny, [scene], SETTINGS)
    same, other = compose_many(tiny, [scene, _sitting(tiny)], SETTINGS, shared=kept)
    assert torch.equal(same.latents, alone.latents) and (same.image == alone.image).all()
    assert same.masks is kept.masks and same.unet_rows == 0
    rows = 2 * 2 + 4 * 2
    assert (kept.unet_rows, other.unet_rows) == (rows, rows)


def test_two_concepts_in_memory_under_one_name_keep_each_its_own_picture(tiny: Backbone) -> None:
    base = _variant(tiny)
    other = replace(base, adapters=(random_adapter(tiny, "man", "<v1>", 77), base.adapters[1]))
    scenes = [replace(_sitting(tiny), adapters=one.adapters, kept=one) for one in (base, other)]
    together = compose_many(tiny, scenes, SETTINGS)
    alone = [compose_many(tiny, [scene], SETTINGS)[0] for scene in scenes]
    for one, single in zip(together, alone, strict=True):
        assert torch.allclose(one.latents, single.latents, atol=1e-4)
    assert not torch.allclose(together[0].latents, together[1].latents, atol=1e-2)


def test_a_scene_that_names_what_it_keeps_gets_it_made_once(tiny: Backbone) -> None:
    base = _variant(tiny)
    scenes = [replace(_sitting(tiny), kept=base), replace(base, kept=replace(base)), _sitting(tiny)]
    steps = []
    run = compose_steps(tiny, scenes, SETTINGS)
    while True:
        try:
            steps.append(next(run))
        except StopIteration as end:
            variant, same, alone = end.value
            break
    # The kept picture, the variant, and the scene that stands alone; the one that changes nothing takes none.
    assert [(step.step, step.total) for step in steps] == [(number, 12) for number in range(1, 13)]
    (shared,) = compose_many(tiny, [_sitting(tiny)], SETTINGS, shared=keep(tiny, base, SETTINGS))
    assert torch.equal(variant.latents, shared.latents)
    assert torch.equal(same.latents, keep(tiny, base, SETTINGS).trajectory[-1:])
    assert not torch.equal(alone.latents, variant.latents)
    # The first of the kept picture's two pays for it.
    rows = 2 * 2 + 4 * 2
    assert [(one.unet_calls, one.unet_rows) for one in (variant, same, alone)] == [(8, 2 * rows), (0, 0), (4, rows)]


@pytest.mark.parametrize("name", ["EulerAncestralDiscreteScheduler", "DPMSolverMultistepScheduler", "PNDMScheduler"])
def test_samplers_with_noise_or_several_calls_a_step_keep_too(tiny: Backbone, name: str) -> None:
    base = replace(tiny, scheduler=SCHEDULERS[name].from_config(dict(tiny.scheduler.config)))
    kept = keep(base, _variant(base, steps=6, warmup=3), SETTINGS)
    (one,) = compose_many(base, [_sitting(base, steps=6, warmup=3)], SETTINGS, shared=kept)
    room = find_room(one.masks, (False, True))
    assert torch.equal(one.latents[0][:, room == 0], kept.trajectory[-1][:, room == 0])


@pytest.mark.parametrize(
    "changes", [{"warmup": 0}, {"settings": {"refresh_every": 1}}, {"settings": {"mask_start": 0.5}}]
)
def test_it_holds_whenever_masks_are_made(tiny: Backbone, changes: dict) -> None:
    settings = replace(SETTINGS, **changes.pop("settings", {}))
    kept = keep(tiny, _variant(tiny, **changes), settings)
    (one,) = compose_many(tiny, [_sitting(tiny, **changes)], settings, shared=kept)
    room = find_room(one.masks, (False, True))
    assert torch.equal(one.latents[0][:, room == 0], kept.trajectory[-1][:, room == 0])


def test_in_columns_only_what_becomes_another_thing_leaves_the_kept_picture(tiny: Backbone) -> None:
    settings = replace(SETTINGS, steps=8)
    kept = keep(tiny, _variant(tiny, masks="columns", steps=8), settings)
    (one,) = compose_many(tiny, [_sitting(tiny, masks="columns", steps=8)], settings, shared=kept)
    assert one.masks.routes == ("column", "column")
    assert torch.equal(one.partition.masks, kept.masks.partition.masks)
    column = find_room(one.masks, (False, True)) > 0
    changed = (one.latents[0] != kept.trajectory[-1]).any(dim=0)
    assert changed.any() and not changed[~column].any()
    # The scene behind the figure stays too.
    assert changed.float().mean() < 0.9 * column.float().mean()


def test_a_room_is_narrowed_to_what_comes_out_another_way() -> None:
    room, was = torch.zeros(32, 32), torch.randn(4, 32, 32, generator=torch.Generator().manual_seed(0))
    room[:, 16:] = 1
    now = was + 0.01 * torch.randn(4, 32, 32, generator=torch.Generator().manual_seed(1))
    now[:, 10:16, 20:24] += 1
    now[:, 10:16, 4:8] += 1
    narrow = narrow_room(room, room[None], now, was)
    assert (narrow[10:16, 20:24] == 1).all() and (narrow <= room).all()
    assert not narrow[:5].any() and not narrow[22:].any() and not narrow[:, :16].any()
    assert narrow_room(room, room[None], was, was).equal(room), "nothing differs yet"


def test_a_small_change_stays_beside_a_large_one() -> None:
    was = torch.randn(4, 32, 32, generator=torch.Generator().manual_seed(0))
    now = was + 0.01 * torch.randn(4, 32, 32, generator=torch.Generator().manual_seed(1))
    now[:, 4:28, 18:30] += 3
    now[:, 8:10, 4:8] += 0.3
    areas = torch.zeros(2, 32, 32)
    areas[0, :, :16] = areas[1, :, 16:] = 1
    room = torch.ones(32, 32)
    assert (narrow_room(room, areas, now, was)[8:10, 4:8] == 1).all()
    assert not narrow_room(room, room[None], now, was)[8:10, 4:8].any(), "one threshold for both loses it"


def test_what_counts_as_changed(tiny: Backbone) -> None:
    scene = _variant(tiny)
    assert list_changed(scene, _variant(tiny)) == (False, False)
    assert list_changed(_sitting(tiny), scene) == (False, True)
    first, second = scene.scene.instances
    weaker = scene.scene.model_copy(update={"instances": (first.model_copy(update={"strength": 0.5}), second)})
    assert list_changed(replace(scene, scene=weaker), scene) == (True, False)


def test_changed_masks_take_the_old_room_and_the_new_but_nobody_elses() -> None:
    kept = _masks([[1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0]])
    own = _masks([[0, 1, 0, 0, 0, 1], [0, 0, 0, 1, 1, 0]], ("attention", "attention"))
    joined = join_masks(own, kept, (False, True))
    assert joined.partition.masks[1:, 0].tolist() == [[1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 1, 0]]
    assert joined.routes == ("box", "attention")
    both = join_masks(own, kept, (True, True))
    assert both.partition.masks[1:, 0].tolist() == [[1, 1, 0, 0, 0, 1], [0, 0, 1, 1, 1, 0]]
    assert join_masks(own, kept, (False, False)).partition.masks.equal(kept.partition.masks)


def test_one_that_is_not_seen_in_the_variant_has_its_old_place() -> None:
    kept = _masks([[1, 1, 0, 0], [0, 0, 1, 0]])
    own = _masks([[1, 1, 0, 0], [0, 0, 0, 0]], ("attention", "empty"))
    joined = join_masks(own, kept, (False, True))
    assert joined.partition.masks[2, 0].tolist() == [0, 0, 1, 0] and joined.routes == ("box", "box")


def test_an_area_on_the_other_side_is_not_taken() -> None:
    kept, own = _masks([[1, 1, 0, 0], [0, 0, 1, 0]]), _masks([[0, 0, 1, 1], [1, 1, 0, 0]])
    assert join_masks(own, kept, (False, True)).partition.masks.equal(kept.partition.masks)
    assert join_masks(own, kept, (True, True)).partition.masks.equal(kept.partition.masks)


def test_room_reaches_a_sixteenth_beyond_the_masks() -> None:
    area = torch.zeros(2, 32, 32)
    area[0, 10:20, 10:20] = 1
    area[1, 0:4, 0:4] = 1
    masks = MaskResult(make_partition(area), ("box", "box"), (1, 1), ())
    room = find_room(masks, (True, False))
    wanted = torch.zeros(32, 32)
    wanted[8:22, 8:22] = 1
    assert room.equal(wanted)
    assert not find_room(masks, (False, False)).any()


def test_a_scene_of_another_layout_is_no_variant(tiny: Backbone) -> None:
    kept = keep(tiny, _variant(tiny), SETTINGS)
    assert isinstance(kept, KeptPicture)
    with pytest.raises(InputError, match=r"variants\[0\] has another seed"):
        compose_steps(tiny, [_variant(tiny, seed=5)], SETTINGS, shared=kept)
    with pytest.raises(InputError, match="instances is empty"):
        keep(tiny, plain(tiny), SETTINGS)


def test_room_fades_where_a_neighbour_stands_that_stays() -> None:
    area = torch.zeros(2, 32, 32)
    area[0, :, 8:16] = 1
    area[1, :, 16:24] = 1
    area[:, :, 15] = torch.tensor([0.75, 0.25])[:, None]
    area[:, :, 16] = torch.tensor([0.25, 0.75])[:, None]
    masks = MaskResult(make_partition(area), ("box", "box"), (1, 1), ())
    assert find_room(masks, (True, False))[0].tolist() == [0] * 6 + [1] * 9 + [0.75, 0.25] + [0] * 15
    assert find_room(masks, (False, True))[0].tolist() == [0] * 15 + [0.25, 0.75] + [1] * 9 + [0] * 6
    # Nobody stays, so the room is as wide as it was.
    assert find_room(masks, (True, True))[0].tolist() == [0] * 6 + [1] * 20 + [0] * 6


def test_notes_tell_of_each_instance_what_the_masks_say_that_it_has() -> None:
    note = 'instances[{}] ("{}"): {}.'.format
    both = 'The masks of the route "detect" come from eyes.'
    kept = _masks([[1, 1, 0, 0], [0, 0, 1, 1]])
    kept = replace(kept, notes=(note(0, "man", "cut by place"), note(1, "dog", "a disc"), both))
    own = replace(_masks([[1, 1, 0, 0], [0, 0, 1, 1]]), notes=(note(1, "dog", "the middle third"), both))
    assert join_masks(own, kept, (True, False)).notes == (note(1, "dog", "a disc"), both)
    assert join_masks(own, kept, (False, True)).notes == (
        note(0, "man", "cut by place"),
        both,
        note(1, "dog", "the middle third"),
    )
    lost = replace(own, routes=("box", "empty"), notes=('instances[1] ("dog") got no area: nothing was found.',))
    *rest, last = join_masks(lost, kept, (False, True)).notes
    assert rest == list(kept.notes)
    assert last.startswith("instances[1]: nothing of it was found in the variant")


def test_one_that_the_kept_picture_lacks_gets_the_room_that_the_variant_finds() -> None:
    kept = replace(_masks([[1, 1, 0, 0], [0, 0, 0, 0]], ("box", "empty")), notes=('instances[1] ("dog") got no area.',))
    joined = join_masks(_masks([[1, 0, 0, 0], [0, 1, 1, 0]], ("box", "attention")), kept, (False, True))
    assert joined.partition.masks[2, 0].tolist() == [0, 0, 1, 0]
    assert joined.routes == ("box", "attention") and joined.notes == ()
