from dataclasses import replace

import numpy as np
import pytest

from d2plan.bench.job import make_entry
from d2plan.bench.methods.isp import ISP_DISLORA, ISP_LORA, ISP_PAPER
from d2plan.bench.protocol import BenchConcept, Learned
from d2plan.bench.shared.adapters import read_adapter, write_adapter
from d2plan.documents import Instance, Scene
from d2plan.isp.loop import compose_many
from d2plan.isp.prepare import prepare_scene
from tests.bench.small import ALONE, DRAWING, PAIR, digest_base, finish, halve, learn, small_concept
from tests.isp.concepts import random_adapter


def pair(base, folder):
    found = []
    for name, word, identifier, seed in (("rex", "dog", "<v1>", 1), ("tom", "cat", "<v2>", 2)):
        state = write_adapter(random_adapter(base, word, identifier, seed))
        found.append(Learned(BenchConcept(name, word, identifier, folder), state, folder / f"{name}.safetensors"))
    return found


def test_a_picture_is_the_one_that_the_products_loop_composes(tiny, tmp_path):
    learned, before = pair(tiny, tmp_path), digest_base(tiny)
    (picture,) = ISP_DISLORA.draw(tiny, learned, {}, [PAIR], DRAWING)
    instances = [
        Instance(concept=name, sub_prompt=prompt) for name, prompt in zip(PAIR.concepts, PAIR.sub_prompts, strict=True)
    ]
    numbers = {"steps": 2, "guidance_scale": 3.0, "height": 64, "width": 64, "seed": 3, "missing": "mark"}
    scene = Scene(global_prompt=PAIR.global_prompt, instances=tuple(instances), **numbers)
    adapters = [read_adapter(tiny, one) for one in learned]
    (wanted,) = compose_many(tiny, [prepare_scene(tiny, scene, adapters)])
    assert np.array_equal(picture, wanted.image)
    assert digest_base(tiny) == before


def test_as_in_the_paper_is_without_what_a_base_adds(tiny, tmp_path):
    own = replace(tiny.defaults, weave="all", masks="columns", warmup_fraction=0.5, mask_margin=0.1)
    base = replace(tiny, defaults=own)
    paper = replace(own, weave="none", masks="attention", warmup_fraction=0.3, mask_margin=1 / 32)
    learned, before = pair(base, tmp_path), digest_base(base)
    (picture,) = ISP_PAPER.draw(base, learned, {}, [PAIR], DRAWING)
    (wanted,) = ISP_DISLORA.draw(replace(tiny, defaults=paper), learned, {}, [PAIR], DRAWING)
    (ours,) = ISP_DISLORA.draw(base, learned, {}, [PAIR], DRAWING)
    assert np.array_equal(picture, wanted)
    assert not np.array_equal(picture, ours)
    assert digest_base(base) == before


@pytest.mark.parametrize("method", [ISP_DISLORA, ISP_LORA])
def test_the_report_names_what_is_not_the_paper_s(method):
    assert all(word in method.source for word in ("d2plan's own", "weave", "columns"))
    assert "own" not in ISP_PAPER.source


def test_many_shots_come_in_their_order(tiny, tmp_path):
    learned, shots = pair(tiny, tmp_path), [PAIR, replace(PAIR, seed=4), replace(PAIR, seed=5)]
    together = ISP_LORA.draw(tiny, learned, {}, shots, replace(DRAWING, most_rows=8))
    for shot, picture in zip(shots, together, strict=True):
        (alone,) = ISP_LORA.draw(tiny, learned, {}, [shot], DRAWING)
        assert np.abs(picture.astype(int) - alone).max() <= 1


@pytest.mark.parametrize("method", [ISP_DISLORA, ISP_LORA], ids=lambda method: method.name)
def test_a_concept_is_learnt_kept_in_a_file_and_drawn(tiny, tmp_path, method):
    base = halve(tiny)
    before = digest_base(base)
    learned = learn(method, base, small_concept(tmp_path), tmp_path)
    assert finish(method.join(base, [learned], method.settings[0], 0)) == ([], {})
    (picture,) = method.draw(base, [learned], {}, [ALONE], DRAWING)
    (again,) = method.draw(base, [learned], {}, [ALONE], DRAWING)
    assert picture.shape == (64, 64, 3)
    assert np.array_equal(picture, again)
    assert digest_base(base) == before


def test_only_one_of_the_two_learns_with_dislora_s_losses(tiny, tmp_path):
    base, concept = halve(tiny), small_concept(tmp_path)
    base = replace(base, defaults=replace(base.defaults, token_weight=1.0, train_steps=2))
    states = [learn(method, base, concept, tmp_path).state for method in (ISP_DISLORA, ISP_LORA)]
    assert any(not states[0][name].equal(states[1][name]) for name in states[0])
    assert ISP_DISLORA.settings == ISP_LORA.settings


def test_a_training_that_is_closed_early_leaves_no_trace(tiny, tmp_path):
    base = halve(tiny)
    before = digest_base(base)
    run = ISP_DISLORA.learn(base, small_concept(tmp_path), ISP_DISLORA.settings[0], 0)
    assert 0 < next(run) < 1
    run.close()
    assert digest_base(base) == before


@pytest.mark.parametrize("method", [ISP_DISLORA, ISP_LORA])
def test_settings_that_learn_otherwise_never_share_a_state(method):
    keys = [make_entry(method.name, method, setting).learning[1] for setting in method.settings]
    assert all(keys.count(one) == 1 for one in keys)
    assert make_entry(method.name, method, {}).learning == make_entry(method.name, method, {"rate": 1.0}).learning
