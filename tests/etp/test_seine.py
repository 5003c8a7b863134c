"""The embedded SEINE: what its folder must hold, and what its frames depend on."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from d2plan.errors import FileError, InputError
from d2plan.etp.interpolate import InterpolatorOptions, Segment, interpolate, interpolate_steps, open_interpolator
from d2plan.etp.seine import CONFIG_FILE, WEIGHTS_FILE, load_network, read_config, start_network
from d2plan.etp.seine_sampling import fill_clip, join_channels, make_mask, sample_clip_steps
from d2plan.etp.seine_unet import EMBEDDED, FrameText
from tests.etp.seine_models import write_embedded
from tests.tiny import tiny_backbone


@pytest.fixture(scope="module")
def base():
    return tiny_backbone()


@pytest.fixture(scope="module")
def folder(base, tmp_path_factory):
    return write_embedded(tmp_path_factory.mktemp("seine") / "weights", base)


@pytest.fixture(scope="module")
def seine(base, folder):
    return open_interpolator("seine", InterpolatorOptions(base=base, weights=folder))


def make_segment(frames=4, seed=0, last=200, text="a dog running"):
    first = np.full((32, 32, 3), 60, np.uint8)
    return Segment(first, np.full_like(first, last), frames, text, seed)


def test_a_segment_gives_a_step_for_each_denoising_step_and_the_frames_with_the_last(seine):
    steps = list(interpolate_steps(seine, make_segment()))
    assert [(step.index, step.total, step.frames is None) for step in steps] == [(0, 2, True), (1, 2, False)]
    assert steps[-1].frames.shape == (4, 32, 32, 3)


def test_the_same_request_gives_the_same_frames_and_each_part_of_it_matters(seine):
    frames = interpolate(seine, make_segment())
    assert np.array_equal(frames, interpolate(seine, make_segment()))
    for changed in (make_segment(seed=1), make_segment(last=20), make_segment(text="night")):
        assert not np.array_equal(frames, interpolate(seine, changed))


def test_guidance_reads_the_prompt_free_row_too(base, folder, seine):
    guided = open_interpolator("seine", InterpolatorOptions(base=base, weights=folder, guidance_scale=3.0))
    assert not np.array_equal(interpolate(guided, make_segment()), interpolate(seine, make_segment()))
    assert guided.record["guidance_scale"] == "3.0" and guided.record["steps"] == "2"


def test_the_grey_filling_of_the_publication_works_with_a_base_too(base, folder, tmp_path):
    content = json.loads((folder / CONFIG_FILE).read_text())
    content["design"]["fill"] = "grey"
    (tmp_path / WEIGHTS_FILE).write_bytes((folder / WEIGHTS_FILE).read_bytes())
    (tmp_path / CONFIG_FILE).write_text(json.dumps(content))
    grey = open_interpolator("seine", InterpolatorOptions(base=base, weights=tmp_path))
    fade = open_interpolator("seine", InterpolatorOptions(base=base, weights=folder))
    assert not np.array_equal(interpolate(grey, make_segment()), interpolate(fade, make_segment()))


def test_the_network_is_shown_noise_mask_and_given_frames_in_this_order():
    first, last, middle = (torch.full((1, 4, 2, 2), value) for value in (1.0, 5.0, 9.0))
    noisy = torch.zeros(2, 4, 5, 2, 2)
    clips = join_channels(noisy, make_mask(5, noisy), fill_clip(first, last, 5))
    assert clips.shape == (2, 9, 5, 2, 2)
    assert clips[1, 4, :, 0, 0].tolist() == [0, 1, 1, 1, 0]
    assert clips[1, 5, :, 0, 0].tolist() == [1, 2, 3, 4, 5]
    assert fill_clip(first, last, 5, middle)[0, 0, :, 0, 0].tolist() == [1, 9, 9, 9, 5]


def test_sampling_calls_the_network_once_a_step_and_guides_its_two_rows(base):
    calls = []

    class Network:
        def __call__(self, clips, timestep, text):
            calls.append(clips.shape)
            return torch.stack([torch.zeros(4, 3, 2, 2), torch.ones(4, 3, 2, 2)])[: len(clips)]

    class Scheduler:
        timesteps, init_noise_sigma = torch.tensor([900, 400, 10]), 1.0

        def scale_model_input(self, sample, timestep):
            return sample

        def step(self, model_output, timestep, sample, *, generator, return_dict):
            return (model_output,)

    text = FrameText(torch.zeros(2, 1, 1))
    steps = list(sample_clip_steps(Network(), Scheduler(), torch.zeros(1, 4, 3, 2, 2), text, 8.0, torch.Generator()))
    assert calls == [(2, 9, 3, 2, 2)] * 3
    assert [(step.index, step.total) for step in steps] == [(0, 3), (1, 3), (2, 3)]
    assert torch.equal(steps[-1].latents, torch.full((1, 4, 3, 2, 2), 8.0))


def test_a_loaded_network_is_the_base_with_what_was_learnt(base, folder):
    network, fingerprint = load_network(base, folder, read_config(folder))
    learnt, own = load_file(folder / WEIGHTS_FILE), base.unet.state_dict()
    state = network.unet.state_dict()
    for name, tensor in state.items():
        expected = learnt[name].float() if name in learnt else own[name]
        assert torch.equal(tensor, expected), name
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert len(fingerprint) == 16


def test_starting_a_network_leaves_the_base_as_it_was(base):
    before = {name: tensor.clone() for name, tensor in base.unet.state_dict().items()}
    network = start_network(base, EMBEDDED)
    for parameter in network.parameters():
        parameter.data.add_(1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.unet.state_dict().items())


def test_other_numbers_of_frames_and_sizes_are_refused_before_any_work(seine):
    with pytest.raises(InputError, match="use 16"):
        interpolate(seine, make_segment(frames=17))
    with pytest.raises(InputError, match="use 4"):
        interpolate(seine, make_segment(frames=2))
    odd = np.zeros((30, 32, 3), np.uint8)
    with pytest.raises(InputError, match="height is 30"):
        interpolate(seine, Segment(odd, odd, 4, "a dog"))


def test_weights_of_another_base_are_refused(base, tmp_path):
    folder = write_embedded(tmp_path / "other", base, "0123456789abcdef")
    with pytest.raises(InputError, match="0123456789abcdef"):
        open_interpolator("seine", InterpolatorOptions(base=base, weights=folder))


def test_a_base_is_needed_and_is_never_replaced(folder):
    with pytest.raises(InputError, match="base is missing"):
        open_interpolator("seine", InterpolatorOptions(weights=folder))


def test_a_folder_that_is_incomplete_damaged_or_of_another_shape_is_a_clear_error(base, folder, tmp_path):
    def open_it():
        return open_interpolator("seine", InterpolatorOptions(base=base, weights=tmp_path))

    with pytest.raises(FileError, match="scripts/seine"):
        open_it()
    (tmp_path / WEIGHTS_FILE).write_bytes((folder / WEIGHTS_FILE).read_bytes()[:100])
    (tmp_path / CONFIG_FILE).write_text("[1")
    with pytest.raises(FileError, match="config.json: is damaged"):
        open_it()
    (tmp_path / CONFIG_FILE).write_text((folder / CONFIG_FILE).read_text())
    with pytest.raises(FileError, match=r"model.safetensors: is damaged"):
        open_it()
    learnt = load_file(folder / WEIGHTS_FILE)
    name = next(name for name in learnt if "attn_temp.to_q" in name)
    for wrong in ({**learnt, name: torch.zeros(1)}, {key: learnt[key] for key in learnt if key != name}):
        save_file(wrong, tmp_path / WEIGHTS_FILE)
        with pytest.raises(FileError, match="does not fit its base"):
            open_it()


def test_fewer_or_more_steps_than_can_be_are_refused(base, folder):
    for steps in (0, 1001):
        with pytest.raises(InputError, match="steps"):
            open_interpolator("seine", InterpolatorOptions(base=base, weights=folder, steps=steps))
