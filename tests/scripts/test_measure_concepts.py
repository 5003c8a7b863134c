"""The plan, the records and the table of ``scripts/measure_concepts.py``, and its merged rival."""

import importlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from d2plan.config import DisLoRASettings, IspSettings
from d2plan.documents import InstanceScore, Score
from d2plan.errors import InputError
from d2plan.eval.score import expect_prompt, expect_scene
from d2plan.isp.loop import compose_many
from d2plan.isp.prepare import prepare_scene
from d2plan.world.cast import CLASSES, identity_from_seed
from d2plan.world.scenery import PLACES
from d2plan.world.seeds import DEVELOPMENT_SEEDS, TEST_SEEDS
from d2plan.world.truth import render
from tests.isp.concepts import plain, random_adapter

IDENTIFIERS = tuple(f"<v{number}>" for number in range(1, 33))


def _load(name):
    # Scripts find what lies beside them by their own folder, which is not on the tests' path.
    folder = str(Path(__file__).resolve().parents[2] / "scripts")
    sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(folder)


plan, table, rivals, script, isp = (
    _load(name) for name in ("concepts.plan", "concepts.table", "concepts.rivals", "measure_concepts", "measure_isp")
)


@pytest.fixture
def concepts():
    return plan.choose_concepts("development", 20, IDENTIFIERS)


def test_twenty_concepts_cover_all_classes_with_seeds_and_identifiers_of_their_own(concepts):
    assert {concept.class_word for concept in concepts} == set(CLASSES)
    assert len({concept.seed for concept in concepts}) == len({concept.identifier for concept in concepts}) == 20
    assert all(concept.seed in DEVELOPMENT_SEEDS for concept in concepts)
    assert all(concept.seed in TEST_SEEDS for concept in plan.choose_concepts("test", 20, IDENTIFIERS))
    with pytest.raises(InputError, match="identities: 20"):
        plan.choose_concepts("test", 20, IDENTIFIERS[:8])


def test_pairs_are_of_different_classes_and_take_everybody_about_equally(concepts):
    pairs = plan.choose_pairs(concepts, 20)
    assert len({frozenset(one.name for one in pair) for pair in pairs}) == 20
    assert all(first.class_word != second.class_word for first, second in pairs)
    often = [sum(concept in pair for pair in pairs) for concept in concepts]
    assert min(often) >= 1 and max(often) <= 3
    assert plan.choose_pairs(concepts, 7) == pairs[:7]
    with pytest.raises(InputError, match="pairs: 182"):
        plan.choose_pairs(concepts, 182)


def test_shots_vary_and_the_scorer_reads_from_each_what_it_says(concepts):
    seeds = set()
    for shots in plan.plan_all(concepts, 20, 4):
        assert shots == plan.plan_shots(shots[0].concepts, 6)[:4]
        assert len({shot.place for shot in shots}) == 4
        seeds |= {shot.seed for shot in shots}
        for shot in shots:
            names = [concept.name for concept in shot.concepts]
            scene = shot.scene(names)
            expected = expect_scene(scene, names)
            assert [one.concept for one in expected.instances] == names
            assert all(sum(v is not None for v in one.attributes.values()) in (1, 2) for one in expected.instances)
            assert len({tuple(one.attributes.values()) for one in expected.instances}) == len(names)
            spoken = expect_prompt(shot.prompt(plan.BASE))
            assert spoken.place == expected.place is not None
            assert [replace(one, concept=None) for one in expected.instances] == list(spoken.instances)
            for concept, instance in zip(shot.concepts, scene.instances, strict=True):
                called = f"{concept.identifier} {concept.class_word}"
                assert called in instance.sub_prompt and called in shot.prompt(plan.MERGED)
                assert concept.identifier not in scene.global_prompt + shot.prompt(plan.BASE)
    assert len(seeds) == 160


def test_the_true_scene_of_a_shot_shows_what_its_words_say(concepts):
    for shots in plan.plan_all(concepts, 6, 3):
        for shot in shots:
            scene, names = shot.true_scene(), [concept.name for concept in shot.concepts]
            assert scene == shot.true_scene() and PLACES[scene.place][0] == shot.place
            said = expect_scene(shot.scene(names), names)
            for who, figure, wanted in zip(shot.concepts, scene.figures, said.instances, strict=True):
                assert figure.identity == identity_from_seed(who.class_word, who.seed)
                for name, value in wanted.attributes.items():
                    assert value is None or getattr(figure, name) == value


def _record(key, part, method, group, *ranks, attributes=True):
    about = {"class_word": "dog", "present": True, "attributes": attributes, "swapped": False}
    instances = [InstanceScore(**about, rank=rank) for rank in ranks]
    score = Score(expected_count=1, seen_count=1, seen_place="beach", seen_light="day", instances=tuple(instances))
    return {"kind": "scored", "key": key, "part": part, "method": method, "group": group, "score": score.model_dump()}


def test_the_table_averages_what_counts_and_says_what_holds():
    records = [
        _record("a", plan.ONE, plan.COMPOSED, "dog-1", 1),
        _record("b", plan.ONE, plan.COMPOSED, "dog-1", 1),
        _record("c", plan.ONE, plan.COMPOSED, "cat-2", 1),
        _record("d", plan.ONE, plan.COMPOSED, "cat-2", 5),
        _record("e", plan.TWO, plan.MERGED, "dog-1+cat-2", 9, 1, attributes=False),
        _record("of other settings", plan.ONE, plan.COMPOSED, "dog-1", 20),
        {"kind": "trained", "key": "a", "seconds": 100.0},
    ]
    found = table.make_table([*records, records[0]], set("abcde"))
    assert list(found) == [(plan.ONE, plan.COMPOSED), (plan.TWO, plan.MERGED)]
    first = found[plan.ONE, plan.COMPOSED][table.FIRST]
    assert (first.mean, first.count) == (0.75, 4)
    # Whole concepts are drawn: one is always right, the other half the time.
    assert (first.low, first.high) == (0.5, 1.0)
    assert found[plan.TWO, plan.MERGED][table.ATTRIBUTE].mean == 0
    text = table.write_markdown(found, {(plan.ONE, plan.COMPOSED): 4})
    assert "| one concept: d2plan | 4 | 75.0 % (50.0-100.0) | - | - | 100.0 % (100.0-100.0) |" in text
    assert [goal["holds"] for goal in table.check_goals(found)] == ["no"] + 3 * ["not measured"]
    assert table.average_seconds(records, {"a"}) == {"a training": 100.0}


def test_work_goes_on_after_a_line_that_was_cut_short(tmp_path):
    path = tmp_path / "kept" / "records.jsonl"
    assert table.read_records(path) == []
    table.add_record(path, {"kind": "scored", "key": "a"})
    table.add_record(path, {"kind": "drawn", "key": "b"})
    with path.open("a") as file:
        file.write('{"kind": "scored", "key": "c", "sco')
    assert table.find_open("abc", table.read_records(path), "scored") == ["b", "c"]
    table.add_record(path, {"kind": "scored", "key": "c"})
    assert table.find_open("abc", table.read_records(path), "scored") == ["b"]


def test_a_run_on_test_seeds_is_logged_once_and_the_rest_of_the_notebook_stays(tmp_path):
    notebook = tmp_path / "notebook.md"
    notebook.write_text("# Lab notebook\n\nA fact.\n")
    assert table.log_test_run(notebook, "- first, run k1.", "k1")
    notebook.write_text(notebook.read_text() + "\n## 2030-01-01: more\n\nAnother.\n")
    assert table.log_test_run(notebook, "- second, run k2.", "k2")
    assert not table.log_test_run(notebook, "- first again, run k1.", "k1")
    whole = f"# Lab notebook\n\nA fact.\n\n{table.LOG_HEADING}\n\n- first, run k1.\n- second, run k2.\n"
    assert notebook.read_text() == f"{whole}\n## 2030-01-01: more\n\nAnother.\n"


def test_settings_are_changed_by_texts_and_wrong_ones_refused():
    changed = table.change_settings(IspSettings(), ["guidance_scale=5", "values=sub", "calibrate=false", "steps=20"])
    assert changed == IspSettings(steps=20, guidance_scale=5.0, values="sub", calibrate=False)
    options = script.training_options(
        table.change_settings(DisLoRASettings(), ["unet_rate=1e-3", "steps=9"], ["unet_rate", "steps"])
    )
    assert (options["unet_rate"], options["steps"]) == (1e-3, 9) and options["joint_fraction"] == 0.5
    for wrong in ("stepps=3", "steps", "steps=many"):
        with pytest.raises(InputError, match="steps"):
            table.change_settings(IspSettings(), [wrong])


def test_keys_of_code_do_not_hang_on_comments(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "PACKAGE", tmp_path)
    (tmp_path / "isp").mkdir()
    file = tmp_path / "isp" / "loop.py"
    keys = []
    for text in (
        "def f():\n    return 1\n",
        'def f():\n    """Say."""\n    return 1  # why\n',
        "def f():\n    return 2\n",
    ):
        file.write_text(text)
        keys.append(plan.digest_code("isp"))
    assert keys[0] == keys[1] != keys[2]


def test_merged_adapters_are_the_exact_sum_of_their_updates(tiny):
    adapters = [random_adapter(tiny, "man", "<v1>", 1), replace(random_adapter(tiny, "dog", "<v2>", 2), alpha=2.0)]
    merged = rivals.merge_adapters(adapters)
    assert merged.rank == 4 and set(merged.deltas) == set(adapters[0].deltas)
    for path, delta in merged.deltas.items():
        wanted = sum(one.deltas[path].scale * one.deltas[path].up @ one.deltas[path].down for one in adapters)
        torch.testing.assert_close(delta.scale * delta.up @ delta.down, wanted, rtol=1e-5, atol=1e-6)
    assert rivals.merge_adapters(adapters[:1]) is adapters[0]


def test_the_rivals_draw_with_plain_guidance_from_the_same_noise(tiny):
    shots = plan.plan_shots([plan.Concept("dog", 1, "<v1>")], 3)
    settings = replace(tiny.defaults.composing(), steps=2, most_rows=4)
    alone = rivals.draw_plain(tiny, shots, plan.BASE, None, settings)
    prepared = plain(
        tiny, shots[2].seed, settings, global_prompt=shots[2].prompt(plan.BASE), height=128, width=128, warmup=1
    )
    (wanted,) = script.compose_many(tiny, [prepared], settings)
    assert np.abs(alone[2].astype(int) - wanted.image).max() <= 1
    merged = rivals.draw_plain(tiny, shots, plan.MERGED, random_adapter(tiny, "dog", "<v1>"), settings)
    assert len(merged) == 3 and all((one != two).any() for one, two in zip(alone, merged, strict=True))


def test_pictures_of_three_and_of_two_alike_name_everybody(concepts):
    triples, alike = plan.choose_triples(concepts, 20), plan.choose_alike(concepts)
    assert all(len({one.class_word for one in triple}) == 3 for triple in triples) and len(triples) == 20
    assert all(first.class_word == second.class_word and first != second for first, second in alike)
    assert len(alike) == 20 - len(CLASSES)
    shot = plan.plan_shots(triples[0], 1)[0]
    assert shot.part == plan.THREE and len(expect_prompt(shot.prompt(plan.BASE)).instances) == 3
    assert all(concept.identifier in shot.prompt(plan.SWITCH) for concept in shot.concepts)
    assert plan.plan_shots(alike[0], 1)[0].part == plan.SAME


def test_other_rows_draw_the_first_of_our_pictures_and_changes_are_settings(concepts):
    rows = isp.plan_rows(concepts, 40, 20)
    shots = {(row.title, part): [shot for group in groups for shot in group] for row, part, groups in rows}
    ours = shots["d2plan", plan.TWO]
    assert len(ours) == 40
    for row, part, _ in rows:
        table.change_settings(IspSettings(), row.changes)
        assert part == plan.TWO or row.everywhere
    assert set(shots["CAC off", plan.TWO]) < set(ours) and len(shots["CAC off", plan.TWO]) == 20


def test_loras_in_turns_draw_a_picture_a_shot(tiny, concepts):
    shots = plan.plan_shots(plan.choose_pairs(concepts, 1)[0], 2)
    adapters = [random_adapter(tiny, one.class_word, one.identifier, n) for n, one in enumerate(shots[0].concepts)]
    settings = IspSettings(steps=2)
    made = {m: rivals.draw_in_turns(tiny, shots, m, adapters, settings) for m in (plan.SWITCH, plan.COMPOSITE)}
    assert all(len(pictures) == 2 for pictures in made.values())
    assert not np.array_equal(made[plan.SWITCH][0], made[plan.COMPOSITE][0])


def test_the_later_composing_begins_over_a_picture_the_more_of_it_stays(tiny, concepts):
    shots = plan.plan_shots(plan.choose_pairs(concepts, 1)[0], 2)
    adapters = [random_adapter(tiny, one.class_word, one.identifier, n) for n, one in enumerate(shots[0].concepts)]
    true = np.stack(rivals.draw_truth(tiny, shots)).astype(float)
    usual = tiny.defaults.composing()
    scenes = [shot.scene([str(adapter.path) for adapter in adapters]) for shot in shots]
    own = compose_many(tiny, [prepare_scene(tiny, scene, adapters, usual) for scene in scenes], usual)
    for method, picture in ((plan.OVER, true), (plan.AGAIN, np.stack([one.image for one in own]).astype(float))):
        gaps = []
        for share in (0.1, 0.5, 0.9):
            settings = IspSettings(steps=10, warmup_fraction=share, short_warmup_fraction=share)
            drawn = np.stack(rivals.draw_over(tiny, shots, method, adapters, settings))
            gaps.append(np.abs(drawn - picture).mean())
        assert gaps[0] > gaps[1] > gaps[2]


def test_true_areas_are_where_the_figures_are(tiny, concepts):
    shot = plan.plan_shots(plan.choose_pairs(concepts, 1)[0], 1)[0]
    clean, masks = rivals._draw_true_latents(tiny, shot, IspSettings())
    truth = render(shot.true_scene(), tiny.size[1])
    seen = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(np.array(truth.masks)), clean.shape[-2:])
    assert masks.partition.masks.shape == (3, *clean.shape[-2:])
    for number in range(2):
        assert (masks.partition.masks[1 + number][seen[number] > 0.6] > 0.5).all()
