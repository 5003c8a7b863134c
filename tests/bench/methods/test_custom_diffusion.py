"""Custom Diffusion on the tiny base: what learns, how several concepts come together, what is left alone."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from d2plan.bench.job import make_entry
from d2plan.bench.methods.custom_diffusion import FUSION, JOINT, find_readers, read_concept
from d2plan.bench.protocol import BenchConcept, Learned
from d2plan.bench.shared.drawing import draw_shots
from d2plan.bench.shared.words import FIRST, SECOND, put_words, read_vectors, start_rare, start_vectors
from d2plan.bench.surroundings import digest_module
from d2plan.errors import InputError
from tests.bench.small import ALONE, DRAWING, PAIR, digest_base, finish, halve, learn, small_concept

FAST = {"rate": 4.0, "steps": 0.4}


@pytest.fixture
def base(tiny, monkeypatch):
    monkeypatch.setattr("d2plan.bench.methods.custom_diffusion.CAPTIONS", 30)
    monkeypatch.setattr("d2plan.bench.methods.custom_diffusion.CLASS_IMAGES", 2)
    return halve(tiny)


def made_up(base, place, identifier, class_word, scale=0.02):
    """A concept that was never trained: random changes of the layers, and vectors of another word."""
    generator = torch.Generator().manual_seed(place)
    state = {
        f"{name}.weight": scale * torch.randn(layer.weight.shape, generator=generator)
        for name, layer in find_readers(base.unet).items()
    }
    vectors = start_vectors(base, ("red", "blue")[place])
    state |= {name: vector.detach() for name, vector in zip((FIRST, SECOND), vectors, strict=True)}
    return Learned(BenchConcept(identifier, class_word, identifier, Path("nowhere")), state, Path("state"))


def test_keys_values_and_the_vectors_learn_and_the_base_is_as_before(base, tmp_path):
    before = digest_base(base)
    learned = learn(FUSION, base, small_concept(tmp_path), tmp_path, FAST)
    assert digest_base(base) == before
    names = {f"{name}.weight" for name in find_readers(base.unet)}
    assert learned.state.keys() == names | {FIRST, SECOND}
    assert all("attn2.to_k" in name or "attn2.to_v" in name for name in names)
    assert all(learned.state[name].any() for name in names)
    start = start_rare(base, BenchConcept("rex", "dog", "<v1>", tmp_path), 0)
    assert not torch.equal(learned.state[FIRST], start.first.detach())
    picture = FUSION.draw(base, [learned], {}, [ALONE], DRAWING)[0]
    assert picture.shape == (64, 64, 3)
    assert digest_base(base) == before


def test_a_setting_of_few_steps_draws_class_images_in_few_steps_too(base, tmp_path):
    own, concept = base.defaults.steps, small_concept(tmp_path)

    def count(steps):
        shares, _ = finish(FUSION.learn(base, concept, {"rate": 1.0, "steps": steps}, 0))
        return sum(share <= 0.2 for share in shares)

    assert own > 1
    assert (count(1 / own), count(1.0)) == (1, own)


def test_without_a_prior_no_class_image_is_drawn_and_with_one_its_weight_counts(base, tmp_path):
    concept = small_concept(tmp_path)
    runs = [finish(FUSION.learn(base, concept, {**FAST, "prior": weight}, 0)) for weight in (0.0, 0.1, 1.0)]
    steps = [len(shares) for shares, _ in runs]
    assert steps[0] < steps[1] == steps[2]
    assert not torch.equal(runs[1][1][FIRST], runs[2][1][FIRST])


def test_a_training_that_is_closed_early_leaves_the_base_alone(base, tmp_path):
    before = digest_base(base)
    with closing(FUSION.learn(base, small_concept(tmp_path), FAST, 0)) as run:
        assert any(share > 0.5 for share in run)
    assert digest_base(base) == before


def test_a_concept_that_changed_nothing_draws_as_the_base(base):
    idle = made_up(base, 0, "<v1>", "dog", scale=0.0)
    own = start_vectors(base, "<v1>")
    idle = replace(idle, state=idle.state | {FIRST: own.first.detach(), SECOND: own.second.detach()})
    drawn = FUSION.draw(base, [idle], {}, [ALONE], DRAWING)[0]
    assert np.array_equal(drawn, draw_shots(base, [ALONE], DRAWING)[0])


def test_fused_layers_say_of_each_concepts_words_what_its_own_layers_say(base):
    learned = [made_up(base, 0, "<v1>", "dog"), made_up(base, 1, "<v2>", "cat")]
    before = digest_base(base)
    shares, joined = finish(FUSION.join(base, learned, FAST, 0))
    assert digest_base(base) == before
    readers = find_readers(base.unet)
    assert shares == pytest.approx([(number + 1) / len(readers) for number in range(len(readers))])
    words = {one.concept.identifier: read_vectors(base, one) for one in learned}
    with torch.no_grad(), put_words(base, words):
        phrases = [read_concept(base, one.concept) for one in learned]
    # "<v1> dog end" and "<v1> dog end" behind "a photo of".
    assert [len(phrase) for phrase in phrases] == [6, 6]
    for name, layer in readers.items():
        fused = layer.weight + joined[f"{name}.weight"]
        for phrase, one in zip(phrases, learned, strict=True):
            expected = phrase @ (layer.weight + one.state[f"{name}.weight"]).T
            assert torch.allclose(phrase @ fused.T, expected, atol=1e-3)
            assert not torch.allclose(phrase @ layer.weight.T, expected, atol=1e-2)


def test_a_fusion_closed_early_leaves_the_base_alone(base):
    before = digest_base(base)
    run = FUSION.join(base, [made_up(base, 0, "<v1>", "dog"), made_up(base, 1, "<v2>", "cat")], FAST, 0)
    with closing(run):
        next(run)
    assert digest_base(base) == before


def test_joint_training_learns_a_vector_for_each_concept_and_draws_with_them(base, tmp_path):
    concepts = [small_concept(tmp_path), small_concept(tmp_path, "tom", "cat", "<v2>", seed=1)]
    learned = [replace(made_up(base, place, one.identifier, one.class_word), concept=one)
               for place, one in enumerate(concepts)]  # fmt: skip
    before = digest_base(base)
    shares, joined = finish(JOINT.join(base, learned, FAST, 0))
    assert digest_base(base) == before
    assert shares[-1] == 1
    assert {f"{place}.{name}" for place in (0, 1) for name in (FIRST, SECOND)} < joined.keys()
    assert not torch.equal(joined[f"0.{FIRST}"], joined[f"1.{FIRST}"])
    drawn = JOINT.draw(base, learned, joined, [PAIR], DRAWING)[0]
    # What each learnt alone plays no part.
    others = [made_up(base, place, one.identifier, one.class_word, scale=1.0) for place, one in enumerate(concepts)]
    assert np.array_equal(drawn, JOINT.draw(base, others, joined, [PAIR], DRAWING)[0])


def test_one_concept_needs_no_join_and_several_do(base):
    one, other = made_up(base, 0, "<v1>", "dog"), made_up(base, 1, "<v2>", "cat")
    for method in (FUSION, JOINT):
        assert finish(method.join(base, [one], FAST, 0)) == ([], {})
        with pytest.raises(InputError, match="join them before"):
            method.draw(base, [one, other], {}, [PAIR], DRAWING)


def test_what_one_way_has_learnt_the_other_takes_over(base, tmp_path):
    concept = small_concept(tmp_path)
    one, other = (learn(method, base, concept, tmp_path, FAST).state for method in (FUSION, JOINT))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    for setting in (*FUSION.settings, FAST):
        first, second = (make_entry(method.name, method, setting) for method in (FUSION, JOINT))
        assert (first.family, first.learning) == (second.family, second.learning)


def test_its_own_code_and_every_number_that_it_reads_decide_what_is_learnt():
    def learning(**setting):
        return make_entry(JOINT.name, JOINT, setting).learning

    own = learning(rate=4.0)
    assert own[0] == digest_module("d2plan.bench.methods.custom_diffusion")
    assert learning(rate=4.0, prior=1.0, steps=1.0) == own
    others = [learning(rate=4.0, prior=0.1), learning(rate=4.0, steps=2.0), learning(rate=2.0), learning()]
    assert all(other != own for other in others)


def test_there_are_at_most_four_settings_of_each():
    assert all(1 <= len(method.settings) <= 4 for method in (FUSION, JOINT))
    assert FUSION.name != JOINT.name
