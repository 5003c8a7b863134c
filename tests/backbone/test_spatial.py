"""ControlNets, with the stock SDXL ControlNet pipeline as the oracle."""

import dataclasses

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel, StableDiffusionXLControlNetPipeline, StableDiffusionXLPipeline
from PIL import Image

from d2plan.backbone.sdxl import draw_noise, encode_prompts, time_ids
from d2plan.backbone.spatial import ControlUse, SpatialControl, add_controls, load_control, prepare_image
from d2plan.config import IspSettings
from d2plan.documents import Control, Scene
from d2plan.errors import InputError
from d2plan.isp.engine import EngineOptions
from d2plan.isp.loop import compose_many
from d2plan.isp.prepare import Drawing, Extras, prepare_scene
from tests.isp.concepts import man_and_dog
from tests.tiny import tiny_control

PROMPT = "a photo of a man and a dog"


@pytest.fixture
def nets(tiny):
    return tiny_control(tiny, 1), tiny_control(tiny, 2)


def draw_image(seed, size=(50, 70)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def control(**changes):
    return Control(**({"model": "net", "image": "drawing.png", "strength": 0.7} | changes))


def compose(base, scene, nets, images, adapters=(), options=None, settings=None):
    drawings = [Drawing(net, image) for net, image in zip(nets, images, strict=True)]
    prepared = prepare_scene(base, scene, adapters, extras=Extras(drawings=drawings))
    return compose_many(base, [prepared], settings, options)[0]


def run_stock(folder, nets, images, **changes):
    stock = StableDiffusionXLPipeline.from_pretrained(folder, add_watermarker=False)
    nets = list(nets) if len(nets) > 1 else nets[0]
    pipeline = StableDiffusionXLControlNetPipeline(**stock.components, controlnet=nets, add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    pictures = [Image.fromarray(image) for image in images]
    settings = {"num_inference_steps": 5, "guidance_scale": 5.0, "height": 64, "width": 64, "output_type": "latent"}
    settings |= {
        "generator": torch.Generator("cpu").manual_seed(7),
        "image": pictures if len(pictures) > 1 else pictures[0],
    }
    return pipeline(PROMPT, **(settings | changes)).images


def scene_of(*controls, **changes):
    return Scene(global_prompt=PROMPT, seed=7, steps=5, height=64, width=64, controls=controls).model_copy(
        update=changes
    )


@pytest.mark.parametrize("rows", ["global", "all"])
def test_without_instances_it_is_the_stock_pipeline_bit_for_bit(tiny, tiny_folder, nets, rows):
    image = draw_image(0)
    expected = run_stock(tiny_folder, nets[:1], [image], controlnet_conditioning_scale=0.7)
    composition = compose(tiny, scene_of(control(rows=rows)), nets[:1], [image])
    assert torch.equal(composition.latents, expected)
    plain = compose(tiny, scene_of(), [], [])
    assert not torch.allclose(composition.latents, plain.latents, atol=1e-2)


def test_a_range_of_steps_is_the_stock_pipelines(tiny, tiny_folder, nets):
    image = draw_image(0)
    limits = {"control_guidance_start": 0.2, "control_guidance_end": 0.6}
    expected = run_stock(tiny_folder, nets[:1], [image], controlnet_conditioning_scale=0.7, **limits)
    composition = compose(tiny, scene_of(control(start=0.2, end=0.6)), nets[:1], [image])
    assert torch.equal(composition.latents, expected)


def test_several_controls_add_up_as_in_the_stock_pipeline(tiny, tiny_folder, nets):
    images = [draw_image(0), draw_image(1, (64, 64))]
    expected = run_stock(tiny_folder, nets, images, controlnet_conditioning_scale=[0.7, 1.2])
    composition = compose(tiny, scene_of(control(), control(strength=1.2)), nets, images)
    assert torch.equal(composition.latents, expected)


def test_one_network_may_follow_two_drawings(tiny, nets):
    images = [draw_image(0), draw_image(1)]
    both = compose(tiny, scene_of(control(), control()), [nets[0]] * 2, images)
    copy = tiny_control(tiny, 1)
    assert torch.allclose(both.latents, compose(tiny, scene_of(control(), control()), [nets[0], copy], images).latents)
    assert not torch.allclose(both.latents, compose(tiny, scene_of(control()), nets[:1], images[:1]).latents, atol=1e-2)


@pytest.mark.parametrize("memory", ["low", "merged"])
@pytest.mark.parametrize("rows", ["global", "all"])
def test_with_instances_every_way_to_run_agrees(tiny, nets, memory, rows):
    bare = man_and_dog(tiny)
    scene = bare.scene.model_copy(update={"controls": (control(rows=rows),)})
    settings = IspSettings(steps=4, guidance_scale=5.0)
    held, other = (
        compose(tiny, scene, nets[:1], [draw_image(0)], bare.adapters, options, settings).latents
        for options in (None, EngineOptions(memory))
    )
    assert (held - other).abs().max() / held.abs().max() < 1e-4
    free = compose_many(tiny, [bare], settings)[0].latents
    assert not torch.allclose(held, free, atol=1e-2)


def test_the_global_row_alone_is_held_unless_all_are_asked_for(tiny, nets):
    seen = []
    nets[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[0]))
    bare = man_and_dog(tiny)
    for rows in ("global", "all"):
        scene = bare.scene.model_copy(update={"controls": (control(rows=rows),)})
        compose(tiny, scene, nets[:1], [draw_image(0)], bare.adapters, None, IspSettings(steps=4))
    assert seen == [2, 2, 2, 2, 2, 2, 4, 4]


def test_a_strength_of_zero_and_an_end_before_the_first_step_change_nothing(tiny, nets):
    plain = compose(tiny, scene_of(), [], []).latents
    for silent in (control(strength=0.0), control(start=0.9, end=0.95)):
        assert torch.equal(compose(tiny, scene_of(silent), nets[:1], [draw_image(0)]).latents, plain)


@torch.no_grad()
def test_a_control_that_no_step_falls_into_is_told(tiny, nets):
    scene = scene_of(control(start=0.9), control(end=0.9))
    drawings = [Drawing(net, draw_image(1, (32, 32))) for net in nets]
    (warning,) = prepare_scene(tiny, scene, extras=Extras(drawings=drawings)).warnings
    assert warning.startswith("controls[0] has no effect") and "0.9..1" in warning


@torch.no_grad()
def test_a_drawing_that_is_stretched_is_told(tiny, nets):
    drawings = [Drawing(nets[0], draw_image(1, size)) for size in ((50, 70), (128, 129))]
    stretched = control(image="/home/me/secret/drawing.png")
    (warning,) = prepare_scene(tiny, scene_of(stretched, control()), extras=Extras(drawings=drawings)).warnings
    assert warning == (
        "controls[0].image: drawing.png is 70 x 50 pixels, another shape than the picture's 64 x 64, and was stretched "
        "to it; cut it to that shape."
    )


def test_rows_without_a_control_get_nothing_and_weights_count_by_place(tiny, nets):
    latents = draw_noise(tiny, 0, (64, 64)).expand(3, -1, -1, -1)
    text, ids = encode_prompts(tiny, ["", "a dog", "a man"]), time_ids(tiny, 3, (64, 64))
    image = prepare_image(draw_image(0), (64, 64), tiny)
    held = SpatialControl(nets[0], image)
    left = torch.zeros(16, 16)
    left[:, :8] = 1
    timestep = torch.tensor(400.0)
    some = add_controls([ControlUse(held, 1), ControlUse(held, 2, left)], latents, timestep, text, ids)
    every = add_controls([ControlUse(held, row) for row in range(3)], latents, timestep, text, ids)
    for part, whole in zip((*some.down, some.middle), (*every.down, every.middle), strict=True):
        assert not part[0].any()
        assert torch.allclose(part[1], whole[1], atol=1e-5)
        half = part.shape[-1] // 2
        assert torch.allclose(part[2, ..., :half], whole[2, ..., :half], atol=1e-5) and not part[2, ..., half:].any()
    assert add_controls([], latents, timestep, text, ids) is None


def test_a_network_is_opened_by_path_and_fits_its_base(tiny, nets, tmp_path):
    nets[0].save_pretrained(tmp_path / "net")
    opened = load_control(tmp_path / "net", tiny)
    assert all(torch.equal(a, b) for a, b in zip(opened.parameters(), nets[0].parameters(), strict=True))
    assert not any(parameter.requires_grad for parameter in opened.parameters()) and not opened.training


def test_what_is_no_control_for_this_base_is_refused(tiny, nets, tmp_path, tiny_folder):
    with pytest.raises(InputError, match="controls: model: nowhere is not a folder"):
        load_control("nowhere", tiny)
    with pytest.raises(InputError, match="is a UNet2DConditionModel"):
        load_control(tiny_folder / "unet", tiny)
    with pytest.raises(InputError, match="no config.json"):
        load_control(tmp_path, tiny)
    ControlNetModel.from_unet(tiny.unet).save_pretrained(tmp_path / "eight")
    with pytest.raises(InputError, match="makes drawings 8 times smaller, the latents of .* 4 times"):
        load_control(tmp_path / "eight", tiny)
    nets[0].register_to_config(cross_attention_dim=768)
    nets[0].save_pretrained(tmp_path / "net")
    with pytest.raises(InputError, match="cross_attention_dim is 768"):
        load_control(tmp_path / "net", tiny)


def test_a_scenes_controls_must_be_opened_each(tiny):
    with pytest.raises(InputError, match="controls names 1, but 0 were opened"):
        prepare_scene(tiny, scene_of(control()))


def test_guidance_does_not_drive_the_control_out_of_the_instances_area(tiny, nets):
    # Within the masks of instances that it does not hold, the row without a prompt is left free too.
    bare = man_and_dog(tiny)
    drawn = tuple(dataclasses.replace(region, box=(0, 0, 1, 1)) for region in bare.regions[:1]) + bare.regions[1:]
    scene = bare.scene.model_copy(update={"controls": (control(start=0.5),), "warmup": 2})
    drawings = [Drawing(nets[0], draw_image(0))]
    prepared = prepare_scene(tiny, scene, bare.adapters, extras=Extras(drawings=drawings))
    covered = dataclasses.replace(prepared, regions=(drawn[0], dataclasses.replace(drawn[1], box=(0, 0, 1, 1))))
    free = dataclasses.replace(covered, controls=())
    settings = IspSettings(steps=4, guidance_scale=5.0, calibrate=False)
    held, without = (compose_many(tiny, [item], settings)[0].latents for item in (covered, free))
    assert torch.allclose(held, without, atol=1e-4)
