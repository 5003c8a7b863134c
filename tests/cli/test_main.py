import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import pytest

from d2plan.cli.main import main
from d2plan.cli.root import COMMANDS
from d2plan.errors import FileError, InputError


@pytest.fixture
def with_command(monkeypatch):
    """Put a function in the place of `d2plan generate`."""

    def place(function):
        module = ModuleType(COMMANDS["generate"][0])
        module.command = function
        monkeypatch.setitem(sys.modules, module.__name__, module)

    return place


def leave(arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    return caught.value.code or 0


def test_arguments_reach_the_command(with_command, capsys):
    def command(prompt: str, seed: int = 0) -> None:
        print(f"{prompt}/{seed}")

    with_command(command)
    assert leave(["generate", "a dog", "--seed", "7"]) == 0
    assert capsys.readouterr().out == "a dog/7\n"


def test_a_wrong_input_is_one_sentence_on_stderr_and_code_2(with_command, capsys):
    def command() -> None:
        raise InputError("x.yaml: steps is [0], but must be 1..1000.")

    with_command(command)
    assert leave(["generate"]) == 2
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "d2plan: x.yaml: steps is [0], but must be 1..1000.\n")


def test_a_stop_by_the_keyboard_is_code_130(with_command, capsys):
    def command() -> None:
        raise KeyboardInterrupt

    with_command(command)
    assert leave(["generate"]) == 130
    assert "stopped" in capsys.readouterr().err


def test_an_error_of_the_program_keeps_its_traceback(with_command):
    def command() -> None:
        raise ZeroDivisionError("a defect")

    with_command(command)
    with pytest.raises(ZeroDivisionError):
        main(["generate"])


@pytest.mark.parametrize("arguments", [["frobnicate"], ["doctor", "--nothing"], ["--nothing"]])
def test_an_unknown_command_or_option_is_code_2(arguments, capsys):
    assert leave(arguments) == 2
    assert "No such" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_help_lists_every_command_with_its_whole_line(arguments, capsys):
    assert leave(arguments) == 0
    out = capsys.readouterr().out
    for name, (_, line) in COMMANDS.items():
        assert name in out
        assert line in out


def test_the_version_is_the_packages(capsys):
    assert leave(["--version"]) == 0
    assert capsys.readouterr().out == "d2plan 0.1.0\n"


@pytest.mark.parametrize("error", [RuntimeError("recursion"), InputError("the base is damaged.")])
def test_a_stop_that_a_library_turns_into_an_error_is_still_a_stop(with_command, capsys, error):
    def command() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise error from None

    with_command(command)
    before = signal.getsignal(signal.SIGINT)
    assert leave(["generate"]) == 130
    assert capsys.readouterr().err == "d2plan: stopped.\n"
    assert signal.getsignal(signal.SIGINT) is before


def test_a_name_with_a_line_break_or_colours_stays_one_plain_line(with_command, capsys):
    def command() -> None:
        raise InputError("a\nb\x1b[31m\udcff été: is wrong.")

    with_command(command)
    assert leave(["generate"]) == 2
    assert capsys.readouterr().err == "d2plan: a\\nb\\x1b[31m\\udcff été: is wrong.\n"


def test_every_command_takes_out_base_and_seed(capsys):
    below = {
        "world": ("scenes", "concept", "clip"),
        "adapter": ("inspect", "verify", "convert"),
        "inspect": ("attention",),
        "bench": ("spatial", "ablation", "report"),
    }
    groups = [f"{group} {name}" for group, names in below.items() for name in names]
    for name in (*(name for name in COMMANDS if name not in below), *groups):
        leave([*name.split(), "--help"])
        shown = capsys.readouterr().out
        assert all(option in shown for option in ("-o, --out", "--base", "--seed")), name


@pytest.mark.parametrize("package", ["typer", "d2plan.cli.root", "d2plan.cli.doctor"])
def test_a_stop_while_anything_is_imported_is_no_traceback(package):
    # A stop at the very moment when a package is looked for.
    code = f"""
import os, signal, sys
class Stop:
    def find_spec(self, name, path=None, target=None):
        if name == {package!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Stop())
signal.signal(signal.SIGINT, signal.default_int_handler)
from d2plan.cli.main import main
main(["doctor"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (130, "d2plan: stopped.\n")


def test_the_door_imports_nothing_that_takes_time():
    code = "import sys; before = set(sys.modules); import d2plan.cli.main; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert {name.partition(".")[0] for name in done.stdout.split()} <= {"d2plan"} | set(sys.stdlib_module_names)


def test_sigterm_cleans_up_as_ctrl_c_does(tmp_path):
    # A run folder is made beside its final place first, and shall not stay there.
    code = f"""
import os, signal, sys
from types import ModuleType
from d2plan.cli.main import main
from d2plan.cli.root import COMMANDS
from d2plan.workflows.runs.folder import open_run
def command() -> None:
    with open_run({str(tmp_path / "run")!r}):
        assert len(os.listdir({str(tmp_path)!r})) == 1
        os.kill(os.getpid(), signal.SIGTERM)
module = ModuleType(COMMANDS["generate"][0])
module.command = command
sys.modules[module.__name__] = module
main(["generate"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (143, "d2plan: stopped.\n")
    assert list(tmp_path.iterdir()) == []


def run_without(modules, *arguments):
    """Run the command line as if modules were not installed."""
    code = f"import sys; sys.modules.update(dict.fromkeys({modules!r})); "
    code += f"from d2plan.cli.main import main; main({list(arguments)!r})"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("module", ["torch", "diffusers", "typer", "yaml"])
def test_a_missing_package_is_one_sentence_and_code_2(module, tmp_path):
    done = run_without([module], "generate", "a dog", "--out", str(tmp_path / "a.png"))
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"d2plan: The Python module {module} is not installed; run `d2plan")
    assert "Traceback" not in done.stderr


def test_a_missing_module_that_a_library_wraps_is_found(with_command, capsys):
    def command() -> None:
        try:
            raise ModuleNotFoundError("No module named 'ftfy'", name="ftfy")
        except ModuleNotFoundError as error:
            raise RuntimeError("Failed to import") from error

    with_command(command)
    assert leave(["generate"]) == 2
    assert "module ftfy is not installed" in capsys.readouterr().err


def test_a_base_that_a_missing_module_cannot_open_is_not_damaged(with_command, capsys):
    def command() -> None:
        try:
            raise ModuleNotFoundError("No module named 'ftfy'", name="ftfy")
        except ModuleNotFoundError as error:
            raise FileError("base: cannot be opened as a base; copy the base anew.") from error

    with_command(command)
    assert leave(["generate"]) == 2
    assert "module ftfy is not installed" in capsys.readouterr().err


def test_a_missing_module_of_our_own_is_a_defect(with_command):
    def command() -> None:
        raise ModuleNotFoundError("No module named 'd2plan.gone'", name="d2plan.gone")

    with_command(command)
    with pytest.raises(ModuleNotFoundError):
        main(["generate"])


@pytest.mark.parametrize("name", ["compose", "reproduce"])
def test_overwrite_is_told_as_it_is(name, capsys):
    assert leave([name, "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "--overwrite Replace the run that the folder holds." in shown


@pytest.fixture
def locked():
    """Give a folder that nobody but the superuser may look into, in one that everybody may enter."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        folder = Path(name) / "locked"
        folder.mkdir(mode=0)
        yield folder
        folder.chmod(0o700)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["train", "{}", "--out", "a.safetensors", "--class", "dog"],
            "cannot be read (Permission denied); give a folder",
        ),
        (["concepts", "{}"], "cannot be read (Permission denied); give one that you may read."),
        (["adapter", "inspect", "{}/rex.safetensors"], "cannot be read: Permission denied; check the path."),
        (["score", "{}"], "Permission denied; name another, or change who may use it."),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_may_not_be_read_is_told_with_a_remedy(arguments, said, locked):
    given = [argument.format(locked) for argument in arguments]
    # Everything is imported first: the other user may not be able to read the packages either.
    code = f"""
import os
from d2plan.cli.root import load_command
from d2plan.cli.main import main
import d2plan.workflows.scoring.folders, d2plan.workflows.scoring.report
import d2plan.workflows.shelf.adapters, d2plan.workflows.shelf.concepts, d2plan.workflows.training.several
load_command({given[0]!r})
if os.geteuid() == 0:
    os.setresuid(65534, 65534, 65534)
main({given!r})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    told = done.stderr.splitlines()
    assert (done.returncode, len(told)) == (2, 1)
    assert told[0].startswith(f"d2plan: {locked}") and said in told[0]
