"""A small concept folder, for every test of a training."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "rex"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(3):
        blocks = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(blocks.repeat(16, 0).repeat(16, 1)).save(folder / f"{number:02}.png")
    (folder / "00.txt").write_text("a photo of a dog running on the beach")
    (folder / "concept.yaml").write_text('class_word: dog\nidentifier: "<v2>"\n')
    return folder
