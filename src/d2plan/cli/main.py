"""The command line's door: hears a stop before anything that takes time is imported, and tells what goes wrong."""

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType

from d2plan.errors import D2PlanError, MissingExtraError

WRONG_INPUT = 2
INTERRUPTED = 130
NO_MEMORY = (
    "There is too little memory for this; give --low-memory where the command takes it, ask for a smaller "
    "picture, or for fewer candidates, rows or pictures at once."
)
NO_MODULE = (
    "The Python module {} is not installed; run `d2plan doctor`, which names the package that brings it, or install "
    "d2plan anew with all that it needs."
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code.

    Code 0 is success, 2 a wrong input, a full device, a forbidden file or a missing package told in one sentence on
    stderr, 130 a stop by Ctrl-C, 143 one by SIGTERM.

    Args:
        arguments: what stands after ``d2plan``; None takes it from the process.

    Raises:
        SystemExit: always, on success with code 0, as typer leaves.
    """
    with _note_interrupts() as interrupts:
        try:
            _run(arguments)
        except KeyboardInterrupt:
            raise SystemExit(_say_stopped(interrupts)) from None
        except SystemExit as leaving:
            if leaving.code == INTERRUPTED:
                raise SystemExit(_say_stopped(interrupts)) from None
            raise
        except Exception as error:
            # A library may turn the stop into an error of its own, above all while it is imported.
            if interrupts:
                raise SystemExit(_say_stopped(interrupts)) from None
            told = _explain(error)
            if told is None:
                raise
            raise SystemExit(_say_wrong(told)) from None


def _run(arguments: Sequence[str] | None) -> None:
    # Imported here and not above: until `main` runs, a stop would end in a traceback.
    from d2plan.cli.root import build_root

    build_root()(args=None if arguments is None else list(arguments), prog_name="d2plan")


@contextmanager
def _note_interrupts() -> Iterator[list[int]]:
    """Give a list that grows with every Ctrl-C and SIGTERM; each raises KeyboardInterrupt, on which all clean up."""
    interrupts: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        interrupts.append(number)
        raise KeyboardInterrupt

    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    # In a background job Ctrl-C is ignored, and shall stay so; only the first thread may change it.
    heard = [one for one in usual if signal.getsignal(one) is usual[one] and current_thread() is main_thread()]
    for one in heard:
        signal.signal(one, note)
    try:
        yield interrupts
    finally:
        for one in heard:
            signal.signal(one, usual[one])  # type: ignore[arg-type]  # one is a function, the other a name


def _explain(error: Exception) -> D2PlanError | None:
    """Say in one sentence what went wrong; None is a defect of the program, whose traceback is wanted."""
    if _is_out_of_memory(error):
        return D2PlanError(NO_MEMORY)
    missing = _find_missing_module(error)
    if isinstance(error, D2PlanError) and (not missing or isinstance(error, MissingExtraError)):
        return error
    if isinstance(error, PermissionError) and error.filename:
        return D2PlanError(f"{error.filename}: {error.strerror}; name another, or change who may use it.")
    return D2PlanError(NO_MODULE.format(missing)) if missing else None


def _find_missing_module(error: BaseException | None) -> str:
    # Also as a cause: diffusers and transformers import late, and wrap what fails.
    while error is not None and not (isinstance(error, ModuleNotFoundError) and error.name):
        error = error.__cause__
    name = str(getattr(error, "name", None) or "")
    return "" if name.partition(".")[0] in ("d2plan", *sys.stdlib_module_names) else name


def _is_out_of_memory(error: BaseException | None) -> bool:
    # Also as a cause, for what fails in opening a base counts as damaged.
    while error is not None and not _has_no_memory(error):
        error = error.__cause__
    return error is not None


def _has_no_memory(error: BaseException) -> bool:
    # torch has a class of its own for devices, by its name here, for it takes long to import, and none for the CPU.
    named = type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError)
    return named or (isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error))


def _say_stopped(interrupts: Sequence[int]) -> int:
    sys.stderr.write("d2plan: stopped.\n")
    # As a shell counts a program that a signal ends. A training that ends its step first has heard the signal itself.
    return 128 + interrupts[-1] if interrupts else INTERRUPTED


def _say_wrong(error: D2PlanError) -> int:
    try:
        from d2plan.cli.tell import tell
    except ModuleNotFoundError:
        # Then typer is what is missing.
        sys.stderr.write(f"d2plan: {error}\n")
        return WRONG_INPUT
    tell(f"d2plan: {error}", err=True)
    return WRONG_INPUT
