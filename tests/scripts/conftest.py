"""What the scripts change in a process for good, put back."""

import pytest
import torch


@pytest.fixture(autouse=True)
def denormal_numbers_are_back():
    """Training flushes denormal numbers to zero; whoever tests next in this process must have them."""
    yield
    torch.set_flush_denormal(False)
