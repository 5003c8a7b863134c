import pytest

from d2plan.backbone.sdxl import decode_latents, null_states
from d2plan.bench.methods.lora_composite import METHOD
from d2plan.bench.registry import open_method
from d2plan.bench.shared.drawing import denoise_shots, guide_plainly
from tests.bench import loras
from tests.bench.concepts import merged_base
from tests.bench.loras import SMALL, draw, gap, plain, read
from tests.bench.shots import make_shot


def test_one_concept_alone_is_plain_sampling_with_its_lora_in_the_weights(tiny):
    loras.check_one_concept(METHOD, tiny)


def test_a_batch_is_its_shots_one_by_one_and_leaves_the_base_bit_for_bit(tiny):
    loras.check_batches(METHOD, tiny, most_rows=8)


def test_the_base_is_restored_when_drawing_fails(tiny):
    loras.check_restored(METHOD, tiny)


def test_rows_a_step_are_the_published_two_each(tiny):
    loras.check_rows(METHOD, tiny, 6)


def test_it_keeps_to_the_protocol(tiny):
    assert open_method(METHOD.name) is METHOD
    loras.check_protocol(METHOD, tiny)


def test_the_order_of_concepts_does_not_matter(tiny):
    shot = make_shot(words=("man", "man"))
    assert gap(draw(METHOD, tiny, [1, 2], [shot]), draw(METHOD, tiny, [2, 1], [shot])) <= 1


@pytest.mark.parametrize("own", [0, 1])
def test_composite_is_the_mean_of_what_each_lora_guides_to(tiny, own):
    shots = [make_shot(1), make_shot(2)]
    bases = [merged_base(tiny, {number: 0.8}) for number in (1, 2)]
    both = merged_base(tiny, {1: 0.8, 2: 0.8})
    said = [read(base if own else both, shots) for base in bases]
    each = [guide_plainly(base, text, null_states(tiny, 1)) for base, text in zip(bases, said, strict=True)]

    def oracle(moment):
        return sum(one(moment) for one in each) / 2

    expected = decode_latents(tiny, denoise_shots(tiny, shots, SMALL, predict=oracle))
    assert gap(draw(METHOD, tiny, [1, 2], shots, own_text=own), expected) <= 1


def test_the_mean_of_one_lora_twice_is_that_lora(tiny):
    shot = make_shot(words=("man", "man"))
    assert gap(draw(METHOD, tiny, [1, 1], [shot], own_text=1), plain(merged_base(tiny, {1: 0.8}), shot)) <= 1
