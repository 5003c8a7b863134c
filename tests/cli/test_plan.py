"""``d2plan plan``: the storyboard, the file, and exit codes."""

import dataclasses

import pytest
import yaml

from d2plan.adapter.file import save_adapter
from d2plan.cli.main import main
from d2plan.cli.plan import make_storyboard
from d2plan.etp.plan import Beat, EventPlan, PlanInstance
from tests.tiny import tiny_adapter, tiny_backbone, write_tiny

STORY = "Rex sleeps on the beach next to John, then he wakes up, happily puts on sunglasses and runs to the castle."


def leave(*arguments):
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return caught.value.code or 0


@pytest.fixture(scope="module")
def base():
    return tiny_backbone()


@pytest.fixture(scope="module")
def concepts(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("concepts")
    for name, word, identifier in (("Rex", "dog", "<v1>"), ("John", "man", "<v2>")):
        adapter = dataclasses.replace(tiny_adapter(base), name=name, class_word=word, identifier=identifier)
        save_adapter(folder / f"{name}.safetensors", adapter)
    return folder


def test_a_story_is_shown_as_a_storyboard_and_written(base, concepts, tmp_path, capsys):
    out = tmp_path / "plan.yaml"
    assert leave("plan", STORY, "--concepts", concepts, "-o", out, "--base", base.folder, "--frames", 8) == 0
    shown = capsys.readouterr()
    for words in (
        "Rex (<v1>)",
        "John (<v2>)",
        "sleeping",
        "wearing sunglasses running",
        "in front of a castle",
        str(out),
    ):
        assert words in shown.out
    assert 'Note: Left out: "happily".' in shown.err
    written = yaml.safe_load(out.read_text())
    assert written["frames"] == 8
    assert len(written["beats"]) == 2


def test_a_plans_file_is_checked_and_shown(base, concepts, tmp_path, capsys):
    out = tmp_path / "plan.yaml"
    leave("plan", STORY, "--concepts", concepts, "-o", out, "--base", base.folder)
    first = capsys.readouterr().out.split("Plan:")[0]
    assert leave("plan", out) == 0
    assert capsys.readouterr().out.strip() == first.strip()


@pytest.mark.parametrize(
    ("story", "options", "told"),
    [
        ("Bella sleeps, then runs.", (), '"Bella", but the known characters are John (man), Rex (dog)'),
        ("Rex sleeps.", (), "Nothing happens"),
        ("Rex sleeps, then flies.", (), "a dog cannot be shown so"),
        ("", (), "The story is empty"),
        ("none.yaml", (), "none.yaml cannot be read"),
        ("Rex sleeps, then runs.", ("--planner", "oracle"), "oracle is unknown"),
        ("Rex sleeps, then runs.", ("--planner", "server"), "--llm-model"),
        ("Rex sleeps, then runs.", ("-o", "plan.txt"), "end it in .yaml"),
        ("Rex sleeps, then runs.", ("--frames", "1"), "frames"),
        ("Rex sleeps, then runs.", ("--seed", "-1"), "seed"),
    ],
)
def test_bad_input_is_one_sentence_and_code_2(base, concepts, tmp_path, capsys, story, options, told, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert leave("plan", story, "--concepts", concepts, "--base", base.folder, *options) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("d2plan: ")
    assert told in shown.err
    assert shown.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_what_a_terminal_would_obey_is_spelled_out_in_the_storyboard(capsys):
    from rich.console import Console

    prompts = ("a photo of a <v1> dog [red]x[/red] \x1b[31m", "<b>a <v1> dog</b>")
    plan = EventPlan(
        global_prompt="a dog",
        instances=(PlanInstance(name="[bold]Rex\x1b[0m", concept="a", class_word="dog", identifier="<v1>"),),
        beats=tuple(Beat(sub_prompts={"[bold]Rex\x1b[0m": prompt}) for prompt in prompts),
    )
    console = Console(width=120, record=True, file=None)
    console.print(make_storyboard(plan))
    text = console.export_text()
    assert "\x1b" not in text
    assert "[red]x[/red] \\x1b[31m" in text
    assert "[bold]Rex" in text


def test_other_weights_are_planned_for_with_a_flag(concepts, tmp_path, capsys):
    asked = ("plan", STORY, "--concepts", concepts, "--base", write_tiny(tmp_path / "other", seed=5))
    assert leave(*asked) == 2
    assert "--other-base" in capsys.readouterr().err
    assert leave(*asked, "--other-base") == 0
