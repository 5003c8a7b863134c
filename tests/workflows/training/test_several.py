from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from d2plan.adapter.file import load_adapter
from d2plan.dislora.train import StepReport
from d2plan.errors import FileError, InputError
from d2plan.workflows.training.several import train_list
from d2plan.workflows.training.train import train_concept

LIST = """
base: {base}
seed: 4
options: {{steps: 1, batch_size: 1}}
concepts:
  - folder: pictures/rex
    class_word: dog
  - folder: pictures/tom
    class_word: cat
    identifier: <v1>
    out: thomas
    options: {{rank: 2}}
"""


def base_of(concepts: Path) -> str:
    return str(yaml.safe_load(concepts.read_text())["base"])


@pytest.fixture
def concepts(tmp_path: Path, tiny_folder: Path) -> Path:
    for seed, name in enumerate(("rex", "tom")):
        folder = tmp_path / "pictures" / name
        folder.mkdir(parents=True)
        block = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(block.repeat(16, 0).repeat(16, 1)).save(folder / "a.png")
    path = tmp_path / "concepts.yaml"
    path.write_text(LIST.format(base=tiny_folder))
    return path


def test_each_concept_gets_an_adapter_and_an_identifier_of_its_own(concepts: Path, tmp_path: Path) -> None:
    told: list[str] = []
    out = tmp_path / "adapters"
    paths = train_list(concepts, out, on_progress=lambda what, done, total: told.append(what))
    assert paths == [out / "rex.safetensors", out / "thomas.safetensors"]
    rex, tom = map(load_adapter, paths)
    assert (rex.class_word, rex.identifier, rex.rank, rex.settings["seed"]) == ("dog", "<v2>", 4, "4")
    assert (tom.class_word, tom.identifier, tom.rank) == ("cat", "<v1>", 2)
    assert "rex (1/2): training" in told and "thomas (2/2): training" in told
    with pytest.raises(FileError, match="there already"):
        train_list(concepts, out)


def test_after_a_stop_what_is_finished_is_left_and_the_rest_is_learnt(concepts: Path, tmp_path: Path) -> None:
    learnt: list[int] = []

    def stop_in_the_second(report: StepReport) -> None:
        learnt.append(report.step)
        if len(learnt) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_list(concepts, tmp_path / "out", on_step=stop_in_the_second)
    first = (tmp_path / "out" / "rex.safetensors").read_bytes()
    notes: list[str] = []
    train_list(concepts, tmp_path / "out", resume=True, on_note=notes.append)
    assert any("rex.safetensors is finished already" in note for note in notes)
    assert "going on after step 1 of 1" in notes
    assert (tmp_path / "out" / "rex.safetensors").read_bytes() == first
    assert load_adapter(tmp_path / "out" / "thomas.safetensors").class_word == "cat"


def test_files_of_somebody_are_found_before_the_first_concept_is_learnt(concepts: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thomas.png").write_bytes(b"somebody's own")
    for resume in (False, True):
        with pytest.raises(FileError, match=r"thomas\.png: is there already"):
            train_list(concepts, tmp_path / "out", resume=resume)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thomas.png"]


def test_what_only_the_second_concept_shows_is_found_before_the_first_is_learnt(concepts: Path, tmp_path: Path) -> None:
    out, tom = tmp_path / "out", tmp_path / "pictures" / "tom"
    with pytest.raises(InputError, match="lies among the pictures"):
        train_list(concepts, tom)
    assert [path.name for path in tom.iterdir()] == ["a.png"]
    (tom / "a.txt").write_bytes("a cat".encode("utf-16"))
    with pytest.raises(FileError, match=r"a\.txt: is not UTF-8"):
        train_list(concepts, out)
    assert not out.exists()
    (tom / "a.txt").write_text("red blue green " * 30 + "cat")
    with pytest.raises(InputError, match=r"thomas: a\.png: .*reads only"):
        train_list(concepts, out)
    assert not out.exists()
    (tom / "a.txt").unlink()
    train_list(concepts, out)
    for path in out.glob("rex.*"):
        path.unlink()
    concepts.write_text(concepts.read_text().replace("steps: 1", "steps: 2"))
    with pytest.raises(InputError, match="finished already, and steps is 1 there and 2 here"):
        train_list(concepts, out, resume=True)

    def stop(report: StepReport) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_concept(
            tom, tmp_path / "new" / "thomas.safetensors", "cat", base=base_of(concepts), on_step=stop, steps=2
        )
    with pytest.raises(FileError, match="holds a training stopped after step 1"):
        train_list(concepts, tmp_path / "new")
    with pytest.raises(InputError, match="thomas: .*holds a training that differs"):
        train_list(concepts, tmp_path / "new", resume=True)
    (tmp_path / "new" / "thomas.train" / "notes.txt").write_text("mine")
    with pytest.raises(FileError, match=r"holds notes\.txt, which is of no training"):
        train_list(concepts, tmp_path / "new", resume=True)
    assert not (out / "rex.safetensors").exists() and not (tmp_path / "new" / "rex.safetensors").exists()


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("seed: 4", "sede: 4", "did you mean seed"),
        ("rank: 2", "rnak: 2", "thomas: rnak is no option in a list"),
        ("rank: 2", "overwrite: true", "overwrite is no option in a list"),
        ("rank: 2", "preview_every: -2", "thomas: preview_every"),
        ("rank: 2", "rank: 4.5", "thomas: rank is 4.5; write a whole number"),
        ("rank: 2", "rank: [2]", r"thomas: rank is \[2\]; write a whole number"),
        ("rank: 2", "token_weight: high", "thomas: token_weight is 'high'; write a number"),
        ("rank: 2", "text_encoders: 'off'", "thomas: text_encoders is 'off'; write true or false"),
        ("rank: 2", "template: 5", "thomas: template is 5; write text in quotes"),
        ("rank: 2", "rate_schedule: 5", "rate_schedule is 5, but must be constant or linear"),
        ("steps: 1", "steps: true", "rex: steps is True; write a whole number"),
        ("out: thomas", "out: rex", "out rex stands twice"),
        ("out: thomas", "out: REX", "out REX stands twice"),
        ("out: thomas", "out: ../x", "out"),
        ("out: thomas", "out: /tmp/x", "out"),
        ("out: thomas", "out: nul.v2", "out: no folder can have this name on Windows"),
        ("    class_word: dog", "    class_word: dog\n    identifier: <v1>", "identifier <v1> stands twice"),
        ("pictures/tom", "pictures/nobody", "no such folder"),
        ("    class_word: cat\n", "", "thomas: class_word is missing"),
    ],
)
def test_a_list_with_a_mistake_begins_nothing(
    before: str, after: str, words: str, concepts: Path, tmp_path: Path
) -> None:
    concepts.write_text(concepts.read_text().replace(before, after))
    with pytest.raises((InputError, FileError), match=words):
        train_list(concepts, tmp_path / "out")
    assert not (tmp_path / "out").exists()
