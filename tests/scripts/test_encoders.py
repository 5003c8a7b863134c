"""The scripts that make the embedded CLIP and ViT: captions and what they claim, views, and training that goes on."""

import importlib
import itertools
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from d2plan.eval.encoders import open_clip, open_encoder
from d2plan.world.caption import write_caption
from d2plan.world.scene import sample_scene, scene_to_json
from d2plan.world.seeds import stream_rng
from d2plan.world.truth import render

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
NAMES = (
    "begin captions card course cutouts measure models pairs stock train_clip train_vit views "
    "common tokenizer words augment autoencoder data"
).split()


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """The modules by name, with working folders of their own; other scripts have files of the same names."""
    folder = tmp_path_factory.mktemp("encoders")
    kept = {name: sys.modules.pop(name) for name in NAMES if name in sys.modules}
    places = {"D2PLAN_ENCODERS_WORK": folder / "encoders", "D2PLAN_MINI_WORK": folder / "mini"}
    before = {name: os.environ.get(name) for name in places}
    os.environ.update({name: str(place) for name, place in places.items()})
    path = list(sys.path)
    sys.path.insert(0, str(SCRIPTS / "encoders"))
    names = "begin captions course cutouts measure models pairs train_clip train_vit views".split()
    yield {name: importlib.import_module(name) for name in names} | {"folder": folder}
    sys.path[:] = path
    for name in NAMES:
        sys.modules.pop(name, None)
    sys.modules.update(kept)
    for name, value in before.items():
        os.environ.pop(name, None)
        os.environ.update({name: value} if value is not None else {})


def scenes(count, least=1):
    drawn = (sample_scene(stream_rng("heldout", 90, number)) for number in itertools.count())
    return list(itertools.islice((scene for scene in drawn if len(scene.figures) >= least), count))


def test_a_caption_claims_nothing_that_is_false_of_its_scene(scripts):
    captions = scripts["captions"]
    for number, scene in enumerate(scenes(40)):
        claims = captions.caption_claims(scene, write_caption(scene, np.random.default_rng(number)))
        assert not (claims.yes & ~captions.scene_truth(scene)).any()
        assert not (captions.scene_truth(scene) & ~claims.yes & ~claims.open).any()
        assert not (claims.yes & claims.open).any()


def test_exchanged_attributes_are_the_same_ones_on_the_other_figure(scripts):
    swap = scripts["captions"].swap_attributes
    found = 0
    for number, scene in enumerate(scenes(60, 2)):
        twin = swap(scene, np.random.default_rng(number))
        if twin is None:
            continue
        found += 1
        for part in ("accessory", "accessory_colour", "action"):
            own, other = ([getattr(figure, part) for figure in one.figures] for one in (scene, twin))
            assert sorted(map(str, own)) == sorted(map(str, other))
        assert [f.class_word for f in twin.figures] == [f.class_word for f in scene.figures]
        assert twin.place == scene.place and twin != scene
    assert found > 30


def test_what_is_called_false_is_false_and_the_first_is_true(scripts):
    captions = scripts["captions"]
    false = 0
    for number, scene in enumerate(scenes(60)):
        rows = captions.write_beside(scene, number, np.random.default_rng(number))
        assert len(rows) == 3 and not rows[0][2]
        truth = captions.scene_truth(scene)
        for _, claims, wrong in rows:
            assert wrong == bool((claims.yes & ~truth).any())
        false += sum(wrong for _, _, wrong in rows[1:])
    assert false > 80


def test_a_stored_scene_is_captioned_as_the_drawn_one(scripts):
    scene = scenes(1, 2)[0]
    read = scripts["captions"].read_scene(json.loads(json.dumps(scene_to_json(scene))))
    texts = [write_caption(one, np.random.default_rng(3)).text for one in (scene, read)]
    assert texts[0] == texts[1]


def test_a_pools_captions_exclude_each_other_and_half_are_exchanged(scripts, monkeypatch):
    measure, captions = scripts["measure"], scripts["captions"]
    monkeypatch.setattr(measure, "HALF_POOL", 6)
    pool = measure.draw_pool(0)
    assert len(pool.scenes) == len(pool.captions) == len(set(pool.captions)) == 12
    for number, first in enumerate(pool.claims):
        assert not (first.yes & ~captions.scene_truth(pool.scenes[number])).any()
        for other in range(number):
            assert measure.contradict(first, pool.claims[other]), (pool.captions[number], pool.captions[other])
    for one, twin in zip(pool.scenes[:6], pool.scenes[6:], strict=True):
        assert sorted(str(f.action) for f in one.figures) == sorted(str(f.action) for f in twin.figures)


def test_a_triplet_shows_one_character_in_two_places_and_another(scripts):
    kinds = set()
    for number in range(44):
        kind, (anchor, same, other) = scripts["measure"].draw_triplet(number)
        kinds.add(kind)
        who = anchor.figures[0].identity
        assert same.figures[0].identity == who and same.place != anchor.place
        assert other.figures[0].identity != who and other.figures[0].class_word == who.class_word
        changed = [key for key, value in other.figures[0].identity.values.items() if value != who.values[key]]
        assert kind == "far" or len(changed) == int(kind[0])
    assert kinds == {"1 factor", "2 factors", "far"}


def test_a_cutout_holds_the_instance_in_its_middle(scripts):
    truth = render(scenes(1, 2)[0])
    cut = scripts["cutouts"].cut_instance(truth, 0)
    assert cut.shape == (96, 96, 4)
    rows, columns = np.nonzero(cut[..., 3] > 127)
    assert abs((rows.min() + rows.max()) / 2 - 47.5) < 3 and abs((columns.min() + columns.max()) / 2 - 47.5) < 3
    reach = max(np.ptp(rows), np.ptp(columns))
    assert reach == pytest.approx(96 / scripts["cutouts"].MARGIN, abs=4)


def test_a_clip_gives_one_instance_at_two_moments(scripts):
    drawn = scripts["cutouts"].draw_shard(0, 4)
    assert drawn.shape == (4, 2, 96, 96, 4)
    colours, masks = drawn[..., :3].astype(float), drawn[..., 3] > 250
    means = np.array([[colours[n, m][masks[n, m]].mean(0) for m in range(2)] for n in range(4)])
    own = np.abs(means[:, 0] - means[:, 1]).mean()
    assert own < np.abs(means[:, 0] - np.roll(means[:, 1], 1, 0)).mean() / 2
    assert not (drawn[:, 0] == drawn[:, 1]).all((1, 2, 3)).any()


def test_a_double_differs_within_the_instance_alone_and_nearly_always(scripts):
    rng = np.random.default_rng(0)
    cut = np.zeros((64, 4, 96, 96), np.float32)
    cut[:, :3] = rng.random((64, 3, 1, 1))
    cut[:, :3, 30:60, 30:60] = rng.random((64, 3, 1, 1))
    cut[:, 3, 30:60, 30:60] = 1
    cutouts = torch.from_numpy(cut)
    views = scripts["views"].Views(torch.zeros(2, 3, 96, 96), 0)
    gap = (views.double(cutouts) - cutouts).abs().amax(1)
    changed = (gap[:, 30:60, 30:60] > 0.1).float().mean((1, 2))
    whole, part = (changed > 0.99).float().mean(), ((changed > 0.1) & (changed < 0.9)).float().mean()
    assert whole > 0.4 and part > 0.2 and (changed > 0.05).float().mean() > 0.9
    gap[:, 30:60, 30:60] = 0
    assert gap.max() == 0


def test_a_rare_colour_is_picked_oftener_than_it_is_seen(scripts):
    cutouts = torch.ones(1, 4, 96, 96)
    cutouts[:, :3, :, :3] = 0  # three of 96 columns
    weights = scripts["views"].Views._rareness(cutouts).view(96, 96)
    share = float(weights[:, :3].sum() / weights.sum())
    assert share == pytest.approx(3**0.5 / (3**0.5 + 93**0.5), abs=1e-3)


def test_a_pair_differs_in_one_thing_or_in_who_has_it(scripts):
    swapped = 0
    for number in range(60):
        scene, twin = scripts["pairs"].draw_pair(0, number)
        assert (scene.place, scene.light, scene.seed) == (twin.place, twin.light, twin.seed)
        changed = sum(one != other for one, other in zip(scene.figures, twin.figures, strict=True))
        swapped += changed == 2
        assert changed in (1, 2) and all(figure.identity.values for figure in twin.figures)
    assert swapped > 15


def test_views_come_from_their_seed_and_stay_in_range(scripts):
    cutouts = torch.rand(4, 4, 96, 96)
    views = scripts["views"].Views(torch.rand(3, 3, 96, 96), 0)
    views.reseed(5)
    one, other = views(cutouts), views(cutouts)
    views.reseed(5)
    assert torch.equal(one, views(cutouts)) and not torch.equal(one, other)
    assert one.shape == (4, 3, 96, 96) and one.min() >= -1 and one.max() <= 1


def test_patches_begin_as_uncorrelated_parts_of_pictures(scripts):
    embedding = torch.nn.Conv2d(3, 12, 8, 8)
    pixels = torch.nn.functional.interpolate(torch.randn(40, 3, 16, 16), (64, 64), mode="bicubic")
    scripts["begin"].begin_patches(embedding, pixels)
    tokens = embedding(pixels).detach().permute(0, 2, 3, 1).reshape(-1, 12).double()
    moments = tokens.T @ tokens / len(tokens)
    spread = moments.diag().sqrt()
    assert ((moments / torch.outer(spread, spread)) - torch.eye(12)).abs().max() < 0.01
    assert float(moments.diag().mean()) == pytest.approx(1, rel=0.01)


def test_attention_begins_at_the_like_of_each_token(scripts):
    layers = tuple(torch.nn.Linear(64, 64) for _ in range(4))
    scripts["begin"].begin_attention(layers, 2, 0)
    query, key, value, out = (layer.weight.detach() for layer in layers)
    scores = query[:32].T @ key[:32]
    assert scores.diag().mean() > 3 * (scores - scores.diag().diag()).abs().mean()
    passed = out @ value
    assert float(passed.diag().mean()) == pytest.approx(-0.4, abs=0.1)


def weights_of(path):
    return torch.load(path, weights_only=True)["model"]


@pytest.mark.parametrize("name", ["clip", "vit"])
def test_training_cut_in_two_gives_the_same_weights(scripts, name, monkeypatch, tmp_path):
    module, course = scripts[f"train_{name}"], scripts["course"]
    options = ["--batch", "4", *(["--instances", "8"] if name == "vit" else ["--pairs", "6"])]

    def run(*more):
        monkeypatch.setattr(sys, "argv", [name, *options, *more])
        module.main()

    def begin(folder):
        folder.mkdir()
        monkeypatch.setattr(course, "WORK", folder)

    # A rate that depends on the planned end would differ between the two ways.
    monkeypatch.setattr(course, "cosine", lambda *_: 1.0)
    monkeypatch.setattr(course, "LOG_EVERY", 2)
    begin(tmp_path / "whole")
    run("--steps", "2")
    assert json.loads((tmp_path / "whole" / f"{name}.log.jsonl").read_text())["step"] == 2
    begin(tmp_path / "cut")
    run("--steps", "1")
    first = weights_of(tmp_path / "cut" / f"{name}.pt")
    run("--steps", "2", "--export", "--assets", str(tmp_path / "out"))
    whole, cut = (weights_of(tmp_path / part / f"{name}.pt") for part in ("whole", "cut"))
    assert any(not torch.equal(first[key], cut[key]) for key in first)
    assert all(torch.equal(whole[key], cut[key]) for key in whole)
    kind = {"clip": "clip", "vit": "dino"}[name]
    encoder = (open_clip if name == "clip" else open_encoder)(f"{kind}:{tmp_path / 'out'}")
    assert encoder.embed_images([np.zeros((40, 60, 3), np.uint8)]).shape[0] == 1
    size = sum(path.stat().st_size for path in (tmp_path / "out").iterdir())
    assert size < 4_200_000 if name == "clip" else size < 2_000_000


def test_written_weights_are_rounded_to_few_digits(scripts):
    weights = torch.cat([torch.randn(1000, generator=torch.Generator().manual_seed(0)), torch.zeros(1)])
    rounded = scripts["models"].round_weights(weights)
    assert float(((rounded - weights).abs() / weights.abs().clamp(min=1e-30)).max()) <= 2**-5
    assert torch.equal(scripts["models"].round_weights(rounded), rounded)
    fractions = torch.frexp(rounded)[0] * 32
    assert torch.equal(fractions, fractions.round()) and len(fractions.unique()) <= 2 * 17 + 1


def test_a_card_says_how_long_and_where_it_learnt(scripts, monkeypatch, tmp_path):
    card, models = importlib.import_module("card"), scripts["models"]
    monkeypatch.setattr(card, "WORK", tmp_path)
    assert "not at hand" in card._training("vit")
    watch = models.StopWatch(torch.device("cpu"), {"cuda": 480.2})
    seconds = watch.read()
    assert seconds["cuda"] == 480.2 and 0 <= seconds["cpu"] < 5
    again = models.StopWatch(torch.device("cpu"), {"cpu": 60.0, "cuda": 480.2}).read()
    assert 60 <= again["cpu"] < 65
    torch.save({"step": 12_000, "seconds": {"cuda": 480.2, "cpu": 61.0}}, tmp_path / "vit.pt")
    assert card._training("vit") == "12,000 steps, 480 seconds on a GPU, 61 CPU seconds on one thread."
