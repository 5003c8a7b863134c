"""The loop: plain guidance is its limit in every direction, batches change nothing, calls are counted."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from d2plan.backbone.load import Backbone
from d2plan.backbone.sdxl import decode_latents, sample_steps
from d2plan.config import IspSettings
from d2plan.documents import Instance, Scene
from d2plan.errors import InputError
from d2plan.isp.loop import COMPOSING, WARMING, compose_many, compose_steps
from d2plan.isp.prepare import PreparedScene, prepare_scene
from tests.isp.concepts import man_and_dog, plain, random_adapter, two_men

SETTINGS = IspSettings(steps=4, guidance_scale=5.0, map_steps=2)
BOXES = ((0.0, 0.2, 0.5, 1.0), (0.5, 0.2, 1.0, 1.0))


def _with_boxes(prepared: PreparedScene, boxes: tuple = BOXES) -> PreparedScene:
    regions = tuple(replace(region, box=box) for region, box in zip(prepared.regions, boxes, strict=True))
    return replace(prepared, regions=regions)


def _compose(backbone: Backbone, *scenes: PreparedScene, settings: IspSettings = SETTINGS) -> list[torch.Tensor]:
    return [composition.latents for composition in compose_many(backbone, scenes, settings)]


def _plain_latents(backbone: Backbone, seed: int = 0, **options: object) -> torch.Tensor:
    *_, last = sample_steps(backbone, "a photo of a man and a dog on the beach", seed, size=(64, 64), **options)
    return last.latents


def _state(module: nn.Module) -> dict[str, object]:
    hooks = {name: len(part._forward_hooks) for name, part in module.named_modules()}
    processors = {name: type(part) for name, part in module.attn_processors.items()}
    return {"hooks": hooks, "processors": processors, **{k: v.clone() for k, v in module.state_dict().items()}}


def _assert_same_state(one: dict[str, object], other: dict[str, object]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]) if isinstance(value, torch.Tensor) else value == other[name], name


@pytest.mark.parametrize("scale", [5.0, 1.0, 0.0])
def test_no_instances_are_the_plain_model_bit_for_bit(tiny: Backbone, scale: float) -> None:
    (composition,) = compose_many(tiny, [plain(tiny, seed=3, guidance_scale=scale)])
    wanted = _plain_latents(tiny, 3, guidance_scale=scale)
    assert torch.equal(composition.latents, wanted)
    assert (composition.image == decode_latents(tiny, wanted)[0]).all()
    assert composition.route == "none" and composition.unet_rows == (8 if scale > 1 else 4)


def test_a_warm_up_to_the_end_is_the_plain_model(tiny: Backbone) -> None:
    (latents,) = _compose(tiny, man_and_dog(tiny, warmup=4))
    assert torch.equal(latents, _plain_latents(tiny))


def test_empty_masks_without_calibration_are_the_plain_model(tiny: Backbone) -> None:
    nowhere = ((0.0, 0.0, 1e-9, 1e-9),) * 2
    scene = _with_boxes(man_and_dog(tiny), nowhere)
    (latents,) = _compose(tiny, scene, settings=replace(SETTINGS, calibrate=False))
    assert torch.allclose(latents, _plain_latents(tiny), atol=1e-4)
    (calibrated,) = _compose(tiny, scene)
    assert not torch.allclose(calibrated, latents, atol=1e-3)


def test_without_the_blend_only_the_calibrated_global_row_counts(tiny: Backbone) -> None:
    off = replace(SETTINGS, compose=False)
    scene = man_and_dog(tiny)
    (blended,) = _compose(tiny, scene)
    (calibrated,) = _compose(tiny, scene, settings=off)
    (bare,) = _compose(tiny, scene, settings=replace(off, calibrate=False))
    assert not torch.allclose(blended, calibrated, atol=1e-3)
    assert not torch.allclose(calibrated, bare, atol=1e-4)
    assert torch.allclose(bare, _plain_latents(tiny), atol=1e-4)


def test_one_instance_over_all_is_that_concept_alone(tiny: Backbone) -> None:
    adapter = random_adapter(tiny, "dog", "<v2>", 2)
    instance = Instance(concept="a", sub_prompt="a <v2> dog", box=(0, 0, 1, 1))
    # At w = 1 the row without the prompt, which the adapter must not touch, cancels out.
    scene = Scene(global_prompt="a dog", instances=(instance,), warmup=0, guidance_scale=1.0, height=64, width=64)
    (latents,) = _compose(tiny, prepare_scene(tiny, scene, [adapter]))
    # The oracle: the same update merged into the weights.
    *_, last = sample_steps(_merge(tiny, adapter), "a <v2> dog", 0, guidance_scale=1.0, size=(64, 64))
    assert torch.allclose(latents, last.latents, atol=1e-3)


def _merge(backbone: Backbone, adapter: object) -> Backbone:
    parts = dict(zip(("unet", "text_encoder", "text_encoder_2"), (backbone.unet, *backbone.text_encoders), strict=True))
    for path, delta in adapter.deltas.items():
        prefix, _, rest = path.partition(".")
        names = dict(parts[prefix].named_modules())
        layer = names.get(rest) or names[rest.removeprefix("text_model.")]
        with torch.no_grad():
            layer.weight += delta.scale * delta.up @ delta.down
    return backbone


def test_many_at_once_equal_one_by_one(tiny: Backbone) -> None:
    scenes = [
        man_and_dog(tiny, 1),
        plain(tiny, 2),
        _with_boxes(man_and_dog(tiny, 3)),
        man_and_dog(tiny, 4, guidance_scale=3.0),
        man_and_dog(tiny, 5, steps=3, height=96),
    ]
    together = compose_many(tiny, scenes, SETTINGS)
    for scene, composition in zip(scenes, together, strict=True):
        (alone,) = compose_many(tiny, [scene], SETTINGS)
        assert torch.allclose(composition.latents, alone.latents, atol=1e-4)
        assert torch.allclose(composition.partition.masks, alone.partition.masks, atol=1e-4)
        assert (composition.unet_calls, composition.unet_rows) == (alone.unet_calls, alone.unet_rows)


def test_a_row_limit_splits_batches_and_changes_nothing(tiny: Backbone) -> None:
    scenes = [man_and_dog(tiny, seed) for seed in range(3)]
    calls = _count_calls(tiny)
    wide = _compose(tiny, *scenes)
    assert [rows for rows in calls] == [6, 6, 12, 12]
    calls.clear()
    narrow = _compose(tiny, *scenes, settings=replace(SETTINGS, most_rows=8))
    assert calls == [4, 4, 8, 8, 2, 2, 4, 4]
    assert all(torch.allclose(one, other, atol=1e-4) for one, other in zip(wide, narrow, strict=True))


def _count_calls(backbone: Backbone) -> list[int]:
    calls: list[int] = []
    backbone.unet.register_forward_pre_hook(lambda module, inputs: calls.append(inputs[0].shape[0]))
    return calls


@pytest.mark.parametrize(("steps", "warmup"), [(4, 2), (3, 0), (3, 3), (1, 0), (5, 1)])
def test_rows_are_two_a_warm_up_step_and_m_plus_two_later(tiny: Backbone, steps: int, warmup: int) -> None:
    calls = _count_calls(tiny)
    (composition,) = compose_many(tiny, [man_and_dog(tiny, steps=steps, warmup=warmup)], SETTINGS)
    assert calls == [2] * warmup + [4] * (steps - warmup)
    assert composition.unet_calls == steps and composition.unet_rows == sum(calls)
    assert composition.partition.masks.shape == (3, 16, 16)


@pytest.mark.parametrize("count", [1, 16])
def test_one_concept_can_stand_up_to_sixteen_times(tiny: Backbone, count: int) -> None:
    prepared = man_and_dog(tiny)
    man, adapter = prepared.scene.instances[0], prepared.adapters[0]
    instances = tuple(man.model_copy(update={"box": (i / count, 0.0, (i + 1) / count, 1.0)}) for i in range(count))
    fields = {"instances": instances, "global_prompt": " ".join(["man"] * count), "steps": 2, "warmup": 1}
    calls = _count_calls(tiny)
    scene = prepare_scene(tiny, prepared.scene.model_copy(update=fields), [adapter] * count)
    (composition,) = compose_many(tiny, [scene], SETTINGS)
    assert calls == [2, count + 2] and torch.isfinite(composition.latents).all()
    assert len({columns.class_positions for columns in scene.columns}) == count


def test_nothing_of_a_run_stays_for_the_next_or_hangs_on_the_threads(tiny: Backbone) -> None:
    (first,) = _compose(tiny, man_and_dog(tiny))
    _compose(tiny, man_and_dog(tiny, seed=5, global_prompt="a dog and a man in the snow"))
    (again,) = _compose(tiny, man_and_dog(tiny))
    assert torch.equal(first, again)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        (more,) = _compose(tiny, man_and_dog(tiny))
    finally:
        torch.set_num_threads(threads)
    assert torch.allclose(first, more, atol=1e-4)


def test_a_class_word_in_the_negative_prompt_is_nobodys(tiny: Backbone) -> None:
    scene, plain_scene = man_and_dog(tiny, negative_prompt="a dog"), man_and_dog(tiny)
    assert scene.columns == plain_scene.columns
    assert not torch.equal(_compose(tiny, scene)[0], _compose(tiny, plain_scene)[0])


def test_the_order_of_different_classes_changes_nothing(tiny: Backbone) -> None:
    prepared = man_and_dog(tiny)
    turned_scene = prepared.scene.model_copy(update={"instances": prepared.scene.instances[::-1]})
    turned = prepare_scene(tiny, turned_scene, prepared.adapters[::-1])
    one, other = compose_many(tiny, [prepared, turned], SETTINGS)
    assert torch.allclose(one.latents, other.latents, atol=1e-4)
    assert torch.allclose(one.partition.masks, other.partition.masks[[0, 2, 1]], atol=1e-4)


@pytest.mark.parametrize(
    "places",
    [
        {"position": ("left", "right")},
        {"box": BOXES},
        {"point": ((0.8, 0.5), (0.2, 0.5))},
        {"position": ("right", "left")},
    ],
)
def test_the_order_of_one_class_changes_nothing_where_positions_are_given(tiny: Backbone, places: dict) -> None:
    one, other = compose_many(tiny, [two_men(tiny, turned, **places) for turned in (False, True)], SETTINGS)
    assert torch.allclose(one.partition.masks, other.partition.masks[[0, 2, 1]], atol=1e-4)
    assert torch.allclose(one.latents, other.latents, atol=1e-4 * float(one.latents.abs().max()))


def test_the_order_of_one_class_is_left_to_right_where_none_are_given(tiny: Backbone) -> None:
    one, other = compose_many(tiny, [two_men(tiny, turned) for turned in (False, True)], SETTINGS)
    assert torch.allclose(one.partition.masks, other.partition.masks, atol=1e-5)
    assert not torch.allclose(one.latents, other.latents, atol=1e-2)


def test_a_prediction_of_no_numbers_is_an_error_and_the_next_run_works(tiny: Backbone) -> None:
    scene = man_and_dog(tiny)
    (before,) = _compose(tiny, scene)
    hook = tiny.unet.conv_out.register_forward_hook(lambda module, inputs, output: output * float("nan"))
    with pytest.raises(InputError, match="no numbers"):
        compose_many(tiny, [scene], SETTINGS)
    hook.remove()
    assert torch.equal(_compose(tiny, scene)[0], before)


def test_the_same_seed_is_the_same_picture_and_another_is_not(tiny: Backbone) -> None:
    first, again, other = (_compose(tiny, man_and_dog(tiny, seed))[0] for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.allclose(first, other, atol=1e-2)


def test_the_model_is_as_before_also_when_the_loop_is_left_early(tiny: Backbone) -> None:
    scene = man_and_dog(tiny)
    before = _state(tiny.unet)
    for stop_after in (1, 3, 99):
        run = compose_steps(tiny, [scene], SETTINGS)
        for step in run:
            if step.step == stop_after:
                break
        run.close()
        _assert_same_state(before, _state(tiny.unet))


def test_progress_counts_every_call_and_names_its_phase(tiny: Backbone) -> None:
    progress = list(compose_steps(tiny, [man_and_dog(tiny), man_and_dog(tiny, steps=3, warmup=1)], SETTINGS))
    assert [step.step for step in progress] == list(range(1, 8)) and {step.total for step in progress} == {7}
    assert [step.phase for step in progress] == [WARMING] * 2 + [COMPOSING] * 2 + [WARMING] + [COMPOSING] * 2


def test_masks_can_be_made_anew_while_composing(tiny: Backbone) -> None:
    scene = man_and_dog(tiny, steps=6)
    kept, fresh = (
        compose_many(tiny, [scene], replace(SETTINGS, refresh_every=every))[0].partition.masks for every in (0, 1)
    )
    assert not torch.equal(kept, fresh)


def test_late_masks_leave_the_first_steps_to_the_calibrated_global_row(tiny: Backbone) -> None:
    scene = _with_boxes(man_and_dog(tiny, steps=6))
    early, late, never = (_compose(tiny, scene, settings=replace(SETTINGS, mask_start=at))[0] for at in (0.0, 0.5, 1.0))
    (row,) = _compose(tiny, scene, settings=replace(SETTINGS, compose=False))
    assert torch.equal(never, row)
    assert not torch.allclose(late, early, atol=1e-3) and not torch.allclose(late, never, atol=1e-3)
    seen = man_and_dog(tiny, steps=6)
    first, anew = (compose_many(tiny, [seen], replace(SETTINGS, mask_start=at))[0].partition.masks for at in (0.0, 0.5))
    assert not torch.equal(first, anew)


def test_softer_masks_are_a_partition_too(tiny: Backbone) -> None:
    scene = _with_boxes(man_and_dog(tiny))
    hard, wide, shared = (
        compose_many(tiny, [scene], replace(SETTINGS, **changes))[0].partition.masks
        for changes in ({}, {"feather": 0.2}, {"mask_weight": 0.6})
    )
    for masks in (hard, wide, shared):
        assert torch.allclose(masks.sum(dim=0), torch.ones(16, 16), atol=1e-6) and masks.min() >= 0
    assert torch.allclose(shared[1:], 0.6 * hard[1:], atol=1e-6)
    assert wide[1:].max() < hard[1:].max() and (wide[1:] > 0).sum() > (hard[1:] > 0).sum()


def test_masks_of_weight_zero_leave_the_global_row_alone(tiny: Backbone) -> None:
    scene = _with_boxes(man_and_dog(tiny))
    (latents,) = _compose(tiny, scene, settings=replace(SETTINGS, mask_weight=0.0, calibrate=False))
    assert torch.allclose(latents, _plain_latents(tiny), atol=1e-4)


def test_maps_are_spread_by_self_attention_unless_that_is_off(tiny: Backbone) -> None:
    scene = man_and_dog(tiny)
    spread, bare = (
        compose_many(tiny, [scene], replace(SETTINGS, refine=on))[0].partition.masks for on in (True, False)
    )
    assert not torch.equal(spread, bare)


def test_calibration_by_a_row_that_looks_alike_changes_nothing(tiny: Backbone) -> None:
    # A_s = A_g: the base itself as the concept, with the global prompt as its sub-prompt.
    silent = replace(random_adapter(tiny, "dog", "", 1), deltas={})
    prompt = "a photo of a dog on the beach"
    scene = Scene(
        global_prompt=prompt,
        instances=(Instance(concept="a", sub_prompt=prompt),),
        warmup=1,
        height=64,
        width=64,
        missing="mark",
    )
    (latents,) = _compose(tiny, prepare_scene(tiny, scene, [silent]), settings=replace(SETTINGS, compose=False))
    *_, last = sample_steps(tiny, prompt, 0, size=(64, 64))
    assert torch.allclose(latents, last.latents, atol=1e-4)


def test_a_scene_that_calls_a_missing_instance_an_error_raises_and_restores_the_model(tiny: Backbone) -> None:
    scene = _with_boxes(man_and_dog(tiny, missing="error"), ((0.0, 0.0, 1e-9, 1e-9), BOXES[1]))
    before = _state(tiny.unet)
    with pytest.raises(InputError, match=r"instances\[0\].*got no area"):
        compose_many(tiny, [scene], SETTINGS)
    _assert_same_state(before, _state(tiny.unet))


def test_an_instance_without_an_area_is_said_in_the_warnings(tiny: Backbone) -> None:
    nowhere = (BOXES[0], (0.0, 0.0, 1e-9, 1e-9))
    (composition,) = compose_many(tiny, [_with_boxes(man_and_dog(tiny), nowhere)], SETTINGS)
    notes = [warning for warning in composition.warnings if "instances[1]" in warning]
    assert len(notes) == 1 and composition.masks.empty == (1,)
