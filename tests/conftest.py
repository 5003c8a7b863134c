"""What every test starts with: one torch thread, no network for model hubs, and the way to outside data."""

import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# Before anything imports torch: workers share two cores, and a stray hub name must fail at once.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"

pytest_plugins = ["tests.fixtures"]

# A busy machine makes single examples slow, which says nothing about them.
settings.register_profile("d2plan", deadline=None, max_examples=50)
settings.load_profile("d2plan")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def one_torch_thread():
    """Set torch to one thread wherever it is loaded, without loading it for tests that need none."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def ctrl_c_is_heard():
    """Listen to Ctrl-C, here and in child processes: tests that a shell runs in its background inherit a deaf ear."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def root():
    """Give the repository's folder."""
    return ROOT


@pytest.fixture(scope="session")
def outside_data():
    """Give the folder of optional outside data, D2PLAN_TEST_DATA, or skip with a reason."""
    folder = Path(os.environ.get("D2PLAN_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"outside data: {folder} is not there; set D2PLAN_TEST_DATA")
    return folder
