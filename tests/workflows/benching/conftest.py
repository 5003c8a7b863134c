"""A tiny base, a suite of it and one of photographs, and two toy methods, for tests of whole benchmarks."""

import numpy as np
import pytest
import yaml
from PIL import Image

from d2plan.bench.registry import METHODS
from tests.bench.toys import SUITE
from tests.eval.tiny_encoders import write_tiny_dino
from tests.tiny import write_tiny


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    write_tiny(folder / "base")
    write_tiny_dino(folder / "dino")
    (folder / "suite.yaml").write_text(yaml.safe_dump(SUITE), encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def toy_in_the_registry(monkeypatch):
    monkeypatch.setitem(METHODS, "toy", "tests.bench.toys:TOY")
    monkeypatch.setitem(METHODS, "other", "tests.bench.toys:OTHER")


@pytest.fixture
def photographs(tmp_path):
    """A suite of two concepts from folders of pictures."""
    rng = np.random.default_rng(0)
    concepts = [{key: value for key, value in one.items() if key != "seed"} for one in SUITE["concepts"]]
    for one in concepts:
        one["folder"] = one["name"]
        (tmp_path / one["name"]).mkdir()
        for number in range(2):
            picture = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
            picture.save(tmp_path / one["name"] / f"{number}.png")
    (tmp_path / "photographs.yaml").write_text(yaml.safe_dump({**SUITE, "concepts": concepts}), encoding="utf-8")
    return tmp_path / "photographs.yaml"
