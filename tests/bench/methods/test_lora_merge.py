from d2plan.backbone.sdxl import decode_latents, guide, null_states, predict
from d2plan.bench.methods.lora_merge import METHOD
from d2plan.bench.registry import open_method
from d2plan.bench.shared.drawing import denoise_shots
from tests.bench import loras
from tests.bench.concepts import merged_base
from tests.bench.loras import SMALL, draw, gap, plain, read
from tests.bench.shots import make_shot


def test_one_concept_alone_is_plain_sampling_with_its_lora_in_the_weights(tiny):
    loras.check_one_concept(METHOD, tiny)


def test_a_batch_is_its_shots_one_by_one_and_leaves_the_base_bit_for_bit(tiny):
    loras.check_batches(METHOD, tiny, most_rows=4)


def test_the_base_is_restored_when_drawing_fails(tiny):
    loras.check_restored(METHOD, tiny)


def test_rows_a_step_are_the_published_two(tiny):
    loras.check_rows(METHOD, tiny, 2)


def test_it_keeps_to_the_protocol(tiny):
    assert open_method(METHOD.name) is METHOD
    loras.check_protocol(METHOD, tiny)


def test_the_order_of_concepts_does_not_matter(tiny):
    shot = make_shot(words=("man", "man"))
    assert gap(draw(METHOD, tiny, [1, 2], [shot]), draw(METHOD, tiny, [2, 1], [shot])) <= 1


def test_merge_sums_the_updates_with_the_published_weights(tiny):
    shot = make_shot(words=("man", "man"))
    expected = plain(merged_base(tiny, {1: 0.8, 2: 0.8}), shot)
    assert gap(draw(METHOD, tiny, [1, 2], [shot]), expected) <= 1
    assert gap(draw(METHOD, tiny, [1, 2], [shot], strength=0.5), expected) > 5


def test_the_row_without_a_prompt_carries_the_lora_too(tiny):
    shot, base = make_shot(3, ("man",)), merged_base(tiny, {1: 0.8})
    text, null = read(base, [shot]), null_states(tiny, 1)

    def bare_null(moment):
        without, with_prompt = (
            predict(one, moment.latents, moment.timestep, rows, moment.ids)
            for one, rows in ((tiny, null), (base, text))
        )
        return guide(without, with_prompt, moment.guidance_scale)

    other = decode_latents(tiny, denoise_shots(tiny, [shot], SMALL, predict=bare_null))
    assert gap(draw(METHOD, tiny, [1], [shot]), other) > 3
