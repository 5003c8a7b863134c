"""The scripts that make the embedded interpolator: what they render, and training that goes on bit for bit."""

import numpy as np
import pytest
import torch

from d2plan.etp.interpolate import InterpolatorOptions, Segment, interpolate, open_interpolator
from d2plan.world.clip import clip_frames, sample_clip
from d2plan.world.seeds import stream_rng
from tests.scripts.loading import load_scripts
from tests.tiny import tiny_backbone, write_tiny

clips_data, render_clips, train, measure = load_scripts("seine", "clips_data", "render_clips", "train", "measure")
ALPHAS = torch.linspace(0.999, 0.001, 1000)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with two small shards."""
    folder = tmp_path_factory.mktemp("seine")
    render_clips.render_shard(folder, "base", 0, 2, 4)
    render_clips.render_shard(folder, "heldout", 0, 1, 4)
    return folder


@pytest.fixture(scope="module")
def base():
    return tiny_backbone()


@pytest.fixture(scope="module")
def clips(base, work):
    return clips_data.Clips(base, work, "base")


def run(state, clips, steps):
    return [train.train_step(state, lambda generator: clips.batch(1, generator), 1e-3, ALPHAS) for _ in range(steps)]


def test_a_rendered_clip_is_the_worlds_with_its_captions_and_what_moves():
    frames, moving, captions = render_clips.draw_clip("heldout", 3, 4, 128)
    clip = sample_clip(stream_rng("heldout", clips_data.KEY, 3))
    assert np.array_equal(frames, clip_frames(clip, 4))
    assert captions == [clip.caption_start.text, clip.caption_end.text]
    assert moving.shape == (4, 32, 32) and 0 < moving.mean() < 255 / 2


def test_a_shard_is_whole_or_not_there(work, monkeypatch):
    drawn = []

    def draw_once(*request):
        if drawn:
            raise KeyboardInterrupt
        drawn.append(request)
        return np.zeros((4, 8, 8, 3), np.uint8), np.zeros((4, 2, 2), np.uint8), ["a", "b"]

    monkeypatch.setattr(render_clips, "draw_clip", draw_once)
    with pytest.raises(KeyboardInterrupt):
        render_clips.render_shard(work, "base", 9, 2, 4)
    assert [path.name for path in (work / "clips").glob("base-*")] == ["base-0000.npz"]


def test_clips_are_encoded_once_for_a_vae(base, work, clips, capsys):
    (path,) = (work / "latents").glob("base-*")
    before = path.stat().st_mtime_ns
    again = clips_data.Clips(base, work, "base")
    assert path.stat().st_mtime_ns == before and "encoded" not in capsys.readouterr().out
    assert again.latents[0].shape == (2, 4, 4, 32, 32)
    assert clips_data.fingerprint_vae(base) in path.name


def test_a_batch_is_drawn_from_the_generator_alone_and_may_skip_frames(clips):
    one, other = (clips.batch(2, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(one[0], other[0]) and one[2] == other[2]
    assert one[0].shape == (2, 4, 4, 32, 32) and one[1].shape == (2, 1, 4, 32, 32)
    ends = clips.batch(2, torch.Generator().manual_seed(5), stride=3)
    assert torch.equal(ends[0], one[0][:, :, [0, 3]])


def test_every_count_of_frames_can_be_seen_coarsely():
    assert all((count - 1) % clips_data.COARSE == 0 for count in clips_data.COUNTS)


def test_a_stopped_training_goes_on_as_if_it_had_never_stopped(base, clips, tmp_path):
    whole = train.start(base, 1e-3)
    losses = run(whole, clips, 2)
    first = train.start(base, 1e-3)
    early = run(first, clips, 1)
    train.save_state(first, tmp_path / "train.pt")
    second = train.start(base, 1e-3)
    train.load_state(second, tmp_path / "train.pt")
    assert early + run(second, clips, 1) == losses and second.step == 2
    for name, tensor in train.learnt_parameters(whole.network).items():
        assert torch.equal(tensor, train.learnt_parameters(second.network)[name]), name
        assert torch.equal(whole.average[name], second.average[name]), name


def test_the_loss_falls_and_only_what_is_to_learn_has_changed(base, clips):
    state = train.start(base, 1e-3)
    fixed = clips.batch(1, torch.Generator().manual_seed(0))

    def loss():
        with torch.no_grad():
            return float(train.clip_loss(state, fixed, ALPHAS, torch.Generator().manual_seed(1)))

    before, began = loss(), {name: p.detach().clone() for name, p in state.network.unet.named_parameters()}
    for _ in range(6):
        train.train_step(state, lambda generator: fixed, 3e-3, ALPHAS)
    assert loss() < 0.97 * before
    learnt = train.learnt_parameters(state.network)
    for name, parameter in state.network.unet.named_parameters():
        if name not in learnt:
            assert torch.equal(parameter, began[name]), name
    assert all(torch.equal(p, began[n]) for n, p in learnt.items() if n.endswith("freqs"))
    assert any(not torch.equal(p, began[n]) for n, p in learnt.items() if "attn_temp.to_q" in n)


def test_what_is_exported_opens_as_the_averaged_network(base, clips, tmp_path):
    state = train.start(base, 1e-3)
    run(state, clips, 1)
    size = train.export(state, tmp_path / "seine")
    assert size < train.MOST_BYTES
    seine = open_interpolator("seine", InterpolatorOptions(base=base, weights=tmp_path / "seine", steps=1))
    expected = train.make_average(state).unet.state_dict()
    for name, tensor in seine.network.unet.state_dict().items():
        assert torch.allclose(tensor, expected[name], atol=1e-3), name
    frame = np.zeros((32, 32, 3), np.uint8)
    assert interpolate(seine, Segment(frame, frame, 4, "a dog")).shape == (4, 32, 32, 3)


def test_a_checkpoint_of_another_base_is_refused(base, tmp_path):
    state = train.start(base, 1e-3)
    train.save_state(state, tmp_path / "train.pt")
    other = train.start(tiny_backbone(seed=1), 1e-3)
    with pytest.raises(SystemExit, match="move it away"):
        train.load_state(other, tmp_path / "train.pt")


def test_the_whole_command_trains_logs_previews_and_resumes(work, tmp_path, capsys):
    tiny = write_tiny(tmp_path / "tiny")
    common = [
        "--batch",
        "1",
        "--base",
        str(tiny),
        "--work",
        str(work),
        "--device",
        "cpu",
        "--log-every",
        "1",
        "--preview-steps",
        "1",
    ]
    train.main([*common, "--steps", "2", "--preview-every", "2"])
    assert (work / "preview-000002.png").is_file() and (work / "train.pt").is_file()
    train.main([*common, "--steps", "3"])
    lines = (work / "train.log.jsonl").read_text().splitlines()
    assert [line.count('"loss"') for line in lines] == [1, 1, 0, 1, 0]


def test_a_case_is_the_clip_with_the_area_of_those_who_change():
    case = measure.draw_case(2, 4, 64)
    assert case.frames.shape == (4, 64, 64, 3) and case.area.shape == (64, 64)
    still = (case.frames == case.frames[:1]).all((0, 3))
    # What changes lies in the area, but for its blurred edge.
    assert (~still & ~case.area).mean() < 0.03


def test_the_table_parts_clips_with_motion_from_those_without_and_counts_jumps_against_the_true_ones():
    def row(jump, moves, error=10.0):
        numbers = {"identities": 1.0, "among_others": 0.5, "kept": 30.0, "psnr": 25.0, "consistency": 0.9}
        return {**numbers, "error": error, "jump": jump, "moves": moves}

    results = {
        "0": {"true": row(5.0, True), "seine": row(9.0, True, 3.0)},
        "1": {"true": row(6.0, True), "seine": row(1.0, True, 4.0)},
        "2": {"true": row(1.0, False), "seine": row(1.0, False, None)},
    }
    lines = measure.write_table(results, ("true", "seine")).splitlines()
    assert lines[2] == "| with motion, 2 | true | 10.0 | 100.0% | 50.0% | 50.0% | 30.0 | 25.0 |"
    assert lines[3] == "| with motion, 2 | seine | 3.5 | 100.0% | 50.0% | 50.0% | 30.0 | 25.0 |"
    assert lines[5] == "| without, 1 | seine | nan | 100.0% | 50.0% | 0.0% | 30.0 | 25.0 |"
