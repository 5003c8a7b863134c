"""The ways to run the rows: all agree, prompts are read once, nothing large stays, nothing grows."""

import gc
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from d2plan.adapter import merged
from d2plan.adapter.adapter import Delta
from d2plan.adapter.merged import merged_rows
from d2plan.backbone.attention import read_text, tap_columns
from d2plan.backbone.columns import TapPlan
from d2plan.backbone.load import Backbone
from d2plan.backbone.schedulers import SCHEDULERS
from d2plan.backbone.sdxl import draw_noise, encode_prompts, predict, sample_steps, time_ids
from d2plan.config import IspSettings
from d2plan.documents import Style
from d2plan.errors import InputError
from d2plan.isp.engine import EngineOptions, lay_rows, open_engine
from d2plan.isp.loop import compose_many, compose_steps
from d2plan.isp.prepare import Extras, PreparedScene, prepare_scene
from tests.isp.concepts import man_and_dog, plain, random_adapter

SETTINGS = IspSettings(steps=4, guidance_scale=5.0, map_steps=2)
LOW, MERGED = EngineOptions("low"), EngineOptions("merged")


def _compose(
    backbone: Backbone, scene: PreparedScene, options: EngineOptions | None = None, **changes: object
) -> Tensor:
    (composition,) = compose_many(backbone, [scene], replace(SETTINGS, **changes), options)
    return composition.latents


def _distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max())


def _state(module: nn.Module) -> dict[str, object]:
    hooks = {name: len(part._forward_hooks) for name, part in module.named_modules()}
    forwards = {name: "forward" in vars(part) for name, part in module.named_modules()}
    processors = {name: id(part) for name, part in module.attn_processors.items()}
    return {"hooks": hooks, "forwards": forwards, "processors": processors, **module.state_dict()}


@pytest.mark.parametrize("values", ["global", "sub"])
def test_row_after_row_equals_all_rows_at_once(tiny: Backbone, values: str) -> None:
    scene = man_and_dog(tiny)
    assert _distance(_compose(tiny, scene, LOW, values=values), _compose(tiny, scene, values=values)) < 1e-5


def test_merged_copies_equal_adapters_beside_the_weights(tiny: Backbone) -> None:
    scene = man_and_dog(tiny)
    assert _distance(_compose(tiny, scene, MERGED), _compose(tiny, scene)) < 1e-4


def test_updates_of_feed_forward_layers_act_on_their_own_row_in_every_way(tiny: Backbone) -> None:
    scene, bare = man_and_dog(tiny), _compose(tiny, man_and_dog(tiny))
    generator, deltas = torch.Generator().manual_seed(3), dict(scene.adapters[1].deltas)
    for path, layer in tiny.unet.named_modules():
        if isinstance(layer, nn.Linear) and path.endswith(("proj_in", "proj_out", "ff.net.0.proj", "ff.net.2")):
            halves = ((2, layer.in_features), (layer.out_features, 2))
            deltas[f"unet.{path}"] = Delta(*(0.1 * torch.randn(*shape, generator=generator) for shape in halves), 2.0)
    wide = replace(scene, adapters=(scene.adapters[0], replace(scene.adapters[1], deltas=deltas)))
    rows = _compose(tiny, wide)
    assert _distance(rows, bare) > 1e-3
    assert _distance(_compose(tiny, wide, LOW), rows) < 1e-5 and _distance(_compose(tiny, wide, MERGED), rows) < 1e-4


@pytest.mark.parametrize("options", [LOW, MERGED])
def test_without_instances_every_way_is_the_plain_model(tiny: Backbone, options: EngineOptions) -> None:
    *_, last = sample_steps(tiny, "a photo of a man and a dog on the beach", 0, size=(64, 64))
    assert _distance(_compose(tiny, plain(tiny), options), last.latents) < 1e-5


def test_low_memory_calls_the_unet_with_one_row_and_merged_with_all(tiny: Backbone) -> None:
    calls: list[int] = []
    tiny.unet.register_forward_pre_hook(lambda module, inputs: calls.append(inputs[0].shape[0]))
    (low,) = compose_many(tiny, [man_and_dog(tiny)], SETTINGS, LOW)
    assert calls == [1] * 12 and (low.unet_calls, low.unet_rows) == (12, 12)
    calls.clear()
    (merged,) = compose_many(tiny, [man_and_dog(tiny)], SETTINGS, MERGED)
    assert calls == [2, 2, 4, 4] and (merged.unet_calls, merged.unet_rows) == (4, 12)


@pytest.mark.parametrize("memory", ["rows", "low", "merged"])
def test_leaving_the_engine_restores_the_model_bit_for_bit(tiny: Backbone, memory: str) -> None:
    weights = {name: tensor.clone() for name, tensor in tiny.unet.state_dict().items()}
    before = _state(tiny.unet)
    for stop_after in (1, 3, 99):
        run = compose_steps(tiny, [man_and_dog(tiny)], SETTINGS, EngineOptions(memory))  # type: ignore[arg-type]
        for step in run:
            if step.step == stop_after:
                break
        run.close()
    after = _state(tiny.unet)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in tiny.unet.state_dict().items())
    assert all(before[name] == after[name] for name in ("hooks", "forwards", "processors"))


@pytest.mark.parametrize("memory", ["rows", "low", "merged"])
def test_an_error_inside_a_call_restores_the_model_too(tiny: Backbone, memory: str) -> None:
    before = _state(tiny.unet)
    scene = man_and_dog(tiny)
    layer = tiny.unet.mid_block.attentions[0].proj_out
    thrown = layer.register_forward_hook(lambda *_: (_ for _ in ()).throw(RuntimeError("out of memory")))
    with pytest.raises(RuntimeError, match="out of memory"):
        compose_many(tiny, [scene], SETTINGS, EngineOptions(memory))  # type: ignore[arg-type]
    thrown.remove()
    after = _state(tiny.unet)
    assert all(before[name] == after[name] for name in ("hooks", "forwards", "processors"))
    assert torch.isfinite(_compose(tiny, scene)).all()


def _parts(backbone: Backbone) -> dict[str, object]:
    """What a run must leave as it was, weights as copies."""
    modules = (backbone.unet, backbone.vae, *backbone.text_encoders)
    named = {f"{place}.{name}": part for place, root in enumerate(modules) for name, part in root.named_modules()}
    tables = [{name: id(part) for name, part in root.attn_processors.items()} for root in modules[:2]]
    kept = {name: (len(part._forward_hooks), "forward" in vars(part), part.training) for name, part in named.items()}
    return {"kept": kept, "processors": tables, "weights": [[*map(torch.clone, part.parameters())] for part in modules]}


@pytest.mark.parametrize(
    ("place", "memory"),
    [("middle", "rows"), ("middle", "low"), ("middle", "merged"), ("decoder", "rows"), ("merging", "merged")],
)
def test_a_full_device_restores_the_model_and_the_next_run_is_as_ever(
    tiny: Backbone, monkeypatch: pytest.MonkeyPatch, place: str, memory: str
) -> None:
    calls: list[object] = []

    def fail(*inputs: object, **_: object) -> Tensor | None:
        calls.append(inputs)
        if len(calls) <= {"middle": 1, "decoder": 0, "merging": 9}[place]:
            return merge(*inputs) if place == "merging" else None  # type: ignore[arg-type]
        raise torch.OutOfMemoryError("CUDA out of memory")

    scene, merge, options = man_and_dog(tiny), merged.merge_weight, EngineOptions(memory)  # type: ignore[arg-type]
    first, before = _compose(tiny, scene, options), _parts(tiny)
    with monkeypatch.context() as patch, pytest.raises(torch.OutOfMemoryError):
        layer = tiny.vae.decoder if place == "decoder" else tiny.unet.mid_block
        thrown = layer.register_forward_hook(fail) if place != "merging" else None
        patch.setattr(merged, "merge_weight", fail if place == "merging" else merge)
        _compose(tiny, scene, options)
    if thrown is not None:
        thrown.remove()
    after = _parts(tiny)
    assert (after["kept"], after["processors"]) == (before["kept"], before["processors"])
    pairs = zip(sum(after["weights"], []), sum(before["weights"], []), strict=True)  # type: ignore[call-overload]
    assert all(torch.equal(*pair) for pair in pairs)
    again = _compose(tiny, scene, options)
    assert torch.isfinite(again).all() and torch.equal(again, first)


def test_an_unknown_way_is_refused() -> None:
    with pytest.raises(InputError, match="rows, low or merged"):
        EngineOptions("fast")  # type: ignore[arg-type]


@torch.no_grad()
def test_a_prompts_keys_and_values_are_made_once(tiny: Backbone) -> None:
    layer = tiny.unet.mid_block.attentions[0].transformer_blocks[0].attn2
    reads: list[int] = []
    layer.to_k.register_forward_hook(lambda module, inputs, output: reads.append(inputs[0].shape[0]))
    for options in (EngineOptions(), LOW, MERGED):
        reads.clear()
        _compose(tiny, man_and_dog(tiny), options)
        assert reads == [4]


@torch.no_grad()
def test_kept_keys_give_the_bits_of_fresh_ones_and_serve_no_other_text(tiny: Backbone) -> None:
    text, other = encode_prompts(tiny, ["a dog", "a man"]), encode_prompts(tiny, ["a red car", "snow"])
    noise, ids = draw_noise(tiny, 0, (64, 64)).expand(2, -1, -1, -1), time_ids(tiny, 2, (64, 64))

    def call(states: Tensor) -> Tensor:
        return predict(tiny, noise, 500.0, replace(text, states=states), ids)

    fresh, elsewhere = call(text.states), call(other.states)
    keys = read_text(tiny.unet, text.states)
    with tap_columns(tiny.unet, TapPlan(), keys):
        assert torch.equal(call(keys.pick((0, 1))), fresh)
        # Another prompt, also one written into memory that the first has left, is read by itself.
        assert torch.equal(call(other.states), elsewhere)
        assert torch.equal(call(text.states.clone()), fresh)


def test_a_weight_changed_between_two_runs_is_seen_by_the_second(tiny: Backbone) -> None:
    scene = man_and_dog(tiny)
    first = _compose(tiny, scene)
    with torch.no_grad():
        tiny.unet.mid_block.attentions[0].transformer_blocks[0].attn2.to_v.weight.mul_(1.5)
    assert not torch.allclose(_compose(tiny, scene), first, atol=1e-3)


@pytest.fixture
def fresh_tensors() -> Iterator[Callable[[], list[Tensor]]]:
    """Give the tensors that were made since the test began and are still alive."""
    gc.collect()
    gc.freeze()  # what is there already is not looked at again, which makes looking fast

    def find() -> list[Tensor]:
        gc.collect()
        return [item for item in gc.get_objects() if isinstance(item, Tensor)]

    yield find
    gc.unfreeze()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("memory", ["rows", "low", "merged"])
def test_nothing_grows_with_the_steps(tiny: Backbone, fresh_tensors: Callable, memory: str) -> None:
    scene = man_and_dog(tiny, steps=8, warmup=3)
    held = []
    for _ in compose_steps(tiny, [scene], replace(SETTINGS, map_steps=3), EngineOptions(memory)):  # type: ignore[arg-type]
        storages = [tensor.untyped_storage() for tensor in fresh_tensors()]
        held.append(sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values()))
    # The first step of a phase sets up its indices.
    assert held[0] > 0 and held[1] == held[0] and len(set(held[4:])) == 1


@torch.no_grad()
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("memory", ["rows", "low", "merged"])
def test_no_map_of_pixels_by_tokens_by_heads_survives_a_layer(
    tiny: Backbone, fresh_tensors: Callable, memory: str
) -> None:
    scene = man_and_dog(tiny, height=128, width=128)
    layout = lay_rows([scene], SETTINGS, 1)
    pixels, tokens = 256, scene.text.states.shape[1]
    found: list[tuple[int, ...]] = []

    def look(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        shapes = [tuple(item.shape) for item in fresh_tensors()]
        assert any(pixels in shape for shape in shapes)
        found.extend(shape for shape in shapes if pixels in shape and tokens in shape)

    tiny.unet.down_blocks[1].attentions[0].transformer_blocks[0].attn2.register_forward_hook(look)
    latents, ids = draw_noise(tiny, 0, (128, 128)), time_ids(tiny, 1, (128, 128))
    with open_engine(tiny, layout, EngineOptions(memory), 1) as engine:  # type: ignore[arg-type]
        engine.predict(latents, torch.tensor(500.0), ids, range(4), calibrate=True, watch=True)
        assert found == []
        kept = torch.zeros(1, 2, pixels, tokens)  # a map that somebody keeps is seen
        engine.predict(latents, torch.tensor(500.0), ids, range(4), calibrate=True, watch=True)
    assert tuple(kept.shape) in found


@torch.no_grad()
def test_calibration_by_the_fused_kernel_equals_the_written_out_form_in_the_whole_loop(
    tiny: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = man_and_dog(tiny)
    fused = _compose(tiny, scene)
    monkeypatch.delattr(torch, "_fused_sdp_choice")
    assert _distance(fused, _compose(tiny, scene)) < 1e-5


def test_a_strength_of_zero_is_the_base_and_half_is_between(tiny: Backbone) -> None:
    def at(strength: float) -> PreparedScene:
        scene = man_and_dog(tiny).scene
        instances = tuple(item.model_copy(update={"strength": strength}) for item in scene.instances)
        adapters = [random_adapter(tiny, "man", "<v1>", 1), random_adapter(tiny, "dog", "<v2>", 2)]
        return prepare_scene(tiny, scene.model_copy(update={"instances": instances}), adapters)

    none, half, whole = (_compose(tiny, at(strength)) for strength in (0.0, 0.5, 1.0))
    silent = [replace(adapter, deltas={}) for adapter in man_and_dog(tiny).adapters]
    bare = prepare_scene(tiny, man_and_dog(tiny).scene, silent)
    assert torch.allclose(none, _compose(tiny, bare), atol=1e-5)
    assert not torch.allclose(none, whole, atol=1e-2) and not torch.allclose(half, whole, atol=1e-2)


def _styled(backbone: Backbone, prepared: PreparedScene, strength: float = 0.7) -> PreparedScene:
    style = random_adapter(backbone, "", "", 9)
    scene = prepared.scene.model_copy(update={"style": (Style(adapter="ink.safetensors", strength=strength),)})
    return prepare_scene(backbone, scene, prepared.adapters, extras=Extras(styles=(style,)))


def _merge_style(backbone: Backbone, strength: float = 0.7) -> None:
    style = random_adapter(backbone, "", "", 9)
    parts = dict(zip(("unet", "text_encoder", "text_encoder_2"), (backbone.unet, *backbone.text_encoders), strict=True))
    for path, delta in style.deltas.items():
        prefix, _, rest = path.partition(".")
        names = dict(parts[prefix].named_modules())
        layer = names.get(rest) or names[rest.removeprefix("text_model.")]
        with torch.no_grad():
            layer.weight += strength * delta.scale * delta.up @ delta.down


@pytest.mark.parametrize("options", [EngineOptions(), LOW, MERGED])
def test_a_style_on_all_rows_is_a_base_with_the_style_in_its_weights(tiny: Backbone, options: EngineOptions) -> None:
    both, alone = _styled(tiny, man_and_dog(tiny)), _styled(tiny, plain(tiny))
    beside, plain_beside = _compose(tiny, both, options), _compose(tiny, alone, options)
    _merge_style(tiny)
    assert _distance(plain_beside, _compose(tiny, plain(tiny))) < 1e-4
    assert _distance(beside, _compose(tiny, man_and_dog(tiny))) < 1e-3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("memory", ["rows", "low", "merged"])
def test_half_precision_bases_compose_and_stay_near_each_other(tiny: Backbone, dtype: torch.dtype, memory: str) -> None:
    encoders = tuple(encoder.to(dtype) for encoder in tiny.text_encoders)
    half = replace(tiny, unet=tiny.unet.to(dtype), text_encoders=encoders)
    scene = man_and_dog(half, steps=2, warmup=1)
    (composition,) = compose_many(half, [scene], SETTINGS, EngineOptions(memory))  # type: ignore[arg-type]
    assert composition.latents.dtype == dtype and torch.isfinite(composition.latents).all()
    together = _compose(half, scene)
    assert _distance(composition.latents.float(), together.float()) < 5e-2


@pytest.mark.parametrize(
    "name", ["DDIMScheduler", "DPMSolverMultistepScheduler", "UniPCMultistepScheduler", "HeunDiscreteScheduler"]
)
def test_scenes_compose_with_any_sampler_of_the_base(tiny: Backbone, name: str) -> None:
    base = replace(tiny, scheduler=SCHEDULERS[name].from_config(dict(tiny.scheduler.config)))
    scene = man_and_dog(base)
    own, euler = _compose(base, scene), _compose(base, man_and_dog(base, scheduler="euler"))
    assert torch.isfinite(own).all() and not torch.allclose(own, euler, atol=1e-2)
    assert torch.equal(euler, _compose(tiny, man_and_dog(tiny)))


def test_merged_copies_leave_the_bases_rows_to_its_own_weights(tiny: Backbone) -> None:
    adapter = random_adapter(tiny, "dog", "<v1>", 1)
    weights = {name: tensor.clone() for name, tensor in tiny.unet.state_dict().items()}
    text = encode_prompts(tiny, ["a dog", "a <v1> dog"])
    noise, ids = draw_noise(tiny, 0, (64, 64)).expand(2, -1, -1, -1), time_ids(tiny, 2, (64, 64))
    with torch.no_grad():
        bare = predict(tiny, noise, 500.0, text, ids)
        with merged_rows(tiny.unet, "unet", [None, adapter]):
            mixed = predict(tiny, noise, 500.0, text, ids)
            inside = tiny.unet.state_dict()
            assert all(torch.equal(inside[name], tensor) for name, tensor in weights.items())
    assert torch.allclose(mixed[0], bare[0], atol=1e-5) and not torch.allclose(mixed[1], bare[1], atol=1e-3)
