"""The published SEINE: its checkpoint is read by name, its sampler is DDPM as published, and frames come out."""

import numpy as np
import pytest
import torch

from d2plan.errors import FileError, InputError
from d2plan.etp.interpolate import InterpolatorOptions, Segment, interpolate, open_interpolator
from d2plan.etp.seine_official import (
    check_names,
    make_official_scheduler,
    open_official,
    read_official,
)
from tests.etp.seine_models import SMALL, official_network, write_companions
from tests.tiny import tiny_backbone


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = tmp_path_factory.mktemp("official")
    state = dict(official_network().unet.state_dict())
    block = next(name for name in state if name.endswith("rotary_emb.freqs")).removesuffix("freqs")
    # As saved with a later release of the rotary library, which kept an empty buffer beside the frequencies.
    torch.save({"ema": {**state, f"{block}dummy": torch.tensor(0)}}, root / "seine.pt")
    write_companions(root / "sd14", tiny_backbone())
    return root, state


def open_small(files, **options):
    chosen = InterpolatorOptions(weights=files[0] / "seine.pt", text_model=files[0] / "sd14", **options)
    return open_official(chosen, SMALL)


def make_segment(frames=4, seed=0, last=200, text="a dog running"):
    first = np.full((64, 64, 3), 60, np.uint8)
    return Segment(first, np.full_like(first, last), frames, text, seed)


def test_a_checkpoint_is_read_by_name_and_gives_the_same_network(files):
    state = read_official(files[0] / "seine.pt")
    assert set(state) == set(files[1])
    seine = open_small(files)
    assert all(torch.equal(tensor, files[1][name]) for name, tensor in seine.network.unet.state_dict().items())


def test_frames_come_out_and_each_part_of_the_request_matters(files):
    seine = open_small(files, steps=2)
    frames = interpolate(seine, make_segment())
    assert frames.shape == (4, 64, 64, 3) and np.array_equal(frames, interpolate(seine, make_segment()))
    for changed in (make_segment(seed=1), make_segment(last=20), make_segment(text="night")):
        assert not np.array_equal(frames, interpolate(seine, changed))


def test_the_published_numbers_are_the_defaults(files):
    record = open_small(files).record
    assert (record["steps"], record["guidance_scale"]) == ("250", "8.0")
    assert len(record["weights"]) == 16


def test_the_sampler_is_ddpm_with_the_large_variance_on_even_steps_of_linear_betas():
    scheduler = make_official_scheduler(5)
    assert scheduler.timesteps.tolist() == [999, 749, 500, 250, 0]
    products = np.cumprod(1 - np.linspace(0.0001, 0.02, 1000))
    assert np.allclose(scheduler.alphas_cumprod.numpy(), products, rtol=1e-4)
    state, noise = torch.full((1, 1, 1, 1, 1), 0.7), torch.full((1, 1, 1, 1, 1), 0.2)
    now, before = products[500], products[250]
    beta = 1 - now / before
    clean = (0.7 - (1 - now) ** 0.5 * 0.2) / now**0.5
    mean = before**0.5 * beta / (1 - now) * clean + (1 - beta) ** 0.5 * (1 - before) / (1 - now) * 0.7
    drawn = torch.randn(1, 1, 1, 1, 1, generator=torch.Generator().manual_seed(3)).item()
    moved = scheduler.step(noise, 500, state, generator=torch.Generator().manual_seed(3), return_dict=False)[0]
    assert moved.item() == pytest.approx(mean + beta**0.5 * drawn, rel=1e-4)


def test_a_checkpoint_of_another_network_is_refused_by_the_name_that_differs(files):
    network, state = official_network(), files[1]
    name = "conv_in.weight"
    for wrong, said in (
        ({key: state[key] for key in state if key != name}, f"lacks {name}"),
        ({**state, "extra.weight": torch.zeros(1)}, "extra.weight"),
        ({**state, name: state[name][:, :4]}, "shape"),
    ):
        with pytest.raises(FileError, match=said):
            check_names(network, wrong, files[0] / "seine.pt")


class Dangerous:
    def __reduce__(self):
        return (print, ("this must never run",))


def test_a_checkpoint_that_would_run_code_or_is_no_checkpoint_is_refused(tmp_path, capsys):
    torch.save({"ema": Dangerous()}, tmp_path / "bad.pt")
    (tmp_path / "text.pt").write_text("no weights")
    (tmp_path / "text.safetensors").write_text("no weights")
    torch.save({"ema": {"name": "text"}}, tmp_path / "words.pt")
    for name in ("bad.pt", "text.pt", "text.safetensors", "words.pt", "absent.pt"):
        with pytest.raises(FileError, match=name):
            read_official(tmp_path / name)
    assert "never" not in capsys.readouterr().out


def test_a_file_of_weights_needs_the_folder_with_its_text_model(files, tmp_path):
    with pytest.raises(InputError, match="text_model"):
        open_interpolator("seine", InterpolatorOptions(weights=files[0] / "seine.pt"))
    with pytest.raises(InputError, match="text_model"):
        open_interpolator("seine", InterpolatorOptions(weights=files[0] / "seine.pt", text_model=tmp_path))
    with pytest.raises(FileError, match="lacks|holds|shape"):
        open_interpolator("seine", InterpolatorOptions(weights=files[0] / "seine.pt", text_model=files[0] / "sd14"))
