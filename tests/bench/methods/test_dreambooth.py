from dataclasses import replace

import numpy as np
import pytest
import torch

from d2plan.backbone.sdxl import decode_latents, sample_steps
from d2plan.bench.methods.dreambooth import METHOD, add_difference, list_parameters
from d2plan.bench.protocol import Learned
from d2plan.errors import InputError
from tests.bench.small import ALONE, DRAWING, PAIR, digest_base, finish, halve, learn, small_concept


def test_the_state_is_what_the_whole_u_net_has_moved_by(tiny, tmp_path):
    base, concept = halve(tiny), small_concept(tmp_path)
    before = digest_base(base)
    learned = learn(METHOD, base, concept, tmp_path, {"rate": 10.0})
    assert learned.state.keys() == dict(base.unet.named_parameters()).keys()
    assert all(tensor.dtype == torch.float16 for tensor in learned.state.values())
    moved = sum(bool(tensor.abs().max() > 0) for tensor in learned.state.values())
    assert moved > 0.9 * len(learned.state)
    assert digest_base(base) == before
    (picture,) = METHOD.draw(base, [learned], {}, [ALONE], DRAWING)
    assert not np.array_equal(picture, plain_picture(base, ALONE))
    assert digest_base(base) == before


def test_with_a_text_rate_the_encoders_learn_too_and_come_back_bit_for_bit(tiny, tmp_path):
    base, concept = halve(tiny), small_concept(tmp_path)
    before = digest_base(base)
    setting = {"rate": 10.0, "prior": 0.0, "text": 1.0, "steps": 1 / 3}
    learned = learn(METHOD, base, concept, tmp_path, setting)
    assert learned.state.keys() == list_parameters(base).keys()
    table = next(name for name in learned.state if name.startswith("text_encoder.") and "token_embedding" in name)
    assert learned.state[table].any()
    assert digest_base(base) == before
    plain = replace(learned, state={name: one for name, one in learned.state.items() if "text_encoder" not in name})
    one, other = (METHOD.draw(base, [each], {}, [ALONE], DRAWING)[0] for each in (learned, plain))
    assert not np.array_equal(one, other)
    assert digest_base(base) == before


def test_without_a_prior_no_class_image_is_drawn_and_with_one_its_weight_counts(tiny, tmp_path):
    base, concept = halve(tiny), small_concept(tmp_path)
    setting = {"rate": 10.0, "steps": 1 / 3}
    runs = [finish(METHOD.learn(base, concept, {**setting, "prior": weight}, 0)) for weight in (0.0, 0.1, 1.0)]
    steps = [len(shares) for shares, _ in runs]
    assert steps[0] < steps[1] == steps[2]
    assert any(not torch.equal(runs[1][1][name], runs[2][1][name]) for name in runs[1][1])
    _, falling = finish(METHOD.learn(base, concept, {**setting, "prior": 0.0, "decay": 1}, 0))
    assert any(not torch.equal(falling[name], runs[0][1][name]) for name in falling)


def test_a_setting_of_few_steps_draws_class_images_in_few_steps_too(tiny, tmp_path):
    base, concept = halve(tiny), small_concept(tmp_path)
    own = base.defaults.steps

    def count(steps):
        shares, _ = finish(METHOD.learn(base, concept, {"rate": 1.0, "steps": steps}, 0))
        return sum(share <= 0.2 for share in shares)

    assert own > 1
    assert (count(1 / own), count(1.0)) == (1, own)


def plain_picture(base, shot):
    *_, last = sample_steps(base, shot.joint_prompt, shot.seed, 2, 3.0, (64, 64))
    return decode_latents(base, last.latents)[0]


@pytest.mark.parametrize("zeros", [False, True], ids=["no difference", "a difference of zero"])
def test_without_a_difference_a_picture_is_plain_guidance_bit_for_bit(tiny, tmp_path, zeros):
    state = {name: torch.zeros_like(p).half() for name, p in tiny.unet.named_parameters()} if zeros else {}
    learned = Learned(small_concept(tmp_path), state, tmp_path / "rex.safetensors")
    (picture,) = METHOD.draw(tiny, [learned], {}, [ALONE], DRAWING)
    assert np.array_equal(picture, plain_picture(tiny, ALONE))


def test_a_difference_is_added_and_taken_away_bit_for_bit(tiny):
    before, weight = digest_base(tiny), tiny.unet.conv_in.weight
    kept = weight.detach().clone()
    with pytest.raises(RuntimeError), add_difference(tiny, {"conv_in.weight": torch.full(weight.shape, 0.25).half()}):
        assert torch.equal(weight, kept + 0.25)
        raise RuntimeError
    assert digest_base(tiny) == before


def test_a_difference_of_another_base_is_refused_before_anything_changes(tiny):
    before = digest_base(tiny)
    with pytest.raises(InputError, match="conv_in.bias"), add_difference(tiny, {"conv_in.bias": torch.zeros(1)}):
        pass
    assert digest_base(tiny) == before


def test_several_concepts_are_learnt_jointly_from_the_base(tiny, tmp_path):
    base = halve(tiny)
    concepts = [small_concept(tmp_path), small_concept(tmp_path, "tom", "cat", "<v2>", seed=1)]
    learned = [Learned(concept, {}, tmp_path) for concept in concepts]
    before = digest_base(base)
    assert finish(METHOD.join(base, learned[:1], METHOD.settings[0], 0)) == ([], {})
    shares, joined = finish(METHOD.join(base, learned, {"rate": 10.0, "steps": 1 / 3}, 0))
    assert shares[-1] == 1.0
    assert shares == sorted(shares)
    assert digest_base(base) == before
    (picture,) = METHOD.draw(base, learned, joined, [PAIR], DRAWING)
    assert not np.array_equal(picture, plain_picture(base, PAIR))
    # Without the joint state there is nothing to draw two concepts with.
    (bare,) = METHOD.draw(base, learned, {}, [PAIR], DRAWING)
    assert np.array_equal(bare, plain_picture(base, PAIR))


@pytest.mark.parametrize("when", ["class images", "learning"])
def test_a_training_that_is_closed_early_leaves_no_trace(tiny, tmp_path, when):
    base = halve(tiny)
    before = digest_base(base)
    run = METHOD.learn(base, small_concept(tmp_path), METHOD.settings[0], 0)
    share = next(run)
    while when == "learning" and share <= 0.2:
        share = next(run)
    run.close()
    assert digest_base(base) == before
