import errno
import functools
import json
import os
import random
import resource
import select
import signal
import socket
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from d2plan.dislora import checkpoint
from d2plan.dislora.checkpoint import (
    KEPT,
    LOCK,
    MANIFEST,
    compare_words,
    last_step,
    load_checkpoint,
    lock_folder,
    read_words,
    remove_checkpoints,
    save_checkpoint,
)
from d2plan.errors import FileError, InputError

WORDS = {"rank": "4"}


def _state(step: int) -> dict[str, torch.Tensor]:
    return {"value": torch.full((1000,), float(step)), "step": torch.tensor(step)}


def _save(folder: Path, step: int) -> None:
    save_checkpoint(folder, step, _state(step), WORDS)


def _check(folder: Path, step: int) -> None:
    loaded = load_checkpoint(folder)
    assert loaded is not None and loaded.step == step and read_words(folder) == WORDS
    assert all(torch.equal(loaded.tensors[name], tensor) for name, tensor in _state(step).items())


def _in_a_child(work: object) -> int:
    """Run a function in a copy of this process; gives the copy's number."""
    child = os.fork()
    if child == 0:
        try:
            work()  # type: ignore[operator]
        finally:
            os._exit(1)
    return child


def test_what_is_saved_is_loaded_and_only_the_last_two_stay(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path) is None and last_step(tmp_path) == 0
    for step in (1, 2, 3):
        _save(tmp_path, step)
        _check(tmp_path, step)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [MANIFEST, "step-0000002.safetensors", "step-0000003.safetensors"] and KEPT == 2
    _save(tmp_path, 3)
    _check(tmp_path, 3)
    remove_checkpoints(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_killed_at_any_moment_the_last_complete_one_loads(tmp_path: Path) -> None:
    rng = random.Random(0)
    _save(tmp_path, 1)
    reader, writer = os.pipe()

    def save_forever(begin: int) -> None:
        for step in range(begin, begin + 100_000):
            _save(tmp_path, step)
            os.write(writer, step.to_bytes(4, "little"))

    told = 1
    for number in range(25):
        child = _in_a_child(functools.partial(save_forever, told + 1))
        if number % 2:
            told = int.from_bytes(os.read(reader, 4), "little")
        time.sleep(rng.uniform(0.0, 0.02))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        while select.select([reader], [], [], 0)[0]:
            told = int.from_bytes(os.read(reader, 4), "little")
        with lock_folder(tmp_path):
            step = last_step(tmp_path)
            # Every one that was reported as saved counts; at most the next is there too.
            assert told <= step <= told + 1
            _check(tmp_path, step)
            assert not list(tmp_path.glob(".*"))
            told = step
    assert told > 10


CALLS = {"fsync": (4, os, errno.EIO), "replace": (2, os, errno.EXDEV), "mkstemp": (2, tempfile, errno.EROFS)}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("failing", range(4))
def test_a_call_of_the_system_that_fails_leaves_the_one_before(
    call: str, failing: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _save(tmp_path, 1)
    calls, place, number = CALLS[call]
    real, count = getattr(place, call), iter(range(100))

    def fail(*arguments: object, **named: object) -> object:
        if next(count) == failing:
            raise OSError(number, os.strerror(number))
        return real(*arguments, **named)

    monkeypatch.setattr(place, call, fail)
    if failing >= calls:
        _save(tmp_path, 2)
    else:
        with pytest.raises(FileError, match=os.strerror(number)):
            _save(tmp_path, 2)
    monkeypatch.undo()
    # When the folder is forced to the disk after the manifest's renaming, the new one is there already.
    there = 2 if failing >= calls or (call, failing) == ("fsync", 3) else 1
    _check(tmp_path, there)
    assert not list(tmp_path.glob(".*"))


def _kill_at(number: int) -> None:
    """Let this process be killed before a call of the system that a checkpoint needs, from 0."""
    count = iter(range(number))

    def watch(real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            if next(count, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **named)

        return call

    for name in ("open", "fsync", "replace", "unlink"):
        setattr(os, name, watch(getattr(os, name)))


def test_killed_before_each_call_of_the_system_the_last_complete_one_loads(tmp_path: Path) -> None:
    def save(folder: Path, number: int) -> None:
        _kill_at(number)
        _save(folder, 3)
        os.kill(os.getpid(), signal.SIGTERM)

    found, ended = [], signal.SIGKILL
    while ended == signal.SIGKILL:
        folder = tmp_path / str(len(found))
        folder.mkdir()
        _save(folder, 1)
        _save(folder, 2)
        _, status = os.waitpid(_in_a_child(functools.partial(save, folder, len(found))), 0)
        ended = os.WTERMSIG(status)
        with lock_folder(folder):
            found.append(last_step(folder))
            _check(folder, found[-1])
            assert not list(folder.glob(".*"))
    assert ended == signal.SIGTERM and len(found) > 10
    assert found == sorted(found) and set(found) == {2, 3}


def test_all_is_on_the_disk_before_it_counts_and_what_is_old_goes_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _save(tmp_path, 1)
    _save(tmp_path, 2)
    seen: list[str] = []
    real = {name: getattr(os, name) for name in ("fsync", "replace", "unlink")}

    def fsync(handle: int) -> None:
        seen.append("force a folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "force a file")
        real["fsync"](handle)

    def replace(source: str, target: Path) -> None:
        seen.append(f"name {target.name}")
        real["replace"](source, target)

    def unlink(path: Path) -> None:
        if not path.name.startswith("."):
            seen.append(f"remove {path.name}")
        real["unlink"](path)

    for name, stand_in in (("fsync", fsync), ("replace", replace), ("unlink", unlink)):
        monkeypatch.setattr(os, name, stand_in)
    _save(tmp_path, 3)
    assert seen == [
        "force a file", "name step-0000003.safetensors", "force a folder",
        "force a file", "name manifest.json", "force a folder", "remove step-0000001.safetensors",
    ]  # fmt: skip


def test_stopped_at_once_inside_a_write_it_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(tensors: object, path: Path, words: object) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    _save(tmp_path, 1)
    monkeypatch.setattr(checkpoint, "save_file", stop)
    with pytest.raises(KeyboardInterrupt):
        _save(tmp_path, 2)
    _check(tmp_path, 1)
    assert not list(tmp_path.glob(".*"))


def test_what_is_loaded_does_not_see_its_file_change(tmp_path: Path) -> None:
    def load_and_cut() -> None:
        _save(tmp_path, 1)
        loaded = load_checkpoint(tmp_path)
        os.truncate(tmp_path / "step-0000001.safetensors", 10)
        if loaded is not None and all(torch.equal(loaded.tensors[name], tensor) for name, tensor in _state(1).items()):
            os._exit(0)

    # In a process of its own: a page that is no longer there ends it.
    assert os.waitpid(_in_a_child(load_and_cut), 0)[1] == 0


def test_on_a_full_disk_it_says_so_and_the_one_before_stays(tmp_path: Path) -> None:
    _save(tmp_path, 1)
    report = tmp_path / "report"

    def save_with_no_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
        try:
            _save(tmp_path, 2)
        except FileError as error:
            report.write_text(str(error))

    os.waitpid(_in_a_child(save_with_no_room), 0)
    assert "a checkpoint cannot be written" in report.read_text() and "make room" in report.read_text()
    _check(tmp_path, 1)


def test_a_damaged_file_gives_way_to_the_one_before_with_a_note(tmp_path: Path) -> None:
    _save(tmp_path, 1)
    _save(tmp_path, 2)
    newest = tmp_path / "step-0000002.safetensors"
    content = bytearray(newest.read_bytes())
    content[-5] ^= 1
    newest.write_bytes(content)
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None and loaded.step == 1 and "step-0000002" in loaded.notes[0]
    (tmp_path / "step-0000001.safetensors").write_bytes(b"")
    with pytest.raises(FileError, match="no checkpoint in it can be read"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"checkpoints": 3}', '{"checkpoints": [{"file": "../x", "step": 1, "sha256": ""}]}', "[" * 100_000],
    ids=range(5),
)
def test_a_damaged_manifest_is_told(content: str, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(content)
    with pytest.raises(FileError, match=r"manifest\.json is damaged"):
        load_checkpoint(tmp_path)


def test_a_second_training_is_kept_out_and_a_dead_one_is_not_waited_for(tmp_path: Path) -> None:
    folder = tmp_path / "rex.train"
    refused = pytest.raises(FileError, match=f"another training uses it .process {os.getpid()} on")
    with lock_folder(folder), refused, lock_folder(folder):
        pass

    def hold() -> None:
        with lock_folder(folder):
            (folder / "held").touch()
            time.sleep(60)

    child = _in_a_child(hold)
    while not (folder / "held").exists():
        time.sleep(0.01)
    with pytest.raises(FileError, match=f"process {child}"), lock_folder(folder):
        pass
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with lock_folder(folder):
        assert str(os.getpid()) in (folder / LOCK).read_text()


def test_a_lock_left_behind_keeps_nobody_out_though_its_process_number_is_somebodys_again(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text(f"process {os.getppid()} on {socket.gethostname()}")
    with lock_folder(tmp_path):
        assert f"process {os.getpid()} " in (tmp_path / LOCK).read_text()


def test_where_the_system_has_no_locks_a_file_stands_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "fcntl", None)
    with lock_folder(tmp_path), pytest.raises(FileError, match="another training"), lock_folder(tmp_path):
        pass
    with lock_folder(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileError, match="cannot be written here"), lock_folder(tmp_path / "file" / "rex.train"):
        pass


def test_differences_are_named(tmp_path: Path) -> None:
    compare_words(WORDS, dict(WORDS), tmp_path)
    with pytest.raises(InputError, match="rank was 4, is 8.*--resume-changed"):
        compare_words(WORDS, {"rank": "8"}, tmp_path)
    with pytest.raises(InputError, match="the base differs"):
        compare_words(WORDS, {**WORDS, "base": "mini"}, tmp_path)


def test_the_manifest_names_each_file_with_its_digest(tmp_path: Path) -> None:
    _save(tmp_path, 7)
    (entry,) = json.loads((tmp_path / MANIFEST).read_text())["checkpoints"]
    assert entry["file"] == "step-0000007.safetensors" and entry["step"] == 7 and len(entry["sha256"]) == 64
