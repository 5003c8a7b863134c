"""The command line's door: knows the commands by name, and hears Ctrl-C before anything that takes time is imported."""

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType, MappingProxyType

from d2plan.errors import D2PlanError

# Name -> (module that holds a function `command`, or a typer `app` where there are commands below it; one line of
# help). The help stands here so that listing the commands imports none of them.
COMMANDS = MappingProxyType(
    {
        "train": ("d2plan.cli.train", "Learn a concept from a folder of images."),
        "compose": ("d2plan.cli.compose", "Make the picture that a scene file asks for."),
        "series": ("d2plan.cli.series", "Make pictures that differ only in what their variants say."),
        "reproduce": ("d2plan.cli.reproduce", "Make a picture again from what stands inside it."),
        "generate": ("d2plan.cli.generate", "Make a picture from a prompt with the base alone."),
        "plan": ("d2plan.cli.plan", "Turn a sentence or a story into a plan of moments."),
        "video": ("d2plan.cli.video", "Make a video from a plan."),
        "demo": ("d2plan.cli.demo", "Train two characters live and show them in a gallery."),
        "score": ("d2plan.cli.score", "Judge the pictures of run folders."),
        "bench": ("d2plan.cli.bench", "Compare methods side by side, with the paper's tables."),
        "world": ("d2plan.cli.world", "Draw scenes, concept folders and clips, with their truth."),
        "concepts": ("d2plan.cli.concepts", "List the adapters of a folder."),
        "adapter": ("d2plan.cli.adapter", "Say what an adapter file holds, verify it, convert it."),
        "inspect": ("d2plan.cli.inspect", "Look inside: where the words of a prompt look."),
        "doctor": ("d2plan.cli.doctor", "Say what works on this machine and what is missing."),
    }
)
WRONG_INPUT = 2
INTERRUPTED = 130
NO_MEMORY = (
    "The device has too little memory for this; give --low-memory where the command takes it, ask for a smaller "
    "picture, or for fewer candidates, rows or pictures at once."
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code.

    Code 0 is success, 2 a wrong input or a full device told in one sentence on stderr, 130 a stop by Ctrl-C.

    Args:
        arguments: what stands after ``d2plan``; None takes it from the process.

    Raises:
        SystemExit: always, on success with code 0, as typer leaves.
    """
    with _note_interrupts() as interrupts:
        try:
            _run(arguments)
        except KeyboardInterrupt:
            raise SystemExit(_say_stopped()) from None
        except SystemExit as leaving:
            if leaving.code == INTERRUPTED:
                _say_stopped()
            raise
        except Exception as error:
            # A library may turn the stop into an error of its own, above all while it is imported.
            if interrupts:
                raise SystemExit(_say_stopped()) from None
            if _is_out_of_memory(error):
                raise SystemExit(_say_wrong(D2PlanError(NO_MEMORY))) from None
            if not isinstance(error, D2PlanError):
                raise
            raise SystemExit(_say_wrong(error)) from None


def _run(arguments: Sequence[str] | None) -> None:
    # Imported here and not above: until `main` runs, a stop would end in a traceback.
    from d2plan.cli.root import build_root

    build_root()(args=None if arguments is None else list(arguments), prog_name="d2plan")


@contextmanager
def _note_interrupts() -> Iterator[list[int]]:
    """Give a list that grows with every Ctrl-C; each still raises KeyboardInterrupt."""
    interrupts: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        interrupts.append(number)
        signal.default_int_handler(number, frame)

    # In a background job Ctrl-C is ignored, and shall stay so; only the first thread may change it.
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler or current_thread() is not main_thread():
        yield interrupts
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _is_out_of_memory(error: BaseException | None) -> bool:
    # By its name, for torch takes long to import; also as a cause, for what fails in opening a base counts as damaged.
    while error is not None and type(error).__name__ != "OutOfMemoryError":
        error = error.__cause__
    return error is not None


def _say_stopped() -> int:
    sys.stderr.write("d2plan: stopped.\n")
    return INTERRUPTED


def _say_wrong(error: D2PlanError) -> int:
    from d2plan.cli.tell import tell

    tell(f"d2plan: {error}", err=True)
    return WRONG_INPUT
