"""Samplers: every one that a base may name gives the stock pipeline's latents, and its state can be copied."""

import dataclasses
import json

import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from d2plan.backbone.load import load_backbone
from d2plan.backbone.schedulers import SCHEDULERS, Sampling, read_scheduler
from d2plan.backbone.sdxl import sample_steps
from d2plan.errors import FileError, InputError
from tests.tiny import write_tiny

PROMPT = "a photo of a man and a dog"
# diffusers' KDPM2 and DEIS samplers take numpy's logarithm of torch's numbers; nothing here calls it.
pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__ must accept context:DeprecationWarning")


@pytest.fixture(scope="module")
def pipeline(tiny_folder):
    stock = StableDiffusionXLPipeline.from_pretrained(tiny_folder, add_watermarker=False)
    stock.set_progress_bar_config(disable=True)
    return stock


def rename(base, name, **settings):
    scheduler = SCHEDULERS[name].from_config(dict(base.scheduler.config) | settings)
    return dataclasses.replace(base, scheduler=scheduler)


def draw(sampling, latents, first, last):
    """Go through steps with a made-up prediction that depends on the latents and the step."""
    for index in range(first, last):
        timestep = sampling.timesteps[index]
        prediction = torch.sin(sampling.scale(latents, timestep) * (index + 1))
        latents = sampling.step(prediction, timestep, latents)
    return latents


@pytest.mark.parametrize("name", SCHEDULERS)
def test_each_sampler_gives_the_stock_pipelines_latents_bit_for_bit(tiny, pipeline, name):
    base = rename(tiny, name)
    stock = StableDiffusionXLPipeline(**(pipeline.components | {"scheduler": base.scheduler}), add_watermarker=False)
    stock.set_progress_bar_config(disable=True)
    generator = torch.Generator("cpu").manual_seed(7)
    options = {"num_inference_steps": 4, "guidance_scale": 5.0, "height": 64, "width": 64, "output_type": "latent"}
    expected = stock(PROMPT, generator=generator, **options).images
    *_, last = sample_steps(base, PROMPT, seed=7, steps=4, size=(64, 64))
    assert torch.equal(last.latents, expected)


def test_euler_steps_can_be_asked_for_on_any_base(tiny):
    base = rename(tiny, "DDIMScheduler")
    *_, asked = sample_steps(base, PROMPT, size=(64, 64), scheduler="euler")
    *_, own = sample_steps(base, PROMPT, size=(64, 64))
    *_, euler = sample_steps(tiny, PROMPT, size=(64, 64))
    assert torch.equal(asked.latents, euler.latents)
    assert not torch.allclose(own.latents, euler.latents, atol=1e-3)


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("split", [1, 3])
def test_a_copied_state_goes_on_as_the_first_does(tiny, name, split):
    base = rename(tiny, name)
    sampling = Sampling(base.scheduler, 6, [3])
    total = len(sampling.timesteps)
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)) * sampling.scheduler.init_noise_sigma
    middle = draw(sampling, noise, 0, split)
    twin, several = sampling.fork(), sampling.fork(count=3)
    whole = draw(sampling, middle, split, total)
    assert torch.equal(draw(twin, middle, split, total), whole)
    spread = draw(several, middle.repeat(3, 1, 1, 1), split, total)
    assert all(torch.allclose(spread[row : row + 1], whole, atol=1e-5) for row in range(3))


@pytest.mark.parametrize("name", ["EulerAncestralDiscreteScheduler", "UniPCMultistepScheduler", "DDPMScheduler"])
def test_a_picture_of_a_batch_goes_on_alone_as_it_would_have(tiny, name):
    base = rename(tiny, name)
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    sampling = Sampling(base.scheduler, 6, [3, 4])
    middle = draw(sampling, noise * sampling.scheduler.init_noise_sigma, 0, 3)
    alone = sampling.fork(place=1)
    assert torch.allclose(draw(alone, middle[1:], 3, 6), draw(sampling, middle, 3, 6)[1:], atol=1e-5)


def test_the_base_keeps_its_own_scheduler_as_it_was(tiny):
    before = json.dumps({name: str(value) for name, value in vars(tiny.scheduler).items()})
    list(sample_steps(tiny, PROMPT, size=(64, 64)))
    assert before == json.dumps({name: str(value) for name, value in vars(tiny.scheduler).items()})


def test_a_base_is_opened_with_the_sampler_that_it_names(tmp_path):
    folder = write_tiny(tmp_path / "base")
    SCHEDULERS["UniPCMultistepScheduler"](solver_order=3).save_pretrained(folder / "scheduler")
    scheduler = load_backbone(folder).scheduler
    assert type(scheduler) is SCHEDULERS["UniPCMultistepScheduler"]
    assert scheduler.config.solver_order == 3


@pytest.mark.parametrize("name", ["os.system", "MyScheduler", "FlowMatchEulerDiscreteScheduler", None])
def test_a_class_that_is_no_known_sampler_is_refused(tmp_path, name):
    (tmp_path / "scheduler_config.json").write_text(json.dumps({"_class_name": name}), encoding="utf-8")
    with pytest.raises(InputError, match="scheduler"):
        read_scheduler(tmp_path)


def test_a_damaged_or_missing_file_is_told(tmp_path):
    with pytest.raises(FileError, match="scheduler_config"):
        read_scheduler(tmp_path)
    (tmp_path / "scheduler_config.json").write_text("[", encoding="utf-8")
    with pytest.raises(InputError, match="not readable"):
        read_scheduler(tmp_path)
