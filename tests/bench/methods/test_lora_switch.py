from dataclasses import replace

import pytest

from d2plan.backbone.sdxl import decode_latents, null_states
from d2plan.bench.methods.lora_switch import METHOD, find_turn
from d2plan.bench.registry import open_method
from d2plan.bench.shared.drawing import denoise_shots, guide_plainly
from tests.bench import loras
from tests.bench.concepts import merged_base
from tests.bench.loras import draw, gap, plain, read
from tests.bench.shots import DRAWING, make_shot


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


@pytest.mark.parametrize("own", [0, 1])
def test_switch_runs_one_lora_a_turn_in_the_order_given(tiny, own):
    shots, drawing = [make_shot(1), make_shot(2)], replace(DRAWING, steps=4)
    bases = [merged_base(tiny, {number: 0.8}) for number in (1, 2)]
    said = [read(base, shots) for base in (bases if own else bases[:1] * 2)]
    turns = [guide_plainly(base, text, null_states(tiny, 1)) for base, text in zip(bases, said, strict=True)]
    seen = []

    def oracle(moment):
        seen.append((0, 0, 1, 1)[moment.index])
        return turns[seen[-1]](moment)

    expected = decode_latents(tiny, denoise_shots(tiny, shots, drawing, predict=oracle))
    found = draw(METHOD, tiny, [1, 2], shots, drawing, turn=2, own_text=own)
    assert seen == [0, 0, 1, 1]
    assert gap(found, expected) <= 1
    assert gap(draw(METHOD, tiny, [2, 1], shots, drawing, turn=2, own_text=own), expected) > 5


def test_turns_are_those_of_the_paper():
    # floor((t - 1) mod (k tau) / tau) + 1 for t from 1, k = 2, tau = 5.
    expected = [((t - 1) % 10) // 5 for t in range(1, 31)]
    assert [find_turn(index, 5, 2) for index in range(30)] == expected


def test_one_lora_in_all_turns_is_that_lora(tiny):
    shot = make_shot(words=("man", "man"))
    assert gap(draw(METHOD, tiny, [1, 1], [shot], turn=1), plain(merged_base(tiny, {1: 0.8}), shot)) <= 1
