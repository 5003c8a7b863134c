import dataclasses
import socket

import pytest

from d2plan.adapter.file import load_adapter, save_adapter
from d2plan.errors import FileError, InputError, PlannerError
from d2plan.etp.grammar.planner import GrammarPlanner
from d2plan.etp.plan import load_plan
from d2plan.etp.server import ServerChat
from d2plan.workflows.filming.keyframes import make_series
from d2plan.workflows.filming.plan import check_plan_file, is_plan_file, plan_story, read_concepts, save_plan
from d2plan.workflows.filming.planners import PlannerChoice, open_planner
from tests.tiny import tiny_adapter, tiny_backbone, write_tiny

STORY = "Rex sleeps on the beach next to John, then he wakes up and runs."


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_backbone()


@pytest.fixture(scope="module")
def concepts(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("concepts")
    for name, word, identifier in (("Rex", "dog", "<v1>"), ("John", "man", "<v2>")):
        adapter = dataclasses.replace(tiny_adapter(base), name=name, class_word=word, identifier=identifier)
        save_adapter(folder / f"{name.lower()}.safetensors", adapter)
    return folder


def test_a_story_over_a_folder_becomes_a_plan_of_its_adapters(base, concepts):
    plan = plan_story(STORY, concepts, base=str(base.folder), frames=8, seed=5)
    assert [item.concept for item in plan.instances] == [
        str(concepts / "rex.safetensors"),
        str(concepts / "john.safetensors"),
    ]
    assert [beat.sub_prompts["Rex"] for beat in plan.beats] == [
        "a photo of a <v1> dog sleeping",
        "a photo of a <v1> dog running",
    ]
    assert (plan.frames, plan.seed, plan.planner) == (8, 5, "grammar")


@pytest.mark.parametrize("name", ["plan.yaml", "plan.json", "below/plan.yml"])
def test_a_saved_plan_can_be_checked_and_is_the_same(base, concepts, tmp_path, name):
    plan = plan_story(STORY, concepts, base=str(base.folder))
    saved = save_plan(plan, tmp_path / name)
    assert check_plan_file(saved) == plan
    assert [path.name for path in saved.parent.iterdir() if path.is_file()] == [saved.name]


@pytest.mark.parametrize("name", ["plan.yaml", "plan.json"])
def test_a_plan_made_in_one_folder_works_in_another(base, concepts, tmp_path, name, monkeypatch):
    monkeypatch.chdir(concepts.parent)
    plan = plan_story(STORY, concepts.name, base=str(base.folder))
    saved = save_plan(plan, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert [item.concept for item in check_plan_file(saved).instances] == [
        str(concepts / "rex.safetensors"),
        str(concepts / "john.safetensors"),
    ]


def test_a_plan_is_not_overwritten_unasked(base, concepts, tmp_path):
    plan = plan_story(STORY, concepts, base=str(base.folder))
    save_plan(plan, tmp_path / "plan.yaml")
    with pytest.raises(FileError, match="is there already"):
        save_plan(plan, tmp_path / "plan.yaml")
    assert save_plan(plan, tmp_path / "plan.yaml", overwrite=True)
    with pytest.raises(InputError, match=r"end it in \.yaml"):
        save_plan(plan, tmp_path / "plan.txt")


def test_a_concept_of_another_base_is_told_before_anything_is_made(base, concepts, tmp_path):
    other = dataclasses.replace(load_adapter(concepts / "rex.safetensors"), base_fingerprint="0123456789abcdef")
    save_adapter(tmp_path / "rex.safetensors", other)
    with pytest.raises(InputError, match="rex.safetensors, trained on the base 0123456789abcdef"):
        plan_story("Rex sleeps, then runs.", tmp_path, base=str(base.folder))


def test_who_cannot_take_part_is_told_before_a_planner_is_asked(base, concepts, tmp_path):
    class Unasked:
        def plan(self, request):
            raise AssertionError(request)

    own = load_adapter(concepts / "rex.safetensors")
    save_adapter(tmp_path / "rex.safetensors", dataclasses.replace(own, base_fingerprint="0123456789abcdef"))
    with pytest.raises(InputError, match="rex.safetensors, trained on the base 0123456789abcdef"):
        plan_story("The dog sleeps, then runs.", tmp_path, Unasked(), base=str(base.folder))
    save_adapter(tmp_path / "noa.safetensors", dataclasses.replace(own, name="Noa", class_word=""))
    save_adapter(tmp_path / "eva.safetensors", dataclasses.replace(own, name="Eva", class_word="woman"))
    with pytest.raises(InputError, match="Noa is .*noa.safetensors, which states no class word"):
        plan_story("Noa sleeps, then runs.", tmp_path, Unasked(), base=str(base.folder))
    assert [item.name for item in plan_story("Eva sleeps. Eva runs.", tmp_path, base=str(base.folder)).instances] == [
        "Eva"
    ]


def test_two_concepts_of_one_identifier_are_told_with_the_plan(base, concepts, tmp_path):
    own = load_adapter(concepts / "rex.safetensors")
    for name, word in (("Rex", "dog"), ("Eva", "woman")):
        save_adapter(tmp_path / f"{name}.safetensors", dataclasses.replace(own, name=name, class_word=word))
    with pytest.raises(InputError, match="have the same identifier <v1>; train one of them again"):
        plan_story("Rex runs. Eva runs, too.", tmp_path, base=str(base.folder))


def test_a_prompt_that_the_base_would_cut_is_refused(base, concepts, tmp_path):
    saved = save_plan(plan_story(STORY, concepts, base=str(base.folder)), tmp_path / "plan.yaml")
    saved.write_text(saved.read_text().replace("on the beach", "on the beach " + "and a dog " * 20))
    with pytest.raises(InputError, match=r"plan\.yaml: global_prompt takes \d+ tokens, but the base reads only 48"):
        check_plan_file(saved)


def test_damaged_neighbours_do_not_stop_a_story(base, concepts, tmp_path):
    for path in concepts.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    (tmp_path / "twin.safetensors").write_bytes((concepts / "rex.safetensors").read_bytes())
    assert [concept.name for concept in read_concepts(tmp_path)] == ["John", "rex", "twin"]


def test_a_folder_without_adapters_is_told(base, tmp_path):
    with pytest.raises(InputError, match="holds no adapter"):
        plan_story(STORY, tmp_path, base=str(base.folder))
    with pytest.raises(FileError, match="is not a folder"):
        plan_story(STORY, tmp_path / "none", base=str(base.folder))


@pytest.mark.parametrize(
    ("text", "is_file"),
    [("plan.yaml", True), ("my plans/a.JSON", True), ("Rex runs.", False), ("plan.yaml\nRex runs", False)],
)
def test_a_plans_file_is_told_from_a_story(text, is_file):
    assert is_plan_file(text) is is_file


def test_a_planner_is_opened_from_options_or_environment(monkeypatch):
    assert isinstance(open_planner(PlannerChoice()), GrammarPlanner)
    with pytest.raises(InputError, match="--llm-model"):
        open_planner(PlannerChoice("server"))
    monkeypatch.setenv("D2PLAN_LLM_MODEL", "llama")
    with pytest.raises(InputError, match="--llm-url"):
        open_planner(PlannerChoice("server"))
    monkeypatch.setenv("D2PLAN_LLM_URL", "http://localhost:9/v1")
    monkeypatch.setenv("D2PLAN_LLM_KEY", "sk-1")
    chat = open_planner(PlannerChoice("server")).chat
    assert isinstance(chat, ServerChat)
    assert (chat.settings.model, chat.settings.key, chat.address.port) == ("llama", "sk-1", 9)
    with pytest.raises(FileError, match="config.json"):
        open_planner(PlannerChoice("local", model="/nowhere"))


def test_without_any_language_model_a_plan_written_by_hand_works(base, concepts, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(PlannerError, match="Nobody answers"):
        plan_story(STORY, concepts, open_planner(PlannerChoice("server", url, "llama")), base=str(base.folder))
    hand = tmp_path / "hand.yaml"
    hand.write_text(
        f"base: {base.folder}\n"
        "global_prompt: a photo of a dog on the beach\n"
        f"instances: [{{name: Rex, concept: {concepts}/rex.safetensors}}]\n"
        "beats:\n"
        "- sub_prompts: {Rex: a photo of a <v1> dog sleeping}\n"
        "- sub_prompts: {Rex: a photo of a <v1> dog running}\n"
    )
    assert check_plan_file(hand).instances[0].identifier == "<v1>"
    assert load_plan(hand).instances[0].identifier is None


def test_a_plan_that_is_cut_off_before_its_beats_is_told_what_is_missing(tmp_path):
    path = tmp_path / "plan.yaml"
    head = "story: Rex runs.\nplanner: grammar\nglobal_prompt: a photo of a dog\ninstances:\n"
    path.write_text(head + "- name: Rex\n  concept: rex.safetensors\n")
    with pytest.raises(InputError, match="beats is missing"):
        check_plan_file(path)


def test_concepts_of_other_weights_are_planned_and_filmed_only_when_asked_for(concepts, tmp_path):
    other = str(write_tiny(tmp_path / "other", seed=5))
    with pytest.raises(InputError, match=r"choose concepts of one base, or take them with --other-base"):
        plan_story(STORY, concepts, base=other)
    plan = plan_story(STORY, concepts, base=other, other_base=True)
    saved = save_plan(plan, tmp_path / "plan.yaml")
    assert "other_base: true" in saved.read_text()
    assert check_plan_file(saved) == plan
    assert make_series(plan, [0, 1]).other_base
    silent = tmp_path / "silent.yaml"
    silent.write_text(saved.read_text().replace("other_base: true\n", ""))
    with pytest.raises(InputError, match=r"silent\.yaml: .*`other_base: true`"):
        check_plan_file(silent)
    assert check_plan_file(silent, other_base=True) == plan
