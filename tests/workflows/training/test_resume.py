"""Trainings that were stopped, however hard, and go on."""

import json
import os
import resource
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from d2plan.adapter.file import Adapter, load_adapter
from d2plan.backbone.load import load_backbone
from d2plan.dislora.checkpoint import last_step
from d2plan.dislora.train import StepReport
from d2plan.errors import FileError, InputError
from d2plan.media.images import read_image
from d2plan.workflows.training import train as training
from d2plan.workflows.training.folder import TrainingLog, work_folder
from d2plan.workflows.training.previews import Previews
from d2plan.workflows.training.train import train_concept


def test_killed_inside_the_write_of_a_checkpoint_it_goes_on_to_the_same_file(
    pictures: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    asked = {"base": load_backbone(tiny_folder), "steps": 3, "batch_size": 1, "checkpoint_every": 1}
    whole = train_concept(pictures, tmp_path / "whole" / "rex.safetensors", **asked)
    target = tmp_path / "out" / "rex.safetensors"
    work = target.parent / "rex.train"

    def let_the_next_write_kill(report: StepReport) -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        half = (work / "step-0000001.safetensors").stat().st_size // 2
        resource.setrlimit(resource.RLIMIT_FSIZE, (half, half))
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)

    child = os.fork()
    if child == 0:
        try:
            train_concept(pictures, target, **asked, on_step=let_the_next_write_kill)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXFSZ
    assert any(path.name.startswith(".tmp") for path in work.iterdir()) and last_step(work) == 1
    notes: list[str] = []
    train_concept(pictures, target, **asked, resume=True, on_note=notes.append)
    assert "going on after step 1 of 3" in notes
    assert target.read_bytes() == whole.read_bytes() and not work.exists()


@pytest.mark.parametrize("numbers", [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGINT)], ids=str)
def test_a_second_signal_inside_a_step_leaves_the_checkpoint_before_and_it_goes_on_to_the_same_file(
    numbers: tuple[signal.Signals, ...], pictures: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    base = load_backbone(tiny_folder)
    asked = {"base": base, "steps": 2, "batch_size": 1, "checkpoint_every": 1}
    whole = train_concept(pictures, tmp_path / "whole" / "rex.safetensors", **asked)
    target = tmp_path / "out" / "rex.safetensors"
    done, reached = [], []

    def ask_twice(*_: object) -> None:
        for number in numbers if done else ():
            signal.raise_signal(number)
            reached.append(number)

    handle = base.unet.register_forward_pre_hook(ask_twice)
    with pytest.raises(KeyboardInterrupt):
        train_concept(pictures, target, **asked, on_step=done.append)
    handle.remove()
    assert reached == [numbers[0]] and last_step(target.parent / "rex.train") == 1
    train_concept(pictures, target, **asked, resume=True)
    assert target.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("name", ["rex.png", "rex.json", "rex.log.jsonl"])
def test_with_nothing_to_go_on_from_somebodys_own_files_stay(
    name: str, pictures: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_bytes(b"somebody's own")
    for asked in ({"resume": True}, {"resume_changed": True}):
        with pytest.raises(FileError, match=rf"{name}: is there already"):
            train_concept(pictures, tmp_path / "out" / "rex.safetensors", base=tiny_folder, **asked)
    assert [path.read_bytes() for path in (tmp_path / "out").iterdir()] == [b"somebody's own"]


def test_with_nothing_to_go_on_from_it_says_so_and_begins(pictures: Path, tiny_folder: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    asked = {"base": tiny_folder, "steps": 1, "batch_size": 1, "resume": True, "on_note": notes.append}
    path = train_concept(pictures, tmp_path / "rex.safetensors", **asked)
    assert notes[0] == "nothing to go on from; beginning anew" and load_adapter(path).settings["steps"] == "1"
    train_concept(pictures, path, **asked)
    assert notes[-1].endswith("is finished already; nothing was done.") and notes.count(notes[0]) == 1


def test_what_a_training_that_died_at_its_end_had_written_is_replaced(
    pictures: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    target, notes = tmp_path / "rex.safetensors", []
    asked = {"base": load_backbone(tiny_folder), "steps": 1, "batch_size": 1}
    train_concept(pictures, target, **asked, keep_checkpoints=True)
    before = target.read_bytes()
    target.unlink()
    train_concept(pictures, target, **asked, resume=True, on_note=notes.append)
    assert target.read_bytes() == before and "going on after step 1 of 1" in notes


def test_killed_after_its_last_checkpoint_an_overwriting_training_goes_on_to_its_files(
    pictures: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    target, notes = tmp_path / "rex.safetensors", []
    base = load_backbone(tiny_folder)
    train_concept(pictures, target, base=base, steps=1, batch_size=1)
    old = target.read_bytes()
    asked = {"base": base, "steps": 2, "batch_size": 1, "seed": 3}
    train_concept(pictures, target, **asked, keep_checkpoints=True, overwrite=True)
    new = target.read_bytes()
    target.write_bytes(old)
    train_concept(pictures, target, **asked, resume=True, on_note=notes.append)
    assert target.read_bytes() == new and "going on after step 2 of 2" in notes


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"steps": 2}, "steps is 1 there and 2 here"),
        ({"rank": 2}, "rank is"),
        ({"class_word": "cat"}, "class_word is dog there"),
        ({"template": "a drawing of a {}"}, "template is None there and a drawing of a {} here"),
        ({"precision": "bf16"}, "precision is float32 there and bfloat16 here"),
        ({"file_precision": "bf16"}, "file_precision is fp32 there and bf16 here"),
        ({"name": "Other"}, "name is rex there and Other here"),
        ({"preview": True}, "it has no previews"),
    ],
)
def test_a_finished_adapter_of_another_training_is_not_taken_for_this_one(
    changed: dict[str, object], told: str, pictures: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    target = tmp_path / "rex.safetensors"
    asked = {"base": tiny_folder, "steps": 1, "batch_size": 1, "class_word": "dog"}
    train_concept(pictures, target, **asked)
    before = target.read_bytes()
    for resume in ({"resume": True}, {"resume_changed": True}):
        with pytest.raises(InputError, match=f"rex.safetensors is finished already, and .*{told}"):
            train_concept(pictures, target, **{**asked, **changed}, **resume)
    assert target.read_bytes() == before
    train_concept(pictures, target, **{**asked, **changed}, resume=True, overwrite=True)
    assert target.read_bytes() != before or changed == {"preview": True}


def test_a_finished_adapter_of_other_pictures_or_another_base_is_not_taken_for_this_one(
    pictures: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    base = load_backbone(tiny_folder)
    asked = {"steps": 1, "batch_size": 1, "resume": True}
    target = train_concept(pictures, tmp_path / "rex.safetensors", base=base, **asked)
    with pytest.raises(InputError, match="finished already, and it was learnt on another base; name another out"):
        train_concept(pictures, target, base=replace(base, fingerprint="0" * 16), **asked)
    shutil.copy(pictures / "01.png", pictures / "00.png")
    with pytest.raises(InputError, match="finished already, and it was learnt from other pictures"):
        train_concept(pictures, target, base=base, **asked)


@pytest.mark.parametrize("step", [1, 2])
def test_previews_that_a_stop_came_into_are_drawn_when_it_goes_on(
    step: int, pictures: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"base": load_backbone(tiny_folder), "steps": 2, "batch_size": 1, "preview_every": 1}
    whole = train_concept(pictures, tmp_path / "whole" / "rex.safetensors", **asked)
    draw = Previews.draw

    def break_down(previews: Previews, now: int) -> None:
        if now == step:
            raise MemoryError
        draw(previews, now)

    target = tmp_path / "out" / "rex.safetensors"
    with monkeypatch.context() as patched, pytest.raises(MemoryError):
        patched.setattr(Previews, "draw", break_down)
        train_concept(pictures, target, **asked)
    assert not target.exists() and last_step(work_folder(target)) == step
    train_concept(pictures, target, **asked, resume=True)
    assert target.read_bytes() == whole.read_bytes() and not work_folder(target).exists()
    assert np.array_equal(*(read_image(path.with_suffix(".preview.png")) for path in (whole, target)))


def test_a_finished_training_that_kept_its_checkpoints_is_left_alone(
    pictures: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    notes: list[str] = []
    asked = {"base": load_backbone(tiny_folder), "steps": 1, "batch_size": 1, "on_note": notes.append}
    target = train_concept(pictures, tmp_path / "rex.safetensors", **asked, keep_checkpoints=True)
    before = {path: path.stat().st_mtime_ns for path in work_folder(target).iterdir() if path.name != "lock"}
    for other in ({"seed": 5}, {"steps": 2, "rank": 2}):
        with pytest.raises(InputError, match="holds a training that differs"):
            train_concept(pictures, target, **{**asked, **other}, resume=True)
    train_concept(pictures, target, **asked, resume=True)
    assert notes[-1].endswith("is finished already; nothing was done.")
    assert before == {path: path.stat().st_mtime_ns for path in work_folder(target).iterdir() if path.name != "lock"}


def test_a_killed_overwriting_of_the_same_settings_goes_on_to_its_own_previews(
    pictures: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"base": load_backbone(tiny_folder), "steps": 2, "batch_size": 1}
    target = train_concept(pictures, tmp_path / "rex.safetensors", **asked, preview=True)
    old = read_image(target.with_suffix(".preview.png"))

    def die(path: Path, adapter: Adapter) -> None:
        raise MemoryError

    with monkeypatch.context() as patched, pytest.raises(MemoryError):
        patched.setattr(training, "write_sidecar", die)
        train_concept(pictures, target, **asked, preview_every=1, overwrite=True)
    (target.with_suffix(".preview.png")).write_bytes(b"old")
    train_concept(pictures, target, **asked, preview_every=1, resume=True)
    new = read_image(target.with_suffix(".preview.png"))
    # The base, step 1 and step 2, where there was the end alone.
    assert new.shape[0] > 2 * old.shape[0] and not work_folder(target).exists()


def test_what_lies_there_without_a_checkpoint_is_of_no_training_that_goes_on(
    pictures: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    asked = {"base": load_backbone(tiny_folder), "steps": 1, "batch_size": 1, "preview_every": 1}
    clean = train_concept(pictures, tmp_path / "clean" / "rex.safetensors", **asked)
    target = tmp_path / "rex.safetensors"
    previews = work_folder(target) / "previews"
    previews.mkdir(parents=True)
    for seed in range(4):
        shutil.copy(pictures / "00.png", previews / f"0000001-{seed}.png")
    shutil.copy(pictures / "00.png", previews / "0000000-0.png")
    train_concept(pictures, target, **asked, resume=True)
    assert np.array_equal(*(read_image(path.with_suffix(".preview.png")) for path in (clean, target)))


def test_a_stop_between_a_checkpoint_and_its_step_leaves_no_gap_in_the_log(
    pictures: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"base": load_backbone(tiny_folder), "steps": 3, "batch_size": 1, "checkpoint_every": 1}
    target, add = tmp_path / "rex.safetensors", TrainingLog.add

    def break_down(log: TrainingLog, row: dict[str, float]) -> None:
        if row["step"] == 2:
            raise MemoryError
        add(log, row)

    with monkeypatch.context() as patched, pytest.raises(MemoryError):
        patched.setattr(TrainingLog, "add", break_down)
        train_concept(pictures, target, **asked)
    train_concept(pictures, target, **asked, resume=True)
    rows = [json.loads(line) for line in target.with_suffix(".log.jsonl").read_text().splitlines()[1:]]
    assert [row["step"] for row in rows] == [1, 2, 3]


def test_an_adapter_of_another_program_is_no_training_to_go_on_with(
    pictures: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    target = train_concept(pictures, tmp_path / "rex.safetensors", base=tiny_folder, steps=1, batch_size=1)
    save_file(load_file(target), target)
    with pytest.raises(InputError, match="no training of d2plan wrote it"):
        train_concept(pictures, target, base=tiny_folder, steps=1, batch_size=1, resume=True)
