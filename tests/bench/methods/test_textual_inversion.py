import numpy as np
import torch

from d2plan.backbone.sdxl import decode_latents, sample_steps
from d2plan.bench.methods.textual_inversion import METHOD
from d2plan.bench.protocol import Learned
from d2plan.bench.shared.words import FIRST, SECOND, start_vectors
from tests.bench.small import ALONE, DRAWING, PAIR, digest_base, finish, halve, learn, small_concept


def as_state(vectors):
    return {FIRST: vectors.first.detach(), SECOND: vectors.second.detach()}


def plain_picture(base, prompt, seed):
    *_, last = sample_steps(base, prompt, seed, 2, 3.0, (64, 64))
    return decode_latents(base, last.latents)[0]


def test_only_two_vectors_are_learnt_and_the_base_is_as_before(tiny, tmp_path):
    base, concept = halve(tiny), small_concept(tmp_path)
    before, start = digest_base(base), as_state(start_vectors(base, "dog"))
    learned = learn(METHOD, base, concept, tmp_path)
    assert {name: tensor.shape for name, tensor in learned.state.items()} == {FIRST: (32,), SECOND: (48,)}
    assert all(not torch.equal(learned.state[name], start[name]) for name in start)
    assert digest_base(base) == before


def test_a_word_that_learnt_nothing_is_the_class_word_bit_for_bit(tiny, tmp_path):
    concept = small_concept(tmp_path)
    learned = Learned(concept, as_state(start_vectors(tiny, "dog")), tmp_path)
    (picture,) = METHOD.draw(tiny, [learned], {}, [ALONE], DRAWING)
    assert np.array_equal(picture, plain_picture(tiny, "a photo of a dog dog", ALONE.seed))


def test_concepts_stand_side_by_side(tiny, tmp_path):
    before = digest_base(tiny)
    learned = [
        Learned(small_concept(tmp_path), as_state(start_vectors(tiny, "red")), tmp_path),
        Learned(small_concept(tmp_path, "tom", "cat", "<v2>"), as_state(start_vectors(tiny, "blue")), tmp_path),
    ]
    assert finish(METHOD.join(tiny, learned, METHOD.settings[0], 0)) == ([], {})
    (picture,) = METHOD.draw(tiny, learned, {}, [PAIR], DRAWING)
    prompt = PAIR.joint_prompt.replace("<v1>", "red").replace("<v2>", "blue")
    assert np.array_equal(picture, plain_picture(tiny, prompt, PAIR.seed))
    assert digest_base(tiny) == before


def test_a_training_that_is_closed_early_leaves_no_trace(tiny, tmp_path):
    base = halve(tiny)
    before = digest_base(base)
    run = METHOD.learn(base, small_concept(tmp_path), METHOD.settings[0], 0)
    assert next(run) == 1 / 12
    run.close()
    assert digest_base(base) == before
