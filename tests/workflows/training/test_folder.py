import json
import os
import signal
import threading
from pathlib import Path

import pytest
import torch

from d2plan.dislora.checkpoint import last_step, save_checkpoint
from d2plan.errors import FileError
from d2plan.workflows.training.folder import LOG_FILE, TrainingLog, open_work, stop_gently, work_folder


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_the_first_signal_asks_and_the_second_stops_at_once(number: signal.Signals) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    heard: list[bool] = []
    with stop_gently(lambda: heard.append(True)) as stop:
        assert not stop()
        signal.raise_signal(number)
        assert stop() and heard == [True]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_where_signals_are_ignored_or_belong_to_another_thread_nothing_is_changed() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stop_gently(lambda: None) as stop:
            signal.raise_signal(signal.SIGINT)
            assert not stop() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    seen: list[bool] = []

    def ask() -> None:
        with stop_gently(lambda: None) as stop:
            seen.append(stop())

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert seen == [False] and signal.getsignal(signal.SIGINT) is before


def test_a_log_that_goes_on_forgets_what_the_checkpoint_does_not_know(tmp_path: Path) -> None:
    path = tmp_path / LOG_FILE
    log = TrainingLog(path, {"name": "rex"})
    for step in (1, 2, 3):
        log.add({"step": step, "loss": 0.5})
    with path.open("a") as file:
        file.write('{"step": 4, "lo')
    again = TrainingLog(path, {"name": "rex"})
    again.add({"step": 3, "loss": 0.25})
    rows = [json.loads(line) for line in again.content(9).decode().splitlines()]
    assert rows[0] == {"name": "rex"}
    assert [(row["step"], row["loss"]) for row in rows[1:]] == [(1, 0.5), (2, 0.5), (3, 0.25)]
    # A training that goes on to fewer steps than it had done takes none.
    shorter = TrainingLog(path, {"name": "rex"}).content(2).decode().splitlines()
    assert [json.loads(line)["step"] for line in shorter[1:]] == [1, 2]


def test_the_folder_goes_when_the_training_ends_and_stays_when_it_is_to_be_kept(tmp_path: Path) -> None:
    place = work_folder(tmp_path / "rex.safetensors")
    assert place == tmp_path / "rex.train"
    for keep in (False, True):
        with open_work(place, resume=False, overwrite=False, keep=keep):
            (place / LOG_FILE).write_text("{}\n")
        assert place.exists() == keep
    with pytest.raises(RuntimeError), open_work(place, resume=False, overwrite=False, keep=True):
        raise RuntimeError
    assert not place.exists(), "without a checkpoint there is nothing to go on from"


def test_a_folder_that_may_not_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "rex.train").write_text("a file")
    with (
        pytest.raises(FileError, match="cannot be written here"),
        open_work(tmp_path / "rex.train", False, True, False),
    ):
        pass


@pytest.mark.parametrize("fails", [False, True])
def test_the_checkpoints_go_when_what_was_written_beside_them_is_on_the_disk(
    fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = work_folder(tmp_path / "rex.safetensors")
    there: list[int] = []

    def note(handle: int) -> None:
        assert os.path.samestat(os.fstat(handle), tmp_path.stat())
        there.append(last_step(place))
        if fails:
            raise OSError(5, "Input/output error")

    def finish() -> None:
        with open_work(place, resume=False, overwrite=False, keep=False):
            save_checkpoint(place, 1, {"value": torch.ones(2)}, {})
            monkeypatch.setattr(os, "fsync", note)

    if fails:
        with pytest.raises(FileError, match="Input/output error.; the checkpoints stay"):
            finish()
    else:
        finish()
    assert there == [1] and last_step(place) == int(fails)
