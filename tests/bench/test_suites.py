"""The built-in suites, and suites that cannot be used."""

from collections import Counter

import pytest
import yaml

from d2plan.backbone.load import find_base
from d2plan.bench.suites import digest_suite, list_shots, load_suite, name_concepts
from d2plan.bench.validity import ELSE_PLAIN, PLAIN_LORAS
from d2plan.config import load_defaults
from d2plan.errors import InputError
from d2plan.world.seeds import DEVELOPMENT_SEEDS, TEST_SEEDS

WORDS = [f"<v{number}>" for number in range(1, 33)]
PLAIN = {
    "name": "mine",
    "concepts": [{"name": "rex", "class_word": "dog", "seed": 3}, {"name": "tom", "class_word": "man", "seed": 4}],
    "groups": [["tom", "rex"]],
    "multi": [{"name": "snow", "scene": "in the snow", "variants": [["", "wearing a red hat"]]}],
}


def shots_of(name):
    loaded = load_suite(name)
    return list_shots(loaded, name_concepts(loaded, WORDS))


def write(folder, **changes):
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump({**PLAIN, **changes}), encoding="utf-8")
    return path


def test_the_paper_suite_has_12_concepts_of_16_pictures_from_test_seeds_only():
    suite = load_suite("paper").suite
    assert len(suite.concepts) == 12
    assert suite.images == 16
    assert {concept.kind for concept in suite.concepts} == {"person", "animal", "thing"}
    assert all(concept.seed in TEST_SEEDS for concept in suite.concepts)
    assert len({concept.seed for concept in suite.concepts}) == 12


def test_the_paper_suite_has_18_prompts_with_at_least_5_pictures_each():
    shots = shots_of("paper")
    pictures = Counter(shot.prompt for shot in shots)
    assert len(pictures) == 18
    assert min(pictures.values()) >= 5
    assert {shot.part for shot in shots if shot.changed} == {"single", "multi"}
    assert {shot.part for shot in shots if not shot.changed} == {"single", "multi"}


def test_every_concept_of_the_paper_suite_meets_others_at_least_twice_and_two_groups_are_of_one_class():
    suite = load_suite("paper").suite
    met = Counter(name for group in suite.groups for name in group)
    assert all(met[concept.name] >= 2 for concept in suite.concepts)
    words = {concept.name: concept.class_word for concept in suite.concepts}
    assert sum(len({words[name] for name in group}) == 1 for group in suite.groups) == 2


@pytest.mark.parametrize("name", ["quick", "paper", "tuning"])
def test_a_series_keeps_its_seed_and_global_prompt_and_changes_its_sub_prompts(name):
    series: dict[str, list] = {}
    for shot in shots_of(name):
        if shot.series:
            series.setdefault(shot.series, []).append(shot)
    assert series
    for shots in series.values():
        assert len({(shot.seed, shot.global_prompt, shot.concepts) for shot in shots}) == 1
        assert len({shot.sub_prompts for shot in shots}) == len(shots) >= 2


@pytest.mark.parametrize("name", ["quick", "paper", "tuning"])
def test_names_and_seeds_of_pictures_that_are_no_series_differ(name):
    shots = shots_of(name)
    assert len({shot.name for shot in shots}) == len(shots)
    alone = [shot.seed for shot in shots if shot.series is None]
    assert len(set(alone)) == len(alone)


def test_methods_are_tuned_on_two_development_concepts():
    suite = load_suite("tuning").suite
    assert len(suite.concepts) == 2
    assert all(concept.seed in DEVELOPMENT_SEEDS for concept in suite.concepts)


def test_the_quick_suite_is_quick():
    suite = load_suite("quick").suite
    assert len(suite.methods) == 3
    # Without one that is plain LoRA, no rival would be validated.
    assert {*suite.methods} & {*PLAIN_LORAS, ELSE_PLAIN}
    assert len(suite.concepts) == 3
    assert len(shots_of("quick")) <= 30


def test_prompts_are_written_as_the_world_writes_its_captions(tmp_path):
    loaded = load_suite(write(tmp_path))
    shot = list_shots(loaded, name_concepts(loaded, WORDS))[0]
    assert shot.global_prompt == "a photo of a man and a dog in the snow"
    assert shot.sub_prompts == ("a photo of a <v2> man", "a photo of a <v1> dog wearing a red hat")
    assert shot.joint_prompt == "a photo of a <v2> man and a <v1> dog wearing a red hat in the snow"
    assert shot.plain_prompt == "a photo of a man and a dog wearing a red hat in the snow"
    assert shot.concepts == ("tom", "rex")
    left, right = shot.boxes
    assert left[2] < right[0]


def test_concepts_that_meet_have_different_identifiers_also_where_the_base_keeps_few():
    loaded = load_suite("paper")
    named = name_concepts(loaded, ["sks", "ohwx", "olis"])
    for group in loaded.suite.groups:
        assert len({named[name] for name in group}) == len(group)
    with pytest.raises(InputError, match="keeps no identifier for"):
        name_concepts(loaded, ["sks"])


def test_a_digest_tells_suites_apart():
    loaded = load_suite("quick")
    shots = shots_of("quick")
    changed = [shots[0].model_copy(update={"seed": 1}), *shots[1:]]
    assert digest_suite(loaded.suite, [], shots) == digest_suite(loaded.suite, [], shots)
    assert digest_suite(loaded.suite, [], shots) != digest_suite(loaded.suite, [], changed)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"groups": [["tom", "max"]]}, "there is no concept max"),
        ({"groups": [["tom", "tom"]]}, "holds a concept twice"),
        ({"groups": []}, "multi asks for groups"),
        ({"multi": []}, "single and multi are both empty"),
        ({"concepts": [{"name": "rex", "class_word": "dog"}]}, "needs a seed of the world or a folder"),
        ({"concepts": PLAIN["concepts"] + PLAIN["concepts"]}, "rex stands twice"),
        (
            {"concepts": [*PLAIN["concepts"], {"name": "z", "class_word": "zebra", "seed": 1}]},
            r"suite\.yaml: z: class: the world has no 'zebra'",
        ),
        ({"concepts": [*PLAIN["concepts"], {"name": "b", "class_word": "dog", "folder": "gone"}]}, "folder gone of"),
        ({"multi": [{"name": "a", "scene": "here", "variants": [["{deed}"]]}]}, "there is none for dog"),
        ({"multi": [{"name": "a", "scene": "here", "only": ["rex+tom"]}]}, "there is no group rex"),
        ({"concpts": []}, "concpts is not a field; did you mean concepts"),
        ({"guidance_scale": 0.5}, "guidance_scale"),
        (
            {"concepts": [*PLAIN["concepts"], {"name": "tom+rex", "class_word": "dog", "seed": 3}]},
            "tom\\+rex stands twice",
        ),
        ({"boxes": {2: [[0, 0, 1, 1]]}}, "2 needs 2 boxes"),
        ({"name": "../x"}, "name: must be at most 80 letters"),
    ],
)
def test_a_suite_that_cannot_be_used_is_refused_in_one_sentence(tmp_path, changes, message):
    with pytest.raises(InputError, match=message) as caught:
        load_suite(write(tmp_path, **changes))
    assert "\n" not in str(caught.value)


def test_two_pictures_never_share_a_name(tmp_path):
    concepts = [*PLAIN["concepts"], {"name": "rex.one", "class_word": "dog", "seed": 3}]
    prompts = [{"name": "one.beach", "scene": "on the beach"}, {"name": "beach", "scene": "on the beach"}]
    loaded = load_suite(write(tmp_path, concepts=concepts, single=prompts))
    with pytest.raises(InputError, match=r"2 pictures are called rex\.one\.beach\.00; rename"):
        list_shots(loaded, {concept["name"]: "<v1>" for concept in concepts})


def test_a_suite_that_is_not_there_is_told_with_the_built_in_ones(tmp_path):
    with pytest.raises(InputError, match="neither quick nor paper"):
        load_suite(tmp_path / "gone.yaml")


@pytest.mark.parametrize(("name", "most"), [("quick", 2_500), ("paper", 26_000)])
def test_our_method_needs_few_rows_for_a_suite_on_the_embedded_base(name, most):
    defaults = load_defaults(find_base("mini"))
    settings = defaults.composing()
    rows = [
        2 * settings.warmup + (len(shot.concepts) + 2) * (settings.steps - settings.warmup) for shot in shots_of(name)
    ]
    assert sum(rows) <= most
