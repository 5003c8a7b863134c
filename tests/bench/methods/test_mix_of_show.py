"""Mix-of-Show on the tiny base: what learns, what is drawn from where, and that the base is left alone."""

from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from d2plan.adapter.attach import collect_deltas
from d2plan.bench.methods import mix_of_show_join
from d2plan.bench.methods.mix_of_show import METHOD, RANK, _watch_words, add_scene
from d2plan.bench.methods.mix_of_show_words import encode_words, start_words
from d2plan.bench.methods.p_plus import feed_layers
from d2plan.bench.protocol import BenchConcept, Learned
from d2plan.bench.shared.adapters import ALPHA, DOWN, UP, read_adapter
from d2plan.bench.shared.drawing import draw_shots
from d2plan.bench.shared.learning import LearnOptions, Rated, learn_steps
from d2plan.bench.shared.settings import write_setting
from d2plan.bench.shared.words import FIRST, SECOND
from d2plan.errors import InputError
from tests.bench.small import ALONE, DRAWING, PAIR, digest_base, finish, halve, learn, small_concept

FAST = {"rate": 3.0, "words": 1.0, "regions": 1, "steps": 0.4}


@pytest.fixture
def base(tiny, monkeypatch):
    monkeypatch.setattr(mix_of_show_join, "DRAWN_STEPS", 2)
    monkeypatch.setattr(mix_of_show_join, "TEXT_ITERATIONS", 2)
    monkeypatch.setattr(mix_of_show_join, "UNET_ITERATIONS", 2)
    return halve(tiny)


@pytest.fixture
def processors(base):
    return {name: type(one) for name, one in base.unet.attn_processors.items()}


def idle(base, number, class_word):
    """A concept whose LoRA adds nothing and whose words are the table's own."""
    concept = BenchConcept(f"{class_word}-{number}", class_word, f"<v{number}>", Path("nowhere"))
    words = start_words(base, concept, 0)
    vectors = []
    for one, tokenizer, encoder in zip(words[1:], base.tokenizers, base.text_encoders, strict=True):
        own = encoder.get_input_embeddings().weight.detach()
        numbers = tokenizer(words.phrase, add_special_tokens=False).input_ids
        vectors.append(own[numbers].expand(len(one), -1, -1).clone())
    path = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    layer = mix_of_show_join.open_layer(base, path)
    state = {
        path + DOWN: torch.zeros(RANK, layer.in_features),
        path + UP: torch.zeros(layer.out_features, RANK),
        path + ALPHA: torch.tensor(float(RANK)),
        FIRST: vectors[0],
        SECOND: vectors[1],
    }
    return Learned(concept, state, Path("state"))


def test_words_and_loras_learn_and_the_state_survives_its_file(base, tmp_path, processors):
    before = digest_base(base)
    concept = small_concept(tmp_path)
    learned = learn(METHOD, base, concept, tmp_path, FAST)
    assert digest_base(base) == before
    assert {name: type(one) for name, one in base.unet.attn_processors.items()} == processors
    adapter = read_adapter(base, learned)
    assert adapter.rank == RANK
    assert {path.partition(".")[0] for path in adapter.deltas} == {"unet", "text_encoder", "text_encoder_2"}
    # The first encoder's last layer, and what its output passes, is not read by the U-Net and does not learn.
    still = [path for path, delta in adapter.deltas.items() if not delta.up.any()]
    assert all(".layers.2." in path for path in still)
    start = start_words(base, concept, 0)
    assert (learned.state[FIRST] != start.first.detach()).any(dim=-1).all()
    assert METHOD.draw(base, [learned], {}, [ALONE], DRAWING)[0].shape == (64, 64, 3)
    assert digest_base(base) == before


def test_a_training_that_is_closed_early_leaves_the_base_alone(base, tmp_path, processors):
    before = digest_base(base)
    with closing(METHOD.learn(base, small_concept(tmp_path), FAST, 0)) as run:
        next(run)
        assert collect_deltas(base)
    assert digest_base(base) == before
    assert {name: type(one) for name, one in base.unet.attn_processors.items()} == processors


def test_words_are_held_to_the_mask(base, tmp_path):
    concept = small_concept(tmp_path, count=1)
    words, losses = start_words(base, concept, 0), []

    def watch(examples):
        return _note(_watch_words(base, words)(examples), losses)

    def encode(prompts):
        return encode_words(base, prompts, [words])

    with feed_layers(base.unet):
        options = LearnOptions(steps=2, batch_size=1)
        list(learn_steps(base, [concept], [Rated([words.first], 1e-3)], options, 0, encode, watch))
    assert len(losses) == 2
    assert all(loss > 0 for loss in losses)


@contextmanager
def _note(watching, losses):
    """Note what is added to the loss."""
    with watching as ask:

        def asked():
            losses.append(float((found := ask()).detach()))
            return found

        yield asked


def test_sub_prompts_in_boxes_say_the_scene(base):
    shot = replace(PAIR, global_prompt="a dog beside a dog in a meadow", sub_prompts=("a <v1> dog", "a <v2> dog"))
    assert add_scene(shot, ["dog", "dog"]).sub_prompts == ("a <v1> dog in a meadow", "a <v2> dog in a meadow")
    assert add_scene(ALONE, ["dog"]) == ALONE


def test_words_that_have_grown_stop_learning_while_the_loras_go_on(base, tmp_path, monkeypatch):
    monkeypatch.setattr("d2plan.bench.methods.mix_of_show.has_grown", lambda *_: True)
    concept = small_concept(tmp_path)
    short, longer = (finish(METHOD.learn(base, concept, {**FAST, "steps": steps}, 0))[1] for steps in (0.2, 0.4))
    # Rates go down over more steps in the longer one, but the first step is the same in both.
    assert torch.equal(short[FIRST], longer[FIRST])
    path = next(name for name in short if name.startswith("unet.") and name.endswith(UP))
    assert not torch.equal(short[path], longer[path])


def test_a_concept_that_changed_nothing_draws_as_the_base(base):
    drawn = METHOD.draw(base, [idle(base, 1, "dog")], {}, [ALONE], DRAWING)[0].astype(int)
    plain = draw_shots(base, [ALONE], DRAWING)[0].astype(int)
    assert np.abs(drawn - plain).max() <= 1


def test_sub_prompts_act_in_their_boxes_and_the_global_prompt_elsewhere(base, processors):
    learned = [idle(base, 1, "dog"), idle(base, 2, "cat")]
    path = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    joined = {path + ".weight": mix_of_show_join.open_layer(base, path).weight.detach().clone()}
    nowhere = replace(PAIR, boxes=((0.1, 0.1, 0.1, 0.1), (0.2, 0.2, 0.2, 0.2)))
    bare = "a photo of a dog and a cat"
    same = replace(PAIR, global_prompt=bare, sub_prompts=(bare,) * 2)
    before = digest_base(base)
    shots = [PAIR, nowhere, same, replace(PAIR, seed=9)]
    drawn = [picture.astype(int) for picture in METHOD.draw(base, learned, joined, shots, DRAWING)]
    assert digest_base(base) == before
    assert {name: type(one) for name, one in base.unet.attn_processors.items()} == processors
    plain, short = (
        picture.astype(int)
        for picture in draw_shots(
            base, [replace(PAIR, joint_prompt=text) for text in (PAIR.global_prompt, bare)], DRAWING
        )
    )
    assert np.abs(drawn[1] - plain).max() <= 1
    assert np.abs(drawn[2] - short).max() <= 1
    assert np.abs(drawn[0] - plain).max() > 1
    # A shot does not depend on those that are drawn with it.
    alone = METHOD.draw(base, learned, joined, [shots[3]], replace(DRAWING, most_rows=2))[0].astype(int)
    assert np.abs(drawn[3] - alone).max() <= 1


def test_without_regions_the_joint_prompt_is_drawn(base):
    learned = [idle(base, 1, "dog"), idle(base, 2, "cat")]
    path = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    joined = {path + ".weight": mix_of_show_join.open_layer(base, path).weight.detach().clone()}
    drawn = METHOD.draw(base, learned, joined | write_setting({"regions": 0}), [PAIR], DRAWING)[0].astype(int)
    assert np.abs(drawn - draw_shots(base, [PAIR], DRAWING)[0].astype(int)).max() <= 1


def test_several_concepts_are_fused_and_drawn_and_one_needs_no_join(base, tmp_path):
    concepts = [small_concept(tmp_path), small_concept(tmp_path, "tom", "cat", "<v2>", seed=1)]
    learned = [learn(METHOD, base, one, tmp_path, {**FAST, "steps": 0.2}) for one in concepts]
    assert finish(METHOD.join(base, learned[:1], FAST, 0)) == ([], {})
    with pytest.raises(InputError, match="join them before"):
        METHOD.draw(base, learned, {}, [PAIR], DRAWING)
    before = digest_base(base)
    shares, joined = finish(METHOD.join(base, learned, FAST, 0))
    assert digest_base(base) == before
    assert shares[-1] == 1
    assert joined.keys() >= write_setting(FAST).keys()
    weights = {name: tensor for name, tensor in joined.items() if name not in write_setting(FAST)}
    assert all(name.endswith(".weight") and tensor.is_contiguous() for name, tensor in weights.items())
    assert len(METHOD.draw(base, learned, joined, [PAIR, PAIR], DRAWING)) == 2


def test_there_are_at_most_four_settings():
    assert 1 <= len(METHOD.settings) <= 4
