"""Small concept folders for the tests of what training learns from."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_picture(path: Path, seed: int = 0, size: tuple[int, int] = (32, 32), mode: str = "RGB") -> np.ndarray:
    """Write random blocks that no other seed gives, height and width ``size``; return the pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(path)
    return noise


def write_half_mask(path: Path, size: tuple[int, int] = (32, 32)) -> None:
    """Write a mask whose left half is white."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros(size, dtype=np.uint8)
    mask[:, : size[1] // 2] = 255
    Image.fromarray(mask).save(path)
