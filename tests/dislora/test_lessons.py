import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from d2plan.adapter.attach import attach_adapter
from d2plan.backbone.load import Backbone, load_backbone
from d2plan.backbone.sdxl import encode_prompts, sample_steps
from d2plan.dislora.lessons import prepare_lessons
from d2plan.errors import InputError
from tests.dislora.concept import CHOICES, make_data, make_lessons


def test_tuned_context_states_on_the_class_prompt_equal_those_on_the_identifier_prompt(tiny: Backbone) -> None:
    lessons = make_lessons(tiny)
    with attach_adapter(tiny, 2) as attached, torch.no_grad():
        for parameter in attached.text:
            parameter.add_(0.1)
        tuned = encode_prompts(tiny, lessons.prompts).states
    assert not torch.allclose(tuned, lessons.frozen.states, atol=1e-2)
    for row in lessons.rows.tolist():
        end = int(lessons.ends[row[0]])
        assert end >= 2
        for other in row[1:]:
            torch.testing.assert_close(tuned[row[0], :end], tuned[other, :end], atol=1e-5, rtol=1e-5)


def test_the_identifier_stands_where_the_class_word_stood(tiny: Backbone) -> None:
    lessons = make_lessons(tiny)
    spans = [[lessons.spans[number] for number in row] for row in lessons.rows.tolist()]
    assert spans[0] == [(5,), (5,), (5,)]
    assert spans[2] == [(3,), (3,), (3,)]
    assert lessons.prompts[lessons.rows[0, 2]] == "a photo of a <v1> dog running on the beach"
    assert lessons.prompts[lessons.rows[1, 1]] == "a photo of a <v1>"
    assert lessons.rows[3].tolist() == lessons.rows[1].tolist(), "a caption without the class word: the template"
    assert len(lessons.notes) == 1 and "3.png" in lessons.notes[0]


def test_the_second_of_two_alike_words_is_found_when_it_is_the_one_meant(tiny: Backbone) -> None:
    data = make_data(captions=("a dog and a <v1> dog",))
    lessons = prepare_lessons(tiny, data, CHOICES)
    assert [lessons.spans[number] for number in lessons.rows[0].tolist()] == [(5,), (5,), (5,)]


def test_mirrored_latents_are_those_of_the_mirrored_picture_with_its_mask(tiny: Backbone) -> None:
    lessons = make_lessons(tiny)
    flipped = replace(make_data(), images=[picture[:, ::-1] for picture in make_data().images])
    again = prepare_lessons(tiny, flipped, CHOICES)
    for here, there in zip(lessons.latents, again.latents, strict=True):
        torch.testing.assert_close(here[1], there[0], atol=1e-5, rtol=1e-5)
    assert lessons.mirrors.tolist() == [True, True, False, True]
    assert not make_lessons(tiny, flip=False).mirrors.any()
    assert lessons.weights is not None
    assert lessons.weights[0][0, 0, 0, 0] == 1 and lessons.weights[0][0, 0, 0, -1] == pytest.approx(0.1)
    assert lessons.weights[0][1, 0, 0, -1] == 1 and (lessons.weights[1] == 1).all()
    assert make_lessons(tiny, masked=False).weights is None


def test_a_caption_too_long_is_named_by_its_picture_in_one_short_sentence(
    tiny_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("transformers").addHandler(caplog.handler)
    # A base of its own: each tokenizer warns once only.
    backbone = load_backbone(tiny_folder)
    data = make_data(captions=("a photo of a dog", "red " * 120 + "and a dog " + "on a beach " * 40))
    with pytest.raises(InputError) as caught:
        prepare_lessons(backbone, data, CHOICES)
    logging.getLogger("transformers").removeHandler(caplog.handler)
    told = str(caught.value)
    assert told.startswith('1.png: "dog" is token 123 of "...d red red ') and "and a dog on a beach" in told
    assert told.endswith('...", but this base reads only 46; shorten what is before it.')
    assert len(told) < 200
    # transformers would say that the length "will result in indexing errors".
    assert [record.message for record in caplog.records] == []


def test_without_captions_every_picture_has_the_template(tiny: Backbone) -> None:
    lessons = make_lessons(tiny, use_captions=False)
    assert set(lessons.prompts) == {"a photo of a dog", "a photo of a <v1>", "a photo of a <v1> dog"}
    assert lessons.notes == ()


def test_class_images_are_what_the_base_draws_for_the_class_prompts(tiny: Backbone) -> None:
    lessons = make_lessons(tiny, prior_images=2)
    assert lessons.prior is not None
    prompts = [lessons.prompts[number] for number in lessons.prior.rows.tolist()]
    assert prompts == ["a photo of a dog running on the beach", "a photo of a dog"]
    *_, last = sample_steps(tiny, prompts[1], seed=1)
    assert torch.equal(lessons.prior.latents[1:], last.latents)


def test_latents_are_kept_by_content_and_made_anew_when_that_changes(tiny: Backbone, tmp_path: Path) -> None:
    data, cache = make_data(captions=(None,)), tmp_path / "latents.safetensors"
    calls: list[int] = []
    handle = tiny.vae.encoder.register_forward_hook(lambda *_: calls.append(1))
    first = prepare_lessons(tiny, data, CHOICES, cache=cache)
    again = prepare_lessons(tiny, data, CHOICES, cache=cache)
    assert len(calls) == 1 and torch.equal(first.latents[0], again.latents[0])
    # The same name with another content.
    changed = prepare_lessons(tiny, replace(data, images=data.images[:, ::-1]), CHOICES, cache=cache)
    assert len(calls) == 2 and not torch.equal(changed.latents[0], first.latents[0])
    with torch.no_grad():
        tiny.vae.encoder.conv_in.weight.mul_(1.5)
    prepare_lessons(tiny, data, CHOICES, cache=cache)
    assert len(calls) == 3
    handle.remove()
