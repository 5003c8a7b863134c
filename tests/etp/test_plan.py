import pytest
import yaml

from d2plan.documents import parse_document
from d2plan.errors import FileError, InputError
from d2plan.etp.plan import EventPlan, KnownConcept, check_plan, list_prompts, load_plan, write_plan

REX = KnownConcept("Rex", "rex.safetensors", "dog", "<v1>", "aaaa")
JOHN = KnownConcept("John", "john.safetensors", "man", "<v2>", "aaaa")
KNOWN = {concept.path: concept for concept in (REX, JOHN)}


def content(**changes):
    plain = {
        "global_prompt": "a photo of a dog and a man on the beach",
        "instances": [{"name": "Rex", "concept": "rex.safetensors"}, {"name": "John", "concept": "john.safetensors"}],
        "beats": [
            {"sub_prompts": {"Rex": "a photo of a <v1> dog sleeping", "John": "a photo of a <v2> man"}},
            {"sub_prompts": {"Rex": "a photo of a <v1> dog running", "John": "a photo of a <v2> man"}},
        ],
    }
    return {**plain, **changes}


def parse(**changes):
    return parse_document(EventPlan, content(**changes), "p.yaml")


def check(plan, known=KNOWN, **options):
    return check_plan(plan, known, **options)


def beats(*prompts):
    return [{"sub_prompts": {"Rex": text, "John": "a photo of a <v2> man"}} for text in prompts]


def test_a_plan_written_by_hand_takes_class_words_and_identifiers_from_its_files():
    plan = check(parse())
    assert [(item.class_word, item.identifier) for item in plan.instances] == [("dog", "<v1>"), ("man", "<v2>")]
    assert (plan.frames, plan.seed, plan.base) == (16, 0, "mini")


def test_a_written_plan_reads_back_as_the_same_plan(tmp_path):
    plan = check(parse(notes=['Left out: "x".'], frames=9, seed=7, story="Rex: sleeps, 'then' runs"))
    (tmp_path / "plan.yaml").write_text(write_plan(plan, tmp_path), encoding="utf-8")
    read = load_plan(tmp_path / "plan.yaml")
    places = [item.concept for item in read.instances]
    assert read == plan.model_copy(update={"instances": read.instances})
    assert [item.model_copy(update={"concept": ""}) for item in read.instances] == [
        item.model_copy(update={"concept": ""}) for item in plan.instances
    ]
    assert all(
        place.endswith(name) for place, name in zip(places, ("rex.safetensors", "john.safetensors"), strict=True)
    )


def test_concepts_below_the_plan_get_relative_paths_and_others_absolute_ones(tmp_path):
    instances = [
        {"name": "Rex", "concept": str(tmp_path / "my" / "rex.safetensors")},
        {"name": "John", "concept": "/elsewhere/john.safetensors"},
    ]
    written = yaml.safe_load(write_plan(parse(instances=instances), tmp_path))
    assert [item["concept"] for item in written["instances"]] == ["my/rex.safetensors", "/elsewhere/john.safetensors"]


def test_json_is_read_too(tmp_path):
    (tmp_path / "plan.json").write_text(parse().model_dump_json(), encoding="utf-8")
    assert load_plan(tmp_path / "plan.json").beats == parse().beats


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"beats": []}, "2 moments"),
        ({"beats": beats("a photo of a <v1> dog")}, "beats holds 1"),
        ({"beats": beats("a photo of a <v1> dog", "a photo of a <v1> dog")}, "nothing would happen"),
        ({"beats": beats(*["a <v1> dog", "a <v1> dog running"] * 17)}, "more than 32"),
        ({"beats": [{"sub_prompts": {"Rex": "a <v1>"}}, *beats("a <v1> dog")]}, 'says nothing of "John"'),
        ({"beats": [{"sub_prompts": {"Rex": "a", "John": "b", "Tom": "c"}}, *beats("a")]}, '"Tom", who is no instance'),
        ({"beats": [{"sub_prompts": {"Rex": "", "John": "b"}}, *beats("a")]}, "is empty"),
        ({"frames": 0}, "2 or more"),
        ({"frames": 1}, "2 or more"),
        ({"frames": 10**9}, "1000 or less"),
        ({"frames": "16"}, "whole number"),
        ({"instances": []}, "instances"),
        ({"instances": [{"name": "Rex", "concept": "a"}] * 2}, 'two instances are named "Rex"'),
        ({"instances": [{"name": f"N{n}", "concept": "a"} for n in range(40)]}, "more than 16"),
        ({"global_promt": "x"}, "did you mean global_prompt"),
        ({"llm_url": "http://elsewhere/v1"}, "llm_url is not a field"),
        ({"seed": -1}, "seed"),
        ({"instances": [{"name": "Rex", "concept": "a", "box": [0.5, 0, 0.5, 1]}]}, "x0 < x1"),
    ],
)
def test_a_plan_that_cannot_be_filmed_is_refused_in_one_sentence(changes, told):
    with pytest.raises(InputError, match=r"(?s).*") as caught:
        parse(**changes)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"global_prompt": "a photo of a dog on the beach"}, 'mentions "man" 0 times'),
        ({"global_prompt": "a photo of a doghouse and a man"}, 'mentions "dog" 0 times'),
        ({"global_prompt": "a photo of a <v1> dog and a man"}, 'holds the identifier "<v1>"'),
        ({"beats": beats("a photo of a dog", "a photo of a <v1> dog running")}, 'beats[0].sub_prompts.Rex'),
        ({"beats": beats("a photo of a <v1> dog", "a <v1> dog and a <v2> man")}, 'holds "<v2>", which is John'),
        ({"instances": [{"name": "Rex", "concept": "bo.safetensors"}, {"name": "John", "concept": "john.safetensors"}]},
         "bo.safetensors, which is no adapter"),
        ({"instances": [{"name": "Rex", "concept": "rex.safetensors", "identifier": "<v9>"},
                        {"name": "John", "concept": "john.safetensors"}]}, 'was trained with "<v1>"'),
    ],
)  # fmt: skip
def test_meaning_is_checked_against_the_adapters(changes, told):
    with pytest.raises(InputError) as caught:
        check(parse(**changes))
    assert told in str(caught.value)


def test_two_of_one_class_need_two_mentions():
    known = {**KNOWN, "bo.safetensors": KnownConcept("Bo", "bo.safetensors", "dog", "<v3>")}
    instances = [{"name": "Rex", "concept": "rex.safetensors"}, {"name": "John", "concept": "bo.safetensors"}]
    both = [{"sub_prompts": {"Rex": f"a <v1> dog {deed}", "John": "a <v3> dog"}} for deed in ("running", "sitting")]
    assert check(parse(instances=instances, beats=both, global_prompt="a dog and a dog"), known)
    with pytest.raises(InputError, match='mentions "dog" 1 times, but 2'):
        check(parse(instances=instances, beats=both, global_prompt="a dog and a man"), known)


def test_a_beat_with_its_own_scene_is_checked_there():
    changed = beats("a photo of a <v1> dog", "a photo of a <v1> dog running")
    changed[1]["global_prompt"] = "a photo of a dog in the snow"
    with pytest.raises(InputError, match=r"beats\[1\]\.global_prompt"):
        check(parse(beats=changed))


def test_a_concept_of_another_base_is_refused():
    other = {**KNOWN, "john.safetensors": KnownConcept("John", "john.safetensors", "man", "<v2>", "bbbb")}
    with pytest.raises(InputError, match="bbbb"):
        check(parse(), other)
    with pytest.raises(InputError, match="trained on the base aaaa"):
        check(parse(), base="cccc")
    assert check(parse(), base="aaaa")


def test_a_prompt_longer_than_the_base_reads_is_refused_by_its_field():
    with pytest.raises(InputError, match=r"beats\[0\]\.sub_prompts\.Rex takes 7 tokens, but the base reads only 5"):
        check(parse(global_prompt="dog man"), count_tokens=lambda text: len(text.split()), token_limit=5)


def test_a_class_word_must_be_known_from_somewhere():
    unnamed = {**KNOWN, "rex.safetensors": KnownConcept("Rex", "rex.safetensors", "", "")}
    with pytest.raises(InputError, match=r"instances\[0\]\.class_word is missing"):
        check(parse(), unnamed)
    stated = [{"name": "Rex", "concept": "rex.safetensors", "class_word": "dog", "identifier": "<v1>"},
              {"name": "John", "concept": "john.safetensors"}]  # fmt: skip
    assert check(parse(instances=stated), unnamed).instances[0].identifier == "<v1>"


def test_every_prompt_is_listed_with_its_field():
    changed = beats("a <v1> dog", "a <v1> dog running")
    changed[1]["global_prompt"] = "a dog and a man in the snow"
    fields = [field for field, _ in list_prompts(parse(beats=changed))]
    assert fields == ["global_prompt", "beats[0].sub_prompts.Rex", "beats[0].sub_prompts.John",
                      "beats[1].global_prompt", "beats[1].sub_prompts.Rex", "beats[1].sub_prompts.John"]  # fmt: skip


@pytest.mark.parametrize(
    "text", ["", "[]", "beats: [", "a: 1\na: 2", "beats: &a [*a]", "!!python/object:os.system {}", "\x00", "- " * 5000]
)
def test_a_damaged_file_is_one_sentence(tmp_path, text):
    (tmp_path / "p.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_plan(tmp_path / "p.yaml")
    assert "p.yaml" in str(caught.value)


def test_a_missing_file_is_a_file_error(tmp_path):
    with pytest.raises(FileError, match="cannot be read"):
        load_plan(tmp_path / "none.yaml")
