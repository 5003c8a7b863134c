import os
import resource
import subprocess
import sys

import pytest

from d2plan.cli.root import COMMANDS

SECONDS = 0.5
HEAVY = ("torch", "diffusers", "transformers", "peft", "numpy", "PIL", "matplotlib")
IMPORT = "import d2plan; assert d2plan.__version__"
HELP = "import sys; sys.argv = ['d2plan', '--help']; import runpy\ntry: runpy.run_module('d2plan', run_name='__main__')"
HELP += "\nexcept SystemExit as leaving: assert not leaving.code"
TELL = f"\nimport sys; print('LOADED', *[name for name in {HEAVY!r} if name in sys.modules])"


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout


def cpu_seconds(code):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run(code)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize("code", [IMPORT, HELP], ids=["import", "help"])
def test_it_loads_no_heavy_package(code):
    assert run(code + TELL).splitlines()[-1] == "LOADED"


@pytest.mark.parametrize("code", [IMPORT, HELP], ids=["import", "help"])
def test_it_takes_half_a_second_of_a_core_at_most(code):
    # Time on the processor, the best of three: what a busy machine takes from the wall clock does not count.
    assert min(cpu_seconds(code) for _ in range(3)) <= SECONDS


def test_the_module_lists_every_command():
    out = subprocess.run(
        [sys.executable, "-m", "d2plan", "--help"], capture_output=True, text=True, check=True, env=os.environ
    ).stdout
    for name in COMMANDS:
        assert f"\n  {name} " in out


def test_an_unknown_name_of_the_package_is_an_attribute_error():
    code = "import d2plan\ntry: d2plan.nothing\nexcept AttributeError as error: print(error)"
    assert "no attribute 'nothing'" in run(code)
    assert "train_concept" in run("import d2plan; print(dir(d2plan))")


def test_the_module_takes_nothing_from_the_current_folder(tmp_path):
    (tmp_path / "typer.py").write_text("raise SystemExit('taken')")
    command = [sys.executable, "-m", "d2plan", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0 and "Usage" in done.stdout
