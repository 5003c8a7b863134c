"""Fixtures that several rooms share; ``tests/conftest.py`` names this file as a plugin."""

import copy
from pathlib import Path

import pytest

from d2plan.backbone.load import Backbone, load_backbone
from tests.tiny import write_tiny


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random small SDXL base in the diffusers layout, 128 px."""
    return write_tiny(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="session")
def _opened(tiny_folder: Path) -> Backbone:
    return load_backbone(tiny_folder)


@pytest.fixture
def tiny(_opened: Backbone) -> Backbone:
    """That base, a copy for each test, so that no test sees what another did to it."""
    return copy.deepcopy(_opened)
