import dataclasses
from contextlib import contextmanager

import pytest
import torch

from d2plan.backbone.load import load_backbone
from d2plan.backbone.sdxl import encode_prompts, sample_steps
from d2plan.bench.shared.examples import ExampleDraw, draw_prior, prepare_concept
from d2plan.bench.shared.learning import LearnOptions, Rated, borrow, count_prior_steps, learn_steps
from d2plan.errors import InputError
from tests.bench.small import digest_base, finish, halve, small_concept


@pytest.fixture
def base(tiny):
    return halve(tiny)


def attention_weights(backbone):
    return [p for name, p in backbone.unet.named_parameters() if ".attn2." in name]


def watch_examples(seen, value=None):
    """Collect each step's examples; adds ``value`` to the loss."""

    @contextmanager
    def extra(examples):
        seen.append(examples)
        yield lambda: examples.latents.new_zeros(()) if value is None else value.sum()

    return extra


def test_the_loss_falls_when_one_picture_is_learnt(base, tmp_path):
    concept, losses = small_concept(tmp_path, count=1), []
    with borrow(base.unet.parameters()) as learnt:
        options = LearnOptions(steps=24, batch_size=1)
        shares = list(
            learn_steps(base, [concept], [Rated(learnt, 5e-3)], options, 0, after=lambda _, loss: losses.append(loss))
        )
    assert shares == pytest.approx([(step + 1) / 24 for step in range(24)])
    assert sum(losses[-8:]) < 0.8 * sum(losses[:8])


def test_only_what_was_given_learns_and_the_base_gets_its_own_back_bit_for_bit(base, tmp_path):
    concept, before = small_concept(tmp_path), digest_base(base)
    kept = {name: parameter.detach().clone() for name, parameter in base.unet.named_parameters()}
    with borrow(attention_weights(base)) as learnt:
        list(learn_steps(base, [concept], [Rated(learnt, 1e-3)], LearnOptions(steps=2), 0))
        changed = {name for name, parameter in base.unet.named_parameters() if not torch.equal(parameter, kept[name])}
    assert changed == {name for name in kept if ".attn2." in name}
    assert digest_base(base) == before


def test_borrowed_weights_come_back_when_the_training_fails(base):
    before = digest_base(base)
    with pytest.raises(RuntimeError, match="stop"), borrow(base.unet.parameters()) as learnt:
        with torch.no_grad():
            learnt[0].add_(1)
        raise RuntimeError("stop")
    assert digest_base(base) == before


def test_class_images_are_drawn_in_the_steps_that_are_asked_for(base, tmp_path):
    lessons = prepare_concept(base, small_concept(tmp_path), LearnOptions(steps=1))
    own = base.defaults.steps
    for steps, expected in ((None, own), (1, 1), (own - 1, own - 1)):
        options = LearnOptions(steps=1, prior_weight=1.0, prior_images=1, prior_steps=steps)
        assert len(finish(draw_prior(base, lessons, options, 7))[0]) == expected


def test_a_setting_of_fewer_steps_draws_class_images_in_fewer_steps_and_never_in_more(base):
    own = base.defaults.steps
    assert [count_prior_steps(base, {"steps": part}) for part in (1 / own, 1.0, 3.0)] == [1, own, own]
    assert count_prior_steps(base, {}) == own


def test_a_seed_decides_every_loss(base, tmp_path):
    concept = small_concept(tmp_path)

    def train(seed):
        losses = []
        with borrow(attention_weights(base)) as learnt:
            list(
                learn_steps(
                    base,
                    [concept],
                    [Rated(learnt, 1e-3)],
                    LearnOptions(steps=2),
                    seed,
                    after=lambda _, loss: losses.append(loss),
                )
            )
        return losses

    assert train(1) == train(1) != train(2)


def test_concepts_that_are_learnt_jointly_share_each_batch(base, tmp_path):
    concepts = [small_concept(tmp_path), small_concept(tmp_path, "tom", "cat", "<v2>", seed=1)]
    options = LearnOptions(steps=1, batch_size=4)
    draw = ExampleDraw(base, [prepare_concept(base, one, options) for one in concepts], options, 0)
    examples = draw.draw()
    assert examples.owners == (0, 0, 1, 1)
    assert len(examples.latents) == len(examples.prompts) == 4
    assert all("<v1> dog" in prompt for prompt in examples.prompts[:2])
    assert all("<v2> cat" in prompt for prompt in examples.prompts[2:])


def test_spans_say_where_the_identifier_stands(base, tmp_path):
    options = LearnOptions(steps=1, batch_size=2)
    draw = ExampleDraw(base, [prepare_concept(base, small_concept(tmp_path), options)], options, 0)
    found = dict(zip((examples := draw.draw()).prompts, examples.spans, strict=True))
    assert found == {"a <v1> dog running in the snow": (2,), "a photo of a <v1> dog": (5,)}


def test_a_picture_without_a_mask_is_subject_all_over_beside_one_that_has_one(base, tmp_path):
    options = LearnOptions(steps=1, batch_size=2, flip=False)
    draw = ExampleDraw(base, [prepare_concept(base, small_concept(tmp_path), options)], options, 0)
    examples = draw.draw()
    masked = examples.prompts.index("a <v1> dog running in the snow")
    masks = examples.masks
    # Where the mask's edge was scaled down its cells are in between.
    assert masks[masked, 0, :, :7].eq(1).all()
    assert masks[masked, 0, :, 9:].eq(0).all()
    assert masks[1 - masked].eq(1).all()


def test_class_images_are_those_that_the_base_draws_itself(base, tmp_path):
    options = LearnOptions(steps=1, batch_size=2, prior_weight=1.0, prior_images=3)
    shares, lessons = finish(draw_prior(base, prepare_concept(base, small_concept(tmp_path), options), options, 7))
    prompts = [lessons.prompts[number] for number in lessons.prior.rows.tolist()]
    assert shares[-1] == 1.0
    assert set(prompts) == {"a dog running in the snow", "a photo of a dog"}
    for place, prompt in enumerate(prompts):
        *_, last = sample_steps(base, prompt, seed=7 + place)
        assert torch.allclose(lessons.prior.latents[place], last.latents[0], atol=1e-4)
    examples = ExampleDraw(base, [lessons], options, 0).draw()
    assert len(examples.owners) == 2
    assert len(examples.latents) == len(examples.prompts) == 4
    assert not any("<v1>" in prompt for prompt in examples.prompts[2:])


def test_prior_preservation_adds_its_weight_times_a_loss(base, tmp_path):
    concept = small_concept(tmp_path)

    def first_loss(weight):
        told = []
        with borrow(attention_weights(base)) as learnt:
            options = LearnOptions(steps=1, batch_size=2, prior_weight=weight, prior_images=2)
            rated = [Rated(learnt, 1e-3)]
            list(learn_steps(base, [concept], rated, options, 0, after=lambda _, loss: told.append(loss)))
        return told[0]

    half, one, two = first_loss(0.5), first_loss(1.0), first_loss(2.0)
    assert one > half
    assert two - one == pytest.approx(2 * (one - half), rel=1e-4)


def test_the_noise_offset_shifts_each_channel_as_a_whole(base, tmp_path):
    options = LearnOptions(steps=1, batch_size=2)
    lessons = [prepare_concept(base, small_concept(tmp_path), options)]
    plain = ExampleDraw(base, lessons, options, 0).draw()
    shifted = ExampleDraw(base, lessons, dataclasses.replace(options, noise_offset=0.5), 0).draw()
    shift = shifted.noise - plain.noise
    assert torch.allclose(shift, shift.mean(dim=(2, 3), keepdim=True).expand_as(shift), atol=1e-5)
    assert shift.abs().max() > 0.1
    assert torch.equal(plain.latents, shifted.latents)


def test_rows_without_their_prompt_read_the_null_of_the_base(base, tmp_path):
    concept, seen, values = small_concept(tmp_path), [], []
    weight = torch.zeros(1, requires_grad=True)

    def encode(prompts):
        text = encode_prompts(base, prompts)
        # The loss depends on the weight through the prompts alone.
        return dataclasses.replace(text, states=text.states + weight)

    options = LearnOptions(steps=2, batch_size=2, null_fraction=1.0)
    run = learn_steps(
        base,
        [concept],
        [Rated([weight], 1e-2, 0.0)],
        options,
        0,
        encode,
        watch_examples(seen),
        lambda *_: values.append(weight.item()),
    )
    list(run)
    assert all(examples.dropped.all() and examples.spans == ((), ()) for examples in seen)
    assert values == [0.0, 0.0]


@pytest.mark.parametrize("linear_decay", [False, True])
def test_rates_are_constant_or_go_down_in_a_straight_line(base, tmp_path, linear_decay):
    values, value = [0.0], torch.zeros(1, requires_grad=True)
    options = LearnOptions(steps=4, batch_size=1, linear_decay=linear_decay)
    list(
        learn_steps(
            base,
            [small_concept(tmp_path)],
            [Rated([value], 0.1, 0.0)],
            options,
            0,
            extra=watch_examples([], value),
            after=lambda *_: values.append(value.item()),
        )
    )
    # Adam's step is its rate where the gradient never changes.
    steps = [before - after for before, after in zip(values, values[1:], strict=False)]
    assert steps == pytest.approx([0.1, 0.075, 0.05, 0.025] if linear_decay else [0.1] * 4, rel=1e-4)


def test_a_base_in_half_precision_learns_in_float32_and_is_as_before(tiny_folder, tmp_path):
    backbone = halve(load_backbone(tiny_folder, dtype=torch.bfloat16))
    before, kinds = digest_base(backbone), set()
    with borrow(attention_weights(backbone)) as learnt:
        first = learnt[0].detach().clone()
        list(learn_steps(backbone, [small_concept(tmp_path)], [Rated(learnt, 1e-5)], LearnOptions(steps=2), 0))
        kinds = {parameter.dtype for parameter in learnt}
        moved = (learnt[0] - first).abs().max()
    assert kinds == {torch.float32}
    assert 0 < moved < 1e-4
    assert digest_base(backbone) == before


def test_nothing_to_learn_and_a_loss_that_is_no_number_are_clear_errors(base, tmp_path):
    concept, value = small_concept(tmp_path), torch.zeros(1, requires_grad=True)
    with pytest.raises(InputError, match="learning rate above 0"):
        list(learn_steps(base, [concept], [Rated([value], 0.0)], LearnOptions(steps=1), 0))
    broken = torch.full((1,), torch.nan, requires_grad=True)
    with pytest.raises(InputError, match="The loss is nan at step 1"):
        options = LearnOptions(steps=1)
        list(learn_steps(base, [concept], [Rated([value], 0.1)], options, 0, extra=watch_examples([], broken)))
