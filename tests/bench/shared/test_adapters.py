from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from d2plan.adapter.file import load_adapter
from d2plan.bench.protocol import BenchConcept, Learned
from d2plan.bench.shared.adapters import choose_training, learn_adapter, learn_lora, read_adapter, write_adapter
from d2plan.dislora.data import read_concept_folder
from d2plan.dislora.lessons import LessonChoices
from d2plan.dislora.request import TrainRequest
from d2plan.dislora.train import finish_training, train_steps
from d2plan.errors import InputError
from tests.bench.small import digest_base, finish, halve, small_concept
from tests.tiny import tiny_adapter


def same(first, second):
    return first.keys() == second.keys() and all(
        torch.equal(first[path].down, second[path].down)
        and torch.equal(first[path].up, second[path].up)
        and first[path].alpha == second[path].alpha
        for path in first
    )


def test_a_state_is_an_adapter_before_and_after_its_file(tiny, tmp_path):
    adapter, path = tiny_adapter(tiny), tmp_path / "rex.safetensors"
    save_file(write_adapter(adapter), path)
    read = read_adapter(tiny, Learned(BenchConcept("rex", "dog", "<v1>", tmp_path), load_file(path), path))
    assert same(read.deltas, adapter.deltas)
    assert (read.class_word, read.identifier, read.rank, read.alpha) == ("dog", "<v1>", 3, 6.0)
    assert read.base_fingerprint == tiny.fingerprint
    # Other programs' way into the same file.
    assert same(load_adapter(path).deltas, adapter.deltas)


def test_a_state_without_updates_is_refused(tiny, tmp_path):
    learned = Learned(BenchConcept("rex", "dog", "<v1>", tmp_path), {}, tmp_path / "rex.safetensors")
    with pytest.raises(InputError, match="rex.safetensors holds no adapter"):
        read_adapter(tiny, learned)


def test_a_lora_is_what_the_products_training_makes_without_the_two_losses(tiny, tmp_path):
    base, concept = halve(tiny), small_concept(tmp_path)
    before = digest_base(base)
    shares, state = finish(learn_lora(base, concept, {"steps": 0.5}, 3))
    settings = replace(base.defaults.training(), steps=3, token_weight=0.0, attention_weight=0.0)
    data = read_concept_folder(concept.folder, 64, 64)
    wanted = finish_training(train_steps(base, data, TrainRequest("rex", LessonChoices("dog", "<v1>"), settings, 3)))
    read = read_adapter(base, Learned(concept, state, tmp_path))
    assert same(read.deltas, wanted.deltas)
    assert shares == pytest.approx([1 / 3, 2 / 3, 1])
    assert digest_base(base) == before


def test_dislora_differs_from_it(tiny, tmp_path):
    base, concept = halve(tiny), small_concept(tmp_path)
    settings = replace(choose_training(base, {}), steps=2, token_weight=1.0, attention_weight=1.0)
    _, state = finish(learn_adapter(base, concept, settings, 3))
    _, plain = finish(learn_lora(base, concept, {"steps": 1 / 3}, 3))
    assert state.keys() == plain.keys()
    assert any(not torch.equal(state[name], plain[name]) for name in state)


def test_a_setting_multiplies_what_the_base_says(tiny):
    own = tiny.defaults.training()
    assert choose_training(tiny, {}) == own
    changed = choose_training(tiny, {"rate": 2, "steps": 1.5, "token": 0.5, "attention": 3, "joint": 1})
    assert changed == replace(
        own,
        unet_rate=2 * own.unet_rate,
        text_rate=2 * own.text_rate,
        steps=9,
        token_weight=own.token_weight / 2,
        attention_weight=3 * own.attention_weight,
        joint_fraction=1,
    )
