"""What a training keeps while it runs, in ``NAME.train`` beside the adapter to come: checkpoints, log, previews."""

import json
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import current_thread, main_thread
from types import FrameType

from d2plan.dislora.checkpoint import LOCK, MANIFEST, force, is_leftover, last_step, lock_folder, remove_checkpoints
from d2plan.dislora.train import LATENTS_FILE
from d2plan.errors import FileError
from d2plan.media.images import write_file

WORK_SUFFIX, LOG_FILE, PREVIEW_FOLDER = ".train", "log.jsonl", "previews"
# Says which adapter the checkpoints beside it came to; where it is missing, the files have still to be written.
FINISHED = "finished"
_OWN = (MANIFEST, LATENTS_FILE, LOG_FILE, FINISHED, LOCK)


def work_folder(target: Path) -> Path:
    """Name the folder of an adapter's training.

    Args:
        target: the adapter's file.

    Returns:
        Its neighbour ``NAME.train``.
    """
    return target.with_name(target.stem + WORK_SUFFIX)


def check_work(folder: Path, resume: bool, overwrite: bool) -> None:
    """Refuse a training's folder that cannot be had, before anything is done for it.

    Args:
        folder: of the training; it may be missing.
        resume: go on from what is there.
        overwrite: forget what is there.

    Raises:
        FileError: another training holds it, it holds something else, or a stopped training lies there and nobody said
            what to do with it.
    """
    if folder.is_dir():
        _refuse_strange(folder)
        with lock_folder(folder):
            _refuse_stopped(folder, resume, overwrite)


@contextmanager
def open_work(folder: Path, resume: bool, overwrite: bool, keep: bool) -> Iterator[Path]:
    """Keep a training's folder to oneself while the block runs.

    It stays when the block fails after a checkpoint, so that the training can go on, and goes when the block ends well.

    Args:
        folder: of the training.
        resume: go on from what is there.
        overwrite: forget what is there.
        keep: leave the last checkpoints there also when the block ends well.

    Yields:
        The folder.

    Raises:
        FileError: another training holds it, a stopped training lies there and nobody said what to do with it, or what
            the block wrote beside it does not reach the disk.
    """
    if folder.is_dir():
        _refuse_strange(folder)
    with lock_folder(folder):
        try:
            _refuse_stopped(folder, resume, overwrite)
            if not resume:
                remove_checkpoints(folder)
            if not last_step(folder):
                # What lies there without a checkpoint is of no training that goes on.
                _clear(folder, (FINISHED, LOG_FILE, PREVIEW_FOLDER))
            yield folder
        except BaseException:
            # Whoever stopped early has nothing to go on from.
            with suppress(FileError):
                if not last_step(folder):
                    _remove(folder)
            raise
        if not keep:
            _settle(folder.parent)
            _remove(folder)


class TrainingLog:
    """A line of JSON for every step, on the disk as soon as the step is done; the first line is the request.

    Args:
        path: the file.
        first: what the first line says.
    """

    def __init__(self, path: Path, first: dict[str, object]) -> None:
        self.path = path
        self.first = first
        self._begun = False

    def add(self, row: dict[str, float]) -> None:
        """Write a step down; what was written of it or of later ones before a stop is forgotten.

        Args:
            row: holds "step".

        Raises:
            FileError: it cannot be written.
        """
        if not self._begun:
            self._rewrite([old for old in self._read() if old.get("step", 0) < row["step"]])
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise FileError(f"{self.path}: cannot be written ({error.strerror or error}); make room for it.") from error

    def content(self, last: int) -> bytes:
        """Give the whole log.

        Args:
            last: rows after that step are of a training that went further before, and are forgotten.

        Returns:
            The file's bytes.
        """
        if not self._begun:
            self._rewrite([old for old in self._read() if old["step"] <= last])
        return self.path.read_bytes()

    def _rewrite(self, rows: list[dict[str, float]]) -> None:
        self._begun = True
        write_file(self.path, "".join(json.dumps(row) + "\n" for row in (self.first, *rows)).encode())

    def _read(self) -> list[dict[str, float]]:
        rows = []
        with suppress(OSError):
            for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines()[1:]:
                # The last line may have been cut off by a stop.
                with suppress(ValueError):
                    row = json.loads(line)
                    rows.append(row)
        return [row for row in rows if isinstance(row, dict) and isinstance(row.get("step"), int)]


@contextmanager
def stop_gently(heard: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Let the first Ctrl-C or SIGTERM end the step that runs, and the second stop at once, while the block runs.

    Args:
        heard: is called at the first one, in the middle of whatever runs.

    Yields:
        Tells whether somebody asked to stop. In a thread, or where signals are ignored, nobody ever does.
    """
    asked: list[int] = []
    before: dict[signal.Signals, object] = {}

    def restore() -> None:
        for number, action in before.items():
            signal.signal(number, action)  # type: ignore[arg-type]
        before.clear()

    def hear(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        if len(asked) > 1:
            restore()
            raise KeyboardInterrupt
        # It may be heard in the middle of a write to the very stream that shows it.
        with suppress(RuntimeError):
            heard()

    if current_thread() is main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            action = signal.getsignal(number)
            if action not in (signal.SIG_IGN, None):
                before[number] = action
                signal.signal(number, hear)
    try:
        yield lambda: bool(asked)
    finally:
        restore()


def mark_finished(folder: Path, digest: str) -> None:
    """Say that the checkpoints of a training have come to an adapter that is written.

    Args:
        folder: of the training.
        digest: SHA-256 of the adapter's file.
    """
    write_file(folder / FINISHED, digest.encode())


def is_marked(folder: Path, digest: str) -> bool:
    """Say whether the checkpoints of a training have come to an adapter.

    Args:
        folder: of the training.
        digest: SHA-256 of the adapter's file.

    Returns:
        False where the file is of another training, or the last one did not come to its files.
    """
    with suppress(OSError):
        return (folder / FINISHED).read_text(encoding="utf-8", errors="replace") == digest
    return False


def _refuse_strange(folder: Path) -> None:
    strange = [path.name for path in folder.iterdir() if not _is_own(path)]
    if strange:
        raise FileError(f"{folder}: holds {strange[0]}, which is of no training; take it away, or choose another name.")


def _refuse_stopped(folder: Path, resume: bool, overwrite: bool) -> None:
    done = 0 if resume or overwrite else last_step(folder)
    if done:
        raise FileError(
            f"{folder}: holds a training stopped after step {done}; go on with --resume, or begin anew with "
            "--overwrite."
        )


def _is_own(path: Path) -> bool:
    name = path.name
    checkpoint = name.startswith("step-") and path.suffix == ".safetensors"
    return name in (*_OWN, PREVIEW_FOLDER) or checkpoint or is_leftover(path)


def _clear(folder: Path, names: tuple[str, ...]) -> None:
    for name in names:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _settle(folder: Path) -> None:
    """Make sure that what a training wrote has its name on the disk, before what it could be made from again goes."""
    try:
        force(folder)
    except OSError as error:
        raise FileError(f"{folder}: cannot be written ({error.strerror or error}); the checkpoints stay.") from error


def _remove(folder: Path) -> None:
    remove_checkpoints(folder)
    # The lock goes last: until then no other training begins here.
    _clear(folder, (LATENTS_FILE, LOG_FILE, FINISHED, PREVIEW_FOLDER, LOCK))
    with suppress(OSError):
        folder.rmdir()
