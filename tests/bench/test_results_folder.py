"""A results' folder: what it is refused for, settings, digests, and the file with all results."""

import importlib
import json
from dataclasses import replace

import pytest

from d2plan.bench import surroundings
from d2plan.bench.assemble import assemble
from d2plan.bench.entries import enter, enter_others, forget_method, read_entry
from d2plan.bench.job import make_entry
from d2plan.bench.methods.isp import ISP_DISLORA, ISP_LORA
from d2plan.bench.prepare import check_folder, claim_folder, plan_folder
from d2plan.bench.records import InstanceValues, PictureRecord, TunedSetting
from d2plan.bench.runner import Runner
from d2plan.bench.scoring import Scorer, expect_shot
from d2plan.bench.store import METHOD, PLAN, Store, make_key, read_record, read_results, read_state, write_record
from d2plan.bench.surroundings import digest_method, digest_module, read_commit
from d2plan.bench.tuning import choose_setting, read_tuned, write_tuned
from d2plan.bench.validity import mean_of
from d2plan.errors import FileError, InputError
from d2plan.eval.panel import Panel
from tests.bench.toys import SUITE, Toy, toy_job


def test_a_folder_goes_on_with_the_same_suite_and_takes_more_methods(tmp_path):
    job = toy_job(tmp_path)
    claim_folder(job.store, plan_folder(job, ["one"], "abc"))
    plan = plan_folder(job, ["two", "one"], "def")
    assert plan.methods == ("one", "two")
    assert plan.commits == ("abc", "def")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 3}, r"how pictures are drawn changed \(steps 2 there, steps 3 asked for\)"),
        ({"seed": 9}, "the suite's concepts or prompts changed"),
        ({"name": "other"}, r"the suite changed \(toy there, other asked for\)"),
    ],
)
def test_results_of_another_version_are_refused(tmp_path, changes, message):
    job = toy_job(tmp_path)
    claim_folder(job.store, plan_folder(job, ["one"], "abc"))
    with pytest.raises(InputError, match=message):
        plan_folder(toy_job(tmp_path, {**SUITE, **changes}), ["one"], "abc")


def test_a_folder_of_another_format_or_of_something_else_is_refused(tmp_path):
    (tmp_path / PLAN).write_text(json.dumps({"format": 99}))
    with pytest.raises(InputError, match="results in format 99"):
        check_folder(tmp_path)
    (tmp_path / PLAN).write_text("{")
    with pytest.raises(InputError, match="is damaged; name another --out"):
        check_folder(tmp_path)
    (tmp_path / PLAN).rename(tmp_path / "letters.txt")
    with pytest.raises(InputError, match="holds no benchmark"):
        check_folder(tmp_path)
    check_folder(tmp_path / "new")


def test_a_folder_may_be_given_a_tuning_and_what_was_learnt_before_its_first_run(tmp_path):
    (tmp_path / "tuning" / "methods").mkdir(parents=True)
    (tmp_path / "learned").mkdir()
    check_folder(tmp_path)


def test_another_setting_or_other_code_is_refused_until_it_is_thrown_away(tmp_path, monkeypatch):
    store, toy = toy_job(tmp_path).store, Toy()
    enter(store, "toy", toy, ({"level": 2.0}, "tuned before"))
    assert enter(store, "toy", toy, None).setting == {"level": 2.0}
    with pytest.raises(InputError, match="its setting changed; throw them away with --redo toy"):
        enter(store, "toy", toy, ({"level": 1.0}, "first"))
    monkeypatch.setattr("d2plan.bench.job.digest_method", lambda _: "other")
    with pytest.raises(InputError, match="its code changed"):
        enter(store, "toy", toy, None)
    entries, notes = enter_others(store, ["toy"], lambda _: toy)
    assert (entries, len(notes)) == ([], 1)
    forget_method(store, "toy")
    assert enter(store, "toy", toy, None).setting == {"level": 1.0}


@pytest.mark.parametrize(
    ("identifier", "told"), [("zzqqxx", "is not reserved by this base; choose one of <v1>"), ("dog", "overlap")]
)
def test_an_identifier_that_nobody_could_learn_by_is_refused_before_anything_is_learnt(tmp_path, identifier, told):
    concepts = [{**SUITE["concepts"][0], "identifier": identifier}, *SUITE["concepts"][1:]]
    with pytest.raises(InputError, match=rf"rex: identifier .*{told}"):
        toy_job(tmp_path, {**SUITE, "concepts": concepts})


def test_a_damaged_file_of_a_method_is_told_with_its_remedy(tmp_path):
    store = Store(tmp_path)
    for content in ("{", "[]", '{"setting": 1}'):
        path = store.method("toy") / METHOD
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        with pytest.raises(InputError, match=r"is damaged; begin the method anew with --redo toy\."):
            read_entry(store, "toy")


def test_methods_that_learn_alike_share_what_they_learnt(tmp_path):
    first, second = Toy(), Toy()
    for toy, setting in ((first, {"level": 1.0, "strength": 0.5}), (second, {"level": 1.0})):
        toy.learns_as, toy.learns_from = "family", {"level": 1.0}
        toy.settings = (setting,)
    job = toy_job(tmp_path)
    one, other = make_entry("one", first), make_entry("other", second)
    for entry in (one, other):
        list(Runner(job).learn(entry))
    assert (first.learnt, second.learnt) == (["rex", "tom"], [])
    records = assemble(job, [one, other], None).methods
    assert [record.learned[0].shared_from for record in records] == [None, "one"]
    second.settings = ({"level": 2.0},)
    assert job.state_path(make_entry("other", second), "rex") != job.state_path(other, "rex")


def test_results_come_back_as_they_were_written(tmp_path):
    job, entry = toy_job(tmp_path), make_entry("toy", Toy())
    list(Runner(job).learn(entry))
    results = assemble(job, [entry], None, notes=("a note",))
    assert not results.finished
    path = job.store.write_results(results)
    assert read_results(path) == read_results(path.parent) == results
    path.write_text(path.read_text().replace('"kind"', '"kinds"'))
    with pytest.raises(InputError, match=r"results.json: is damaged; the same `d2plan bench` writes it anew\."):
        read_results(path)
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(InputError, match="its format is 2"):
        read_results(path)
    with pytest.raises(FileError, match="cannot be read"):
        read_results(tmp_path / "gone.json")


@pytest.fixture
def identities(monkeypatch):
    """By method, the identity of its pictures of one concept; those of several have a higher one."""
    numbers = {"isp-lora": 0.6, "lora-merge": 0.5, "lora-switch": 0.45, "good": 0.41, "bad": 0.39}

    def read(job, entry, shot, key, scorer):
        values = {"identity": numbers[entry.name] if shot.part == "single" else 0.9}
        return PictureRecord(shot=shot.name, image="x", cost={"seconds": 1}, values=values)

    monkeypatch.setattr("d2plan.bench.assemble.read_picture", read)
    return numbers


def validate(job, *names):
    """Whose pictures are the bar, and who reaches 80 percent of it."""
    results = assemble(job, [make_entry(name, Toy()) for name in names], None)
    return results.plain, [one.validated for one in results.methods]


def test_a_rival_below_80_percent_of_plain_lora_is_not_validated(tmp_path, identities):
    job = toy_job(tmp_path)
    assert validate(job, "lora-merge", "good", "bad") == ("lora-merge", [True, True, False])
    assert validate(job, "good", "bad") == (None, [None, None])
    assert validate(replace(job, kind="ablation"), "lora-merge", "good", "bad") == (None, [None, None, None])


def test_plain_lora_is_the_best_that_samples_plainly_and_isp_only_where_none_does(tmp_path, identities):
    job = toy_job(tmp_path)
    assert validate(job, "isp-lora", "lora-switch", "lora-merge", "bad")[0] == "lora-merge"
    assert validate(job, "isp-lora", "lora-switch", "bad") == ("lora-switch", [True, True, True])
    assert validate(job, "isp-lora", "good") == ("isp-lora", [True, False])


def test_a_method_is_held_against_plain_lora_on_the_pictures_that_both_have(tmp_path, monkeypatch):
    job = toy_job(tmp_path)
    singles = [shot for shot in job.suite.shots if shot.part == "single"]
    easy = singles[0].concepts

    def read(job, entry, shot, key, scorer):
        if shot.part != "single" or (entry.name == "easy" and shot.concepts != easy):
            return None
        value = 0.6 if entry.name == "easy" else 0.9 if shot.concepts == easy else 0.2
        return PictureRecord(shot=shot.name, image="x", cost={"seconds": 1}, values={"identity": value})

    monkeypatch.setattr("d2plan.bench.assemble.read_picture", read)
    assert {shot.concepts for shot in singles} > {easy}
    # Over all pictures plain LoRA has less than 0.6 / 0.8, but not where both drew.
    assert validate(job, "lora-merge", "easy") == ("lora-merge", [True, False])


def test_each_concept_weighs_the_same_in_what_validates(tmp_path, monkeypatch):
    job = toy_job(tmp_path)
    singles = [shot for shot in job.suite.shots if shot.part == "single"]
    first = singles[0].concepts
    few = [shot.name for shot in singles if shot.concepts == first][:1]

    def read(job, entry, shot, key, scorer):
        if shot.part != "single" or (shot.concepts == first and shot.name not in few):
            return None
        values = {"identity": 0.0 if shot.concepts == first else 1.0}
        return PictureRecord(shot=shot.name, image="x", cost={"seconds": 1}, values=values)

    monkeypatch.setattr("d2plan.bench.assemble.read_picture", read)
    (record,) = assemble(job, [make_entry("toy", Toy())], None).methods
    assert len(record.pictures) > 2
    assert mean_of(job.suite, record, "identity", "single") == 1 - 1 / len({shot.concepts for shot in singles})


def test_a_setting_that_failed_never_wins():
    tried = (
        TunedSetting(setting={"a": 1.0}, value=0.4),
        TunedSetting(setting={"a": 2.0}, value=None, trouble="it broke"),
        TunedSetting(setting={"a": 3.0}, value=0.6),
    )
    assert choose_setting(tried) == {"a": 3.0}
    assert choose_setting(tried[1:2]) is None


def test_settings_that_were_found_are_read_back_for_their_base_alone(tmp_path):
    path = tmp_path / "tuned.yaml"
    write_tuned(path, "base", {"toy": {"level": 2.0}})
    write_tuned(path, "base", {"other": {"rate": 0.5}})
    assert read_tuned(path, "base") == {"toy": {"level": 2.0}, "other": {"rate": 0.5}}
    with pytest.raises(InputError, match="holds no settings for this base"):
        read_tuned(path, "another")


def test_a_record_counts_for_its_own_key_alone_and_only_whole(tmp_path):
    path = write_record(tmp_path / "one.json", InstanceValues(concept="rex", values={"identity": None}), make_key(1))
    assert read_record(path, InstanceValues, make_key(1)).concept == "rex"
    assert read_record(path, InstanceValues, make_key(2)) is None
    path.write_text(path.read_text()[:-9])
    assert read_record(path, InstanceValues, make_key(1)) is None
    assert read_state(tmp_path / "gone.safetensors") is None


def test_words_about_the_code_do_not_change_its_digest(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    texts = ['"""One."""\nX = 1\n', '"""Two words."""\n\n# why\nX = (1)\n', "X = 2\n"]
    for number, text in enumerate(texts):
        (tmp_path / f"method_text_{number}.py").write_text(text)
    from d2plan.bench.surroundings import _read_module

    first, second, third = (_read_module(f"method_text_{number}")[0] for number in range(3))
    assert first == second != third
    assert digest_method(Toy()) == digest_method(Toy())
    assert digest_module("d2plan.bench.shared.adapters") != digest_module("d2plan.bench.shared.drawing")


SOURCE = """
import torch
{imports}

class Mine:
    settings = ({settings},)

    def draw(self):
        return square({number})
"""
PART = "def square(number):\n    return number**2\n"


def test_a_move_of_modules_does_not_change_a_digest_but_their_code_does(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(surroundings, "_PACKAGE", "benches")

    def digest(room, imports="from benches.far import cube\nfrom {part} import square", part=PART, **changes):
        folder = tmp_path / "benches" / "own" / room
        folder.mkdir(parents=True)
        known = {"imports": imports.format(part=f"benches.own.{room}.part"), "settings": "{'rate': 1.0}", "number": 3}
        (folder / "part.py").write_text(part)
        (folder / "zoo.py").write_text(SOURCE.format(**{**known, **changes}))
        importlib.invalidate_caches()
        return digest_module(f"benches.own.{room}.zoo", ("own",))

    there = digest("old")
    assert digest("a_room") == there
    # What is imported from elsewhere may move as well, and then stand in another place.
    assert digest("other", "from {part} import square\nfrom benches.zoo.near import cube") == there
    others = [
        digest("number", number=4),
        digest("part", part=PART.replace("**", "*")),
        digest("settings", settings="{'rate': 2.0}"),
        digest("name", "from benches.far import cubes\nfrom {part} import square"),
    ]
    assert len({there, *others}) == 5


@pytest.fixture
def changed(monkeypatch):
    """Gives what a digest is once the code of one module has changed."""
    read = surroundings._read_module

    def digest(name, find):
        monkeypatch.setattr(
            surroundings, "_read_module", lambda one: (read(one)[0] + "!" * (one == name), read(one)[1])
        )
        digest_module.cache_clear()
        return find()

    yield digest
    digest_module.cache_clear()


def test_a_digest_follows_all_that_learns_and_draws_and_nothing_else(tmp_path, changed):
    job = toy_job(tmp_path)

    def find():
        entry = make_entry("isp", ISP_DISLORA)
        return entry.code, job.state_key(entry, "rex")

    now = find()
    for name in ("dislora.losses", "adapter.attach", "backbone.attention", "bench.shared.adapters", "config"):
        code, state = changed(f"d2plan.{name}", find)
        assert code != now[0] and state != now[1], name
    # How concepts meet in a picture decides nothing of what was learnt.
    for name in ("isp.noise", "adapter.rows"):
        code, state = changed(f"d2plan.{name}", find)
        assert code != now[0] and state == now[1], name
    for name in (
        "bench.report.page",
        "bench.store",
        "cli.bench",
        "documents",
        "errors",
        "media.images",
        "eval.metrics",
    ):
        assert changed(f"d2plan.{name}", find) == now, name


def test_the_key_of_scores_follows_all_that_scores_and_nothing_else(tmp_path, changed):
    job = toy_job(tmp_path)

    def find():
        return Scorer(job, Panel()).key

    now = find()
    # People are drawn by a module that only its package's name leads to.
    for name in ("eval.metrics", "eval.measure", "eval.lineup", "world.truth", "world.figures.people", "bench.scoring"):
        assert changed(f"d2plan.{name}", find) != now, name
    for name in ("isp.noise", "bench.store", "bench.records", "media.images", "eval.films"):
        assert changed(f"d2plan.{name}", find) == now, name


def test_a_module_that_a_method_names_counts_by_its_code_and_not_by_its_name():
    learnt = replace(ISP_LORA, learns_by="d2plan.bench.shared.drawing")
    assert digest_method(learnt) != digest_method(ISP_LORA)
    assert ISP_LORA.learns_by not in surroundings._describe(ISP_LORA)


def test_settings_that_a_method_declares_are_part_of_its_digest():
    toy = Toy()
    toy.settings = ({"level": 3.0},)
    assert digest_method(toy) != digest_method(Toy())


def test_the_commit_is_forty_digits_or_nothing():
    commit = read_commit().removesuffix("+changes")
    assert len(commit) in (0, 40)


def test_the_judge_is_told_what_each_instance_wears_and_does(tmp_path):
    job = toy_job(tmp_path)
    shot = next(shot for shot in job.suite.shots if shot.name == "tom+rex.more-snow.00.1")
    expected = expect_shot(job, shot)
    assert expected.place == "snow"
    man, dog = expected.instances
    assert (man.concept, man.accessory, man.accessory_colour, man.action) == ("tom", "hat", "red", None)
    assert (dog.concept, dog.accessory, dog.action) == ("rex", None, "running")
